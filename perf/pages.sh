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
mkdir -m 700 "$work/run"
export XDG_RUNTIME_DIR="$work/run" GVM_DP_RUN_DIR="$work/run" GVM_DP_CONFIG_DIR="$work/run"
net="gvmpages$$"
machines=(master gateway slaves)
started=()

end() {
    local pid machine
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in ${started[@]+"${started[@]}"}; do
        wait "$pid" 2>/dev/null || true
    done
    for machine in "${machines[@]}"; do
        ip netns delete "$net-$machine" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    local log
    printf 'pages: %s\n' "$*" >&2
    for log in "$work"/*.log; do
        [ -s "$log" ] && { printf -- '--- %s\n' "${log##*/}"; tail -n 5 "$log"; } >&2
    done
    exit 1
}

# cable MACHINE INTERFACE ADDRESS MACHINE INTERFACE ADDRESS: a veth pair.
cable() {
    ip link add "$net-a" mtu "$mtu" type veth peer name "$net-b" mtu "$mtu"
    plug "$net-a" "$1" "$2" "$3"
    plug "$net-b" "$4" "$5" "$6"
}
plug() {
    ip link set "$1" netns "$net-$2" name "$3"
    ip -n "$net-$2" address add "$4/24" dev "$3"
    ip -n "$net-$2" link set "$3" up
    # A kernel socket leaves checksums to the NIC, and a veth is none.
    ip netns exec "$net-$2" ethtool -K "$3" tx off >/dev/null
}

# start NAME MACHINE COMMAND...: in the background, with a log; its pid is in $pid.
start() {
    local name=$1 machine=$2
    shift 2
    ip netns exec "$net-$machine" "$@" >"$work/$name.log" 2>&1 </dev/null &
    pid=$!
    started+=("$pid")
}

# Waits until a command says yes; fails when the process ends before, or after a time that is never needed.
await() {
    local what=$1 of=$2 tries=0
    shift 2
    until "$@"; do
        kill -0 "$of" 2>/dev/null || fail "$what: the process ended"
        tries=$((tries + 1))
        [ "$tries" -lt 12000 ] || fail "$what: not within ten minutes"
        sleep 0.05
    done
}

stats() { "$directory/gvm-dp" stats --json --name "$1" 2>/dev/null; }
# counter NAME SET COUNTER: one counter of a process, of all its lcores.
counter() {
    # Behind the totals stand the same names for each lcore.
    stats "$1" | tr -d ' \n' | sed 's/"lcores":.*//' | sed -n "s/.*\"total\":{.*\"$2\":{[^}]*\"$3\":\([0-9]*\).*/\1/p"
}
is_at_least() {
    local found
    found=$(counter "$1" "$2" "$3")
    [ "${found:-0}" -ge "$4" ]
}
is_up() { stats "$1" >/dev/null; }
# A slave says how much it lends when it has looked at its host's memory, a moment after it has registered.
all_lend() {
    local pages units
    pages=$((lent * 256))
    units=$("$directory/gvm-dp" routes --json --name gateway | tr -d ' \n' | grep -o "\"pages_free\":$pages" | wc -l)
    [ "$units" -eq "$slaves" ]
}

for machine in "${machines[@]}"; do
    ip netns add "$net-$machine"
    ip -n "$net-$machine" link set lo up
done
cable master m0 10.78.1.2 gateway masters 10.78.1.1
cable slaves s0 10.78.2.2 gateway slaves 10.78.2.1

gateway() {
    start "$1" gateway "$directory/gvm-dp" --name gateway --lcores 0 --port xdp:masters --port xdp:slaves --frames 8192
    gateway=$pid
}
gateway gateway
await "the gateway" "$gateway" is_up gateway
for ((n = 1; n <= slaves; n++)); do
    start "slave-$n" slaves "$directory/gvm-dp" slave --name "slave-$n" --port udp:10.78.2.2:0 --mtu "$mtu" \
        --gateway 10.78.2.1:9999 --id "$n" --domain "$n" --memory "${lent}M" --memory-pages ordinary --keep-free 0 \
        --frames 4096
done
await "memory of the slaves" "$pid" all_lend
start master master "$directory/gvm-dp" master --name master --id 1 --port xdp:m0 --gateway 10.78.1.1:9999 --frames 8192 \
    --socket "$work/run/pages.socket" --quota "$((size + 2))M"
master=$pid
await "the slaves at the master" "$master" is_at_least master master slaves_known "$slaves"

cp /proc/stat "$out/stat-before"
"$directory/gvm-dp" page bench --json --socket "$work/run/pages.socket" --size "${size}M" --depth "$depth" \
    --duration "${seconds}s" >"$out/bench.json" 2>"$work/bench.log" </dev/null &
bench=$!
started+=("$bench")
await "three quarters of the pages" "$bench" is_at_least master master requests_done $((blocks * 3 / 4))
stats gateway >"$out/gateway-1.json"
# The shell does not say that it was killed.
disown "$gateway"
kill -KILL "$gateway"
while kill -0 "$gateway" 2>/dev/null; do
    sleep 0.02
done
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
