//! The gateway on memory: bursts in, datagrams out, against a model.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod equation;
mod flush;
mod large;
mod link;
mod push;
mod refuse;
mod reroute;
mod support;
mod trace;
