//! Parts of a message that is larger than a record may be: splitting and bounded reassembly.
//!
//! A record with [`FRAG_PART`] begins its payload with `offset: u32, total: u32`, both of the message's bytes;
//! at least one byte of the message follows. The part that ends at `total`, and only it, has [`FRAG_LAST`].
//!
//! No role uses this yet: gateways pass parts on like other records, and nobody makes or reads them.

mod reassembler;
mod split;

pub use reassembler::{Direction, Limits, PartCounters, PartError, Reassembler};
pub use split::{Piece, Split, split};

use crate::record::{FRAG_LAST, FRAG_PART, HEADER_LEN, Record, RecordHeader};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes that a part's payload begins with: offset and total.
pub const PREFIX_LEN: usize = size_of::<Prefix>();

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Prefix {
    offset: U32,
    total: U32,
}

const _: () = assert!(PREFIX_LEN == 8);

/// The part of a message in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Where in the message the part begins, in bytes.
    pub offset: u32,
    /// Bytes of the whole message.
    pub total: u32,
    /// The part's bytes of the message; never empty.
    pub data: &'a [u8],
}

impl<'a> Part<'a> {
    /// Reads a part, and checks it alone, without other parts.
    ///
    /// # Errors
    /// The error is [`PartError::NotAPart`] when the record is whole. It is [`PartError::TooShort`] when it has no
    /// prefix or no data. It is [`PartError::PastEnd`] when the data end after the total. It is
    /// [`PartError::WrongLast`] when the mark of the last part is missing or misplaced.
    pub fn parse(record: &Record<'a>) -> Result<Self, PartError> {
        let flags = record.header().is_frag();
        if flags & FRAG_PART == 0 {
            return Err(PartError::NotAPart);
        }
        let payload = record.bytes().get(HEADER_LEN..).unwrap_or(&[]);
        let (prefix, data) = Prefix::ref_from_prefix(payload).map_err(|_| PartError::TooShort)?;
        if data.is_empty() {
            return Err(PartError::TooShort);
        }
        let (offset, total) = (prefix.offset.get(), prefix.total.get());
        let end = u64::from(offset) + data.len() as u64;
        if end > u64::from(total) {
            return Err(PartError::PastEnd);
        }
        if (end == u64::from(total)) != (flags & FRAG_LAST != 0) {
            return Err(PartError::WrongLast);
        }
        Ok(Self { offset, total, data })
    }
}

/// Writes `piece` of `message` as a whole record at the start of `out`: a part, or a whole message without a prefix.
///
/// Type and ids are those of `header`, whose length and fragment bits do not matter. Returns the record's length;
/// `None` when it does not fit or `piece` is not inside `message`.
pub fn emit(header: &RecordHeader, message: &[u8], piece: Piece, out: &mut [u8]) -> Option<usize> {
    let total = u32::try_from(message.len()).ok()?;
    let end = piece.offset.checked_add(piece.len)?;
    let data = message.get(piece.offset as usize..end as usize)?;
    let prefix = Prefix { offset: U32::new(piece.offset), total: U32::new(total) };
    let prefix = if piece.is_frag == 0 { &[] } else { prefix.as_bytes() };
    let payload_len = u32::try_from(prefix.len() + data.len()).ok()?;
    let header = RecordHeader::new(header.msg_type(), header.slave_id(), header.req_id(), payload_len);
    let len = HEADER_LEN + prefix.len() + data.len();
    let (head, body) = out.get_mut(..len)?.split_at_mut(HEADER_LEN);
    let (before, body) = body.split_at_mut(prefix.len());
    head.copy_from_slice(header.with_frag(piece.is_frag).as_bytes());
    before.copy_from_slice(prefix);
    body.copy_from_slice(data);
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MsgType;

    // type 0x8001, slave 17, req 0x0001_0000_0000_002a, 11 bytes, last part; offset 4, total 7, "efg"
    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x01, 0x80, 0x11, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0x01, 0, 11, 0, 0, 0, 3, 4, 0, 0, 0, 7,
        0, 0, 0, b'e', b'f', b'g',
    ];

    fn with(at: usize, value: u8) -> Result<u32, PartError> {
        let mut bytes = LITERAL.to_vec();
        bytes[at] = value;
        Part::parse(&Record::first(&bytes).unwrap()).map(|part| part.offset)
    }

    #[test]
    fn a_literal_part_is_read_and_written() {
        let part = Part::parse(&Record::first(LITERAL).unwrap()).unwrap();
        assert_eq!(part, Part { offset: 4, total: 7, data: b"efg" });
        let header = RecordHeader::new(MsgType::PATTERN, 17, crate::record::req_id(1, 42), 0);
        let piece = Piece { offset: 4, len: 3, is_frag: FRAG_PART | FRAG_LAST };
        let mut out = [0; 40];
        assert_eq!(emit(&header, b"abcdefg", piece, &mut out), Some(LITERAL.len()));
        assert_eq!(&out[..LITERAL.len()], LITERAL);
        assert_eq!(emit(&header, b"abcdefg", piece, &mut out[..33]), None);
        assert_eq!(emit(&header, b"abcdef", piece, &mut out), None);
    }

    #[test]
    fn a_part_that_contradicts_itself_is_refused_by_name() {
        assert_eq!(with(22, 0), Err(PartError::NotAPart));
        assert_eq!(with(22, 2), Err(PartError::NotAPart));
        assert_eq!(with(22, 1), Err(PartError::WrongLast));
        assert_eq!(with(27, 8), Err(PartError::WrongLast));
        assert_eq!(with(27, 6), Err(PartError::PastEnd));
        assert_eq!(with(26, 0xff), Err(PartError::PastEnd));
        assert_eq!(with(18, 8), Err(PartError::TooShort));
        assert_eq!(with(18, 7), Err(PartError::TooShort));
    }

    #[test]
    fn reserved_fragment_bits_do_not_matter() {
        assert_eq!(with(22, 0x83), Ok(4));
    }
}
