//! The pointer array: one entry for every destination, with a buffer only while records wait.
//!
//! An open buffer *is* a frame of the arena: appended records leave from where they lie. An idle destination costs its
//! entry and nothing else: no buffer, no timer, no visit.

use crate::order::{Entry, NIL, OpeningOrder};
use crate::route::Destination;
use frame::{Frame, Note, Pool, Table, TableError, Time};
use std::num::NonZeroU16;
use wire::HEADER_LEN;
use wire::net::checksum;

/// One entry of the pointer array: 32 bytes, half a cache line.
#[derive(Debug)]
struct Slot {
    /// Its tailroom is what a datagram to this destination may still have: an append needs no other limit.
    buffer: Option<Frame>,
    /// Number of records that wait. The top bits are the [`Note::marks`] of any of them.
    records: u16,
    /// The sum of what waits, as of [`checksum::join`], if it is known.
    sum: u16,
    entry: Entry,
}

/// The bits of [`Slot::records`] that hold the number.
const RECORDS: u16 = !(Note::CE | Note::UNSUMMED);

/// A buffer that has left the pointer array.
#[derive(Debug)]
pub struct Closed {
    /// The records, back to back.
    pub frame: Frame,
    /// How many.
    pub records: u16,
    /// Whether one of them arrived with Congestion Experienced.
    pub ce: bool,
    /// When it opened.
    pub opened: Time,
    /// The [`frame::Datagram::sum`] of the records, if it is known.
    pub sum: Option<NonZeroU16>,
}

/// See [`Place::NONE`].
static NOWHERE: u8 = 0;

/// Where the next bytes for a destination will go: for asking the cache.
#[derive(Clone, Copy, Debug)]
pub struct Place(*const u8);

impl Place {
    /// No place that matters. It is an address that exists, because a request for one that does not costs more.
    pub const NONE: Self = Self(&raw const NOWHERE);

    /// Asks the first-level cache for the lines that the next `len` bytes go to: the first two and the last.
    #[inline(always)]
    pub fn prefetch(self, len: usize) {
        frame::copy::prefetch_place(self.0, len);
    }
}

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The records wait in the buffer.
    Waiting,
    /// The records are in the buffer, and no further record can fit.
    Full,
    /// Nothing was appended: the destination has no open buffer.
    NotOpen,
    /// Nothing was appended: the records do not fit behind what waits.
    NoRoom,
}

/// The pointer array of one lcore.
#[derive(Debug)]
pub struct Aggregator {
    slots: Table<Slot>,
    /// For each destination, the most payload bytes that a datagram may have; 0 without a route.
    limits: Table<u16>,
    order: OpeningOrder,
    largest: u16,
}

/// A copy of what is known of an open buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// When it opened.
    pub opened: Time,
    /// Records in it.
    pub records: u16,
    /// Bytes in it.
    pub bytes: usize,
    /// Number of its frame in the pool.
    pub frame: u32,
}

