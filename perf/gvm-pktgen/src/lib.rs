//! A packet generator that registers like any node and checks every record.
//!
//! It is a master: it registers with each gateway, learns from them which slaves there are, and sends ECHO or PATTERN
//! records to them, packed by shard as a master packs them. Every record that comes up is checked for content and
//! sequence, and each ECHO_REPLY for its round trip. Without gateways it talks to one farm directly, for comparison.
//!
//! | module | what |
//! |---|---|
//! | [`generator`] | the role |
//! | [`uplink`] | one gateway, and the slaves behind it |
//! | [`known`] | which slave is known behind which gateway |
//! | [`distribution`], [`size`] | to whom, and how large |
//! | [`pack`] | records into datagrams |
//! | [`check`] | what came up, per slave and stream |
//! | [`histogram`] | latencies |
//! | [`counters`] | what is counted |
//! | [`random`] | repeatable random numbers |
//! | [`cli`], [`run`], [`report`] | the command line, the lcore that it starts, the result |
#![forbid(unsafe_code)]

pub mod check;
pub mod cli;
pub mod counters;
pub mod distribution;
pub mod generator;
pub mod histogram;
pub mod known;
pub mod pack;
pub mod random;
pub mod report;
pub mod run;
pub mod size;
pub mod uplink;
