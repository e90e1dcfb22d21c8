//! The map of a disk.

mod relocate;

use crate::counters::DiskCounters;
use crate::keep::KeptSlot;
use crate::moving::Relocation;
use crate::slot::{Ending, MapEvent, MapRefusal, Slot, Verdict, Waiting, Want, WriteEnd, WriteKind, WriteStart};
use crate::{BLOCK, EXTENT};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What bytes of a disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StretchKind {
    /// Zeros, without memory.
    Hole,
    /// Zeros, with memory for other bytes.
    Zeros,
    /// Lost.
    Lost,
    /// In an extent.
    Data {
        /// Which.
        extent: u64,
        /// The first byte in the extent.
        offset: u32,
    },
}

/// Bytes of a disk that are all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first byte.
    pub at: u64,
    /// How many, not 0.
    pub len: u32,
    /// What they are.
    pub kind: StretchKind,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct BlockMap {
    size: u64,
    pub(crate) slots: Vec<Option<Box<Slot>>>,
    pub(crate) by_extent: HashMap<u64, u32>,
    pub(crate) wanted: VecDeque<Want>,
    /// Extents that are not needed any more, with the slots that gave them up.
    pub(crate) freed: Vec<(u32, u64)>,
    /// Slots whose kept part has changed.
    changed: Vec<u32>,
    events: VecDeque<MapEvent>,
    pub(crate) relocation: Relocation,
    pub(crate) counters: Arc<DiskCounters>,
}

