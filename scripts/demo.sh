#!/usr/bin/env bash
# Shows a gateway at work between real processes: one master, two gateways, 10,000 registered slaves. Then an application
# writes and reads 256 MiB of memory that slaves lend, while one gateway is killed and started again.
#
#   scripts/demo.sh                      the gateways on NIC queues (AF_XDP) in network namespaces; needs root
#   scripts/demo.sh --udp                everything over UDP sockets on the loopback; no root needed
#   scripts/demo.sh --hostile            honest slaves beside a flooding one, one on a slow link, a replayer, and a member that
#                                        floods the registrar; exit code 1 when the honest figures do not hold; needs root
#     --json FILE                        also write the figures as JSON
#     --seconds N                        how long the master sends [default: 5]
#     --slaves N                         how many slaves, an even number [default: 10000]
#     --keep                             keep the logs, and say where they are
#
# Ends what it started, and removes what it made, also when it is interrupted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/sbin:/sbin"

usage() { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
say() { printf 'demo: %s\n' "$*"; }

udp=no hostile=no json='' seconds=5 slaves=10000 keep=no
while [ $# -gt 0 ]; do
    case $1 in
        --udp) udp=yes ;;
        --hostile) hostile=yes ;;
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

if [ "$hostile" = yes ] && { [ "$udp" = yes ] || [ -n "$json" ] || [ "$slaves" -gt 16000 ]; }; then
    printf 'demo: --hostile has no --udp and no --json, and at most 16000 slaves\n' >&2
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

if [ "$udp" = no ] && [ "$EUID" -ne 0 ]; then
    printf 'demo: network namespaces and AF_XDP need root: sudo scripts/demo.sh, or without root scripts/demo.sh --udp\n' >&2
    exit 1
fi
if [ "$udp" = yes ]; then
    where="over UDP on 127.0.0.1" needs="--user"
    else_installed="" promise="No root, no other network than the loopback, nothing left behind but target/."
else
    where="in network namespaces joined by veth; the gateways on NIC queues (AF_XDP)" needs="--demo"
    else_installed="iproute2, ethtool, " promise="Nothing outside those namespaces is touched, nothing left behind but target/."
fi
if [ "$hostile" = yes ]; then
    # A kernel's socket is where a slow link can stop the others.
    where="in network namespaces joined by veth; the gateways on UDP sockets; beside them four attackers"
fi
cat <<TEXT
demo: a master, 2 gateways and $slaves slaves (in $farms processes), all on this machine, $where.
demo: installs a C compiler, clang, the libbpf headers, ${else_installed}and Rust if they are missing (scripts/setup.sh $needs says
demo: what); builds three programs into target/ (2 to 4 minutes on 2 cores, the first time). Then it runs for about
demo: $((seconds + 30)) seconds. $promise
TEXT

scripts/setup.sh "$needs"
say "building"
cargo build --locked --quiet --profile fast -p gvm-dp -p gvm-pktgen -p gvm-bench --bins
bin="${CARGO_TARGET_DIR:-target}/fast"

work=$(mktemp -d "${TMPDIR:-/tmp}/gvm-demo.XXXXXX")
# Machines are named after this process so that two demos do not meet.
title=demo net="gvmdemo$$" mtu=1500
queues=$(nproc)
[ "$queues" -le 2 ] || queues=2
# 30 seconds.
patience=600
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

end() {
    end_started
    [ "$udp" = yes ] || remove_machines master gateway-0 gateway-1 slaves slow
    if [ "$keep" = yes ]; then
        say "logs are in $work"
    else
        rm -rf "$work"
    fi
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ "$udp" = yes ]; then
    # All machines are this one.
    on() {
        shift
        exec "$@"
    }
fi

# The master's machine, two gateways' and the slaves'.
build_network() {
    local n
    make_machines master gateway-0 gateway-1 slaves
    for n in 0 1; do
        cable master "gw$n" "10.77.$n.2" "gateway-$n" masters "10.77.$n.1"
        cable slaves "gw$n" "10.77.1$n.2" "gateway-$n" slaves "10.77.1$n.1"
    done
    # Past the gateways, for comparison.
    cable master direct 10.77.9.2 slaves direct 10.77.9.1
}

# gateway N SIDE: the address of a gateway as the master or the slaves see it.
gateway_at() {
    if [ "$udp" = yes ]; then
        address "gateway-$1"
    elif [ "$2" = master ]; then
        echo "10.77.$1.1:9999"
    else
        echo "10.77.1$1.1:9999"
    fi
}

# The address that a process's socket got, from its line about port 0.
address() { sed -n 's/.*udp:\([0-9.]*:[0-9]*\).*/\1/p' "$work/$1.log" | head -n 1; }
has_address() { [ -n "$(address "$1")" ]; }

# One number out of the membership of a process.
member() {
    stats "$1" 2>/dev/null | tr -d ' \n' | sed -n "s/.*\"membership\":{[^}]*\"$2\":\([0-9]*\).*/\1/p"
}
has_members() { [ "$(member "$1" "$2")" = "$3" ]; }

