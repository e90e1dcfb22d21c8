// Decides what happens to a packet, before any other code touches it: which AF_XDP socket or neighbour gets it, whether
// it is dropped, or whether it stays with the kernel. The verdicts and their order are in verdict.rs.
//
// Numbers come from steer_gen.h, which build.rs writes from gvm-wire. The fields of a record are read with one load
// each. The pointer to the IP header has a variable offset instead of two constant ones. So the verifier checks the
// program once, and not once with a tag and once without.
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "steer_gen.h"

// Set by the loader before the program is loaded.
const volatile __u16 udp_port = GVM_GATEWAY_PORT;
// How many ports in a row are ours, from that one on.
const volatile __u32 udp_ports = 1;
const volatile __u32 claimed_port = GVM_NO_PORT;
const volatile __u32 gw_bits = 0;
// A bit for each VLAN id whose packets are accepted; id 0 means no tag.
const volatile __u32 vlans[GVM_VLAN_WORDS] = {1};

// Set by the loader at any time. Each address of ours is in the slot of its hash, which it shares with no other
// address. A slot without an address has a value whose hash is another slot.
struct {
    // As the first 8 bytes of a packet, without the last 2 of them and shifted up.
    __u64 mac;
    __u32 multiplier;
    __u32 addresses[1 << GVM_ADDRESS_BITS];
    __u32 unused;
} local;
_Static_assert(sizeof(local) == GVM_LOCAL_WORDS * sizeof(__u32), "as the loader writes it");

// The AF_XDP socket of each receive queue.
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, GVM_MAX_QUEUES);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");

// The gateway of each shard: GVM_SHARD_NONE, GVM_SHARD_MINE, or GVM_SHARD_NEIGHBORS plus the slot of a neighbour. The
// loader sizes it.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} shards SEC(".maps");

struct neighbor {
    __u32 ifindex;
    // As they are in a packet; the destination and a part of the source, then the rest of the source.
    __u32 ip;
    __u64 mac_head;
    __u32 mac_tail;
    // The sum of the two halves of the address.
    __u32 ip_sum;
};
_Static_assert(sizeof(struct neighbor) == GVM_NEIGHBOR_WORDS * sizeof(__u32), "as the loader writes it");

// How to reach each neighbour, and the port towards it.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, GVM_NEIGHBOR_SLOTS);
    __type(key, __u32);
    __type(value, struct neighbor);
} neighbors SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, GVM_NEIGHBOR_SLOTS);
    __type(key, __u32);
    __type(value, struct bpf_devmap_val);
} ports SEC(".maps");

// Packets by verdict, one row for each CPU.
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, VERDICTS);
    __type(key, __u32);
    __type(value, __u64);
} verdicts SEC(".maps");

// One field of a header, at any alignment.
#define FIELD(type, at, offset) (*(const type *)((at) + (offset)))

enum { OFFSET_MASK = 0x1fff, MORE_FRAGMENTS = 0x2000 };

// Whether the sum of the header's words is zero in one's complement, that is a multiple of 0xffff. An odd number d
// divides n exactly if n times the inverse of d is at most the largest number divided by d. The inverse of 0xffff is
// -ONES, and the quotient is ONES.
static __always_inline int is_intact(const struct iphdr *ip)
{
    const __u64 ONES = 0x0001000100010001;
    const __u32 *words = (const __u32 *)ip;
    __u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];
    return -(sum * ONES) <= ONES;
}

// RFC 1624, equation 3. `gain`, at most 18 bits, is the increase of the sum of the words. If the sum is zero, the
// result is `zero`, 0 or 0xffff; both mean the same, except for UDP.
static __always_inline __u16 adjusted(__u16 checksum, __u32 gain, __u16 zero)
{
    __u32 sum = (__u16)~checksum + gain;
    sum = (sum >> 16) + (sum & 0xffff);
    return ~(sum + ((sum + (zero & 1)) >> 16));
}

static __always_inline int is_ours(__u32 address)
{
    return local.addresses[address * local.multiplier >> (32 - GVM_ADDRESS_BITS)] == address;
}

// The VLAN of a packet: 0 without a tag, and for a tag with only a priority.
static __always_inline __u32 vlan_of(const void *data, __u64 is_tagged)
{
    // Without a tag these bytes are something else, and the mask is zero.
    return bpf_ntohs(FIELD(__u16, data, ETHERNET_LEN)) & 0xfff & -(__u32)is_tagged;
}

