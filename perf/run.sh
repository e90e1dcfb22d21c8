#!/usr/bin/env bash
# Builds and runs one benchmark. The last line is: name=... value=... unit=... ratio=...  (ratio = ours / baseline)
# The lines before it name the machine, say how quiet it was during the run, and give the range of the ratios.
#
#   perf/run.sh aggregate [--json FILE] [--rounds N]   what one record costs in the gateway, against the bare loop, and a
#                                                      copy alone; with --slaves N one line of the table: see --help
#   perf/run.sh aggregate --reference FILE             the bare loop against another program, or a C source (CFLAGS
#                                                      are added), that is called as --help says
#   perf/run.sh aggregate --extras                     what parts of a gateway cost that are not work on records
#   perf/run.sh aggregate --guard                      instructions per record, against perf/baseline.json (+1 % fails)
#   perf/run.sh aggregate --record                     write them there anew, after a change that is meant
#   perf/run.sh bulk [--json FILE]                     READs of 1,000 slaves: packets saved from a master to its gateway;
#                                                      below 90 % it fails
#   perf/run.sh demand [--json FILE] [--rounds N]      one READ that somebody waits for: through a gateway, and beside a
#                                                      stream of others, with histograms (root)
#   perf/run.sh disk [--json FILE] [--rounds N]        READs of a disk of slaves' memory, against nbdkit's memory (root)
#   perf/run.sh lend [--json FILE] [--size SIZE]       an idle slave that lends 12 GiB, beside one that lends nothing
#   perf/run.sh pages [--json FILE] [--size SIZE]      10 GiB moved and verified between a master and 4 slaves through a
#                                                      gateway that is killed and started again meanwhile (root)
#   perf/run.sh read4k [--json FILE] [--rounds N]      READs of 4 KiB over AF_XDP on veth, against the same over TCP, and
#                                                      the bare exchange of such packets (root)
#   perf/run.sh qp [--json FILE] [--rounds N]          4 KiB READs and WRITEs of queue pairs, against copies and CRCs alone
#   perf/run.sh qp --guard | --record                  instructions per request at each end, as above
#   perf/run.sh dpdk [--json FILE]                     DPDK device to DPDK device, against dpdk-testpmd; the plugin's boundary
#   perf/run.sh forward [--json FILE]                  NIC queue to NIC queue on veth, against a bare forwarder (root)
#   perf/run.sh jumbo [--json FILE]                    MTU 9000: packets saved, and a 4 KiB record against a plain copy
#   perf/run.sh rtt [--json FILE] [--mtu N]            one 4 KiB READ at a time, against a bare AF_XDP ping-pong (root)
#   perf/run.sh ring [--json FILE]                     requests through a channel between processes, and wake-ups
#   perf/run.sh ring --realtime                        the same where other programs use the cores, too (root)
#   perf/run.sh lcores [--json FILE]                   two lcores against one, on memory ports
#   perf/run.sh idle [--json FILE]                     what an idle lcore costs, and its first record, against ppoll
#   perf/run.sh idle --realtime                        the same where other programs use the cores, too (root)
#   perf/run.sh failover [--rate PPS] [--slaves N]     two gateways: lost records and outage of a drain and a kill
#                        [--repeats N] [--json FILE]
#   perf/run.sh neighbours [--json FILE] [--rounds N]  what a slow neighbour, and one that floods, cost honest slaves (root)
#   perf/run.sh scrape [--json FILE]                   what scraping and stats cost the poll loop
#   perf/run.sh tap [--json FILE]                      what an active tap (gvm-dp capture) costs, against none
#   perf/run.sh tradeoff [--json FILE]                 what a longer hold gives and costs, with a chart
#   perf/run.sh udp [--json FILE] [--rounds N]         a gateway on sockets: trains of datagrams against single ones,
#                                                      adaptive waiting against polling, and what is lost
#   perf/run.sh NAME --quick                           any of these in seconds: the same code, the same checks of what went
#                                                      through, and figures that mean nothing
#   perf/run.sh all --quick                            all of them so, which is what CI does
#   perf/run.sh NAME --help                            the options of a benchmark
#
# A benchmark that cannot run here says SKIPPED and why, and fails where the environment has GVM_TESTS=require.
# As root, hugepages are reserved for the run, and their number is set back afterwards. The guard needs valgrind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { printf 'perf: %s\n' "$*" >&2; exit 1; }

