//! What a pager counts.

use crate::section::{PageState, STATES};

/// Pages by state: of all touched sections. Each page is in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageBooks {
    pages: [u64; STATES.len()],
}

impl PageBooks {
    /// Pages in a state.
    pub fn in_state(&self, state: PageState) -> u64 {
        self.pages[state as usize]
    }

    /// Pages of local memory that are in use.
    pub fn local(&self) -> u64 {
        STATES.iter().filter(|state| state.is_local()).map(|state| self.in_state(*state)).sum()
    }

    /// Pages that are leaving: in a moment they will be free.
    pub fn leaving(&self) -> u64 {
        self.in_state(PageState::Moving) + self.in_state(PageState::Staged)
    }

    /// All pages of touched sections.
    pub fn all(&self) -> u64 {
        self.pages.iter().sum()
    }

    pub(crate) fn add(&mut self, state: PageState, pages: u64) {
        self.pages[state as usize] += pages;
    }

    pub(crate) fn take(&mut self, state: PageState, pages: u64) {
        self.pages[state as usize] -= pages;
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagingStats {
    /// Faults that were told.
    pub faults: u64,
    /// Faults on pages that were under way already.
    pub joined: u64,
    /// Faults that waited for free memory or a buffer.
    pub queued: u64,
    /// Pages that were made of zeros.
    pub zeroed: u64,
    /// Pages that were read because a thread waited.
    pub fetched: u64,
    /// Pages that were read in advance.
    pub prefetched: u64,
    /// Windows of pages read in advance that were all wanted.
    pub windows_right: u64,
    /// Windows of pages read in advance that were not.
    pub windows_wrong: u64,
    /// Faults on pages that the program had: woken, or dropped without an event.
    pub stale: u64,
    /// Pages that left and were equal to what was stored.
    pub evicted_clean: u64,
    /// Pages that left and were written.
    pub evicted_dirty: u64,
    /// Pages that left and were zeros.
    pub evicted_zero: u64,
    /// Pages that were wanted while they were leaving.
    pub returned: u64,
    /// Pages that could not leave: pinned, locked, or shared with a child.
    pub pinned: u64,
    /// Pages that the program dropped.
    pub removed: u64,
    /// READs whose bytes had another hash.
    pub corrupt: u64,
    /// READs and WRITEs that failed or whose extent was lost.
    pub failed: u64,
    /// Extents that are lost.
    pub extents_lost: u64,
    /// Replicas that were moved to another extent.
    pub relocated: u64,
    /// Pages of which no replica was left.
    pub pages_lost: u64,
    /// Ends of requests that were not under way.
    pub strays: u64,
}
