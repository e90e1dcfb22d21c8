//! The pointer array: one entry for every destination, with a buffer only while records wait.
//!
//! An open buffer *is* a frame of the arena: appended records leave from where they lie. An idle destination costs its
//! entry and nothing else: no buffer, no timer, no visit.

use crate::order::{Entry, NIL, OpeningOrder};
use crate::route::Destination;
use frame::{Frame, LARGE, Pool, Table, TableError, Time};
use std::num::NonZeroU16;
use wire::HEADER_LEN;
use wire::net::checksum;

/// One entry of the pointer array: 32 bytes, half a cache line.
#[derive(Debug)]
struct Slot {
    buffer: Option<Frame>,
    /// The most payload bytes that a datagram to this destination may have; 0 without a route.
    limit: u16,
    /// Number of records that wait. The top bit: one of them arrived CE. The next bit: the sum of some of them is
    /// known.
    records: u16,
    entry: Entry,
}

const CE: u16 = 1 << 15;
/// [`Aggregator::sums`] has the sum of at least the first bytes.
const SUMMED: u16 = 1 << 14;
/// The bits that hold the number of records.
const RECORDS: u16 = SUMMED - 1;

/// The sum of the first bytes of a buffer.
#[derive(Clone, Copy, Debug)]
struct Known {
    sum: NonZeroU16,
    /// The number of bytes in the sum.
    len: u16,
}

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
    /// For each destination, the sum of what waits, if its entry says that there is one. Only large records touch it.
    sums: Table<Known>,
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
        let slot = || Slot { buffer: None, limit: 0, records: 0, entry: NIL };
        Ok(Self {
            slots: Table::new(destinations as usize, |_| slot())?,
            sums: Table::new(destinations as usize, |_| Known { sum: NonZeroU16::MAX, len: 0 })?,
            order: OpeningOrder::new(pool.capacity())?,
            largest: pool.payload_room() as u16,
        })
    }

    /// Sets how many bytes a datagram to a destination may have, limited by the size of frames; 0 when it has no route.
    pub fn set_room(&mut self, destination: Destination, room: usize) {
        if let Some(slot) = self.slots.get_mut(destination as usize) {
            slot.limit = u16::try_from(room).unwrap_or(u16::MAX).min(self.largest);
        }
    }

    /// The most payload bytes that a datagram to a destination may have; 0 without a route.
    #[inline]
    pub fn limit(&self, destination: Destination) -> usize {
        self.slots.get(destination as usize).map_or(0, |slot| usize::from(slot.limit))
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

    /// Asks the cache for a destination's entry.
    #[inline]
    pub fn prefetch_entry(&self, destination: Destination) {
        frame::copy::prefetch_element(&self.slots, destination as usize);
    }

    /// Asks the second-level cache for the place where the next `len` bytes for a destination go. If the buffer will
    /// leave, because they do not fit or nothing more will, it also asks for what that touches, and returns `true`.
    #[inline]
    pub fn prefetch_far(&self, destination: Destination, len: usize) -> bool {
        let Some(Slot { buffer: Some(frame), limit, entry, .. }) = self.slots.get(destination as usize) else {
            return false;
        };
        frame.prefetch_tail_far(len);
        let leaves = frame.len() + len + HEADER_LEN > usize::from(*limit);
        if leaves {
            frame.prefetch_front_far();
            self.order.prefetch_far(*entry);
        }
        leaves
    }

    /// Asks the cache for the place where the next `len` bytes for a destination go.
    #[inline]
    pub fn prefetch_tail(&self, destination: Destination, len: usize) {
        if let Some(Slot { buffer: Some(frame), .. }) = self.slots.get(destination as usize) {
            frame.prefetch_tail(len);
        }
    }

    /// Asks the cache for all memory that a copy of `bytes` to a destination will touch, if there will be a copy.
    pub fn prefetch_copy(&self, destination: Destination, bytes: &[u8]) {
        if let Some(Slot { buffer: Some(frame), limit, .. }) = self.slots.get(destination as usize)
            && frame.len() + bytes.len() <= usize::from(*limit)
        {
            frame::copy::prefetch_bytes(bytes);
            frame.prefetch_room(bytes.len());
        }
    }

    /// Appends `records` whole records, which lie back to back in `bytes`, to an open buffer. `sum` is the
    /// [`frame::Datagram::sum`] of `bytes`; it is kept if they are [`LARGE`].
    #[inline]
    pub fn append(
        &mut self,
        destination: Destination,
        bytes: &[u8],
        records: u16,
        ce: bool,
        sum: Option<NonZeroU16>,
    ) -> Appended {
        let Some(slot) = self.slots.get_mut(destination as usize) else { return Appended::NotOpen };
        let Some(frame) = &mut slot.buffer else { return Appended::NotOpen };
        let (waiting, limit) = (frame.len() + bytes.len(), usize::from(slot.limit));
        if waiting > limit || !frame.append(bytes) {
            return Appended::NoRoom;
        }
        slot.records = (slot.records + records) | if ce { CE } else { 0 };
        if bytes.len() >= LARGE {
            self.add_sum(destination, bytes.len(), sum);
        }
        if waiting + HEADER_LEN > limit { Appended::Full } else { Appended::Waiting }
    }

    /// Notes the sum of the `len` bytes that were appended last. Bytes that are appended without a sum make the sum of
    /// all unknown.
    #[inline(never)]
    fn add_sum(&mut self, destination: Destination, len: usize, sum: Option<NonZeroU16>) {
        let at = destination as usize;
        let (Some(slot), Some(known), Some(sum)) = (self.slots.get_mut(at), self.sums.get_mut(at), sum) else { return };
        let Some(frame) = &slot.buffer else { return };
        let before = frame.len().saturating_sub(len);
        let all = match before {
            0 => sum,
            _ if slot.records & SUMMED == 0 || usize::from(known.len) != before => return,
            _ => checksum::join(known.sum, !before.is_multiple_of(2), sum),
        };
        *known = Known { sum: all, len: frame.len() as u16 };
        slot.records |= SUMMED;
    }

    /// Opens an empty buffer for a destination. Returns the frame when a buffer is open already or too many are.
    ///
    /// # Errors
    /// The frame itself comes back when the destination does not exist or has an open buffer, or as many buffers are
    /// open as may be.
    #[inline]
    pub fn open(&mut self, destination: Destination, frame: Frame, now: Time) -> Result<(), Frame> {
        let Some(slot) = self.slots.get_mut(destination as usize) else { return Err(frame) };
        if slot.buffer.is_some() {
            return Err(frame);
        }
        let Some(entry) = self.order.push(now, destination) else { return Err(frame) };
        slot.buffer = Some(frame);
        slot.entry = entry;
        slot.records = 0;
        Ok(())
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
        ce: bool,
        sum: Option<NonZeroU16>,
        now: Time,
    ) -> Result<(), Frame> {
        let len = frame.len();
        self.open(destination, frame, now)?;
        if let Some(slot) = self.slots.get_mut(destination as usize) {
            slot.records = records | if ce { CE } else { 0 };
        }
        if len >= LARGE {
            self.add_sum(destination, len, sum);
        }
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
        let sum = if slot.records & SUMMED == 0 { None } else { self.sums.get(destination as usize) };
        let sum = sum.filter(|known| usize::from(known.len) == frame.len()).map(|known| known.sum);
        Some(Closed { frame, records: slot.records & RECORDS, ce: slot.records & CE != 0, opened, sum })
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
