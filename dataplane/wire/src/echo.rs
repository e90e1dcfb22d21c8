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
//! Equal slaves and sequences below 2^40 aside, no two patterns begin alike, and no word of one pattern
//! equals its neighbours: a record of another slave, another sequence, or shifted bytes do not pass.

use crate::record::{HEADER_LEN, MsgType, Record, RecordHeader};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the shortest payload: stamp and sequence, no pattern.
pub const MIN_LEN: usize = size_of::<EchoHeader>();

/// Both odd, so that multiplying with them loses nothing.
const START: u64 = 0x9E37_79B9_7F4A_7C15;
const STEP: u64 = 0xD1B5_4A32_D192_ED03;

/// Words of one turn of the loops below: one turn is 64 bytes.
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

/// Writes a whole record at the start of `out`: `header`, stamp and sequence, and the pattern up to `header.payload_len()`.
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

#[inline]
const fn start(id: u32, seq: u64) -> u64 {
    (((id as u64) << 40) ^ seq).wrapping_mul(START)
}

/// The words of one turn, and what each grows by in a turn. Independent lanes, so that they become vectors.
#[inline]
fn lanes(id: u32, seq: u64) -> [u64; LANES] {
    let start = start(id, seq);
    core::array::from_fn(|lane| start.wrapping_add(STEP.wrapping_mul(lane as u64 + 1)))
}

#[inline]
fn advance(words: &mut [u64; LANES]) {
    for word in words {
        *word = word.wrapping_add(STEP.wrapping_mul(LANES as u64));
    }
}

/// Fills `out` with the pattern of this slave and sequence.
#[inline]
pub fn write_pattern(id: u32, seq: u64, out: &mut [u8]) {
    let mut words = lanes(id, seq);
    let (turns, rest) = out.as_chunks_mut::<{ 8 * LANES }>();
    for turn in turns {
        for (bytes, word) in turn.as_chunks_mut::<8>().0.iter_mut().zip(&words) {
            *bytes = word.to_le_bytes();
        }
        advance(&mut words);
    }
    for (bytes, word) in rest.chunks_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}

/// Whether `bytes` are the pattern of this slave and sequence.
#[inline]
pub fn check_pattern(id: u32, seq: u64, bytes: &[u8]) -> bool {
    let mut words = lanes(id, seq);
    let mut wrong = 0;
    let (turns, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    for turn in turns {
        for (bytes, word) in turn.as_chunks::<8>().0.iter().zip(&words) {
            wrong |= u64::from_le_bytes(*bytes) ^ word;
        }
        advance(&mut words);
    }
    wrong == 0 && rest.chunks(8).zip(words).all(|(bytes, word)| *bytes == word.to_le_bytes()[..bytes.len()])
}
