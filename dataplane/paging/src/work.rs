//! What is under way: pages, requests to extents, places of the staging area.

use crate::RUN;
use crate::event::Ticket;
use crate::key::PageKey;
use crate::numbers::FreeNumbers;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

/// A page on its way into a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) slot: u16,
    /// Extents that have it.
    pub(crate) acked: Vec<u64>,
    /// WRITEs under way.
    pub(crate) pending: u8,
}

/// A page on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    /// Where it was when an action was handed out.
    pub(crate) address: u64,
    /// The end of an action is to come.
    pub(crate) is_asked: bool,
    /// A thread waits for it.
    pub(crate) is_wanted: bool,
    /// The action that is under way wakes the threads.
    pub(crate) wakes: bool,
    /// The program drops it: whatever is under way, it ends as an absent page.
    pub(crate) is_discarded: bool,
    /// The removal that waits for that.
    pub(crate) removal: Option<u64>,
    pub(crate) landing: Option<u32>,
    pub(crate) staging: Option<u32>,
    /// Of the bytes that are expected, or that are in the staging area.
    pub(crate) hash: u64,
    /// The READ that is under way.
    pub(crate) reading: Option<u32>,
    /// Replicas that were read without success, and how many of them had other bytes.
    pub(crate) tried: u8,
    pub(crate) corrupt: u8,
    pub(crate) store: Option<Store>,
}

/// What a ticket stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// A page is read; `None` if nobody wants it any more.
    Read { page: Option<PageKey>, replica: u8, landing: u32 },
    /// A page is written. If it is not the flight of `page` any more, the slot is free when all its writes have ended.
    Write { page: PageKey, is_attached: bool, slot: u16, extent: u64, staging: u32 },
    /// A slot is copied to another extent.
    CopyRead { section: PageKey, slot: u16, to: u64, landing: u32 },
    /// The second half of that.
    CopyWrite { section: PageKey, slot: u16, to: u64, landing: u32 },
    /// The same when nobody waits for it any more, and its slot must not be given out before its end.
    CopyOrphan { section: PageKey, slot: u16, landing: u32 },
}

/// Requests under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    places: Vec<(u32, Option<Work>)>,
    free: BTreeSet<u32>,
}

impl Tickets {
    pub(crate) fn open(&mut self, work: Work) -> Ticket {
        // The lowest one, so that equal states look equal.
        let index = self.free.pop_first().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(work);
        Ticket { index, use_number: place.0 }
    }

    /// The work of a ticket, which ends with that. `None` if it has ended before.
    pub(crate) fn close(&mut self, ticket: Ticket) -> Option<Work> {
        let place = self.places.get_mut(ticket.index as usize).filter(|place| place.0 == ticket.use_number)?;
        let work = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.insert(ticket.index);
        Some(work)
    }

    /// Nobody waits for a READ any more. Its landing buffer stays reserved until its end.
    pub(crate) fn orphan_read(&mut self, index: u32) {
        if let Some((_, Some(Work::Read { page, .. }))) = self.places.get_mut(index as usize) {
            *page = None;
        }
    }

    /// Nobody waits for the WRITEs of a page any more. Returns how many there are.
    pub(crate) fn orphan_writes(&mut self, of: PageKey, of_slot: u16) -> u8 {
        let mut count = 0;
        for (_, work) in &mut self.places {
            if let Some(Work::Write { page, is_attached, slot, .. }) = work
                && *page == of
                && *slot == of_slot
                && *is_attached
            {
                *is_attached = false;
                count += 1;
            }
        }
        count
    }

    /// Nobody waits for the WRITE of a copy to this extent any more. Whether there is one.
    pub(crate) fn orphan_copy(&mut self, of: PageKey, of_slot: u16, extent: u64) -> bool {
        for (_, work) in &mut self.places {
            if let Some(Work::CopyWrite { section, slot, to, landing }) = *work
                && (section, slot, to) == (of, of_slot, extent)
            {
                *work = Some(Work::CopyOrphan { section, slot, landing });
                return true;
            }
        }
        false
    }

    /// All that is under way.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Work> {
        self.places.iter().filter_map(|(_, work)| work.as_ref())
    }
}

impl Hash for Tickets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (index, (_, work)) in self.places.iter().enumerate() {
            if let Some(work) = work {
                (index, work).hash(state);
            }
        }
    }
}

/// The staging area: runs of [`RUN`] pages. A run is free again when all its pages are.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Staging {
    free: FreeNumbers,
    /// For each page: its flight, and WRITEs that take its bytes.
    users: Box<[u8]>,
    /// For each run: pages with users.
    busy: Box<[u16]>,
}

impl Staging {
    pub(crate) fn new(runs: u32) -> Self {
        let pages = runs as usize * RUN;
        Self { free: FreeNumbers::new(runs), users: vec![0; pages].into(), busy: vec![0; runs as usize].into() }
    }

    pub(crate) fn free_runs(&self) -> u32 {
        self.free.count()
    }

    /// The first page of a run, of which so many pages have a user now.
    pub(crate) fn take(&mut self, pages: usize) -> Option<u32> {
        let run = self.free.take()?;
        let first = run as usize * RUN;
        self.users[first..first + pages].fill(1);
        self.busy[run as usize] = pages as u16;
        Some(first as u32)
    }

    pub(crate) fn join(&mut self, page: u32) {
        self.users[page as usize] += 1;
    }

    /// Whether that was the last user.
    pub(crate) fn leave(&mut self, page: u32) -> bool {
        let users = &mut self.users[page as usize];
        *users -= 1;
        if *users > 0 {
            return false;
        }
        let run = page as usize / RUN;
        self.busy[run] -= 1;
        if self.busy[run] == 0 {
            self.free.put(run as u32);
        }
        true
    }

    /// Pages with users.
    pub(crate) fn in_use(&self) -> u64 {
        self.busy.iter().map(|pages| u64::from(*pages)).sum()
    }
}

/// A fork that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ForkHold {
    pub(crate) token: u64,
    /// The program was told that it may.
    pub(crate) is_ready: bool,
    /// Where the search for remote pages goes on: object and section.
    pub(crate) at: (usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_finds_nothing() {
        let mut tickets = Tickets::default();
        let work = Work::Read { page: None, replica: 0, landing: 3 };
        let first = tickets.open(work);
        assert_eq!(tickets.close(first), Some(work));
        let second = tickets.open(work);
        assert_eq!(first.index, second.index);
        assert_eq!(tickets.close(first), None, "it was the place's first use");
        assert_eq!(Ticket::of_tag(second.tag()), second);
        assert_eq!(tickets.close(second), Some(work));
        assert_eq!(tickets.all().count(), 0);
    }

    #[test]
    fn a_run_is_free_when_all_its_pages_are() {
        let mut staging = Staging::new(2);
        let first = staging.take(2).unwrap();
        let second = staging.take(RUN).unwrap();
        assert_eq!((first, second, staging.free_runs(), staging.in_use()), (0, RUN as u32, 0, 2 + RUN as u64));
        staging.join(0);
        assert!(!staging.leave(0) && staging.leave(1));
        assert_eq!((staging.take(1), staging.leave(0), staging.take(1)), (None, true, Some(0)));
    }
}
