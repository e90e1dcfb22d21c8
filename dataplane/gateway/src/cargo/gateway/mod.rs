//! One lcore's gateway: a burst goes in, and the datagrams that are due come out.

mod place;
mod pushed;
mod traced;

use super::aggregate::{Aggregator, Appended, Closed, Place};
use super::budget::Budgets;
use super::direction::{Both, Direction};
use super::drop::DropReason;
use super::flush::Cause;
use super::pass::{self, Heard, Item, Singles, Tally, Walked};
use super::push::{Pushes, is_free};
use super::route::{Destination, Routes};
use super::share::Shares;
use crate::command::GatewayCommand;
use crate::config::GatewayConfig;
use crate::counters::GatewayCounters;
use crate::trace::Tracer;
use frame::time::{MICROSECOND, MILLISECOND};
use frame::{BURST, Burst, Datagram, LARGE, Outbox, Pool, PortId, Precedence, Role, TableError, Time};
use link::RouteChange;
use std::ops::Range;
use std::sync::Arc;

/// How many items ahead of the current one the first-level cache is asked for the place where records will go.
const NEAR: usize = 8;

/// How many datagrams ahead of the one that is walked the second-level cache is asked for all of one.
const WALK_AHEAD: usize = 2;

/// The longest time for which the lcore may stay away, however long the hold is: what comes in the meantime must have
/// room in a receive buffer.
const LONGEST_AWAY: Time = 100 * MICROSECOND;

/// After a record with PUSH the lcore does not stay away for this time: who waits for one record will most likely wait
/// for the next one.
const PUSH_CALM: Time = MILLISECOND;

/// One lcore's gateway.
pub struct Gateway {
    routes: Routes,
    budgets: Budgets,
    buffers: Aggregator,
    items: Vec<Item>,
    admitted: Vec<Item>,
    shares: Shares,
    pushes: Pushes,
    /// Destinations to which a record with PUSH came in this burst.
    pushed: Vec<Destination>,
    /// Cleared when the route of any master changes.
    heard: Heard,
    counters: Arc<GatewayCounters>,
    hold: Time,
    early: bool,
    low_water: u32,
    last_received: Time,
    /// When a record with PUSH last had an effect.
    last_pushed: Option<Time>,
    /// The lcore stays away for this time between two polls.
    away: Time,
    draining: bool,
    /// Records in buffers. Published when no record is between two places.
    held: Both<u64>,
    /// The trace that reports what happens to records.
    tracer: Option<Box<Tracer>>,
}

impl Gateway {
    /// A gateway without routes, whose buffers come from `pool`.
    ///
    /// # Errors
    /// There is no memory for its tables.
    pub fn new(config: GatewayConfig, pool: &Pool) -> Result<Self, TableError> {
        let routes = Routes::new(config.shards, config.masters, config.lane)?;
        // As many as a burst of the smallest records has: these lists never grow.
        let most = BURST * pool.chunk() as usize / wire::HEADER_LEN;
        Ok(Self {
            buffers: Aggregator::new(routes.destinations(), pool)?,
            shares: Shares::new(routes.shards().slaves())?,
            budgets: Budgets::new(&routes, config.interval)?,
            pushes: Pushes::new(&routes, config.push_rate)?,
            routes,
            items: Vec::with_capacity(most),
            admitted: Vec::with_capacity(most),
            pushed: Vec::with_capacity(most),
            heard: Heard::NOBODY,
            counters: Arc::default(),
            hold: config.hold,
            early: config.early,
            low_water: config.low_water.min(pool.capacity() / 4),
            last_received: 0,
            last_pushed: None,
            away: 0,
            draining: false,
            held: Both::default(),
            tracer: None,
        })
    }

    /// The counters, for other threads to read.
    pub fn counters(&self) -> &Arc<GatewayCounters> {
        &self.counters
    }

