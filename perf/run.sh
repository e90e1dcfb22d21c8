#!/usr/bin/env bash
# Builds and runs one benchmark. The last line is: name=... value=... unit=... ratio=...  (ratio = ours / baseline)
#
#   perf/run.sh aggregate [--json FILE] [--rounds N]   what one record costs in the gateway, against a copy alone
#   perf/run.sh aggregate --guard                      instructions per record, against perf/baseline.json (+5 % fails)
#   perf/run.sh aggregate --record                     write perf/baseline.json anew, after a change that is meant
#   perf/run.sh dpdk [--json FILE]                     DPDK device to DPDK device, against dpdk-testpmd; the plugin's boundary
#   perf/run.sh forward [--json FILE]                  NIC queue to NIC queue on veth, against a bare forwarder (root)
#   perf/run.sh jumbo [--json FILE]                    MTU 9000: packets saved, and a 4 KiB record against a plain copy
#   perf/run.sh rtt [--json FILE] [--mtu N]            one 4 KiB READ at a time, against a bare AF_XDP ping-pong (root)
#   perf/run.sh lcores [--json FILE]                   two lcores against one, on memory ports
#   perf/run.sh idle [--json FILE]                     what an idle lcore costs, and its first record, against ppoll
#   perf/run.sh idle --realtime                        the same where other programs use the cores, too (root)
#   perf/run.sh failover [--rate PPS] [--slaves N]     two gateways: lost records and outage of a drain and a kill
#   perf/run.sh scrape [--json FILE]                   what scraping and stats cost the poll loop
#   perf/run.sh tap [--json FILE]                      what a worn tap (gvm-dp capture) costs, against none
#   perf/run.sh tradeoff [--json FILE]                 what a longer hold gives and costs, with a chart
#   perf/run.sh NAME [OPTIONS]                         any other benchmark of gvm-bench
#
# As root, hugepages are reserved for the run, and their number is set back afterwards. The guard needs valgrind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

usage() { sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { printf 'perf: %s\n' "$*" >&2; exit 1; }

# What is shipped is what is measured.
profile=release
baseline=perf/baseline.json
# 1 GiB: the arena of 131,072 open buffers, and its input. Fewer are taken, too: the benchmark then says so.
hugepages=512
hugepages_file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
reserved_before=

restore_hugepages() {
    [ -z "$reserved_before" ] || echo "$reserved_before" >"$hugepages_file"
}

reserve_hugepages() {
    [ "$(id -u)" -eq 0 ] && [ -w "$hugepages_file" ] || return 0
    local now
    now=$(cat "$hugepages_file")
    [ "$now" -lt "$hugepages" ] || return 0
    reserved_before=$now
    trap restore_hugepages EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # A container may show the file and refuse the write.
    echo "$hugepages" 2>/dev/null >"$hugepages_file" || reserved_before=
}

build() {
    cargo build --locked --quiet --profile "$profile" -p gvm-bench
    # Nobody links the plugin for DPDK ports, so that nobody else builds it.
    [ "${1:-}" != dpdk ] || cargo build --locked --quiet --profile "$profile" -p gvm-dpdk-plugin
    bench="${CARGO_TARGET_DIR:-target}/$profile/gvm-bench"
}

# Instructions of so many timed rounds, of which one is 65,536 records. Only the timed function is counted. What follows
# the number of rounds says what is measured.
instructions() {
    local rounds=$1 out
    shift
    out=$(mktemp)
    valgrind --tool=callgrind --collect-atstart=no '--toggle-collect=*aggregate::Bench::run*' \
        --callgrind-out-file="$out" "$bench" aggregate --rounds "$rounds" "$@" >/dev/null 2>"$out.log" \
        || { cat "$out.log" >&2; rm -f "$out" "$out.log"; die "callgrind failed"; }
    awk '/^(summary|totals):/ { print $2; exit }' "$out"
    rm -f "$out" "$out.log"
}

# Instructions per record, warm: what one more round adds.
per_record() {
    local one two
    one=$(instructions 1 "$@")
    two=$(instructions 2 "$@")
    awk -v one="$one" -v two="$two" 'BEGIN { printf "%.1f", (two - one) / 65536 }'
}

guard() {
    command -v valgrind >/dev/null || die "the guard needs valgrind: scripts/setup.sh installs it"
    local mode=$1 what slaves direction name now before ratio worst=0 status=0 lines=()
    build
    printf '%-9s %8s %16s %16s %7s\n' direction slaves instr/record baseline ratio
    for what in '1 down' '64 down' '8192 down' '64 up' '8192 up'; do
        read -r slaves direction <<<"$what"
        if [ "$direction" = up ]; then
            name=aggregate_up_${slaves}_slaves
            now=$(per_record --slaves "$slaves" --up)
        else
            name=aggregate_${slaves}_slaves
            now=$(per_record --slaves "$slaves")
        fi
        lines+=("  \"$name\": $now")
        before=$(sed -n "s/^ *\"$name\": *\([0-9.]*\),\{0,1\}$/\1/p" "$baseline" 2>/dev/null || true)
        ratio=$(awk -v now="$now" -v before="${before:-$now}" 'BEGIN { printf "%.3f", now / before }')
        printf '%-9s %8s %16s %16s %7s\n' "$direction" "$slaves" "$now" "${before:-none}" "$ratio"
        worst=$(awk -v a="$worst" -v b="$ratio" 'BEGIN { print (a > b ? a : b) }')
        if [ "$mode" = guard ] && [ -z "$before" ]; then
            die "$baseline has no $name: perf/run.sh aggregate --record"
        fi
    done
    if [ "$mode" = record ]; then
        {
            echo '{'
            (IFS=$'\n'; printf '%s' "${lines[*]}" | sed '$!s/$/,/')
            printf '\n}\n'
        } >"$baseline"
        printf 'perf: wrote %s\n' "$baseline"
    elif awk -v worst="$worst" 'BEGIN { exit !(worst > 1.05) }'; then
        printf 'perf: more than 5 %% above %s; if that is meant: perf/run.sh aggregate --record\n' "$baseline" >&2
        status=1
    fi
    printf 'name=aggregate-instructions value=%s unit=instructions/record ratio=%s\n' "$now" "$worst"
    return "$status"
}

case ${1:-} in
    '') usage >&2; exit 2 ;;
    -h | --help)
        usage
        build
        "$bench" --help
        exit 0
        ;;
esac
if [ "$1" = aggregate ] && [ $# -eq 2 ] && [ "$2" = --guard ]; then
    guard guard
elif [ "$1" = aggregate ] && [ $# -eq 2 ] && [ "$2" = --record ]; then
    guard record
elif [ "$1" = failover ]; then
    shift
    cargo build --locked --quiet --profile "$profile" -p gvm-dp -p gvm-pktgen
    perf/failover.sh "${CARGO_TARGET_DIR:-target}/$profile" "$@"
else
    build "$1"
    reserve_hugepages
    if [ "$1" = idle ] && [ "${2:-}" = --realtime ]; then
        shift 2
        # Before every ordinary program: what is left is the time of the design and of the kernel.
        chrt --fifo 10 "$bench" idle "$@"
        exit
    fi
    # Not exec: the hugepages are given back afterwards.
    "$bench" "$@"
fi
