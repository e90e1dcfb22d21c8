//! CONNECT: a master opens a lease, renews it, wants more of it or keeps less.

use super::pair::PairLayout;
use super::{CONNECT_KEY, LeaseEnds, LeaseError, PairEnd, SECRET_LEN, UnitSet, VERSION_MAJOR, VERSION_MINOR, parts_of};
use crate::link::Cookie;
use crate::rc::PathMtu;
use crate::record::{HEADER_LEN, MsgType, Record};
use crate::signed::emit_record;
use crate::tag::{Key, TAG_LEN};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const RESUME: u8 = 1 << 0;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    key: u8,
    flags: u8,
    want: U32,
    slave_epoch: U64,
    master_epoch: U64,
    seq: U64,
    session: U64,
    cookie: [u8; Cookie::LEN],
    lock: [u8; SECRET_LEN],
    secret: [u8; SECRET_LEN],
    pairs: [PairLayout; 2],
    path_mtu: U16,
    keep_at: U16,
    keep_len: U16,
    reserved: U16,
}

/// The whole wish of a master towards one slave.
///
/// Payload, little-endian, packed:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | tag |
/// | 16 | 1 | version major, 1 |
/// | 17 | 1 | version minor |
/// | 18 | 1 | key: 0 is the connect key |
/// | 19 | 1 | flags: bit 0 RESUME |
/// | 20 | 4 | `want` |
/// | 24 | 8 | `slave_epoch` |
/// | 32 | 8 | `master_epoch` |
/// | 40 | 8 | `seq` |
/// | 48 | 8 | `session` |
/// | 56 | 16 | `cookie` |
/// | 72 | 16 | `lock` |
/// | 88 | 16 | `secret` |
/// | 104 | 24 | queue pairs: demand, bulk; see [`PairEnd`] |
/// | 128 | 2 | `path_mtu`: 256, 512, 1024, 2048 or 4096 |
/// | 130 | 2 | where the bitmap `keep` begins, 136 |
/// | 132 | 2 | bytes of `keep`, at most 512 |
/// | 134 | 2 | reserved, 0 |
/// | 136 | | `keep` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Who wants it of whom.
    pub ends: LeaseEnds,
    /// The boot of the slave that it is for.
    pub slave_epoch: u64,
    /// Differs after each start of the master: random.
    pub master_epoch: u64,
    /// Above 0. Grows with each CONNECT of one start of the master to this slave that is not a repetition.
    pub seq: u64,
    /// The session that it renews or changes; 0 to open one.
    pub session: u64,
    /// The cookie of the slave, when a session is to be opened.
    pub cookie: Cookie,
    /// Who shows the secret of this lock may resume the lease. It counts when a session is opened.
    pub lock: [u8; SECRET_LEN],
    /// The secret of the lease that is to be resumed.
    pub resume: Option<[u8; SECRET_LEN]>,
    /// The master's ends of the demand and the bulk queue pair. They count when a session is opened.
    pub pairs: [PairEnd; 2],
    /// The largest path MTU that the master's way allows.
    pub path_mtu: PathMtu,
    /// How many units the master wants in total.
    pub want: u32,
    /// The units that the master has and keeps. The slave releases all others.
    pub keep: UnitSet,
}

impl Connect {
    /// Bytes of the payload without `keep`.
    pub const PAYLOAD_LEN: usize = size_of::<Layout>();
    /// Bytes of the longest record.
    pub const MAX_LEN: usize = HEADER_LEN + Self::PAYLOAD_LEN + super::MAX_UNITS / 8;

    /// Reads a CONNECT; does not verify its tag.
    ///
    /// # Errors
    /// The error is [`LeaseError::Layout`] when the record has another type, is a part, or has a field outside its
    /// range. It is [`LeaseError::Version`] for another major version, and [`LeaseError::Key`] for another kind of key.
    /// It is [`LeaseError::TooShort`] when the payload ends before its fields do.
    pub fn parse(record: &Record<'_>) -> Result<Self, LeaseError> {
        let (ends, payload) = parts_of(record, MsgType::CONNECT)?;
        let (fields, _) = Layout::ref_from_prefix(payload).map_err(|_| LeaseError::TooShort)?;
        if fields.seq.get() == 0 {
            return Err(LeaseError::Layout);
        }
        Ok(Self {
            ends,
            slave_epoch: fields.slave_epoch.get(),
            master_epoch: fields.master_epoch.get(),
            seq: fields.seq.get(),
            session: fields.session.get(),
            cookie: Cookie(fields.cookie),
            lock: fields.lock,
            resume: (fields.flags & RESUME != 0).then_some(fields.secret),
            pairs: PairEnd::read_both(&fields.pairs)?,
            path_mtu: PathMtu::exactly(fields.path_mtu.get().into()).ok_or(LeaseError::Layout)?,
            want: fields.want.get(),
            keep: UnitSet::part(payload, Self::PAYLOAD_LEN, fields.keep_at, fields.keep_len)?,
        })
    }

    /// Writes the whole record, signed if there is a key, and returns its length; `None` when it does not fit.
    pub fn emit(&self, key: Option<&Key>, out: &mut [u8]) -> Option<usize> {
        let keep = self.keep.bitmap();
        let header = self.ends.header(MsgType::CONNECT, Self::PAYLOAD_LEN + keep.len())?;
        let fields = Layout {
            tag: [0; TAG_LEN],
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
            key: CONNECT_KEY,
            flags: if self.resume.is_some() { RESUME } else { 0 },
            want: U32::new(self.want),
            slave_epoch: U64::new(self.slave_epoch),
            master_epoch: U64::new(self.master_epoch),
            seq: U64::new(self.seq),
            session: U64::new(self.session),
            cookie: self.cookie.0,
            lock: self.lock,
            secret: self.resume.unwrap_or_default(),
            pairs: self.pairs.map(PairEnd::layout),
            // At most 4,096; the bitmap has at most 512 bytes.
            path_mtu: U16::new(self.path_mtu.bytes() as u16),
            keep_at: U16::new(Self::PAYLOAD_LEN as u16),
            keep_len: U16::new(keep.len() as u16),
            reserved: U16::ZERO,
        };
        emit_record(header, &fields, keep, key, out)
    }
}

const _: () = assert!(Connect::PAYLOAD_LEN == 136);
// It fits into the smallest datagram of an unproven MTU, also over IPv6.
const _: () = assert!(Connect::MAX_LEN <= (crate::UNPROVEN_MTU - crate::IPV6_UDP_LEN) as usize);
