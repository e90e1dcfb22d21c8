//! What the extents of a kept map say after a process has ended.

use super::MapKeeper;
use super::format::{FoundHead, Head, KeptSlot, PAGE, PAGES, PageHead};
use crate::{BLOCK, BlockMap, EXTENT};
use std::collections::BTreeMap;

/// Why a map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMap {
    /// It is of a disk of another size, in bytes.
    Size(u64),
    /// It is of another version.
    Version(u32),
    /// A part of it may be lost with a slave.
    Lost,
    /// It says what no map can say.
    Broken,
}

/// Reads the map of a disk: hand it each extent of the map, then [`MapReader::finish`].
#[derive(Debug)]
pub struct MapReader {
    size: u64,
    /// The extent of each index with the largest generation: its head, and the pages that it has.
    found: BTreeMap<u32, (Head, Vec<KeptPage>)>,
    unused: Vec<u64>,
    lost: Vec<u64>,
    /// Extents whose places others took.
    replaced: Vec<u64>,
}

/// A page that counts.
#[derive(Debug)]
struct KeptPage {
    number: u32,
    sequence: u64,
    slots: Vec<(u32, KeptSlot)>,
}

/// A map that was read.
#[derive(Debug)]
pub struct RestoredMap {
    /// It goes on keeping it.
    pub keeper: MapKeeper,
    /// Extents of the map that are not used any more: free them.
    pub unused: Vec<u64>,
    slots: Vec<(u32, KeptSlot)>,
}

impl MapReader {
    /// A reader for the map of a disk of so many bytes.
    pub const fn new(size: u64) -> Self {
        Self { size, found: BTreeMap::new(), unused: Vec::new(), lost: Vec::new(), replaced: Vec::new() }
    }

    /// Takes all bytes of an extent of the map. Short ones count as none.
    ///
    /// # Errors
    /// [`NoMap::Size`] and [`NoMap::Version`].
    pub fn take(&mut self, extent: u64, bytes: &[u8]) -> Result<(), NoMap> {
        let block = |at: u32| bytes.get((at * BLOCK) as usize..).and_then(|rest| rest.get(..PAGE));
        let head = match block(0).map_or(FoundHead::Nothing, |bytes| Head::decode(bytes, extent)) {
            FoundHead::Good(head) if head.size != self.size => return Err(NoMap::Size(head.size)),
            FoundHead::Good(head) => head,
            FoundHead::Version(version) => return Err(NoMap::Version(version)),
            FoundHead::Nothing => {
                // It was allocated, and did not count yet.
                self.unused.push(extent);
                return Ok(());
            }
        };
        self.replaced.extend(head.replaces);
        if self.found.get(&head.index).is_some_and(|(other, _)| other.generation >= head.generation) {
            self.unused.push(extent);
            return Ok(());
        }
        let mut pages = Vec::new();
        for place in 0..PAGES {
            let number = head.index.saturating_mul(PAGES).saturating_add(place);
            let both = [block(2 + 2 * place), block(3 + 2 * place)].into_iter().flatten();
            let good = both.filter_map(|bytes| Some((PageHead::decode(bytes, number, extent)?, bytes)));
            if let Some((sequence, bytes)) = good.max_by_key(|(sequence, _)| *sequence) {
                pages.push(KeptPage { number, sequence, slots: PageHead::slots(bytes, number).collect() });
            }
        }
        if let Some((old, _)) = self.found.insert(head.index, (head, pages)) {
            self.unused.push(old.extent);
        }
        Ok(())
    }

    /// An extent of the map is lost.
    pub fn take_lost(&mut self, extent: u64) {
        self.lost.push(extent);
    }

    /// Whether there is nothing of a map.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.lost.is_empty()
    }

    /// The map.
    ///
    /// # Errors
    /// [`NoMap::Lost`]: an extent is lost, and no other one took its place. [`NoMap::Broken`]: slots beyond the end of
    /// the disk, or blocks that are present and lost.
    pub fn finish(mut self) -> Result<RestoredMap, NoMap> {
        if self.lost.iter().any(|extent| !self.replaced.contains(extent)) {
            return Err(NoMap::Lost);
        }
        self.unused.append(&mut self.lost);
        let mut keeper = MapKeeper::new(self.size);
        let mut slots = Vec::new();
        for (head, pages) in self.found.into_values() {
            keeper.found(head.index, head.extent, head.generation).ok_or(NoMap::Broken)?;
            for page in pages {
                keeper.found_page(page.number, page.sequence).ok_or(NoMap::Broken)?;
                slots.extend(page.slots);
            }
        }
        let count = self.size.div_ceil(EXTENT.into());
        let is_wrong = |(index, kept): &(u32, KeptSlot)| u64::from(*index) >= count || kept.present.meets(&kept.lost);
        if slots.iter().any(is_wrong) {
            return Err(NoMap::Broken);
        }
        Ok(RestoredMap { keeper, unused: self.unused, slots })
    }
}

impl RestoredMap {
    /// Fills an empty map. `extents` are those of the disk that are there. Returns which of them the map does not use:
    /// free them.
    pub fn fill(&self, map: &mut BlockMap, extents: &[u64]) -> Vec<u64> {
        let mut left: std::collections::BTreeSet<u64> = extents.iter().copied().collect();
        for (index, kept) in &self.slots {
            let is_there = kept.extent.is_some_and(|extent| left.remove(&extent));
            map.restore(*index, kept, is_there);
        }
        left.into_iter().collect()
    }
}
