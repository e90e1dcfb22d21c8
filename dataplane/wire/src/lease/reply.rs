//! CONNECT_REPLY: the state of a lease, or why there is none.

use super::pair::PairLayout;
use super::{CONNECT_KEY, LeaseEnds, LeaseError, PairEnd, UnitSet, VERSION_MAJOR, VERSION_MINOR, parts_of};
use crate::link::Cookie;
use crate::rc::PathMtu;
use crate::record::{HEADER_LEN, MsgType, Record};
use crate::signed::emit_record;
use crate::tag::{Key, TAG_LEN};
use core::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The status of an answer that grants.
const GRANTED: u8 = 0;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    key: u8,
    status: u8,
    free: U32,
    slave_epoch: U64,
    master_epoch: U64,
    seq: U64,
    session: U64,
    cookie: [u8; Cookie::LEN],
    reply_seq: U64,
    recall: U32,
    recall_ms: U32,
    lease_ms: U32,
    rkey: U32,
    pairs: [PairLayout; 2],
    path_mtu: U16,
    units_at: U16,
    units_len: U16,
    reserved: U16,
}

/// Why a slave did not grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// To open a session needs a fresh cookie: the answer has one.
    Cookie,
    /// There is a lease of this master already. Resume it, or wait until it expires.
    Held,
    /// The slave has another boot epoch: it is in the answer.
    Epoch,
    /// There is no such session: the lease has ended, or was resumed.
    Session,
    /// There is nothing to resume, or the secret is wrong.
    Secret,
    /// No room for another lease, or no queue pairs.
    NoRoom,
    /// The slave stops lending.
    Leaving,
    /// A status of a later minor version.
    Other(u8),
}

impl Refusal {
    const fn status(self) -> u8 {
        match self {
            Self::Cookie => 1,
            Self::Held => 2,
            Self::Epoch => 3,
            Self::Session => 4,
            Self::Secret => 5,
            Self::NoRoom => 6,
            Self::Leaving => 7,
            Self::Other(status) => status,
        }
    }

    const fn from_wire(status: u8) -> Self {
        match status {
            1 => Self::Cookie,
            2 => Self::Held,
            3 => Self::Epoch,
            4 => Self::Session,
            5 => Self::Secret,
            6 => Self::NoRoom,
            7 => Self::Leaving,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie => f.write_str("the cookie is missing, too old or not its own"),
            Self::Held => f.write_str("it has a lease of an earlier start of this master, or of a second master"),
            Self::Epoch => f.write_str("it has restarted"),
            Self::Session => f.write_str("it knows no such session: the lease has ended"),
            Self::Secret => f.write_str("there is nothing to resume, or the secret is wrong"),
            Self::NoRoom => f.write_str("it has no room for another lease"),
            Self::Leaving => f.write_str("it stops lending"),
            Self::Other(status) => write!(f, "status {status}"),
        }
    }
}

/// Units that a slave wants back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recall {
    /// How many; 0 is no recall.
    pub units: u32,
    /// The time that is left, in milliseconds. After it the slave takes them, the highest indexes first.
    pub within_ms: u32,
}

/// A lease as the slave has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The session, not 0.
    pub session: u64,
    /// The key of its region.
    pub rkey: u32,
    /// The slave's ends of the demand and the bulk queue pair.
    pub pairs: [PairEnd; 2],
    /// The path MTU of both.
    pub path_mtu: PathMtu,
    /// All units of the lease.
    pub units: UnitSet,
    /// What the slave wants back.
    pub recall: Recall,
}

/// What a slave answers.
// It is on the stack for the time of one message: a box would allocate for each.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// The lease is there.
    Granted(Grant),
    /// It is not.
    Refused(Refusal),
}

/// The answer to a CONNECT; or its repetition by the slave itself, because of a recall.
///
/// Payload, little-endian, packed; the fields from `session` to `units`, other than `cookie`, `reply_seq` and
/// `lease_ms`, are 0 in a refusal:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | tag |
/// | 16 | 1 | version major, 1 |
/// | 17 | 1 | version minor |
/// | 18 | 1 | key: 0 is the connect key |
/// | 19 | 1 | status: 0 granted; else see [`Refusal`] |
/// | 20 | 4 | `free` |
/// | 24 | 8 | `slave_epoch` |
/// | 32 | 8 | `master_epoch` |
/// | 40 | 8 | `seq` |
/// | 48 | 8 | `session` |
/// | 56 | 16 | `cookie` |
/// | 72 | 8 | `reply_seq` |
/// | 80 | 4 | `recall`: units |
/// | 84 | 4 | `recall_ms` |
/// | 88 | 4 | `lease_ms` |
/// | 92 | 4 | `rkey` |
/// | 96 | 24 | queue pairs: demand, bulk; see [`PairEnd`] |
/// | 120 | 2 | `path_mtu` |
/// | 122 | 2 | where the bitmap `units` begins, 128 |
/// | 124 | 2 | bytes of `units`, at most 512 |
/// | 126 | 2 | reserved, 0 |
/// | 128 | | `units` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectReply {
    /// Who answers whom.
    pub ends: LeaseEnds,
    /// The slave's boot epoch.
    pub slave_epoch: u64,
    /// Of the CONNECT that is answered.
    pub master_epoch: u64,
    /// Of the CONNECT that is answered.
    pub seq: u64,
    /// Grows with each answer of one boot of the slave.
    pub reply_seq: u64,
    /// For the next CONNECT that opens a session; of [`Refusal::Held`], the lock of the lease that is there.
    pub cookie: Cookie,
    /// Units that the slave could grant to somebody now.
    pub free: u32,
    /// How long the lease lasts without renewal, in milliseconds; of [`Refusal::Held`], that of the other start.
    pub lease_ms: u32,
    /// What it answers.
    pub answer: ConnectAnswer,
}

