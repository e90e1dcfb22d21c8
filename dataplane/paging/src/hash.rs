//! A keyed hash of 64 bits of a page: finds pages that did not change, and bytes that a slave or a wire changed.
//!
//! Four lanes of 128-bit products, as wyhash has them. It is no protection against somebody who knows the key: page
//! keys (authenticated encryption) are that.

/// Bytes of a page.
const BYTES: usize = 4096;

/// Multipliers of the lanes: odd numbers with as many ones as zeros.
const LANES: [u64; 4] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
    u64::from_le_bytes(word)
}

/// The hash of a page.
pub fn page_hash(key: u64, page: &[u8; BYTES]) -> u64 {
    let mut lanes = LANES.map(|lane| key ^ lane);
    for chunk in page.chunks_exact(64) {
        mix(&mut lanes, chunk);
    }
    fold(lanes[0] ^ lanes[1], lanes[2] ^ lanes[3])
}

fn mix(lanes: &mut [u64; 4], chunk: &[u8]) {
    for (lane, (value, other)) in lanes.iter_mut().zip(LANES.iter().rev()).enumerate() {
        *value = fold(word(chunk, 2 * lane) ^ *value, word(chunk, 2 * lane + 1) ^ other);
    }
}

/// Copies a page and hashes it in the same pass.
pub fn copy_with_hash(key: u64, from: &[u8; BYTES], to: &mut [u8; BYTES]) -> u64 {
    let mut lanes = LANES.map(|lane| key ^ lane);
    for (chunk, copy) in from.chunks_exact(64).zip(to.chunks_exact_mut(64)) {
        copy.copy_from_slice(chunk);
        mix(&mut lanes, chunk);
    }
    fold(lanes[0] ^ lanes[1], lanes[2] ^ lanes[3])
}

/// The hash of a page of zeros.
pub fn zero_hash(key: u64) -> u64 {
    page_hash(key, &[0; BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_byte_and_the_key_count() {
        let page = [7; BYTES];
        let mut seen = HashSet::from([page_hash(1, &page), page_hash(2, &page), zero_hash(1), zero_hash(2)]);
        assert_eq!(seen.len(), 4);
        for at in 0..BYTES {
            let mut other = page;
            other[at] ^= 1 << (at % 8);
            assert!(seen.insert(page_hash(1, &other)), "byte {at}");
        }
    }

    #[test]
    fn words_that_change_places_change_the_hash() {
        let mut page = [0; BYTES];
        page[..8].copy_from_slice(&[1; 8]);
        let mut seen = HashSet::new();
        for place in 0..BYTES / 8 {
            let mut moved = [0; BYTES];
            moved[8 * place..8 * place + 8].copy_from_slice(&[1; 8]);
            assert!(seen.insert(page_hash(9, &moved)), "word {place}");
        }
    }

    #[test]
    fn a_copy_has_the_same_hash_and_bytes() {
        let mut page = [0; BYTES];
        page.iter_mut().zip(0_u32..).for_each(|(byte, at)| *byte = ((at * 31) >> 3) as u8);
        let mut copy = [0; BYTES];
        assert_eq!(copy_with_hash(5, &page, &mut copy), page_hash(5, &page));
        assert_eq!(copy, page);
    }
}
