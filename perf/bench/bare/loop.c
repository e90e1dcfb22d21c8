// The bare loop: the work of a gateway on records, and nothing else. No abstraction stands between the steps, no
// feature that the benchmark does not use, no second kind of port. A gateway cannot do its work with much less.
//
// What it does for each datagram and record is what the product does: receive ring, headers against those of the last
// sender, lengths, magic, type, id, shard, master, origin (upward), append, full and open, opening order, new headers
// with both checksums, TX ring, return to the pool, histograms, counters. main.c checks its books.
//
// The order of the work is chosen for the cache. A group of records is read, then the cache is asked for all places in
// buffers (into the L2, which has more room for requests than the L1), then the records are appended. While they are
// appended, the cache is asked for the packets of the next burst.
#include "loop.h"
#include "extra.h"

// Packets and buffers are asked for into the L1 this many places ahead.
#define NEAR 8
// Free chunks are asked for this many places ahead.
#define FREE_AHEAD 8

typedef u64 vector __attribute__((vector_size(32), aligned(1), may_alias));

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

// Prefetches into the L1 and into the L2. The compiler treats a function that only prefetches as one that does nothing,
// and leaves its calls out. So such functions must be inlined.
#define INLINE static inline __attribute__((always_inline))
#define ASK INLINE void
ASK near(const void *at) { __builtin_prefetch(at, 0, 3); }
ASK far(const void *at) { __builtin_prefetch(at, 0, 2); }

// A mask over the 32 bytes from the source's MAC to the UDP ports. Its bits tell who sent a packet and that the packet
// is usual: MAC, type, version, ECN, fragments (not "don't fragment"), protocol, addresses, ports.
static const u8 WHO[32] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 3, 0, 0, 0, 0, 0x3f, 255,
    0, 255, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
};

static inline bool is_same_sender(vector packet, vector last)
{
    vector other = (packet ^ last) & *(const vector *)WHO;
#ifdef __AVX2__
    typedef long long native __attribute__((vector_size(32)));
    return __builtin_ia32_ptestz256((native)other, (native)other);
#else
    return (other[0] | other[1] | other[2] | other[3]) == 0;
#endif
}

// The sum of a datagram's bytes, from its own headers. The checksum of a datagram is the complement of the sum of
// pseudo header, UDP header and bytes. So the three first plus the checksum are the complement of the sum of the bytes:
// it is known without reading them. `sender` is what addresses, ports and protocol add.
static inline u32 whole_sum(u32 sender, u32 udp_len, u32 checksum)
{
    return sender + 2 * udp_len + checksum;
}

static inline u32 sender_sum(const u8 *packet)
{
    u64 sum = (u64)load32(packet + 26) + load32(packet + 30) + 0x1100u + load16(packet + 34) + load16(packet + 36);
    return fold(sum);
}

// Whether a packet is a usual one for us from a possible sender.
static inline bool is_usual(const u8 *p, u32 own)
{
    return load16(p + 12) == 0x0008 && p[14] == 0x45 && (p[20] & 0x3f) == 0 && p[21] == 0 && p[23] == 17
        && (p[6] & 1) == 0 && (load32(p + 6) | load16(p + 10)) != 0 && (u8)(p[26] - 1) < 223 && p[26] != 127
        && load32(p + 26) != own && load32(p + 30) == own && load16(p + 34) != 0 && load16(p + 36) == be16(PORT);
}

static inline bool is_from(const struct origin *origin, const u8 *packet, u16 device)
{
    return origin->ip == load32(packet + 26) && (!origin->fixed_port || origin->port == load16(packet + 34))
        && origin->vlan == 0xffff && origin->device == device;
}

// A sender that is not the last one: only a registered master may send downward.
static __attribute__((noinline)) bool meet(struct world *w, const u8 *packet)
{
    if (!is_usual(packet, own_ip[0]) || !is_from(&w->origins[w->slaves], packet, 0))
        return false;
    if ((w->extras & VLANS) && !vlan_is_served(w, packet))
        return false;
    memcpy(w->headers, packet + 6, 32);
    w->sender_sum = sender_sum(packet);
    return true;
}

// The destination of a slave's id, or NONE.
static inline u32 slave_of(const struct world *w, u32 id)
{
    u32 shard = id >> SHARD_BITS;
    if (unlikely(shard >= SHARDS || w->shards[shard] == NONE))
        return NONE;
    return w->shards[shard] + (id & ((1u << SHARD_BITS) - 1));
}

