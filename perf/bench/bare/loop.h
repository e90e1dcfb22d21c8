// What the bare loop works on. See loop.c for what it does, and main.c for where all this comes from.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum {
    HEADERS = 42,       // bytes of Ethernet, IPv4 and UDP headers
    RECORD = 23,        // bytes of a record's header
    BURST = 64,         // datagrams that one poll takes
    DATAGRAM = 64,      // records of the largest datagram of MTU 1500
    GROUP = 64,         // records that are read before any of them is appended
    TX_RING = 512,      // frames that the device holds before the oldest goes back to the pool
    PORT = 9999,        // where gateways listen
    SHARD_BITS = 13,    // 8,192 slaves in a shard
    SHARDS = 16,
    MASTER = 1,         // the only master's id
};

#define MAGIC 0x47564d58u
#define NONE 0xffffffffu

// The peer of a destination, and how to send to it. Numbers that stand on the wire are kept in the wire's order.
struct route {
    u8 mac[6];
    u16 port;
    u32 ip;
    u16 source_port;
    u16 vlan;
    u8 device;
    u8 fixed_port;
    u8 rest[14];
};

// Where a slave's records must come from: the part of its route that is compared, alone, so that four share a line.
struct origin {
    u32 ip;
    u16 port;
    u16 vlan;
    u16 device;
    u16 fixed_port;
    u32 rest;
};

// The pointer array's entry of a destination. Sums are those of loop.c: see `whole_sum`.
struct slot {
    u32 start, tail;    // the buffer's first byte and the first free one, from the beginning of the arena; 0: no buffer
    u32 sums[2];        // of what was appended at even and at odd offsets
    u32 entry;          // its place in the opening order
    u16 room, records, limit, ce;
    u16 rest[2];
};

// One buffer in the opening order; a buffer that left leaves a gap.
struct opened {
    u64 at;
    u32 destination;
    u32 rest;
};

// Records of one datagram, back to back, for one destination. Small, because every record of a group has one.
struct item {
    u32 at;             // offset in `input`
    u32 destination;
    u32 sum;            // see `whole_sum`: of all records together
    u16 len;
    u8 datagram;        // its number in the burst
    u8 unusual;         // NO_SUM and CE
};

enum {
    NO_SUM = 1,         // the sum is not known
    CE = 2,             // the datagram has met congestion
};

// A buffer on its way out.
struct departure {
    u64 opened;
    u32 destination, start;
    u16 len, records, sum, ce;
};

// How much of a contended port a slave may have.
struct share {
    u32 seen;           // the clock when it was last used
    u16 left, round;    // bytes that were left then, and the round in which it was last active
};

struct counts {
    u64 packets, records_in, bytes_in, records_out, bytes_out, datagrams_out, full, dropped, most_open;
    u64 hold[32], hold_sum, records[16], records_sum;
};

// What a gateway has beside the work on records, each to be measured alone: see extra.h.
enum {
    VLANS = 1,
    BUDGETS = 2,
    BOUNDS = 4,
    EVERY_EXTRA = 7,
};

struct world {
    // The receive ring: offsets of packets in `input`, in turn, with twice as many places as there are packets. Its
    // beginning stands behind its end once more, so that a burst, and what is asked for ahead of it, need no wrapping.
    u8 *input;
    u32 *ring, places, head, tail, packets, packet_len;
    // The pool of buffers: a stack of free chunks.
    u8 *arena;
    u32 *free, free_len, frames;
    // The gateway's tables, by destination: slaves, then the master.
    struct slot *slots;
    struct route *routes;
    struct origin *origins;
    u32 slaves, shards[SHARDS];
    bool up;
    // The opening order.
    struct opened *order;
    u32 order_mask, open;
    u64 order_head, order_tail;
    // What the device sends.
    u32 tx[TX_RING], tx_len;
    u64 tx_head;
    // The last sender: 32 bytes of its headers, what they add to a checksum, and the master that it is.
    u8 headers[32];
    u32 sender_sum;
    u64 now;
    struct counts counts;
    // For the extras, which only one of the loops uses: see extra.h.
    u32 extras;
    u64 vlans[65];
    struct share *shares;
    u16 *waiting;
    u32 tx_to[TX_RING];
    u32 clock;
};

// The gateway's own address on the side from which it receives, and on the one to which it sends.
extern u8 own_mac[2][6];
extern u32 own_ip[2];

// Where the data of a fresh frame begins, as in the product's pool.
static inline u32 fresh(u32 chunk, u32 bytes)
{
    return chunk * bytes + 128 + chunk % 4 * 64;
}

static inline u16 be16(u16 host)
{
    return __builtin_bswap16(host);
}

static inline u16 load16(const u8 *at)
{
    u16 value;
    memcpy(&value, at, 2);
    return value;
}

static inline u32 load32(const u8 *at)
{
    u32 value;
    memcpy(&value, at, 4);
    return value;
}

static inline u64 load64(const u8 *at)
{
    u64 value;
    memcpy(&value, at, 8);
    return value;
}

// A sum of 16-bit words as one such word, with the carries added.
static inline u16 fold(u64 sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 32) + (sum & 0xffffffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (u16)((sum >> 16) + (sum & 0xffff));
}

// One poll: returns how many datagrams it received.
u32 poll_once(struct world *w);
