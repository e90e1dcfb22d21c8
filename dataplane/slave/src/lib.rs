//! The slave role: lends memory and answers ECHO, alone or as a farm of ids.
//!
//! Sans-I/O: bytes and `now` come in, bytes and deadlines go out. A [`Farm`] is polled as a [`frame::Role`]; a slave
//! is a farm of one.
//!
//! | module | what |
//! |---|---|
//! | [`farm`] | N slave ids in one process, behind one or more gateways |
//! | [`lending`] | the memory that slaves lend: leases, queue pairs, units |
//! | [`ids`] | which slave ids a farm has, and their dense numbers |
//! | [`sequence`] | what came in order, what is missing, late or twice |
//! | [`pace`] | a rate per second, without a timer for each event |
//! | [`traffic`] | its own PATTERN records |
//! | [`report`] | its reports to people |
//! | [`counters`] | its counters |
#![forbid(unsafe_code)]

pub mod counters;
mod echo;
pub mod farm;
mod group;
pub mod ids;
mod inside;
pub mod lending;
pub mod pace;
pub mod report;
mod roster;
pub mod sequence;
mod site;
pub mod traffic;
mod window;

pub use counters::FarmCounters;
pub use farm::{Farm, FarmCommand, FarmConfig, FarmError, MAX_GATEWAYS, Slave};
pub use ids::{Ids, IdsError};
pub use lending::{LeaseView, LendingConfig, LendingError, LendingView, ScrubSink};
pub use report::FarmEvent;
pub use traffic::{TrafficConfig, TrafficError};
