//! The types of the control API: what a running process answers over its control socket, and what clients can ask. The
//! server writes them and the client reads them. `openapi.json` beside this crate describes the same for other
//! programs.
//!
//! | module | what |
//! |---|---|
//! | [`error`] | why a request failed |
//! | [`stats`] | counters, lcores, ports |
//! | [`routes`] | who is registered, and where |
//! | [`neighbours`] | who a port without a kernel knows on its network |
//! | [`changes`] | what the machine changed under a process |
//! | [`settings`] | settings, and how they change |
//! | [`capture`] | what a capture is asked for |
//! | [`trace`] | what became of the records of a slave |
#![forbid(unsafe_code)]

pub mod capture;
pub mod changes;
pub mod error;
pub mod neighbours;
pub mod routes;
pub mod settings;
pub mod stats;
pub mod trace;

/// The OpenAPI document of the control API, as JSON.
pub const OPENAPI: &str = include_str!("../openapi.json");