    /// Applies a route change. Records that wait for a removed destination are dropped and counted; records that wait
    /// for a moved one go to its new place.
    fn change_route(&mut self, now: Time, change: RouteChange, out: &mut Outbox) {
        let (destination, route) = match change {
            RouteChange::Slave { id, route } => (self.routes.set_slave(id, route), route),
            RouteChange::Master { id, route } => {
                self.heard = Heard::NOBODY;
                (self.routes.set_master(id, route), route)
            }
        };
        // A shard that this gateway does not serve, a master beyond the table, or the end of a master whose beginning
        // an lcore that did not poll never got: none of them has a buffer or a route here.
        let Some(destination) = destination else { return };
        self.buffers.set_room(destination, route.map_or(0, |route| link::datagram_room(&route.peer, route.mtu)));
        if route.is_none() {
            self.forget(destination);
        } else if self.buffers.waiting(destination) > self.buffers.limit(destination) {
            self.recut(now, destination, out);
        }
    }

    /// Sends a destination's buffer, if one is open.
    #[inline(never)]
    fn flush(&mut self, now: Time, destination: Destination, cause: Cause, out: &mut Outbox) {
        let Some(closed) = self.buffers.close(destination) else { return };
        if closed.sum.is_none() {
            // Its checksum will be computed, and headers will be written before it.
            closed.frame.prefetch_whole();
        }
        cause.counter(&self.counters.flush).add(1);
        self.counters.left.hold_ns.record(now.saturating_sub(closed.opened));
        self.counters.left.records_per_datagram.record(u64::from(closed.records));
        self.release(destination, closed.records);
        if let Some(&link::Route { peer, .. }) = self.routes.get(destination) {
            let Closed { frame, records, ce, sum, .. } = closed;
            out.pass_on(Datagram { frame, peer, records, class: self.routes.class(destination), ce, sum });
        }
    }

    /// The count of records in buffers for the destination's direction.
    #[inline]
    fn held_of(&mut self, destination: Destination) -> &mut u64 {
        self.held.of_mut(Direction::of(self.routes.class(destination)))
    }

    #[inline]
    fn release(&mut self, destination: Destination, records: u16) {
        let held = self.held_of(destination);
        *held = held.wrapping_sub(u64::from(records));
    }

    fn publish_held(&self) {
        self.counters.up.held.set(self.held.up);
        self.counters.down.held.set(self.held.down);
    }

    /// Sends the oldest buffers, at most `most` of them.
    fn flush_oldest(&mut self, now: Time, most: usize, cause: Cause, out: &mut Outbox) {
        for _ in 0..most {
            let Some((_, destination)) = self.buffers.oldest() else { break };
            self.flush(now, destination, cause, out);
        }
    }

    /// Takes a burst of datagrams that are one record each, all of one direction. `to` begins with their destinations.
    #[inline(always)]
    fn take_singles(
        &mut self,
        now: Time,
        direction: Direction,
        singles: Singles,
        to: &[Destination; BURST],
        burst: &mut Burst,
        out: &mut Outbox,
    ) {
        if singles.have_push() {
            self.append_pushed(now, direction, singles.records, to, burst, out);
        } else {
            self.append_singles(now, direction, singles.records, to, burst, out);
        }
    }

    /// Appends a burst of datagrams that are one record each, all of one direction, to the destinations that `to`
    /// begins with, one for each of them.
    fn append_singles(
        &mut self,
        now: Time,
        direction: Direction,
        records: usize,
        to: &[Destination; BURST],
        burst: &mut Burst,
        out: &mut Outbox,
    ) {
        // They count as held from the start. A record that finds no buffer is subtracted where that is found.
        let held = self.held.of_mut(direction);
        *held = held.wrapping_add(records as u64);
        let mut places = [Place::NONE; BURST];
        let records = records.min(BURST);
        for number in 0..records {
            places[number] = self.prefetch_far(to[number], burst.part(number).0.len());
        }
        let mut done = 0;
        while let Some((number, appended)) = self.append_run(done..records, to, &places, burst) {
            let destination = to[number % BURST];
            match appended {
                Appended::Full => self.flush(now, destination, Cause::Full, out),
                _ => self.place_single(now, number, destination, burst, out),
            }
            done = number + 1;
        }
    }

