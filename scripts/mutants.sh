#!/usr/bin/env bash
# Mutation testing: changes one thing of a crate after another, and runs the crate's own tests each time. A change that no
# test notices is missed: code that nothing holds, or code that makes no difference.
#
#   scripts/mutants.sh CRATE [OPTIONS]     CRATE is wire, frame, link, transport, gateway, ...
#
#   --shard K/N     only every N-th change, from the K-th on (K from 0): a whole crate takes hours
#   --file PATH     only the changes of this file, like dataplane/gateway/src/cargo/pass.rs; may be given several times
#   --re REGEX      only the changes whose name matches
#   --list          says which changes there are, and tries none
#   --goal PERCENT  fails when fewer of the viable changes are caught [default: 92]
#
# Works on a copy of the tree in the temporary folder, one change at a time. Installs cargo-mutants (pinned below) into
# target/tools when it is not there. The results are in target/mutants/CRATE/mutants.out; what is missed and why that is
# right stands in .cargo/mutants.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

version=27.1.0

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { printf 'mutants: %s\n' "$*" >&2; exit 2; }

crate='' goal=92 list=no options=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --shard) options+=(--sharding round-robin --shard "${2:?--shard K/N}"); shift ;;
        --file | --re) options+=("$1" "${2:?"$1 needs a value"}"); shift ;;
        --goal) goal=${2:?--goal needs a number}; shift ;;
        --list) list=yes ;;
        -*) usage >&2; die "unknown option $1" ;;
        *) [ -z "$crate" ] || die "one crate at a time: $crate or $1"; crate=$1 ;;
    esac
    shift
done
[ -n "$crate" ] || { usage >&2; exit 2; }
case $goal in *[!0-9]* | '') die "--goal takes a whole number" ;; esac
package=gvm-${crate#gvm-}
cargo pkgid --locked -p "$package" >/dev/null || die "there is no crate $crate in this workspace"

target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
tools=$target/tools out=$target/mutants/${crate#gvm-}
if [ "$("$tools/bin/cargo-mutants" mutants --version 2>/dev/null)" != "cargo-mutants $version" ]; then
    printf 'mutants: installing cargo-mutants %s into %s\n' "$version" "$tools"
    # Its own build folder: the workspace's flags are not for it.
    cargo install --quiet --locked --root "$tools" --target-dir "$target/tools/build" "cargo-mutants@$version"
fi
mutants=("$tools/bin/cargo-mutants" mutants --package "$package" "${options[@]}")
if [ "$list" = yes ]; then
    exec "${mutants[@]}" --list
fi

# Only the crate's own tests, without those of the documentation, which take a compiler run each.
tests=(--lib --bins --tests)
tool=cargo
if cargo nextest --version >/dev/null 2>&1; then
    tool=nextest
fi
mkdir -p "$out"
# All copies share what they are built from; so there is one at a time. Without debug information they link faster.
# What fails need not be shrunk to its smallest case.
export CARGO_TARGET_DIR=$target/mutants/build CARGO_PROFILE_DEV_DEBUG=none PROPTEST_MAX_SHRINK_ITERS=0
status=0
"${mutants[@]}" --jobs 1 --no-shuffle --test-tool "$tool" --minimum-test-timeout 60 --output "$out" --colors never \
    --no-times -- "${tests[@]}" || status=$?
# 2: some were missed, 3: some did not end. Everything else is a failure of the tool or of the tests as they are.
case $status in 0 | 2 | 3) ;; *) die "cargo-mutants failed with $status: see $out/mutants.out/log" ;; esac

count() { [ -e "$out/mutants.out/$1.txt" ] && grep -c . "$out/mutants.out/$1.txt" || true; }
missed=$(count missed) caught=$(count caught) ended=$(count timeout) unviable=$(count unviable)
viable=$((missed + caught + ended))
[ "$viable" -gt 0 ] || die "there was nothing to change"
printf '%s: %s of %s viable changes caught (%s by a timeout), %s missed, %s did not compile\n' \
    "$package" $((caught + ended)) "$viable" "$ended" "$missed" "$unviable"
if [ $((100 * (caught + ended))) -lt $((goal * viable)) ]; then
    printf 'mutants: fewer than %s %%\n' "$goal" >&2
    exit 1
fi
