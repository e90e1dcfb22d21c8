//! Replicas move: their extents are recalled, or lost while another replica is left.
//!
//! A new extent is allocated. From then on writes go to it, too; slots that are needed and not there yet are copied one
//! at a time. When all are there, the new extent takes the place of the old one.
//!
//! If the last replica is lost meanwhile, what was copied is kept, and the other pages are lost.

use super::{Pager, WantKind};
use crate::event::{PagingAction, ReadEnd, StoreEnd, WriteSource};
use crate::key::PageKey;
use crate::section::{PageState, Relocation};
use crate::work::Work;

impl Pager {
    pub(super) fn recall(&mut self, extent: u64) {
        let Some(page) = self.by_extent.get(&extent).copied() else { return };
        let Some(section) = self.section_mut(page) else { return };
        if let Some(relocation) = section.relocation.as_mut().filter(|relocation| relocation.to == Some(extent)) {
            // The new one is recalled before it was of use.
            **relocation = Relocation::new(relocation.replica);
            self.give_back(extent);
            return self.want(page, WantKind::Replica);
        }
        self.recalled.insert(extent);
        self.begin(page);
    }

    /// Begins the next move of a section, if there is a reason for one and none is under way.
    fn begin(&mut self, page: PageKey) {
        let Some(section) = self.section(page).filter(|section| section.relocation.is_none() && section.has_home())
        else {
            return;
        };
        let replicas = section.replicas.iter().take(self.config.replicas);
        let needs_one = |extent: &Option<u64>| extent.is_none_or(|extent| self.recalled.contains(&extent));
        let Some(replica) = replicas.clone().position(needs_one) else { return };
        if let Some(section) = self.section_mut(page) {
            section.relocation = Some(Box::new(Relocation::new(replica)));
        }
        self.want(page, WantKind::Replica);
    }

    pub(super) fn replica_granted(&mut self, page: PageKey, extents: Vec<u64>) {
        let first = extents.first().copied();
        let relocation = self.section_mut(page).and_then(|section| section.relocation.as_mut());
        match (relocation.filter(|relocation| relocation.to.is_none()), first) {
            (Some(relocation), Some(extent)) => {
                relocation.to = Some(extent);
                self.by_extent.insert(extent, page);
                self.relocate(page);
            }
            _ => extents.into_iter().for_each(|extent| self.push(PagingAction::Free { extent })),
        }
    }

    /// The next step of a move.
    pub(super) fn relocate(&mut self, page: PageKey) {
        let Some(section) = self.section(page) else { return };
        let Some(relocation) = &section.relocation else { return };
        let (Some(to), None) = (relocation.to, relocation.current) else { return };
        let next = section.stored().map(|(_, slot)| slot).find(|slot| !relocation.has(*slot));
        let Some(slot) = next else { return self.has_moved(page, to) };
        let own = section.replicas[relocation.replica];
        let Some(from) = own.or(section.replicas.iter().copied().flatten().next()) else { return };
        // Most buffers are for threads that wait.
        if self.landings.count() * 4 <= self.config.landings {
            self.relocating.insert(page);
            return;
        }
        let Some(landing) = self.landings.take() else { return };
        if let Some(relocation) = self.section_mut(page).and_then(|section| section.relocation.as_mut()) {
            relocation.current = Some(slot);
        }
        let ticket = self.tickets.open(Work::CopyRead { section: page.section_start(), slot, to, landing });
        self.push(PagingAction::Read { ticket, extent: from, slot, landing, is_demand: false });
    }

    /// All that is needed is in the new extent.
    fn has_moved(&mut self, page: PageKey, to: u64) {
        let Some(section) = self.section_mut(page) else { return };
        let Some(relocation) = section.relocation.take() else { return };
        let old = section.replicas[relocation.replica].replace(to);
        self.stats.relocated += 1;
        if let Some(old) = old {
            self.give_back(old);
        }
        self.begin(page);
        self.tidy(page);
    }

    /// Whether a slot is being copied to this extent.
    fn is_copying(&self, section: PageKey, slot: u16, to: u64) -> bool {
        let relocation = self.section(section).and_then(|section| section.relocation.as_ref());
        relocation.is_some_and(|relocation| relocation.to == Some(to) && relocation.current == Some(slot))
    }

