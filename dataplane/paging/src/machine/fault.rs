//! Pages come: faults, READs, copies, pages of zeros, and what is fetched in advance.

use super::Pager;
use crate::event::{FillEnd, PagingAction, ReadEnd, Ticket};
use crate::key::PageKey;
use crate::section::PageState;
use crate::work::{Flight, Work};

impl Pager {
    pub(super) fn fault(&mut self, address: u64, thread: u32) {
        self.stats.faults += 1;
        let Some(page) = self.map.page_at(address) else {
            // It was unmapped meanwhile.
            self.push(PagingAction::Wake { address });
            return;
        };
        match self.state(page) {
            PageState::Absent | PageState::Remote => {
                self.demand(page);
                self.look_ahead(page, thread);
            }
            PageState::Lost => self.push(PagingAction::Pause { address }),
            PageState::Resident => {
                // The fault is older than the page, or the program has dropped the page without a word.
                self.stats.stale += 1;
                self.set(page, PageState::Checking);
                self.flights.insert(page, Flight { is_wanted: true, ..Flight::default() });
                self.make_zeros(page);
            }
            PageState::Staged => {
                self.stats.joined += 1;
                self.give_back_to_program(page);
            }
            PageState::Queued => self.stats.joined += 1,
            PageState::Fetching
            | PageState::Filling
            | PageState::Checking
            | PageState::Moving
            | PageState::Returning => {
                self.stats.joined += 1;
                if let Some(flight) = self.flights.get_mut(&page) {
                    flight.is_wanted = true;
                }
            }
        }
    }

    /// A thread waits for a page that is not local.
    pub(super) fn demand(&mut self, page: PageKey) {
        if self.waiting.is_empty() && self.can_start(page) {
            self.start(page, true);
        } else {
            self.stats.queued += 1;
            self.set(page, PageState::Queued);
            self.waiting.push_back(page);
        }
    }

    fn can_start(&self, page: PageKey) -> bool {
        self.free_pages() > 0 && (self.slot_of(page).is_none() || self.landings.count() > 0)
    }

    /// Pages that waited for memory or a buffer, in their order.
    pub(super) fn serve(&mut self) {
        while let Some(page) = self.waiting.front().copied() {
            if self.state(page) != PageState::Queued {
                self.waiting.pop_front();
                continue;
            }
            if !self.can_start(page) {
                return;
            }
            self.waiting.pop_front();
            self.start(page, true);
        }
    }

    pub(super) fn start(&mut self, page: PageKey, is_demand: bool) {
        let mut flight = Flight { is_wanted: is_demand, ..Flight::default() };
        if self.slot_of(page).is_none() {
            self.set(page, PageState::Filling);
            self.flights.insert(page, flight);
            self.make_zeros(page);
            return;
        }
        flight.landing = self.landings.take();
        flight.hash = self.section(page).map_or(0, |section| section.hash_of(page.place()));
        self.set(page, PageState::Fetching);
        self.flights.insert(page, flight);
        self.read(page);
    }

    /// Asks the next replica that was not asked yet.
    pub(super) fn read(&mut self, page: PageKey) {
        let (Some(flight), Some(section)) = (self.flights.get(&page), self.section(page)) else { return };
        let replicas = (0_u8..).zip(section.replicas);
        let extents: Vec<(u8, u64)> =
            replicas.filter_map(|(replica, extent)| extent.map(|extent| (replica, extent))).collect();
        let next = extents.iter().find(|(replica, _)| flight.tried & (1 << replica) == 0).copied();
        let is_corrupt = !extents.is_empty() && usize::from(flight.corrupt) >= extents.len();
        let (is_demand, landing) = (flight.is_wanted, flight.landing);
        match (self.slot_of(page), next, landing) {
            (Some(slot), Some((replica, extent)), Some(landing)) => {
                let ticket = self.tickets.open(Work::Read { page: Some(page), replica, landing });
                if let Some(flight) = self.flights.get_mut(&page) {
                    flight.reading = Some(ticket.index);
                }
                self.push(PagingAction::Read { ticket, extent, slot, landing, is_demand });
            }
            (Some(_), None, _) if !is_corrupt => {
                self.retries.insert(page);
            }
            _ => self.lose(page),
        }
    }

