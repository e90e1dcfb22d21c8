//! The wire between two endpoints: packets wait there, get lost, or arrive twice, late, marked or broken.

use super::plan::Faults;
use crate::rng::Rng;
use frame::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use transport::{PathId, Room, Sink};
use wire::rc::IcrcSeed;
use wire::{MsgType, RecordHeader};

/// The bytes before a packet that its ICRC covers: the header of a record to the slave of the path.
pub fn seed(path: PathId, len: usize) -> IcrcSeed {
    IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17 + path.0, 1 << 48, len as u32))
}

/// A packet on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// When it arrives.
    pub at: Time,
    order: u64,
    /// The path that it is on.
    pub path: u32,
    /// Whether it was marked.
    pub ce: bool,
    /// Whether it is as it was sent.
    pub whole: bool,
    /// From BTH to ICRC.
    pub bytes: Vec<u8>,
}

/// The counters of the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireCounters {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets that were lost by chance.
    pub lost: u64,
    /// Packets that were lost in a cut.
    pub cut: u64,
    /// Packets that were late.
    pub late: u64,
    /// Packets with other bits.
    pub corrupted: u64,
    /// Packets that end early.
    pub truncated: u64,
    /// Packets that were marked.
    pub marked: u64,
    /// Packets that arrived.
    pub delivered: u64,
}

/// One direction.
#[derive(Debug)]
pub struct Wire {
    faults: Faults,
    rng: Rng,
    packets: BinaryHeap<Reverse<Packet>>,
    order: u64,
    /// When the last packet arrives that is not late: later packets do not overtake it.
    last: Time,
    open: (u32, Vec<u8>),
    now: Time,
    room: u64,
    /// Its counters.
    pub counters: WireCounters,
    /// The other end is no more: nothing arrives.
    pub dead: bool,
}

impl Wire {
    /// A wire with these faults.
    pub fn new(faults: Faults, rng: Rng) -> Self {
        let (packets, counters) = (BinaryHeap::new(), WireCounters::default());
        Self { faults, rng, packets, order: 0, last: 0, open: (0, Vec::new()), now: 0, room: 0, counters, dead: false }
    }

    /// From now on, `room` packets may be sent, at this time.
    pub fn allow(&mut self, now: Time, room: u64) {
        (self.now, self.room) = (now, room);
    }

    /// When the next packet arrives.
    pub fn next(&self) -> Option<Time> {
        self.packets.peek().map(|Reverse(packet)| packet.at)
    }

    /// Packets on their way.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The next packet that has arrived.
    pub fn take(&mut self, now: Time) -> Option<Packet> {
        if self.next()? > now {
            return None;
        }
        let Reverse(packet) = self.packets.pop()?;
        self.counters.delivered += 1;
        Some(packet)
    }

    fn put(&mut self, path: u32, bytes: Vec<u8>) {
        let (faults, rng) = (&self.faults, &mut self.rng);
        let mut at = self.last.max(self.now + faults.base + rng.below(faults.jitter + 1));
        if rng.chance(faults.reorder) {
            at += rng.below(faults.late);
            self.counters.late += 1;
        } else {
            self.last = at;
        }
        let ce = rng.chance(faults.mark);
        self.counters.marked += u64::from(ce);
        let mut packet = Packet { at, order: self.order, path, ce, whole: true, bytes };
        self.order += 1;
        if rng.chance(faults.corrupt) {
            packet.whole = false;
            if rng.one_in(4) {
                packet.bytes.truncate(rng.below(packet.bytes.len() as u64) as usize);
                self.counters.truncated += 1;
            } else {
                let at = rng.below(packet.bytes.len() as u64) as usize;
                packet.bytes[at] ^= 1 << rng.below(8);
                self.counters.corrupted += 1;
            }
        }
        self.packets.push(Reverse(packet));
    }
}

impl Sink for Wire {
    fn open(&mut self, path: PathId, len: usize, _: bool) -> Option<Room<'_>> {
        if self.room == 0 {
            return None;
        }
        self.open = (path.0, vec![0xee; len]);
        Some(Room { bytes: &mut self.open.1, seed: seed(path, len) })
    }

    fn close(&mut self) {
        self.room -= 1;
        self.counters.sent += 1;
        let (path, bytes) = std::mem::take(&mut self.open);
        let now = self.now;
        if self.dead || self.faults.cuts.iter().any(|&(from, to)| (from..to).contains(&now)) {
            self.counters.cut += 1;
            return;
        }
        if self.rng.chance(self.faults.loss) {
            self.counters.lost += 1;
            return;
        }
        if self.rng.chance(self.faults.duplicate) {
            self.counters.duplicated += 1;
            self.put(path, bytes.clone());
        }
        self.put(path, bytes);
    }
}
