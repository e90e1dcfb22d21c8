//! DISCONNECT: one end ends a lease, and the other confirms it.

use super::{CONNECT_KEY, LeaseEnds, LeaseError, VERSION_MAJOR, VERSION_MINOR, parts_of};
use crate::link::Role;
use crate::record::{HEADER_LEN, MsgType, Record};
use crate::signed::emit_record;
use crate::tag::{Key, TAG_LEN};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const ANSWER: u8 = 1 << 0;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    key: u8,
    flags: u8,
    role: u8,
    reason: u8,
    reserved: [u8; 2],
    slave_epoch: U64,
    master_epoch: U64,
    session: U64,
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEnd {
    /// The master needs it no more.
    Done,
    /// The slave stops lending.
    Leaving,
    /// A reason of a later minor version.
    Other(u8),
}

impl LeaseEnd {
    const fn number(self) -> u8 {
        match self {
            Self::Done => 1,
            Self::Leaving => 2,
            Self::Other(number) => number,
        }
    }

    const fn from_wire(number: u8) -> Self {
        match number {
            1 => Self::Done,
            2 => Self::Leaving,
            other => Self::Other(other),
        }
    }
}

/// The end of a lease.
///
/// Payload, little-endian, packed:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | tag |
/// | 16 | 1 | version major, 1 |
/// | 17 | 1 | version minor |
/// | 18 | 1 | key: 0 is the connect key |
/// | 19 | 1 | flags: bit 0 ANSWER |
/// | 20 | 1 | role of the sender: 1 slave, 2 master |
/// | 21 | 1 | reason: 1 the master needs it no more, 2 the slave stops lending |
/// | 22 | 2 | reserved, 0 |
/// | 24 | 8 | `slave_epoch` |
/// | 32 | 8 | `master_epoch` |
/// | 40 | 8 | `session` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The two ends of the lease.
    pub ends: LeaseEnds,
    /// Who says it. Without it, a record could be sent back to its sender.
    pub from: Role,
    /// It confirms a DISCONNECT. An answer is not answered.
    pub answer: bool,
    /// Why.
    pub reason: LeaseEnd,
    /// The boot of the slave.
    pub slave_epoch: u64,
    /// The start of the master.
    pub master_epoch: u64,
    /// The session that ends.
    pub session: u64,
}

impl Disconnect {
    /// Bytes of the payload.
    pub const PAYLOAD_LEN: usize = size_of::<Layout>();
    /// Bytes of the record.
    pub const LEN: usize = HEADER_LEN + Self::PAYLOAD_LEN;

    /// Reads a DISCONNECT; does not verify its tag.
    ///
    /// # Errors
    /// As [`Connect::parse`](super::Connect::parse).
    pub fn parse(record: &Record<'_>) -> Result<Self, LeaseError> {
        let (ends, payload) = parts_of(record, MsgType::DISCONNECT)?;
        let (fields, _) = Layout::ref_from_prefix(payload).map_err(|_| LeaseError::TooShort)?;
        Ok(Self {
            ends,
            from: Role::from_wire(fields.role).map_err(|_| LeaseError::Layout)?,
            answer: fields.flags & ANSWER != 0,
            reason: LeaseEnd::from_wire(fields.reason),
            slave_epoch: fields.slave_epoch.get(),
            master_epoch: fields.master_epoch.get(),
            session: fields.session.get(),
        })
    }

    /// Writes the whole record, signed if there is a key, and returns its length; `None` when it does not fit.
    pub fn emit(&self, key: Option<&Key>, out: &mut [u8]) -> Option<usize> {
        let header = self.ends.header(MsgType::DISCONNECT, Self::PAYLOAD_LEN)?;
        let fields = Layout {
            tag: [0; TAG_LEN],
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
            key: CONNECT_KEY,
            flags: if self.answer { ANSWER } else { 0 },
            role: self.from as u8,
            reason: self.reason.number(),
            reserved: [0; 2],
            slave_epoch: U64::new(self.slave_epoch),
            master_epoch: U64::new(self.master_epoch),
            session: U64::new(self.session),
        };
        emit_record(header, &fields, &[], key, out)
    }
}

const _: () = assert!(Disconnect::PAYLOAD_LEN == 48);
