//! Walks a burst into a list of items with their destinations.
//!
//! The work on a burst is done in passes over short lists. So each pass can ask the cache for what the next pass
//! touches: headers, routes, entries of the pointer array, tails of buffers.

use crate::counters::{DirectionCounters, GatewayCounters};
use crate::direction::{Both, Direction};
use crate::drop::DropReason;
use crate::route::{Destination, Routes};
use frame::{BURST, Burst, DatagramView, Peer, Sender};
use link::Route;
use wire::record::{FRAG_PUSH, RecordHeader};
use wire::{BadReason, BadRecord, Record, Scale, SlaveId, Walk};

/// How many items ahead the cache is asked for a route.
const AHEAD: usize = 16;

/// One or more records of one datagram, back to back, that go to one destination.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Number of the datagram in its burst.
    pub datagram: u8,
    /// Whether the last record has PUSH; no other one of an item has it.
    pub push: bool,
    /// Offset of the first record in the datagram.
    pub offset: u16,
    /// Bytes of the records together.
    pub len: u16,
    /// How many records.
    pub records: u16,
    /// Where they go.
    pub destination: Destination,
    /// Upward records: the slave that must be registered at the datagram's source. Downward records: [`FROM_MASTER`].
    pub source: Destination,
}

impl Item {
    /// The only record of a datagram from a master.
    #[inline]
    pub fn single(number: usize, bytes: &[u8], destination: Destination) -> Self {
        Self {
            datagram: number as u8,
            push: Record::header_of(bytes).is_some_and(has_push),
            offset: 0,
            len: bytes.len() as u16,
            records: 1,
            destination,
            source: FROM_MASTER,
        }
    }
}

/// Whether a record has PUSH.
#[inline]
fn has_push(header: &RecordHeader) -> bool {
    header.is_frag() & FRAG_PUSH != 0
}

/// The source of downward items: it was checked when the datagram was walked.
pub const FROM_MASTER: Destination = Destination::MAX;

/// The sender of the last datagram from a master: most datagrams come from the same sender as the one before.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    master: u16,
    source: Peer,
}

impl Heard {
    /// Nobody yet.
    pub const NOBODY: Self = Self { master: 0, source: Peer::NOBODY };

    /// Whether this sender is the registered place of this master.
    #[inline(never)]
    fn is(&mut self, master: u16, source: &Peer, routes: &Routes) -> bool {
        if self.master == master && self.source.as_bytes() == source.as_bytes() {
            return true;
        }
        if !routes.is_master_source(master, source) {
            return false;
        }
        *self = Self { master, source: *source };
        true
    }
}

/// Datagrams of one record each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Singles {
    /// How many.
    pub records: usize,
    /// Their bytes.
    pub bytes: u64,
    /// All bits of `is_frag` that any of them has.
    frag: u8,
}

impl Singles {
    /// Whether any of them has PUSH.
    #[inline]
    pub fn have_push(&self) -> bool {
        self.frag & FRAG_PUSH != 0
    }

    #[inline(always)]
    fn add(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.bytes += record.bytes().len() as u64;
        self.frag |= record.header().is_frag();
    }
}

/// The destinations of the burst's first datagrams, as long as each is one record of cargo from a registered master:
/// [`walk`] takes those after them. The result is the same as that of `walk`, at a fraction of the cost. Each
/// destination is shown to `found`.
#[inline(always)]
pub fn singles(
    burst: &Burst,
    heard: &mut Heard,
    routes: &Routes,
    to: &mut [Destination; BURST],
    found: impl Fn(Destination),
) -> Singles {
    let mut singles = Singles::default();
    // The sender in this burst that `heard` is, and its master.
    let (mut known, mut known_master) = (Sender::NOBODY, 0);
    for number in 0..burst.len() {
        let Some(record) = Record::only(burst.part(number).0) else { break };
        let header = record.header();
        let (sender, master) = (burst.sender(number), header.master_id());
        if sender != known || master != known_master {
            if !heard.is(master, burst.source(number), routes) {
                break;
            }
            (known, known_master) = (sender, master);
        }
        let Some(destination) = cargo_to(header, routes) else { break };
        found(destination);
        to[number % BURST] = destination;
        singles.add(&record);
    }
    singles
}

/// The slave of a header of cargo, if it is served here.
#[inline(always)]
fn cargo_to(header: &RecordHeader, routes: &Routes) -> Option<Destination> {
    if header.msg_type().is_link_control() { None } else { routes.slave(header.slave_id()) }
}