    /// Appends the records of a burst with these numbers up to the first one that fills its buffer, or finds no buffer
    /// with room. Returns the number of that one.
    #[inline(always)]
    fn append_run(
        &mut self,
        numbers: Range<usize>,
        to: &[Destination; BURST],
        places: &[Place; BURST],
        burst: &Burst,
    ) -> Option<(usize, Appended)> {
        for number in numbers {
            let (bytes, note) = burst.part(number);
            // That record is most likely as long as this one. Behind the last one it is the first one again.
            places[(number + NEAR) % BURST].prefetch(bytes.len());
            if bytes.len() >= LARGE {
                self.prefetch_next_copy(number + 1, to, burst);
            }
            match self.buffers.append(to[number % BURST], bytes, 1, note) {
                Appended::Waiting => {}
                other => return Some((number, other)),
            }
        }
        None
    }

    /// The copy of a large record waits for memory line by line if its bytes are not near. The place that it goes to
    /// needs no request: a copy writes whole lines.
    fn prefetch_next_copy(&self, next: usize, to: &[Destination], burst: &Burst) {
        if let Some(&destination) = to.get(next) {
            self.buffers.prefetch_copy(destination, burst.bytes(next));
        }
    }

    /// Appends all items to the buffers of their destinations.
    fn append_items(&mut self, now: Time, burst: &mut Burst, out: &mut Outbox) {
        let items = std::mem::take(&mut self.items);
        // Three steps ahead of the append: the entry, the place that it names, and that place in the first-level cache.
        for item in items.iter().take(2 * BURST) {
            self.buffers.prefetch_far_entry(item.destination);
        }
        let mut places = [Place::NONE; BURST];
        for (item, place) in items.iter().zip(&mut places) {
            *place = self.prefetch_far(item.destination, usize::from(item.len));
        }
        for (at, item) in items.iter().enumerate() {
            if let Some(farthest) = items.get(at + 2 * BURST) {
                self.buffers.prefetch_far_entry(farthest.destination);
            }
            if let (Some(far), Some(place)) = (items.get(at + BURST), places.get_mut(at % BURST)) {
                *place = self.prefetch_far(far.destination, usize::from(far.len));
            }
            if let Some(near) = places.get((at + NEAR) % BURST) {
                near.prefetch(usize::from(item.len));
            }
            let (number, start, len) = (usize::from(item.datagram), usize::from(item.offset), usize::from(item.len));
            let whole = burst.bytes(number);
            let Some(bytes) = whole.get(start..start + len) else {
                frame::never!("records count as held and their datagram is gone");
                continue;
            };
            let note = if len == whole.len() { burst.note(number) } else { burst.note(number).of_part() };
            match self.buffers.append(item.destination, bytes, item.records, note) {
                Appended::Waiting => {}
                Appended::Full => self.flush(now, item.destination, Cause::Full, out),
                Appended::NotOpen | Appended::NoRoom => self.place(now, *item, burst, out),
            }
        }
        self.items = items;
        self.items.clear();
    }

    /// Asks the second-level cache for the place where the next `len` bytes for a destination will go. If the buffer
    /// will leave with them, it also asks for what that touches.
    #[inline(always)]
    fn prefetch_far(&self, destination: Destination, len: usize) -> Place {
        self.buffers.prefetch_far(destination, len, || self.routes.prefetch_far(destination))
    }

    /// The destinations of the burst's first datagrams, as long as each is one record from a master to a slave. They
    /// need no item list and no further check.
    fn leading_singles(&mut self, burst: &Burst, to: &mut [Destination; BURST]) -> Singles {
        let Self { routes, heard, buffers, .. } = self;
        let singles = pass::singles(burst, heard, routes, to, |found| buffers.prefetch_entry(found));
        self.counters.down.datagrams_in.add(singles.records as u64);
        self.counters.down.records_in.add(singles.records as u64);
        self.counters.down.bytes_in.add(singles.bytes);
        singles
    }

    /// The destinations of a burst in which every datagram is one record to a master from a slave that may send it.
    /// Such a burst needs no item list. If the burst is another one, nothing was counted.
    fn singles_upward(&self, burst: &Burst, to: &mut [Destination; BURST]) -> Option<Singles> {
        let singles = pass::singles_upward(burst, &self.routes, to)?;
        self.counters.up.datagrams_in.add(burst.len() as u64);
        self.counters.up.records_in.add(burst.len() as u64);
        self.counters.up.bytes_in.add(singles.bytes);
        Some(singles)
    }

