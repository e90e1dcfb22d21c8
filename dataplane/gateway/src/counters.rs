//! The counters of a gateway. For each direction, at every moment:
//! `records_in = records_out + held + queued + sum(dropped_*)`. The outbox counts `records_out`, `queued` and the drops
//! on transmit. Link control ends here and has its own count.

use crate::direction::Direction;
use frame::Histogram;
use frame::counter::{CounterSet, Kind, Visitor};

frame::counters! {
    /// What came in from one direction, and what became of it.
    pub struct DirectionCounters {
        /// Datagrams of cargo that came in.
        datagrams_in,
        /// Records that came in; a bad record counts as one.
        records_in,
        /// Bytes of UDP payload that came in.
        bytes_in,
        /// Records that wait in aggregation buffers.
        held: gauge,
        /// Bad records: fewer bytes than a header.
        dropped_truncated: drop,
        /// Bad records: wrong magic.
        dropped_bad_magic: drop,
        /// Bad records: payload_len past the end of the datagram.
        dropped_bad_length: drop,
        /// Bad records: slave id out of range of the scale.
        dropped_bad_slave_id: drop,
        /// Bytes dropped with bad records: from the bad record to the end of its datagram.
        bad_bytes,
        /// Records whose shard another gateway serves.
        dropped_foreign_shard: drop,
        /// Records of another shard than the first record of their datagram.
        dropped_mixed_shards: drop,
        /// Link control in a datagram of cargo.
        dropped_mixed_link: drop,
        /// Records for a slave or master that is not registered.
        dropped_no_route: drop,
        /// Upward records of a slave that is not registered, or from a source that is not a registered master.
        dropped_unregistered_source: drop,
        /// Records whose source is not where the slave or master they name is registered.
        dropped_spoofed: drop,
        /// Records larger than the MTU of their route.
        dropped_too_large: drop,
        /// Records for which no frame was free.
        dropped_no_frame: drop,
        /// Records beyond the fair share of their slave, while more came for a port than it could send.
        dropped_fair_share: drop,
        /// Records that waited for a slave or master when its route was removed.
        dropped_route_removed: drop,
        /// Records whose PUSH had no effect: beyond the budget of their sender, or while their port was contended.
        push_ignored,
    }
}

frame::counters! {
    /// Why aggregation buffers left, and what concerns no direction.
    pub struct FlushCounters {
        /// Buffers that left because the next record did not fit.
        flush_full,
        /// Buffers that left because their oldest record reached its hold.
        flush_hold,
        /// Buffers that left because nothing was received for a quarter of the hold.
        flush_early,
        /// Buffers that left because the pool ran low.
        flush_room,
        /// Buffers that left ahead of a record too large to share a datagram, or of a smaller MTU.
        flush_order,
        /// Buffers that left because a record with PUSH came for the same destination.
        flush_push,
        /// Buffers that left because the gateway drains.
        flush_drain,
        /// Datagrams that filled themselves and were forwarded without a copy.
        forwarded_whole,
        /// Aggregation buffers that are open.
        buffers_open: gauge,
        /// The most aggregation buffers that were open at once.
        buffers_open_max: gauge,
        /// Datagrams of link control that came in.
        link_datagrams_in,
        /// Records of link control that came in: consumed by the registrar.
        link_records_in,
        /// Datagrams of link control from where none of their nodes is registered: the registrar reads members' first.
        link_strangers_in,
        /// Datagrams of link control beyond the budget of a registered node: the registrar reads all others first.
        link_excess_in,
        /// Answers to link control that found no frame, not even in the reserve.
        link_dropped_no_frame: drop,
        /// Empty datagrams, which have no record to count.
        empty_datagrams,
    }
}

frame::histograms! {
    /// What left, datagram by datagram: how long records were held, and how many share a datagram.
    pub struct FlushHistograms {
        /// Nanoseconds from the opening of an aggregation buffer to its leaving.
        hold_ns: Histogram<10, 22>,
        /// Records in each datagram of cargo that left an aggregation buffer, or was forwarded without one.
        records_per_datagram: Histogram<0, 10>,
    }
}

/// All counters of one lcore's gateway.
#[derive(Debug, Default)]
pub struct GatewayCounters {
    /// From masters to slaves.
    pub down: DirectionCounters,
    /// From slaves to masters.
    pub up: DirectionCounters,
    /// Flush causes and the rest.
    pub flush: FlushCounters,
    /// Histograms of holds and sizes of buffers that left.
    pub left: FlushHistograms,
}

impl GatewayCounters {
    /// The counters of one direction.
    #[inline]
    pub const fn of(&self, direction: Direction) -> &DirectionCounters {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

impl DirectionCounters {
    /// The sum of all records that the gateway dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        let mut sum = 0;
        self.visit_drops(&mut |_, _, value| sum += value);
        sum
    }

    /// Visits the drop reasons only.
    pub fn visit_drops(&self, visitor: &mut Visitor<'_>) {
        self.visit(&mut |name, help, value| {
            if self.kind(name) == Kind::Drop {
                visitor(name, help, value);
            }
        });
    }
}
