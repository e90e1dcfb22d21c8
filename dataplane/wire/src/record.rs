//! The GVM record: a 23-byte packed little-endian header and its payload.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First four bytes of every record, `58 4D 56 47` on the wire.
pub const MAGIC: u32 = 0x4756_4D58;

/// Bytes of a record header.
pub const HEADER_LEN: usize = 23;

/// `is_frag` bit 0: this record is part of a larger message.
pub const FRAG_PART: u8 = 1;
/// `is_frag` bit 1: this part is the last of its message.
pub const FRAG_LAST: u8 = 2;
/// `is_frag` bit 2, PUSH: somebody waits for this record. A gateway should flush what it holds for the destination.
pub const FRAG_PUSH: u8 = 4;

/// A message type: the `msg_type` field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgType(pub u16);

impl MsgType {
    /// Node to gateway, every heartbeat interval.
    pub const HEARTBEAT: Self = Self(0x0001);
    /// Gateway to node, for each HEARTBEAT.
    pub const HEARTBEAT_ACK: Self = Self(0x0002);
    /// Gateway to master: the members.
    pub const MEMBERS: Self = Self(0x0003);
    /// Master to slave: open, renew or change a lease.
    pub const CONNECT: Self = Self(0x0004);
    /// Slave to master: answer to CONNECT.
    pub const CONNECT_REPLY: Self = Self(0x0005);
    /// Either end: the lease ends.
    pub const DISCONNECT: Self = Self(0x0006);
    /// End to end, for measuring.
    pub const ECHO: Self = Self(0x0010);
    /// Answer to ECHO with the same payload.
    pub const ECHO_REPLY: Self = Self(0x0011);
    /// One packet of a reliable connection.
    pub const RC: Self = Self(0x0100);
    /// First of the types that belong to applications.
    pub const OPAQUE: Self = Self(0x8000);
    /// The test pattern of generators: an application's record with the payload of ECHO, see [`echo`](crate::echo).
    pub const PATTERN: Self = Self(0x8001);

    /// Whether records of this type end at a gateway (link control) instead of passing through it (cargo).
    #[inline]
    pub const fn is_link_control(self) -> bool {
        matches!(self, Self::HEARTBEAT | Self::HEARTBEAT_ACK | Self::MEMBERS)
    }
}

/// The record header as it lies in a datagram.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | `magic` |
/// | 4 | 2 | `msg_type` |
/// | 6 | 4 | `slave_id` |
/// | 10 | 8 | `req_id` |
/// | 18 | 4 | `payload_len` |
/// | 22 | 1 | `is_frag` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    magic: U32,
    msg_type: U16,
    slave_id: U32,
    req_id: U64,
    payload_len: U32,
    is_frag: u8,
}

const _: () = assert!(core::mem::size_of::<RecordHeader>() == HEADER_LEN);

/// Byte offsets of the header's fields, for code that is generated (the XDP program).
pub mod offset {
    use super::RecordHeader;
    use core::mem::offset_of;
    /// Offset of `magic`.
    pub const MAGIC: usize = offset_of!(RecordHeader, magic);
    /// Offset of `msg_type`.
    pub const MSG_TYPE: usize = offset_of!(RecordHeader, msg_type);
    /// Offset of `slave_id`.
    pub const SLAVE_ID: usize = offset_of!(RecordHeader, slave_id);
    /// Offset of `req_id`.
    pub const REQ_ID: usize = offset_of!(RecordHeader, req_id);
    /// Offset of `payload_len`.
    pub const PAYLOAD_LEN: usize = offset_of!(RecordHeader, payload_len);
    /// Offset of `is_frag`.
    pub const IS_FRAG: usize = offset_of!(RecordHeader, is_frag);
}

