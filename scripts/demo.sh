#!/usr/bin/env bash
# Shows a gateway at work between real processes: one master, two gateways, 10,000 registered slaves.
#
#   scripts/demo.sh --udp                everything over UDP sockets on the loopback; no root needed
#   scripts/demo.sh                      the same: a demo over NIC queues needs root and is not written yet
#     --json FILE                        also write the figures as JSON
#     --seconds N                        how long the master sends [default: 5]
#     --slaves N                         how many slaves, an even number [default: 10000]
#     --keep                             keep the logs, and say where they are
#
# Ends what it started, and removes what it made, also when it is interrupted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

usage() { sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
say() { printf 'demo: %s\n' "$*"; }

udp=no json='' seconds=5 slaves=10000 keep=no
while [ $# -gt 0 ]; do
    case $1 in
        --udp) udp=yes ;;
        --json) json=${2:?--json needs a file}; shift ;;
        --seconds) seconds=${2:?--seconds needs a number}; shift ;;
        --slaves) slaves=${2:?--slaves needs a number}; shift ;;
        --keep) keep=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; printf 'demo: unknown option %s\n' "$1" >&2; exit 2 ;;
    esac
    shift
done
case $seconds$slaves in
    *[!0-9]* | '') printf 'demo: --seconds and --slaves take whole numbers\n' >&2; exit 2 ;;
esac
if [ "$seconds" -lt 1 ] || [ "$slaves" -lt 4 ] || [ "$slaves" -gt 16384 ] || [ $((slaves % 4)) -ne 0 ]; then
    printf 'demo: --seconds is at least 1; --slaves is 4 to 16384, a multiple of 4\n' >&2
    exit 2
fi

# What the figures are about. A gateway serves one shard of 8,192 ids, so the slaves lie on both sides of that border.
shard=8192
half=$((slaves / 2))
first=$((shard - half))
last=$((shard + half - 1))
farms=4
each=$((slaves / farms))
hold=50us
payload=64
burst=32
# Records that every farm sends on its own, all in all, and in a second.
upward_rate=10000
upward_records=$((upward_rate * (seconds + 1)))
# ECHOs that may be unanswered: as many as one socket buffer of the usual 208 KiB holds, which is all that a user
# without privileges gets.
window=448

if [ "$udp" = no ]; then
    say "a demo over NIC queues is not written yet: this is scripts/demo.sh --udp"
fi
cat <<TEXT
demo: a master, 2 gateways and $slaves slaves (in $farms processes), all on this machine, over UDP on 127.0.0.1.
demo: installs a C compiler, clang, the libbpf headers and Rust if they are missing (scripts/setup.sh --user says what);
demo: builds three programs into target/ (2 to 4 minutes on 2 cores, the first time). Then it runs for about
demo: $((seconds + 15)) seconds. No root, no other network than the loopback, nothing left behind but target/.
TEXT

scripts/setup.sh --user
say "building"
cargo build --locked --quiet --profile fast -p gvm-dp -p gvm-pktgen -p gvm-bench --bins
bin="${CARGO_TARGET_DIR:-target}/fast"

work=$(mktemp -d "${TMPDIR:-/tmp}/gvm-demo.XXXXXX")
mkdir -m 700 "$work/run"
# Control sockets of this demo alone, whoever runs it.
export XDG_RUNTIME_DIR="$work/run" GVM_DP_RUN_DIR="$work/run"
started=()

end() {
    local pid
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in ${started[@]+"${started[@]}"}; do
        wait "$pid" 2>/dev/null || true
    done
    started=()
    if [ "$keep" = yes ]; then
        say "logs are in $work"
    else
        rm -rf "$work"
    fi
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    local log
    printf 'demo: %s\n' "$*" >&2
    for log in "$work"/*.log; do
        [ -s "$log" ] && { printf -- '--- %s\n' "${log##*/}"; tail -n 5 "$log"; } >&2
    done
    exit 1
}

# start NAME COMMAND...: in the background, with a log; its pid is in $pid.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 </dev/null &
    pid=$!
    started+=("$pid")
}

# Waits until a command says yes; fails when the process ends before, or after 30 seconds.
await() {
    local what=$1 of=$2 tries=0
    shift 2
    until "$@"; do
        kill -0 "$of" 2>/dev/null || fail "$what: the process ended"
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "$what: not within 30 seconds"
        sleep 0.05
    done
}

