// Decides at the first touch which packets are ours: UDP over IPv4 to the gateway's port, untagged or with one 802.1Q
// tag, goes to the AF_XDP socket of the queue that it arrived on. All else belongs to the kernel.
//
// Numbers come from steer_gen.h, which build.rs writes from gvm-wire.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "steer_gen.h"

// Set by the loader before the program is loaded.
const volatile __u16 udp_port = GVM_GATEWAY_PORT;

// The AF_XDP socket of each receive queue.
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, GVM_MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");

// Packets by verdict, one row for each CPU.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, VERDICTS);
    __type(key, __u32);
    __type(value, __u64);
} verdicts SEC(".maps");

static __always_inline int count(__u32 verdict, int action)
{
    __u64 *packets = bpf_map_lookup_elem(&verdicts, &verdict);
    if (packets)
        ++*packets;
    return action;
}

static __always_inline __u16 be16(const __u8 *at)
{
    return bpf_ntohs(*(const __u16 *)at);
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
    const __u8 *at = (const __u8 *)(long)ctx->data;
    const __u8 *end = (const __u8 *)(long)ctx->data_end;

    if (at + ETHERNET_LEN > end)
        return count(VERDICT_PASS_TRUNCATED, XDP_PASS);
    __u16 type = be16(at + ETHERNET_TYPE_AT);
    at += ETHERNET_LEN;
    if (type == ETHERNET_DOT1Q) {
        if (at + ETHERNET_TAG_LEN > end)
            return count(VERDICT_PASS_TRUNCATED, XDP_PASS);
        type = be16(at + ETHERNET_TAG_LEN - 2);
        at += ETHERNET_TAG_LEN;
    }
    if (type != ETHERNET_IPV4)
        return count(VERDICT_PASS_ETHERTYPE, XDP_PASS);

    if (at + IPV4_LEN > end)
        return count(VERDICT_PASS_TRUNCATED, XDP_PASS);
    __u32 ip_len = (at[0] & 0xf) * 4;
    if (at[0] >> 4 != 4 || ip_len < IPV4_LEN || at[9] != IPV4_UDP)
        return count(VERDICT_PASS_PROTOCOL, XDP_PASS);
    // More fragments, or an offset; the bit above them is DF.
    if (be16(at + 6) & 0x3fff)
        return count(VERDICT_PASS_FRAGMENT, XDP_PASS);
    at += ip_len;

    if (at + UDP_LEN > end)
        return count(VERDICT_PASS_TRUNCATED, XDP_PASS);
    if (be16(at + 2) != udp_port)
        return count(VERDICT_PASS_PORT, XDP_PASS);

    // The flags are what is returned when the queue has no socket.
    int action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);
    return count(action == XDP_REDIRECT ? VERDICT_REDIRECT : VERDICT_DROP_NO_SOCKET, action);
}

char LICENSE[] SEC("license") = "Apache-2.0";
