//! Pages that have left are written to slots; sections get extents.

use super::{Pager, WantKind};
use crate::event::{PagingAction, StoreEnd, Ticket, WriteSource};
use crate::key::PageKey;
use crate::section::PageState;
use crate::work::{Store, Work};

/// The most places of a section that have WRITEs under way, and more: a bound for a search.
const EVERY: i64 = crate::SECTION_PAGES as i64;

impl Pager {
    /// Writes a page of the staging area to where it is not yet; if it is everywhere, it has left.
    pub(super) fn store(&mut self, page: PageKey) {
        let (Some(flight), Some(section)) = (self.flights.get(&page), self.section(page)) else { return };
        let hash = flight.hash;
        if hash == self.zero_hash {
            self.stats.evicted_zero += 1;
            self.forget_slot(page);
            return self.has_left(page, PageState::Absent);
        }
        if flight.store.is_none()
            && section.bits(page.place()).slot().is_some()
            && section.hash_of(page.place()) == hash
        {
            self.stats.evicted_clean += 1;
            return self.has_left(page, PageState::Remote);
        }
        if !section.has_home() {
            return self.want_home(page);
        }
        if flight.store.as_ref().is_some_and(|store| store.pending > 0) {
            return;
        }
        let slot = match &flight.store {
            Some(store) => Some(store.slot),
            None => self.section_mut(page).and_then(|section| section.allocate()),
        };
        // Without a slot it waits until one is free.
        let Some(slot) = slot else { return };
        let targets: Vec<u64> = self.section(page).map(|section| section.targets().collect()).unwrap_or_default();
        let Some(flight) = self.flights.get_mut(&page) else { return };
        let staging = flight.staging;
        let store = flight.store.get_or_insert_with(|| Store { slot, acked: Vec::new(), pending: 0 });
        let missing: Vec<u64> = targets.into_iter().filter(|extent| !store.acked.contains(extent)).collect();
        if missing.is_empty() {
            return self.flip(page);
        }
        store.pending = missing.len() as u8;
        let Some(staging) = staging else { return };
        for extent in missing {
            let work = Work::Write { page, is_attached: true, slot, extent, staging };
            let ticket = self.tickets.open(work);
            self.staging.join(staging);
            self.push(PagingAction::Write { ticket, extent, slot, source: WriteSource::Staging(staging) });
        }
    }

    /// All replicas have the page in the new slot: one store, and it is there.
    fn flip(&mut self, page: PageKey) {
        let Some(flight) = self.flights.get_mut(&page) else { return };
        let (hash, Some(store)) = (flight.hash, flight.store.take()) else { return };
        let had = self.slot_of(page).is_some();
        if let Some(section) = self.section_mut(page) {
            section.flip(page.place(), store.slot, hash);
            let is_there = |to: &u64| store.acked.contains(to);
            if let Some(relocation) =
                section.relocation.as_mut().filter(|moves| moves.to.as_ref().is_some_and(is_there))
            {
                relocation.set(store.slot, true);
            }
        }
        self.stats.evicted_dirty += 1;
        self.has_left(page, PageState::Remote);
        if had {
            self.slot_is_free(page);
        }
    }

    pub(super) fn write_ended(&mut self, ticket: Ticket, end: StoreEnd) {
        let (page, is_attached, slot, extent, staging) = match self.tickets.close(ticket) {
            Some(Work::Write { page, is_attached, slot, extent, staging }) => {
                (page, is_attached, slot, extent, staging)
            }
            Some(Work::CopyWrite { section, slot, to, landing }) => {
                return self.copy_written(section, slot, to, landing, end);
            }
            Some(Work::CopyOrphan { section, slot, landing }) => {
                self.landings.put(landing);
                return self.end_orphan(section, slot);
            }
            Some(Work::Read { .. } | Work::CopyRead { .. }) | None => {
                self.stats.strays += 1;
                return;
            }
        };
        self.stats.failed += u64::from(end != StoreEnd::Done);
        self.staging.leave(staging);
        if !is_attached {
            return self.end_orphan(page, slot);
        }
        let Some(store) = self.flights.get_mut(&page).and_then(|flight| flight.store.as_mut()) else { return };
        store.pending -= 1;
        if end == StoreEnd::Done {
            store.acked.push(extent);
        }
        if store.pending > 0 || self.state(page) != PageState::Staged {
            return;
        }
        let still_wanted = self.section(page).is_some_and(|section| section.targets().any(|target| target == extent));
        if end != StoreEnd::Done && still_wanted {
            self.retries.insert(page);
        } else {
            self.store(page);
        }
    }

