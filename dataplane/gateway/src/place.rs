//! Records that found no open buffer with room: open one, send what waits, forward the frame itself, or drop by name.

use crate::Gateway;
use crate::aggregate::Appended;
use crate::flush::Cause;
use crate::pass::Item;
use crate::route::Destination;
use frame::{Burst, Class, Datagram, Outbox, Peer, Time};
use wire::{HEADER_LEN, Record};

/// Buffers that leave at once when the pool runs low.
const ROOM_BURST: usize = 32;

/// Headroom that a received frame must have to become a buffer itself: for the largest headers of any port.
const ADOPT_HEADROOM: usize = 64;

/// Why records were dropped here.
#[derive(Clone, Copy)]
enum Drop {
    NoRoute,
    TooLarge,
    NoFrame,
}

impl Gateway {
    /// Places an item that [`crate::aggregate::Aggregator::append`] did not take. Gives the datagram back unless its
    /// frame was itself used.
    pub(crate) fn place(&mut self, now: Time, item: Item, datagram: Datagram, out: &mut Outbox) -> Option<Datagram> {
        let destination = item.destination;
        let limit = self.buffers.limit(destination);
        if limit == 0 {
            self.dropped(destination, u64::from(item.records), Drop::NoRoute);
            return Some(datagram);
        }
        let len = usize::from(item.len);
        let whole = item.offset == 0 && len == datagram.frame.len() && len <= limit;
        if whole && (len + HEADER_LEN > limit || out.pool().free() < self.low_water / 2) {
            self.flush(destination, Cause::Order, out);
            self.forward(item, datagram, out);
            return None;
        }
        if whole && self.buffers.waiting(destination) == 0 {
            return self.adopt(now, item, datagram, limit, out);
        }
        let start = usize::from(item.offset);
        let bytes = datagram.frame.data().get(start..start + len).unwrap_or(&[]);
        self.copy(now, destination, bytes, datagram.ce, limit, out);
        Some(datagram)
    }

    /// A datagram that fills itself is not copied: its frame is re-addressed.
    fn forward(&mut self, item: Item, datagram: Datagram, out: &mut Outbox) {
        let class = self.routes.class(item.destination);
        match self.routes.get(item.destination) {
            Some(&link::Route { peer, .. }) => {
                self.counters.flush.forwarded_whole.add(1);
                out.send(Datagram { peer, class, records: item.records, ..datagram });
            }
            None => self.dropped(item.destination, u64::from(item.records), Drop::NoRoute),
        }
    }

    /// Where no buffer is open, the received frame becomes the buffer: its records need no copy. Its headers will be
    /// overwritten in place when it leaves.
    fn adopt(&mut self, now: Time, item: Item, datagram: Datagram, limit: usize, out: &mut Outbox) -> Option<Datagram> {
        let roomy = datagram.frame.tailroom() + usize::from(item.len) >= limit;
        if !roomy || datagram.frame.headroom() < ADOPT_HEADROOM {
            self.copy(now, item.destination, datagram.frame.data(), datagram.ce, limit, out);
            return Some(datagram);
        }
        self.make_room(out);
        let Datagram { frame, ce, .. } = datagram;
        match self.buffers.adopt(item.destination, frame, item.records, ce, now) {
            Ok(()) => self.hold(item.destination, u64::from(item.records)),
            Err(_frame) => self.dropped(item.destination, u64::from(item.records), Drop::NoFrame),
        }
        None
    }

