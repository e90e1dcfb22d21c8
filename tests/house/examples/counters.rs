//! Writes the counter tables of `docs/operating.md` anew, from the sources.
#![forbid(unsafe_code)]

use house::{counter, root, tree};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let path = root().join("docs/operating.md");
    let document = fs::read_to_string(&path)?;
    let old = counter::section(&document).ok_or("docs/operating.md has lost the marks around its counter tables")?;
    let new = counter::tables(&counter::sets(&tree::texts(&root())?));
    fs::write(&path, document.replace(old, &new))?;
    Ok(())
}
