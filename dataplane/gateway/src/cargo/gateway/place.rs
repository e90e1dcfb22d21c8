//! Records that found no open buffer with room: open a buffer, send what waits, forward the frame itself, or drop and
//! count.

use super::Gateway;
use crate::aggregate::Appended;
use crate::counters::DirectionCounters;
use crate::direction::Direction;
use crate::drop::DropReason;
use crate::flush::Cause;
use crate::pass::Item;
use crate::route::Destination;
use frame::{Burst, Class, Datagram, LARGE, Note, Outbox, Peer, Time};
use wire::{HEADER_LEN, Record};

/// The number of buffers that leave at once when the pool runs low.
const ROOM_BURST: usize = 32;

/// Headroom that a received frame needs to become a buffer: for the largest headers of any port.
const ADOPT_HEADROOM: usize = 64;

impl Gateway {
    /// Places an item that [`crate::aggregate::Aggregator::append`] did not take.
    #[inline(never)]
    pub(crate) fn place(&mut self, now: Time, item: Item, burst: &mut Burst, out: &mut Outbox) {
        let destination = item.destination;
        // The item was counted as held before the append was tried.
        self.release(destination, item.records);
        let number = usize::from(item.datagram);
        let Some(datagram) = burst.get(number) else {
            return frame::never!("records are placed and their datagram is gone");
        };
        let limit = self.buffers.limit(destination);
        if limit == 0 {
            let reason =
                if self.routes.get(destination).is_some() { DropReason::TooLarge } else { DropReason::NoRoute };
            return self.dropped(destination, u64::from(item.records), reason);
        }
        let (len, frame) = (usize::from(item.len), &datagram.frame);
        let whole = item.offset == 0 && len == frame.len() && len <= limit;
        if whole && self.goes_whole(&item, out) {
            self.flush(now, destination, Cause::Order, out);
            if let Some(datagram) = burst.take(number) {
                self.forward(item, datagram, out);
            }
            return;
        }
        let roomy = frame.tailroom() + len >= limit && frame.headroom() >= ADOPT_HEADROOM;
        let waiting = self.buffers.waiting(destination);
        let is_free = waiting == 0 || (item.records == 1 && len >= LARGE && waiting + len > limit);
        if whole && roomy && is_free {
            // A small record is copied into a recently used frame: that is better than to keep its own frame.
            if waiting > 0 {
                self.flush(now, destination, Cause::Full, out);
            }
            if let Some(datagram) = burst.take(number) {
                self.adopt(now, item, datagram, out);
            }
            return;
        }
        let start = usize::from(item.offset);
        let bytes = burst.bytes(number).get(start..start + len).unwrap_or(&[]);
        let note = if whole { burst.note(number) } else { burst.note(number).of_part() };
        if item.records == 1 && len + HEADER_LEN <= limit {
            return self.copy_single(now, destination, bytes, note, out);
        }
        self.copy(now, destination, Run { bytes, records: item.records, note }, limit, out);
    }

    /// Places a datagram of one record that [`crate::aggregate::Aggregator::append`] did not take. The usual one is
    /// small and does not fit behind what waits.
    #[inline]
    pub(super) fn place_single(
        &mut self,
        now: Time,
        number: usize,
        to: Destination,
        burst: &mut Burst,
        out: &mut Outbox,
    ) {
        let item = Item::single(number, burst.bytes(number), to);
        let is_usual = usize::from(item.len) < LARGE && self.buffers.waiting(to) > 0 && !self.goes_whole(&item, out);
        if !is_usual {
            return self.place(now, item, burst, out);
        }
        // See `place`: it would come to the same.
        self.release(to, 1);
        let (bytes, note) = burst.part(number);
        self.copy_single(now, to, bytes, note, out);
    }

    /// Whether an item that is a whole datagram leaves unchanged: nothing more would fit, or no frames are left to wait
    /// in.
    #[inline]
    pub(crate) fn goes_whole(&self, item: &Item, out: &Outbox) -> bool {
        let scarce = out.pool().spare() < self.low_water / 2;
        usize::from(item.len) + HEADER_LEN > self.buffers.limit(item.destination) || scarce
    }

