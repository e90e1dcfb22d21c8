// The work of a gateway beside the work on records, as simple as the bare loop. The extras are off, except in the loops
// that measure the cost of each of them.
#pragma once
#include "loop.h"

// The list of VLANs that a port serves: a bit for each tag, and one for packets without a tag. A sender that is the
// last one needs no look-up.
static inline bool vlan_is_served(const struct world *w, const u8 *packet)
{
    u32 vlan = load16(packet + 12) == 0x0081 ? be16(load16(packet + 14)) & 0xfff : 4096;
    return w->vlans[vlan / 64] >> vlan % 64 & 1;
}

// A slave's fair share, as while a port is contended. The bytes of its turns since its last record are added to the
// bytes that it had left. The record is paid from that sum.
static inline bool share_has_room(struct world *w, u32 slave, u32 len)
{
    struct share *share = &w->shares[slave];
    u32 left = share->left + (w->clock - share->seen);
    left = left < 0xffff ? left : 0xffff;
    bool has_room = left >= len;
    *share = (struct share) {.seen = w->clock, .left = (u16)(has_room ? left - len : left), .round = 1};
    return has_room;
}

// A bound on the datagrams that wait for one destination. They are counted when a datagram is handed to the device, and
// when the device gives its frame back.
static inline bool may_wait(struct world *w, u32 destination)
{
    return w->waiting[destination]++ < TX_RING;
}

static inline void has_left(struct world *w, u32 destination)
{
    w->waiting[destination]--;
}
