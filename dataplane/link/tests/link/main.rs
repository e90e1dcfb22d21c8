//! Link control from both ends: handshakes, membership, refusals.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod amplification;
mod budget;
mod capacity;
mod change;
mod common;
mod freshness;
mod handshake;
mod membership;
mod refusals;
mod schedule;
mod silence;
mod v1;