/// The destinations of a burst in which every datagram is one record of cargo to a registered master, from a slave that
/// is registered where it came from. The result is the same as that of [`walk`] and [`check_origin`]. `None` if the
/// burst is another one.
#[inline(always)]
pub fn singles_upward(burst: &Burst, routes: &Routes, to: &mut [Destination; BURST]) -> Option<Singles> {
    let (mut from, mut singles) = ([0; BURST], Singles::default());
    // The master of the last record: most are for the same as the one before.
    let mut known: Option<(u16, Destination, &Route)> = None;
    for number in 0..burst.len() {
        let (record, source) = (Record::only(burst.part(number).0)?, burst.source(number));
        let header = record.header();
        let id = header.master_id();
        let (_, master, route) = match known {
            Some(known) if known.0 == id => known,
            _ => {
                let (master, route) = routes.master_route(id)?;
                *known.insert((id, master, route))
            }
        };
        // From there it would be a downward record. Few slaves share the address of a master.
        if !source.is_elsewhere(&route.peer) && source.is_same_origin(&route.peer, route.fixed_port) {
            return None;
        }
        let slave = cargo_to(header, routes)?;
        routes.prefetch_origin(slave);
        (to[number % BURST], from[number % BURST]) = (master, slave);
        singles.add(&record);
    }
    let registered = |number: usize| routes.is_slave_source(from[number % BURST], burst.source(number));
    (0..burst.len()).all(registered).then_some(singles)
}

/// The kind of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Cargo; its items were added.
    Cargo,
    /// Link control for the registrar, with this many records.
    Link(u64),
}

/// What a burst brought in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Brought {
    datagrams: u64,
    bytes: u64,
    records: u64,
}

/// The counts of a burst until they are added to the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally(Both<Brought>);

impl Tally {
    #[inline]
    fn datagram(&mut self, direction: Direction, bytes: usize, records: u64) {
        let brought = self.0.of_mut(direction);
        brought.datagrams += 1;
        brought.bytes += bytes as u64;
        brought.records += records;
    }

    /// Whether anything came that is not from a master.
    #[inline]
    pub fn has_upward(&self) -> bool {
        self.0.up.datagrams > 0
    }

    /// Adds everything to the counters.
    #[inline]
    pub fn publish(&self, counters: &GatewayCounters) {
        for direction in [Direction::Up, Direction::Down] {
            let (brought, counters) = (self.0.of(direction), counters.of(direction));
            if brought.datagrams > 0 {
                counters.datagrams_in.add(brought.datagrams);
                counters.bytes_in.add(brought.bytes);
                counters.records_in.add(brought.records);
            }
        }
    }
}

/// Walks one datagram, counts its faults, and adds its items. `dropped` gets each record that ends here: where in the
/// datagram it begins, and why.
#[inline]
pub fn walk(
    number: usize,
    datagram: &DatagramView<'_>,
    routes: &Routes,
    items: &mut Vec<Item>,
    tally: &mut Tally,
    counters: &GatewayCounters,
    mut dropped: impl FnMut(usize, DropReason),
) -> Walked {
    let data = datagram.frame.data();
    let first = match Record::first(data) {
        Ok(first) => first,
        Err(reason) => {
            if unreadable(datagram, reason, routes, tally, counters) {
                dropped(0, reason.into());
            }
            return Walked::Cargo;
        }
    };
    let header = first.header();
    if header.msg_type().is_link_control() {
        return link_control(data, routes.shards().scale());
    }
    let master = header.master_id();
    let direction = if routes.is_master_source(master, datagram.peer) { Direction::Down } else { Direction::Up };
    let walking = Walking { number, datagram, routes, counters: counters.of(direction), direction, master };
    tally.datagram(direction, data.len(), walking.add_items(items, dropped));
    Walked::Cargo
}

/// Counts a datagram that does not begin with a record; returns whether the datagram has any bytes.
#[cold]
fn unreadable(
    datagram: &DatagramView<'_>,
    reason: BadReason,
    routes: &Routes,
    tally: &mut Tally,
    counters: &GatewayCounters,
) -> bool {
    let remainder = datagram.frame.len();
    if remainder == 0 {
        counters.flush.empty_datagrams.add(1);
        return false;
    }
    let direction = if routes.is_any_master(datagram.peer) { Direction::Down } else { Direction::Up };
    tally.datagram(direction, remainder, 1);
    count_bad(counters.of(direction), BadRecord { reason, offset: 0, remainder });
    true
}

#[cold]
fn link_control(data: &[u8], scale: Scale) -> Walked {
    Walked::Link(Walk::new(data, scale).filter(Result::is_ok).count() as u64)
}