[ "$udp" = yes ] || build_network
[ "$hostile" = no ] || {
    make_machines slow
    cable slow gw0 10.77.8.2 gateway-0 slow 10.77.8.1
    ip netns exec "$net-gateway-0" tc qdisc add dev slow root tbf rate 10mbit burst 32kbit limit 20000000
}

# The table says what the machine did since.
cp /proc/stat /proc/loadavg "$work/"
say "starting 2 gateways (hold $hold) with a cluster key of their own"
"$bin/gvm-dp" key new --out "$work/cluster.key" >/dev/null
gateways=()
if [ "$udp" = yes ]; then
    ports=(--port udp:127.0.0.1:0)
elif [ "$hostile" = yes ]; then
    ports=(--port udp:0.0.0.0:9999)
else
    ports=(--lcores "0-$((queues - 1))" --port xdp:masters --port xdp:slaves)
fi
for n in 0 1; do
    start "gateway-$n" "gateway-$n" "$bin/gvm-dp" --name "gateway-$n" "${ports[@]}" --shards "$n" --hold "$hold" \
        --key-file "$work/cluster.key"
    gateways+=("$pid")
done
for n in 0 1; do
    if [ "$udp" = yes ]; then
        await "gateway-$n" "${gateways[$n]}" has_address "gateway-$n"
    else
        await "gateway-$n" "${gateways[$n]}" has_members "gateway-$n" masters 0
    fi
done

if [ "$udp" = yes ]; then
    socket=udp:127.0.0.1:0
else
    socket=udp:0.0.0.0:0
fi
[ "$hostile" = yes ] || say "starting the master: it waits until it knows $slaves slaves"
master=(master "$bin/gvm-pktgen" --gateway "$(gateway_at 0 master)" --gateway "$(gateway_at 1 master)" --id 1
    --port "$socket" --slaves "$first-$last" --cluster-key-file "$work/cluster.key" --size "$payload" --allow-loss)
if [ "$hostile" = yes ]; then
    # shellcheck source=scripts/demo-hostile.sh
    . scripts/demo-hostile.sh
    exit
fi
# Each record in a packet of its own: small packets are what a gateway is for.
start load "${master[@]}" --timeout 30 --down echo --distribution "burst:$burst" --window "$window" --pack 1 \
    --seconds "$seconds" --json "$work/load.json"
load=$pid
for n in 0 1; do
    await "registration of the master" "$load" has_members "gateway-$n" masters 1
done

say "starting $farms farms of $each slaves; each also sends the master $upward_rate records a second of its own"
begun=$(date +%s%N)
farm_pids=()
for ((n = 0; n < farms; n++)); do
    gateway=$((n * 2 / farms))
    start "farm-$n" slaves "$bin/gvm-dp" slave --name "farm-$n" --port "$socket" --gateway "$(gateway_at $gateway slaves)" \
        --id $((first + n * each)) --count "$each" --cluster-key-file "$work/cluster.key" \
        --traffic "master=1,payload=$payload,rate=$upward_rate,records=$upward_records"
    farm_pids+=("$pid")
done
for n in 0 1; do
    await "registration of the slaves" "${gateways[$n]}" has_members "gateway-$n" registered "$half"
done
registered=$((($(date +%s%N) - begun) / 1000000))
say "$slaves slaves are registered after $registered ms; the master sends bursts of $burst records to each in turn"

await_end "$load" "the master"
for n in 0 1; do
    stats "gateway-$n" >"$work/gateway-$n.json"
done

say "measuring round trips at 1,000 records a second, through the gateways and without them"
gentle=(--down echo --distribution uniform --rate 1000 --pack 1 --seconds 3 --quiet)
start through "${master[@]}" "${gentle[@]}" --timeout 30 --json "$work/through.json"
await_end "$pid" "the master"

# A farm whose gateway is the master's own address: it answers there, and nobody is between.
if [ "$udp" = yes ]; then
    free=$(address load)
    alone=udp:127.0.0.1:0
else
    free=10.77.9.2:7001
    alone=udp:10.77.9.1:7002
fi
start alone slaves "$bin/gvm-dp" slave --name alone --port "$alone" --gateway "$free" --id 0 --count "$each"
await "the farm without a gateway" "$pid" has_address alone
start direct master "$bin/gvm-pktgen" --direct "$(address alone)" --port "udp:$free" --slaves "0-$((each - 1))" \
    --size "$payload" --allow-loss "${gentle[@]}" --json "$work/direct.json"
await_end "$pid" "the master"

table=("$bin/demo-table" --slaves "$slaves" --registered-ms "$registered" --load "$work/load.json"
    --through "$work/through.json" --direct "$work/direct.json"
    --gateway "$work/gateway-0.json" --gateway "$work/gateway-1.json" --before "$work")
[ -z "$json" ] || table+=(--json "$json")
echo
"${table[@]}"
echo
# shellcheck source=scripts/demo-pages.sh
. scripts/demo-pages.sh
