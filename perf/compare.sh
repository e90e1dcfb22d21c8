#!/usr/bin/env bash
# Runs one benchmark of two versions in turn (A B B A A B ...), and prints the ratios of their figures with their
# spread. Two versions cannot be compared by running one after the other: a shared machine changes by more than the
# difference between them.
#
#   perf/compare.sh A B [NAME [OPTIONS]]      A and B are git revisions, or directories of checkouts
#   perf/compare.sh --turns N A B ...         so many turns of each [5]
#   perf/compare.sh --clean                   remove the checkouts of revisions that earlier comparisons left
#
# Without NAME: aggregate --slaves 8192. NAME and OPTIONS are those of perf/run.sh; both versions must know them.
# A revision is checked out and built in perf/out/compare, and stays there for the next comparison. The first build takes
# minutes. Each version has a target directory of its own.
# The last line is: name=compare-NAME value=... unit=... ratio=...  (value = median of B, ratio = median of B / A)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
checkouts=$root/perf/out/compare

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { printf 'compare: %s\n' "$*" >&2; exit 1; }

clean() {
    local tree
    for tree in "$checkouts"/*; do
        [ ! -e "$tree/.git" ] || git -C "$root" worktree remove --force "$tree"
    done
    rm -rf "$checkouts"
    git -C "$root" worktree prune
}

# The directory of a version: a checkout as it is, or a revision in a checkout of its own.
directory() {
    local version=$1 commit tree
    if [ -d "$version" ]; then
        [ -x "$version/perf/run.sh" ] || die "$version has no perf/run.sh: name a checkout, or a git revision"
        (cd "$version" && pwd)
        return
    fi
    commit=$(git -C "$root" rev-parse --verify --quiet "$version^{commit}") \
        || die "$version is neither a directory nor a git revision"
    tree=$checkouts/$commit
    # A checkout that was interrupted has no script: begin again.
    if [ ! -x "$tree/perf/run.sh" ]; then
        rm -rf "$tree"
        git -C "$root" worktree add --quiet --force --detach "$tree" "$commit" >&2 || die "cannot check out $version"
    fi
    [ -x "$tree/perf/run.sh" ] || die "$version has no perf/run.sh: it is older than the benchmarks"
    printf '%s\n' "$tree"
}

# Runs a version's own perf/run.sh. Versions cannot share a target directory: cargo gives a crate the same place there in
# each checkout, and would build both versions again in every turn.
run() {
    local tree=$1
    shift
    env -u CARGO_TARGET_DIR "$tree/perf/run.sh" "$@"
}

# The last line of one run.
measure() {
    local tree=$1 out
    shift
    out=$(run "$tree" "$@") || die "perf/run.sh $* failed in $tree"
    # What cannot run here says so, and a busy machine is no measurement.
    grep -E '^(SKIPPED|NOT A MEASUREMENT)' <<<"$out" >&2 || true
    out=$(tail -n 1 <<<"$out")
    [[ $out == name=*\ value=*\ unit=*\ ratio=* ]] || die "perf/run.sh $* measured nothing in $tree: $out"
    printf '%s\n' "$out"
}

turns=5
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --clean) clean; exit 0 ;;
    --turns)
        turns=${2:-}
        [[ $turns =~ ^[1-9][0-9]*$ ]] || die "--turns needs a number, not '$turns'"
        shift 2
        ;;
esac
[ $# -ge 2 ] || { usage >&2; exit 2; }
a=$(directory "$1")
b=$(directory "$2")
shift 2
[ $# -gt 0 ] || set -- aggregate --slaves 8192
for tree in "$a" "$b"; do
    # Only to build it before anything is measured.
    printf 'compare: building %s\n' "$tree" >&2
    run "$tree" --help >/dev/null || die "$tree does not build"
done
printf 'A: %s\nB: %s\n%s turns of: %s\n' "$a" "$b" "$turns" "$*"
lines=
for ((turn = 1; turn <= turns; turn++)); do
    # The one that ran last runs first: what drifts meets both alike.
    if ((turn % 2)); then
        of_a=$(measure "$a" "$@")
        of_b=$(measure "$b" "$@")
    else
        of_b=$(measure "$b" "$@")
        of_a=$(measure "$a" "$@")
    fi
    lines+="$of_a $of_b"$'\n'
done
awk -v name="$1" '
    function figure(field) { sub(/^[a-z]*=/, "", field); return field + 0 }
    function sort(list, count,    i, j, keep) {
        for (i = 2; i <= count; i++)
            for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
                keep = list[j]; list[j] = list[j - 1]; list[j - 1] = keep
            }
    }
    BEGIN { printf "%5s %12s %12s %8s %18s\n", "turn", "A", "B", "B / A", "of their ratios" }
    NF == 8 {
        n++
        unit = $3; sub(/^unit=/, "", unit)
        value[n] = figure($6); ratio[n] = value[n] / figure($2); relative[n] = figure($8) / figure($4)
        printf "%5d %12.3f %12.3f %8.3f %18.3f\n", n, figure($2), value[n], ratio[n], relative[n]
    }
    END {
        if (!n) exit 1
        sort(value, n); sort(ratio, n); sort(relative, n)
        middle = int((n + 1) / 2)
        printf "ratios of figures to their baselines: median %.3f, %.3f to %.3f\n", \
            relative[middle], relative[1], relative[n]
        printf "ratios: median %.3f, %.3f to %.3f in %d turns\n", ratio[middle], ratio[1], ratio[n], n
        printf "name=compare-%s value=%.3f unit=%s ratio=%.3f\n", name, value[middle], unit, ratio[middle]
    }' <<<"$lines"