impl Aggregator {
    /// An array for `destinations` entries, none of which has a route yet; at most one open buffer per frame of the
    /// pool.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(destinations: u32, pool: &Pool) -> Result<Self, TableError> {
        let slot = || Slot { buffer: None, records: 0, sum: 0, entry: NIL };
        Ok(Self {
            slots: Table::new(destinations as usize, |_| slot())?,
            limits: Table::new(destinations as usize, |_| 0)?,
            order: OpeningOrder::new(pool.capacity())?,
            largest: pool.payload_room() as u16,
        })
    }

    /// Sets how many bytes a datagram to a destination may have, limited by the size of frames; 0 when it has no route.
    pub fn set_room(&mut self, destination: Destination, room: usize) {
        let at = destination as usize;
        if let (Some(slot), Some(limit)) = (self.slots.get_mut(at), self.limits.get_mut(at)) {
            *limit = u16::try_from(room).unwrap_or(u16::MAX).min(self.largest);
            if let Some(frame) = &mut slot.buffer {
                frame.limit(usize::from(*limit));
            }
        }
    }

    /// The most payload bytes that a datagram to a destination may have; 0 without a route.
    #[inline]
    pub fn limit(&self, destination: Destination) -> usize {
        self.limits.get(destination as usize).map_or(0, |limit| usize::from(*limit))
    }

    /// Bytes that wait for a destination.
    pub fn waiting(&self, destination: Destination) -> usize {
        self.slots.get(destination as usize).and_then(|slot| slot.buffer.as_ref()).map_or(0, Frame::len)
    }

    /// What waits for a destination, if a buffer is open.
    pub fn look(&self, destination: Destination) -> Option<Open> {
        let slot = self.slots.get(destination as usize)?;
        let frame = slot.buffer.as_ref()?;
        let opened = self.order.opened(slot.entry)?;
        Some(Open { opened, records: slot.records & RECORDS, bytes: frame.len(), frame: frame.index() })
    }

    /// Asks the second-level cache for a destination's entry.
    #[inline]
    pub fn prefetch_far_entry(&self, destination: Destination) {
        frame::copy::prefetch_far_element(&self.slots, destination as usize);
    }

    /// Asks the cache for a destination's entry.
    #[inline]
    pub fn prefetch_entry(&self, destination: Destination) {
        frame::copy::prefetch_element(&self.slots, destination as usize);
    }

    /// Asks the second-level cache for the place where the next `len` bytes for a destination go. If the buffer will
    /// leave, because they do not fit or nothing more will, it also asks for what that touches, and calls `leaves`.
    /// Returns that place; if no buffer is open, a meaningless one.
    #[inline(always)]
    pub fn prefetch_far(&self, destination: Destination, len: usize, leaves: impl FnOnce()) -> Place {
        let Some(Slot { buffer: Some(frame), entry, .. }) = self.slots.get(destination as usize) else {
            return Place::NONE;
        };
        let place = frame.place_of_next();
        frame::copy::prefetch_far_place(place, len);
        if frame.tailroom() < len + HEADER_LEN {
            frame.prefetch_front_far();
            self.order.prefetch_far(*entry);
            leaves();
        }
        Place(place)
    }

    /// Asks the second-level cache for `bytes` if they will be copied to a destination.
    pub fn prefetch_copy(&self, destination: Destination, bytes: &[u8]) {
        if let Some(Slot { buffer: Some(frame), .. }) = self.slots.get(destination as usize)
            && bytes.len() <= frame.tailroom()
        {
            frame::copy::prefetch_far_bytes(bytes);
        }
    }

    /// Appends `records` whole records, which lie back to back in `bytes`, to an open buffer. `note` is that of
    /// `bytes`.
    #[inline(always)]
    pub fn append(&mut self, destination: Destination, bytes: &[u8], records: u16, note: Note) -> Appended {
        let Some(Slot { buffer: Some(frame), records: waiting, sum, .. }) = self.slots.get_mut(destination as usize)
        else {
            return Appended::NotOpen;
        };
        let is_odd = !frame.len().is_multiple_of(2);
        if !frame.append(bytes) {
            return Appended::NoRoom;
        }
        *waiting = (*waiting + records) | note.marks();
        *sum = checksum::join(*sum, is_odd, note.sum());
        if frame.tailroom() < HEADER_LEN { Appended::Full } else { Appended::Waiting }
    }

    /// Opens an empty buffer for a destination. Returns the frame when a buffer is open already or too many are.
    ///
    /// # Errors
    /// The frame itself comes back when the destination does not exist or has an open buffer, or as many buffers are
    /// open as may be.
    #[inline]
    pub fn open(&mut self, destination: Destination, frame: Frame, now: Time) -> Result<(), Frame> {
        self.start(destination, frame, now, 0, 0)
    }

    /// Makes a received frame whose data is whole records the buffer of a destination. Returns the frame as
    /// [`Aggregator::open`] does.
    ///
    /// # Errors
    /// The frame itself comes back when [`Aggregator::open`] would refuse it.
    #[inline]
    pub fn adopt(
        &mut self,
        destination: Destination,
        frame: Frame,
        records: u16,
        note: Note,
        now: Time,
    ) -> Result<(), Frame> {
        self.start(destination, frame, now, records | note.marks(), checksum::join(0, false, note.sum()))
    }

    /// Makes a frame the buffer of a destination.
    #[inline]
    fn start(
        &mut self,
        destination: Destination,
        mut frame: Frame,
        now: Time,
        records: u16,
        sum: u16,
    ) -> Result<(), Frame> {
        let at = destination as usize;
        let (Some(slot), Some(limit)) = (self.slots.get_mut(at), self.limits.get(at)) else { return Err(frame) };
        if slot.buffer.is_some() {
            return Err(frame);
        }
        let Some(entry) = self.order.push(now, destination) else { return Err(frame) };
        frame.limit(usize::from(*limit));
        *slot = Slot { buffer: Some(frame), records, sum, entry };
        Ok(())
    }

    /// Takes a destination's buffer out, if one is open.
    #[inline]
    pub fn close(&mut self, destination: Destination) -> Option<Closed> {
        let slot = self.slots.get_mut(destination as usize)?;
        let frame = slot.buffer.take()?;
        let opened = self.order.remove(slot.entry).unwrap_or_else(|| {
            frame::never!("an open buffer is not in the list of open buffers");
            Time::MAX
        });
        let records = slot.records;
        let sum = if records & Note::UNSUMMED == 0 { NonZeroU16::new(slot.sum) } else { None };
        Some(Closed { frame, records: records & RECORDS, ce: records & Note::CE != 0, opened, sum })
    }

    /// When the oldest buffer opened, and its destination.
    #[inline]
    pub fn oldest(&self) -> Option<(Time, Destination)> {
        self.order.oldest()
    }

    /// Number of open buffers.
    #[inline]
    pub fn open_buffers(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_destination_costs_32_bytes() {
        assert_eq!(size_of::<Slot>(), 32);
    }
}
