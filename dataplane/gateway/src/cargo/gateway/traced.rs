//! A traced gateway: it handles bursts record by record, through the same code. The passes report why they drop a
//! record; buffers and counters, compared before and after, show what happened to every other record.

use super::Gateway;
use crate::aggregate::Open;
use crate::command::GatewayCommand;
use crate::counters::{DirectionCounters, FlushCounters};
use crate::drop::DropReason;
use crate::flush::Cause;
use crate::pass::{self, Item, Tally, Walked};
use crate::push::is_free;
use crate::route::Destination;
use crate::trace::{Event, Fate, Traced, Tracer, Waiting};
use frame::{Burst, Outbox, PortId, Time};
use wire::Record;

/// The ports when a burst began.
#[derive(Clone, Copy)]
struct Begun {
    /// Whether any is contended.
    contended: bool,
    /// A bit for each that is not.
    free: u64,
}

/// Values of counters that show what was done.
#[derive(Clone, Copy, Default)]
struct Marks {
    full: u64,
    order: u64,
    forwarded: u64,
    /// In the order of [`Marks::DROPPED`].
    dropped: [u64; 3],
}

impl Marks {
    const DROPPED: [DropReason; 3] = [DropReason::TooLarge, DropReason::NoFrame, DropReason::NoRoute];

    fn of(flush: &FlushCounters, direction: &DirectionCounters) -> Self {
        Self {
            full: flush.flush_full.get(),
            order: flush.flush_order.get(),
            forwarded: flush.forwarded_whole.get(),
            dropped: Self::DROPPED.map(|reason| reason.counter(direction).get()),
        }
    }

    fn since(self, before: Self) -> Self {
        let mut dropped = self.dropped;
        dropped.iter_mut().zip(before.dropped).for_each(|(now, before)| *now = now.wrapping_sub(before));
        Self {
            full: self.full.wrapping_sub(before.full),
            order: self.order.wrapping_sub(before.order),
            forwarded: self.forwarded.wrapping_sub(before.forwarded),
            dropped,
        }
    }

    fn drop_reason(&self) -> Option<DropReason> {
        Self::DROPPED.into_iter().zip(self.dropped).find(|(_, count)| *count > 0).map(|(reason, _)| reason)
    }
}

impl Gateway {
    /// Begins a trace; it replaces an earlier one.
    pub(super) fn set_tracer(&mut self, tracer: Tracer) {
        self.tracer = Some(Box::new(tracer));
    }

    /// Takes a burst if it, or what waits, concerns the traced slave; otherwise leaves it.
    #[cold]
    pub(super) fn receive_traced(&mut self, now: Time, burst: &mut Burst, out: &mut Outbox) -> bool {
        let Some(mut tracer) = self.tracer.take() else { return false };
        if tracer.is_over() {
            return false;
        }
        let scale = self.routes.shards().scale();
        let concerns = |data: &[u8], tracer: &mut Tracer| {
            tracer.find(data, scale);
            !tracer.records.is_empty()
        };
        let takes = !tracer.waiting.is_empty()
            || burst.iter().any(|(_, datagram)| concerns(datagram.frame.data(), &mut tracer));
        if takes {
            // As of now, for the whole burst, as without a trace: what leaves in between may make a port contended.
            let begun = Begun {
                contended: out.is_contended(),
                free: (0..out.ports().min(64))
                    .fold(0, |free, at| free | u64::from(is_free(out, PortId(at as u8))) << at),
            };
            for number in 0..burst.len() {
                self.one_datagram(now, number, burst, begun, &mut tracer, out);
            }
            self.look_at_waiting(&mut tracer);
            self.flush_pushed(now, out);
            self.tell_gone(now, |_| Cause::Push.name(), &mut tracer);
        }
        self.tracer = Some(tracer);
        takes
    }

