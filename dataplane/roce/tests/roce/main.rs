//! The RoCEv2 role against a peer that a test plays.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod role;
mod senders;
mod support;
