//! One bit for each block of an extent.

use crate::BLOCKS;
use std::ops::Range;

const WORDS: usize = BLOCKS as usize / 64;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    pub(crate) fn get(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    /// Calls `change` with each word and the bits of the range in it.
    fn each(&mut self, range: Range<u32>, change: impl Fn(&mut u64, u64)) {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
            if let Some(word) = self.0.get_mut(at as usize / 64) {
                change(word, mask);
            }
            at = end;
        }
    }

    pub(crate) fn set(&mut self, range: Range<u32>) {
        self.each(range, |word, mask| *word |= mask);
    }

    pub(crate) fn clear(&mut self, range: Range<u32>) {
        self.each(range, |word, mask| *word &= !mask);
    }

    pub(crate) fn or(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|word| *word != 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Its words, the first blocks first.
    pub(crate) const fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    pub(crate) const fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// Whether a block is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(word, other)| word & other != 0)
    }

    /// Where the run of equal bits ends that begins at `at`, at most at `most`.
    pub(crate) fn run(&self, at: u32, most: u32) -> u32 {
        let is_set = self.get(at);
        let mut end = at;
        while end < most {
            let word = self.0.get(end as usize / 64).copied().unwrap_or(0) >> (end % 64);
            let same = if is_set { word.trailing_ones() } else { word.trailing_zeros() };
            // Zeros were shifted in from above.
            let left = 64 - end % 64;
            end += same.min(left);
            if same < left {
                break;
            }
        }
        end.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_those_of_a_list(
            acts in proptest::collection::vec((any::<bool>(), 0u32..=BLOCKS, 0u32..=BLOCKS), 0..12),
            from in 0u32..BLOCKS, to in 0u32..=BLOCKS) {
            let (mut bits, mut model) = (Bits::default(), [false; BLOCKS as usize]);
            for (set, a, b) in acts {
                let range = a.min(b)..a.max(b);
                if set { bits.set(range.clone()) } else { bits.clear(range.clone()) }
                model[range.start as usize..range.end as usize].fill(set);
            }
            prop_assert!((0..BLOCKS).all(|at| bits.get(at) == model[at as usize]));
            prop_assert_eq!(bits.count() as usize, model.iter().filter(|set| **set).count());
            prop_assert_eq!(bits.any(), model.contains(&true));
            let most = to.max(from);
            let mut end = from as usize;
            while end < most as usize && model[end] == model[from as usize] {
                end += 1;
            }
            prop_assert_eq!(bits.run(from, most), end as u32);
        }
    }
}
