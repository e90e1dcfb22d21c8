//! Part of the directory: 480 pages, and the extents that have their slots.
//!
//! A section has the 512 slots of an extent of 2 MiB for its 480 pages. So 32 slots are always spare: a page that is
//! written goes into a free slot, and its old one is free when the new one is written everywhere. No write ever hits a
//! slot that somebody may read. (Page keys will add 16 bytes a page: version and authentication tag.)
//!
//! An entry has 10 bytes: 8 of the keyed hash, and 2 of these bits:
//!
//! | bits | what |
//! |---|---|
//! | 0 to 8 | slot |
//! | 9 | stored: the slot has the page, as it was when the hash was made |
//! | 10 to 13 | state |
//! | 14 | hot: the page came back soon after it was evicted |

use crate::{MAX_REPLICAS, SECTION_PAGES, SLOTS};
use std::hash::{Hash, Hasher};

/// Where a page is, and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PageState {
    /// It was never touched, or was dropped: zeros.
    Absent,
    /// It is in its slot only.
    Remote,
    /// It was in a slot only, and no replica of it is left.
    Lost,
    /// A thread waits for it, and it waits for a free frame or landing buffer.
    Queued,
    /// It is read from its slot.
    Fetching,
    /// It was handed out to be copied in, or made of zeros.
    Filling,
    /// The program has it.
    Resident,
    /// The same by the books, but a thread faulted on it: it is being found out.
    Checking,
    /// It was handed out to be moved into the staging area.
    Moving,
    /// It is in the staging area, and is written to its slot.
    Staged,
    /// It was handed out to be moved back to the program.
    Returning,
}

/// All states, by number.
pub(crate) const STATES: [PageState; 11] = [
    PageState::Absent,
    PageState::Remote,
    PageState::Lost,
    PageState::Queued,
    PageState::Fetching,
    PageState::Filling,
    PageState::Resident,
    PageState::Checking,
    PageState::Moving,
    PageState::Staged,
    PageState::Returning,
];

impl PageState {
    /// Whether a page in this state takes a page of local memory.
    pub fn is_local(self) -> bool {
        self >= Self::Fetching
    }
}

const SLOT: u16 = (1 << 9) - 1;
const STORED: u16 = 1 << 9;
const STATE_SHIFT: u16 = 10;
const STATE: u16 = 0xf << STATE_SHIFT;
const HOT: u16 = 1 << 14;

/// The bits of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bits16(u16);

impl Bits16 {
    pub(crate) fn state(self) -> PageState {
        STATES[usize::from((self.0 & STATE) >> STATE_SHIFT)]
    }

    /// Its slot, if it is stored.
    pub(crate) fn slot(self) -> Option<u16> {
        (self.0 & STORED != 0).then_some(self.0 & SLOT)
    }

    pub(crate) fn is_hot(self) -> bool {
        self.0 & HOT != 0
    }
}

/// A move of a replica to another extent: its old one is recalled or lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Relocation {
    /// Which replica.
    pub(crate) replica: usize,
    /// The new extent, once there is one.
    pub(crate) to: Option<u64>,
    /// Slots that are in the new extent.
    pub(crate) copied: [u64; SLOTS / 64],
    /// The slot that is being copied: it is not given out again meanwhile.
    pub(crate) current: Option<u16>,
}

impl Relocation {
    pub(crate) fn new(replica: usize) -> Self {
        Self { replica, to: None, copied: [0; SLOTS / 64], current: None }
    }

    pub(crate) fn has(&self, slot: u16) -> bool {
        self.copied[usize::from(slot) / 64] & (1 << (slot % 64)) != 0
    }

    pub(crate) fn set(&mut self, slot: u16, is_copied: bool) {
        let bit = 1 << (slot % 64);
        let word = &mut self.copied[usize::from(slot) / 64];
        *word = if is_copied { *word | bit } else { *word & !bit };
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    hashes: [u64; SECTION_PAGES],
    bits: [Bits16; SECTION_PAGES],
    /// Slots that have a page, or that a write is under way to.
    used: [u64; SLOTS / 64],
    /// Extents with all slots of the section.
    pub(crate) replicas: [Option<u64>; MAX_REPLICAS],
    pub(crate) relocation: Option<Box<Relocation>>,
    /// Extents were asked for.
    pub(crate) is_wanted: bool,
    /// Pages that are not absent.
    pub(crate) present: u16,
}

impl Section {
    pub(crate) fn new() -> Self {
        Self {
            hashes: [0; SECTION_PAGES],
            bits: [Bits16::default(); SECTION_PAGES],
            used: [0; SLOTS / 64],
            replicas: [None; MAX_REPLICAS],
            relocation: None,
            is_wanted: false,
            present: 0,
        }
    }

    pub(crate) fn bits(&self, place: usize) -> Bits16 {
        self.bits[place]
    }

    /// The hash of what is in the slot; it has a meaning only while the page is stored.
    pub(crate) fn hash_of(&self, place: usize) -> u64 {
        self.hashes[place]
    }

    /// Returns the state before.
    pub(crate) fn set_state(&mut self, place: usize, state: PageState) -> PageState {
        let before = self.bits[place].state();
        let bits = &mut self.bits[place].0;
        *bits = (*bits & !STATE) | ((state as u16) << STATE_SHIFT);
        match (before == PageState::Absent, state == PageState::Absent) {
            (true, false) => self.present += 1,
            (false, true) => self.present -= 1,
            _ => {}
        }
        before
    }

