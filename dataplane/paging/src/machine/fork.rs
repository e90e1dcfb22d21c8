//! The program wants to fork. A child reads zeros where its parent's pages are remote, so all pages come first, and
//! none leaves until the fork is over. If they do not fit, the fork is refused.

use super::Pager;
use crate::SECTION_PAGES;
use crate::event::PagingAction;
use crate::key::PageKey;
use crate::section::{PageState, Section};
use crate::work::ForkHold;

impl Pager {
    pub(super) fn fork_wanted(&mut self, token: u64) {
        let missing = self.pages_away();
        let lost = self.books.in_state(PageState::Lost);
        if self.fork.is_some() || lost > 0 || missing > self.free_pages() {
            self.push(PagingAction::ForkRefused { token, missing, free: self.free_pages(), lost });
            return;
        }
        self.fork = Some(ForkHold { token, is_ready: false, at: (0, 0) });
        self.is_evicting = false;
    }

    pub(super) fn fork_done(&mut self, token: u64) {
        self.fork = self.fork.filter(|fork| fork.token != token);
    }

    /// Pages that are somewhere, and not in local memory.
    fn pages_away(&self) -> u64 {
        self.books.in_state(PageState::Remote) + self.books.in_state(PageState::Queued)
    }

    /// Fetches what is missing for a fork, as far as there are buffers, and says when all is there.
    pub(super) fn gather(&mut self) {
        let Some(fork) = self.fork.filter(|fork| !fork.is_ready) else { return };
        let lost = self.books.in_state(PageState::Lost);
        let missing = self.pages_away();
        // Other threads may have taken the memory meanwhile.
        if lost > 0 || missing > self.free_pages() {
            self.fork = None;
            return self.push(PagingAction::ForkRefused { token: fork.token, missing, free: self.free_pages(), lost });
        }
        while self.waiting.is_empty() && self.free_pages() > 0 && self.landings.count() > 0 {
            let Some(page) = self.next_remote() else { break };
            self.start(page, false);
        }
        if self.flights.is_empty() && self.pages_away() == 0 {
            self.fork = Some(ForkHold { is_ready: true, ..fork });
            self.push(PagingAction::ForkReady { token: fork.token });
        }
    }

    /// A remote page, from where the search stopped on.
    fn next_remote(&mut self) -> Option<PageKey> {
        if self.books.in_state(PageState::Remote) == 0 {
            return None;
        }
        let fork = self.fork.as_mut()?;
        // All objects once, and the section at which it began once more.
        let steps = self.objects.iter().map(|object| object.sections.len() + 1).sum::<usize>() + 2;
        for _ in 0..steps {
            let (object, number) = fork.at;
            let Some(sections) = self.objects.get(object).map(|object| &object.sections) else {
                fork.at = (0, 0);
                continue;
            };
            let Some(section) = sections.get(number) else {
                fork.at = (object + 1, 0);
                continue;
            };
            let is_remote = |section: &Section, at: usize| section.bits(at).state() == PageState::Remote;
            let found = section.as_ref().and_then(|section| (0..SECTION_PAGES).find(|at| is_remote(section, *at)));
            if let Some(at) = found {
                return Some(PageKey::new(object as u32, (number * SECTION_PAGES + at) as u64));
            }
            fork.at = (object, number + 1);
        }
        None
    }
}
