//! Moves the blocks of recalled extents to others, one extent at a time.
//!
//! While an extent is moved, its slot's writes wait: first those under way end, then the blocks are copied in pieces.
//! READs go to the old extent until all is copied, and the old extent is freed when they have ended.

use super::BlockMap;
use crate::moving::{CopyStep, Move, Phase};
use crate::slot::{Ending, MapRefusal, Want};
use crate::{BLOCK, BLOCKS};

/// The most bytes of one copy.
const PIECE: u32 = 256 << 10;

impl BlockMap {
    /// An extent is recalled: its blocks are moved. Returns the byte of the disk at which its slot begins, if it has
    /// one.
    pub fn recalled(&mut self, extent: u64) -> Option<u64> {
        let index = self.by_extent.get(&extent).copied()?;
        if !self.relocation.queue.contains(&extent) {
            self.relocation.queue.push_back(extent);
            self.begin_move();
        }
        Some(u64::from(index) * u64::from(crate::EXTENT))
    }

    /// Whether an extent is moved now, or shall be.
    pub fn moves(&self) -> bool {
        self.relocation.current.is_some() || !self.relocation.queue.is_empty()
    }

    /// Whether an extent is moved now.
    pub fn is_moving(&self) -> bool {
        self.relocation.current.is_some()
    }

    /// Begins the next move. It is called again after one could not be done.
    pub fn begin_move(&mut self) {
        while self.relocation.current.is_none()
            && let Some(extent) = self.relocation.queue.pop_front()
        {
            let Some(slot) = self.by_extent.get(&extent).copied() else { continue };
            self.relocation.current = Some(Move { slot, phase: Phase::Wants });
            self.wanted.push_back(Want::Move(slot));
        }
    }

    /// The extent to which a slot's blocks are moved is there, or cannot be had.
    pub(crate) fn move_to(&mut self, index: u32, extent: Result<u64, MapRefusal>) {
        let is_current = matches!(self.relocation.current, Some(Move { slot, phase: Phase::Wants }) if slot == index);
        let has_extent = self.slot(index).is_some_and(|slot| slot.extent.is_some());
        match extent {
            Ok(extent) if is_current && !has_extent => {
                // All its blocks were trimmed meanwhile.
                self.freed.push((index, extent));
                self.relocation.current = None;
                self.begin_move();
            }
            Ok(extent) if is_current => {
                self.relocation.current = Some(Move { slot: index, phase: Phase::Waits(extent) });
                if let Some(slot) = self.slot_mut(index) {
                    slot.is_moving = true;
                }
                self.copy_may_go(index);
            }
            Ok(extent) => self.freed.push((index, extent)),
            Err(_) if is_current => {
                // It is tried again at the next call of `begin_move`.
                self.relocation.current = None;
                self.relocation.queue.extend(self.slot(index).and_then(|slot| slot.extent));
            }
            Err(_) => (),
        }
    }

    /// Begins to copy when no write to the slot is under way any more.
    pub(crate) fn copy_may_go(&mut self, index: u32) {
        if let Some(Move { slot, phase: Phase::Waits(target) }) = self.relocation.current
            && slot == index
            && self.slot(index).is_some_and(|slot| slot.flying.is_empty())
        {
            self.relocation.current = Some(Move { slot, phase: Phase::Copies(target, 0, None) });
        }
    }

    /// The next step of a move, if one can be done now. A move without further steps ends here.
    pub fn next_copy(&mut self) -> Option<CopyStep> {
        let Some(Move { slot: index, phase: Phase::Copies(target, done, None) }) = self.relocation.current else {
            return None;
        };
        let slot = self.slot(index)?;
        let from = slot.extent?;
        let first = if slot.present.get(done) { done } else { slot.present.run(done, BLOCKS) };
        if first >= BLOCKS {
            self.end_move(index, target);
            return None;
        }
        let end = slot.present.run(first, BLOCKS.min(first + PIECE / BLOCK));
        let step = CopyStep { from, to: target, offset: first * BLOCK, len: (end - first) * BLOCK };
        self.relocation.current = Some(Move { slot: index, phase: Phase::Copies(target, first, Some(step)) });
        Some(step)
    }

    /// Whether a step is still to be done. Ask before its WRITE: the extent may be lost since its READ.
    pub fn is_current(&self, step: CopyStep) -> bool {
        let now = self.relocation.current.map(|current| current.phase);
        matches!(now, Some(Phase::Copies(.., Some(current))) if current == step)
    }

    /// A step of a move has ended: both its READ and its WRITE were done, or one of them was not.
    pub fn copied(&mut self, step: CopyStep, reading: Ending, writing: Ending) {
        let Some(Move { slot: index, phase: Phase::Copies(target, _, Some(now)) }) = self.relocation.current else {
            return;
        };
        if now != step {
            return;
        }
        let done = (step.offset + step.len) / BLOCK;
        let phase = |done| Some(Move { slot: index, phase: Phase::Copies(target, done, None) });
        self.relocation.current = phase(step.offset / BLOCK);
        match (reading, writing) {
            (Ending::Done, Ending::Done) => self.relocation.current = phase(done),
            (Ending::Lost, _) => self.lose(index),
            (_, Ending::Lost) => self.target_lost(target),
            // Tried again: a slave that does not answer comes back, or is lost.
            _ => (),
        }
    }

    /// All blocks are copied.
    fn end_move(&mut self, index: u32, target: u64) {
        self.relocation.current = None;
        let Some(slot) = self.slot_mut(index) else { return };
        (slot.is_moving, slot.is_changed) = (false, true);
        let reads = std::mem::take(&mut slot.reads);
        if let Some(old) = slot.extent.replace(target) {
            if reads > 0 {
                slot.old.push((old, reads));
            } else {
                self.freed.push((index, old));
            }
            self.by_extent.remove(&old);
        }
        self.by_extent.insert(target, index);
        self.counters.extents_moved.add(1);
        self.pump(index);
        self.settle(index);
        self.begin_move();
    }

    /// The extent to which blocks are moved is lost before they all are there.
    pub(crate) fn target_lost(&mut self, extent: u64) {
        let Some(Move { slot: index, phase: Phase::Waits(target) | Phase::Copies(target, ..) }) =
            self.relocation.current
        else {
            return;
        };
        if target != extent {
            return;
        }
        self.relocation.current = None;
        self.freed.push((index, target));
        if let Some(slot) = self.slot_mut(index) {
            slot.is_moving = false;
            let extent = slot.extent;
            self.relocation.queue.extend(extent);
        }
        self.pump(index);
        self.settle(index);
    }

    /// Ends the move of a slot whose extent is lost. What was copied is given up, too: a step that is under way could
    /// still write old bytes there.
    pub(crate) fn stop_move(&mut self, index: u32) {
        let Some(current) = self.relocation.current.take_if(|current| current.slot == index) else { return };
        if let Some(slot) = self.slot_mut(index) {
            slot.is_moving = false;
        }
        if let Phase::Waits(target) | Phase::Copies(target, ..) = current.phase {
            self.freed.push((current.slot, target));
        }
        self.begin_move();
    }

    /// Nobody has any extent any more.
    pub(crate) fn forget_moves(&mut self) {
        self.relocation.queue.clear();
        if let Some(Move { slot: index, .. }) = self.relocation.current.take()
            && let Some(slot) = self.slot_mut(index)
        {
            slot.is_moving = false;
        }
    }
}
