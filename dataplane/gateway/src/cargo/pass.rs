//! A burst, walked into a list of what goes where.
//!
//! The work on a burst is done in passes over short lists, so that each pass can ask the cache for what the next
//! touches: headers, routes, entries of the pointer array, tails of buffers.

use crate::counters::{DirectionCounters, GatewayCounters};
use crate::route::{Destination, Routes, SlaveSource};
use frame::{Burst, Datagram, Peer};
use wire::{BadReason, BadRecord, Record, Scale, SlaveId, Walk};

/// How many items ahead a route is asked for.
const AHEAD: usize = 16;

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

impl Item {
    /// The only record of a datagram from a master.
    #[inline]
    pub fn single(number: usize, len: usize, destination: Destination) -> Self {
        Self { datagram: number as u16, offset: 0, len: len as u16, records: 1, destination, source: FROM_MASTER }
    }
}

/// The source of downward items: it was checked when the datagram was walked.
pub const FROM_MASTER: Destination = Destination::MAX;

/// Who sent the last datagram that came from a master: most come from where the one before came from.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    master: u16,
    source: Peer,
}

impl Heard {
    /// Nobody yet.
    pub const NOBODY: Self = Self { master: 0, source: Peer::NOBODY };
}

/// The destination of a datagram that is one record of cargo from a registered master; `None` for any other, which
/// [`walk`] takes. The same answer as the walk's, at a fraction of its cost.
#[inline(always)]
pub fn single(datagram: &Datagram, heard: &mut Heard, routes: &Routes) -> Option<Destination> {
    let header = Record::only(datagram.frame.data())?.header();
    let (master, source) = (header.master_id(), &datagram.peer);
    if heard.master != master || heard.source.as_bytes() != source.as_bytes() {
        if !routes.is_master_source(master, source) {
            return None;
        }
        *heard = Heard { master, source: *source };
    }
    if header.msg_type().is_link_control() { None } else { routes.slave(header.slave_id()) }
}

/// The destination, and the slave to be checked, of a datagram that is one record of cargo for a registered master and not
/// from that master; `None` for any other, which [`walk`] takes. The same answer as the walk's.
#[inline(always)]
pub fn single_upward(datagram: &Datagram, routes: &Routes) -> Option<(Destination, Destination)> {
    let header = Record::only(datagram.frame.data())?.header();
    let destination = routes.master_elsewhere(header.master_id(), &datagram.peer)?;
    if header.msg_type().is_link_control() { None } else { Some((destination, routes.slave(header.slave_id())?)) }
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Cargo; its items were added.
    Cargo,
    /// Link control, with so many records: for the registrar.
    Link(u64),
}

/// What a burst brought, until it is added to the counters: first upward, then downward.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    datagrams: [u64; 2],
    bytes: [u64; 2],
    records: [u64; 2],
}

impl Tally {
    #[inline]
    fn datagram(&mut self, down: bool, bytes: usize, records: u64) {
        let at = usize::from(down);
        self.datagrams[at] += 1;
        self.bytes[at] += bytes as u64;
        self.records[at] += records;
    }

    /// Whether anything came that is not from a master.
    #[inline]
    pub fn has_upward(&self) -> bool {
        self.datagrams[0] > 0
    }

    /// Adds everything to the counters.
    #[inline]
    pub fn publish(&self, counters: &GatewayCounters) {
        for (at, direction) in [&counters.up, &counters.down].into_iter().enumerate() {
            if self.datagrams[at] > 0 {
                direction.datagrams_in.add(self.datagrams[at]);
                direction.bytes_in.add(self.bytes[at]);
                direction.records_in.add(self.records[at]);
            }
        }
    }
}

/// Walks one datagram, counts what is wrong with it, and adds its items.
pub fn walk(
    number: usize,
    datagram: &Datagram,
    routes: &Routes,
    items: &mut Vec<Item>,
    tally: &mut Tally,
    counters: &GatewayCounters,
) -> Walked {
    let data = datagram.frame.data();
    let first = match Record::first(data) {
        Ok(first) => first,
        Err(reason) => return unreadable(datagram, reason, routes, tally, counters),
    };
    let header = first.header();
    if header.msg_type().is_link_control() {
        return link_control(data, routes.shards().scale());
    }
    let master = header.master_id();
    if routes.is_master_source(master, &datagram.peer) {
        let walking = Walking { number, datagram, routes, direction: &counters.down, down: true, master };
        tally.datagram(true, data.len(), walking.all(items));
    } else {
        let walking = Walking { number, datagram, routes, direction: &counters.up, down: false, master };
        tally.datagram(false, data.len(), walking.all(items));
    }
    Walked::Cargo
}

#[cold]
fn unreadable(
    datagram: &Datagram,
    reason: BadReason,
    routes: &Routes,
    tally: &mut Tally,
    counters: &GatewayCounters,
) -> Walked {
    let remainder = datagram.frame.len();
    if remainder == 0 {
        counters.flush.empty_datagrams.add(1);
        return Walked::Cargo;
    }
    let down = routes.is_any_master(&datagram.peer);
    tally.datagram(down, remainder, 1);
    count_bad(if down { &counters.down } else { &counters.up }, BadRecord { reason, offset: 0, remainder });
    Walked::Cargo
}

#[cold]
fn link_control(data: &[u8], scale: Scale) -> Walked {
    Walked::Link(Walk::new(data, scale).filter(Result::is_ok).count() as u64)
}