impl RecordHeader {
    /// A header of a whole (not fragmented) record.
    #[inline]
    pub const fn new(msg_type: MsgType, slave_id: u32, req_id: u64, payload_len: u32) -> Self {
        Self {
            magic: U32::new(MAGIC),
            msg_type: U16::new(msg_type.0),
            slave_id: U32::new(slave_id),
            req_id: U64::new(req_id),
            payload_len: U32::new(payload_len),
            is_frag: 0,
        }
    }

    /// The same header with `is_frag` set.
    #[inline]
    pub const fn with_frag(mut self, is_frag: u8) -> Self {
        self.is_frag = is_frag;
        self
    }

    /// The same header with another message type.
    #[inline]
    pub const fn with_msg_type(mut self, msg_type: MsgType) -> Self {
        self.msg_type = U16::new(msg_type.0);
        self
    }

    /// The magic as it stands in the bytes.
    #[inline]
    pub const fn magic(&self) -> u32 {
        self.magic.get()
    }

    /// The message type.
    #[inline]
    pub const fn msg_type(&self) -> MsgType {
        MsgType(self.msg_type.get())
    }

    /// The slave id as it stands in the bytes, not yet checked against a scale.
    #[inline]
    pub const fn slave_id(&self) -> u32 {
        self.slave_id.get()
    }

    /// The request id; its top 16 bits are the master's id.
    #[inline]
    pub const fn req_id(&self) -> u64 {
        self.req_id.get()
    }

    /// The master's id: the top 16 bits of the request id.
    #[inline]
    pub const fn master_id(&self) -> u16 {
        (self.req_id.get() >> 48) as u16
    }

    /// Bytes of payload that follow the header.
    #[inline]
    pub const fn payload_len(&self) -> u32 {
        self.payload_len.get()
    }

    /// Whether the record is part of a larger message. PUSH and reserved bits do not count.
    #[inline]
    pub const fn is_part(&self) -> bool {
        self.is_frag & (FRAG_PART | FRAG_LAST) != 0
    }

    /// The fragment bits: [`FRAG_PART`], [`FRAG_LAST`] and [`FRAG_PUSH`]. Others are reserved.
    #[inline]
    pub const fn is_frag(&self) -> u8 {
        self.is_frag
    }
}

/// A request id of a master: its id in the top 16 bits, then 48 bits of its own choice.
#[inline]
pub const fn req_id(master_id: u16, number: u64) -> u64 {
    ((master_id as u64) << 48) | (number & ((1 << 48) - 1))
}

/// Why the rest of a datagram is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadReason {
    /// Fewer bytes remain than a header has.
    Truncated,
    /// The first four bytes are not the magic.
    Magic,
    /// `payload_len` points past the end of the datagram.
    Length,
    /// The slave id is not in range of the scale.
    SlaveId,
}

/// One whole record in a datagram: header and payload are inside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    bytes: &'a [u8],
    header: &'a RecordHeader,
}

impl<'a> Record<'a> {
    /// The first record of `bytes`, if a whole one with the right magic is there. Its id is not checked.
    ///
    /// # Errors
    /// The error is [`BadReason::Truncated`] when the bytes are fewer than a header. It is [`BadReason::Magic`] when
    /// they begin with another magic. It is [`BadReason::Length`] when the payload ends after them.
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Self, BadReason> {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BadReason::Truncated);
        };
        let header: &RecordHeader = zerocopy::transmute_ref!(head);
        if header.magic() != MAGIC {
            return Err(BadReason::Magic);
        }
        match bytes.get(..HEADER_LEN + header.payload_len() as usize) {
            Some(bytes) => Ok(Self { bytes, header }),
            None => Err(BadReason::Length),
        }
    }

    /// The record that is all of `bytes`. Most datagrams of small requests are such a record. `None` if they are
    /// anything else.
    #[inline]
    pub fn only(bytes: &'a [u8]) -> Option<Self> {
        let header: &RecordHeader = zerocopy::transmute_ref!(bytes.first_chunk::<HEADER_LEN>()?);
        let whole = HEADER_LEN + header.payload_len() as usize == bytes.len();
        (whole && header.magic() == MAGIC).then_some(Self { bytes, header })
    }

    /// The header at the start of `bytes`, whatever its content.
    pub fn header_of(bytes: &[u8]) -> Option<&RecordHeader> {
        let head = bytes.first_chunk::<HEADER_LEN>()?;
        Some(zerocopy::transmute_ref!(head))
    }

    /// The header.
    #[inline]
    pub fn header(&self) -> &'a RecordHeader {
        self.header
    }

    /// Header and payload.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or(&[])
    }
}

