//! The settings of a process: which ones exist, where their values come from, which source takes precedence, and what
//! they mean.
//!
//! The flags of [`flags`] are the only definition. A key of the configuration file is a flag's long name, its value
//! becomes the text that the flag would get, and clap reads both. So the same rules hold for both.
//!
//! | module | what |
//! |---|---|
//! | [`flags`] | the flags of the roles |
//! | [`values`] | the values that shells offer for them |
//! | [`catalog`] | the settings of a role |
//! | [`given`] | a value of the file, or of a request, as the text of a flag |
//! | [`mod@file`] | the file, with the place of each value |
//! | [`sources`] | command line, file and defaults together |
//! | [`config`] | the meaning of the settings, checked |
//! | [`master`], [`disk`] | the same for a master, and for a disk |
//! | [`plan`] | how each port is opened |
//! | [`running`] | the settings of a running process, and how they change |
//! | [`live`] | which settings change while a process runs |
//! | [`example`] | a file with every setting |
//! | [`listen`] | where a disk takes its clients, as text |
//! | [`id_range`] | one id, or ids in a row |
//! | [`domain`] | failure domains, and how fast links are |
//! | [`lending`], [`memory`] | what a slave lends, and what its host keeps |
//! | [`keyfile`] | key files, private to their owner |
//! | [`node_keys`] | the same for several nodes |
//! | [`neighbor`] | the gateway of another shard, as text |
//! | [`static_routes`] | routes from a file, for generators that cannot register |
//! | [`traffic`] | the traffic that a farm shall send, as text |
#![forbid(unsafe_code)]

pub mod catalog;
pub mod config;
pub mod disk;
pub mod domain;
pub mod example;
pub mod file;
pub mod flags;
pub mod given;
pub mod id_range;
pub mod keyfile;
pub mod lending;
pub mod listen;
pub mod live;
pub mod master;
pub mod memory;
mod metrics_address;
pub mod neighbor;
pub mod node_keys;
pub mod plan;
pub mod running;
pub mod sources;
pub mod static_routes;
#[cfg(test)]
mod tests;
mod text;
pub mod traffic;
pub mod values;

pub use catalog::RoleName;
pub use id_range::IdRange;
pub use metrics_address::MetricsAddress;
pub use running::RunningSettings;
pub use sources::{Origin, Settings, Sources, Value};
