//! Records to packets, and packets to records: the part of a role that has queue pairs to own peers.

use crate::RecordCounters;
use crate::routes::{PathEnds, Route, Side, datagram_of};
use crate::sink::RecordSink;
use frame::{Outbox, Peer, Table, TableError, Time};
use std::sync::Arc;
use transport::{Arrival, Endpoint, Memory, PathId};
use wire::rc::{IcrcSeed, OVERHEAD, PathMtu};
use wire::{HEADER_LEN, MsgType, Record, Scale};

/// The framing of the packets of one endpoint in records.
///
/// The owner gives out the numbers of paths. They are dense: each path costs an entry in a table. A slave counts
/// the leases of all its ids, and a master counts the slaves in the order of connecting.
pub struct Framing {
    side: Side,
    scale: Scale,
    routes: Table<Route>,
    counters: Arc<RecordCounters>,
    /// A buffer for packets that cannot leave.
    nowhere: Box<[u8]>,
}

impl Framing {
    /// A framing without routes. `paths` comes from the endpoint's [`Config`](transport::Config).
    ///
    /// # Errors
    /// There is no memory for its routes.
    pub fn new(side: Side, scale: Scale, paths: u32) -> Result<Self, TableError> {
        Ok(Self {
            side,
            scale,
            routes: Table::new(paths as usize, |_| Route::NONE)?,
            counters: Arc::default(),
            nowhere: vec![0; PathMtu::B4096.bytes() as usize + OVERHEAD + 64].into(),
        })
    }

    /// The counters, for others to read.
    pub fn counters(&self) -> &Arc<RecordCounters> {
        &self.counters
    }

    /// The largest path MTU whose packets fit in an IP packet of `mtu` bytes to this peer, one in a record alone in a
    /// datagram; `None` if not even the smallest fits.
    pub fn path_mtu(peer: &Peer, mtu: u16) -> Option<PathMtu> {
        PathMtu::fitting(usize::from(datagram_of(peer, mtu)).saturating_sub(HEADER_LEN))
    }

    /// The packets of a path go to this peer, a gateway or the other end itself, in IP packets of at most `mtu` bytes.
    /// A path that does not exist is ignored.
    #[inline]
    pub fn set_route(&mut self, path: PathId, ends: PathEnds, peer: Peer, mtu: u16) {
        if let Some(route) = self.routes.get_mut(path.0 as usize) {
            *route = Route::new(ends, peer, mtu);
        }
    }

    /// The packets of a path go nowhere until there is a route again.
    pub fn clear_route(&mut self, path: PathId) {
        if let Some(route) = self.routes.get_mut(path.0 as usize) {
            *route = Route::NONE;
        }
    }

    /// The ends of a path that has a route.
    #[inline]
    pub fn ends(&self, path: PathId) -> Option<PathEnds> {
        self.routes.get(path.0 as usize).filter(|route| route.exists()).map(|route| route.ends)
    }

    /// Whether a path has a route to exactly this peer, with IP packets of exactly `mtu` bytes.
    #[inline]
    pub fn has_route(&self, path: PathId, peer: &Peer, mtu: u16) -> bool {
        self.routes
            .get(path.0 as usize)
            .is_some_and(|route| route.peer.as_bytes() == peer.as_bytes() && route.datagram == datagram_of(peer, mtu))
    }

    /// Whether records of a path may come from here: from the address that its packets go to, or from that of one of
    /// the gateways. The UDP port may be another one.
    #[inline]
    pub fn is_from(&self, path: PathId, from: &Peer, gateways: &[Peer]) -> bool {
        let is = |peer: &Peer| from.is_same_origin(peer, false);
        self.routes.get(path.0 as usize).is_some_and(|route| is(&route.peer)) || gateways.iter().any(is)
    }

    /// The packet of a record of a path, for [`Endpoint::receive`]. Nothing is checked or counted.
    #[inline]
    pub fn arrival<'a>(path: PathId, ce: bool, record: &Record<'a>) -> Arrival<'a> {
        Arrival { path, ce, seed: IcrcSeed::record(record.header()), bytes: record.payload() }
    }

    /// Judges a record, and counts the result. `path` is the path that the owner found for its ends. `is_from` says
    /// whether that path takes records from where this one came from; it is asked only if the path is the record's.
    #[inline]
    pub fn accept<'a>(
        &self,
        path: Option<PathId>,
        ce: bool,
        record: &Record<'a>,
        is_from: impl FnOnce(PathId) -> bool,
    ) -> Option<Arrival<'a>> {
        let (header, counters) = (record.header(), &self.counters);
        counters.records_in.add(1);
        if header.msg_type() != MsgType::RC || header.is_part() {
            counters.dropped_unknown_type.add(1);
            return None;
        }
        let Some(path) = path.filter(|&path| self.ends(path) == Some(PathEnds::of(header))) else {
            counters.dropped_not_ours.add(1);
            return None;
        };
        if !is_from(path) {
            counters.refused_source.add(1);
            return None;
        }
        counters.rc_records_in.add(1);
        Some(Self::arrival(path, ce, record))
    }

    /// Sends what an endpoint has ready, as far as there are frames and room in the outbox. Call it once in each poll;
    /// what finds no room is sent by a later call.
    #[inline]
    pub fn transmit<M: Memory>(&mut self, now: Time, endpoint: &mut Endpoint<M>, out: &mut Outbox) {
        if !endpoint.has_output() {
            return;
        }
        let Self { side, scale, routes, counters, nowhere } = self;
        let mut sink = RecordSink::new(*side, *scale, routes, counters, out, nowhere);
        endpoint.transmit(now, &mut sink);
        sink.flush();
    }
}