# The profile of a package is the one that is measured.
profile=release
baseline=perf/baseline.json
# 1.5 GiB: the arenas of 131,072 open buffers, and their input, for the gateway, the bare loop and the copy. Fewer are
# accepted, and the benchmark says so.
hugepages=768
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
    bench="${CARGO_TARGET_DIR:-target}/$profile/gvm-bench"
}

# Every benchmark of gvm-bench.
benchmarks=(aggregate bulk demand disk dpdk failover forward idle jumbo lcores lend neighbours pages qp read4k ring rtt
    scrape tap tradeoff udp)

# Runs one benchmark, with the programs that it needs beside gvm-bench. A quick run takes those programs from the build
# of the tests, which CI has anyway.
run() {
    local name=$1 target=${CARGO_TARGET_DIR:-target} beside=$profile folder
    shift
    case " $* " in *' --quick '*) beside=dev ;; esac
    folder=$target/$beside
    [ "$beside" != dev ] || folder=$target/debug
    case $name in
        dpdk)
            # No program links the plugin for DPDK ports, so it must be built here.
            cargo build --locked --quiet --profile "$beside" -p gvm-dpdk-plugin || return 1
            GVM_DP_PLUGIN_DIR=$folder "$bench" dpdk "$@"
            ;;
        failover)
            cargo build --locked --quiet --profile "$beside" -p gvm-dp -p gvm-pktgen --bins || return 1
            "$bench" failover --binaries "$folder" "$@"
            ;;
        lend | pages)
            cargo build --locked --quiet --profile "$beside" -p gvm-dp --bins || return 1
            "$bench" "$name" --binaries "$folder" "$@"
            ;;
        disk)
            cargo build --locked --quiet --profile "$beside" -p gvm-dp --bins || return 1
            GVM_BIN_DIR=$(cd "$folder" && pwd) "$bench" disk "$@"
            ;;
        neighbours)
            cargo build --locked --quiet --profile "$beside" -p gvm-dp -p gvm-pktgen --bins || return 1
            GVM_BIN_DIR=$(cd "$folder" && pwd) "$bench" neighbours "$@"
            ;;
        aggregate)
            if [ "${1:-}" = --reference ] && [[ ${2:-} == *.c ]]; then
                local program=$target/reference
                # shellcheck disable=SC2086  # Several flags.
                cc -O3 -march=x86-64-v3 ${CFLAGS:-} -o "$program" "$2" || return 1
                shift 2
                set -- --reference "$program" "$@"
            fi
            "$bench" aggregate "$@"
            ;;
        *) "$bench" "$name" "$@" ;;
    esac
}

# All benchmarks one after the other, also when one of them fails; then says which did.
run_all() {
    local name failed=()
    build
    for name in "${benchmarks[@]}"; do
        printf -- '-- %s\n' "$name"
        run "$name" "$@" || failed+=("$name")
    done
    [ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
}

# The points of a guarded benchmark, a line each: name, function that is counted, records or requests of a round,
# options.
points() {
    local slaves op end
    case $1 in
        aggregate)
            for slaves in 1 64 8192; do
                echo "aggregate_${slaves}_slaves aggregate::subject::Bench::run 65536 --slaves $slaves --in-order"
            done
            for slaves in 64 8192; do
                echo "aggregate_up_${slaves}_slaves aggregate::subject::Bench::run 65536 --slaves $slaves --in-order --up"
            done
            ;;
        qp)
            for op in read_4096 write_4096 read_1024; do
                for end in requester responder; do
                    echo "qp_${op}_$end qp::Bench::$end 4096 --case $op"
                done
            done
            ;;
        *) die "$1 has no guard" ;;
    esac
}

