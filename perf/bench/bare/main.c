// Runs the bare loop for a benchmark, which starts it as a child and talks to it over pipes.
//
// Standard input: `struct setup`, the chunk of each packet as u32, the packets; then commands of one byte. Each command
// is answered with one line. `w` passes the whole input once, `e` takes what is in the caches out of them, `t` passes
// packets until a round is full, and answers with the nanoseconds of CPU time that a record took. At the end of the
// input the books are checked; the last line says what went through, or begins with "wrong: ".
#define _GNU_SOURCE
#include "loop.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// What the benchmark says first. All numbers are as this machine writes them.
struct setup {
    u32 slaves, up, records, packets, packet_len, chunk, slots, limit, round, hugepages, extras;
};

static const u8 OWN_MAC[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 1, 1}};
static const u8 OWN_IP[2][4] = {{10, 0, 0, 1}, {10, 1, 0, 1}};
static const u8 MASTER_MAC[6] = {2, 0, 0, 0, 0, 2};
static const u8 MASTER_IP[4] = {10, 0, 0, 2};
u8 own_mac[2][6];
u32 own_ip[2];

static _Noreturn void wrong(const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    fputs("wrong: ", stdout);
    vprintf(format, rest);
    putchar('\n');
    exit(1);
}

// Memory of its own, zeroed and touched: on hugepages if the product's arenas are, else as tables of the product are.
static void *map(size_t bytes, bool hugepages)
{
    const size_t huge = 2 << 20;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    bytes = (bytes + huge - 1) / huge * huge;
    u8 *at = hugepages ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0) : MAP_FAILED;
    if (at == MAP_FAILED) {
        at = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (at == MAP_FAILED)
            wrong("no memory for %zu bytes", bytes);
        at += huge - (uintptr_t)at % huge;
        madvise(at, bytes, MADV_HUGEPAGE);
    }
    memset(at, 0, bytes);
    return at;
}

static void need(void *into, size_t bytes)
{
    for (ssize_t got; bytes > 0; into = (u8 *)into + got, bytes -= (size_t)got) {
        got = read(STDIN_FILENO, into, bytes);
        if (got <= 0)
            wrong("the set-up ends too early");
    }
}

static double cpu_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void set_up_routes(struct world *w, const struct setup *setup)
{
    for (u32 id = 0; id <= setup->slaves; id++) {
        bool is_master = id == setup->slaves;
        // A slave's place in the tables is its id: all shards are served. The master's is behind all of them.
        u32 at = is_master ? w->slaves : id;
        u8 mac[6] = {2, 0, 1, (u8)(id >> 16), (u8)(id >> 8), (u8)id};
        u8 ip[4] = {10, (u8)(2 + (id >> 16)), mac[4], mac[5]};
        struct route *route = &w->routes[at];
        *route = (struct route) {.port = be16(PORT), .vlan = 0xffff, .device = !is_master};
        route->source_port = be16((u16)(49152 + (is_master ? 0 : id % 1024)));
        memcpy(route->mac, is_master ? MASTER_MAC : mac, 6);
        memcpy(&route->ip, is_master ? MASTER_IP : ip, 4);
        w->origins[at] = (struct origin) {.ip = route->ip, .port = route->port, .vlan = 0xffff};
        w->origins[at].device = route->device;
        w->slots[at].limit = (u16)setup->limit;
    }
}

static void set_up(struct world *w, const struct setup *setup)
{
    bool huge = setup->hugepages;
    w->up = setup->up;
    for (u32 side = 0; side < 2; side++) {
        memcpy(own_mac[side], OWN_MAC[w->up ? 1 - side : side], 6);
        memcpy(&own_ip[side], OWN_IP[w->up ? 1 - side : side], 4);
    }
    // The input, as it lies in the product's chunks.
    w->packets = setup->packets;
    w->packet_len = setup->packet_len;
    w->places = 2 * w->packets;
    if (w->packets % BURST != 0)
        wrong("%u packets are not whole bursts", w->packets);
    w->input = map((size_t)setup->slots * setup->chunk, huge);
    size_t all = w->places + 2 * BURST;
    w->ring = map(all * sizeof *w->ring, false);
    need(w->ring, w->packets * sizeof *w->ring);
    for (u32 i = 0; i < w->packets; i++) {
        w->ring[i] = fresh(w->ring[i], setup->chunk);
        need(w->input + w->ring[i], w->packet_len);
    }
    for (size_t i = w->packets; i < all; i++)
        w->ring[i] = w->ring[i - w->packets];
    w->tail = w->packets;
    // A buffer for each slave, the transmit ring, and what two bursts open.
    w->frames = setup->slaves + 2048;
    w->arena = map((size_t)w->frames * 2048, huge);
    w->free = map(w->frames * sizeof *w->free, false);
    for (w->free_len = 0; w->free_len < w->frames; w->free_len++)
        w->free[w->free_len] = w->frames - 1 - w->free_len;
    w->slaves = SHARDS << SHARD_BITS;
    for (u32 shard = 0; shard < SHARDS; shard++)
        w->shards[shard] = shard << SHARD_BITS;
    w->slots = map((w->slaves + 1) * sizeof *w->slots, false);
    w->routes = map((w->slaves + 1) * sizeof *w->routes, false);
    w->origins = map((w->slaves + 1) * sizeof *w->origins, false);
    for (u32 i = 0; i <= w->slaves; i++)
        w->slots[i].entry = NONE;
    set_up_routes(w, setup);
    u32 entries = 1;
    while (entries < 2 * w->frames)
        entries *= 2;
    w->order = map(entries * sizeof *w->order, false);
    w->order_mask = entries - 1;
    w->extras = setup->extras;
    // Packets without a tag are served; each slave has saved a whole share, so that no record is beyond it.
    w->vlans[64] = 1;
    w->shares = map((w->slaves + 1) * sizeof *w->shares, false);
    for (u32 i = 0; i <= w->slaves; i++)
        w->shares[i].left = 0xffff;
    w->waiting = map((w->slaves + 1) * sizeof *w->waiting, false);
}

