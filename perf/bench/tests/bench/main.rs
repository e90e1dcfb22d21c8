//! The benchmarks as programs: the output and the exit codes of `gvm-bench` and `perf/compare.sh`.

mod command;
mod compare;
