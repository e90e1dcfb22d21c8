//! Random numbers out of one random seed: keyed BLAKE3 in counter mode. Who does not know the seed cannot tell the next
//! number from those before; who knows it gets the same numbers again, as the simulator needs.

use std::fmt;

/// A stream of random numbers.
pub(crate) struct Random {
    seed: [u8; 32],
    blocks: u64,
    block: [u8; 32],
    /// Bytes of the block that were used.
    used: usize,
}

impl fmt::Debug for Random {
    /// Prints nothing of the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, blocks: 0, block: [0; 32], used: 32 }
    }

    /// Random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            self.block = *blake3::keyed_hash(&self.seed, &self.blocks.to_le_bytes()).as_bytes();
            (self.blocks, self.used) = (self.blocks + 1, 0);
        }
        let byte = std::mem::take(&mut self.block[self.used]);
        self.used += 1;
        byte
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The product of a fraction of 32 bits with the bound: less than one in a million is off for 4,096 choices.
        ((u64::from(self.number()) * bound as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_numbers_again_and_another_seed_others() {
        let (mut one, mut again, mut other) = (Random::new([1; 32]), Random::new([1; 32]), Random::new([2; 32]));
        let bytes = one.bytes::<100>();
        assert_eq!(bytes, again.bytes::<100>());
        assert_ne!(bytes, other.bytes::<100>());
        assert!(bytes.windows(4).all(|four| four != [0; 4]));
    }

    #[test]
    fn all_numbers_below_a_bound_come_and_no_other() {
        let mut random = Random::new([3; 32]);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert_eq!((random.below(1), random.below(0)), (0, 0));
    }

    #[test]
    fn debug_output_never_shows_the_seed() {
        assert_eq!(format!("{:?}", Random::new([7; 32])), "Random");
    }
}