// The length of the record at `at`, or 0 if no cargo of the only master is there.
static inline u32 cargo(const u8 *at, u32 left)
{
    if (unlikely(left < RECORD))
        return 0;
    u64 end = load64(at + 14) >> 16;
    u32 payload = (u32)(end >> 16);
    u32 type = load16(at + 4);
    bool bad = (load32(at) != MAGIC) | ((u16)end != MASTER) | (type - 1 < 3) | (payload > left - RECORD);
    return unlikely(bad) ? 0 : RECORD + payload;
}

// Bytes of a packet's datagram, or 0 if its lengths contradict each other.
static inline u32 datagram_len(const struct world *w, const u8 *packet)
{
    u32 udp = be16(load16(packet + 38)), ip = be16(load16(packet + 16));
    return unlikely(ip != udp + 20 || udp < 8 || ip + 14 > w->packet_len) ? 0 : udp - 8;
}

// Whether a datagram has no checksum, and whether it met congestion.
static inline u8 unusual(const u8 *packet)
{
    return (load16(packet + 40) == 0 ? NO_SUM : 0) | ((packet[15] & 3) == 3 ? CE : 0);
}

ASK ask_for_packet(const u8 *packet)
{
    near(packet);
    near(packet + 64);
    near(packet + 128);
}

// Reads datagrams of a burst from `*next` on, until there are enough items for a group. Records of one datagram are all
// of one shard. Returns the number of items.
INLINE u32 read_down(struct world *w, const u32 extras, const u32 *ring, u32 *next, u32 received, struct item *items)
{
    const u8 *input = w->input;
    vector last = *(const vector *)w->headers;
    u32 sum = w->sender_sum, count = 0, at = *next;
    u64 dropped = 0, bytes = 0, records = 0;
    for (; at < received && count < GROUP; at++) {
        ask_for_packet(input + ring[at + NEAR]);
        const u8 *packet = input + ring[at];
        if (unlikely(!is_same_sender(*(const vector *)(packet + 6), last))) {
            if (!meet(w, packet)) {
                dropped++;
                continue;
            }
            last = *(const vector *)w->headers;
            sum = w->sender_sum;
        }
        u32 len = datagram_len(w, packet), left = len, shard = NONE;
        const u8 *record = packet + HEADERS;
        bytes += len;
        do {
            u32 size = cargo(record, left), id = load32(record + 6);
            u32 slave = slave_of(w, id);
            if (unlikely(size == 0 || slave == NONE || (shard != NONE && id >> SHARD_BITS != shard))) {
                dropped++;
                break;
            }
            shard = id >> SHARD_BITS;
            near(&w->slots[slave]);
            if (extras & BUDGETS)
                near(&w->shares[slave]);
            // If there is one record, the datagram's checksum is that of the record.
            items[count++] = (struct item) {
                .at = (u32)(record - input), .destination = slave, .len = (u16)size, .datagram = (u8)at,
                .unusual = unusual(packet) | (size == len ? 0 : NO_SUM),
                .sum = whole_sum(sum, load16(packet + 38), load16(packet + 40)),
            };
            records++;
            record += size;
            left -= size;
        } while (unlikely(left != 0));
    }
    *next = at;
    w->counts.bytes_in += bytes;
    w->counts.records_in += records;
    w->counts.dropped += dropped;
    return count;
}

// The same from slaves to the master. Every datagram has another sender, so its headers are read, and the cache is
// asked for where its slave is registered: `check_origins` compares that.
INLINE u32 read_up(struct world *w, const u32 extras, const u32 *ring, u32 *next, u32 received, struct item *items,
                   u32 *slaves, u8 *numbers)
{
    const u8 *input = w->input;
    u32 count = 0, at = *next;
    u64 dropped = 0, bytes = 0, records = 0;
    for (; at < received && count < GROUP; at++) {
        ask_for_packet(input + ring[at + NEAR]);
        const u8 *packet = input + ring[at];
        if (unlikely(!is_usual(packet, own_ip[0]) || ((extras & VLANS) && !vlan_is_served(w, packet)))) {
            dropped++;
            continue;
        }
        u32 len = datagram_len(w, packet), left = len, first = load32(packet + HEADERS + 6), number = 0;
        const u8 *record = packet + HEADERS;
        do {
            u32 size = cargo(record, left);
            if (unlikely(size == 0 || load32(record + 6) != first))
                break;
            number++;
            record += size;
            left -= size;
        } while (left != 0);
        u32 slave = slave_of(w, first);
        if (unlikely(left != 0 || slave == NONE)) {
            dropped++;
            continue;
        }
        near(&w->origins[slave]);
        if (extras & BUDGETS)
            near(&w->shares[slave]);
        slaves[count] = slave;
        numbers[count] = (u8)number;
        items[count++] = (struct item) {
            .at = ring[at] + HEADERS, .destination = w->slaves, .len = (u16)len, .datagram = (u8)at,
            .unusual = unusual(packet),
            .sum = whole_sum(sender_sum(packet), load16(packet + 38), load16(packet + 40)),
        };
        records += number;
        bytes += len;
    }
    *next = at;
    w->counts.bytes_in += bytes;
    w->counts.records_in += records;
    w->counts.dropped += dropped;
    return count;
}

