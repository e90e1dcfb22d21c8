//! The farm against gateways that a test plays.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod borrower;
mod failover;
mod farm;
mod lending;
