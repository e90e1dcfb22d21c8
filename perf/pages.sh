#!/usr/bin/env bash
# Moves remote memory between real processes: an application, a master, a gateway and four slaves in network namespaces.
# The master and the gateway are on NIC queues (AF_XDP on veth), the slaves on sockets. All bytes are written, then read
# and compared; then pages are read in random order. In the middle of the writing the gateway is killed and started again.
#
#   perf/pages.sh DIRECTORY OUT [--size SIZE] [--depth N] [--seconds N] [--quick]
#
# DIRECTORY has gvm-dp. OUT gets bench.json (what the application says) and the statistics of each process: gateway-1.json
# (just before it is killed), gateway-2.json (at the end), master.json, slave-N.json, and cpu (ticks of all processes and
# of the machine while pages moved). `perf/run.sh pages` builds the program, runs this and prints the figures. Needs root.
set -euo pipefail

die() { printf 'pages: %s\n' "$*" >&2; exit 1; }

directory=${1:?"usage: perf/pages.sh DIRECTORY OUT [--size SIZE] [--depth N] [--seconds N] [--quick]"}
out=${2:?"a directory for what was measured"}
shift 2
size=10240 depth=64 seconds=10 slaves=4 mtu=9000
while [ $# -gt 0 ]; do
    case $1 in
        --size) size=${2:?--size SIZE}; shift ;;
        --depth) depth=${2:?--depth N}; shift ;;
        --seconds) seconds=${2:?--seconds N}; shift ;;
        --quick) size=32 seconds=1 ;;
        *) die "unknown option $1" ;;
    esac
    shift
done
case $size in
    *G) size=$((${size%G} * 1024)) ;;
    *M) size=${size%M} ;;
esac
case $size$depth$seconds in
    *[!0-9]*) die "--size is like 10G or 256M, --depth and --seconds are whole numbers" ;;
esac
# Each slave lends its part, and three units of 64 MiB more: a slave has room for whole units only.
lent=$(((size / slaves / 64 + 3) * 64))
blocks=$((size * 256))

work=$(mktemp -d "${TMPDIR:-/tmp}/gvm-pages.XXXXXX")
title=pages bin=$directory net="gvmpages$$" queues=1
# A time that is never needed: ten minutes.
patience=12000
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
machines=(master gateway slaves)

end() {
    end_started
    remove_machines "${machines[@]}"
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

all_lend() { [ "$(lenders gateway "$lent")" -eq "$slaves" ]; }

make_machines "${machines[@]}"
cable master m0 10.78.1.2 gateway masters 10.78.1.1
cable slaves s0 10.78.2.2 gateway slaves 10.78.2.1

gateway() {
    start "$1" gateway "$bin/gvm-dp" --name gateway --lcores 0 --port xdp:masters --port xdp:slaves --frames 8192
    gateway=$pid
}
gateway gateway
await "the gateway" "$gateway" is_up gateway
for ((n = 1; n <= slaves; n++)); do
    start "slave-$n" slaves "$bin/gvm-dp" slave --name "slave-$n" --port udp:10.78.2.2:0 --mtu "$mtu" \
        --gateway 10.78.2.1:9999 --id "$n" --domain "$n" --memory "${lent}M" --memory-pages ordinary --keep-free 0 \
        --frames 4096
done
await "memory of the slaves" "$pid" all_lend
start master master "$bin/gvm-dp" master --name master --id 1 --port xdp:m0 --gateway 10.78.1.1:9999 --frames 8192 \
    --socket "$work/run/pages.socket" --quota "$((size + 2))M"
master=$pid
await "the slaves at the master" "$master" is_at_least master master slaves_known "$slaves"

cp /proc/stat "$out/stat-before"
"$bin/gvm-dp" page bench --json --socket "$work/run/pages.socket" --size "${size}M" --depth "$depth" \
    --duration "${seconds}s" >"$out/bench.json" 2>"$work/bench.log" </dev/null &
bench=$!
started+=("$bench")
await "three quarters of the pages" "$bench" is_at_least master master requests_done $((blocks * 3 / 4))
stats gateway >"$out/gateway-1.json"
kill_at_once "$gateway"
gateway gateway-again
status=0
wait "$bench" || status=$?
cp /proc/stat "$out/stat-after"
[ "$status" -eq 0 ] || { cat "$work/bench.log" >&2; fail "the application ended with $status"; }
stats gateway >"$out/gateway-2.json"
stats master >"$out/master.json"
for ((n = 1; n <= slaves; n++)); do
    stats "slave-$n" >"$out/slave-$n.json"
done