// Keeps the items that came from where their slave is registered.
INLINE u32 check_origins(struct world *w, const u32 extras, struct item *items, const u32 *slaves, u8 *numbers,
                         u32 count)
{
    u32 kept = 0;
    for (u32 i = 0; i < count; i++) {
        bool is_good = is_from(&w->origins[slaves[i]], w->input + items[i].at - HEADERS, 1);
        if (extras & BUDGETS)
            is_good = is_good && share_has_room(w, slaves[i], items[i].len);
        items[kept] = items[i];
        numbers[kept] = numbers[i];
        kept += is_good;
    }
    w->counts.dropped += count - kept;
    return kept;
}

// Copies in vectors, of which the last one overlaps the one before: it must not touch a cache line behind the record
// that nobody asked for.
static inline void copy(u8 *to, const u8 *from, u32 len)
{
    if (unlikely(len < 32)) {
        memcpy(to, from, len);
        return;
    }
    vector end = *(const vector *)(from + len - 32);
    if (likely(len - 64 <= 32)) {
        vector first = *(const vector *)from, second = *(const vector *)(from + 32);
        *(vector *)to = first;
        *(vector *)(to + 32) = second;
        *(vector *)(to + len - 32) = end;
        return;
    }
    for (u32 at = 0; at + 32 < len; at += 32)
        *(vector *)(to + at) = *(const vector *)(from + at);
    *(vector *)(to + len - 32) = end;
}

// The complement of the sum of a record's bytes, as `whole_sum` is: where it is not known.
static __attribute__((noinline)) u32 bytes_sum(const u8 *from, u32 len)
{
    vector low = {0}, high = {0};
    u32 at = 0;
    for (; at + 32 <= len; at += 32) {
        vector word = *(const vector *)(from + at);
        low += word & 0xffffffff;
        high += word >> 32;
    }
    // A window over this gives a mask for as many bytes as are left.
    static const u8 MASK[64] = {
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    };
    vector word = *(const vector *)(from + at) & *(const vector *)(MASK + 32 - (len - at));
    low += word & 0xffffffff;
    high += word >> 32;
    low += high;
    return (u16)~fold(low[0] + low[1] + low[2] + low[3]);
}

// Puts a buffer at the end of the opening order.
static u32 enter(struct world *w, u32 destination)
{
    if (unlikely(w->order_tail - w->order_head > w->order_mask)) {
        // The order is full of gaps, so the open buffers move together.
        u64 to = w->order_head;
        for (u64 from = w->order_head; from < w->order_tail; from++) {
            struct opened it = w->order[from & w->order_mask];
            if (it.destination == NONE)
                continue;
            w->order[to & w->order_mask] = it;
            w->slots[it.destination].entry = (u32)(to++ & w->order_mask);
        }
        w->order_tail = to;
    }
    u32 entry = (u32)w->order_tail++ & w->order_mask;
    w->order[entry] = (struct opened) {.at = w->now, .destination = destination};
    while (w->order[w->order_head & w->order_mask].destination == NONE)
        w->order_head++;
    if (++w->open > w->counts.most_open)
        w->counts.most_open = w->open;
    return entry;
}

