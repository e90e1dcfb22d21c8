#!/bin/sh
# Runs one fuzz target without cargo-fuzz installed: ./run.sh walk -max_total_time=20 Needs the nightly toolchain:
# rustup toolchain install nightly --profile minimal Starts from the packets of docs/wire-format.md. New inputs are kept
# in corpus/, and failing ones in artifacts/.
set -eu
cd "$(dirname "$0")"
[ $# -ge 1 ] || { echo "usage: ./run.sh walk|link|lease|part|rc|net [libFuzzer options]" >&2; exit 2; }
target=$1
shift
mkdir -p "corpus/$target" "artifacts/$target"
awk -v to="corpus/$target/doc-" '
    /^```hex /  { name = to $2; printf "" > name; next }
    /^```/      { if (name) close(name); name = ""; next }
    name        { for (i = 1; i <= NF; i++) printf "\\x%s", $i > name }
' ../../../docs/wire-format.md
for seed in "corpus/$target"/doc-*; do
    # shellcheck disable=SC2059  # The file is the format: nothing but \xHH.
    bytes=$(mktemp) && env printf "$(cat "$seed")" >"$bytes" && mv "$bytes" "$seed"
done
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing" \
    exec cargo +nightly run --release --target x86_64-unknown-linux-gnu --bin "$target" -- \
    -artifact_prefix="artifacts/$target/" "$@" "corpus/$target"
