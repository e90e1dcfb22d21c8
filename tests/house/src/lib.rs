//! Checks that the project follows its documents: who may use whom, where `unsafe` may be, which counters are
//! explained.
//!
//! The documents are the source. `docs/architecture.md` has a table of who may use whom; this crate reads it, compares
//! it with `cargo metadata`, and fails with the sentence of the table that was broken.
//!
//! | module | what |
//! |---|---|
//! | [`rule`] | the table of `docs/architecture.md` |
//! | [`graph`] | who uses whom, from `cargo metadata` |
//! | [`check`] | the graph against the table |
//! | [`module`] | circles among the files of a crate |
//! | [`name`] | names that several public types have |
//! | [`tree`] | the files of the project |
//! | [`source`] | rules about source files: `unsafe`, length, top level, foreign paths |
//! | [`counter`] | the counters that the sources define, and where documents explain them |
//! | [`message`] | the error messages that the sources define, and where documents explain them |
#![forbid(unsafe_code)]

pub mod check;
pub mod counter;
pub mod graph;
pub mod message;
pub mod module;
pub mod name;
pub mod rule;
pub mod source;
pub mod tree;

use std::path::PathBuf;

/// The directory of the workspace.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
