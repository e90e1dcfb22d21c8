# shellcheck shell=bash disable=SC2154
# The part of scripts/demo.sh that pages: it is read by that script, whose functions and variables it uses.
#
# A master writes and reads memory of eight slaves, four behind each gateway, each in a process and a failure domain of its
# own. In the middle one gateway is killed and started again.

slaves_that_lend=8
pages_socket="$work/run/pages.socket"

say "stopping the farms; starting $slaves_that_lend slaves that lend 64 MiB each, and a master for applications"
for pid in "${farm_pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
done
for ((n = 0; n < slaves_that_lend; n++)); do
    gateway=$((n % 2))
    start "lender-$n" slaves "$bin/gvm-dp" slave --name "lender-$n" --port "$socket" \
        --gateway "$(gateway_at $gateway slaves)" --id $((gateway * shard + 100 + n)) --domain $((n + 1)) --memory 64M \
        --memory-pages ordinary --keep-free 0 --frames 4096 --cluster-key-file "$work/cluster.key"
done
start pages master "$bin/gvm-dp" master --name pages --id 5 --port "$socket" --gateway "$(gateway_at 0 master)" \
    --gateway "$(gateway_at 1 master)" --socket "$pages_socket" --cluster-key-file "$work/cluster.key"
pages=$pid

do_lend() { [ "$(lenders "gateway-$1" 64)" -eq $((slaves_that_lend / 2)) ]; }
for n in 0 1; do
    await "memory of the slaves" "${gateways[$n]}" do_lend "$n"
done
await "the slaves at the master" "$pages" is_at_least pages master slaves_known "$slaves_that_lend"

# legs: bytes that each leg of each gateway carried since the gateway started, as a line for each gateway.
legs() {
    local gateway=$1 down_in up_out down_out up_in
    down_in=$(counter "$gateway" down bytes_in) up_in=$(counter "$gateway" up bytes_in)
    down_out=$(counter "$gateway" outbox down_bytes_out) up_out=$(counter "$gateway" outbox up_bytes_out)
    printf '%s %s %s %s' "${down_in:-0}" "${up_out:-0}" "${down_out:-0}" "${up_in:-0}"
}
legs_before=$(legs gateway-0)

say "writing 256 MiB, verifying every byte, reading at random for 3 s; gateway 1 is killed and started again meanwhile"
start bench master "$bin/gvm-dp" page bench --socket "$pages_socket" --size 256M --duration 3s
bench=$pid
await "the first half of the pages" "$bench" is_at_least pages master requests_done 32768
kill_at_once "${gateways[1]}"
if [ "$udp" = yes ]; then
    ports=(--port "udp:$(address gateway-1)")
fi
start gateway-1-again gateway-1 "$bin/gvm-dp" --name gateway-1 "${ports[@]}" --shards 1 --hold "$hold" \
    --key-file "$work/cluster.key"
await_end "$bench" "the application that pages"
legs_of_0=$(legs gateway-0) legs_of_1=$(legs gateway-1)

echo
cat "$work/bench.log"
# mib BYTES: in MiB, with one digit.
mib() { printf '%d.%d' $(($1 >> 20)) $((($1 & 1048575) * 10 >> 20)); }
printf '\n%-44s %12s %12s\n' 'MiB that each leg carried' 'gateway 0' 'gateway 1*'
row() {
    local what=$1 place=$2 before of_0 of_1
    before=$(cut -d ' ' -f "$place" <<<"$legs_before") of_0=$(cut -d ' ' -f "$place" <<<"$legs_of_0")
    of_1=$(cut -d ' ' -f "$place" <<<"$legs_of_1")
    printf '%-44s %12s %12s\n' "$what" "$(mib $((of_0 - before)))" "$(mib "$of_1")"
}
row 'from the master' 1
row 'to the master' 2
row 'to the slaves' 3
row 'from the slaves' 4
echo '* since it was started again'