    fn one_datagram(
        &mut self,
        now: Time,
        number: usize,
        burst: &mut Burst,
        begun: Begun,
        tracer: &mut Tracer,
        out: &mut Outbox,
    ) {
        let Some(datagram) = burst.get(number) else {
            return frame::never!("a datagram of a burst is gone before it was walked");
        };
        let (peer, whole) = (*datagram.peer, datagram.frame.len());
        tracer.find(datagram.frame.data(), self.routes.shards().scale());
        let mut tally = Tally::default();
        let (items, counters) = (&mut self.items, &self.counters);
        let walked = pass::walk(number, &datagram, &self.routes, items, &mut tally, counters, |start, reason| {
            tracer.note_dropped(start, start + 1, reason);
        });
        tally.publish(&self.counters);
        let told = |tracer: &Tracer, record: &Traced, fate: Fate| {
            let number = tracer.claim()?;
            let &Traced { offset, len, msg_type, req_id } = record;
            let (lcore, datagram) = (tracer.lcore, whole);
            let event =
                Event::Arrived { number, time: now, lcore, peer, offset, datagram, msg_type, req_id, len, fate };
            tracer.say(event);
            Some(number)
        };
        if let Walked::Link(links) = walked {
            self.counters.flush.link_datagrams_in.add(1);
            self.counters.flush.link_records_in.add(links);
            for record in &tracer.records {
                told(tracer, record, Fate::Registrar);
            }
            if let Some(datagram) = burst.take(number) {
                self.hand_over(now, datagram, out);
            }
        } else {
            let dropped = |item: &Item, reason| {
                let start = usize::from(item.offset);
                tracer.note_dropped(start, start + usize::from(item.len), reason);
            };
            if begun.contended {
                self.admit_shares(burst, out, dropped);
            } else if tally.has_upward() {
                self.check_origin(burst, dropped);
            }
            self.grant_pushes(now, burst, |port| port.0 < 64 && begun.free >> port.0 & 1 != 0);
            let records = std::mem::take(&mut tracer.records);
            for record in &records {
                let reason = tracer.dropped.iter().find(|(start, _)| *start == record.offset);
                if let Some(&(_, reason)) = reason {
                    told(tracer, record, Fate::Dropped(reason));
                }
            }
            let mut items = std::mem::take(&mut self.items);
            for item in items.drain(..) {
                self.one_item(now, item, burst, &records, tracer, &told, out);
            }
            self.items = items;
            tracer.records = records;
        }
    }

    /// Places an item: at once if it is a datagram that is placed whole, otherwise record by record.
    #[expect(clippy::too_many_arguments, reason = "what is in hand, and who is told")]
    fn one_item(
        &mut self,
        now: Time,
        item: Item,
        burst: &mut Burst,
        records: &[Traced],
        tracer: &mut Tracer,
        told: &dyn Fn(&Tracer, &Traced, Fate) -> Option<u32>,
        out: &mut Outbox,
    ) {
        let number = usize::from(item.datagram);
        let Some(whole) = burst.get(number).map(|datagram| datagram.frame.len()) else {
            return frame::never!("an item is to be placed and its datagram is gone");
        };
        let fits = usize::from(item.len) <= self.buffers.limit(item.destination);
        let is_alone = self.buffers.look(item.destination).is_none();
        if usize::from(item.len) == whole && fits && (is_alone || self.goes_whole(&item, out)) {
            return self.unit(now, item, burst, records, tracer, told, out);
        }
        let (mut at, end) = (usize::from(item.offset), usize::from(item.offset) + usize::from(item.len));
        while at < end {
            let rest = burst.bytes(number).get(at..end).unwrap_or(&[]);
            let Ok(record) = Record::first(rest) else {
                return frame::never!("records are to be placed and cannot be read again");
            };
            let len = record.bytes().len();
            let one = Item { offset: at as u16, len: len as u16, records: 1, ..item };
            self.unit(now, one, burst, records, tracer, told, out);
            at += len;
        }
    }

    /// Places records that stay together, and reports what happened to the traced ones.
    #[expect(clippy::too_many_arguments, reason = "what is in hand, and who is told")]
    fn unit(
        &mut self,
        now: Time,
        item: Item,
        burst: &mut Burst,
        records: &[Traced],
        tracer: &mut Tracer,
        told: &dyn Fn(&Tracer, &Traced, Fate) -> Option<u32>,
        out: &mut Outbox,
    ) {
        let (to, len) = (item.destination, usize::from(item.len));
        let frame = burst.get(usize::from(item.datagram)).map(|datagram| datagram.frame.index());
        let limit = self.buffers.limit(to);
        let before = self.buffers.look(to);
        self.look_at_waiting(tracer);
        let marks = self.marks(to);
        self.items.push(item);
        self.hold_all();
        self.append_items(now, burst, out);
        let done = self.marks(to).since(marks);
        let after = self.buffers.look(to);

        // Whether it was appended behind what waited. If not, what waited left before it, if it left.
        let joined = before.filter(|open| open.bytes + len <= limit && done.forwarded == 0);
        let flushed = if done.order > 0 { Cause::Order } else { Cause::Full }.name();
        let closed = done.full + done.order > 0;
        let (count, peer) = (item.records, self.routes.get(to).map(|route| route.peer));
        let (fate, left) = if let Some(reason) = done.drop_reason() {
            (Fate::Dropped(reason), None)
        } else if let (true, Some(peer)) = (done.forwarded > 0, peer) {
            (Fate::Forwarded(count, len, peer), None)
        } else if let Some(open) = joined {
            let (records, bytes) = (open.records + count, open.bytes + len);
            let left = closed.then_some(Open { records, bytes, ..open });
            (Fate::Appended(now.saturating_sub(open.opened), records, bytes), left)
        } else {
            let fresh = Open { opened: now, records: count, bytes: len, frame: 0 };
            let is_adopted = after.is_some_and(|open| Some(open.frame) == frame);
            let fate = if is_adopted { Fate::Adopted(count, len) } else { Fate::Opened(count, len) };
            (fate, after.is_none().then_some(fresh))
        };
        // Records that waited for the same destination leave first, unless this one was appended to them.
        let gone = if closed && joined.is_none() { before } else { None };
        if let Some(open) = gone {
            self.tell_left(now, to, open, flushed, tracer);
        }
        let range = usize::from(item.offset)..usize::from(item.offset) + len;
        for record in records.iter().filter(|record| range.contains(&record.offset)) {
            let Some(number) = told(tracer, record, fate) else { continue };
            let waits = matches!(fate, Fate::Opened(..) | Fate::Adopted(..) | Fate::Appended(..));
            let opened = joined.map_or(now, |open| open.opened);
            if waits && tracer.waiting.len() < tracer.waiting.capacity() {
                tracer.waiting.push(Waiting { number, destination: to, opened });
            }
        }
        if let Some(open) = left {
            self.tell_left(now, to, open, flushed, tracer);
        }
        // The oldest may have left to make room.
        self.tell_gone(now, |_| Cause::Room.name(), tracer);
    }