# Instructions of this many rounds in one function. The arguments behind that are those of the benchmark.
instructions() {
    local function=$1 rounds=$2 out
    shift 2
    out=$(mktemp)
    valgrind --tool=callgrind --collect-atstart=no "--toggle-collect=*$function*" \
        --callgrind-out-file="$out" "$bench" "$@" --rounds "$rounds" >/dev/null 2>"$out.log" \
        || { cat "$out.log" >&2; rm -f "$out" "$out.log"; die "callgrind failed"; }
    awk '/^(summary|totals):/ { print $2; exit }' "$out"
    rm -f "$out" "$out.log"
}

# Compares a benchmark's instruction counts with the file of baselines, or writes its part of that file anew.
guard() {
    command -v valgrind >/dev/null || die "the guard needs valgrind: scripts/setup.sh installs it"
    local name_of=$1 mode=$2 name function each options one two now before ratio worst=0 status=0 lines=()
    points "$name_of" >/dev/null
    build
    printf '%-24s %14s %14s %7s\n' '' instructions baseline ratio
    while read -r name function each options; do
        # shellcheck disable=SC2086  # Several options.
        one=$(instructions "$function" 1 "$name_of" $options)
        # shellcheck disable=SC2086
        two=$(instructions "$function" 2 "$name_of" $options)
        # Warm figures: the instructions that one more round adds.
        now=$(awk -v one="$one" -v two="$two" -v each="$each" 'BEGIN { printf "%.1f", (two - one) / each }')
        lines+=("  \"$name\": $now")
        before=$(sed -n "s/^ *\"$name\": *\([0-9.]*\),\{0,1\}$/\1/p" "$baseline" 2>/dev/null || true)
        ratio=$(awk -v now="$now" -v before="${before:-$now}" 'BEGIN { printf "%.3f", now / before }')
        printf '%-24s %14s %14s %7s\n' "$name" "$now" "${before:-none}" "$ratio"
        worst=$(awk -v a="$worst" -v b="$ratio" 'BEGIN { print (a > b ? a : b) }')
        if [ "$mode" = guard ] && [ -z "$before" ]; then
            die "$baseline has no $name: perf/run.sh $name_of --record"
        fi
    done < <(points "$name_of")
    if [ "$mode" = record ]; then
        local others
        others=$(sed -n "/^ *\"/ { /^ *\"${name_of}_/! { s/,\$//; p } }" "$baseline" 2>/dev/null || true)
        {
            echo '{'
            printf '%s\n' "$others" "${lines[@]}" | sed '/^$/d; $!s/$/,/'
            echo '}'
        } >"$baseline.new"
        mv "$baseline.new" "$baseline"
        printf 'perf: wrote %s\n' "$baseline"
    elif awk -v worst="$worst" 'BEGIN { exit !(worst > 1.01) }'; then
        printf 'perf: more than 1 %% above %s; if that is meant: perf/run.sh %s --record\n' "$baseline" "$name_of" >&2
        status=1
    fi
    printf 'name=%s-instructions value=%s unit=instructions ratio=%s\n' "$name_of" "$now" "$worst"
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
if [ $# -eq 2 ] && [ "$2" = --guard ]; then
    guard "$1" guard
elif [ $# -eq 2 ] && [ "$2" = --record ]; then
    guard "$1" record
elif [ "$1" = all ]; then
    shift
    [ "$*" = --quick ] || die "all benchmarks run with --quick, or each by its own name"
    # On the same kind of pages as a measurement, because the places of chunks depend on it.
    reserve_hugepages
    run_all --quick
else
    build
    reserve_hugepages
    if { [ "$1" = idle ] || [ "$1" = ring ]; } && [ "${2:-}" = --realtime ]; then
        name=$1
        shift 2
        # This runs before every ordinary program, so that other programs do not delay it.
        chrt --fifo 10 "$bench" "$name" "$@"
        exit
    fi
    # Not with exec, because the hugepages are given back afterwards.
    run "$@"
fi
