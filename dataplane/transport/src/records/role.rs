//! An endpoint as a role: records in, records out.

use super::RecordCounters;
use super::routes::{End, Route};
use super::sink::RecordSink;
use crate::{Arrival, Endpoint, Memory, PathId};
use frame::{Burst, DatagramView, Outbox, Peer, PortId, Role, Table, TableError, Time};
use std::sync::Arc;
use wire::rc::{IcrcSeed, OVERHEAD, PathMtu};
use wire::{MsgType, Record, Scale, Walk};

/// Commands of other threads for a [`RecordRole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordCommand {
    /// The packets of a path go to this peer, a gateway or the other end itself, in IP packets of at most `mtu` bytes.
    /// Packets for the path are accepted only from this peer, or from a gateway.
    Route {
        /// The path.
        path: PathId,
        /// The destination.
        peer: Peer,
        /// Bytes of the largest IP packet.
        mtu: u16,
    },
    /// The path's packets go nowhere until there is a route again.
    NoRoute(PathId),
    /// The other end is gone: its queue pairs fail at once.
    Gone(PathId),
    /// Records of all paths are accepted from this gateway, too: it is the previous one, or the next.
    Gateway(Peer),
    /// The longest time that a record waits in a gateway, in nanoseconds, as gateways announce it.
    Hold(Time),
    /// End. Answers that are due are still sent.
    Drain,
}

/// The most gateways from which records are accepted.
const MOST_GATEWAYS: usize = 16;

/// An endpoint whose packets travel in GVM records.
pub struct RecordRole<M> {
    endpoint: Endpoint<M>,
    end: End,
    scale: Scale,
    routes: Table<Route>,
    gateways: Vec<Peer>,
    counters: Arc<RecordCounters>,
    nowhere: Box<[u8]>,
    now: Time,
    draining: bool,
}

impl<M: Memory> RecordRole<M> {
    /// The role of one end. `paths` comes from the endpoint's [`Config`](crate::Config): slave ids, or masters' ids,
    /// are below it.
    ///
    /// # Errors
    /// There is no memory for its routes.
    pub fn new(endpoint: Endpoint<M>, end: End, scale: Scale, paths: u32) -> Result<Self, TableError> {
        Ok(Self {
            endpoint,
            end,
            scale,
            routes: Table::new(paths as usize, |_| Route::NONE)?,
            gateways: Vec::with_capacity(MOST_GATEWAYS),
            counters: Arc::new(RecordCounters::default()),
            nowhere: vec![0; PathMtu::B4096.bytes() as usize + OVERHEAD + 64].into(),
            now: 0,
            draining: false,
        })
    }

    /// The counters, for others to read.
    pub fn counters(&self) -> &Arc<RecordCounters> {
        &self.counters
    }

    /// The endpoint: queue pairs, regions, work. Posted work leaves with the next [`Role::advance`].
    pub fn endpoint(&mut self) -> &mut Endpoint<M> {
        &mut self.endpoint
    }

    fn take(&mut self, now: Time, datagram: &DatagramView<'_>) {
        self.counters.datagrams_in.add(1);
        for record in Walk::new(datagram.frame.data(), self.scale) {
            self.counters.records_in.add(1);
            match record {
                Ok((_, record)) => self.take_record(now, datagram, &record),
                Err(_) => self.counters.dropped_bad.add(1),
            }
        }
    }

    #[inline]
    fn take_record(&mut self, now: Time, datagram: &DatagramView<'_>, record: &Record<'_>) {
        let header = record.header();
        if header.msg_type() != MsgType::RC || header.is_part() {
            self.counters.dropped_unknown_type.add(1);
            return;
        }
        let path = self.end.path(header);
        let route = path.and_then(|path| Some((path, self.routes.get(path.0 as usize)?)));
        let Some((path, route)) = route.filter(|(_, route)| route.exists()) else {
            self.counters.dropped_not_ours.add(1);
            return;
        };
        let from = |peer: &Peer| datagram.peer.is_same_origin(peer, false);
        if !from(&route.peer) && !self.gateways.iter().any(from) {
            self.counters.refused_source.add(1);
            return;
        }
        self.counters.rc_records_in.add(1);
        let arrival = Arrival { path, ce: datagram.ce, seed: IcrcSeed::record(header), bytes: record.payload() };
        self.endpoint.receive(now, &arrival);
    }
}

impl<M: Memory> Role for RecordRole<M> {
    type Command = RecordCommand;

    fn receive(&mut self, now: Time, _: PortId, burst: &mut Burst, _: &mut Outbox) {
        self.now = now;
        for (number, datagram) in burst.iter() {
            if let Some(next) = burst.get(number + 1) {
                next.frame.prefetch_head();
            }
            self.take(now, &datagram);
        }
        burst.clear();
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        self.now = now;
        self.endpoint.advance(now);
        if self.endpoint.has_output() {
            let mut sink = RecordSink::new(self.end, self.scale, &self.routes, &self.counters, out, &mut self.nowhere);
            self.endpoint.transmit(now, &mut sink);
            sink.flush();
        }
    }

    fn deadline(&self) -> Option<Time> {
        // Packets that found no room are tried again at once.
        if self.endpoint.has_output() { Some(self.now) } else { self.endpoint.deadline() }
    }

    fn command(&mut self, now: Time, command: RecordCommand, _: &mut Outbox) {
        match command {
            RecordCommand::Route { path, peer, mtu } => {
                if let Some(route) = self.routes.get_mut(path.0 as usize) {
                    *route = Route::new(peer, mtu);
                }
            }
            RecordCommand::NoRoute(path) => {
                if let Some(route) = self.routes.get_mut(path.0 as usize) {
                    *route = Route::NONE;
                }
            }
            RecordCommand::Gone(path) => self.endpoint.peer_gone(now, path),
            RecordCommand::Gateway(peer) => {
                if self.gateways.len() < MOST_GATEWAYS && !self.gateways.contains(&peer) {
                    self.gateways.push(peer);
                }
            }
            RecordCommand::Hold(hold) => self.endpoint.set_hold(hold),
            RecordCommand::Drain => self.draining = true,
        }
    }

    fn is_drained(&self) -> bool {
        self.draining && !self.endpoint.has_output()
    }

    fn frames_held(&self) -> usize {
        0
    }
}
