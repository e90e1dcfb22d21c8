//! Puts packets into records, and records into datagrams. A datagram holds as many records to one peer as its MTU
//! allows; on the way down all are of one shard.

use crate::RecordCounters;
use crate::routes::{Route, Side};
use frame::{Class, Datagram, Frame, Outbox, Peer};
use transport::{PathId, Room, Sink};
use wire::rc::IcrcSeed;
use wire::{HEADER_LEN, RecordHeader, Scale};
use zerocopy::IntoBytes;

/// If this many datagrams wait for one port, sending waits, too.
const MOST_WAITING: usize = 512;

/// The sink of one call of [`Endpoint::transmit`](transport::Endpoint::transmit).
pub(crate) struct RecordSink<'a> {
    side: Side,
    scale: Scale,
    routes: &'a [Route],
    counters: &'a RecordCounters,
    out: &'a mut Outbox,
    /// A buffer for packets that cannot leave.
    nowhere: &'a mut [u8],
    open: Option<Datagram>,
    /// The shard of the open datagram.
    shard: u32,
    /// The most bytes that the route of the open datagram allows.
    limit: usize,
    /// Bytes of the record that was opened last; 0 if it is not sent.
    pending: usize,
}

impl<'a> RecordSink<'a> {
    pub(crate) fn new(
        side: Side,
        scale: Scale,
        routes: &'a [Route],
        counters: &'a RecordCounters,
        out: &'a mut Outbox,
        nowhere: &'a mut [u8],
    ) -> Self {
        Self { side, scale, routes, counters, out, nowhere, open: None, shard: 0, limit: 0, pending: 0 }
    }

    /// Sends the open datagram.
    pub(crate) fn flush(&mut self) {
        if let Some(datagram) = self.open.take()
            && datagram.records > 0
        {
            self.counters.datagrams_out.add(1);
            self.counters.rc_records_out.add(u64::from(datagram.records));
            self.out.send(datagram);
        }
    }

    /// Whether the open datagram goes to this peer, is of this shard, and has room for this many more bytes.
    fn is_open_for(&self, peer: &Peer, shard: u32, bytes: usize) -> bool {
        self.open.as_ref().is_some_and(|datagram| {
            self.shard == shard
                && datagram.peer.as_bytes() == peer.as_bytes()
                && datagram.frame.len() + bytes <= self.limit
                && bytes <= datagram.frame.tailroom()
        })
    }

    /// Opens a new datagram to a peer; `None` if sending must wait.
    fn begin(&mut self, route: &Route) -> Option<()> {
        self.flush();
        let frame = if self.out.backlog(route.peer.port) < MOST_WAITING { self.out.alloc() } else { None };
        let Some(frame) = frame else {
            self.counters.rc_no_frame.add(1);
            return None;
        };
        let class = match self.side {
            Side::Master => Class::Down,
            Side::Slave => Class::Up,
        };
        self.limit = usize::from(route.datagram).min(frame.tailroom());
        self.open = Some(Datagram::new(frame, route.peer, class, 0));
        Some(())
    }

    /// A place for a packet that cannot leave. For the endpoint it is like a packet that was lost on the way.
    fn lose(&mut self, len: usize, header: &RecordHeader) -> Option<Room<'_>> {
        self.pending = 0;
        Some(Room { bytes: self.nowhere.get_mut(..len)?, seed: IcrcSeed::record(header) })
    }
}

impl Sink for RecordSink<'_> {
    #[inline]
    fn open(&mut self, path: PathId, len: usize, push: bool) -> Option<Room<'_>> {
        let Some(&route) = self.routes.get(path.0 as usize).filter(|route| route.exists()) else {
            self.counters.rc_dropped_no_route.add(1);
            return self.lose(len, &Route::NONE.ends.header(len, push));
        };
        let header = route.ends.header(len, push);
        let bytes = HEADER_LEN + len;
        let shard = route.ends.shard(self.side, self.scale);
        if !self.is_open_for(&route.peer, shard, bytes) {
            self.begin(&route)?;
            self.shard = shard;
            if bytes > self.limit {
                self.counters.rc_dropped_too_large.add(1);
                return self.lose(len, &header);
            }
        }
        self.pending = bytes;
        let room = self.open.as_mut()?.frame.tail_mut().get_mut(..bytes)?;
        let (head, packet) = room.split_at_mut_checked(HEADER_LEN)?;
        head.copy_from_slice(header.as_bytes());
        Some(Room { bytes: packet, seed: IcrcSeed::record(&header) })
    }

    #[inline]
    fn close(&mut self) {
        if let Some(datagram) = &mut self.open
            && self.pending > 0
        {
            grow(&mut datagram.frame, self.pending);
            datagram.records += 1;
        }
        self.pending = 0;
    }
}

/// Adds this many bytes after the data to the data.
fn grow(frame: &mut Frame, bytes: usize) {
    let (start, len) = (frame.headroom(), frame.len());
    frame.set_range(start, len + bytes);
}