static __attribute__((noinline)) u32 pass(struct world *w, u32 packets)
{
    u32 received = 0;
    while (received < packets) {
        w->now += 1000;
        received += poll_once(w);
    }
    return received;
}

static void evict(void)
{
    const size_t bytes = 64 << 20;
    static u8 *others;
    static volatile u8 sink __attribute__((unused));
    if (others == NULL)
        others = map(bytes, false);
    for (size_t at = 0; at < 2 * bytes; at += 64)
        sink = others[at % bytes];
}

// The sum of 16-bit words, one by one: for the check alone, which should not trust the loop's own sums.
static u32 plain_sum(const u8 *at, u32 len)
{
    u32 sum = 0;
    for (; len >= 2; at += 2, len -= 2)
        sum += load16(at);
    return sum + (len ? *at : 0);
}

// Looks through a packet that was sent: headers, both checksums, its records and their bytes.
static void check_sent(const struct world *w, const struct setup *setup, const u8 *data)
{
    const u8 *head = data - HEADERS;
    u32 udp_len = be16(load16(head + 38)), first = load32(data + 6), slave = w->up ? setup->slaves : first;
    if (be16(load16(head + 16)) != udp_len + 20 || udp_len < 8 || udp_len - 8 > setup->limit)
        wrong("the lengths of a packet that was sent");
    u32 sum = plain_sum(head + 26, 8) + 0x1100 + load16(head + 38) + plain_sum(head + 34, udp_len);
    if (fold(plain_sum(head + 14, 20)) != 0xffff || fold(sum) != 0xffff)
        wrong("a checksum of a packet that was sent");
    const struct route *route = &w->routes[w->up ? w->slaves : slave];
    if (memcmp(head, route->mac, 6) != 0 || load32(head + 30) != route->ip || load16(head + 36) != route->port)
        wrong("the destination of a packet that was sent to slave %u", slave);
    u32 record_len = (setup->packet_len - HEADERS) / setup->records;
    for (u32 at = 0; at < udp_len - 8; at += record_len) {
        const u8 *record = data + at;
        if (load32(record) != MAGIC || load32(record + 18) + RECORD != record_len)
            wrong("a record that was sent");
        if (!w->up && load32(record + 6) != first)
            wrong("slaves %u and %u in one packet", first, load32(record + 6));
        for (u32 i = RECORD; i < record_len; i++)
            if (record[i] != record[10])
                wrong("the payload of a record that was sent");
    }
}

static void check(const struct world *w, const struct setup *setup)
{
    const struct counts *counts = &w->counts;
    u64 held = 0, open = 0;
    for (u32 i = 0; i <= w->slaves; i++) {
        held += w->slots[i].records;
        open += w->slots[i].entry != NONE;
    }
    if (counts->dropped != 0)
        wrong("%lu records were dropped", counts->dropped);
    if (counts->records_in != counts->packets * setup->records)
        wrong("%lu records in %lu packets", counts->records_in, counts->packets);
    if (counts->records_in != counts->records_out + held || counts->records_sum != counts->records_out)
        wrong("%lu records came, %lu left, %lu wait", counts->records_in, counts->records_out, held);
    if (open != w->open || w->free_len + w->tx_len + open != w->frames)
        wrong("%u frames free, %u sent, %lu open, of %u", w->free_len, w->tx_len, open, w->frames);
    for (u32 i = 0; i < w->tx_len; i++)
        check_sent(w, setup, w->arena + fresh(w->tx[i], 2048));
    printf("in %lu out %lu held %lu datagrams %lu checked %u\n", counts->records_in, counts->records_out, held,
           counts->datagrams_out, w->tx_len);
}

int main(void)
{
    static struct world w;
    struct setup setup;
    setvbuf(stdout, NULL, _IOLBF, 0);
    need(&setup, sizeof setup);
    set_up(&w, &setup);
    puts("ready");
    for (char command; read(STDIN_FILENO, &command, 1) == 1;) {
        double nanoseconds = 0;
        if (command == 'w') {
            pass(&w, w.packets);
        } else if (command == 'e') {
            evict();
        } else if (command == 't') {
            double start = cpu_time();
            u32 packets = pass(&w, setup.round);
            nanoseconds = (cpu_time() - start) / ((double)packets * setup.records);
        }
        printf("%.3f\n", nanoseconds);
    }
    check(&w, &setup);
    return 0;
}
