//! Numbers that are given out and come back: always the lowest one that is free.

use std::hash::{Hash, Hasher};

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct FreeNumbers {
    /// One bit for each number that is free.
    free: Box<[u64]>,
    count: u32,
}

impl FreeNumbers {
    /// The numbers below `total`.
    pub(crate) fn new(total: u32) -> Self {
        let words = total.div_ceil(64) as usize;
        let mut free = vec![u64::MAX; words];
        if let (Some(last), rest @ 1..) = (free.last_mut(), total % 64) {
            *last = (1 << rest) - 1;
        }
        Self { free: free.into(), count: total }
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        let (index, word) = self.free.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        self.count -= 1;
        Some(index as u32 * 64 + bit)
    }

    pub(crate) fn put(&mut self, number: u32) {
        let word = &mut self.free[number as usize / 64];
        debug_assert!(*word & (1 << (number % 64)) == 0, "{number} was given out");
        *word |= 1 << (number % 64);
        self.count += 1;
    }

    /// How many are free.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

impl Hash for FreeNumbers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.free.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_given_out() {
        let mut numbers = FreeNumbers::new(66);
        assert_eq!((0..70).map_while(|_| numbers.take()).collect::<Vec<_>>(), (0..66).collect::<Vec<_>>());
        numbers.put(65);
        numbers.put(3);
        assert_eq!((numbers.count(), numbers.take(), numbers.take(), numbers.take()), (2, Some(3), Some(65), None));
        assert_eq!(FreeNumbers::new(64).count(), 64);
    }
}
