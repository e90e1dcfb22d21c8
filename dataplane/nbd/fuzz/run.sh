#!/bin/sh
# Runs one fuzz target without cargo-fuzz installed: ./run.sh negotiation -max_total_time=20 Needs the nightly toolchain:
# rustup toolchain install nightly --profile minimal. New inputs are kept in corpus/, and failing ones in artifacts/.
set -eu
cd "$(dirname "$0")"
[ $# -ge 1 ] || { echo "usage: ./run.sh negotiation|request [libFuzzer options]" >&2; exit 2; }
target=$1
shift
mkdir -p "corpus/$target" "artifacts/$target"
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing" \
    exec cargo +nightly run --release --target x86_64-unknown-linux-gnu --bin "$target" -- \
    -artifact_prefix="artifacts/$target/" "$@" "corpus/$target"
