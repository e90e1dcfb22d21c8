//! The pager: state, books, and what its parts share.

mod check;
mod evict;
mod fault;
mod fork;
mod relocate;
mod remove;
mod store;

use crate::SECTION_PAGES;
use crate::config::{PagingConfig, PagingConfigError};
use crate::event::{PagingAction, PagingEvent};
use crate::hash::zero_hash;
use crate::key::PageKey;
use crate::numbers::FreeNumbers;
use crate::policy::EvictionPolicy;
use crate::region::AddressMap;
use crate::section::{PageState, Section};
use crate::stats::{PageBooks, PagingStats};
use crate::trend::Trends;
use crate::work::{Flight, ForkHold, Staging, Store, Tickets};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What extents are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WantKind {
    /// For all replicas of a section that has none.
    Home,
    /// For the replica that moves.
    Replica,
}

/// What one `Map` has made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// Its sections, made when touched.
    pub(crate) sections: Vec<Option<Box<Section>>>,
    /// How many there are.
    count: usize,
}

/// See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Pager {
    pub(crate) config: PagingConfig,
    zero_hash: u64,
    map: AddressMap,
    pub(crate) objects: Vec<Object>,
    /// Numbers of objects that have ended.
    ended_objects: BTreeSet<u32>,
    sections: usize,
    books: PageBooks,
    pub(crate) flights: BTreeMap<PageKey, Flight>,
    pub(crate) tickets: Tickets,
    /// WRITEs under way to slots that no flight has.
    pub(crate) orphans: BTreeMap<(PageKey, u16), u8>,
    pub(crate) landings: FreeNumbers,
    pub(crate) staging: Staging,
    pub(crate) waiting: VecDeque<PageKey>,
    pub(crate) retries: BTreeSet<PageKey>,
    pub(crate) policy: EvictionPolicy,
    pub(crate) trends: Trends,
    pub(crate) by_extent: BTreeMap<u64, PageKey>,
    pub(crate) wants: BTreeMap<u64, (PageKey, WantKind)>,
    pub(crate) refused: BTreeSet<u64>,
    /// Sections whose relocation can go on.
    pub(crate) relocating: BTreeSet<PageKey>,
    pub(crate) recalled: BTreeSet<u64>,
    pub(crate) is_evicting: bool,
    pub(crate) fork: Option<ForkHold>,
    /// Removals, and how many pages they wait for.
    pub(crate) removals: BTreeMap<u64, u64>,
    actions: VecDeque<PagingAction>,
    pub(crate) stats: PagingStats,
}

