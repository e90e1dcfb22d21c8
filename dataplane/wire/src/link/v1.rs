//! Version 1 of link control, as a gateway reads and writes it for nodes that were not updated yet.
//!
//! It has no challenge, its cookie has 8 bytes and no time, and it knows no failure domain and no link speed. After
//! reading, these fields are zero; writing leaves them out. A node never uses version 1.

use super::ack::{RangeLayout, flags_of};
use super::{
    Cookie, Heartbeat, HeartbeatAck, LinkError, MAX_RANGES, Member, Members, MembersBuilder, MembersHead, NodeId, Role,
    SpeedClass, emit_record, heartbeat, payload_of_version,
};
use crate::record::{HEADER_LEN, MsgType, Record};
use crate::tag::{Key, TAG_LEN};
use arrayvec::ArrayVec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The flag of MEMBERS that tells the master to forget all members.
const SNAPSHOT: u8 = 1 << 0;

/// The major version that this module reads and writes.
pub const VERSION_MAJOR: u8 = 1;

/// Bytes of a cookie of version 1: the first bytes of a [`Cookie`], whose other bytes are 0.
const COOKIE_LEN: usize = 8;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeartbeatLayout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    role: u8,
    flags: u8,
    id: U32,
    boot_epoch: U64,
    seq: U64,
    cookie: [u8; COOKIE_LEN],
    members_generation: U64,
    members_epoch: U64,
    pages_total: U64,
    pages_free: U64,
    vcpus: U16,
    max_ip_packet: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AckLayout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    flags: u8,
    slave_bits: u8,
    gw_bits: u8,
    role: u8,
    mtu: U16,
    seq: U64,
    cookie: [u8; COOKIE_LEN],
    gateway_epoch: U64,
    hold_ns: U32,
    reserved: U16,
    range_count: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MembersLayout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    flags: u8,
    reserved: u8,
    count: U16,
    entry_size: U16,
    gateway_epoch: U64,
    from_generation: U64,
    to_generation: U64,
}

/// Bytes of the payload of a HEARTBEAT without padding.
pub const HEARTBEAT_LEN: usize = size_of::<HeartbeatLayout>();
/// Bytes of the payload of MEMBERS without entries.
pub(super) const MEMBERS_LEN: usize = size_of::<MembersLayout>();

const _: () = assert!(HEARTBEAT_LEN == 84 && size_of::<AckLayout>() == 56 && MEMBERS_LEN == 48);
// A gateway that answers strangers must not send more than it received.
const _: () = assert!(size_of::<AckLayout>() + size_of::<RangeLayout>() <= HEARTBEAT_LEN);

/// The cookie of version 1 with these bytes.
pub fn cookie(bytes: [u8; COOKIE_LEN]) -> Cookie {
    let mut cookie = Cookie::NONE;
    cookie.0[..COOKIE_LEN].copy_from_slice(&bytes);
    cookie
}

/// Reads a HEARTBEAT of version 1; does not verify its tag.
///
/// # Errors
/// The error is [`LinkError::Layout`] when the record has another type or is a part, or its header names another node
/// than the payload. It is [`LinkError::Version`] for another major version than 1. It is [`LinkError::Role`] for an
/// unknown role. It is [`LinkError::TooShort`] when the payload ends before its fields do.
pub fn parse_heartbeat(record: &Record<'_>) -> Result<Heartbeat, LinkError> {
    let payload = payload_of_version(record, MsgType::HEARTBEAT, VERSION_MAJOR)?;
    let (fields, _) = HeartbeatLayout::ref_from_prefix(payload).map_err(|_| LinkError::TooShort)?;
    let node = NodeId { role: Role::from_wire(fields.role)?, id: fields.id.get() };
    if !node.is_in(record.header()) {
        return Err(LinkError::Layout);
    }
    Ok(Heartbeat {
        node,
        fixed_port: fields.flags & heartbeat::FIXED_PORT != 0,
        padded: fields.flags & heartbeat::PADDED != 0,
        left: fields.flags & heartbeat::LEFT != 0,
        boot_epoch: fields.boot_epoch.get(),
        seq: fields.seq.get(),
        challenge: 0,
        cookie: cookie(fields.cookie),
        members_generation: fields.members_generation.get(),
        members_epoch: fields.members_epoch.get(),
        pages_total: fields.pages_total.get(),
        pages_free: fields.pages_free.get(),
        domain: 0,
        vcpus: fields.vcpus.get(),
        max_ip_packet: fields.max_ip_packet.get(),
        speed_class: SpeedClass::UNKNOWN,
    })
}

/// Bytes of the whole record of a HEARTBEAT_ACK of version 1.
pub fn ack_len(ack: &HeartbeatAck) -> usize {
    HEADER_LEN + size_of::<AckLayout>() + ack.ranges.len() * size_of::<RangeLayout>()
}

/// Writes a HEARTBEAT_ACK of version 1, signed if there is a key, and returns its length.
///
/// `None` when it does not fit, or for a master's id of more than 16 bits.
pub fn emit_ack(ack: &HeartbeatAck, key: Option<&Key>, out: &mut [u8]) -> Option<usize> {
    let payload_len = u32::try_from(ack_len(ack) - HEADER_LEN).ok()?;
    let header = ack.node.header(MsgType::HEARTBEAT_ACK, payload_len)?;
    let (cookie, _) = ack.cookie.0.split_first_chunk::<COOKIE_LEN>()?;
    let fields = AckLayout {
        tag: [0; TAG_LEN],
        major: VERSION_MAJOR,
        minor: 0,
        flags: flags_of(ack),
        slave_bits: ack.slave_bits,
        gw_bits: ack.gw_bits,
        role: ack.node.role as u8,
        mtu: U16::new(ack.mtu),
        seq: U64::new(ack.seq),
        cookie: *cookie,
        gateway_epoch: U64::new(ack.gateway_epoch),
        hold_ns: U32::new(ack.hold_ns),
        reserved: U16::ZERO,
        range_count: U16::new(u16::try_from(ack.ranges.len()).ok()?),
    };
    let ranges: ArrayVec<RangeLayout, MAX_RANGES> = ack.ranges.iter().map(RangeLayout::new).collect();
    emit_record(header, &fields, ranges.as_slice().as_bytes(), key, out)
}

impl<'a> MembersBuilder<'a> {
    /// Begins a record of version 1, whose entries are those of version 2; see [`MembersBuilder::new`].
    pub fn version_1(head: MembersHead, out: &'a mut [u8]) -> Option<Self> {
        Self::with_head(head, MEMBERS_LEN, write_members_head, out)
    }
}

fn write_members_head(head: &MembersHead, count: u16, out: &mut [u8]) {
    let fields = MembersLayout {
        tag: [0; TAG_LEN],
        major: VERSION_MAJOR,
        minor: 0,
        flags: if head.snapshot { SNAPSHOT } else { 0 },
        reserved: 0,
        count: U16::new(count),
        entry_size: U16::new(Member::LEN as u16),
        gateway_epoch: U64::new(head.gateway_epoch),
        from_generation: U64::new(head.from_generation),
        to_generation: U64::new(head.to_generation),
    };
    out.copy_from_slice(fields.as_bytes());
}

const _: () = assert!(MEMBERS_LEN < Members::PAYLOAD_LEN);