// Gives a destination a fresh buffer.
static __attribute__((noinline)) bool open_buffer(struct world *w, struct slot *slot, u32 destination)
{
    if (slot->limit == 0 || w->free_len == 0)
        return false;
    u32 chunk = w->free[--w->free_len];
    if (likely(w->free_len > FREE_AHEAD)) {
        const u8 *later = w->arena + fresh(w->free[w->free_len - FREE_AHEAD], 2048);
        far(later - HEADERS);
        far(later);
        far(later + 64);
    }
    slot->start = slot->tail = fresh(chunk, 2048);
    slot->room = slot->limit;
    slot->entry = enter(w, destination);
    return true;
}

// Takes a buffer out of the pointer array.
static inline void leave(struct world *w, struct slot *slot, u32 destination, struct departure *departure)
{
    u16 odd = fold(slot->sums[1]);
    struct opened *entry = &w->order[slot->entry];
    *departure = (struct departure) {
        .opened = entry->at, .destination = destination, .start = slot->start,
        .len = (u16)(slot->tail - slot->start), .records = slot->records, .ce = slot->ce,
        .sum = (u16)~fold((u64)slot->sums[0] + be16(odd)),
    };
    entry->destination = NONE;
    w->open--;
    w->counts.full++;
    u16 limit = slot->limit;
    *slot = (struct slot) {.limit = limit, .entry = NONE};
}

// Asks the cache for the end of a destination's buffer, and for what its departure needs if it will leave.
ASK ask_for_tail(struct world *w, const struct item *item)
{
    const struct slot *slot = &w->slots[item->destination];
    const u8 *tail = w->arena + slot->tail;
    far(tail);
    far(tail + 64);
    far(tail + item->len);
    if (slot->room < item->len + RECORD) {
        far(&w->routes[item->destination]);
        far(w->arena + slot->start - HEADERS);
        far(&w->order[slot->entry & w->order_mask]);
    }
}

ASK ask_for_tail_near(struct world *w, const struct item *item)
{
    const u8 *tail = w->arena + w->slots[item->destination].tail;
    near(tail);
    near(tail + 64);
    near(tail + item->len);
}

// Appends a group of items to their buffers; those that are full become departures. Returns how many. `numbers` says
// how many records an item has, if that is not one.
INLINE u32 append(struct world *w, const u32 extras, const u32 *ring, struct item *items, const u8 *numbers, u32 count,
                  struct departure *departures)
{
    u8 *arena = w->arena;
    const u8 *input = w->input;
    struct slot *slots = w->slots;
    u32 left = 0;
    for (u32 i = 0; i < NEAR; i++)
        items[count + i] = items[count - 1];
    for (u32 i = 0; i < count; i++)
        ask_for_tail(w, &items[i]);
    for (u32 i = 0; i < NEAR; i++)
        ask_for_tail_near(w, &items[i]);
    for (u32 i = 0; i < count; i++) {
        const struct item *item = &items[i];
        // The same place in the packet that comes a burst later.
        const u8 *later = input + item->at - HEADERS + (int)(ring[item->datagram + BURST] - ring[item->datagram]);
        far(later);
        far(later + 64);
        far(later + 128);
        ask_for_tail_near(w, &items[i + NEAR]);
        u32 destination = item->destination, len = item->len;
        struct slot *slot = &slots[destination];
        if ((extras & BUDGETS) && !numbers && unlikely(!share_has_room(w, destination, len))) {
            w->counts.dropped++;
            continue;
        }
        if (unlikely(slot->room < len)) {
            if (slot->entry != NONE)
                leave(w, slot, destination, &departures[left++]);
            if (!open_buffer(w, slot, destination) || slot->room < len) {
                w->counts.dropped++;
                continue;
            }
        }
        u32 tail = slot->tail;
        u32 sum = item->sum;
        copy(arena + tail, input + item->at, len);
        if (unlikely(item->unusual)) {
            slot->ce |= (item->unusual & CE) != 0;
            if (item->unusual & NO_SUM)
                sum = bytes_sum(input + item->at, len);
        }
        slot->sums[tail & 1] += sum;
        slot->tail = tail + len;
        slot->room -= len;
        slot->records += numbers ? numbers[i] : 1;
        if (slot->room < RECORD)
            leave(w, slot, destination, &departures[left++]);
    }
    return left;
}

// The number of a histogram's bucket, by powers of two from `least` (itself a power) on.
static inline u32 bucket(u64 value, u32 least, u32 last)
{
    u32 bits = 64 - (u32)__builtin_clzll((value ? value - 1 : 0) | 1);
    bits = bits < least ? 0 : bits - least;
    return bits < last ? bits : last;
}