    /// Handles any burst whose first datagrams are known to be singles. All other datagrams are walked into a list of
    /// items.
    fn receive_any(&mut self, now: Time, singles: &[Destination], burst: &mut Burst, out: &mut Outbox) {
        for (number, &destination) in singles.iter().enumerate() {
            self.items.push(Item::single(number, burst.bytes(number), destination));
        }
        let mut links: u64 = 0;
        let mut tally = Tally::default();
        for (number, datagram) in burst.iter().filter(|&(number, _)| number >= singles.len()) {
            // The walk reads nearly all lines of a datagram.
            frame::copy::prefetch_far_bytes(burst.bytes(number + WALK_AHEAD));
            match pass::walk(number, &datagram, &self.routes, &mut self.items, &mut tally, &self.counters, |_, _| ()) {
                Walked::Cargo => {}
                Walked::Link(records) => {
                    links |= 1 << number;
                    self.counters.flush.link_datagrams_in.add(1);
                    self.counters.flush.link_records_in.add(records);
                }
            }
        }
        tally.publish(&self.counters);
        if links != 0 {
            for number in (0..burst.len()).filter(|number| links & (1 << number) != 0) {
                if let Some(datagram) = burst.take(number) {
                    self.hand_over(now, datagram, out);
                }
            }
        }
        if out.is_contended() {
            self.admit_shares(burst, out, |_, _| ());
        } else if tally.has_upward() {
            self.check_origin(burst, |_, _| ());
        }
        self.grant_pushes(now, burst, |port| is_free(out, port));
        self.hold_all();
        self.append_items(now, burst, out);
        self.flush_pushed(now, out);
    }

    /// Keeps the items that come from where their slave is registered, and reports the others to `dropped`.
    #[inline]
    fn check_origin(&mut self, burst: &Burst, dropped: impl FnMut(&Item, DropReason)) {
        let Self { items, admitted, routes, counters, .. } = self;
        pass::check_origin(items, admitted, burst, routes, counters, |_| Ok(()), dropped);
    }

    /// The same while a port is contended: of what goes there, the fair share of each slave passes.
    #[cold]
    fn admit_shares(&mut self, burst: &Burst, out: &Outbox, dropped: impl FnMut(&Item, DropReason)) {
        let Self { items, admitted, routes, counters, shares, .. } = self;
        shares.deal(out.counters());
        let judge = |item: &Item| {
            let class = routes.class(item.destination);
            let slave = if Direction::of(class) == Direction::Down { item.destination } else { item.source };
            // Without a route it is dropped later, as `NoRoute`.
            let Some(route) = routes.get(item.destination) else { return Ok(()) };
            let admits = shares.admits(class, slave, usize::from(item.len), route.peer.port, out);
            admits.then_some(()).ok_or(DropReason::FairShare)
        };
        pass::check_origin(items, admitted, burst, routes, counters, judge, dropped);
    }

    /// A burst while a port is contended: each record is read, and counted against its slave's share.
    #[cold]
    fn receive_contended(&mut self, now: Time, burst: &mut Burst, out: &mut Outbox) {
        self.receive_any(now, &[], burst, out);
        burst.clear();
        self.publish_held();
    }

    /// Hands link control over to the registrar.
    fn hand_over(&mut self, now: Time, datagram: Datagram, out: &mut Outbox) {
        let precedence = self.budgets.judge(now, &self.routes, &datagram.peer, datagram.frame.data());
        match precedence {
            Precedence::Member => {}
            Precedence::Stranger => self.counters.flush.link_strangers_in.add(1),
            Precedence::Excess => self.counters.flush.link_excess_in.add(1),
        }
        out.control(precedence, datagram);
    }

