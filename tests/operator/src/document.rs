//! The blocks of the documents, each with its language and its class.

use netns::shell::project;

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The document, from the project's root, and the line that the block begins at.
    pub place: String,
    /// The first word behind the fence.
    pub language: String,
    /// The word behind that: it says how the block is tested.
    pub class: String,
    /// The text between the fences.
    pub text: String,
}

/// Documents for people, from the project's root.
///
/// # Panics
/// When they cannot be read.
pub fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<String> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "nic-profiles/README.md"].map(String::from).into();
    let docs = std::fs::read_dir(project().join("docs")).expect("docs/ is there").flatten();
    paths.extend(
        docs.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy())).filter(|path| path.ends_with(".md")),
    );
    paths.sort();
    let read = |path: String| {
        let text = std::fs::read_to_string(project().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The blocks of a document.
///
/// # Panics
/// When a fence is not closed.
pub fn blocks(path: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        // A block in a list is indented with it.
        match (line.trim_start().strip_prefix("```"), &mut inside) {
            (Some(info), None) => {
                let (language, class) = info.split_once(' ').unwrap_or((info, ""));
                let place = format!("{path}:{}", number + 1);
                let (language, class) = (language.to_owned(), class.to_owned());
                inside = Some(Block { place, language, class, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(inside.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(inside.is_none(), "{path}: a block has no end");
    blocks
}

/// All blocks of all documents.
pub fn all_blocks() -> Vec<Block> {
    documents().iter().flat_map(|(path, text)| blocks(path, text)).collect()
}

/// Lines that are blocks only by their indentation, which have no class: path and number of each.
pub fn indented(path: &str, text: &str) -> Vec<String> {
    let (mut found, mut fenced, mut before) = (Vec::new(), false, "");
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with("    ") && before.trim().is_empty() {
            found.push(format!("{path}:{}", number + 1));
        }
        before = line;
    }
    found
}

/// The texts between backticks, outside of blocks, each with its line number.
pub fn spans(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (number + 1, span.to_owned())));
        }
    }
    found
}