static __always_inline int is_taken(__u32 vlan)
{
    // The compiler moves the mask of twelve bits before the byte swap; verifiers before Linux 6.2 lose it there.
    __u32 word = vlan >> 5;
    barrier_var(word);
    return vlans[word & (GVM_VLAN_WORDS - 1)] >> (vlan & 31) & 1;
}

// Whether another host on a network can have sent this: the rules of source.rs.
static __always_inline int is_possible(const void *data, const struct iphdr *ip)
{
    const __u64 GROUP = 1 << 16;
    __u64 mac = FIELD(__u64, data, ETHERNET_SOURCE) << 16;
    __u32 first = ip->saddr & 0xff;
    return !(mac & GROUP) && mac && mac != local.mac && first - 1 < 223 && first != 127 && !is_ours(ip->saddr);
}

// Makes a router's changes, and changes the destination.
static __always_inline enum verdict to_neighbor(struct xdp_md *ctx, void *data, struct iphdr *ip, __u32 slot)
{
    const struct neighbor *to = bpf_map_lookup_elem(&neighbors, &slot);
    if (!to)
        return VERDICT_DROP_NO_PORT;
    if (to->ifindex == ctx->ingress_ifindex)
        return VERDICT_DROP_HAIRPIN;
    if (ip->ttl <= 1)
        return VERDICT_DROP_TTL;
    if (bpf_redirect_map(&ports, slot, XDP_DROP) != XDP_REDIRECT)
        return VERDICT_DROP_NO_PORT;

    __u32 from = ~ip->daddr;
    __u32 gain = to->ip_sum + (from >> 16) + (from & 0xffff);
    // The TTL is the low byte of a little-endian word: a decrement adds the complement of one to the sum.
    ip->check = adjusted(ip->check, gain + 0xfffe, 0);
    ip->ttl -= 1;
    ip->daddr = to->ip;
    *(__u64 *)data = to->mac_head;
    *(__u32 *)(data + 8) = to->mac_tail;
    struct udphdr *udp = (struct udphdr *)(ip + 1);
    // Zero means that there is no checksum, and stays.
    if (udp->check)
        udp->check = adjusted(udp->check, gain, 0xffff);
    return VERDICT_REDIRECT_NEIGHBOR;
}

// Judges a datagram to our port by its first record. `ip_len` bytes from the IP header on are in the packet.
static __always_inline enum verdict judge_record(struct xdp_md *ctx, void *data, struct iphdr *ip, __u32 ip_len,
                                                 const void *end)
{
    const struct udphdr *udp = (const void *)(ip + 1);
    const void *record = udp + 1;
    __u32 udp_len = bpf_ntohs(udp->len);
    if (record + RECORD_LEN > end || ip_len < sizeof(*ip) + udp_len || udp_len < sizeof(*udp) + RECORD_LEN)
        return VERDICT_DROP_TRUNCATED;
    if (FIELD(__u32, record, RECORD_MAGIC) != GVM_MAGIC)
        return VERDICT_DROP_MAGIC;
    if (FIELD(__u32, record, RECORD_PAYLOAD_LEN) > udp_len - sizeof(*udp) - RECORD_LEN)
        return VERDICT_DROP_LENGTH;

    // Link control ends at the gateway that it was sent to, whatever slave it names.
    __u32 msg_type = FIELD(__u16, record, RECORD_MSG_TYPE);
    if (msg_type >= LINK_CONTROL_FIRST && msg_type <= LINK_CONTROL_LAST)
        return VERDICT_REDIRECT_CONTROL;

    // If an id is out of range, so is its shard.
    __u32 shard = FIELD(__u32, record, RECORD_SLAVE_ID) >> gw_bits;
    const __u32 *server = bpf_map_lookup_elem(&shards, &shard);
    if (!server)
        return VERDICT_DROP_SLAVE_ID;
    if (*server == GVM_SHARD_NONE)
        return VERDICT_DROP_FOREIGN_SHARD;
    if (*server == GVM_SHARD_MINE)
        return VERDICT_REDIRECT_CARGO;
    return to_neighbor(ctx, data, ip, *server - GVM_SHARD_NEIGHBORS);
}

// Whether a UDP port is one of ours.
static __always_inline int is_own(__u32 port)
{
    return port - udp_port < udp_ports;
}

