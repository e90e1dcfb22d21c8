//! ECHO, ECHO_REPLY and the test pattern: a time stamp, a sequence number, and bytes that can be checked.
//!
//! All three have the same payload; an ECHO_REPLY carries that of its ECHO unchanged, and
//! [`MsgType::PATTERN`] is the opaque application record that generators send.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `stamp`: the sender's clock, in nanoseconds |
//! | 8 | 8 | `sequence` |
//! | 16 | | pattern |
//!
//! The pattern is 64-bit little-endian words, the last one cut where the payload ends. With all arithmetic
//! modulo 2^64, word `i` is
//!
//! ```text
//! ((slave_id << 40) ^ sequence) * 0x9E3779B97F4A7C15 + (i + 1) * 0xD1B54A32D192ED03
//! ```
//!
//! While ids stay below 2^24 and sequences below 2^40, no two patterns begin alike, and the words of one pattern
//! all differ: bytes of another slave, of another sequence, or from another place do not pass.

use crate::record::{HEADER_LEN, MsgType, Record, RecordHeader};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the shortest payload: stamp and sequence, no pattern.
pub const MIN_LEN: usize = size_of::<EchoHeader>();

/// Both are odd, so that multiplication with them loses nothing.
const START: u64 = 0x9E37_79B9_7F4A_7C15;
const STEP: u64 = 0xD1B5_4A32_D192_ED03;

/// Words per iteration of the loops below, 64 bytes. They do not depend on each other, so the compiler makes vector
/// code.
const LANES: usize = 8;

/// Stamp and sequence, at the start of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EchoHeader {
    stamp: U64,
    sequence: U64,
}

const _: () = assert!(MIN_LEN == 16);

impl EchoHeader {
    /// A header with these values.
    #[inline]
    pub const fn new(stamp: u64, sequence: u64) -> Self {
        Self { stamp: U64::new(stamp), sequence: U64::new(sequence) }
    }

    /// The header and the pattern of a payload; `None` when it is shorter than [`MIN_LEN`].
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(payload).ok()
    }

    /// The sender's clock, in nanoseconds.
    #[inline]
    pub const fn stamp(&self) -> u64 {
        self.stamp.get()
    }

    /// The sequence number.
    #[inline]
    pub const fn sequence(&self) -> u64 {
        self.sequence.get()
    }
}

/// Whether a message type has the payload of this module.
#[inline]
pub const fn is_echo(msg_type: MsgType) -> bool {
    matches!(msg_type, MsgType::ECHO | MsgType::ECHO_REPLY | MsgType::PATTERN)
}

/// Writes a whole record at the start of `out`: `header`, stamp and sequence, and the pattern up to
/// `header.payload_len()`.
///
/// Returns its length, or `None` when it does not fit or its payload is shorter than [`MIN_LEN`].
#[inline]
pub fn emit(header: &RecordHeader, echo: &EchoHeader, out: &mut [u8]) -> Option<usize> {
    let len = HEADER_LEN.checked_add(header.payload_len() as usize)?;
    let out = out.get_mut(..len)?;
    let (head, body) = out.split_at_mut_checked(HEADER_LEN)?;
    let (fields, pattern) = body.split_at_mut_checked(MIN_LEN)?;
    head.copy_from_slice(header.as_bytes());
    fields.copy_from_slice(echo.as_bytes());
    write_pattern(header.slave_id(), echo.sequence(), pattern);
    Some(len)
}

/// The stamp and sequence of a record, if its pattern is that of its slave and sequence.
#[inline]
pub fn check<'a>(record: &Record<'a>) -> Option<&'a EchoHeader> {
    let (echo, pattern) = EchoHeader::ref_from_prefix(record.bytes().get(HEADER_LEN..)?).ok()?;
    check_pattern(record.header().slave_id(), echo.sequence(), pattern).then_some(echo)
}

/// Word `i` of the pattern that begins at `start`.
#[inline]
const fn word(start: u64, i: usize) -> u64 {
    start.wrapping_add(STEP.wrapping_mul(i as u64 + 1))
}

/// The start value for the words of the next iteration.
#[inline]
const fn next_turn(start: u64) -> u64 {
    start.wrapping_add(STEP.wrapping_mul(LANES as u64))
}

#[inline]
const fn start(id: u32, seq: u64) -> u64 {
    (((id as u64) << 40) ^ seq).wrapping_mul(START)
}

