//! Random numbers out of one secret: numbers of queue pairs, PSNs, keys of regions, secrets.
//!
//! A role gets one random secret at its start, and asks no kernel for more. Who does not know the secret cannot guess
//! a number from others; and in a simulator all numbers follow from the seed.

use frame::Secret;
use std::convert::Infallible;
use std::fmt;
use wire::tag::HASH_STACK;
use zeroize::{Zeroize, zeroize_stack};

/// Bytes of a secret, and of a hash.
const BLOCK: usize = 32;

/// A sequence of random numbers: the keyed BLAKE3 hashes of 0, 1, 2 and so on.
pub struct Numbers {
    secret: Secret,
    count: u64,
    block: [u8; BLOCK],
    /// Bytes of the block that were given out.
    used: usize,
}

impl Numbers {
    /// The numbers of a secret. It is random, and is used for nothing else.
    pub fn new(secret: &[u8; BLOCK]) -> Self {
        let Ok(secret) = Secret::new(|place| {
            place.copy_from_slice(secret);
            Ok::<_, Infallible>(())
        });
        Self { secret, count: 0, block: [0; BLOCK], used: BLOCK }
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for byte in &mut out {
            if self.used == BLOCK {
                self.refill();
            }
            if let Some(next) = self.block.get_mut(self.used) {
                // What was given out is nobody else's.
                *byte = std::mem::take(next);
            }
            self.used += 1;
        }
        out
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The product of the bound and a fraction of 32 bits: a choice of 4,096 is off by less than one in a million.
        ((u64::from(self.next_u32()) * bound as u64) >> 32) as usize
    }

    fn refill(&mut self) {
        /// Not inlined, so that all of its stack is free again when it returns.
        #[inline(never)]
        fn hash(secret: &[u8; BLOCK], count: u64, out: &mut [u8; BLOCK]) {
            out.copy_from_slice(blake3::keyed_hash(secret, &count.to_le_bytes()).as_bytes());
        }
        hash(&self.secret, self.count, &mut self.block);
        zeroize_stack::<HASH_STACK>();
        self.count += 1;
        self.used = 0;
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

impl fmt::Debug for Numbers {
    /// Prints nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_below_a_bound_come_and_no_other() {
        let (mut numbers, mut seen) = (Numbers::new(&[3; 32]), [0; 5]);
        (0..1000).for_each(|_| seen[numbers.below(5)] += 1);
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert_eq!((numbers.below(1), numbers.below(0)), (0, 0));
    }

    #[test]
    fn numbers_follow_from_the_secret_and_none_is_given_out_twice() {
        let secret = [7; 32];
        let mut numbers = Numbers::new(&secret);
        let first = blake3::keyed_hash(&secret, &0_u64.to_le_bytes());
        let second = blake3::keyed_hash(&secret, &1_u64.to_le_bytes());
        let stream = [*first.as_bytes(), *second.as_bytes()].concat();
        assert_eq!(numbers.next_u32().to_le_bytes(), stream[..4]);
        assert_eq!(numbers.next_u64().to_le_bytes(), stream[4..12]);
        assert_eq!(numbers.bytes::<40>(), stream[12..52]);
        assert_ne!(Numbers::new(&[8; 32]).next_u64(), Numbers::new(&secret).next_u64());
        assert_eq!(format!("{numbers:?}"), "Numbers");
    }
}
