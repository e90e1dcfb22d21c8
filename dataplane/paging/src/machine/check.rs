//! Counts the books again, and tells equal states from others: for tests.

use super::Pager;
use super::evict::is_resident;
use crate::SECTION_PAGES;
use crate::key::PageKey;
use crate::section::PageState;
use crate::stats::PageBooks;
use crate::work::Work;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

impl Pager {
    /// Counts everything again and compares. It takes long: for tests.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn check(&self) {
        let (mut books, mut sections) = (PageBooks::default(), 0);
        for (object, tables) in (0..).zip(&self.objects) {
            for (number, section) in
                tables.sections.iter().enumerate().filter_map(|(at, section)| Some((at, section.as_deref()?)))
            {
                sections += 1;
                let start = PageKey::new(object, (number * SECTION_PAGES) as u64);
                let mut slots = BTreeMap::new();
                for page in (0..SECTION_PAGES as i64).filter_map(|place| start.step(place)) {
                    let state = section.bits(page.place()).state();
                    books.add(state, 1);
                    self.check_page(page, state);
                    if let Some(slot) = section.bits(page.place()).slot() {
                        assert_eq!(slots.insert(slot, page), None, "{page:?}: a slot has one page");
                        assert!(section.has_home(), "{page:?}: what is stored is somewhere");
                    }
                    if let Some(store) = self.flights.get(&page).and_then(|flight| flight.store.as_ref()) {
                        assert_eq!(slots.insert(store.slot, page), None, "{page:?}: a write goes to a slot of its own");
                    }
                }
                for (key, slot) in self.orphans.keys().filter(|(key, _)| *key == start) {
                    assert_eq!(slots.insert(*slot, *key), None, "a slot with writes under way is not given out");
                }
                assert_eq!(section.used_slots() as usize, slots.len(), "{start:?}: used slots");
                assert!(slots.keys().all(|slot| section.is_used(*slot)), "{start:?}: slots are in use");
                for extent in section.targets() {
                    assert_eq!(self.by_extent.get(&extent), Some(&start), "{start:?}: extents are found");
                }
            }
        }
        assert_eq!(books, self.books(), "pages by state");
        assert_eq!(sections, self.sections, "sections");
        let extents: usize = self
            .objects
            .iter()
            .flat_map(|object| &object.sections)
            .flatten()
            .map(|section| section.targets().count())
            .sum();
        assert_eq!(extents, self.by_extent.len(), "extents");
        assert!(books.local() <= self.config.local, "{books:?}: more than the local memory");
        self.check_buffers();
    }

    fn check_page(&self, page: PageKey, state: PageState) {
        let flight = self.flights.get(&page);
        let is_flying = state >= PageState::Fetching && state != PageState::Resident;
        assert_eq!(flight.is_some(), is_flying, "{page:?} in {state:?}");
        let stored = self.slot_of(page).is_some();
        match state {
            PageState::Absent | PageState::Lost => assert!(!stored, "{page:?} in {state:?} has no slot"),
            PageState::Remote => assert!(stored, "{page:?} is remote"),
            PageState::Queued => assert!(self.waiting.contains(&page), "{page:?} waits"),
            _ => {}
        }
        let Some(flight) = flight else { return };
        let needs_staging = matches!(state, PageState::Moving | PageState::Staged | PageState::Returning);
        assert_eq!(flight.staging.is_some(), needs_staging, "{page:?} in {state:?}");
        let asks = matches!(state, PageState::Filling | PageState::Checking | PageState::Returning | PageState::Moving);
        assert!(!flight.is_asked || asks, "{page:?} in {state:?} is asked for");
        let is_kept = flight.is_asked || flight.reading.is_some() || self.retries.contains(&page);
        assert!(is_kept || state == PageState::Staged, "{page:?} in {state:?}: somebody will go on with it");
        if let (PageState::Staged, None) = (state, &flight.store) {
            let section = self.section(page);
            let waits =
                section.is_some_and(|section| section.is_wanted || section.used_slots() as usize == crate::SLOTS);
            let is_held =
                section.is_some_and(|section| section.relocation.as_ref().is_some_and(|r| r.current.is_some()));
            assert!(waits || is_held, "{page:?} is staged, and nothing keeps it from being written");
        }
        if let (PageState::Staged, Some(store)) = (state, &flight.store) {
            let waits = store.pending > 0 || self.retries.contains(&page);
            assert!(waits || self.section(page).is_some_and(|section| section.is_wanted), "{page:?} is being written");
        }
    }

    fn check_buffers(&self) {
        let mut users = BTreeSet::new();
        let mut landings = 0;
        for flight in self.flights.values() {
            users.extend(flight.staging);
            landings += u32::from(flight.landing.is_some());
        }
        let mut orphans = BTreeMap::new();
        for work in self.tickets.all() {
            match *work {
                Work::Read { page, .. } => landings += u32::from(page.is_none()),
                Work::CopyRead { .. } | Work::CopyWrite { .. } => landings += 1,
                Work::CopyOrphan { section, slot, .. } => {
                    landings += 1;
                    *orphans.entry((section, slot)).or_insert(0) += 1;
                }
                Work::Write { page, is_attached, slot, staging, .. } => {
                    users.insert(staging);
                    if !is_attached {
                        *orphans.entry((page.section_start(), slot)).or_insert(0) += 1;
                    }
                }
            }
        }
        assert_eq!(landings, self.config.landings - self.landings.count(), "landing buffers");
        assert_eq!(orphans, self.orphans, "writes that nobody waits for");
        assert_eq!(users.len() as u64, self.staging.in_use(), "pages of the staging area");
    }

    /// A number that is equal for states that will do the same, as far as tests can tell.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (object, tables) in self.objects.iter().enumerate() {
            for (number, section) in tables.sections.iter().enumerate() {
                if let Some(section) = section {
                    (object, number).hash(&mut hasher);
                    section.fingerprint(&mut hasher);
                }
            }
        }
        (&self.flights, &self.tickets, &self.orphans, &self.landings, &self.staging).hash(&mut hasher);
        (&self.waiting, &self.retries, &self.by_extent, &self.wants, &self.refused).hash(&mut hasher);
        (&self.relocating, &self.recalled, self.is_evicting, &self.removals, self.fork).hash(&mut hasher);
        self.policy.fingerprint(|page, is_old| is_resident(&self.objects, page, is_old), &mut hasher);
        hasher.finish()
    }
}
