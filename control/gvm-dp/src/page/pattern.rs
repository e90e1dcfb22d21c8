//! The bytes that are written, and how many of those that come back are wrong.

use pages::{Buffer, PagesError};
use std::sync::atomic::Ordering;

/// Bytes of a word.
const WORD: usize = 8;

/// The word at a place of the memory of a run. Every word of every run is another one, with near certainty, so bytes
/// of another place or of an earlier run are found.
fn word(run: u64, place: u64) -> u64 {
    // The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    let mut mixed = run ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Fills a buffer with the bytes of a place: the number of its first byte in the memory, a multiple of 8.
///
/// # Errors
/// The library refuses to write into its own buffer: it has no reason to.
pub(super) fn fill(buffer: &mut Buffer, run: u64, place: u64) -> Result<(), PagesError> {
    for at in 0..buffer.words().len() {
        let bytes = word(run, place / WORD as u64 + at as u64).to_le_bytes();
        buffer.write(at * WORD, &bytes)?;
    }
    Ok(())
}

/// The bytes at a place, which need not be a multiple of 8.
pub(super) fn bytes(run: u64, place: u64, len: usize) -> Vec<u8> {
    let skip = (place % WORD as u64) as usize;
    let words = (place / WORD as u64..).take((skip + len).div_ceil(WORD));
    words.flat_map(|place| word(run, place).to_le_bytes()).skip(skip).take(len).collect()
}

/// Bytes of a buffer that are not those of the place.
pub(super) fn wrong_bytes(buffer: &Buffer, run: u64, place: u64) -> u64 {
    let words = buffer.words().iter().zip(place / WORD as u64..);
    let wrong = words.map(|(found, place)| {
        let differs = u64::from_le(found.load(Ordering::Relaxed)) ^ word(run, place);
        differs.to_le_bytes().iter().filter(|byte| **byte != 0).count() as u64
    });
    wrong.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_of_places_and_runs_differ() {
        let words: BTreeSet<u64> = (0..3).flat_map(|run| (0..1000).map(move |place| word(run, place))).collect();
        assert_eq!(words.len(), 3000);
    }

    #[test]
    fn bytes_of_any_place_are_a_part_of_the_whole() {
        let whole = bytes(7, 0, 100);
        assert_eq!(whole[..8], word(7, 0).to_le_bytes());
        for (place, len) in [(0, 0), (3, 2), (8, 8), (13, 40), (99, 1)] {
            assert_eq!(bytes(7, place, len), whole[place as usize..place as usize + len]);
        }
    }
}
