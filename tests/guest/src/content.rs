//! Content that both sides can make, and its hash; `verbs/content.c` has the same.

use crate::fault::mix;

/// The first `len` bytes of a seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let word = |index: u64| mix(seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let mut bytes: Vec<u8> = (0..len.div_ceil(8) as u64).flat_map(|index| word(index).to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// A hash of the little-endian words of some bytes, in order. The last word is filled up with zeros.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^ hash >> 29
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_prefix_of_longer_content() {
        let long = bytes(7, 4099);
        assert_eq!((long.len(), bytes(7, 13)), (4099, long[..13].to_vec()));
        assert_ne!(bytes(8, 8), long[..8]);
    }

    #[test]
    fn every_bit_length_and_order_changes_the_hash() {
        let content = bytes(7, 27);
        let mut hashes = vec![hash(&content), hash(&content[..26]), hash(&[&content[..], &[0]].concat())];
        for bit in 0..27 * 8 {
            let mut other = content.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            hashes.push(hash(&other));
        }
        hashes.push(hash(&[&content[8..16], &content[..8], &content[16..]].concat()));
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }
}
