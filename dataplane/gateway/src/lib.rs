//! The gateway role: blind aggregation of records between masters and slaves.
//!
//! Cargo is blind: the gateway reads record headers, never payloads, and changes no byte of a record. It appends
//! records to the open buffer of their destination. This buffer is the frame that will leave; a flush cause sends it.
//! Sans-I/O: bytes and `now` come in, frames go out, nothing else is touched.
//!
//! | module | what |
//! |---|---|
//! | [`cargo`] | the code that runs for each record |
//! | [`control`] | the code that runs off the poll loops: the registrar's desk, the drain, traces |
//! | [`config`] | the settings that a gateway gets at start |
//! | [`counters`] | what came in and what happened to it |
#![forbid(unsafe_code)]

pub mod cargo;
mod command;
pub mod config;
pub mod control;
pub mod counters;

pub use cargo::direction::Direction;
pub use cargo::drop::DropReason;
pub use cargo::gateway::Gateway;
pub use cargo::{aggregate, direction, drop, flush, order, pass, push, route, share};
pub use command::GatewayCommand;
pub use config::GatewayConfig;
pub use control::{desk, leave, trace};
pub use counters::GatewayCounters;
