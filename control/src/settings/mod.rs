//! The settings of a process: what there is, where each comes from, which one wins.
//!
//! The flags of [`crate::cli`] are the only definition. A key of the configuration file is a flag's long name, its value
//! becomes the text that the flag would be given, and clap reads both. So what holds for one holds for the other.
//!
//! | module | what |
//! |---|---|
//! | [`catalog`] | which settings a role has |
//! | [`given`] | a value of the file, or of a request, as the text of a flag |
//! | [`mod@file`] | the file, with the place of each value |
//! | [`sources`] | command line, file and defaults together |
//! | [`running`] | the settings of a running process, and how they change |
//! | [`check`] | what is wrong in a file, without opening a device |
//! | [`example`] | a file with every setting |
//! | [`log`] | the log filter, and what it does |

pub mod catalog;
pub mod check;
pub mod example;
pub mod file;
pub mod given;
pub mod log;
pub mod running;
pub mod sources;
#[cfg(test)]
mod tests;
mod text;

pub use catalog::RoleName;
pub use running::Running;
pub use sources::{Origin, Settings, Sources, Value};