/// The values that all records of a datagram share.
struct Walking<'a> {
    number: usize,
    datagram: &'a DatagramView<'a>,
    routes: &'a Routes,
    counters: &'a DirectionCounters,
    direction: Direction,
    /// The master that the first record names.
    master: u16,
}

impl Walking<'_> {
    /// Adds the items of all records; returns how many records there were, a bad one included.
    #[inline]
    fn add_items(&self, items: &mut Vec<Item>, mut dropped: impl FnMut(usize, DropReason)) -> u64 {
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
                    match self.item_of(id, scale.shard(id) == shard, record, offset) {
                        // Records to one slave that lie back to back are copied as one.
                        Ok(item) if self.direction == Direction::Down => push(items, item),
                        Ok(item) => items.push(item),
                        Err(reason) => {
                            reason.counter(self.counters).add(1);
                            dropped(offset, reason);
                        }
                    }
                }
                Err(bad) => {
                    count_bad(self.counters, bad);
                    dropped(offset, bad.reason.into());
                }
            }
        }
    }

    /// Where one record goes, or why it is dropped. [`check_origin`] checks later whether an upward record comes from
    /// its slave.
    #[inline]
    fn item_of(&self, id: SlaveId, same_shard: bool, record: Record<'_>, offset: usize) -> Result<Item, DropReason> {
        let header = record.header();
        let is_down = self.direction == Direction::Down;
        if header.msg_type().is_link_control() {
            return Err(DropReason::MixedLink);
        }
        if is_down && !same_shard {
            return Err(DropReason::MixedShards);
        }
        let slave = self.routes.slave(id.get()).ok_or(DropReason::ForeignShard)?;
        let master = header.master_id();
        let item = |destination, source| Item {
            datagram: self.number as u8,
            push: has_push(header),
            offset: offset as u16,
            len: record.bytes().len() as u16,
            records: 1,
            destination,
            source,
        };
        if is_down {
            if master != self.master && !self.routes.is_master_source(master, self.datagram.peer) {
                return Err(DropReason::Spoofed);
            }
            return Ok(item(slave, FROM_MASTER));
        }
        match self.routes.master(master) {
            Some(destination) => Ok(item(destination, slave)),
            // Without a master the source says nothing about the direction: the slave's registration decides the
            // reason.
            None => {
                let source = self.routes.slave_source(slave, self.datagram.peer);
                Err(DropReason::of_source(source).unwrap_or(DropReason::NoRoute))
            }
        }
    }
}

#[cold]
fn count_bad(counters: &DirectionCounters, bad: BadRecord) {
    DropReason::from(bad.reason).counter(counters).add(1);
    counters.bad_bytes.add(bad.remainder as u64);
}

/// Adds an item. If the records lie back to back with the last item and go to the same destination, lengthens that item
/// instead: they are copied as one. A record with PUSH is the last of its item.
#[inline]
fn push(items: &mut Vec<Item>, item: Item) {
    if let Some(last) = items.last_mut()
        && last.destination == item.destination
        && !last.push
        && last.datagram == item.datagram
        && last.offset + last.len == item.offset
    {
        last.len += item.len;
        last.records += item.records;
        last.push = item.push;
        return;
    }
    items.push(item);
}

/// Drops upward items that do not come from where their slave is registered, and asks `judge` of each other item
/// whether it passes. Items that do not pass are counted and reported to `dropped`.
#[inline]
pub fn check_origin(
    items: &mut Vec<Item>,
    admitted: &mut Vec<Item>,
    burst: &Burst,
    routes: &Routes,
    counters: &GatewayCounters,
    mut judge: impl FnMut(&Item) -> Result<(), DropReason>,
    mut dropped: impl FnMut(&Item, DropReason),
) {
    for (number, item) in items.iter().enumerate() {
        if let Some(ahead) = items.get(number + AHEAD) {
            routes.prefetch_origin(ahead.source);
        }
        let mut refused = None;
        if item.source != FROM_MASTER {
            let source = burst.peer(usize::from(item.datagram));
            if !routes.is_slave_source(item.source, source) {
                refused = DropReason::of_source(routes.slave_source(item.source, source));
            }
        }
        match refused.map_or_else(|| judge(item), Err) {
            Ok(()) => push(admitted, *item),
            Err(reason) => {
                let direction = Direction::of(routes.class(item.destination));
                reason.counter(counters.of(direction)).add(u64::from(item.records));
                dropped(item, reason);
            }
        }
    }
    std::mem::swap(items, admitted);
    admitted.clear();
}