impl Pager {
    /// A pager without memory.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: PagingConfig) -> Result<Self, PagingConfigError> {
        config.check()?;
        Ok(Self {
            zero_hash: zero_hash(config.hash_key),
            map: AddressMap::default(),
            objects: Vec::new(),
            ended_objects: BTreeSet::new(),
            sections: 0,
            books: PageBooks::default(),
            flights: BTreeMap::new(),
            tickets: Tickets::default(),
            orphans: BTreeMap::new(),
            landings: FreeNumbers::new(config.landings),
            staging: Staging::new(config.staging_runs),
            waiting: VecDeque::new(),
            retries: BTreeSet::new(),
            policy: EvictionPolicy::new(config.local),
            trends: Trends::new(config.window),
            by_extent: BTreeMap::new(),
            wants: BTreeMap::new(),
            refused: BTreeSet::new(),
            relocating: BTreeSet::new(),
            recalled: BTreeSet::new(),
            is_evicting: false,
            fork: None,
            removals: BTreeMap::new(),
            actions: VecDeque::new(),
            stats: PagingStats::default(),
            config,
        })
    }

    /// Something has happened.
    pub fn handle(&mut self, event: PagingEvent) {
        match event {
            PagingEvent::Map { start, pages } => self.add_object(start, pages),
            PagingEvent::Fault { address, thread } => self.fault(address, thread),
            PagingEvent::Filled { page, end } => self.filled(page, end),
            PagingEvent::MovedOut { page, end } => self.moved_out(page, end),
            PagingEvent::MovedBack { page, end } => self.moved_back(page, end),
            PagingEvent::Read { ticket, end } => self.read_ended(ticket, end),
            PagingEvent::Wrote { ticket, end } => self.write_ended(ticket, end),
            PagingEvent::Removed { token, start, pages } => self.removed(token, start, pages),
            PagingEvent::Unmapped { start, pages } => self.unmapped(start, pages),
            PagingEvent::Remapped { from, to, pages } => self.remapped(from, to, pages),
            PagingEvent::Granted { want, extents } => self.granted(want, extents),
            PagingEvent::Refused { want } => {
                if self.wants.contains_key(&want) {
                    self.refused.insert(want);
                }
            }
            PagingEvent::Recalled { extent } => self.recall(extent),
            PagingEvent::Lost { extent } => self.lost(extent),
            PagingEvent::ForkWanted { token } => self.fork_wanted(token),
            PagingEvent::ForkDone { token } => self.fork_done(token),
            PagingEvent::Tick => self.tick(),
        }
        self.serve();
        self.gather();
        self.balance();
    }

    /// The next thing to be done.
    pub fn action(&mut self) -> Option<PagingAction> {
        self.actions.pop_front()
    }

    /// Whether nothing is to be done.
    pub fn has_no_actions(&self) -> bool {
        self.actions.is_empty()
    }

    /// Pages by state.
    pub fn books(&self) -> PageBooks {
        self.books
    }

    /// What has happened.
    pub fn stats(&self) -> PagingStats {
        self.stats
    }

    /// Where a page is.
    pub fn state_at(&self, address: u64) -> Option<PageState> {
        self.map.page_at(address).map(|page| self.state(page))
    }

    /// Where a page is stored: the extents of its replicas, and its slot in each.
    pub fn stored_at(&self, address: u64) -> Option<(Vec<u64>, u16)> {
        let page = self.map.page_at(address)?;
        let section = self.section(page)?;
        let slot = section.bits(page.place()).slot()?;
        Some((section.replicas.iter().copied().flatten().collect(), slot))
    }

    /// Bytes of the directory: sections, and the tables that find them.
    pub fn directory_bytes(&self) -> usize {
        let tables: usize = self.objects.iter().map(|object| object.sections.capacity() * size_of::<usize>()).sum();
        let stretches = self.map.len() * 128;
        let extents = self.by_extent.len() * 32;
        tables + self.sections * size_of::<Section>() + stretches + extents
    }

    /// Whether nothing is under way and nobody waits, except for what is lost.
    pub fn is_at_rest(&self) -> bool {
        self.flights.is_empty()
            && self.orphans.is_empty()
            && self.tickets.all().next().is_none()
            && self.wants.is_empty()
            && self.actions.is_empty()
            && self.books.in_state(PageState::Queued) == 0
    }

    fn add_object(&mut self, start: u64, pages: u64) {
        self.forget_addresses(start, pages);
        let object = self.ended_objects.pop_first().unwrap_or_else(|| {
            self.objects.push(Object::default());
            self.objects.len() as u32 - 1
        });
        let sections = usize::try_from(pages.div_ceil(SECTION_PAGES as u64)).unwrap_or(usize::MAX);
        if let Some(object) = self.objects.get_mut(object as usize) {
            object.sections = (0..sections).map(|_| None).collect();
        }
        self.map.insert(start, object, 0, pages);
    }

    /// An object without addresses ends with its last section, and its number can be used again.
    pub(crate) fn retire(&mut self, number: u32) {
        let has_address = self.map.has(number);
        let object = self.objects.get_mut(number as usize);
        if let Some(object) = object.filter(|object| object.count == 0 && !object.sections.is_empty() && !has_address) {
            object.sections = Vec::new();
            self.ended_objects.insert(number);
        }
    }

    pub(crate) fn push(&mut self, action: PagingAction) {
        self.actions.push_back(action);
    }

    pub(crate) fn section(&self, page: PageKey) -> Option<&Section> {
        self.objects.get(page.object() as usize)?.sections.get(page.section())?.as_deref()
    }

    pub(crate) fn section_mut(&mut self, page: PageKey) -> Option<&mut Section> {
        self.objects.get_mut(page.object() as usize)?.sections.get_mut(page.section())?.as_deref_mut()
    }

    pub(crate) fn state(&self, page: PageKey) -> PageState {
        self.section(page).map_or(PageState::Absent, |section| section.bits(page.place()).state())
    }

    pub(crate) fn slot_of(&self, page: PageKey) -> Option<u16> {
        self.section(page)?.bits(page.place()).slot()
    }

    pub(crate) fn is_hot(&self, page: PageKey) -> bool {
        self.section(page).is_some_and(|section| section.bits(page.place()).is_hot())
    }

    pub(crate) fn set_hot(&mut self, page: PageKey, is_hot: bool) {
        if let Some(section) = self.section_mut(page) {
            section.set_hot(page.place(), is_hot);
        }
    }

    /// Puts a page into a state; the books follow. The only place where states change.
    pub(crate) fn set(&mut self, page: PageKey, state: PageState) {
        let Some(object) = self.objects.get_mut(page.object() as usize) else { return };
        let Some(place) = object.sections.get_mut(page.section()) else { return };
        if place.is_none() {
            object.count += 1;
            self.sections += 1;
            self.books.add(PageState::Absent, SECTION_PAGES as u64);
        }
        let section = place.get_or_insert_with(|| Box::new(Section::new()));
        let before = section.set_state(page.place(), state);
        self.books.take(before, 1);
        self.books.add(state, 1);
    }

    /// The page is in no slot any more.
    pub(crate) fn forget_slot(&mut self, page: PageKey) {
        let had = self.slot_of(page).is_some();
        if let Some(section) = self.section_mut(page) {
            section.forget(page.place());
        }
        if had {
            self.slot_is_free(page);
        }
    }

    /// Gives up a section of which nothing is left.
    pub(crate) fn tidy(&mut self, page: PageKey) {
        let is_empty = self.section(page).is_some_and(|section| {
            let is_copying = section.relocation.as_ref().is_some_and(|relocation| relocation.current.is_some());
            section.present == 0 && section.used_slots() == 0 && !section.is_wanted && !is_copying
        });
        if !is_empty {
            return;
        }
        let Some(object) = self.objects.get_mut(page.object() as usize) else { return };
        if let Some(section) = object.sections.get_mut(page.section()).and_then(Option::take) {
            object.count -= 1;
            self.sections -= 1;
            self.books.take(PageState::Absent, SECTION_PAGES as u64);
            for extent in section.targets() {
                self.give_back(extent);
            }
            self.retire(page.object());
        }
    }

    /// Frees an extent.
    pub(crate) fn give_back(&mut self, extent: u64) {
        self.by_extent.remove(&extent);
        self.recalled.remove(&extent);
        self.push(PagingAction::Free { extent });
    }

    pub(crate) fn address_of(&self, page: PageKey) -> Option<u64> {
        self.map.address_of(page)
    }

    /// Wakes who waits for a page.
    pub(crate) fn wake(&mut self, page: PageKey) {
        if let Some(address) = self.address_of(page) {
            self.push(PagingAction::Wake { address });
        }
    }

    /// Local pages that nothing uses.
    pub(crate) fn free_pages(&self) -> u64 {
        self.config.local.saturating_sub(self.books.local())
    }

    /// Its WRITEs go on, and nobody waits for them.
    pub(crate) fn orphan_store(&mut self, page: PageKey, store: &Store) {
        let writes = self.tickets.orphan_writes(page, store.slot);
        if writes > 0 {
            self.orphans.insert((page.section_start(), store.slot), writes);
        } else {
            self.free_slot(page, store.slot);
        }
    }

    /// Nothing uses a slot any more.
    pub(crate) fn free_slot(&mut self, page: PageKey, slot: u16) {
        if let Some(section) = self.section_mut(page) {
            section.free(slot);
        }
        self.slot_is_free(page);
    }

    fn tick(&mut self) {
        for page in std::mem::take(&mut self.retries) {
            self.retry(page);
        }
        for want in std::mem::take(&mut self.refused) {
            self.ask(want);
        }
        for section in std::mem::take(&mut self.relocating) {
            self.relocate(section);
        }
        self.tidy_policy();
    }

    fn retry(&mut self, page: PageKey) {
        let Some(flight) = self.flights.get(&page).filter(|flight| !flight.is_asked) else { return };
        match self.state(page) {
            PageState::Filling => self.fill(page),
            PageState::Checking => self.make_zeros(page),
            PageState::Returning => self.move_back(page),
            PageState::Fetching if flight.reading.is_none() => {
                if let Some(flight) = self.flights.get_mut(&page) {
                    (flight.tried, flight.corrupt) = (0, 0);
                }
                self.read(page);
            }
            PageState::Staged => self.store(page),
            _ => {}
        }
    }
}
