// Both ends of a benchmark: makes packets, and counts packets, in the kernel.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "steer_gen.h"

// One record per datagram, without a VLAN tag.
#define HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))
// Id and number are in the record's header, and their complements are in its payload, at a distance that a checksum
// adds up: so each pair changes nothing in the checksum, whatever the number.
#define NUMBER (RECORD_SLAVE_ID + 4)
#define ID_COMPLEMENT (RECORD_LEN + 3)
#define NUMBER_COMPLEMENT (RECORD_LEN + 7)
#define SCATTER 4099
// In one datagram of this many, every record is checked.
#define SAMPLE 64
// As many of the smallest records as an Ethernet packet holds.
#define MOST_RECORDS 64

const volatile __u32 out_ifindex;
const volatile __u32 id_mask;
const volatile __u32 run_shift;
const volatile __u32 record_len = RECORD_LEN;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} offered SEC(".maps");

// In the order of `Received` in generate.rs.
struct received {
    __u64 datagrams;
    __u64 records;
    __u64 sampled;
    __u64 bad;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct received);
} received SEC(".maps");

#define FIELD(at) (*(__u32 *)(data + HEADERS + (at)))

// Makes the next packet from the present one, and sends it.
SEC("xdp")
int generate(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;
    __u32 zero = 0;
    __u64 *number = bpf_map_lookup_elem(&offered, &zero);

    if (!number || data + HEADERS + NUMBER_COMPLEMENT + sizeof(__u32) > end)
        return XDP_DROP;
    __u32 n = (*number)++;
    __u32 id = ((n >> run_shift) * SCATTER) & id_mask;
    FIELD(RECORD_SLAVE_ID) = id;
    FIELD(ID_COMPLEMENT) = ~id;
    FIELD(NUMBER) = n;
    FIELD(NUMBER_COMPLEMENT) = ~n;
    return bpf_redirect(out_ifindex, 0);
}

struct record {
    __u32 magic;
    __u32 id;
    __u32 number;
    __u32 payload_len;
    __u32 id_complement;
    __u32 number_complement;
};

// Whether the record at an offset is one that `generate` made, for the slave of the first.
static __always_inline int is_good(struct __sk_buff *skb, __u32 at, struct record *r, __u32 id)
{
    if (bpf_skb_load_bytes(skb, at + RECORD_MAGIC, &r->magic, 4) || bpf_skb_load_bytes(skb, at + RECORD_SLAVE_ID, &r->id, 4) ||
        bpf_skb_load_bytes(skb, at + NUMBER, &r->number, 4) ||
        bpf_skb_load_bytes(skb, at + RECORD_PAYLOAD_LEN, &r->payload_len, 4) ||
        bpf_skb_load_bytes(skb, at + ID_COMPLEMENT, &r->id_complement, 4) ||
        bpf_skb_load_bytes(skb, at + NUMBER_COMPLEMENT, &r->number_complement, 4))
        return 0;
    return r->magic == GVM_MAGIC && r->payload_len == record_len - RECORD_LEN && r->id == id &&
           r->id_complement == ~r->id && r->number_complement == ~r->number;
}

// Counts arriving packets, and drops them before the network stack.
SEC("classifier")
int count(struct __sk_buff *skb)
{
    __u32 zero = 0;
    struct received *all = bpf_map_lookup_elem(&received, &zero);
    struct record r;
    __u16 port;
    __u32 len = skb->len - HEADERS, id;

    if (!all || skb->len <= HEADERS || skb->protocol != bpf_htons(ETH_P_IP))
        return TC_ACT_SHOT;
    if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + sizeof(struct iphdr) + 2, &port, 2) ||
        port != bpf_htons(GVM_GATEWAY_PORT))
        return TC_ACT_SHOT;
    ++all->datagrams;
    all->records += len / record_len;
    if (len % record_len)
        ++all->bad;
    if (all->datagrams % SAMPLE)
        return TC_ACT_SHOT;
    ++all->sampled;
    if (bpf_skb_load_bytes(skb, HEADERS + RECORD_SLAVE_ID, &id, 4))
        return TC_ACT_SHOT;
    for (__u32 i = 0; i < MOST_RECORDS && i < len / record_len; i++) {
        if (!is_good(skb, HEADERS + i * record_len, &r, id)) {
            ++all->bad;
            break;
        }
    }
    return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Apache-2.0";
