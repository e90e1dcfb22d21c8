//! Bounded reassembly of parts in any order.

use super::Part;
use crate::Record;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

/// Bytes that are charged for an open message in addition to its own, and for each of its parts: the bookkeeping.
const MESSAGE_COST: usize = 256;
const PART_COST: usize = 16;

/// The direction of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From a slave to a master: the peer is the slave.
    Up,
    /// From a master to a slave: the peer is the master.
    Down,
}

/// Why a part was not accepted. Its message is dropped with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartError {
    /// The record is whole; no message was touched.
    NotAPart,
    /// The payload has no offset and total, or no byte of the message after them.
    TooShort,
    /// The part ends after `total`.
    PastEnd,
    /// The last part is not marked, or a part that is marked does not end at `total`.
    WrongLast,
    /// Another part of the message gave another total.
    TotalMismatch,
    /// The part overlaps another one that is not its exact duplicate.
    Overlap,
    /// The message alone is larger than its peer may hold.
    TooLarge,
    /// The peer, or all peers together, hold as much as they may.
    NoRoom,
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPart => "a whole record where a part was expected",
            Self::TooShort => "a part without offset, total and data",
            Self::PastEnd => "a part that ends after its message",
            Self::WrongLast => "a part that is wrongly marked as the last, or wrongly not",
            Self::TotalMismatch => "parts that differ about the length of their message",
            Self::Overlap => "parts that overlap",
            Self::TooLarge => "a message larger than the reassembly limit of its peer: raise the limit or send less",
            Self::NoRoom => "too many incomplete messages: raise the reassembly limits or send fewer at once",
        })
    }
}

impl core::error::Error for PartError {}

/// The limits of a [`Reassembler`]. Bookkeeping is charged too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of incomplete messages of one peer.
    pub peer_bytes: usize,
    /// Bytes of incomplete messages of all peers.
    pub total_bytes: usize,
    /// How long a message may stay incomplete after its first part, in nanoseconds.
    pub timeout: u64,
}

/// The results for all parts. Always, with [`Reassembler::held_parts`]:
/// `parts_in = parts_completed + duplicate + held + sum of the dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartCounters {
    /// Records handed in.
    pub parts_in: u64,
    /// Messages completed.
    pub completed: u64,
    /// Parts of completed messages.
    pub parts_completed: u64,
    /// Exact duplicates of a held part, ignored.
    pub duplicate: u64,
    /// Whole records, refused.
    pub not_a_part: u64,
    /// Parts dropped by [`PartError::TooShort`]: the part, and the held parts of its message.
    pub too_short: u64,
    /// Parts dropped by [`PartError::PastEnd`].
    pub past_end: u64,
    /// Parts dropped by [`PartError::WrongLast`].
    pub wrong_last: u64,
    /// Parts dropped by [`PartError::TotalMismatch`].
    pub total_mismatch: u64,
    /// Parts dropped by [`PartError::Overlap`].
    pub overlap: u64,
    /// Parts dropped by [`PartError::TooLarge`].
    pub too_large: u64,
    /// Parts dropped by [`PartError::NoRoom`].
    pub no_room: u64,
    /// Parts dropped because their message stayed incomplete for too long.
    pub expired: u64,
}

impl PartCounters {
    fn of(&mut self, error: PartError) -> &mut u64 {
        match error {
            PartError::NotAPart => &mut self.not_a_part,
            PartError::TooShort => &mut self.too_short,
            PartError::PastEnd => &mut self.past_end,
            PartError::WrongLast => &mut self.wrong_last,
            PartError::TotalMismatch => &mut self.total_mismatch,
            PartError::Overlap => &mut self.overlap,
            PartError::TooLarge => &mut self.too_large,
            PartError::NoRoom => &mut self.no_room,
        }
    }

    /// Parts dropped for any reason; duplicates are not counted.
    pub const fn dropped(&self) -> u64 {
        self.not_a_part
            + self.too_short
            + self.past_end
            + self.wrong_last
            + self.total_mismatch
            + self.overlap
            + self.too_large
            + self.no_room
            + self.expired
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MessageKey {
    direction: Direction,
    slave_id: u32,
    msg_type: u16,
    req_id: u64,
}

impl MessageKey {
    fn peer(&self) -> (Direction, u32) {
        match self.direction {
            Direction::Up => (Direction::Up, self.slave_id),
            Direction::Down => (Direction::Down, (self.req_id >> 48) as u32),
        }
    }
}

#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    /// Offset and length of each part, by offset.
    parts: Vec<(u32, u32)>,
    missing: usize,
    deadline: u64,
}

impl Message {
    fn cost(&self) -> usize {
        MESSAGE_COST + self.bytes.len() + self.parts.len() * PART_COST
    }

    /// The index among the parts where a new one belongs; `Ok(None)` if it is already there.
    fn place(&self, part: &Part<'_>) -> Result<Option<usize>, PartError> {
        if part.total as usize != self.bytes.len() {
            return Err(PartError::TotalMismatch);
        }
        let (offset, len) = (part.offset, part.data.len() as u32);
        let at = self.parts.partition_point(|&(begin, _)| begin < offset);
        let (before, after) = self.parts.split_at(at);
        if after.first() == Some(&(offset, len)) {
            return Ok(None);
        }
        let overlaps_before = before.last().is_some_and(|&(begin, len)| begin + len > offset);
        let overlaps_after = after.first().is_some_and(|&(begin, _)| offset + len > begin);
        if overlaps_before || overlaps_after { Err(PartError::Overlap) } else { Ok(Some(at)) }
    }
}

/// Puts messages together from their parts, in any order, within [`Limits`].
///
/// A message is identified by direction, slave id, message type and request id. A part that contradicts the others
/// drops the whole message. A completed message is forgotten: parts that are repeated after that begin a new message.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    messages: BTreeMap<MessageKey, Message>,
    by_deadline: BTreeSet<(u64, MessageKey)>,
    peer_bytes: BTreeMap<(Direction, u32), usize>,
    bytes: usize,
    parts: u64,
    counters: PartCounters,
}

