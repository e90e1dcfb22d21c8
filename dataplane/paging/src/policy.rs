//! Which pages leave: two queues and a memory of what has left.
//!
//! A page that comes joins the end of the *young* queue. Victims are taken from the head of the young queue while it
//! has more than a tenth of all pages, else from the *old* one. What left the young queue is remembered by a
//! fingerprint for as many evictions as there are local pages: if such a page comes back, it joins the old queue. So a
//! scan passes through the young queue and leaves the old one alone.
//!
//! userfaultfd shows no accesses of pages that are there. So a policy cannot see hits; a return is all that it can see.
//! `tests/paging/policies.rs` compares this one with others on traces, and prints the figures of `docs/run.md`.
//!
//! A queue has pages that have left meanwhile (dropped, or evicted with their neighbours); they are skipped.

use crate::key::PageKey;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

/// The young queue keeps one page of so many.
const YOUNG_PART: u64 = 10;

/// Evictions are counted in so many steps of the memory of the past.
const STEPS: u64 = 64;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct EvictionPolicy {
    local: u64,
    young: VecDeque<PageKey>,
    old: VecDeque<PageKey>,
    /// For each fingerprint's place: 16 bits of fingerprint, 16 bits of the step in which its page left. 0: nothing.
    past: Box<[u32]>,
    evictions: u64,
}

impl EvictionPolicy {
    /// For so many local pages.
    pub fn new(local: u64) -> Self {
        let places = usize::try_from(local.next_power_of_two()).unwrap_or(usize::MAX).max(STEPS as usize);
        Self { local, young: VecDeque::new(), old: VecDeque::new(), past: vec![0; places].into(), evictions: 0 }
    }

    fn place(&self, page: PageKey) -> (usize, u32) {
        let mixed = page.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((mixed >> 20) as usize & (self.past.len() - 1), ((mixed as u32 & 0xffff) | 1) << 16)
    }

    /// The step now, never 0 in its 16 bits.
    fn step(&self) -> u32 {
        let steps = self.evictions / (self.local / STEPS).max(1);
        (steps % 0xffff) as u32 + 1
    }

    /// How many steps ago an entry was made.
    fn age(&self, entry: u32) -> u64 {
        if entry == 0 {
            return u64::MAX;
        }
        u64::from((self.step() + 0xffff - (entry & 0xffff)) % 0xffff)
    }

    /// A page has come. Whether it is one that left not long ago: then it is hot.
    pub fn insert(&mut self, page: PageKey) -> bool {
        let (place, fingerprint) = self.place(page);
        let entry = self.past[place];
        let is_back = entry & 0xffff_0000 == fingerprint && self.age(entry) <= STEPS;
        if is_back {
            self.past[place] = 0;
            self.old.push_back(page);
        } else {
            self.young.push_back(page);
        }
        is_back
    }

    /// A page was wanted before it had left: it is hot.
    pub fn returned(&mut self, page: PageKey) {
        self.old.push_back(page);
    }

    /// A page that cannot leave now goes to the end of its queue.
    pub fn spare(&mut self, page: PageKey, is_hot: bool) {
        if is_hot { self.old.push_back(page) } else { self.young.push_back(page) }
    }

    /// The next page to leave. `is_there(page, is_old)` says whether it is still there, and in that queue.
    pub fn victim(&mut self, mut is_there: impl FnMut(PageKey, bool) -> bool) -> Option<PageKey> {
        loop {
            let from_old =
                self.young.is_empty() || ((self.young.len() as u64) * YOUNG_PART <= self.local && !self.old.is_empty());
            let page = if from_old { self.old.pop_front() } else { self.young.pop_front() }?;
            if is_there(page, from_old) {
                return Some(page);
            }
        }
    }

    /// A page has left.
    pub fn left(&mut self, page: PageKey, was_hot: bool) {
        self.evictions += 1;
        if !was_hot {
            let (place, fingerprint) = self.place(page);
            self.past[place] = fingerprint | self.step();
        }
    }

    /// Bounds the queues: of the pages that have left meanwhile, none is kept if they are the majority.
    pub fn tidy(&mut self, mut is_there: impl FnMut(PageKey, bool) -> bool) {
        if (self.young.len() + self.old.len()) as u64 > 2 * self.local + STEPS {
            let mut seen = BTreeSet::new();
            self.young.retain(|page| is_there(*page, false) && seen.insert(*page));
            self.old.retain(|page| is_there(*page, true) && seen.insert(*page));
        }
    }

    /// Bytes that it has.
    pub fn bytes(&self) -> usize {
        self.past.len() * 4 + (self.young.capacity() + self.old.capacity()) * size_of::<PageKey>()
    }

    /// Puts the order of victims among the pages that are there, and what is remembered, into a hash.
    pub(crate) fn fingerprint(&self, mut is_there: impl FnMut(PageKey, bool) -> bool, hasher: &mut impl Hasher) {
        let mut seen = BTreeSet::new();
        for (queue, is_old) in [(&self.young, false), (&self.old, true)] {
            for page in queue.iter().filter(|page| is_there(**page, is_old)) {
                if seen.insert(*page) {
                    (page, is_old).hash(hasher);
                }
            }
        }
        for (place, entry) in self.past.iter().enumerate().filter(|(_, entry)| self.age(**entry) <= STEPS) {
            (place, entry >> 16).hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64) -> PageKey {
        PageKey::new(0, number)
    }

    #[test]
    fn a_page_that_comes_back_is_hot_and_outlives_a_scan() {
        let mut policy = EvictionPolicy::new(100);
        assert!(!policy.insert(page(1)));
        assert_eq!(policy.victim(|_, _| true), Some(page(1)));
        policy.left(page(1), false);
        assert!(policy.insert(page(1)), "it is back");
        for number in 1000..1100 {
            assert!(!policy.insert(page(number)));
        }
        for number in 1000..1090 {
            assert_eq!(policy.victim(|_, _| true), Some(page(number)));
        }
        assert_eq!(policy.victim(|_, _| true), Some(page(1)), "when few young pages are left");
    }

    #[test]
    fn what_left_long_ago_is_forgotten() {
        let mut policy = EvictionPolicy::new(64);
        policy.left(page(1), false);
        (100..400).for_each(|number| policy.left(page(number), false));
        assert!(!policy.insert(page(1)));
    }

    #[test]
    fn pages_that_have_left_are_skipped_and_tidied() {
        let mut policy = EvictionPolicy::new(64);
        (0..300).for_each(|number| {
            policy.insert(page(number));
        });
        policy.tidy(|page, _| page.page() >= 290);
        assert_eq!(policy.young.len(), 10);
        assert_eq!(policy.victim(|page, _| page.page() >= 295), Some(page(295)));
        assert_eq!(policy.victim(|_, _| false), None);
    }
}
