//! Pages leave: victims, the staging area, and the way back of a page that is wanted meanwhile.

use super::{Object, Pager};
use crate::RUN;
use crate::event::{FillEnd, MoveEnd, PagingAction};
use crate::key::PageKey;
use crate::section::PageState;
use crate::work::Flight;

impl Pager {
    /// Evictions begin when fewer pages are free or about to be.
    pub(super) fn low(&self) -> u64 {
        (self.config.reserve() / 2).max(1)
    }

    /// Keeps the reserve: evictions begin at half of it, and go on until it is whole.
    pub(super) fn balance(&mut self) {
        if self.fork.is_some() {
            return;
        }
        let high = self.config.reserve().max(self.low());
        loop {
            let free = self.free_pages() + self.books.leaving();
            if free < self.low() {
                self.is_evicting = true;
            }
            if free >= high {
                self.is_evicting = false;
            }
            if !self.is_evicting || !self.evict(high - free) {
                return;
            }
        }
    }

    /// Moves a run of at most `most` pages out. `false` if there is none, or no room for one.
    fn evict(&mut self, most: u64) -> bool {
        if self.staging.free_runs() == 0 {
            return false;
        }
        let (objects, policy) = (&self.objects, &mut self.policy);
        let Some(first) = policy.victim(|page, is_old| is_resident(objects, page, is_old)) else { return false };
        let Some(address) = self.address_of(first) else { return true };
        let is_hot = self.is_hot(first);
        let mut pages = vec![first];
        while pages.len() < RUN && (pages.len() as u64) < most {
            let count = pages.len() as u64;
            let next = first.step(count.cast_signed()).filter(|next| {
                self.state(*next) == PageState::Resident
                    && self.is_hot(*next) == is_hot
                    && self.address_of(*next) == Some(address + count)
            });
            let Some(next) = next else { break };
            pages.push(next);
        }
        let Some(staging) = self.staging.take(pages.len()) else { return false };
        for (page, place) in pages.iter().zip(staging..) {
            self.set(*page, PageState::Moving);
            let at = self.address_of(*page).unwrap_or(address);
            let flight = Flight { address: at, is_asked: true, staging: Some(place), ..Flight::default() };
            self.flights.insert(*page, flight);
        }
        self.push(PagingAction::MoveOut { pages, address, staging });
        true
    }

    pub(super) fn moved_out(&mut self, page: PageKey, end: MoveEnd) {
        let is_moving = self.state(page) == PageState::Moving;
        let Some(flight) = self.answered(page, is_moving) else { return };
        let (is_wanted, address) = (flight.is_wanted, flight.address);
        match end {
            MoveEnd::Moved(hash) => {
                flight.hash = hash;
                self.set(page, PageState::Staged);
                if is_wanted { self.give_back_to_program(page) } else { self.store(page) }
            }
            MoveEnd::Hole if self.address_of(page) == Some(address) => {
                self.end_flight(page);
                self.forget_slot(page);
                self.set_hot(page, false);
                self.set(page, PageState::Absent);
                if is_wanted { self.demand(page) } else { self.tidy(page) }
            }
            // Where it was moved from, it is not any more: mremap has moved it.
            MoveEnd::Hole | MoveEnd::Pinned | MoveEnd::Again => {
                self.stats.pinned += u64::from(end == MoveEnd::Pinned);
                self.end_flight(page);
                self.set(page, PageState::Resident);
                let is_hot = self.is_hot(page);
                self.policy.spare(page, is_hot);
                if is_wanted {
                    self.wake(page);
                }
            }
        }
    }

    /// What was asked for a page has an answer; `fits` says whether it is one for the state of the page. None if
    /// nothing was asked, which is counted, and none if the program has dropped the page meanwhile, which ends its
    /// flight.
    pub(super) fn answered(&mut self, page: PageKey, fits: bool) -> Option<&mut Flight> {
        let Some(flight) = self.flights.get_mut(&page).filter(|flight| flight.is_asked && fits) else {
            self.stats.strays += 1;
            return None;
        };
        flight.is_asked = false;
        if flight.is_discarded {
            self.end_discarded(page);
            return None;
        }
        self.flights.get_mut(&page)
    }

    /// The flight of a page ends; what it has is free.
    pub(super) fn end_flight(&mut self, page: PageKey) -> Option<Flight> {
        let mut flight = self.flights.remove(&page)?;
        self.retries.remove(&page);
        if let Some(index) = flight.reading {
            // The READ goes on, and keeps its buffer.
            self.tickets.orphan_read(index);
        } else if let Some(landing) = flight.landing {
            self.landings.put(landing);
        }
        if let Some(store) = flight.store.take() {
            self.orphan_store(page, &store);
        }
        if let Some(staging) = flight.staging {
            self.staging.leave(staging);
        }
        Some(flight)
    }

    /// A page that has left: it is in its slot, or is zeros.
    pub(super) fn has_left(&mut self, page: PageKey, state: PageState) {
        if let Some(staging) = self.end_flight(page).and_then(|flight| flight.staging) {
            self.push(PagingAction::Drop { staging });
        }
        let was_hot = self.is_hot(page);
        self.policy.left(page, was_hot);
        self.set_hot(page, false);
        self.set(page, state);
        self.tidy(page);
    }

    /// A page that was about to leave is wanted.
    pub(super) fn give_back_to_program(&mut self, page: PageKey) {
        self.set(page, PageState::Returning);
        if let Some(flight) = self.flights.get_mut(&page) {
            flight.is_wanted = true;
        }
        self.move_back(page);
    }

    pub(super) fn move_back(&mut self, page: PageKey) {
        let Some(address) = self.address_of(page) else { return };
        if let Some(flight) = self.flights.get_mut(&page)
            && let Some(staging) = flight.staging
        {
            (flight.is_asked, flight.address) = (true, address);
            self.push(PagingAction::MoveBack { page, address, staging });
        }
    }

    pub(super) fn moved_back(&mut self, page: PageKey, end: FillEnd) {
        let is_returning = self.state(page) == PageState::Returning;
        if self.answered(page, is_returning).is_none() {
            return;
        }
        if end == FillEnd::Again {
            self.retries.insert(page);
            return;
        }
        self.stats.returned += 1;
        self.end_flight(page);
        self.set(page, PageState::Resident);
        self.set_hot(page, true);
        self.policy.returned(page);
        if end == FillEnd::Exists {
            self.wake(page);
        }
    }

    /// Bounds the policy's queues.
    pub(super) fn tidy_policy(&mut self) {
        let objects = &self.objects;
        self.policy.tidy(|page, is_old| is_resident(objects, page, is_old));
    }
}

/// Whether the program has a page, and it belongs to that queue.
pub(super) fn is_resident(objects: &[Object], page: PageKey, is_old: bool) -> bool {
    let sections = objects.get(page.object() as usize).map(|object| &object.sections);
    let section = sections.and_then(|sections| sections.get(page.section())?.as_deref());
    let bits = section.map(|section| section.bits(page.place()));
    bits.is_some_and(|bits| bits.state() == PageState::Resident && bits.is_hot() == is_old)
}