    /// The bytes are copied as they are: who reads them compares the hash.
    pub(super) fn copy_read(&mut self, section: PageKey, slot: u16, to: u64, landing: u32, end: ReadEnd) {
        if !self.is_copying(section, slot, to) {
            self.landings.put(landing);
            return self.store_all(section, true);
        }
        if let ReadEnd::Done(_) = end {
            let ticket = self.tickets.open(Work::CopyWrite { section, slot, to, landing });
            return self.push(PagingAction::Write { ticket, extent: to, slot, source: WriteSource::Landing(landing) });
        }
        self.stats.failed += 1;
        self.landings.put(landing);
        self.end_copy(section, slot, false);
        self.relocating.insert(section);
    }

    pub(super) fn copy_written(&mut self, section: PageKey, slot: u16, to: u64, landing: u32, end: StoreEnd) {
        self.landings.put(landing);
        if !self.is_copying(section, slot, to) {
            return;
        }
        let is_done = end == StoreEnd::Done;
        self.stats.failed += u64::from(!is_done);
        self.end_copy(section, slot, is_done);
        if is_done {
            self.relocate(section);
        } else {
            self.relocating.insert(section);
        }
    }

    fn end_copy(&mut self, section: PageKey, slot: u16, is_done: bool) {
        if let Some(relocation) = self.section_mut(section).and_then(|section| section.relocation.as_mut()) {
            relocation.current = None;
            relocation.set(slot, is_done);
        }
        self.slot_is_free(section);
    }

    pub(super) fn lost(&mut self, extent: u64) {
        let Some(page) = self.by_extent.get(&extent).copied() else { return };
        self.stats.extents_lost += 1;
        self.give_back(extent);
        let Some(section) = self.section_mut(page) else { return };
        if let Some(relocation) = section.relocation.as_mut().filter(|relocation| relocation.to == Some(extent)) {
            **relocation = Relocation::new(relocation.replica);
            return self.want(page, WantKind::Replica);
        }
        for replica in section.replicas.iter_mut().filter(|replica| **replica == Some(extent)) {
            *replica = None;
        }
        if section.has_home() {
            return self.begin(page);
        }
        // What was copied is all that is left. The slot that is being copied is not given out meanwhile.
        let relocation = section.relocation.clone();
        let saved = relocation.as_ref().and_then(|relocation| Some((relocation.replica, relocation.to?)));
        if let Some((replica, to)) = saved {
            section.replicas[replica] = Some(to);
        }
        if let Some(relocation) = &mut section.relocation {
            relocation.to = None;
        }
        let is_saved = |slot| saved.is_some() && relocation.as_ref().is_some_and(|relocation| relocation.has(slot));
        let gone: Vec<usize> = section.stored().filter(|(_, slot)| !is_saved(*slot)).map(|(place, _)| place).collect();
        for place in gone {
            if let Some(page) = page.section_start().step(place as i64) {
                self.lose_slot(page);
            }
        }
        if let Some(section) = self.section_mut(page) {
            section.relocation = None;
        }
        let copying = relocation.as_ref().and_then(|relocation| relocation.current);
        if let (Some(slot), Some((_, to))) = (copying, saved) {
            self.hold_copied_slot(page, slot, to);
        }
        self.begin(page);
        self.store_all(page, false);
        self.tidy(page);
    }

    /// A WRITE is under way to a slot of an extent that was the new one of a move, and is the only one now: nothing
    /// else may be written there until it has ended.
    fn hold_copied_slot(&mut self, page: PageKey, slot: u16, to: u64) {
        let section = page.section_start();
        if self.tickets.orphan_copy(section, slot, to)
            && let Some(section) = self.section_mut(page)
        {
            section.hold(slot);
            self.orphans.insert((page.section_start(), slot), 1);
        }
    }

    /// The slot of a page is lost. If the page is local, or is just being read, it may be saved.
    fn lose_slot(&mut self, page: PageKey) {
        let state = self.state(page);
        self.forget_slot(page);
        if state != PageState::Remote && state != PageState::Queued {
            return;
        }
        self.stats.pages_lost += 1;
        self.set(page, PageState::Lost);
        if let Some(address) = self.address_of(page).filter(|_| state == PageState::Queued) {
            self.push(PagingAction::Pause { address });
        }
    }
}