    /// Nothing of a page that was being read is left.
    fn lose(&mut self, page: PageKey) {
        let Some(flight) = self.flights.remove(&page) else { return };
        if let Some(landing) = flight.landing {
            self.landings.put(landing);
        }
        self.stats.pages_lost += 1;
        self.forget_slot(page);
        self.set(page, PageState::Lost);
        if let Some(address) = self.address_of(page).filter(|_| flight.is_wanted) {
            self.push(PagingAction::Pause { address });
        }
    }

    pub(super) fn read_ended(&mut self, ticket: Ticket, end: ReadEnd) {
        let (page, replica, landing) = match self.tickets.close(ticket) {
            Some(Work::Read { page, replica, landing }) => (page, replica, landing),
            Some(Work::CopyRead { section, slot, to, landing }) => {
                return self.copy_read(section, slot, to, landing, end);
            }
            Some(Work::Write { .. } | Work::CopyWrite { .. } | Work::CopyOrphan { .. }) | None => {
                self.stats.strays += 1;
                return;
            }
        };
        let Some(page) = page else {
            self.landings.put(landing);
            return;
        };
        let Some(flight) = self.flights.get_mut(&page) else { return };
        flight.reading = None;
        if end == ReadEnd::Done(flight.hash) {
            self.set(page, PageState::Filling);
            self.fill(page);
            return;
        }
        flight.tried |= 1 << replica;
        if let ReadEnd::Done(_) = end {
            flight.corrupt += 1;
            self.stats.corrupt += 1;
        } else {
            self.stats.failed += 1;
        }
        self.read(page);
    }

    /// Hands out the copy of a page that has landed, or the making of zeros.
    pub(super) fn fill(&mut self, page: PageKey) {
        let Some(landing) = self.flights.get(&page).and_then(|flight| flight.landing) else {
            return self.make_zeros(page);
        };
        let Some(address) = self.address_of(page) else { return };
        if let Some(flight) = self.flights.get_mut(&page) {
            (flight.is_asked, flight.address, flight.wakes) = (true, address, flight.is_wanted);
            let wake = flight.is_wanted;
            self.push(PagingAction::Copy { page, address, landing, wake });
        }
    }

    pub(super) fn make_zeros(&mut self, page: PageKey) {
        let Some(address) = self.address_of(page) else { return };
        if let Some(flight) = self.flights.get_mut(&page) {
            (flight.is_asked, flight.address, flight.wakes) = (true, address, true);
            self.push(PagingAction::Zero { page, address });
        }
    }

    pub(super) fn filled(&mut self, page: PageKey, end: FillEnd) {
        let state = self.state(page);
        let is_checked = state == PageState::Checking;
        let Some(flight) = self.answered(page, is_checked || state == PageState::Filling) else { return };
        let (is_wanted, wakes, landing) = (flight.is_wanted, flight.wakes, flight.landing);
        let address = flight.address;
        if end == FillEnd::Again {
            self.retries.insert(page);
            return;
        }
        self.flights.remove(&page);
        match (is_checked, landing) {
            // What the program dropped is zeros now, whatever a slot has.
            (true, _) if end == FillEnd::Done => self.forget_slot(page),
            (true, _) => {}
            (false, Some(landing)) => {
                self.landings.put(landing);
                if is_wanted { self.stats.fetched += 1 } else { self.stats.prefetched += 1 }
            }
            (false, None) => self.stats.zeroed += 1,
        }
        self.set(page, PageState::Resident);
        if is_checked {
            // Its queue may have skipped it meanwhile.
            let is_hot = self.is_hot(page);
            self.policy.spare(page, is_hot);
        } else {
            let is_hot = self.policy.insert(page);
            self.set_hot(page, is_hot);
        }
        if is_wanted && (end == FillEnd::Exists || !wakes) {
            self.push(PagingAction::Wake { address });
        }
    }

    /// Fetches what the thread will probably want next.
    fn look_ahead(&mut self, page: PageKey, thread: u32) {
        let Some(guess) = self.trends.fault(thread, page) else { return };
        match guess.was_right {
            Some(true) => self.stats.windows_right += 1,
            Some(false) => self.stats.windows_wrong += 1,
            None => {}
        }
        for step in 1..=i64::from(guess.pages) {
            // Half of the buffers, and what evictions leave free at least, are for threads that wait.
            let has_room = self.free_pages() > self.low() / 2 && self.landings.count() * 2 > self.config.landings;
            if !has_room || !self.waiting.is_empty() {
                return;
            }
            let Some(next) = page.step(guess.stride * step) else { return };
            if self.state(next) == PageState::Remote && self.address_of(next).is_some() {
                self.start(next, false);
            }
        }
    }
}