# The address that a process's socket got, from its line about port 0.
address() { sed -n 's/.*udp:\(127\.0\.0\.1:[0-9]*\).*/\1/p' "$work/$1.log" | head -n 1; }
has_address() { [ -n "$(address "$1")" ]; }

stats() { "$bin/gvm-dp" stats --json --name "$1"; }

# One number out of the membership of a process.
member() {
    stats "$1" 2>/dev/null | tr -d ' \n' | sed -n "s/.*\"membership\":{[^}]*\"$2\":\([0-9]*\).*/\1/p"
}
has_members() { [ "$(member "$1" "$2")" = "$3" ]; }

say "starting 2 gateways (hold $hold) with a cluster key of their own"
"$bin/gvm-dp" key new --out "$work/cluster.key" >/dev/null
gateways=()
for n in 0 1; do
    start "gateway-$n" "$bin/gvm-dp" --name "gateway-$n" --port udp:127.0.0.1:0 --shards "$n" --hold "$hold" \
        --key-file "$work/cluster.key"
    gateways+=("$pid")
done
for n in 0 1; do
    await "gateway-$n" "${gateways[$n]}" has_address "gateway-$n"
done

say "starting the master: it waits until it knows $slaves slaves"
master=("$bin/gvm-pktgen" --gateway "$(address gateway-0)" --gateway "$(address gateway-1)" --id 1
    --port udp:127.0.0.1:0 --slaves "$first-$last" --cluster-key-file "$work/cluster.key" --size "$payload" --allow-loss)
# Each record in a packet of its own: small packets are what a gateway is for.
start load "${master[@]}" --timeout 30 --down echo --distribution "burst:$burst" --window "$window" --pack 1 \
    --seconds "$seconds" --json "$work/load.json"
load=$pid
for n in 0 1; do
    await "registration of the master" "$load" has_members "gateway-$n" masters 1
done

say "starting $farms farms of $each slaves; each also sends the master $upward_rate records a second of its own"
begun=$(date +%s%N)
for ((n = 0; n < farms; n++)); do
    gateway=$((n * 2 / farms))
    start "farm-$n" "$bin/gvm-dp" slave --name "farm-$n" --port udp:127.0.0.1:0 --gateway "$(address gateway-$gateway)" \
        --id $((first + n * each)) --count "$each" --memory 64M --cluster-key-file "$work/cluster.key" \
        --traffic "master=1,payload=$payload,rate=$upward_rate,records=$upward_records"
done
for n in 0 1; do
    await "registration of the slaves" "${gateways[$n]}" has_members "gateway-$n" registered "$half"
done
registered=$((($(date +%s%N) - begun) / 1000000))
say "$slaves slaves are registered after $registered ms; the master sends bursts of $burst records to each in turn"

await_end() {
    local pid=$1 what=$2 status=0
    wait "$pid" || status=$?
    [ "$status" -eq 0 ] || fail "$what failed with exit code $status"
}
await_end "$load" "the master"
for n in 0 1; do
    stats "gateway-$n" >"$work/gateway-$n.json"
done

say "measuring round trips at 1,000 records a second, through the gateways and without them"
gentle=(--down echo --distribution uniform --rate 1000 --pack 1 --seconds 3 --quiet)
start through "${master[@]}" "${gentle[@]}" --timeout 30 --json "$work/through.json"
await_end "$pid" "the master"

# A farm whose gateway is the master's own address: it answers there, and nobody is between.
free=$(address load)
start alone "$bin/gvm-dp" slave --name alone --port udp:127.0.0.1:0 --gateway "$free" --id 0 --count "$each"
await "the farm without a gateway" "$pid" has_address alone
start direct "$bin/gvm-pktgen" --direct "$(address alone)" --port "udp:$free" --slaves "0-$((each - 1))" \
    --size "$payload" --allow-loss "${gentle[@]}" --json "$work/direct.json"
await_end "$pid" "the master"

table=("$bin/demo-table" --slaves "$slaves" --registered-ms "$registered" --load "$work/load.json"
    --through "$work/through.json" --direct "$work/direct.json"
    --gateway "$work/gateway-0.json" --gateway "$work/gateway-1.json")
[ -z "$json" ] || table+=(--json "$json")
echo
"${table[@]}"
