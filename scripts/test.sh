#!/usr/bin/env bash
# Checks and tests everything: format, lints, documentation, tests, instruction counts, benchmarks. Does its own set-up.
#
#   scripts/test.sh            everything
#   scripts/test.sh --quick    format and tests only, with the build that is there
#
# Needs no terminal. Tests of network namespaces and XDP need root; without it they say SKIPPED, or fail when the
# environment has GVM_TESTS=require. Fails when anything fails; the test runner's own summary is printed last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

usage() { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

quick=no
for argument in "$@"; do
    case $argument in
        --quick) quick=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; printf 'test: unknown option %s\n' "$argument" >&2; exit 2 ;;
    esac
done

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export CARGO_TERM_COLOR=never

# The profile of tests: optimised a little, and with debug assertions, which `fast` and `release` leave out.
profile=dev

summary=$(mktemp)
counted=$(mktemp)
counter=
trap '[ -z "$counter" ] || kill "$counter" 2>/dev/null; rm -f "$summary" "$counted"' EXIT
failed=()
started=$SECONDS

# Runs one step and goes on when it fails, so that one run shows all that is wrong.
step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        printf '== %s: ok, %d s\n' "$name" $((SECONDS - began))
    else
        printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - began))
        failed+=("$name")
    fi
}

format() { cargo fmt --all --check; }

lints() { cargo clippy --locked --workspace --all-targets --profile "$profile" -- -D warnings; }

documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --profile "$profile"; }

# The runner's closing lines are kept, to be shown once more at the very end.
tests() {
    local log status=0 target=${CARGO_TARGET_DIR:-target}
    log=$(mktemp)
    # The workspace's tests build gvm-dp and gvm-pktgen anyway: those in namespaces take them from there.
    mkdir -p "$target"
    GVM_BIN_DIR=$(cd "$target" && pwd)/debug
    export GVM_BIN_DIR
    # Nobody links the plugin for DPDK ports and the library for C, so that nobody else builds them.
    cargo build --locked --profile "$profile" -p gvm-dpdk-plugin -p gvm-pages-c 2>&1 | tee "$log" || status=1
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --workspace --cargo-profile "$profile" --no-fail-fast --status-level slow \
            --final-status-level fail 2>&1 | tee "$log" || status=1
        sed -n '/^ *Summary \[/,$p' "$log" >"$summary"
    else
        cargo test --locked --workspace --profile "$profile" --no-fail-fast --lib --bins --tests 2>&1 | tee "$log" \
            || status=1
        grep '^test result' "$log" >"$summary" || true
    fi
    # Without a summary nothing ran: the end of the compiler's words says why.
    [ -s "$summary" ] || tail -n 5 "$log" >"$summary"
    rm -f "$log"
    return "$status"
}

doc_tests() { cargo test --quiet --locked --workspace --profile "$profile" --doc; }

shell() {
    local script
    for script in scripts/*.sh perf/*.sh .ci/run; do
        bash -n "$script" || return 1
    done
    # A linter if the machine has one; the scripts are few.
    if command -v shellcheck >/dev/null 2>&1; then
        shellcheck scripts/*.sh perf/*.sh .ci/run
    fi
}

# Instructions per record against perf/baseline.json: the one figure about speed that does not depend on the machine, nor
# on what else runs. So they are counted beside the tests, which wait much of their time, with the lowest priority.
start_counting() {
    nice -n 19 bash -c 'perf/run.sh aggregate --guard && perf/run.sh qp --guard' >"$counted" 2>&1 &
    counter=$!
}

instructions() {
    local status=0
    wait "$counter" || status=$?
    counter=
    cat "$counted"
    return "$status"
}

# Every benchmark for a few seconds: what went through is checked, and no figure is looked at.
benchmarks() { perf/run.sh all --quick; }

if [ "$quick" = no ]; then
    scripts/setup.sh || exit 1
fi
step 'format' format
if [ "$quick" = no ]; then
    step 'shell scripts' shell
    step 'lints' lints
    step 'documentation' documentation
fi
if [ "$quick" = no ] && [ -e perf/baseline.json ]; then
    start_counting
fi
step 'tests' tests
if [ "$quick" = no ]; then
    step 'documentation tests' doc_tests
    if [ -n "$counter" ]; then
        step 'instructions per record' instructions
    else
        printf '\n== instructions per record: not guarded, there is no perf/baseline.json\n'
    fi
    step 'benchmarks, quickly' benchmarks
fi

printf '\n== %d s\n' $((SECONDS - started))
if [ ${#failed[@]} -gt 0 ]; then
    printf '== FAILED: %s\n' "$(IFS=,; printf '%s' "${failed[*]}" | sed 's/,/, /g')"
fi
cat "$summary"
[ ${#failed[@]} -eq 0 ]
