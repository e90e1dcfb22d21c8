//! What the program does to its memory: it drops, unmaps and moves pages.

use super::Pager;
use crate::event::PagingAction;
use crate::key::PageKey;
use crate::section::PageState;
use crate::{SECTION_PAGES, SLOTS};
use std::ops::Range;

const _: () = assert!(SECTION_PAGES < SLOTS, "there are spare slots");

impl Pager {
    pub(super) fn removed(&mut self, token: u64, start: u64, pages: u64) {
        self.removals.insert(token, 0);
        self.forget_pages(start..start.saturating_add(pages), Some(token));
        self.end_removal(token);
    }

    fn end_removal(&mut self, token: u64) {
        if self.removals.get(&token) == Some(&0) {
            self.removals.remove(&token);
            self.push(PagingAction::Removed { token });
        }
    }

    pub(super) fn unmapped(&mut self, start: u64, pages: u64) {
        self.forget_addresses(start, pages);
    }

    /// Pages at these addresses end, and the addresses mean nothing any more.
    pub(super) fn forget_addresses(&mut self, start: u64, pages: u64) {
        let range = start..start.saturating_add(pages);
        self.forget_pages(range.clone(), None);
        let objects = self.map.parts(range.clone());
        self.map.remove(range);
        objects.into_iter().for_each(|(object, _)| self.retire(object));
    }

    pub(super) fn remapped(&mut self, from: u64, to: u64, pages: u64) {
        let moved = self.map.parts(from..from.saturating_add(pages));
        // Who waits at an old address is woken, and faults where it is wrong to.
        for (object, range) in moved {
            let (first, last) = (PageKey::new(object, range.start), PageKey::new(object, range.end));
            let waiting = self.flights.range(first..last).filter(|(_, flight)| flight.is_wanted);
            let addresses: Vec<u64> = waiting.filter_map(|(page, _)| self.map.address_of(*page)).collect();
            addresses.into_iter().for_each(|address| self.push(PagingAction::Wake { address }));
        }
        self.forget_addresses(to, pages);
        self.map.shift(from, to, pages);
    }

    /// The program drops these pages.
    fn forget_pages(&mut self, range: Range<u64>, removal: Option<u64>) {
        for (object, pages) in self.map.parts(range) {
            let first = PageKey::new(object, pages.start).section();
            let last = PageKey::new(object, pages.end - 1).section();
            for section in first..=last {
                let start = (section * SECTION_PAGES) as u64;
                let key = PageKey::new(object, start);
                if self.section(key).is_none() {
                    continue;
                }
                for page in start.max(pages.start)..(start + SECTION_PAGES as u64).min(pages.end) {
                    self.forget_page(PageKey::new(object, page), removal);
                }
                self.tidy(key);
            }
        }
    }

    fn forget_page(&mut self, page: PageKey, removal: Option<u64>) {
        let state = self.state(page);
        if state == PageState::Absent {
            return;
        }
        self.stats.removed += 1;
        match state {
            // It will be zeros when its turn comes.
            PageState::Queued => self.forget_slot(page),
            PageState::Lost => {
                self.set(page, PageState::Absent);
                self.wake(page);
            }
            PageState::Absent | PageState::Remote | PageState::Resident => {
                self.forget_slot(page);
                self.set_hot(page, false);
                self.set(page, PageState::Absent);
            }
            PageState::Fetching
            | PageState::Filling
            | PageState::Checking
            | PageState::Moving
            | PageState::Staged
            | PageState::Returning => match self.flights.get_mut(&page) {
                Some(flight) if flight.is_asked => {
                    flight.is_discarded = true;
                    let is_first = flight.removal.is_none();
                    if let Some(removal) = removal.filter(|_| is_first) {
                        flight.removal = Some(removal);
                        *self.removals.entry(removal).or_default() += 1;
                    }
                }
                _ => self.end_discarded(page),
            },
        }
    }

    /// The flight of a page that the program drops has ended.
    pub(super) fn end_discarded(&mut self, page: PageKey) {
        let Some(flight) = self.end_flight(page) else { return };
        if let Some(staging) = flight.staging {
            self.push(PagingAction::Drop { staging });
        }
        self.forget_slot(page);
        self.set_hot(page, false);
        self.set(page, PageState::Absent);
        if flight.is_wanted {
            self.wake(page);
        }
        if let Some(removal) = flight.removal {
            if let Some(left) = self.removals.get_mut(&removal) {
                *left -= 1;
            }
            self.end_removal(removal);
        }
        self.tidy(page);
    }
}