// Judges a UDP packet to us whose header is not of the usual length.
static __always_inline enum verdict judge_options(const void *ip, __u8 version_ihl, const void *end)
{
    if (version_ihl < 0x45 || version_ihl > 0x4f)
        return VERDICT_PASS_PROTOCOL;
    const struct udphdr *udp = ip + (version_ihl & 0xf) * 4;
    if ((const void *)(udp + 1) > end)
        return VERDICT_PASS_TRUNCATED;
    return is_own(bpf_ntohs(udp->dest)) ? VERDICT_DROP_IP_OPTIONS : VERDICT_PASS_PORT;
}

static __always_inline enum verdict judge(struct xdp_md *ctx, int frags)
{
    void *data = (void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;

    if (data + ETHERNET_LEN + sizeof(struct iphdr) + sizeof(struct udphdr) > end)
        return VERDICT_PASS_TRUNCATED;
    // Zero minus one has its top bit set, and no other type minus one has: this is a test without a branch.
    __u64 is_tagged = FIELD(__u16, data, ETHERNET_TYPE) ^ bpf_htons(ETHERNET_DOT1Q);
    is_tagged = (is_tagged - 1) >> 63;
    barrier_var(is_tagged);
    __u64 tag_len = is_tagged * ETHERNET_TAG_LEN;
    void *l2 = data + tag_len;
    if (l2 + ETHERNET_LEN + sizeof(struct iphdr) + sizeof(struct udphdr) > end)
        return VERDICT_PASS_TRUNCATED;
    if (FIELD(__u16, l2, ETHERNET_TYPE) != bpf_htons(ETHERNET_IPV4))
        return VERDICT_PASS_ETHERTYPE;
    if (FIELD(__u64, data, 0) << 16 != local.mac)
        return VERDICT_PASS_MAC;

    struct iphdr *ip = l2 + ETHERNET_LEN;
    if (ip->protocol != IPV4_UDP)
        return VERDICT_PASS_PROTOCOL;
    if (!is_ours(ip->daddr))
        return VERDICT_PASS_ADDRESS;
    if (ip->frag_off & bpf_htons(OFFSET_MASK))
        return VERDICT_PASS_FRAGMENT;
    __u8 version_ihl = *(const __u8 *)ip;
    if (__builtin_expect(version_ihl != 0x45, 0))
        return judge_options(ip, version_ihl, end);
    const struct udphdr *udp = (const void *)(ip + 1);
    __u32 port = bpf_ntohs(udp->dest);
    if (__builtin_expect(!is_own(port) && port != claimed_port, 0))
        return VERDICT_PASS_PORT;

    // The packet is ours.
    if (!is_taken(vlan_of(data, is_tagged)))
        return VERDICT_DROP_VLAN;
    if (!is_possible(data, ip))
        return VERDICT_DROP_SOURCE;
    // Answers to RoCEv2 go to its own port, all other answers to the source port.
    if (!udp->source && is_own(port))
        return VERDICT_DROP_SOURCE;
    if (ip->frag_off & bpf_htons(MORE_FRAGMENTS))
        return VERDICT_DROP_FRAGMENT;
    if (!is_intact(ip))
        return VERDICT_DROP_IP_CHECKSUM;
    __u32 ip_len = bpf_ntohs(ip->tot_len);
    if (frags ? tag_len + ETHERNET_LEN + ip_len > bpf_xdp_get_buff_len(ctx) : (void *)ip + ip_len > end)
        return VERDICT_DROP_CUT_OFF;
    if (__builtin_expect(!is_own(port), 0))
        return ip_len < sizeof(*ip) + sizeof(*udp) ? VERDICT_DROP_TRUNCATED : VERDICT_REDIRECT_ROCE;
    return judge_record(ctx, data, ip, ip_len, end);
}

static __always_inline int run(struct xdp_md *ctx, int frags)
{
    __u32 verdict = judge(ctx, frags);
    // Through memory, so that the verifier checks the following code once, and not once for each verdict.
    asm volatile("" : "+m"(verdict));
    // The call returns its flags if the queue has no socket.
    if (verdict >= VERDICTS_SOCKET && bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP) != XDP_REDIRECT)
        verdict = VERDICT_DROP_NO_SOCKET;
    __u64 *packets = bpf_map_lookup_elem(&verdicts, &verdict);
    if (packets)
        ++*packets;
    if (verdict >= VERDICTS_REDIRECT)
        return XDP_REDIRECT;
    return verdict >= VERDICTS_DROP ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
    return run(ctx, 0);
}

// For packets in several pieces; their headers and the first record header are in the first piece.
SEC("xdp.frags")
int steer_frags(struct xdp_md *ctx)
{
    return run(ctx, 1);
}

char LICENSE[] SEC("license") = "Apache-2.0";
