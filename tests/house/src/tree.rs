//! The files of the project.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directories without sources: builds, tools and fuzzers make them. In a second work tree `.git` is a file.
const MADE: [&str; 5] = ["target", ".git", "corpus", "artifacts", "out"];

/// A file's path from the root, and its text.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// From the root, with `/`.
    pub path: String,
    /// Its contents.
    pub text: String,
}

/// All text files under `root`, by path. Generated files, and files that are not UTF-8, are left out.
///
/// # Errors
/// The error is the kernel's, when it does not list a directory or does not give the type of an entry. A file that
/// cannot be read is left out.
pub fn texts(root: &Path) -> io::Result<Vec<TextFile>> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let kind = entry.file_type()?;
            if MADE.iter().any(|made| entry.file_name() == *made) {
                continue;
            }
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                found.push(TextFile { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Names in the root itself, without those that begin with a dot and what is made.
///
/// # Errors
/// The error is the kernel's, which does not list the directory.
pub fn top_level(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !MADE.contains(&&*name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