    /// Forwards a full datagram without a copy: its frame gets a new address.
    fn forward(&mut self, item: Item, datagram: Datagram, out: &mut Outbox) {
        let class = self.routes.class(item.destination);
        match self.routes.get(item.destination) {
            Some(&link::Route { peer, .. }) => {
                self.counters.flush.forwarded_whole.add(1);
                self.counters.left.records_per_datagram.record(u64::from(item.records));
                out.pass_on(Datagram { peer, class, records: item.records, ..datagram });
            }
            None => self.dropped(item.destination, u64::from(item.records), DropReason::NoRoute),
        }
    }

    /// If no buffer is open, the received frame becomes the buffer, and its records need no copy. Its headers are
    /// overwritten in place when it leaves.
    fn adopt(&mut self, now: Time, item: Item, datagram: Datagram, out: &mut Outbox) {
        self.make_room(now, out);
        let Datagram { frame, ce, sum, .. } = datagram;
        match self.buffers.adopt(item.destination, frame, item.records, Note::from_folded(sum, ce), now) {
            Ok(()) => {
                self.hold(item.destination, u64::from(item.records));
                self.count_open();
            }
            Err(_frame) => self.dropped(item.destination, u64::from(item.records), DropReason::NoFrame),
        }
    }

    /// Copies a record that does not fit behind what waits into a fresh buffer, which it does not fill.
    #[inline]
    fn copy_single(&mut self, now: Time, to: Destination, bytes: &[u8], note: Note, out: &mut Outbox) {
        self.flush(now, to, Cause::Full, out);
        if !self.open(now, to, out) {
            return self.dropped(to, 1, DropReason::NoFrame);
        }
        match self.buffers.append(to, bytes, 1, note) {
            Appended::Waiting => self.hold(to, 1),
            _ => frame::never!("a record does not fit a fresh buffer"),
        }
    }

    /// Copies records into buffers: as many as fit behind the records that wait, the rest into fresh buffers.
    fn copy(&mut self, now: Time, to: Destination, run: Run<'_>, limit: usize, out: &mut Outbox) {
        let mut rest = run;
        while !rest.bytes.is_empty() {
            let waiting = self.buffers.waiting(to);
            let (fits, later) = rest.split(limit.saturating_sub(waiting));
            if fits.records == 0 {
                let first = rest.first_len();
                if waiting > 0 {
                    let alone = first + HEADER_LEN > limit;
                    self.flush(now, to, if alone { Cause::Order } else { Cause::Full }, out);
                } else {
                    self.dropped(to, 1, DropReason::TooLarge);
                    rest = rest.after(first, 1);
                }
                continue;
            }
            if waiting == 0 && !self.open(now, to, out) {
                self.dropped(to, u64::from(rest.records), DropReason::NoFrame);
                return;
            }
            match self.buffers.append(to, fits.bytes, fits.records, fits.note) {
                Appended::Waiting => self.hold(to, u64::from(fits.records)),
                Appended::Full => {
                    self.hold(to, u64::from(fits.records));
                    self.flush(now, to, Cause::Full, out);
                }
                // The buffer is an adopted frame: it has less tailroom than a larger route could use.
                Appended::NoRoom if waiting > 0 => {
                    self.flush(now, to, Cause::Full, out);
                    continue;
                }
                Appended::NotOpen | Appended::NoRoom => self.dropped(to, u64::from(fits.records), DropReason::TooLarge),
            }
            rest = later;
        }
    }

    fn open(&mut self, now: Time, destination: Destination, out: &mut Outbox) -> bool {
        self.make_room(now, out);
        match out.alloc() {
            Some(frame) => {
                let opened = self.buffers.open(destination, frame, now).is_ok();
                self.count_open();
                opened
            }
            None => false,
        }
    }

    fn count_open(&self) {
        self.counters.flush.buffers_open_max.raise(self.buffers.open_buffers() as u64);
    }

