//! The gateway role: blind aggregation of records between masters and slaves.
//!
//! Cargo is blind: the gateway reads record headers, never payloads, and changes no byte of a record. Records are
//! appended to the open buffer of their destination, which is the frame that will leave; a flush cause sends it.
//! Sans-I/O: bytes and `now` come in, frames go out, nothing else is touched.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what it is told at start |
//! | [`route`] | where slaves and masters are; who may send what |
//! | [`pass`] | a burst, walked into a list of what goes where |
//! | [`aggregate`] | the pointer array and its buffers |
//! | [`order`] | open buffers in opening order: which are due |
//! | [`flush`] | why a buffer leaves |
//! | [`counters`] | what came in and what became of it |
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod config;
pub mod counters;
pub mod flush;
pub mod order;
pub mod pass;
mod place;
pub mod route;

pub use config::GatewayConfig;
pub use counters::GatewayCounters;

use aggregate::{Aggregator, Appended};
use flush::Cause;
use frame::{Burst, Class, Datagram, Outbox, Peer, Pool, PortId, Role, Time};
use link::RouteChange;
use pass::{AHEAD, Item, Walked};
use route::{Destination, Routes};
use std::sync::Arc;

/// What other threads tell a gateway.
#[derive(Debug)]
pub enum Command {
    /// A slave or master came, went or moved.
    Route(RouteChange),
    /// The registrar's answer to link control: whole records, to be sent as one datagram.
    Reply {
        /// Where to.
        peer: Peer,
        /// The records.
        bytes: Box<[u8]>,
    },
    /// A new hold, in nanoseconds.
    SetHold(Time),
    /// Early flush on or off.
    SetEarly(bool),
    /// Hand over all that is held, and hold nothing any more.
    Drain,
}

/// One lcore's gateway.
pub struct Gateway {
    routes: Routes,
    buffers: Aggregator,
    items: Vec<Item>,
    admitted: Vec<Item>,
    counters: Arc<GatewayCounters>,
    hold: Time,
    early: bool,
    low_water: u32,
    last_received: Time,
    draining: bool,
}

impl Gateway {
    /// A gateway without routes, whose buffers come from `pool`.
    pub fn new(config: GatewayConfig, pool: &Pool) -> Self {
        let routes = Routes::new(config.shards, config.masters);
        Self {
            buffers: Aggregator::new(routes.destinations(), pool),
            routes,
            items: Vec::with_capacity(4096),
            admitted: Vec::with_capacity(4096),
            counters: Arc::default(),
            hold: config.hold,
            early: config.early,
            low_water: config.low_water.min(pool.capacity() / 4),
            last_received: 0,
            draining: false,
        }
    }

    /// The counters, to be read by others.
    pub fn counters(&self) -> &Arc<GatewayCounters> {
        &self.counters
    }

    /// Applies a route change. What waits for a destination that is gone is dropped and counted; what waits for one
    /// that moved goes to its new place.
    fn change_route(&mut self, change: RouteChange, out: &mut Outbox) {
        let (destination, route) = match change {
            RouteChange::Slave { id, route } => (self.routes.set_slave(id, route), route),
            RouteChange::Master { id, route } => (self.routes.set_master(id, route), route),
        };
        let Some(destination) = destination else { return };
        self.buffers.set_mtu(destination, route.map(|route| route.mtu));
        if route.is_none() || self.buffers.waiting(destination) > self.buffers.limit(destination) {
            self.flush(destination, Cause::Order, out);
        }
    }

    /// Sends a destination's buffer, if one is open.
    #[inline]
    fn flush(&mut self, destination: Destination, cause: Cause, out: &mut Outbox) {
        let Some(closed) = self.buffers.close(destination) else { return };
        cause.counter(&self.counters.flush).add(1);
        let class = self.routes.class(destination);
        let direction = if class == Class::Down { &self.counters.down } else { &self.counters.up };
        direction.held.add(u64::from(closed.records).wrapping_neg());
        match self.routes.get(destination) {
            Some(&link::Route { peer, .. }) => {
                let (frame, records, ce) = (closed.frame, closed.records, closed.ce);
                out.send(Datagram { frame, peer, records, class, ce });
            }
            None => direction.dropped_route_removed.add(u64::from(closed.records)),
        }
    }

