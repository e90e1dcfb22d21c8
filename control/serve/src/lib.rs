//! The control socket: HTTP and JSON over a Unix socket, for the commands that ask a running process, and for `curl`.
//! Also the metrics server.
//!
//! | module | what |
//! |---|---|
//! | [`board`] | the public view of a running process |
//! | [`router`] | the routes of the control socket; `openapi.json` of the crate `api` describes them |
//! | [`tuning`] | settings, and how they change |
//! | [`metrics`] | Prometheus text and health |
//! | [`socket`] | the control socket itself |
//! | [`callers`] | clients whose request is not complete, and which of them are closed |
//!
//! The control thread alone knows some of the answers; it gets a [`ControlRequest`] for them. Nothing here touches a
//! poll loop.
#![forbid(unsafe_code)]

pub mod board;
pub mod callers;
mod capture;
pub mod changes;
mod connection;
mod counters;
pub mod facts;
pub mod metrics;
mod refusal;
mod request;
pub mod router;
pub mod routes;
mod server;
mod single;
pub mod socket;
mod state;
mod stream;
mod trace;
pub mod tuning;

pub use counters::ControlCounters;
pub use request::ControlRequest;
pub use server::{Serving, start};
