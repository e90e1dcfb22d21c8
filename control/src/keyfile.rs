//! Key files: one key as 64 hex digits, private to their owner.

use crate::exit::Failure;
use link::KeyError;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

/// Bytes of a key file that are read at most: a key, and room for a comment-less line end.
const LONGEST: u64 = 4096;

/// Reads a key; refuses a file that every user may read or write.
pub fn read<K: FromStr<Err = KeyError>>(path: &Path) -> Result<K, Failure> {
    let failed = |source| Failure::KeyFile { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, so that nobody swaps it between the look and the read.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o007 != 0 {
        return Err(Failure::KeyExposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    text.parse().map_err(|source| Failure::KeyText { path: path.to_owned(), source })
}

/// Writes a key into a new file that only its owner may read; refuses to overwrite.
pub fn write(path: &Path, key: &impl Display) -> Result<(), Failure> {
    let failed = |source| Failure::KeyFile { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{key}").map_err(failed)
}
