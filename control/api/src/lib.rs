//! The types of the control API: what a running process answers over its control socket, and what clients can ask. The
//! server writes them and the client reads them. `openapi.json` beside this crate describes the same for other
//! programs.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | why a request failed |
//! | [`stats`] | counters, lcores, ports |
//! | [`routes`] | who is registered, and where |
//! | [`neighbours`] | the neighbours of a port without a kernel |
//! | [`applications`], [`lending`], [`disk`] | what a master serves, what a slave lends, what a disk has |
//! | [`changes`] | changes of the machine that a process does not follow |
//! | [`settings`] | settings, and how they change |
//! | [`capture`] | the request of a capture |
//! | [`trace`] | what happened to the records of a slave |
#![forbid(unsafe_code)]

pub mod applications;
pub mod capture;
pub mod changes;
pub mod disk;
pub mod error;
pub mod lending;
pub mod neighbours;
pub mod routes;
pub mod settings;
pub mod stats;
pub mod trace;

/// The OpenAPI document of the control API, as JSON.
pub const OPENAPI: &str = include_str!("../openapi.json");