impl ConnectReply {
    /// Bytes of the payload without `units`. Not more than a CONNECT has.
    pub const PAYLOAD_LEN: usize = size_of::<Layout>();
    /// Bytes of the longest record.
    pub const MAX_LEN: usize = HEADER_LEN + Self::PAYLOAD_LEN + super::MAX_UNITS / 8;

    /// Reads a CONNECT_REPLY; does not verify its tag.
    ///
    /// # Errors
    /// As [`Connect::parse`](super::Connect::parse).
    pub fn parse(record: &Record<'_>) -> Result<Self, LeaseError> {
        let (ends, payload) = parts_of(record, MsgType::CONNECT_REPLY)?;
        let (fields, _) = Layout::ref_from_prefix(payload).map_err(|_| LeaseError::TooShort)?;
        let units = UnitSet::part(payload, Self::PAYLOAD_LEN, fields.units_at, fields.units_len)?;
        let answer = match fields.status {
            GRANTED if fields.session.get() == 0 => return Err(LeaseError::Layout),
            GRANTED => ConnectAnswer::Granted(Grant {
                session: fields.session.get(),
                rkey: fields.rkey.get(),
                pairs: PairEnd::read_both(&fields.pairs)?,
                path_mtu: PathMtu::exactly(fields.path_mtu.get().into()).ok_or(LeaseError::Layout)?,
                units,
                recall: Recall { units: fields.recall.get(), within_ms: fields.recall_ms.get() },
            }),
            status => ConnectAnswer::Refused(Refusal::from_wire(status)),
        };
        Ok(Self {
            ends,
            slave_epoch: fields.slave_epoch.get(),
            master_epoch: fields.master_epoch.get(),
            seq: fields.seq.get(),
            reply_seq: fields.reply_seq.get(),
            cookie: Cookie(fields.cookie),
            free: fields.free.get(),
            lease_ms: fields.lease_ms.get(),
            answer,
        })
    }

    /// Writes the whole record, signed if there is a key, and returns its length; `None` when it does not fit.
    pub fn emit(&self, key: Option<&Key>, out: &mut [u8]) -> Option<usize> {
        let grant = match &self.answer {
            ConnectAnswer::Granted(grant) => Some(grant),
            ConnectAnswer::Refused(_) => None,
        };
        let status = match self.answer {
            ConnectAnswer::Granted(_) => GRANTED,
            ConnectAnswer::Refused(refusal) => refusal.status(),
        };
        let units = grant.map_or(&[][..], |grant| grant.units.bitmap());
        let recall = grant.map_or(Recall::default(), |grant| grant.recall);
        let header = self.ends.header(MsgType::CONNECT_REPLY, Self::PAYLOAD_LEN + units.len())?;
        let fields = Layout {
            tag: [0; TAG_LEN],
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
            key: CONNECT_KEY,
            status,
            free: U32::new(self.free),
            slave_epoch: U64::new(self.slave_epoch),
            master_epoch: U64::new(self.master_epoch),
            seq: U64::new(self.seq),
            session: U64::new(grant.map_or(0, |grant| grant.session)),
            cookie: self.cookie.0,
            reply_seq: U64::new(self.reply_seq),
            recall: U32::new(recall.units),
            recall_ms: U32::new(recall.within_ms),
            lease_ms: U32::new(self.lease_ms),
            rkey: U32::new(grant.map_or(0, |grant| grant.rkey)),
            pairs: grant.map_or([PairLayout::ZERO; 2], |grant| grant.pairs.map(PairEnd::layout)),
            // At most 4,096; the bitmap has at most 512 bytes.
            path_mtu: U16::new(grant.map_or(0, |grant| grant.path_mtu.bytes() as u16)),
            units_at: U16::new(Self::PAYLOAD_LEN as u16),
            units_len: U16::new(units.len() as u16),
            reserved: U16::ZERO,
        };
        emit_record(header, &fields, units, key, out)
    }
}

const _: () = assert!(ConnectReply::PAYLOAD_LEN == 128);
// A refusal is not longer than what it answers: nobody can be flooded through a slave.
const _: () = assert!(ConnectReply::PAYLOAD_LEN <= super::Connect::PAYLOAD_LEN);
