//! The generator against gateways and farms.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod cluster;
mod gateway;
mod loopback;
mod output;