    pub(crate) fn set_hot(&mut self, place: usize, is_hot: bool) {
        let bits = &mut self.bits[place].0;
        *bits = if is_hot { *bits | HOT } else { *bits & !HOT };
    }

    /// The flip: from now on the page is in this slot. Its old slot is free.
    pub(crate) fn flip(&mut self, place: usize, slot: u16, hash: u64) {
        self.forget(place);
        let bits = &mut self.bits[place].0;
        *bits = (*bits & !SLOT) | slot | STORED;
        self.hashes[place] = hash;
    }

    /// The page is in no slot; the one that it had is free.
    pub(crate) fn forget(&mut self, place: usize) {
        if let Some(slot) = self.bits[place].slot() {
            self.free(slot);
            self.bits[place].0 &= !(STORED | SLOT);
            self.hashes[place] = 0;
        }
    }

    /// A free slot, which is used from now on.
    pub(crate) fn allocate(&mut self) -> Option<u16> {
        let held = self.relocation.as_ref().and_then(|relocation| relocation.current);
        for (index, word) in self.used.iter_mut().enumerate() {
            let mut free = !*word;
            if let Some(held) = held.filter(|held| usize::from(*held) / 64 == index) {
                free &= !(1 << (held % 64));
            }
            if free != 0 {
                let bit = free.trailing_zeros();
                *word |= 1 << bit;
                let slot = (index * 64) as u16 + bit as u16;
                if let Some(relocation) = &mut self.relocation {
                    relocation.set(slot, false);
                }
                return Some(slot);
            }
        }
        None
    }

    pub(crate) fn free(&mut self, slot: u16) {
        let bit = 1 << (slot % 64);
        let word = &mut self.used[usize::from(slot) / 64];
        debug_assert!(*word & bit != 0, "slot {slot} was in use");
        *word &= !bit;
    }

    /// The slot is not given out until it is freed again.
    pub(crate) fn hold(&mut self, slot: u16) {
        self.used[usize::from(slot) / 64] |= 1 << (slot % 64);
    }

    pub(crate) fn used_slots(&self) -> u32 {
        self.used.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn is_used(&self, slot: u16) -> bool {
        self.used[usize::from(slot) / 64] & (1 << (slot % 64)) != 0
    }

    /// The extents that a write goes to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = u64> + '_ {
        let to = self.relocation.as_ref().and_then(|relocation| relocation.to);
        self.replicas.iter().copied().flatten().chain(to)
    }

    pub(crate) fn has_home(&self) -> bool {
        self.replicas.iter().any(Option::is_some)
    }

    /// Places with a slot.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (usize, u16)> + '_ {
        self.bits.iter().enumerate().filter_map(|(place, bits)| bits.slot().map(|slot| (place, slot)))
    }

    /// Puts all that decides what it will do into a hash; `present` follows from the rest.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        for (place, bits) in self.bits.iter().enumerate().filter(|(_, bits)| **bits != Bits16::default()) {
            (place, bits, self.hashes[place]).hash(hasher);
        }
        (self.used, self.replicas, &self.relocation, self.is_wanted).hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_parts_apart() {
        let mut section = Section::new();
        section.set_state(9, PageState::Resident);
        assert_eq!(section.bits(9).slot(), None);
        let slot = section.allocate().unwrap();
        section.flip(9, slot, 77);
        section.set_hot(9, true);
        assert_eq!(section.set_state(9, PageState::Remote), PageState::Resident);
        assert_eq!((section.bits(9).slot(), section.bits(9).is_hot(), section.hash_of(9)), (Some(slot), true, 77));
        assert_eq!((section.present, section.used_slots()), (1, 1));
        let other = section.allocate().unwrap();
        section.flip(9, other, 78);
        assert_eq!((section.used_slots(), section.is_used(slot), section.is_used(other)), (1, false, true));
        section.forget(9);
        section.set_state(9, PageState::Absent);
        section.set_hot(9, false);
        assert_eq!((section.present, section.used_slots(), section.bits(9)), (0, 0, Bits16::default()));
    }

    #[test]
    fn all_states_have_numbers_that_fit() {
        for (number, state) in STATES.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            let mut section = Section::new();
            section.set_state(0, state);
            assert_eq!(section.bits(0).state(), state);
        }
    }

    #[test]
    fn a_full_section_has_32_spare_slots() {
        let mut section = Section::new();
        for place in 0..SECTION_PAGES {
            let slot = section.allocate().unwrap();
            section.flip(place, slot, 1);
        }
        assert_eq!((0..40).map_while(|_| section.allocate()).count(), SLOTS - SECTION_PAGES);
    }

    #[test]
    fn a_slot_that_is_being_copied_is_not_given_out() {
        let mut section = Section::new();
        let slot = section.allocate().unwrap();
        let mut relocation = Relocation::new(0);
        relocation.current = Some(slot);
        relocation.set(slot, true);
        section.relocation = Some(Box::new(relocation));
        section.free(slot);
        let other = section.allocate().unwrap();
        assert_ne!(other, slot);
    }
}
