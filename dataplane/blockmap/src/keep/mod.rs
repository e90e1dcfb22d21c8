//! Keeps the map of a disk in extents of its own, so that another process can go on with the disk.
//!
//! The map of a disk is kept in *pages* of 4 KiB, each with 28 slots. A page has two places in an extent of the map,
//! which are written in turn, with a sequence number and a checksum: a process that dies while it writes one of them
//! leaves the other. A write, a trim or a write of zeros that changes a slot is answered only when a page with that
//! change was written. An extent of the disk that a slot gave up is freed only then, too.
//!
//! An extent of the map counts from the moment at which its *head* is written, after all its pages. When it is lost or
//! recalled, another one is written from what the process knows, with a larger generation.
//!
//! [`MapKeeper`] decides, and does no I/O: its caller writes, allocates and frees, and says how that ended.

mod format;
mod restore;

pub use format::KeptSlot;
pub use restore::{MapReader, NoMap, RestoredMap};

use crate::slot::{Ending, MapRefusal};
use crate::{BlockMap, EXTENT};
use format::{Head, PAGES, PageHead, SLOTS, place_of};
use std::collections::VecDeque;

/// A write to an extent of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepWrite {
    /// The extent.
    pub extent: u64,
    /// The first byte in it.
    pub offset: u32,
    /// What is written.
    pub bytes: Vec<u8>,
    index: u32,
    /// The page, its version and its sequence; `None` for a head.
    page: Option<(u32, u64, u64)>,
}

/// What waited need not wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepEvent {
    /// The number that the caller gave it.
    pub id: u64,
    /// Why its change could not be kept, if it could not.
    pub refusal: Option<MapRefusal>,
}

/// A page of the map.
#[derive(Debug, Default)]
struct Page {
    /// How often one of its slots has changed.
    version: u64,
    /// The last version that is kept.
    kept: u64,
    /// The version that was written to an extent which does not count yet.
    filled: u64,
    /// The sequence that was written last; 0 if none was.
    sequence: u64,
    is_flying: bool,
    is_queued: bool,
    /// Who waits for which version.
    waiting: Vec<(u64, u64)>,
}

