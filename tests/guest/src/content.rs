//! Content that both sides can make, and its hash; `verbs/content.c` has the same.

use crate::fault::mix;

/// The first `len` bytes of a seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let word = |index: u64| mix(seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut bytes: Vec<u8> = (0..len.div_ceil(8) as u64).flat_map(|index| word(index).to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// FNV-1a, 64 bits.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_prefix_of_longer_content_and_its_hash_is_fnv() {
        let long = bytes(7, 4099);
        assert_eq!((long.len(), bytes(7, 13)), (4099, long[..13].to_vec()));
        assert_ne!(bytes(8, 8), long[..8]);
        // Of the authors' test vectors.
        assert_eq!(hash(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(hash(b"foobar"), 0x8594_4171_F739_67E8);
    }
}