/// Writes a whole record at the start of `out` and returns its length, or `None` when it does not fit.
///
/// `header.payload_len()` must be `payload.len()`, as in a header from [`RecordHeader::new`] with that length.
pub fn emit(header: &RecordHeader, payload: &[u8], out: &mut [u8]) -> Option<usize> {
    debug_assert_eq!(header.payload_len() as usize, payload.len());
    let len = HEADER_LEN + payload.len();
    let out = out.get_mut(..len)?;
    let (head, body) = out.split_at_mut(HEADER_LEN);
    head.copy_from_slice(header.as_bytes());
    body.copy_from_slice(payload);
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    // magic, type 0x8001, slave 17, req 0x0001_0000_0000_002a, 3 bytes, whole
    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x01, 0x80, 0x11, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0x01, 0, 3, 0, 0, 0, 0, b'a', b'b',
        b'c',
    ];

    #[test]
    fn a_literal_record_is_read() {
        let record = Record::first(LITERAL).unwrap();
        let header = record.header();
        assert_eq!(header.msg_type(), MsgType(0x8001));
        assert_eq!((header.slave_id(), header.master_id(), header.req_id() & 0xffff), (17, 1, 42));
        assert_eq!(record.payload(), b"abc");
        assert_eq!(record.bytes().len(), 26);
    }

    #[test]
    fn emit_writes_the_literal_record() {
        let mut out = [0xee; 40];
        let header = RecordHeader::new(MsgType(0x8001), 17, req_id(1, 42), 3);
        assert_eq!(emit(&header, b"abc", &mut out), Some(26));
        assert_eq!(&out[..26], LITERAL);
        assert_eq!(out[26], 0xee);
        assert_eq!(emit(&header, b"abc", &mut out[..25]), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Record::first(&LITERAL[..22]), Err(BadReason::Truncated));
        assert_eq!(Record::first(&LITERAL[..25]), Err(BadReason::Length));
        let mut bad = LITERAL.to_vec();
        bad[0] ^= 1;
        assert_eq!(Record::first(&bad), Err(BadReason::Magic));
        let mut lying = LITERAL.to_vec();
        lying[18..22].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Record::first(&lying), Err(BadReason::Length));
    }

    #[test]
    fn only_is_first_when_nothing_follows() {
        assert_eq!(Record::only(LITERAL), Record::first(LITERAL).ok());
        let mut bytes = LITERAL.to_vec();
        bytes.push(0);
        assert!(Record::first(&bytes).is_ok() && Record::only(&bytes).is_none());
        for bytes in [&LITERAL[..22], &LITERAL[..25], &[]] {
            assert_eq!(Record::only(bytes), None);
        }
        for at in [0, 3, 18, 21] {
            let mut bad = LITERAL.to_vec();
            bad[at] ^= 1;
            assert_eq!(Record::only(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn link_control_ends_at_gateways_and_cargo_does_not() {
        for t in [MsgType::HEARTBEAT, MsgType::HEARTBEAT_ACK, MsgType::MEMBERS] {
            assert!(t.is_link_control());
        }
        for t in [MsgType::CONNECT, MsgType::CONNECT_REPLY, MsgType::DISCONNECT, MsgType::ECHO, MsgType::RC, MsgType(0)]
        {
            assert!(!t.is_link_control());
        }
    }
}
