//! Sets of units: a bitmap with a bit for each index of a lease.

use super::LeaseError;
use core::fmt;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

/// The most units of a lease: 256 GiB.
pub const MAX_UNITS: usize = 4096;

const WORDS: usize = MAX_UNITS / 64;

/// A set of indexes of a lease. On the wire, index `i` is bit `i % 8` of byte `i / 8`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitSet([U64; WORDS]);

impl UnitSet {
    /// No index.
    pub const EMPTY: Self = Self([U64::ZERO; WORDS]);

    /// The set with this bitmap; `None` when it is longer than that of [`MAX_UNITS`].
    pub fn read(bitmap: &[u8]) -> Option<Self> {
        let mut set = Self::EMPTY;
        set.0.as_mut_bytes().get_mut(..bitmap.len())?.copy_from_slice(bitmap);
        Some(set)
    }

    /// The set whose bitmap is a part of a payload, behind its first `fields` bytes.
    pub(super) fn part(payload: &[u8], fields: usize, at: U16, len: U16) -> Result<Self, LeaseError> {
        let (at, len) = (usize::from(at.get()), usize::from(len.get()));
        if at < fields {
            return Err(LeaseError::Layout);
        }
        let bitmap = payload.get(at..at + len).ok_or(LeaseError::TooShort)?;
        Self::read(bitmap).ok_or(LeaseError::Layout)
    }

    /// The bitmap, without zeroes at its end.
    pub fn bitmap(&self) -> &[u8] {
        let bytes = self.0.as_bytes();
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.get(..len).unwrap_or(bytes)
    }

    /// Whether an index is in it.
    #[inline]
    pub fn contains(&self, index: u16) -> bool {
        self.0.get(usize::from(index / 64)).is_some_and(|word| word.get() & bit(index) != 0)
    }

    /// Adds an index. One from [`MAX_UNITS`] on is ignored.
    pub fn insert(&mut self, index: u16) {
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            word.set(word.get() | bit(index));
        }
    }

    /// Takes an index out.
    pub fn remove(&mut self, index: u16) {
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            word.set(word.get() & !bit(index));
        }
    }

    /// How many indexes there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.get().count_ones()).sum()
    }

    /// Whether there is no index.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The indexes, from the lowest to the highest.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let lowest_gone = |rest: &u64| Some(rest & (rest - 1)).filter(|rest| *rest != 0);
            let rests = core::iter::successors(Some(word.get()).filter(|word| *word != 0), lowest_gone);
            // There are 4,096 at most.
            rests.map(move |rest| (64 * at) as u16 + rest.trailing_zeros() as u16)
        })
    }

    /// What is in this set and in `other`.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in this set or in `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(&self, other: &Self, both: fn(u64, u64) -> u64) -> Self {
        let mut set = *self;
        for (a, b) in set.0.iter_mut().zip(&other.0) {
            a.set(both(a.get(), b.get()));
        }
        set
    }
}

#[inline]
fn bit(index: u16) -> u64 {
    1 << (index % 64)
}

impl FromIterator<u16> for UnitSet {
    fn from_iter<I: IntoIterator<Item = u16>>(indexes: I) -> Self {
        let mut set = Self::EMPTY;
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

impl fmt::Debug for UnitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn an_index_is_its_bit() {
        let set: UnitSet = [0, 9, 4095].into_iter().collect();
        assert_eq!(set.len(), 3);
        assert!(set.contains(9) && !set.contains(8) && !set.contains(4096) && !set.contains(u16::MAX));
        assert_eq!((set.bitmap().len(), set.bitmap()[0], set.bitmap()[1], set.bitmap()[511]), (512, 1, 2, 0x80));
        assert_eq!(UnitSet::read(set.bitmap()), Some(set));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 9, 4095]);
    }

    #[test]
    fn a_bitmap_ends_with_its_last_index() {
        assert_eq!(UnitSet::EMPTY.bitmap(), []);
        let mut set: UnitSet = [3, 17].into_iter().collect();
        assert_eq!(set.bitmap(), [8, 0, 2]);
        set.remove(17);
        assert_eq!(set.bitmap(), [8]);
        set.remove(3);
        assert!(set.is_empty());
        assert_eq!(UnitSet::read(&[0; 512]), Some(UnitSet::EMPTY));
        assert_eq!(UnitSet::read(&[0; 513]), None);
        assert_eq!([4096, u16::MAX].into_iter().collect::<UnitSet>(), UnitSet::EMPTY);
    }

    #[test]
    fn sets_are_joined_cut_and_subtracted() {
        let (a, b): (UnitSet, UnitSet) = ((0..100).collect(), (64..200).collect());
        assert_eq!(a.and(&b), (64..100).collect());
        assert_eq!(a.or(&b), (0..200).collect());
        assert_eq!(a.without(&b), (0..64).collect());
    }
}