/// Fills `out` with the pattern of this slave and sequence.
#[inline]
pub fn write_pattern(id: u32, seq: u64, out: &mut [u8]) {
    let mut start = start(id, seq);
    let (turns, rest) = out.as_chunks_mut::<{ 8 * LANES }>();
    for turn in turns {
        for (lane, bytes) in turn.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *bytes = word(start, lane).to_le_bytes();
        }
        start = next_turn(start);
    }
    let (whole, rest) = rest.as_chunks_mut::<8>();
    let last = word(start, whole.len()).to_le_bytes();
    for (i, bytes) in whole.iter_mut().enumerate() {
        *bytes = word(start, i).to_le_bytes();
    }
    for (byte, value) in rest.iter_mut().zip(last) {
        *byte = value;
    }
}

/// Whether `bytes` are the pattern of this slave and sequence.
#[inline]
pub fn check_pattern(id: u32, seq: u64, bytes: &[u8]) -> bool {
    let mut start = start(id, seq);
    let mut wrong = 0;
    let (turns, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    for turn in turns {
        for (lane, bytes) in turn.as_chunks::<8>().0.iter().enumerate() {
            wrong |= u64::from_le_bytes(*bytes) ^ word(start, lane);
        }
        start = next_turn(start);
    }
    let (whole, rest) = rest.as_chunks::<8>();
    let last = word(start, whole.len()).to_le_bytes();
    for (i, bytes) in whole.iter().enumerate() {
        wrong |= u64::from_le_bytes(*bytes) ^ word(start, i);
    }
    wrong == 0 && rest.iter().zip(last).all(|(byte, value)| *byte == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    // ECHO of master 1 to slave 17, sequence 5, 13 bytes of pattern, as another program made it
    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x10, 0x00, 0x11, 0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x1d, 0x00, 0x00, 0x00, 0x00, 0x07, 0xca, 0x9a, 0x3b, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x6c, 0x59, 0x07, 0x4e, 0xd2, 0x0f, 0x08, 0xdb, 0x6f, 0x46, 0x9a, 0x1f, 0x05,
    ];

    #[test]
    fn a_literal_echo_is_written_and_checked() {
        let header = RecordHeader::new(MsgType::ECHO, 17, crate::record::req_id(1, 42), 29);
        let mut out = [0xee; 60];
        assert_eq!(emit(&header, &EchoHeader::new(1_000_000_007, 5), &mut out), Some(52));
        assert_eq!(&out[..52], LITERAL);
        assert_eq!(out[52], 0xee);
        assert_eq!(emit(&header, &EchoHeader::new(0, 5), &mut out[..51]), None);
        let echo = check(&Record::first(LITERAL).unwrap()).unwrap();
        assert_eq!((echo.stamp(), echo.sequence()), (1_000_000_007, 5));
    }

    #[test]
    fn a_payload_without_room_for_its_fields_is_none() {
        let short = RecordHeader::new(MsgType::ECHO, 17, 0, 15);
        let mut out = [0; 64];
        assert_eq!(emit(&short, &EchoHeader::new(0, 0), &mut out), None);
        crate::record::emit(&short, &[0; 15], &mut out).unwrap();
        assert_eq!(check(&Record::first(&out).unwrap()), None);
        assert!(EchoHeader::parse(&[0; 15]).is_none());
    }

    #[test]
    fn a_reply_of_another_slave_or_sequence_does_not_pass() {
        for at in [6, 31, 39, 51] {
            let mut bytes = LITERAL.to_vec();
            bytes[at] ^= 1;
            assert_eq!(check(&Record::first(&bytes).unwrap()), None, "byte {at}");
        }
        let mut reply = LITERAL.to_vec();
        reply[4] = 0x11;
        assert!(check(&Record::first(&reply).unwrap()).is_some());
    }

    #[test]
    fn every_length_is_the_documented_pattern_and_every_byte_is_checked() {
        for len in 0..300 {
            let mut bytes = vec![0; len + 1];
            write_pattern(131_071, u64::MAX, &mut bytes[..len]);
            assert_eq!(bytes[len], 0);
            bytes.truncate(len);
            for (i, chunk) in bytes.chunks(8).enumerate() {
                let word = ((131_071 << 40) ^ u64::MAX)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    .wrapping_add((i as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03));
                assert_eq!(chunk, &word.to_le_bytes()[..chunk.len()]);
            }
            assert!(check_pattern(131_071, u64::MAX, &bytes));
            for at in 0..len {
                bytes[at] ^= 0x80;
                assert!(!check_pattern(131_071, u64::MAX, &bytes), "length {len}, byte {at}");
                bytes[at] ^= 0x80;
            }
        }
    }
}
