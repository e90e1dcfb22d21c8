//! Which pages of the program's address space are which pages of objects.

use crate::key::PageKey;
use std::collections::BTreeMap;
use std::ops::Range;

/// Consecutive pages of one object at consecutive addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    pages: u64,
    object: u32,
    /// The page of the object at its start.
    first: u64,
}

/// The address space: stretches that do not overlap. All addresses are numbers of pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressMap {
    stretches: BTreeMap<u64, Stretch>,
    /// The same by object and first page: the address of the start, and how many pages.
    by_object: BTreeMap<(u32, u64), (u64, u64)>,
}

impl AddressMap {
    /// The page at an address.
    pub(crate) fn page_at(&self, address: u64) -> Option<PageKey> {
        let (start, stretch) = self.stretches.range(..=address).next_back()?;
        let offset = address - start;
        (offset < stretch.pages).then(|| PageKey::new(stretch.object, stretch.first + offset))
    }

    /// The address of a page, if it has one.
    pub(crate) fn address_of(&self, page: PageKey) -> Option<u64> {
        let object = page.object();
        let ((_, first), (start, pages)) = self.by_object.range((object, 0)..=(object, page.page())).next_back()?;
        let offset = page.page() - first;
        (offset < *pages).then_some(start + offset)
    }

    fn put(&mut self, start: u64, stretch: Stretch) {
        self.by_object.insert((stretch.object, stretch.first), (start, stretch.pages));
        self.stretches.insert(start, stretch);
    }

    /// The parts of objects at these addresses: object and pages.
    pub(crate) fn parts(&self, range: Range<u64>) -> Vec<(u32, Range<u64>)> {
        let mut parts = Vec::new();
        for (start, stretch) in self.stretches.range(..range.end) {
            let (from, to) = (range.start.max(*start), range.end.min(start + stretch.pages));
            if from < to {
                let first = stretch.first + (from - start);
                parts.push((stretch.object, first..first + (to - from)));
            }
        }
        parts
    }

    /// Puts an object's pages there. What was there is forgotten.
    pub(crate) fn insert(&mut self, start: u64, object: u32, first: u64, pages: u64) {
        self.cut(start..start + pages);
        if pages > 0 {
            self.put(start, Stretch { pages, object, first });
        }
    }

    /// Takes all out that is at these addresses: offset in the range, and stretch.
    fn cut(&mut self, range: Range<u64>) -> Vec<(u64, Stretch)> {
        let mut out = Vec::new();
        let touched: Vec<(u64, Stretch)> = self
            .stretches
            .range(..range.end)
            .map(|(start, stretch)| (*start, *stretch))
            .filter(|(start, stretch)| start + stretch.pages > range.start)
            .collect();
        for (start, stretch) in touched {
            self.stretches.remove(&start);
            self.by_object.remove(&(stretch.object, stretch.first));
            let (from, to) = (range.start.max(start), range.end.min(start + stretch.pages));
            if start < from {
                self.put(start, Stretch { pages: from - start, ..stretch });
            }
            let after = start + stretch.pages - to;
            if after > 0 {
                self.put(to, Stretch { pages: after, first: stretch.first + (to - start), ..stretch });
            }
            let part = Stretch { pages: to - from, first: stretch.first + (from - start), ..stretch };
            out.push((from - range.start, part));
        }
        out
    }

    /// Nothing is at these addresses any more.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        self.cut(range);
    }

    /// What was at `from` is at `to` now. What was at `to` is nowhere any more.
    pub(crate) fn shift(&mut self, from: u64, to: u64, pages: u64) {
        let moved = self.cut(from..from + pages);
        self.remove(to..to + pages);
        for (offset, stretch) in moved {
            self.put(to + offset, stretch);
        }
    }

    /// Whether any page of the object has an address.
    pub(crate) fn has(&self, object: u32) -> bool {
        self.by_object.range((object, 0)..=(object, u64::MAX)).next().is_some()
    }

    /// How many stretches there are.
    pub(crate) fn len(&self) -> usize {
        self.stretches.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_keep_their_keys_when_they_move() {
        let mut map = AddressMap::default();
        map.insert(100, 1, 0, 10);
        assert_eq!(map.page_at(105), Some(PageKey::new(1, 5)));
        assert_eq!((map.page_at(99), map.page_at(110)), (None, None));
        map.shift(104, 200, 3);
        assert_eq!((map.page_at(105), map.page_at(201)), (None, Some(PageKey::new(1, 5))));
        assert_eq!(map.address_of(PageKey::new(1, 5)), Some(201));
        map.remove(201..202);
        assert_eq!(map.address_of(PageKey::new(1, 5)), None);
        assert_eq!(map.parts(0..1000), [(1, 0..4), (1, 7..10), (1, 4..5), (1, 6..7)]);
        assert_eq!((map.len(), map.has(1), map.has(2)), (4, true, false));
    }

    proptest! {
        /// Against a table with one entry for each address.
        #[test]
        fn it_is_a_table_of_pages(
            steps in proptest::collection::vec((0_u8..3, 0_u64..24, 0_u64..24, 1_u64..8), 1..40)
        ) {
            let (mut map, mut table) = (AddressMap::default(), [None; 40]);
            for (number, (kind, at, to, pages)) in (0..).zip(steps) {
                match kind {
                    0 => {
                        map.insert(at, number, 3, pages);
                        (0..pages).for_each(|page| table[(at + page) as usize] = Some(PageKey::new(number, 3 + page)));
                    }
                    1 => {
                        map.remove(at..at + pages);
                        table[at as usize..(at + pages) as usize].fill(None);
                    }
                    _ if at + pages <= to || to + pages <= at => {
                        map.shift(at, to, pages);
                        for page in 0..pages {
                            table[(to + page) as usize] = table[(at + page) as usize].take();
                        }
                    }
                    _ => {}
                }
                for (address, page) in (0..).zip(table) {
                    prop_assert_eq!(map.page_at(address), page);
                    if let Some(page) = page {
                        prop_assert_eq!(map.address_of(page), Some(address));
                    }
                }
                let listed: u64 = map.parts(0..40).iter().map(|(_, pages)| pages.end - pages.start).sum();
                prop_assert_eq!(listed, table.iter().flatten().count() as u64);
            }
        }
    }
}
