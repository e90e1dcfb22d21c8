# shellcheck shell=bash disable=SC2154
# What scripts with processes in the background have in common: scripts/demo.sh and perf/pages.sh read it.
#
# A script sets these variables first:
#
#   title      its name, in front of its messages
#   work       a directory of its own: logs, and `run` for control sockets
#   bin        the directory of gvm-dp
#   net        the first part of the names of its network namespaces
#   queues     queues of each end of a veth
#   mtu        the largest packet of a veth
#   patience   how many times 50 ms await waits
#
# With the namespace NET-MACHINE for each machine that it names.

started=()
mkdir -m 700 "$work/run"
# Control sockets of this script alone, whoever runs it.
export XDG_RUNTIME_DIR="$work/run" GVM_DP_RUN_DIR="$work/run" GVM_DP_CONFIG_DIR="$work/run"

fail() {
    local log
    printf '%s: %s\n' "$title" "$*" >&2
    for log in "$work"/*.log; do
        [ -s "$log" ] && { printf -- '--- %s\n' "${log##*/}"; tail -n 5 "$log"; } >&2
    done
    exit 1
}

# Ends what was started, and waits for that.
end_started() {
    local pid
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in ${started[@]+"${started[@]}"}; do
        wait "$pid" 2>/dev/null || true
    done
    started=()
}

# make_machines NAME...: a namespace for each, with its loopback.
make_machines() {
    local machine
    for machine in "$@"; do
        ip netns add "$net-$machine"
        ip -n "$net-$machine" link set lo up
    done
}
# remove_machines NAME...: those of them that are there.
remove_machines() {
    local machine
    for machine in "$@"; do
        ip netns delete "$net-$machine" 2>/dev/null || true
    done
}

# cable MACHINE INTERFACE ADDRESS MACHINE INTERFACE ADDRESS: a veth pair.
cable() {
    local each=(mtu "$mtu" numrxqueues "$queues" numtxqueues "$queues")
    ip link add "$net-a" "${each[@]}" type veth peer name "$net-b" "${each[@]}"
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

# on MACHINE COMMAND...: there, instead of this shell.
on() {
    local machine=$1
    shift
    exec ip netns exec "$net-$machine" "$@"
}

# start NAME MACHINE COMMAND...: in the background, with a log; its pid is in $pid.
start() {
    local name=$1
    shift
    on "$@" >"$work/$name.log" 2>&1 </dev/null &
    pid=$!
    started+=("$pid")
}

# await WHAT PID COMMAND...: waits until the command says yes; fails when the process ends before, or after a long time.
await() {
    local what=$1 of=$2 tries=0
    shift 2
    until "$@"; do
        kill -0 "$of" 2>/dev/null || fail "$what: the process ended"
        tries=$((tries + 1))
        [ "$tries" -lt "$patience" ] || fail "$what: not within $((patience / 20)) seconds"
        sleep 0.05
    done
}

# await_end PID WHAT: waits for the end of a process, which must succeed.
await_end() {
    local pid=$1 what=$2 status=0
    wait "$pid" || status=$?
    [ "$status" -eq 0 ] || fail "$what failed with exit code $status"
}

# kill_at_once PID: as a crash, without a word of the shell.
kill_at_once() {
    disown "$1"
    kill -KILL "$1"
    while kill -0 "$1" 2>/dev/null; do
        sleep 0.02
    done
}

stats() { "$bin/gvm-dp" stats --json --name "$1"; }
# is_up NAME: whether that process answers.
is_up() { stats "$1" >/dev/null 2>&1; }
# counter NAME SET COUNTER: one counter of a process, of all its lcores.
counter() {
    # Behind the totals stand the same names for each lcore.
    stats "$1" 2>/dev/null | tr -d ' \n' | sed 's/"lcores":.*//' | sed -n "s/.*\"total\":{.*\"$2\":{[^}]*\"$3\":\([0-9]*\).*/\1/p"
}
# is_at_least NAME SET COUNTER NUMBER
is_at_least() {
    local found
    found=$(counter "$1" "$2" "$3")
    [ "${found:-0}" -ge "$4" ]
}
# lenders GATEWAY MIB: how many slaves lend so much through that gateway. A slave says how much it lends when it has looked
# at its host's memory, a moment after it has registered.
lenders() {
    local pages=$(($2 * 256))
    "$bin/gvm-dp" routes --json --name "$1" | tr -d ' \n' | grep -o "\"pages_free\":$pages" | wc -l
}
