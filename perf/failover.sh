#!/usr/bin/env bash
# Two gateways on loopback serve the same slaves, under load: nothing happens, the first drains, the first is killed.
# Prints, for each, the records that were lost and the longest time that a slave was without an answer. Then one gateway
# alone drains and is started anew, as an upgrade does it: the time from its start until all slaves are registered.
#
#   perf/failover.sh DIRECTORY [--rate PPS] [--slaves N] [--quick]
#
# DIRECTORY has gvm-dp and gvm-pktgen. `perf/run.sh failover` builds them, runs this several times, and says on which
# machine and how far the trials lie apart. --quick is for checks: few slaves, short loads, the same trials.
#
# Each trial is a run of its own, a few seconds apart on the same machine. Heartbeats are every second, as by default.
# The last lines are: name=... value=... unit=... ratio=...  (ratio: the longest gap of the kill to that of nothing;
# of the time until a gateway is whole again, to a heartbeat interval)
set -euo pipefail

die() { printf 'failover: %s\n' "$*" >&2; exit 1; }

directory=${1:?"usage: perf/failover.sh DIRECTORY [--rate PPS] [--slaves N] [--quick]"}
shift
rate=20000
slaves=1000
# How long a load lasts, and after what time something happens to the first gateway.
seconds=10
event=4
while [ $# -gt 0 ]; do
    case $1 in
        --rate) rate=${2:?--rate PPS}; shift ;;
        --slaves) slaves=${2:?--slaves N}; shift ;;
        --quick) rate=1000 slaves=100 seconds=4 event=0.5 ;;
        *) die "unknown option $1" ;;
    esac
    shift
done

work=$(mktemp -d)
export GVM_DP_RUN_DIR=$work
pids=()

end() {
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    pids=()
}
trap 'end; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Two ports that are seldom used. Ports of the kernel's choice would differ between gateway and nodes.
first=127.0.0.1:39991
second=127.0.0.1:39992

background() {
    "$@" >/dev/null 2>>"$work/log" &
    pids+=($!)
}

# A number from the statistics of a process: its name, and a counter.
count() {
    "$directory/gvm-dp" stats --json --name "$1" 2>/dev/null | grep -o "\"$2\": *[0-9]*" | grep -o '[0-9]*$' | head -1
}

wait_for() {
    local tries=0
    until [ "$(count "$1" "$2" || true)" = "$3" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || { tail -20 "$work/log" >&2; die "$2 of $1 does not become $3"; }
        sleep 0.1
    done
}

# The number behind the N-th occurrence of a key in a report: echo comes before pattern.
field() { grep -o "\"$2\": *[0-9]*" "$1" | sed -n "$3s/.*[^0-9]//p"; }

trial() {
    local name=$1 report="$work/$1.json" status=0
    background "$directory/gvm-dp" --name first --port "udp:$first"
    local victim=${pids[-1]}
    background "$directory/gvm-dp" --name second --port "udp:$second"
    background "$directory/gvm-dp" slave --name farm --gateway "$first" --gateway "$second" --id 0 --count "$slaves" \
        --port udp:127.0.0.1:0 --traffic "master=1,payload=64,rate=$rate"
    wait_for farm registrations $((2 * slaves))
    "$directory/gvm-pktgen" --gateway "$first" --gateway "$second" --count "$slaves" --rate "$rate" \
        --seconds "$seconds" --allow-loss --quiet --json "$report" >/dev/null 2>>"$work/log" &
    local load=$!
    sleep "$event"
    case $name in
        drain) "$directory/gvm-dp" drain --name first >/dev/null ;;
        kill)
            kill -KILL "$victim"
            wait "$victim" 2>/dev/null || true
            ;;
    esac
    wait "$load" || status=$?
    [ "$status" -eq 0 ] || { tail -20 "$work/log" >&2; die "the load of trial $name ended with $status"; }
    end
    records=$(($(field "$report" records 1) + $(field "$report" ok 2) + $(field "$report" lost 2)))
    lost=$(($(field "$report" lost 1) + $(field "$report" lost 2)))
    echo_gap=$(field "$report" longest_gap_ns 1)
    up_gap=$(field "$report" longest_gap_ns 2)
    printf '%-12s %12s %10s %14.3f %14.3f\n' "$name" "$records" "$lost" \
        "$(awk -v ns="$echo_gap" 'BEGIN { print ns / 1e9 }')" "$(awk -v ns="$up_gap" 'BEGIN { print ns / 1e9 }')"
}

# A gateway alone, replaced as an upgrade replaces it. The gateway's own clock gives the time. That clock begins when
# the gateway has its name.
restart() {
    local name=first
    background "$directory/gvm-dp" --name "$name" --port "udp:$first"
    background "$directory/gvm-dp" slave --name farm --gateway "$first" --id 0 --count "$slaves" --port udp:127.0.0.1:0
    wait_for farm registrations "$slaves"
    "$directory/gvm-dp" drain --name "$name" >/dev/null
    background "$directory/gvm-dp" --name "$name" --port "udp:$first"
    local registered='' stats
    until [ "$registered" = "$slaves" ]; do
        stats=$("$directory/gvm-dp" stats --json --name "$name" 2>/dev/null) || continue
        registered=$(grep -o '"registered":[0-9]*' <<<"$stats" | grep -o '[0-9]*$')
    done
    whole=$(grep -o '"uptime_seconds":[0-9.]*' <<<"$stats" | grep -o '[0-9.]*$')
    end
}

printf '%s slaves, %s records/s down and as many up, %s s; longest gaps of any slave in seconds\n' "$slaves" "$rate" "$seconds"
printf '%-12s %12s %10s %14s %14s\n' trial records lost 'answers' 'own records'
trial undisturbed
still=$echo_gap
still_lost=$lost
trial drain
drain_lost=$lost
trial kill
restart
printf 'restart: all %s slaves registered %.3f s after the start, at a heartbeat of 1 s\n' "$slaves" "$whole"
longest=$((echo_gap > up_gap ? echo_gap : up_gap))
printf 'name=failover-drain-lost value=%s unit=records ratio=%s\n' "$drain_lost" \
    "$(awk -v a="$drain_lost" -v b="$still_lost" 'BEGIN { printf "%.3f", (b > 0 ? a / b : (a > 0 ? a : 1)) }')"
printf 'name=failover-whole-again value=%.3f unit=s ratio=%.3f\n' "$whole" "$whole"
printf 'name=failover-kill-outage value=%s unit=s ratio=%s\n' "$(awk -v ns="$longest" 'BEGIN { printf "%.3f", ns / 1e9 }')" \
    "$(awk -v a="$longest" -v b="$still" 'BEGIN { printf "%.1f", (b > 0 ? a / b : 0) }')"