    /// Copies records into buffers: as many as fit behind what waits, the rest into fresh ones.
    fn copy(&mut self, now: Time, to: Destination, bytes: &[u8], ce: bool, limit: usize, out: &mut Outbox) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let waiting = self.buffers.waiting(to);
            let fits = Prefix::of(rest, limit.saturating_sub(waiting));
            if fits.records == 0 {
                let first = Record::first(rest).map_or(rest.len(), |record| record.bytes().len());
                if waiting > 0 {
                    let alone = first + HEADER_LEN > limit;
                    self.flush(to, if alone { Cause::Order } else { Cause::Full }, out);
                } else {
                    self.dropped(to, 1, Drop::TooLarge);
                    rest = rest.get(first..).unwrap_or(&[]);
                }
                continue;
            }
            if waiting == 0 && !self.open(now, to, out) {
                self.dropped(to, u64::from(Prefix::of(rest, usize::MAX).records), Drop::NoFrame);
                return;
            }
            let (now_bytes, later) = rest.split_at(fits.len.min(rest.len()));
            match self.buffers.append(to, now_bytes, fits.records, ce) {
                Appended::Waiting => self.hold(to, u64::from(fits.records)),
                Appended::Full => {
                    self.hold(to, u64::from(fits.records));
                    self.flush(to, Cause::Full, out);
                }
                // A frame that is smaller than the limit: the records are too large for this arena.
                Appended::NotOpen | Appended::NoRoom => self.dropped(to, u64::from(fits.records), Drop::TooLarge),
            }
            rest = later;
        }
    }

    fn open(&mut self, now: Time, destination: Destination, out: &mut Outbox) -> bool {
        self.make_room(out);
        match out.alloc() {
            Some(frame) => self.buffers.open(destination, frame, now).is_ok(),
            None => false,
        }
    }

    fn make_room(&mut self, out: &mut Outbox) {
        if out.pool().free() < self.low_water {
            self.flush_oldest(ROOM_BURST, Cause::Room, out);
        }
    }

    fn hold(&self, destination: Destination, records: u64) {
        let down = self.routes.class(destination) == Class::Down;
        (if down { &self.counters.down } else { &self.counters.up }).held.add(records);
    }

    #[cold]
    fn dropped(&self, destination: Destination, records: u64, reason: Drop) {
        let down = self.routes.class(destination) == Class::Down;
        let direction = if down { &self.counters.down } else { &self.counters.up };
        match reason {
            Drop::NoRoute => direction.dropped_no_route.add(records),
            Drop::TooLarge => direction.dropped_too_large.add(records),
            Drop::NoFrame => direction.dropped_no_frame.add(records),
        }
    }

    /// A burst with link control in it: hands that to the registrar, and places the cargo.
    #[cold]
    pub(crate) fn split_links(&mut self, now: Time, links: u64, burst: &mut Burst, out: &mut Outbox) {
        let mut cargo = Burst::new();
        let mut numbers = [0_u16; frame::BURST];
        for (number, datagram) in burst.drain().enumerate() {
            if links & (1 << number) != 0 {
                out.control(datagram);
            } else {
                if let Some(slot) = numbers.get_mut(number) {
                    *slot = cargo.len() as u16;
                }
                // A burst has room for what another burst held.
                let _ = cargo.push(datagram);
            }
        }
        for item in &mut self.items {
            item.datagram = numbers.get(usize::from(item.datagram)).copied().unwrap_or(u16::MAX);
        }
        self.append_all(now, &mut cargo, out);
    }

    /// Sends the registrar's answer.
    pub(crate) fn reply(&mut self, peer: Peer, bytes: &[u8], out: &mut Outbox) {
        let Some(mut frame) = out.alloc_link() else {
            self.counters.flush.link_dropped_no_frame.add(1);
            return;
        };
        if frame.append(bytes) {
            let records = Prefix::of(bytes, usize::MAX).records;
            out.send(Datagram::new(frame, peer, Class::Link, records));
        } else {
            self.counters.flush.link_dropped_no_frame.add(1);
        }
    }
}

/// The longest run of whole records from the front that is at most some bytes long.
struct Prefix {
    len: usize,
    records: u16,
}

impl Prefix {
    fn of(bytes: &[u8], most: usize) -> Self {
        let mut prefix = Self { len: 0, records: 0 };
        while let Some(rest) = bytes.get(prefix.len..)
            && let Ok(record) = Record::first(rest)
            && prefix.len + record.bytes().len() <= most
        {
            prefix.len += record.bytes().len();
            prefix.records += 1;
        }
        prefix
    }
}
