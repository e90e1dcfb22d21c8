//! The Internet checksum (RFC 1071).
//!
//! A partial sum is the one's complement sum of 16-bit words in the machine's byte order, not yet folded.
//! Partial sums add with `+`, as long as every part but the last has an even number of bytes.

use super::Ip4;

/// Independent sums in the loop of [`sum`], so that it becomes vector code.
const LANES: usize = 4;

/// The partial sum of `bytes`. An odd last byte counts as if a zero followed it.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    // 32-bit words in 64-bit lanes: no carry to care for before 2^32 words.
    let mut low = [0u64; LANES];
    let mut high = [0u64; LANES];
    let (turns, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    for turn in turns {
        for (lane, word) in turn.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            low[lane] += word & 0xffff_ffff;
            high[lane] += word >> 32;
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    total += low.iter().sum::<u64>() + high.iter().sum::<u64>();
    match *rest {
        [a] => total + u64::from(u16::from_ne_bytes([a, 0])),
        [a, b] => total + u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c] => total + u64::from(u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, 0])),
        _ => total,
    }
}

/// The checksum of a partial sum: the complement of its 16-bit fold, as the number that stands big-endian in a header.
///
/// Over bytes that contain their own right checksum it is 0.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    // Each fold may carry once more, so each is done twice: any 64 bits become 32, then 16.
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    u16::from_be(!(sum as u16))
}

/// The partial sum of one 16-bit number that stands big-endian in a header.
#[inline]
pub const fn word(value: u16) -> u64 {
    value.to_be() as u64
}

/// The partial sum of the pseudo-header that UDP and TCP put before themselves.
#[inline]
pub const fn pseudo_header(src: Ip4, dst: Ip4, protocol: u8, len: u16) -> u64 {
    u32::from_ne_bytes(src) as u64 + u32::from_ne_bytes(dst) as u64 + word(protocol as u16) + word(len)
}