    /// Timers and flushes, which also report the traced records that wait.
    #[cold]
    pub(super) fn advance_traced(&mut self, now: Time, out: &mut Outbox) {
        let Some(mut tracer) = self.tracer.take() else { return frame::never!("no trace runs") };
        self.look_at_waiting(&mut tracer);
        let (draining, hold) = (self.draining, self.patience());
        self.flush_due(now, out);
        let cause = |open: &Open| match now.saturating_sub(open.opened) >= hold {
            _ if draining => Cause::Drain,
            true => Cause::Hold,
            false => Cause::Early,
        };
        self.tell_gone(now, |open| cause(open).name(), &mut tracer);
        if !tracer.is_over() {
            self.tracer = Some(tracer);
        }
    }

    /// A command, which also reports the traced records that wait.
    #[cold]
    pub(super) fn command_traced(&mut self, now: Time, command: GatewayCommand, out: &mut Outbox) {
        let Some(mut tracer) = self.tracer.take() else { return frame::never!("no trace runs") };
        self.look_at_waiting(&mut tracer);
        self.obey(now, command, out);
        self.tell_gone(now, |_| Cause::Order.name(), &mut tracer);
        // The command may have started another trace.
        if self.tracer.is_none() && !tracer.is_over() {
            self.tracer = Some(tracer);
        }
    }

    fn marks(&self, to: Destination) -> Marks {
        Marks::of(&self.counters.flush, self.direction(to))
    }

    /// Remembers the buffers with records that wait, as they are now.
    fn look_at_waiting(&self, tracer: &mut Tracer) {
        tracer.looks.clear();
        for waiting in &tracer.waiting {
            let known = tracer.looks.iter().any(|(destination, _)| *destination == waiting.destination);
            if let (false, Some(open)) = (known, self.buffers.look(waiting.destination)) {
                tracer.looks.push((waiting.destination, open));
            }
        }
    }

    /// Reports why each buffer left that is not there any more.
    fn tell_gone(&self, now: Time, cause: impl Fn(&Open) -> &'static str, tracer: &mut Tracer) {
        let looks = std::mem::take(&mut tracer.looks);
        for &(destination, open) in &looks {
            if self.buffers.look(destination).is_none_or(|other| other.opened != open.opened) {
                self.tell_left(now, destination, open, cause(&open), tracer);
            }
        }
        tracer.looks = looks;
    }

    /// Reports that a buffer left, for the traced records that waited in it.
    fn tell_left(&self, now: Time, to: Destination, open: Open, cause: &'static str, tracer: &mut Tracer) {
        let peer = self.routes.get(to).map(|route| route.peer);
        let cause = if peer.is_some() { cause } else { "route_removed" };
        let mut waiting = std::mem::take(&mut tracer.waiting);
        waiting.retain(|record| {
            let is_in = record.destination == to && record.opened == open.opened;
            if is_in {
                let (number, records, bytes) = (record.number, open.records, open.bytes);
                let open = now.saturating_sub(open.opened);
                tracer.say(Event::Left { number, time: now, cause, open, records, bytes, peer });
            }
            !is_in
        });
        tracer.waiting = waiting;
    }
}