// Gives buffers their headers and hands them to the device.
INLINE void send(struct world *w, const u32 extras, const struct departure *departures, u32 count)
{
    struct counts *counts = &w->counts;
    u32 own = own_ip[1];
    for (u32 i = 0; i < count; i++) {
        const struct departure *it = &departures[i];
        const struct route *route = &w->routes[it->destination];
        u64 held = w->now - it->opened;
        counts->hold[bucket(held, 10, 21)]++;
        counts->hold_sum += held;
        counts->records[bucket(it->records, 0, 9)]++;
        counts->records_sum += it->records;
        u8 *head = w->arena + it->start - HEADERS;
        u32 ip_len = be16(it->len + 28u), udp_len = be16(it->len + 8u), tos = it->ce ? 3 : 0;
        u64 addresses = (u64)own + route->ip;
        u16 ip_sum = (u16)~fold(addresses + 0x0045 + (tos << 8) + ip_len + 0x0040 + 0x1140);
        u16 sum = (u16)~fold(addresses + 0x1100 + 2 * udp_len + route->source_port + route->port + it->sum);
        memcpy(head, route->mac, 6);
        memcpy(head + 6, own_mac[1], 6);
        memcpy(head + 12, &(u16) {0x0008}, 2);
        u64 word = 0x45u | (u64)tos << 8 | (u64)ip_len << 16 | 0x0040ull << 48;
        memcpy(head + 14, &word, 8);
        word = 0x1140u | (u64)ip_sum << 16 | (u64)own << 32;
        memcpy(head + 22, &word, 8);
        memcpy(head + 30, &route->ip, 4);
        word = route->source_port | (u64)route->port << 16 | (u64)udp_len << 32 | (u64)(sum ? sum : 0xffff) << 48;
        memcpy(head + 34, &word, 8);
        counts->records_out += it->records;
        counts->bytes_out += it->len;
        u32 place = w->tx_head++ % TX_RING;
        if (likely(w->tx_len == TX_RING)) {
            w->free[w->free_len++] = w->tx[place];
            if (extras & BOUNDS)
                has_left(w, w->tx_to[place]);
        } else {
            w->tx_len++;
        }
        w->tx[place] = it->start / 2048;
        if (extras & BOUNDS) {
            w->tx_to[place] = it->destination;
            if (unlikely(!may_wait(w, it->destination)))
                counts->dropped += it->records;
        }
    }
    counts->datagrams_out += count;
}

static inline u32 forward(const struct world *w, u32 place, u32 by)
{
    place += by;
    return place < w->places ? place : place - w->places;
}

INLINE u32 poll(struct world *w, const u32 extras)
{
    struct item items[GROUP + DATAGRAM + NEAR];
    struct departure departures[GROUP + DATAGRAM];
    u32 slaves[GROUP];
    u8 numbers[GROUP];
    u32 *ring = w->ring + w->head;
    u32 waiting = w->tail - w->head + (w->tail < w->head ? w->places : 0);
    u32 received = waiting < BURST ? waiting : BURST, next = 0;
    if (extras & BUDGETS)
        // What left since the last poll is dealt out: here so much that no record is beyond the share of its slave.
        w->clock += BURST * w->packet_len;
    while (next < received) {
        u32 full = 0;
        if (w->up) {
            u32 count = read_up(w, extras, ring, &next, received, items, slaves, numbers);
            count = check_origins(w, extras, items, slaves, numbers, count);
            if (likely(count > 0))
                full = append(w, extras, ring, items, numbers, count, departures);
        } else {
            u32 count = read_down(w, extras, ring, &next, received, items);
            if (likely(count > 0))
                full = append(w, extras, ring, items, NULL, count, departures);
        }
        send(w, extras, departures, full);
    }
    // All packets were copied: their chunks go back to the end of the ring.
    memcpy(w->ring + w->tail, ring, received * sizeof *ring);
    w->head = forward(w, w->head, received);
    w->tail = forward(w, w->tail, received);
    w->counts.packets += received;
    return received;
}

// A loop for each choice of extras, so that none of them pays for the others.
u32 poll_once(struct world *w)
{
    switch (w->extras) {
        case VLANS: return poll(w, VLANS);
        case BUDGETS: return poll(w, BUDGETS);
        case BOUNDS: return poll(w, BOUNDS);
        case EVERY_EXTRA: return poll(w, EVERY_EXTRA);
        default: return poll(w, 0);
    }
}
