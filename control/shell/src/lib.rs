//! Common code for the command line of every program: completions, manual pages, and reading numbers. Completions and
//! manual pages are made from the definition that parses the command line, so that neither can name a flag that does
//! not exist.
//!
//! A completion script asks the program itself, through the environment variable [`VARIABLE`]. So it can offer what
//! only the program knows: the names of running processes, interfaces, settings.
#![forbid(unsafe_code)]

mod bash;
pub mod complete;
pub mod manual;
pub mod number;
pub mod release;

pub use clap_complete::Shell;
pub use complete::{VARIABLE, answer, script};
pub use number::number;
