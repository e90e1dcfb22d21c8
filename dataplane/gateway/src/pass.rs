//! A burst, walked into a list of what goes where.
//!
//! The work on a burst is done in passes over short lists, so that each pass can ask the cache for what the next
//! touches: headers, routes, entries of the pointer array, tails of buffers.

use crate::counters::{DirectionCounters, GatewayCounters};
use crate::route::{Destination, Routes, SlaveSource};
use frame::Datagram;
use wire::{BadReason, BadRecord, Record, Shard, SlaveId, Walk};

/// How many items ahead a route or an entry is asked for; tails are asked for half as far ahead.
pub const AHEAD: usize = 24;

/// One or more records of one datagram, back to back, that go to one destination.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Number of the datagram in its burst.
    pub datagram: u16,
    /// Offset of the first record in the datagram.
    pub offset: u16,
    /// Bytes of the records together.
    pub len: u16,
    /// How many records.
    pub records: u16,
    /// Where they go.
    pub destination: Destination,
    /// Upward records: the slave that must be registered at the datagram's source. Downward: [`FROM_MASTER`].
    pub source: Destination,
}

/// The source of downward items: it was checked when the datagram was walked.
pub const FROM_MASTER: Destination = Destination::MAX;

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Cargo; its items were added.
    Cargo,
    /// Link control, with so many records: for the registrar.
    Link(u64),
}

/// Walks one datagram, counts what is wrong with it, and adds its items.
#[inline]
pub fn walk(
    number: u16,
    datagram: &Datagram,
    routes: &Routes,
    items: &mut Vec<Item>,
    counters: &GatewayCounters,
) -> Walked {
    let data = datagram.frame.data();
    let mut walk = Walk::new(data, routes.shards().scale());
    let (id, record) = match walk.next() {
        Some(Ok(first)) => first,
        Some(Err(bad)) => {
            let from_master = routes.is_any_master(&datagram.peer);
            let direction = if from_master { &counters.down } else { &counters.up };
            direction.datagrams_in.add(1);
            direction.bytes_in.add(data.len() as u64);
            direction.records_in.add(1);
            count_bad(direction, bad);
            return Walked::Cargo;
        }
        None => {
            counters.flush.empty_datagrams.add(1);
            return Walked::Cargo;
        }
    };
    if record.header().msg_type().is_link_control() {
        return Walked::Link(1 + walk.filter(Result::is_ok).count() as u64);
    }
    let master = record.header().master_id();
    let down = routes.is_master_source(master, &datagram.peer);
    let direction = if down { &counters.down } else { &counters.up };
    let walked =
        Walking { number, datagram, routes, direction, down, master, shard: routes.shards().scale().shard(id) };
    walked.all(id, record, walk, items);
    direction.datagrams_in.add(1);
    direction.bytes_in.add(data.len() as u64);
    Walked::Cargo
}

/// What is the same for all records of a datagram.
struct Walking<'a> {
    number: u16,
    datagram: &'a Datagram,
    routes: &'a Routes,
    direction: &'a DirectionCounters,
    down: bool,
    /// The master that the first record names.
    master: u16,
    /// The shard of the first record.
    shard: Shard,
}

impl<'a> Walking<'a> {
    #[inline]
    fn all(&self, id: SlaveId, first: Record<'a>, mut walk: Walk<'a>, items: &mut Vec<Item>) {
        let mut records = 1;
        let (mut id, mut record) = (id, first);
        let mut offset = 0;
        loop {
            self.one(id, record, offset, items);
            offset = walk.offset();
            match walk.next() {
                None => break,
                Some(Ok(next)) => (id, record) = next,
                Some(Err(bad)) => {
                    records += 1;
                    count_bad(self.direction, bad);
                    break;
                }
            }
            records += 1;
        }
        self.direction.records_in.add(records);
    }

    #[inline]
    fn one(&self, id: SlaveId, record: Record<'a>, offset: usize, items: &mut Vec<Item>) {
        let Some(slave) = self.routes.slave(id) else {
            return self.not_served(id);
        };
        let header = record.header();
        if offset != 0 && header.msg_type().is_link_control() {
            return self.direction.dropped_mixed_link.add(1);
        }
        let (offset, len) = (offset as u16, record.bytes().len() as u16);
        let item = Item { datagram: self.number, offset, len, records: 1, destination: slave, source: FROM_MASTER };
        if self.down {
            if self.routes.shards().scale().shard(id) != self.shard {
                return self.direction.dropped_mixed_shards.add(1);
            }
            let master = header.master_id();
            if master != self.master && !self.routes.is_master_source(master, &self.datagram.peer) {
                return self.direction.dropped_spoofed.add(1);
            }
            push(items, item);
        } else {
            match self.routes.master(header.master_id()) {
                Some(destination) => items.push(Item { destination, source: slave, ..item }),
                // Without a master nothing says whose traffic this was: the slave's registration decides the reason.
                None => match self.routes.slave_source(slave, &self.datagram.peer) {
                    SlaveSource::Registered => self.direction.dropped_no_route.add(1),
                    SlaveSource::Elsewhere => self.direction.dropped_spoofed.add(1),
                    SlaveSource::Unknown => self.direction.dropped_unregistered_source.add(1),
                },
            }
        }
    }

    #[cold]
    fn not_served(&self, id: SlaveId) {
        if self.down && self.routes.shards().scale().shard(id) != self.shard {
            self.direction.dropped_mixed_shards.add(1);
        } else {
            self.direction.dropped_foreign_shard.add(1);
        }
    }
}

/// Adds an item, or lengthens the last one when the records lie back to back and go to the same destination: they
/// will be copied as one.
#[inline]
fn push(items: &mut Vec<Item>, item: Item) {
    if let Some(last) = items.last_mut()
        && last.destination == item.destination
        && last.datagram == item.datagram
        && last.offset + last.len == item.offset
    {
        last.len += item.len;
        last.records += 1;
        return;
    }
    items.push(item);
}

/// Checks that upward items come from where their slave is registered; what does not is counted and gone.
#[inline]
pub fn check_origin(
    items: &mut Vec<Item>,
    admitted: &mut Vec<Item>,
    datagrams: &[Datagram],
    routes: &Routes,
    up: &DirectionCounters,
) {
    for (number, item) in items.iter().enumerate() {
        if let Some(ahead) = items.get(number + AHEAD) {
            routes.prefetch(ahead.source);
        }
        if item.source != FROM_MASTER {
            let Some(datagram) = datagrams.get(usize::from(item.datagram)) else { continue };
            match routes.slave_source(item.source, &datagram.peer) {
                SlaveSource::Registered => {}
                SlaveSource::Elsewhere => {
                    up.dropped_spoofed.add(1);
                    continue;
                }
                SlaveSource::Unknown => {
                    up.dropped_unregistered_source.add(1);
                    continue;
                }
            }
        }
        push(admitted, *item);
    }
    std::mem::swap(items, admitted);
    admitted.clear();
}

#[cold]
fn count_bad(direction: &DirectionCounters, bad: BadRecord) {
    let counter = match bad.reason {
        BadReason::Truncated => &direction.dropped_truncated,
        BadReason::Magic => &direction.dropped_bad_magic,
        BadReason::Length => &direction.dropped_bad_length,
        BadReason::SlaveId => &direction.dropped_bad_slave_id,
    };
    counter.add(1);
    direction.bad_bytes.add(bad.remainder as u64);
}
