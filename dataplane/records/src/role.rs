//! An endpoint as a role: records in, records out.

use crate::RecordCounters;
use crate::framing::Framing;
use crate::routes::{PathEnds, Side};
use frame::{Burst, DatagramView, Outbox, Peer, PortId, Role, TableError, Time};
use std::sync::Arc;
use transport::{Endpoint, Memory, PathId};
use wire::{Record, RecordHeader, Scale, Walk};

/// Which end of its connections a [`RecordRole`] is. It gives the path numbers their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The master with this id; a [`PathId`] is a slave id.
    Master(u16),
    /// The slave with this id; a [`PathId`] is a master's id.
    Slave(u32),
}

impl End {
    fn side(self) -> Side {
        match self {
            Self::Master(_) => Side::Master,
            Self::Slave(_) => Side::Slave,
        }
    }

    /// Both ends of a path.
    fn ends(self, path: PathId) -> PathEnds {
        match self {
            Self::Master(master) => PathEnds { slave: path.0, master },
            Self::Slave(slave) => PathEnds { slave, master: path.0 as u16 },
        }
    }

    /// The path of a received record; `None` if it is for another end.
    #[inline]
    fn path(self, header: &RecordHeader) -> Option<PathId> {
        match self {
            Self::Master(master) => (header.master_id() == master).then_some(PathId(header.slave_id())),
            Self::Slave(slave) => (header.slave_id() == slave).then_some(PathId(header.master_id().into())),
        }
    }
}

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
    framing: Framing,
    gateways: Vec<Peer>,
    now: Time,
    draining: bool,
}

impl<M: Memory> RecordRole<M> {
    /// The role of one end. `paths` comes from the endpoint's [`Config`](transport::Config): slave ids, or masters'
    /// ids, are below it.
    ///
    /// # Errors
    /// There is no memory for its routes.
    pub fn new(endpoint: Endpoint<M>, end: End, scale: Scale, paths: u32) -> Result<Self, TableError> {
        Ok(Self {
            endpoint,
            end,
            scale,
            framing: Framing::new(end.side(), scale, paths)?,
            gateways: Vec::with_capacity(MOST_GATEWAYS),
            now: 0,
            draining: false,
        })
    }

    /// The counters, for others to read.
    pub fn counters(&self) -> &Arc<RecordCounters> {
        self.framing.counters()
    }

    /// The endpoint: queue pairs, regions, work. Posted work leaves with the next [`Role::advance`].
    pub fn endpoint(&mut self) -> &mut Endpoint<M> {
        &mut self.endpoint
    }

    fn take(&mut self, now: Time, datagram: &DatagramView<'_>) {
        let counters = self.framing.counters();
        counters.datagrams_in.add(1);
        for record in Walk::new(datagram.frame.data(), self.scale) {
            match record {
                Ok((_, record)) => self.take_record(now, datagram, &record),
                Err(_) => {
                    let counters = self.framing.counters();
                    counters.records_in.add(1);
                    counters.dropped_bad.add(1);
                }
            }
        }
    }

    #[inline]
    fn take_record(&mut self, now: Time, datagram: &DatagramView<'_>, record: &Record<'_>) {
        let Self { framing, gateways, .. } = self;
        let is_from = |path| framing.is_from(path, datagram.peer, gateways);
        let path = self.end.path(record.header());
        if let Some(arrival) = framing.accept(path, datagram.ce, record, is_from) {
            self.endpoint.receive(now, &arrival);
        }
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
        self.framing.transmit(now, &mut self.endpoint, out);
    }

    fn deadline(&self) -> Option<Time> {
        // Packets that found no room are tried again at once.
        if self.endpoint.has_output() { Some(self.now) } else { self.endpoint.deadline() }
    }

    fn command(&mut self, now: Time, command: RecordCommand, _: &mut Outbox) {
        match command {
            RecordCommand::Route { path, peer, mtu } => {
                self.framing.set_route(path, self.end.ends(path), peer, mtu);
            }
            RecordCommand::NoRoute(path) => self.framing.clear_route(path),
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
