//! 2 MiB of a disk: its extent, its blocks, and the writes that are under way or wait.

use crate::bits::Bits;
use crate::{BLOCK, BLOCKS};
use std::collections::VecDeque;
use std::ops::Range;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// It writes bytes.
    Data,
    /// It writes zeros to a part of one block. Nothing is to be done if the block is absent.
    Zeros,
    /// It writes nothing: the slot shall have an extent, and keep it without blocks.
    Reserve,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The extent.
    pub extent: u64,
    /// The first byte in the extent, with the zeros in front.
    pub offset: u32,
    /// Zeros in front of the bytes.
    pub front: u32,
    /// Zeros behind the bytes.
    pub behind: u32,
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapRefusal {
    /// The other bytes of a block that is written in part are lost.
    Lost,
    /// There is no memory for another extent.
    NoSpace,
    /// Nobody can be asked for an extent.
    NoServer,
    /// The map cannot be kept: a slave does not answer.
    NoAnswer,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteStart {
    /// It goes there. Say how it ended with [`BlockMap::write_ended`](crate::BlockMap::write_ended).
    Go(Placed),
    /// There is nothing to write: it is done.
    Done,
    /// It cannot be done.
    Refused(MapRefusal),
    /// It waits: a [`MapEvent`] says what becomes of it.
    Waits,
}

/// A write that waited need not wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEvent {
    /// The number of the write.
    pub write: u64,
    /// What becomes of it; never [`WriteStart::Waits`].
    pub start: WriteStart,
}

/// How a request to an extent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All bytes were transferred.
    Done,
    /// The extent is lost.
    Lost,
    /// It failed, and the extent may still be there.
    Failed,
}

/// What becomes of a write that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// It is done.
    Done,
    /// Its extent is lost, and it is written again elsewhere: a [`MapEvent`] says where.
    Again,
    /// It failed. The bytes are old, new or mixed.
    Failed,
}

/// What an extent is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// For a slot without one.
    Slot(u32),
    /// For a slot whose extent is recalled.
    Move(u32),
}

/// How often a write is sent to another extent.
const REPEATS: u8 = 4;

/// A write that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) kind: WriteKind,
    /// Its bytes in the slot.
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) repeats: u8,
}

/// A write that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) of: Waiting,
    extent: u64,
    /// Blocks that it touches.
    first: u32,
    last: u32,
    fills_first: bool,
    fills_last: bool,
}

impl Flight {
    pub(crate) fn extent(&self) -> u64 {
        self.extent
    }

    /// Blocks of which it writes every byte.
    fn whole(&self) -> Range<u32> {
        let starts_inside = !self.of.from.is_multiple_of(BLOCK) && !self.fills_first;
        let ends_inside = !self.of.to.is_multiple_of(BLOCK) && !self.fills_last;
        let (from, to) = (self.first + u32::from(starts_inside), self.last + 1 - u32::from(ends_inside));
        from..to.max(from)
    }

    /// Whether both may be under way at once.
    fn conflicts(&self, other: &Self) -> bool {
        let touches = |flight: &Self, block: u32| (flight.first..=flight.last).contains(&block);
        let fills = |one: &Self, two: &Self| {
            (one.fills_first && touches(two, one.first)) || (one.fills_last && touches(two, one.last))
        };
        fills(self, other) || fills(other, self)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) extent: Option<u64>,
    pub(crate) present: Bits,
    pub(crate) lost: Bits,
    /// It keeps its extent without blocks.
    pub(crate) is_reserved: bool,
    /// What is kept of it is not what it is.
    pub(crate) is_changed: bool,
    /// An extent was asked for.
    pub(crate) is_wanted: bool,
    /// Its blocks are being moved to another extent: writes wait.
    pub(crate) is_moving: bool,
    /// READs of the extent that are under way.
    pub(crate) reads: u32,
    /// Extents that it had before, with READs under way.
    pub(crate) old: Vec<(u64, u32)>,
    pub(crate) flying: Vec<Flight>,
    pub(crate) waiting: VecDeque<Waiting>,
}

/// What a slot says about a write.
pub(crate) enum Verdict {
    Start(WriteStart),
    /// It must wait, and for an extent if that is said.
    Wait {
        wants: bool,
    },
}