impl Reassembler {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            messages: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
            peer_bytes: BTreeMap::new(),
            bytes: 0,
            parts: 0,
            counters: PartCounters::default(),
        }
    }

    /// Takes one part at time `now`, in nanoseconds; returns the message if this part completes it.
    ///
    /// # Errors
    /// It fails as [`Part::parse`] does. The error is [`PartError::TotalMismatch`] or [`PartError::Overlap`] when the
    /// part contradicts those before it. It is [`PartError::TooLarge`] or [`PartError::NoRoom`] when the limits do not
    /// allow it. Every error but [`PartError::NotAPart`] drops what was held of that message.
    pub fn push(&mut self, now: u64, direction: Direction, record: &Record<'_>) -> Result<Option<Vec<u8>>, PartError> {
        self.expire(now);
        self.counters.parts_in += 1;
        let header = record.header();
        let (slave_id, msg_type, req_id) = (header.slave_id(), header.msg_type().0, header.req_id());
        let key = MessageKey { direction, slave_id, msg_type, req_id };
        match Part::parse(record).and_then(|part| self.insert(now, key, &part)) {
            Ok(true) => {
                let Some(message) = self.remove(&key) else {
                    return Ok(None);
                };
                self.counters.completed += 1;
                self.counters.parts_completed += message.parts.len() as u64;
                Ok(Some(message.bytes))
            }
            Ok(false) => Ok(None),
            Err(error) => {
                // A whole record is no evidence against a message in parts.
                let held = if error == PartError::NotAPart { None } else { self.remove(&key) };
                *self.counters.of(error) += 1 + held.map_or(0, |message| message.parts.len() as u64);
                Err(error)
            }
        }
    }

    /// Drops the messages that are incomplete for too long; returns how many.
    pub fn expire(&mut self, now: u64) -> usize {
        let mut messages = 0;
        while let Some(&(deadline, key)) = self.by_deadline.first()
            && deadline <= now
        {
            let held = self.remove(&key);
            self.counters.expired += held.map_or(0, |message| message.parts.len() as u64);
            messages += 1;
        }
        messages
    }

    /// When [`expire`](Self::expire) has something to do, in nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.by_deadline.first().map(|&(deadline, _)| deadline)
    }

    /// The results for all parts.
    pub const fn counters(&self) -> &PartCounters {
        &self.counters
    }

    /// Parts of incomplete messages.
    pub const fn held_parts(&self) -> u64 {
        self.parts
    }

    /// Bytes charged for incomplete messages; never above [`Limits::total_bytes`].
    pub const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the message is complete now.
    fn insert(&mut self, now: u64, key: MessageKey, part: &Part<'_>) -> Result<bool, PartError> {
        let place = match self.messages.get(&key) {
            Some(message) => message.place(part)?,
            None => {
                self.open(now, key, part.total)?;
                Some(0)
            }
        };
        let Some(place) = place else {
            self.counters.duplicate += 1;
            return Ok(false);
        };
        self.charge(&key, PART_COST)?;
        let (begin, len) = (part.offset as usize, part.data.len());
        let Some(message) = self.messages.get_mut(&key) else {
            return Ok(false);
        };
        if let Some(room) = message.bytes.get_mut(begin..begin + len) {
            room.copy_from_slice(part.data);
        }
        message.parts.insert(place, (part.offset, len as u32));
        message.missing -= len;
        self.parts += 1;
        Ok(message.missing == 0)
    }

    fn open(&mut self, now: u64, key: MessageKey, total: u32) -> Result<(), PartError> {
        let total = total as usize;
        let cost = total.saturating_add(MESSAGE_COST);
        if cost.saturating_add(PART_COST) > self.limits.peer_bytes.min(self.limits.total_bytes) {
            return Err(PartError::TooLarge);
        }
        self.charge(&key, cost)?;
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(total).is_err() {
            self.refund(&key, cost);
            return Err(PartError::NoRoom);
        }
        bytes.resize(total, 0);
        let deadline = now.saturating_add(self.limits.timeout);
        self.by_deadline.insert((deadline, key));
        self.messages.insert(key, Message { bytes, parts: Vec::new(), missing: total, deadline });
        Ok(())
    }

    fn remove(&mut self, key: &MessageKey) -> Option<Message> {
        let message = self.messages.remove(key)?;
        self.by_deadline.remove(&(message.deadline, *key));
        self.refund(key, message.cost());
        self.parts -= message.parts.len() as u64;
        Some(message)
    }

    fn charge(&mut self, key: &MessageKey, cost: usize) -> Result<(), PartError> {
        let peer = self.peer_bytes.get(&key.peer()).copied().unwrap_or(0);
        if self.bytes + cost > self.limits.total_bytes || peer + cost > self.limits.peer_bytes {
            return Err(PartError::NoRoom);
        }
        self.peer_bytes.insert(key.peer(), peer + cost);
        self.bytes += cost;
        Ok(())
    }

    fn refund(&mut self, key: &MessageKey, cost: usize) {
        self.bytes -= cost;
        if let Some(peer) = self.peer_bytes.get_mut(&key.peer()) {
            *peer -= cost;
            if *peer == 0 {
                self.peer_bytes.remove(&key.peer());
            }
        }
    }
}