    /// Splits again what waits for a destination, because its route takes smaller packets than before: a larger packet
    /// would not arrive.
    pub(crate) fn recut(&mut self, now: Time, destination: Destination, out: &mut Outbox) {
        let limit = self.buffers.limit(destination);
        let Some(closed) = self.buffers.close(destination) else { return };
        self.release(destination, closed.records);
        let note = Note::from_folded(closed.sum, closed.ce);
        let run = Run { bytes: closed.frame.data(), records: closed.records, note };
        self.copy(now, destination, run, limit, out);
        self.flush(now, destination, Cause::Order, out);
    }

    fn make_room(&mut self, now: Time, out: &mut Outbox) {
        if out.pool().spare() < self.low_water {
            self.flush_oldest(now, ROOM_BURST, Cause::Room, out);
        }
    }

    pub(super) fn direction(&self, destination: Destination) -> &DirectionCounters {
        self.counters.of(Direction::of(self.routes.class(destination)))
    }

    fn hold(&mut self, destination: Destination, records: u64) {
        let held = self.held_of(destination);
        *held = held.wrapping_add(records);
    }

    /// Drops what waits for a destination whose route is gone.
    pub(crate) fn forget(&mut self, destination: Destination) {
        if let Some(closed) = self.buffers.close(destination) {
            self.release(destination, closed.records);
            self.dropped(destination, u64::from(closed.records), DropReason::RouteRemoved);
        }
    }

    #[cold]
    fn dropped(&self, destination: Destination, records: u64, reason: DropReason) {
        reason.counter(self.direction(destination)).add(records);
    }

    /// Sends the registrar's answer.
    pub(crate) fn reply(&mut self, peer: Peer, bytes: &[u8], out: &mut Outbox) {
        let Some(mut frame) = out.alloc_link() else {
            self.counters.flush.link_dropped_no_frame.add(1);
            return;
        };
        if frame.append(bytes) {
            let records = whole_records(bytes, usize::MAX).1;
            out.send(Datagram::new(frame, peer, Class::Link, records));
        } else {
            self.counters.flush.link_dropped_no_frame.add(1);
        }
    }
}

/// Whole records, back to back.
#[derive(Clone, Copy)]
struct Run<'a> {
    bytes: &'a [u8],
    records: u16,
    /// What is known of all of them.
    note: Note,
}

impl Run<'_> {
    /// Splits off as many records from the front as have at most `most` bytes together; returns them and the rest.
    fn split(self, most: usize) -> (Self, Self) {
        // All or none: the records need not be read. This is so for a single record, and most runs are one.
        let (len, records) = match self {
            _ if self.bytes.len() <= most => (self.bytes.len(), self.records),
            Self { records: 1, .. } => (0, 0),
            _ => whole_records(self.bytes, most),
        };
        let note = if len == self.bytes.len() { self.note } else { self.note.of_part() };
        (Self { bytes: self.bytes.get(..len).unwrap_or(&[]), records, note }, self.after(len, records))
    }

    /// What follows the first `len` bytes and `records` records.
    fn after(self, len: usize, records: u16) -> Self {
        let (bytes, records) = (self.bytes.get(len..).unwrap_or(&[]), self.records.saturating_sub(records));
        Self { bytes, records, note: if len == 0 { self.note } else { self.note.of_part() } }
    }

    /// Bytes of the first record.
    fn first_len(self) -> usize {
        Record::first(self.bytes).map_or(self.bytes.len(), |record| record.bytes().len())
    }
}

/// The longest run of whole records from the front that is at most `most` bytes long: its bytes, and how many.
fn whole_records(bytes: &[u8], most: usize) -> (usize, u16) {
    let (mut len, mut records) = (0, 0);
    while let Some(rest) = bytes.get(len..)
        && let Ok(record) = Record::first(rest)
        && len + record.bytes().len() <= most
    {
        len += record.bytes().len();
        records += 1;
    }
    (len, records)
}