    /// A WRITE that nobody waits for has ended: with the last one, its slot is free.
    pub(super) fn end_orphan(&mut self, page: PageKey, slot: u16) {
        let key = (page.section_start(), slot);
        if let Some(left) = self.orphans.get_mut(&key) {
            *left -= 1;
            if *left == 0 {
                self.orphans.remove(&key);
                self.free_slot(page, slot);
                self.tidy(page);
            }
        }
    }

    /// A slot of the page's section is free: pages that wait for one are written.
    pub(super) fn slot_is_free(&mut self, page: PageKey) {
        self.store_all(page, true);
    }

    /// Writes the pages of a section that wait: those without a slot, or all whose WRITEs have ended.
    pub(super) fn store_all(&mut self, page: PageKey, only_without_slot: bool) {
        let start = page.section_start();
        let Some(end) = start.step(EVERY) else { return };
        let staged: Vec<PageKey> = self
            .flights
            .range(start..end)
            .filter(|(_, flight)| flight.staging.is_some() && !flight.is_asked)
            .filter(|(_, flight)| match &flight.store {
                None => true,
                Some(store) => store.pending == 0 && !only_without_slot,
            })
            .map(|(page, _)| *page)
            .collect();
        for page in staged {
            if self.state(page) == PageState::Staged {
                self.store(page);
            }
        }
    }

    fn want_home(&mut self, page: PageKey) {
        let Some(section) = self.section_mut(page).filter(|section| !section.is_wanted) else { return };
        section.is_wanted = true;
        self.want(page, WantKind::Home);
    }

    pub(super) fn want(&mut self, page: PageKey, kind: WantKind) {
        // The lowest free number, so that equal states look equal.
        let number = (0..).find(|number| !self.wants.contains_key(number)).unwrap_or(u64::MAX);
        self.wants.insert(number, (page.section_start(), kind));
        self.ask(number);
    }

    /// Asks for the extents of a wish, for the first time or again.
    pub(super) fn ask(&mut self, want: u64) {
        let Some((page, kind)) = self.wants.get(&want).copied() else { return };
        let (count, beside) = match kind {
            WantKind::Home => (self.config.replicas, Vec::new()),
            WantKind::Replica => {
                let replicas = self.section(page).map(|section| section.replicas).unwrap_or_default();
                (1, replicas.into_iter().flatten().collect())
            }
        };
        self.push(PagingAction::Allocate { want, count, beside });
    }

    pub(super) fn granted(&mut self, want: u64, extents: Vec<u64>) {
        self.refused.remove(&want);
        let Some((page, kind)) = self.wants.remove(&want) else {
            self.stats.strays += 1;
            return extents.into_iter().for_each(|extent| self.push(PagingAction::Free { extent }));
        };
        let fits = extents.len() == if kind == WantKind::Home { self.config.replicas } else { 1 };
        if !fits {
            self.wants.insert(want, (page, kind));
            self.refused.insert(want);
            return extents.into_iter().for_each(|extent| self.push(PagingAction::Free { extent }));
        }
        match kind {
            WantKind::Home => {
                let Some(section) = self.section_mut(page) else {
                    return extents.into_iter().for_each(|extent| self.push(PagingAction::Free { extent }));
                };
                section.is_wanted = false;
                for (place, extent) in section.replicas.iter_mut().zip(&extents) {
                    *place = Some(*extent);
                }
                for extent in extents {
                    self.by_extent.insert(extent, page);
                }
                self.store_all(page, false);
                self.tidy(page);
            }
            WantKind::Replica => self.replica_granted(page, extents),
        }
    }
}