/// What is the same for all records of a datagram.
struct Walking<'a> {
    number: usize,
    datagram: &'a Datagram,
    routes: &'a Routes,
    direction: &'a DirectionCounters,
    down: bool,
    /// The master that the first record names.
    master: u16,
}

impl Walking<'_> {
    /// Adds the items of all records; returns how many records there were, a bad one included.
    fn all(&self, items: &mut Vec<Item>) -> u64 {
        let scale = self.routes.shards().scale();
        let mut walk = Walk::new(self.datagram.frame.data(), scale);
        let mut records = 0;
        let mut first_shard = None;
        loop {
            let offset = walk.offset();
            let Some(next) = walk.next() else { return records };
            records += 1;
            match next {
                Ok((id, record)) => {
                    let shard = *first_shard.get_or_insert(scale.shard(id));
                    self.one(id, scale.shard(id) == shard, record, offset, items);
                }
                Err(bad) => count_bad(self.direction, bad),
            }
        }
    }

    #[inline]
    fn one(&self, id: SlaveId, same_shard: bool, record: Record<'_>, offset: usize, items: &mut Vec<Item>) {
        let direction = self.direction;
        let header = record.header();
        if header.msg_type().is_link_control() {
            return direction.dropped_mixed_link.add(1);
        }
        if self.down && !same_shard {
            return direction.dropped_mixed_shards.add(1);
        }
        let Some(slave) = self.routes.slave(id.get()) else {
            return direction.dropped_foreign_shard.add(1);
        };
        let master = header.master_id();
        let (datagram, offset, len) = (self.number as u16, offset as u16, record.bytes().len() as u16);
        if self.down {
            if master != self.master && !self.routes.is_master_source(master, &self.datagram.peer) {
                return direction.dropped_spoofed.add(1);
            }
            return push(items, Item { datagram, offset, len, records: 1, destination: slave, source: FROM_MASTER });
        }
        match self.routes.master(master) {
            Some(destination) => items.push(Item { datagram, offset, len, records: 1, destination, source: slave }),
            // Without a master nothing says whose traffic this was: the slave's registration decides the reason.
            None => match self.routes.slave_source(slave, &self.datagram.peer) {
                SlaveSource::Registered => direction.dropped_no_route.add(1),
                SlaveSource::Elsewhere => direction.dropped_spoofed.add(1),
                SlaveSource::Unknown => direction.dropped_unregistered_source.add(1),
            },
        }
    }
}

/// Why the record at this offset ends in [`walk`] or in [`check_origin`]: the name of its counter without `dropped_`.
/// `None` when it goes on. `items` is empty before and after; `scratch` counts what nobody reads.
#[cold]
pub fn refusal(
    datagram: &Datagram,
    at: usize,
    routes: &Routes,
    items: &mut Vec<Item>,
    scratch: &GatewayCounters,
) -> Option<&'static str> {
    let data = datagram.frame.data();
    let master = Record::first(data).ok()?.header().master_id();
    let down = routes.is_master_source(master, &datagram.peer);
    let direction = if down { &scratch.down } else { &scratch.up };
    let walking = Walking { number: 0, datagram, routes, direction, down, master };
    let scale = routes.shards().scale();
    let mut walk = Walk::new(data, scale);
    let mut first_shard = None;
    loop {
        let offset = walk.offset();
        let (id, record) = walk.next()?.ok()?;
        let shard = *first_shard.get_or_insert(scale.shard(id));
        if offset == at {
            let before = drops(direction);
            walking.one(id, scale.shard(id) == shard, record, offset, items);
            let Some(item) = items.pop() else { return first_difference(direction, &before) };
            return match routes.slave_source(item.source, &datagram.peer) {
                _ if item.source == FROM_MASTER => None,
                SlaveSource::Registered => None,
                SlaveSource::Elsewhere => Some("spoofed"),
                SlaveSource::Unknown => Some("unregistered_source"),
            };
        }
    }
}

/// As many as there are drop reasons, and more.
const REASONS: usize = 32;

/// The drop reasons' counts, in their order.
fn drops(direction: &DirectionCounters) -> [u64; REASONS] {
    let mut counts = [0; REASONS];
    let mut places = counts.iter_mut();
    direction.visit_drops(&mut |_, _, value| {
        if let Some(place) = places.next() {
            *place = value;
        }
    });
    counts
}

/// The first drop reason that was counted since.
fn first_difference(direction: &DirectionCounters, before: &[u64; REASONS]) -> Option<&'static str> {
    let (mut before, mut found) = (before.iter(), None);
    direction.visit_drops(&mut |name, _, value| {
        if before.next().is_some_and(|before| *before != value) {
            found = found.or(Some(name.strip_prefix("dropped_").unwrap_or(name)));
        }
    });
    found
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

/// Checks that upward items come from where their slave is registered; what does not is counted and gone. Of the others, those go
/// on that `admits` takes; it counts what it does not.
#[inline]
pub fn check_origin(
    items: &mut Vec<Item>,
    admitted: &mut Vec<Item>,
    burst: &Burst,
    routes: &Routes,
    up: &DirectionCounters,
    mut admits: impl FnMut(&Item) -> bool,
) {
    for (number, item) in items.iter().enumerate() {
        if let Some(ahead) = items.get(number + AHEAD) {
            routes.prefetch(ahead.source);
        }
        if item.source != FROM_MASTER {
            let Some(datagram) = burst.get(usize::from(item.datagram)) else { continue };
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
        if admits(item) {
            push(admitted, *item);
        }
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
