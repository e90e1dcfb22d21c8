//! Benchmarks that measure a baseline in the same run and print the ratio: see `perf/run.sh`.
//!
//! | module | what |
//! |---|---|
//! | [`account`] | what was measured must have happened: what memory benchmarks ask afterwards |
//! | [`conditions`] | the machine, and how quiet it was |
//! | [`ratios`] | the middle and the range of the rounds |
//! | [`report`] | the closing lines, and JSON |
//! | [`unavailable`] | a benchmark that cannot run here |
//! | [`input`], [`floor`], [`caches`], [`stopwatch`], [`svg`] | packets, the copy that nothing beats, cold caches, CPU time, charts |
//! | [`remote`] | both ends of READs of 4 KiB, on veth, and pages over TCP |
//! | all others | one benchmark each |
#![forbid(unsafe_code)]

pub mod account;
pub mod aggregate;
pub mod bulk;
pub mod caches;
pub mod conditions;
pub mod demand;
pub mod disk;
pub mod dpdk;
pub mod failover;
pub mod floor;
pub mod forward;
pub mod idle;
pub mod input;
pub mod jumbo;
pub mod lcores;
pub mod lend;
pub mod neighbours;
pub mod pages;
pub mod qp;
pub mod ratios;
pub mod read4k;
pub mod remote;
pub mod report;
pub mod ring;
pub mod rtt;
pub mod scrape;
pub mod stopwatch;
pub mod svg;
pub mod tap;
pub mod tradeoff;
pub mod udp;
pub mod unavailable;
