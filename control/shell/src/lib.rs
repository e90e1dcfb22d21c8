//! What every program's command line has in common: completions, manual pages, and how numbers are read. The first two are
//! made from the definition that parses the command line, so that neither can name a flag that does not exist.
//!
//! A completion script asks the program itself, through the environment variable [`VARIABLE`]. So it can offer what only the
//! program knows: the names of running processes, interfaces, settings.
#![forbid(unsafe_code)]

mod bash;
pub mod complete;
pub mod manual;
pub mod number;
pub mod release;

pub use clap_complete::Shell;
pub use complete::{VARIABLE, answer, script};
pub use number::number;
