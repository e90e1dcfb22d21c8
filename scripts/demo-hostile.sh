# shellcheck shell=bash disable=SC2154
# The part of scripts/demo.sh that attacks: it is read by that script, whose functions and variables it uses.
#
# Attackers run with the lowest priority: on a network they have processors of their own, and here they would take those of
# the honest processes.

attack="$bin/demo-attack"
flooder_id=$((first - 1))
slow_id=$((first - 2))
patience=$((seconds + 8))

say "starting $farms farms of $each honest slaves"
for ((n = 0; n < farms; n++)); do
    gateway=$((n * 2 / farms))
    start "farm-$n" slaves "$bin/gvm-dp" slave --name "farm-$n" --port "$socket" --gateway "$(gateway_at $gateway slaves)" \
        --id $((first + n * each)) --count "$each" --cluster-key-file "$work/cluster.key"
done
for n in 0 1; do
    await "registration of the slaves" "${gateways[$n]}" has_members "gateway-$n" registered "$half"
done

honest=("${master[@]}" --timeout 30 --down echo --distribution uniform --rate 2000 --pack 1 --quiet)
say "measuring the honest slaves alone, for $seconds seconds"
start alone "${honest[@]}" --seconds "$seconds" --json "$work/alone.json"
await_end "$pid" "the master"

say "recording link control, to send it again"
start capture gateway-0 "$bin/gvm-dp" capture -w "$work/link.pcapng" --name gateway-0 --filter link --duration 3s
await_end "$pid" "the capture"
for n in 0 1; do
    await "the master's leave" "${gateways[$n]}" has_members "gateway-$n" masters 0
done

say "starting a slave that will flood its master, and one behind 10 Mbit/s"
start flooder slaves nice -n 19 "$bin/gvm-dp" slave --name flooder --port "$socket" --gateway "$(gateway_at 0 slaves)" \
    --id "$flooder_id" --cluster-key-file "$work/cluster.key" --traffic "master=1,payload=64,rate=200000"
start slow slow nice -n 19 "$bin/gvm-dp" slave --name slow --port "$socket" --gateway 10.77.8.1:9999 \
    --id "$slow_id" --cluster-key-file "$work/cluster.key"
await "registration of the attackers" "${gateways[0]}" has_members gateway-0 registered $((half + 2))
for n in 0 1; do
    stats "gateway-$n" >"$work/before-$n.json"
done

say "attacking for $patience seconds, and measuring the honest slaves meanwhile, for $seconds seconds"
start fill-slow master nice -n 19 "$bin/gvm-pktgen" --gateway "$(gateway_at 0 master)" --id 2 --port "$socket" \
    --slaves "$slow_id-$slow_id" --cluster-key-file "$work/cluster.key" --size 1400 --allow-loss --timeout 30 --down echo \
    --rate 3000 --pack 1 --seconds "$patience" --quiet --json "$work/slow.json"
fill_slow=$pid
start replay slaves nice -n 19 "$attack" replay --gateway "$(gateway_at 0 slaves)" --capture "$work/link.pcapng" \
    --seconds "$patience" --json "$work/replay.json"
replay=$pid
start herd master nice -n 19 "$attack" herd --gateway "$(gateway_at 0 master)" --id 3 \
    --cluster-key-file "$work/cluster.key" --rate 20000 --seconds "$patience" --json "$work/herd.json"
herd=$pid
start attacked "${honest[@]}" --seconds "$seconds" --json "$work/attacked.json"
await_end "$pid" "the honest master"
for n in 0 1; do
    stats "gateway-$n" >"$work/after-$n.json"
done
stats flooder >"$work/flooder.json"
await_end "$fill_slow" "the master that fills the slow link"
await_end "$replay" "the replayer"
await_end "$herd" "the member that floods the registrar"

echo
"$attack" verdict --slaves "$slaves" --alone "$work/alone.json" --attacked "$work/attacked.json" \
    --before "$work/before-0.json" --before "$work/before-1.json" --after "$work/after-0.json" --after "$work/after-1.json" \
    --flooder "$work/flooder.json" --slow "$work/slow.json" --replay "$work/replay.json" --herd "$work/herd.json"
