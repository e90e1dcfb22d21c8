//! The Internet checksum (RFC 1071).
//!
//! A partial sum is the one's complement sum of 16-bit words in the machine's byte order, not yet folded.
//! Partial sums add with `+`, as long as every part but the last has an even number of bytes.
//!
//! A folded sum is a partial sum in 16 bits, where 0xFFFF stands for zero. [`join`] makes the folded sum of the whole
//! from those of parts of any length, so that the bytes need not be read again.

use super::Ip4;
use core::num::NonZeroU16;

/// The partial sum of `bytes`. An odd last byte counts as if a zero followed it.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    // 64-bit words are added twice: the words themselves, whose carries are lost, and their high halves, whose sum has
    // no carry before 2^32 words. The sum of the low halves follows from both. Two plain additions become the best
    // vector code.
    let (words, rest) = bytes.as_chunks::<8>();
    let (mut all, mut high) = (0u64, 0u64);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        all = all.wrapping_add(word);
        high += word >> 32;
    }
    let low = all.wrapping_sub(high << 32);
    let (words, rest) = rest.as_chunks::<4>();
    let total = low + high + words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
    match *rest {
        [a] => total + u64::from(u16::from_ne_bytes([a, 0])),
        [a, b] => total + u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c] => total + u64::from(u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, 0])),
        _ => total,
    }
}

/// A partial sum in 16 bits, in the machine's byte order. Bytes that are all zero have 0xFFFF, like bytes whose sum is
/// 0xFFFF: one's complement does not distinguish them.
#[inline]
pub const fn folded(sum: u64) -> NonZeroU16 {
    match NonZeroU16::new(sixteen(sum)) {
        Some(sum) => sum,
        None => NonZeroU16::MAX,
    }
}

/// The folded sum of two consecutive parts. `first` is the folded sum of the first part, or 0 if there is none;
/// `is_odd` says whether its length is odd. `then` is any partial sum of the second part of up to 20 bits.
#[inline]
pub const fn join(first: u16, is_odd: bool, then: u32) -> u16 {
    // After an odd number of bytes every byte is in the other half of its word: that is a shift by 8, as the fold
    // brings back what leaves the 16 bits.
    let sum = first as u32 + (then << (8 * is_odd as u32));
    // Both halves are added in both halves: the upper one then has the carry of the lower one, which is its own carry.
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Folds 64 bits to 32, then to 16. Each fold may carry once more, so each is done twice.
#[inline]
const fn sixteen(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum of a partial sum: the complement of its 16-bit fold, as the number that stands big-endian in a header.
///
/// Over bytes that contain their own correct checksum it is 0.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    u16::from_be(!sixteen(sum))
}

/// The partial sum of one 16-bit number that stands big-endian in a header.
#[inline]
pub const fn word(value: u16) -> u64 {
    value.to_be() as u64
}

/// The partial sum of the pseudo-header that UDP and TCP put before their headers.
#[inline]
pub const fn pseudo_header(src: Ip4, dst: Ip4, protocol: u8, len: u16) -> u64 {
    u32::from_ne_bytes(src) as u64 + u32::from_ne_bytes(dst) as u64 + word(protocol as u16) + word(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The sum exactly as RFC 1071 describes it: big-endian words, and each carry is added at once.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn every_length_and_alignment_equals_the_naive_sum() {
        for fill in [0x00, 0xff, 0x5a] {
            let bytes: Vec<u8> = (0..280u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8 | fill).collect();
            for start in 0..64 {
                for len in 0..=200 {
                    let part = &bytes[start..start + len];
                    assert_eq!(fold(sum(part)), naive(part), "start {start}, length {len}");
                }
            }
        }
    }

    #[test]
    fn a_joined_sum_has_every_carry() {
        let numbers = [0, 1, 2, 0xfe, 0xff, 0x100, 0x7fff, 0x8000, 0xfffe, 0xffff];
        let more = [0x1_0000, 0x1_ffff, 0x5_5555, 0xf_0000, 0xf_fffe, 0xf_ffff];
        for first in numbers {
            for then in numbers.iter().chain(&more) {
                for is_odd in [false, true] {
                    let whole = u64::from(first) + (u64::from(*then) << if is_odd { 8 } else { 0 });
                    assert_eq!(join(first as u16, is_odd, *then), sixteen(whole), "{first:x} {then:x} {is_odd}");
                }
            }
        }
    }

    #[test]
    fn the_largest_sum_folds() {
        assert_eq!(fold(u64::MAX), 0);
        assert_eq!(fold(0), 0xffff);
        assert_eq!(fold(sum(&[0xff; 65_535])), naive(&[0xff; 65_535]));
    }

    #[test]
    fn parts_add_up() {
        let bytes: Vec<u8> = (0..99).collect();
        for cut in (0..99).step_by(2) {
            assert_eq!(fold(sum(&bytes[..cut]) + sum(&bytes[cut..])), naive(&bytes));
        }
        assert_eq!(fold(word(0x1234) + word(0xff00)), naive(&[0x12, 0x34, 0xff, 0x00]));
    }
}