    /// Sends the oldest buffers, at most `most` of them.
    fn flush_oldest(&mut self, most: usize, cause: Cause, out: &mut Outbox) {
        for _ in 0..most {
            let Some((_, destination)) = self.buffers.oldest() else { break };
            self.flush(destination, cause, out);
        }
    }

    fn append_all(&mut self, now: Time, burst: &mut Burst, out: &mut Outbox) {
        for item in self.items.iter().take(AHEAD) {
            self.buffers.prefetch_entry(item.destination);
        }
        for item in self.items.iter().take(AHEAD / 2) {
            self.buffers.prefetch_tail(item.destination);
        }
        let mut next = 0;
        let (mut down, mut up) = (0, 0);
        let first_master = self.routes.shards().slaves();
        for (number, mut datagram) in burst.drain().enumerate() {
            while let Some(&item) = self.items.get(next)
                && usize::from(item.datagram) == number
            {
                if let Some(ahead) = self.items.get(next + AHEAD) {
                    self.buffers.prefetch_entry(ahead.destination);
                }
                if let Some(ahead) = self.items.get(next + AHEAD / 2) {
                    self.buffers.prefetch_tail(ahead.destination);
                }
                next += 1;
                let start = usize::from(item.offset);
                let bytes = datagram.frame.data().get(start..start + usize::from(item.len)).unwrap_or(&[]);
                let appended = self.buffers.append(item.destination, bytes, item.records, datagram.ce);
                match appended {
                    Appended::Waiting | Appended::Full => {
                        let held = if item.destination < first_master { &mut down } else { &mut up };
                        *held += u64::from(item.records);
                        if appended == Appended::Full {
                            self.flush(item.destination, Cause::Full, out);
                        }
                    }
                    Appended::NotOpen | Appended::NoRoom => match self.place(now, item, datagram, out) {
                        Some(left) => datagram = left,
                        None => break,
                    },
                }
            }
        }
        self.counters.down.held.add(down);
        self.counters.up.held.add(up);
        self.items.clear();
    }
}

impl Role for Gateway {
    type Command = Command;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, out: &mut Outbox) {
        if burst.is_empty() {
            return;
        }
        self.last_received = now;
        let mut links: u64 = 0;
        for (number, datagram) in burst.as_slice().iter().enumerate() {
            match pass::walk(number as u16, datagram, &self.routes, &mut self.items, &self.counters) {
                Walked::Cargo => {}
                Walked::Link(records) => {
                    links |= 1 << number;
                    self.counters.flush.link_datagrams_in.add(1);
                    self.counters.flush.link_records_in.add(records);
                }
            }
        }
        if self.items.iter().any(|item| item.source != pass::FROM_MASTER) {
            let up = &self.counters.up;
            pass::check_origin(&mut self.items, &mut self.admitted, burst.as_slice(), &self.routes, up);
        }
        if links != 0 {
            self.split_links(now, links, burst, out);
        } else {
            self.append_all(now, burst, out);
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if self.draining {
            self.flush_oldest(usize::MAX, Cause::Drain, out);
        }
        while let Some((opened, destination)) = self.buffers.oldest()
            && now.saturating_sub(opened) >= self.hold
        {
            self.flush(destination, Cause::Hold, out);
        }
        let open = self.buffers.open_buffers();
        if open > 0 && self.early && now.saturating_sub(self.last_received) >= self.hold / 4 {
            self.flush_oldest(open, Cause::Early, out);
        }
        let flush = &self.counters.flush;
        flush.buffers_open.set(self.buffers.open_buffers() as u64);
        flush.buffers_open_max.raise(open as u64);
    }

    fn deadline(&self) -> Option<Time> {
        let (opened, _) = self.buffers.oldest()?;
        let due = opened.saturating_add(self.hold);
        let early = self.last_received.saturating_add(self.hold / 4);
        Some(if self.early { due.min(early) } else { due })
    }

    fn command(&mut self, _now: Time, command: Command, out: &mut Outbox) {
        match command {
            Command::Route(change) => self.change_route(change, out),
            Command::Reply { peer, bytes } => self.reply(peer, &bytes, out),
            Command::SetHold(hold) => self.hold = hold,
            Command::SetEarly(early) => self.early = early,
            Command::Drain => self.draining = true,
        }
    }

    fn is_drained(&self) -> bool {
        self.draining && self.buffers.open_buffers() == 0
    }

    fn frames_held(&self) -> usize {
        self.buffers.open_buffers()
    }
}
