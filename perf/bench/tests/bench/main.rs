//! The benchmarks as programs: what `gvm-bench` and `perf/compare.sh` say, and how they end.

mod command;
mod compare;
