//! Benchmarks that measure a baseline in the same run and print the ratio: see `perf/run.sh`.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod dpdk;
pub mod floor;
pub mod forward;
pub mod idle;
pub mod input;
pub mod jumbo;
pub mod lcores;
pub mod qp;
pub mod report;
pub mod rtt;
pub mod scrape;
pub mod stopwatch;
pub mod svg;
pub mod tap;
pub mod tradeoff;