impl BlockMap {
    /// A disk of so many bytes, a multiple of [`BLOCK`], all absent.
    pub fn new(size: u64, counters: Arc<DiskCounters>) -> Self {
        let slots = usize::try_from(size.div_ceil(EXTENT.into())).unwrap_or(usize::MAX);
        Self {
            size,
            slots: (0..slots).map(|_| None).collect(),
            by_extent: HashMap::new(),
            wanted: VecDeque::new(),
            freed: Vec::new(),
            changed: Vec::new(),
            events: VecDeque::new(),
            relocation: Relocation::default(),
            counters,
        }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)?.as_deref()
    }

    pub(crate) fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)?.as_deref_mut()
    }

    /// The slot of a byte of the disk, and the byte in it.
    fn place(at: u64) -> (u32, u32) {
        ((at / u64::from(EXTENT)) as u32, (at % u64::from(EXTENT)) as u32)
    }

    /// What bytes are: `len` of them from `at` on, which lie in one slot. Adds stretches to `out`.
    pub fn look(&self, at: u64, len: u32, out: &mut Vec<Stretch>) {
        let (slot, from) = Self::place(at);
        let to = from.saturating_add(len).min(EXTENT);
        let Some(slot) = self.slot(slot) else {
            out.push(Stretch { at, len: to - from, kind: StretchKind::Hole });
            return;
        };
        let mut now = from;
        while now < to {
            let block = now / BLOCK;
            // Runs of the two sets end where the state changes; a block is in at most one of them.
            let most = to.div_ceil(BLOCK);
            let end = slot.present.run(block, most).min(slot.lost.run(block, most));
            let end = (end * BLOCK).min(to);
            let kind = match slot.extent {
                Some(extent) if slot.present.get(block) => StretchKind::Data { extent, offset: now },
                _ if slot.lost.get(block) => StretchKind::Lost,
                Some(_) => StretchKind::Zeros,
                None => StretchKind::Hole,
            };
            out.push(Stretch { at: at + u64::from(now - from), len: end - now, kind });
            now = end;
        }
    }

    /// A READ of a stretch with data begins: its extent stays until [`BlockMap::read_ended`].
    pub fn read_begins(&mut self, at: u64) {
        if let Some(slot) = self.slot_mut(Self::place(at).0) {
            slot.reads += 1;
        }
    }

    /// A READ of a stretch with data has ended.
    pub fn read_ended(&mut self, at: u64, extent: u64, ending: Ending) {
        let index = Self::place(at).0;
        let Some(slot) = self.slot_mut(index) else { return };
        if slot.extent == Some(extent) {
            slot.reads = slot.reads.saturating_sub(1);
            if ending == Ending::Lost {
                self.lose(index);
            }
        } else if let Some(place) = slot.old.iter().position(|(old, _)| *old == extent)
            && let Some((_, reads)) = slot.old.get_mut(place)
        {
            *reads -= 1;
            if *reads == 0 {
                slot.old.swap_remove(place);
                self.freed.push((index, extent));
            }
        }
        self.settle(index);
    }

    /// A write: `len` bytes from `at` on, which lie in one slot. Its number is the caller's, and no other write under
    /// way has it.
    pub fn write(&mut self, id: u64, kind: WriteKind, at: u64, len: u32) -> WriteStart {
        let (index, from) = Self::place(at);
        let Some(place) = self.slots.get_mut(index as usize) else { return WriteStart::Refused(MapRefusal::NoSpace) };
        if place.is_none() && kind == WriteKind::Zeros {
            return WriteStart::Done;
        }
        let slot = place.get_or_insert_default();
        let write = Waiting { id, kind, from, to: from.saturating_add(len).min(EXTENT), repeats: 0 };
        // In the order in which they came: a fill would wait for ever otherwise.
        let verdict = if slot.waiting.is_empty() { slot.start(write) } else { Verdict::Wait { wants: false } };
        match verdict {
            Verdict::Start(start) => {
                self.count_fill(start);
                self.note_change(index);
                start
            }
            Verdict::Wait { wants } => {
                slot.waiting.push_back(write);
                if wants {
                    self.want(index);
                }
                WriteStart::Waits
            }
        }
    }

    fn count_fill(&self, start: WriteStart) {
        if let WriteStart::Go(placed) = start
            && placed.front + placed.behind > 0
        {
            self.counters.writes_filled.add(1);
        }
    }

    pub(crate) fn want(&mut self, index: u32) {
        if let Some(slot) = self.slot_mut(index)
            && !slot.is_wanted
        {
            slot.is_wanted = true;
            self.wanted.push_back(Want::Slot(index));
        }
    }

    /// A write that was told to go has ended.
    pub fn write_ended(&mut self, id: u64, at: u64, ending: Ending) -> WriteEnd {
        let index = Self::place(at).0;
        let Some(flight) = self.slot_mut(index).and_then(|slot| slot.land(id)) else { return WriteEnd::Failed };
        if ending == Ending::Lost && self.slot(index).is_some_and(|slot| slot.extent == Some(flight.extent())) {
            self.lose(index);
        }
        let before = self.weight(index);
        let end = self.slot_mut(index).map(|slot| slot.ended(flight, ending));
        self.reweigh(index, before);
        if end == Some(None) {
            self.counters.writes_repeated.add(1);
        }
        self.pump(index);
        self.copy_may_go(index);
        self.settle(index);
        end.unwrap_or(Some(WriteEnd::Failed)).unwrap_or(WriteEnd::Again)
    }

    /// Makes the blocks absent that lie in the bytes completely: `len` of them from `at` on, which lie in one slot.
    /// `keeps` tells whether the slot keeps its extent, if it was reserved.
    pub fn clear(&mut self, at: u64, len: u32, keeps: bool) {
        let (index, from) = Self::place(at);
        let to = from.saturating_add(len).min(EXTENT);
        let is_end = at + u64::from(len) == self.size;
        let before = self.weight(index);
        if let Some(slot) = self.slot_mut(index) {
            let blocks = Slot::whole_blocks(from, to);
            let kept = (slot.present, slot.lost, slot.is_reserved);
            slot.present.clear(blocks.clone());
            slot.lost.clear(blocks);
            if !keeps && from == 0 && (to == EXTENT || is_end) {
                slot.is_reserved = false;
            }
            slot.is_changed |= kept != (slot.present, slot.lost, slot.is_reserved);
        }
        self.reweigh(index, before);
        self.settle(index);
    }

    /// Whether the slot of a byte keeps its extent without blocks.
    pub fn is_reserved(&self, at: u64) -> bool {
        self.slot(Self::place(at).0).is_some_and(|slot| slot.is_reserved)
    }

    /// Extents that are wanted, at most so many.
    pub fn take_wanted(&mut self, most: usize) -> Vec<Want> {
        let count = self.wanted.len().min(most);
        self.wanted.drain(..count).collect()
    }

    /// Whether extents are wanted.
    pub fn wants(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// An extent that was wanted is there, or cannot be had.
    pub fn allocated(&mut self, want: Want, extent: Result<u64, MapRefusal>) {
        if extent.is_ok() {
            self.counters.extents_allocated.add(1);
        }
        let index = match want {
            Want::Slot(index) => index,
            Want::Move(index) => return self.move_to(index, extent),
        };
        let Some(slot) = self.slot_mut(index) else {
            self.freed.extend(extent.map(|extent| (index, extent)));
            return;
        };
        slot.is_wanted = false;
        match extent {
            Ok(extent) => {
                slot.extent = Some(extent);
                self.by_extent.insert(extent, index);
                self.counters.extents_held.set(self.by_extent.len() as u64);
            }
            Err(refusal) => {
                for write in std::mem::take(&mut slot.waiting) {
                    let nothing = write.kind == WriteKind::Zeros;
                    let start = if nothing { WriteStart::Done } else { WriteStart::Refused(refusal) };
                    self.events.push_back(MapEvent { write: write.id, start });
                }
            }
        }
        self.pump(index);
        self.settle(index);
    }

    /// What became of a write that waited.
    pub fn next_event(&mut self) -> Option<MapEvent> {
        self.events.pop_front()
    }

    /// Extents that are not needed any more: free them.
    pub fn take_freed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.freed).into_iter().map(|(_, extent)| extent).collect()
    }

    /// The same, with the slots that gave them up: for a map that is kept.
    pub fn take_freed_of_slots(&mut self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.freed)
    }

    /// Slots that are not as they were kept, since the last call.
    pub fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    /// The slot of a byte of the disk.
    pub fn slot_of(at: u64) -> u32 {
        Self::place(at).0
    }

    /// What is to be kept of a slot, if there is anything.
    pub(crate) fn kept(&self, index: u32) -> Option<KeptSlot> {
        let Slot { extent, present, lost, is_reserved, .. } = self.slot(index)?;
        Some(KeptSlot { extent: *extent, present: *present, lost: *lost, is_reserved: *is_reserved })
    }

    /// The slots with something in them.
    pub(crate) fn used(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(index, _)| index as u32)
    }

    /// A slot is as it was kept. What is in an extent that is not there any more is lost.
    pub(crate) fn restore(&mut self, index: u32, kept: &KeptSlot, is_there: bool) {
        let before = self.weight(index);
        let Some(place) = self.slots.get_mut(index as usize) else { return };
        let slot = place.get_or_insert_default();
        (slot.lost, slot.is_reserved) = (kept.lost, kept.is_reserved);
        match kept.extent.filter(|_| is_there) {
            Some(extent) => {
                (slot.extent, slot.present) = (Some(extent), kept.present);
                self.by_extent.insert(extent, index);
                self.counters.extents_held.set(self.by_extent.len() as u64);
            }
            None => slot.lost.or(&kept.present),
        }
        self.reweigh(index, before);
        self.settle(index);
    }

    fn note_change(&mut self, index: u32) {
        if let Some(slot) = self.slot_mut(index)
            && std::mem::take(&mut slot.is_changed)
        {
            self.changed.push(index);
        }
    }

    /// Starts the writes that need not wait any more, in their order.
    pub(crate) fn pump(&mut self, index: u32) {
        while let Some(slot) = self.slot_mut(index)
            && let Some(write) = slot.waiting.front().copied()
        {
            match slot.start(write) {
                Verdict::Start(start) => {
                    slot.waiting.pop_front();
                    self.count_fill(start);
                    self.events.push_back(MapEvent { write: write.id, start });
                }
                Verdict::Wait { wants } => {
                    if wants {
                        self.want(index);
                    }
                    return;
                }
            }
        }
    }

    /// Gives up what is not needed any more.
    pub(crate) fn settle(&mut self, index: u32) {
        self.note_change(index);
        let Some(slot) = self.slot_mut(index) else { return };
        if slot.is_empty()
            && let Some(extent) = slot.extent.take()
        {
            self.freed.push((index, extent));
            self.by_extent.remove(&extent);
            self.counters.extents_trimmed.add(1);
            self.counters.extents_held.set(self.by_extent.len() as u64);
        }
        #[cfg(debug_assertions)]
        self.slot(index).into_iter().for_each(Slot::check);
        if self.slot(index).is_some_and(Slot::is_unused)
            && let Some(place) = self.slots.get_mut(index as usize)
        {
            *place = None;
        }
    }

    /// The extent of a slot is lost, and all that was present.
    pub(crate) fn lose(&mut self, index: u32) {
        let before = self.weight(index);
        self.stop_move(index);
        let Some(slot) = self.slot_mut(index) else { return };
        let Some(extent) = slot.extent.take() else { return };
        let present = std::mem::take(&mut slot.present);
        slot.lost.or(&present);
        slot.reads = 0;
        self.by_extent.remove(&extent);
        self.freed.push((index, extent));
        self.counters.extents_lost.add(1);
        self.counters.extents_held.set(self.by_extent.len() as u64);
        self.reweigh(index, before);
        self.pump(index);
        self.settle(index);
    }

    /// An extent is lost. Returns the byte of the disk at which its slot begins, if it has one.
    pub fn lost(&mut self, extent: u64) -> Option<u64> {
        let index = self.by_extent.get(&extent).copied();
        match index {
            Some(index) => self.lose(index),
            None => self.target_lost(extent),
        }
        index.map(|index| u64::from(index) * u64::from(EXTENT))
    }

    /// All extents are lost, and nobody can be asked for others. Returns how many there were.
    pub fn lost_all(&mut self) -> usize {
        let all: Vec<u32> = self.by_extent.values().copied().collect();
        self.forget_moves();
        all.iter().for_each(|index| self.lose(*index));
        self.freed.clear();
        for want in self.take_wanted(usize::MAX) {
            self.allocated(want, Err(MapRefusal::NoServer));
        }
        all.len()
    }

    /// Blocks of a slot that are present, and that are lost.
    fn weight(&self, index: u32) -> (u32, u32) {
        self.slot(index).map_or((0, 0), |slot| (slot.present.count(), slot.lost.count()))
    }

    /// Corrects the gauges after a slot had other blocks before.
    fn reweigh(&self, index: u32, (present, lost): (u32, u32)) {
        let now = self.weight(index);
        let gauges = [(&self.counters.blocks_present, present, now.0), (&self.counters.blocks_lost, lost, now.1)];
        for (gauge, before, now) in gauges {
            gauge.set(gauge.get().wrapping_add(now.into()).wrapping_sub(before.into()));
        }
    }
}