    /// Counts all items as held.
    fn hold_all(&mut self) {
        let first_master = self.routes.shards().slaves();
        let [mut up, mut down] = [0, 0];
        for item in &self.items {
            let direction = if item.destination < first_master { &mut down } else { &mut up };
            *direction += u64::from(item.records);
        }
        self.held.up = self.held.up.wrapping_add(up);
        self.held.down = self.held.down.wrapping_add(down);
    }
}

impl Gateway {
    /// How long a buffer may wait here, so that no record of it is older than the hold when it leaves. While the lcore
    /// stays away, a record can be as old as one absence when it comes, and one more absence passes before the next
    /// look.
    #[inline]
    fn patience(&self) -> Time {
        self.hold.saturating_sub(2 * self.away)
    }

    /// Sends what is due.
    #[inline]
    fn flush_due(&mut self, now: Time, out: &mut Outbox) {
        if self.draining {
            self.flush_oldest(now, usize::MAX, Cause::Drain, out);
        }
        while let Some((opened, destination)) = self.buffers.oldest()
            && now.saturating_sub(opened) >= self.patience()
        {
            self.flush(now, destination, Cause::Hold, out);
        }
        let open = self.buffers.open_buffers();
        if open > 0 && self.early && now.saturating_sub(self.last_received) >= self.hold / 4 {
            self.flush_oldest(now, open, Cause::Early, out);
        }
    }

    /// Carries out a command.
    fn obey(&mut self, now: Time, command: GatewayCommand, out: &mut Outbox) {
        match command {
            GatewayCommand::Route(change) => self.change_route(now, change, out),
            GatewayCommand::Reply { peer, bytes } => self.reply(peer, &bytes, out),
            GatewayCommand::SetHold(hold) => self.hold = hold,
            GatewayCommand::SetEarly(early) => self.early = early,
            GatewayCommand::Trace(tracer) => self.set_tracer(*tracer),
            GatewayCommand::Drain => self.draining = true,
        }
    }
}

impl Role for Gateway {
    type Command = GatewayCommand;
    const SHEDS: bool = true;

    fn receive(&mut self, now: Time, _port: PortId, burst: &mut Burst, out: &mut Outbox) {
        if burst.is_empty() {
            return;
        }
        self.last_received = now;
        if self.tracer.is_some() && self.receive_traced(now, burst, out) {
            burst.clear();
            return self.publish_held();
        }
        let mut to = [0; BURST];
        if out.is_contended() {
            return self.receive_contended(now, burst, out);
        }
        let singles = self.leading_singles(burst, &mut to);
        if singles.records == burst.len() {
            self.take_singles(now, Direction::Down, singles, &to, burst, out);
        } else if singles.records == 0
            && let Some(singles) = self.singles_upward(burst, &mut to)
        {
            self.take_singles(now, Direction::Up, singles, &to, burst, out);
        } else {
            self.receive_any(now, to.get(..singles.records).unwrap_or(&[]), burst, out);
        }
        burst.clear();
        self.publish_held();
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if self.tracer.is_some() {
            self.advance_traced(now, out);
        } else {
            self.flush_due(now, out);
        }
        self.counters.flush.buffers_open.set(self.buffers.open_buffers() as u64);
        self.publish_held();
    }

    fn deadline(&self) -> Option<Time> {
        let (opened, _) = self.buffers.oldest()?;
        let due = opened.saturating_add(self.patience());
        let early = self.last_received.saturating_add(self.hold / 4);
        Some(if self.early { due.min(early) } else { due })
    }

    fn may_stay_away(&self) -> u64 {
        let pushed = self.last_pushed.is_some_and(|pushed| self.last_received.saturating_sub(pushed) < PUSH_CALM);
        if self.draining || pushed { 0 } else { self.hold.min(LONGEST_AWAY) }
    }

    fn stays_away(&mut self, ns: u64) {
        self.away = ns;
    }

    fn command(&mut self, now: Time, command: GatewayCommand, out: &mut Outbox) {
        if self.tracer.is_some() {
            self.command_traced(now, command, out);
        } else {
            self.obey(now, command, out);
        }
        self.publish_held();
    }

    fn is_drained(&self) -> bool {
        self.draining && self.buffers.open_buffers() == 0
    }

    fn frames_held(&self) -> usize {
        self.buffers.open_buffers()
    }
}