/// Where a part of the map is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Home {
    /// Nowhere, and nobody has asked for an extent.
    #[default]
    Nowhere,
    /// An extent was asked for. Until it is there, the old one counts.
    Wanted(Option<u64>),
    /// Pages are written to the new extent: the next one, and how many are under way.
    Filling { old: Option<u64>, new: u64, next: u32, flying: u32 },
    /// The head is being written.
    Heading { old: Option<u64>, new: u64 },
    /// It is there.
    Ready(u64),
    /// It could not be kept, and is tried again at the next [`MapKeeper::try_again`].
    Failed(Option<u64>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct MapKeeper {
    size: u64,
    pages: Vec<Page>,
    homes: Vec<(Home, u64)>,
    /// For each slot the version of its page that has its last change.
    slots: Vec<u64>,
    /// Pages to be written.
    queue: VecDeque<u32>,
    /// Indices of homes that want an extent, and of those that were asked for, in this order.
    wanted: VecDeque<u32>,
    asked: VecDeque<u32>,
    /// Homes whose pages are written to a new extent.
    filling: Vec<u32>,
    events: VecDeque<KeepEvent>,
    /// Extents of the disk that are freed when the page has this version.
    held: Vec<(u32, u64, u64)>,
    freed: Vec<u64>,
    freed_of_map: Vec<u64>,
    is_on: bool,
}

impl MapKeeper {
    /// A keeper for a new disk of so many bytes.
    pub fn new(size: u64) -> Self {
        let slots = usize::try_from(size.div_ceil(EXTENT.into())).unwrap_or(usize::MAX);
        let pages = slots.div_ceil(SLOTS as usize);
        Self {
            size,
            pages: (0..pages).map(|_| Page::default()).collect(),
            homes: vec![(Home::Nowhere, 0); pages.div_ceil(PAGES as usize)],
            slots: vec![0; slots],
            queue: VecDeque::new(),
            wanted: VecDeque::new(),
            asked: VecDeque::new(),
            filling: Vec::new(),
            events: VecDeque::new(),
            held: Vec::new(),
            freed: Vec::new(),
            freed_of_map: Vec::new(),
            is_on: true,
        }
    }

    fn page_count(&self) -> u32 {
        self.pages.len() as u32
    }

    /// A part of the map was found in an extent.
    fn found(&mut self, index: u32, extent: u64, generation: u64) -> Option<()> {
        *self.homes.get_mut(index as usize)? = (Home::Ready(extent), generation);
        Some(())
    }

    fn found_page(&mut self, number: u32, sequence: u64) -> Option<()> {
        self.pages.get_mut(number as usize)?.sequence = sequence;
        Some(())
    }

    fn home(&self, index: u32) -> Home {
        self.homes.get(index as usize).map_or(Home::Nowhere, |(home, _)| *home)
    }

    fn set_home(&mut self, index: u32, home: Home) {
        if let Some((place, _)) = self.homes.get_mut(index as usize) {
            *place = home;
        }
    }

    /// The numbers of the pages of a home.
    fn pages_of(&self, index: u32) -> std::ops::Range<u32> {
        let first = index * PAGES;
        first..(first + PAGES).min(self.page_count())
    }

    fn page_mut(&mut self, number: u32) -> Option<&mut Page> {
        self.pages.get_mut(number as usize)
    }

    /// A slot has changed.
    pub fn note(&mut self, slot: u32) {
        if !self.is_on {
            return;
        }
        let number = slot / SLOTS;
        let Some(page) = self.pages.get_mut(number as usize) else { return };
        page.version += 1;
        if let Some(at) = self.slots.get_mut(slot as usize) {
            *at = page.version;
        }
        self.enqueue(number);
    }

    fn enqueue(&mut self, number: u32) {
        if let Some(page) = self.page_mut(number)
            && !std::mem::replace(&mut page.is_queued, true)
        {
            self.queue.push_back(number);
        }
    }

    /// The page of a slot, and its version with the slot's last change, if that is not kept yet.
    fn unkept(&self, slot: u32) -> Option<(u32, u64)> {
        let at = *self.slots.get(slot as usize)?;
        let number = slot / SLOTS;
        let is_kept = self.pages.get(number as usize).is_none_or(|page| page.kept >= at);
        (self.is_on && !is_kept).then_some((number, at))
    }

    /// Whether the last change of a slot is not kept yet. Then a [`KeepEvent`] with this number says when it is.
    pub fn waits(&mut self, slot: u32, id: u64) -> bool {
        let Some((number, at)) = self.unkept(slot) else { return false };
        if let Some(page) = self.page_mut(number) {
            page.waiting.push((at, id));
        }
        true
    }

    /// A slot has given up an extent of the disk: [`MapKeeper::take_freed`] returns it when that is kept.
    pub fn free_later(&mut self, slot: u32, extent: u64) {
        match self.unkept(slot) {
            Some((number, at)) => self.held.push((number, at, extent)),
            None => self.freed.push(extent),
        }
    }

    /// Extents of the disk that may be freed now.
    pub fn take_freed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.freed)
    }

    /// Extents of the map that may be freed now.
    pub fn take_freed_of_map(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.freed_of_map)
    }

    /// What need not wait any more.
    pub fn next_event(&mut self) -> Option<KeepEvent> {
        self.events.pop_front()
    }

    /// Whether an extent of the map is wanted. Say with [`MapKeeper::allocated`] what became of it.
    pub fn take_wanted(&mut self) -> bool {
        match self.wanted.pop_front() {
            Some(index) => {
                self.asked.push_back(index);
                true
            }
            None => false,
        }
    }

    /// An extent of the map that was wanted is there, or cannot be had. Answers come in the order of the questions.
    pub fn allocated(&mut self, extent: Result<u64, MapRefusal>) {
        let Some(index) = self.asked.pop_front() else {
            self.freed_of_map.extend(extent);
            return;
        };
        let Home::Wanted(old) = self.home(index) else {
            self.freed_of_map.extend(extent);
            return;
        };
        match extent {
            Ok(new) => {
                self.set_home(index, Home::Filling { old, new, next: self.pages_of(index).start, flying: 0 });
                self.filling.push(index);
            }
            Err(refusal) => self.give_up(index, old, refusal),
        }
    }

    /// A part of the map cannot be kept now.
    fn give_up(&mut self, index: u32, old: Option<u64>, refusal: MapRefusal) {
        self.set_home(index, Home::Failed(old));
        for number in self.pages_of(index) {
            let Some(page) = self.pages.get_mut(number as usize) else { continue };
            for (_, id) in std::mem::take(&mut page.waiting) {
                self.events.push_back(KeepEvent { id, refusal: Some(refusal) });
            }
        }
    }

    /// Asks for an extent for a home.
    fn want(&mut self, index: u32, old: Option<u64>) {
        self.set_home(index, Home::Wanted(old));
        self.wanted.push_back(index);
    }

    /// Whether something could not be kept, and is to be tried again later with [`MapKeeper::try_again`].
    pub fn has_failed(&self) -> bool {
        self.homes.iter().any(|(home, _)| matches!(home, Home::Failed(_)))
    }

    /// Tries again what could not be kept.
    pub fn try_again(&mut self) {
        for index in 0..self.homes.len() as u32 {
            if let Home::Failed(old) = self.home(index) {
                self.want(index, old);
            }
        }
    }

    /// The next write, if one can be done now. Say with [`MapKeeper::wrote`] how it ended.
    pub fn next_write(&mut self, map: &BlockMap) -> Option<KeepWrite> {
        for at in 0..self.filling.len() {
            let index = *self.filling.get(at)?;
            if let Some(write) = self.next_of_filling(index, map) {
                return Some(write);
            }
        }
        self.filling.retain(|index| {
            let home = self.homes.get(*index as usize);
            home.is_some_and(|(home, _)| matches!(home, Home::Filling { .. }))
        });
        while let Some(number) = self.queue.pop_front() {
            let index = number / PAGES;
            let Some(page) = self.page_mut(number) else { continue };
            page.is_queued = false;
            if page.is_flying || page.kept == page.version {
                continue;
            }
            match self.home(index) {
                Home::Ready(extent) => return self.write_page(number, extent, map),
                Home::Nowhere => self.want(index, None),
                // All its pages are looked at when it is there.
                _ => (),
            }
        }
        None
    }

    fn write_page(&mut self, number: u32, extent: u64, map: &BlockMap) -> Option<KeepWrite> {
        let page = self.page_mut(number)?;
        page.is_flying = true;
        page.sequence += 1;
        let (version, sequence) = (page.version, page.sequence);
        let bytes = PageHead { number, extent, sequence }.encode(|slot| map.kept(slot));
        let offset = place_of(number, sequence);
        Some(KeepWrite { extent, offset, bytes, index: number / PAGES, page: Some((number, version, sequence)) })
    }

    fn next_of_filling(&mut self, index: u32, map: &BlockMap) -> Option<KeepWrite> {
        let Home::Filling { old, new, mut next, flying } = self.home(index) else { return None };
        let end = self.pages_of(index).end;
        while next < end {
            let page = self.pages.get(next as usize)?;
            if page.is_flying {
                // A write to the old extent: it ends first.
                self.set_home(index, Home::Filling { old, new, next, flying });
                return None;
            }
            if page.sequence > 0 || page.version > 0 {
                self.set_home(index, Home::Filling { old, new, next: next + 1, flying: flying + 1 });
                return self.write_page(next, new, map);
            }
            next += 1;
        }
        if flying > 0 {
            self.set_home(index, Home::Filling { old, new, next, flying });
            return None;
        }
        let (home, generation) = self.homes.get_mut(index as usize)?;
        *home = Home::Heading { old, new };
        *generation += 1;
        let head = Head { extent: new, generation: *generation, size: self.size, index, replaces: old };
        Some(KeepWrite { extent: new, offset: 0, bytes: head.encode(), index, page: None })
    }

    /// A write has ended.
    pub fn wrote(&mut self, write: &KeepWrite, ending: Ending) {
        if let Some((number, ..)) = write.page
            && let Some(page) = self.page_mut(number)
        {
            page.is_flying = false;
        }
        match (self.home(write.index), ending) {
            (Home::Ready(extent), Ending::Done) if extent == write.extent => {
                if let Some((number, version, _)) = write.page {
                    self.keep(number, version);
                }
            }
            (Home::Filling { old, new, next, flying }, Ending::Done) if new == write.extent => {
                self.set_home(write.index, Home::Filling { old, new, next, flying: flying.saturating_sub(1) });
                if let Some((number, version, _)) = write.page
                    && let Some(page) = self.page_mut(number)
                {
                    page.filled = version;
                }
            }
            (Home::Heading { old, new }, Ending::Done) if new == write.extent => {
                self.set_home(write.index, Home::Ready(new));
                self.freed_of_map.extend(old);
                for number in self.pages_of(write.index) {
                    let filled = self.pages.get(number as usize).map_or(0, |page| page.filled);
                    self.keep(number, filled);
                }
            }
            (_, Ending::Done) => (),
            (home, ending) => self.fails(write, home, ending),
        }
        // What has changed meanwhile.
        if let Some((number, ..)) = write.page
            && self.pages.get(number as usize).is_some_and(|page| page.kept < page.version)
        {
            self.enqueue(number);
        }
    }

    /// A write has failed: if its extent still counts for something, another one must be had.
    fn fails(&mut self, write: &KeepWrite, home: Home, ending: Ending) {
        let old = match home {
            // It stays until another one counts: without any, nobody would know that a part of the map is missing.
            Home::Ready(extent) if extent == write.extent => Some(extent),
            Home::Filling { old, new, .. } | Home::Heading { old, new } if new == write.extent => {
                self.freed_of_map.push(new);
                old
            }
            _ => return,
        };
        match ending {
            Ending::Lost => self.want(write.index, old),
            _ => self.give_up(write.index, old, MapRefusal::NoAnswer),
        }
    }

    /// A version of a page is kept.
    fn keep(&mut self, number: u32, version: u64) {
        let Some(page) = self.pages.get_mut(number as usize) else { return };
        page.kept = page.kept.max(version);
        let kept = page.kept;
        if page.kept < page.version {
            self.enqueue(number);
        }
        if let Some(page) = self.pages.get_mut(number as usize) {
            let events = &mut self.events;
            page.waiting.retain(|(at, id)| {
                let is_kept = *at <= kept;
                if is_kept {
                    events.push_back(KeepEvent { id: *id, refusal: None });
                }
                !is_kept
            });
        }
        let freed = &mut self.freed;
        self.held.retain(|(of, at, extent)| {
            let is_kept = *of == number && *at <= kept;
            if is_kept {
                freed.push(*extent);
            }
            !is_kept
        });
    }

    /// An extent of the map is lost, or its owner wants it back: another one takes its place. Returns whether it counts
    /// for something.
    pub fn replace(&mut self, extent: u64) -> bool {
        let is_it = |(home, _): &(Home, u64)| match home {
            Home::Ready(now) => *now == extent,
            Home::Wanted(old) | Home::Failed(old) => *old == Some(extent),
            Home::Filling { old, new, .. } | Home::Heading { old, new } => *new == extent || *old == Some(extent),
            Home::Nowhere => false,
        };
        let Some(index) = self.homes.iter().position(is_it) else { return false };
        let index = index as u32;
        match self.home(index) {
            Home::Ready(_) => self.want(index, Some(extent)),
            Home::Filling { old, new, .. } | Home::Heading { old, new } if new == extent => {
                self.freed_of_map.push(new);
                self.want(index, old);
            }
            // It is being replaced already.
            _ => (),
        }
        true
    }

    /// Begins the map of a new disk: its first extent is wanted though nothing has changed.
    pub fn begin(&mut self) {
        if self.home(0) == Home::Nowhere && !self.homes.is_empty() {
            self.want(0, None);
        }
    }

    /// The server that had all extents is gone: nothing is kept until [`MapKeeper::start`].
    pub fn stop(&mut self) {
        for index in 0..self.homes.len() as u32 {
            self.give_up(index, None, MapRefusal::NoServer);
            self.set_home(index, Home::Nowhere);
        }
        for page in &mut self.pages {
            (page.version, page.kept, page.filled, page.is_flying, page.is_queued) = (0, 0, 0, false, false);
        }
        self.slots.fill(0);
        self.queue.clear();
        self.wanted.clear();
        self.asked.clear();
        self.filling.clear();
        self.held.clear();
        self.freed.clear();
        self.freed_of_map.clear();
        self.is_on = false;
    }

    /// Another server is there, which has nothing: all of the map is kept anew.
    pub fn start(&mut self, map: &BlockMap) {
        self.is_on = true;
        self.begin();
        map.used().for_each(|slot| self.note(slot));
    }
}