impl Slot {
    /// Whether nothing is left of it.
    pub(crate) fn is_unused(&self) -> bool {
        self.extent.is_none() && !self.lost.any() && self.is_quiet()
    }

    /// Whether its extent is not needed.
    pub(crate) fn is_empty(&self) -> bool {
        self.extent.is_some() && !self.present.any() && !self.is_reserved && self.reads == 0 && self.is_quiet()
    }

    fn is_quiet(&self) -> bool {
        self.flying.is_empty() && self.waiting.is_empty() && self.old.is_empty() && !self.is_moving && !self.is_wanted
    }

    /// Starts a write, if it need not wait.
    pub(crate) fn start(&mut self, write: Waiting) -> Verdict {
        let start = |start| Verdict::Start(start);
        let (first, last) = (write.from / BLOCK, write.to.saturating_sub(1).max(write.from) / BLOCK);
        let parts = [(!write.from.is_multiple_of(BLOCK), first), (!write.to.is_multiple_of(BLOCK), last)];
        if write.kind == WriteKind::Zeros && !self.present.get(first) && !self.lost.get(first) {
            return start(WriteStart::Done);
        }
        if write.kind != WriteKind::Reserve && parts.iter().any(|(is_part, block)| *is_part && self.lost.get(*block)) {
            return start(WriteStart::Refused(MapRefusal::Lost));
        }
        let Some(extent) = self.extent else {
            return Verdict::Wait { wants: true };
        };
        if self.is_moving {
            return Verdict::Wait { wants: false };
        }
        if write.kind == WriteKind::Reserve {
            self.is_changed |= !std::mem::replace(&mut self.is_reserved, true);
            return start(WriteStart::Done);
        }
        let [mut fills_first, mut fills_last] = parts.map(|(is_part, block)| is_part && !self.present.get(block));
        if first == last {
            (fills_first, fills_last) = (fills_first | fills_last, fills_first | fills_last);
        }
        let flight = Flight { of: write, extent, first, last, fills_first, fills_last };
        if self.flying.iter().any(|other| other.conflicts(&flight)) {
            return Verdict::Wait { wants: false };
        }
        self.flying.push(flight);
        let front = if fills_first { write.from % BLOCK } else { 0 };
        let behind = if fills_last { write.to.next_multiple_of(BLOCK) - write.to } else { 0 };
        start(WriteStart::Go(Placed { extent, offset: write.from - front, front, behind }))
    }

    /// Removes a write that has ended from those under way.
    pub(crate) fn land(&mut self, id: u64) -> Option<Flight> {
        let at = self.flying.iter().position(|flight| flight.of.id == id)?;
        Some(self.flying.swap_remove(at))
    }

    /// A write has ended; `None` if it is to be repeated, and waits.
    pub(crate) fn ended(&mut self, flight: Flight, ending: Ending) -> Option<WriteEnd> {
        let is_there = self.extent == Some(flight.extent);
        match ending {
            Ending::Failed => Some(WriteEnd::Failed),
            Ending::Done if is_there => {
                let (whole, before) = (flight.whole(), (self.present, self.lost));
                self.present.set(whole.clone());
                self.lost.clear(whole);
                self.is_changed |= before != (self.present, self.lost);
                Some(WriteEnd::Done)
            }
            _ if flight.of.repeats == REPEATS => Some(WriteEnd::Failed),
            // A part of a block that is lost now will be refused.
            _ => {
                self.waiting.push_front(Waiting { repeats: flight.of.repeats + 1, ..flight.of });
                None
            }
        }
    }

    /// Whether its books are right.
    #[cfg(debug_assertions)]
    pub(crate) fn check(&self) {
        let mut both = self.present;
        both.or(&self.lost);
        assert_eq!(both.count(), self.present.count() + self.lost.count(), "no block is present and lost");
        assert!(self.extent.is_some() || !self.present.any(), "what is present is in an extent");
    }

    /// All blocks, or those of the bytes that lie in them completely.
    pub(crate) fn whole_blocks(from: u32, to: u32) -> Range<u32> {
        let (first, end) = (from.div_ceil(BLOCK), to / BLOCK);
        first..end.max(first).min(BLOCKS)
    }
}
