//! HEARTBEAT_ACK: the gateway answers a heartbeat with its cookie and what the node must know.

use super::{
    Cookie, CookieFault, Heartbeat, LinkError, NodeId, Role, VERSION_MAJOR, VERSION_MINOR, emit_record, payload_of,
};
use crate::record::{HEADER_LEN, MsgType, Record};
use crate::tag::{Key, TAG_LEN};
use crate::{Scale, ScaleError, Shard};
use arrayvec::ArrayVec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const DRAINING: u8 = 1 << 0;
const DUPLICATE_ID: u8 = 1 << 1;
const REGISTERED: u8 = 1 << 2;
const NEWER_KEY: u8 = 1 << 3;
const LANES: u8 = 1 << 4;

/// The most shard ranges that one HEARTBEAT_ACK carries.
pub const MAX_RANGES: usize = 16;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    flags: u8,
    slave_bits: u8,
    gw_bits: u8,
    role: u8,
    mtu: U16,
    seq: U64,
    challenge: U64,
    cookie: [u8; Cookie::LEN],
    gateway_epoch: U64,
    hold_ns: U32,
    cookie_fault: u8,
    reserved_0: u8,
    range_count: U16,
    reserved_1: [u8; 16],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RangeLayout {
    first: U32,
    last: U32,
}

impl RangeLayout {
    pub(super) fn new(range: &ShardRange) -> Self {
        Self { first: U32::new(range.first), last: U32::new(range.last) }
    }
}

/// The flags of an ACK, which are the same in all versions.
pub(super) fn flags_of(ack: &HeartbeatAck) -> u8 {
    let flag = |set, bit| if set { bit } else { 0 };
    flag(ack.draining, DRAINING)
        | flag(ack.duplicate_id, DUPLICATE_ID)
        | flag(ack.registered, REGISTERED)
        | flag(ack.newer_key, NEWER_KEY)
        | flag(ack.lanes, LANES)
}

/// Consecutive shards, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardRange {
    /// The lowest shard.
    pub first: u32,
    /// The highest shard; never below `first`.
    pub last: u32,
}

impl ShardRange {
    /// Whether `shard` is one of these.
    #[inline]
    pub const fn contains(&self, shard: Shard) -> bool {
        self.first <= shard.0 && shard.0 <= self.last
    }
}

/// The gateway's answer to one heartbeat.
///
/// The record header addresses the node as its heartbeat did. Payload, little-endian, packed:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | tag |
/// | 16 | 1 | version major, 2 |
/// | 17 | 1 | version minor |
/// | 18 | 1 | flags: bit 0 DRAINING, bit 1 DUPLICATE_ID, bit 2 REGISTERED, bit 3 NEWER_KEY, bit 4 LANES |
/// | 19 | 1 | `slave_bits` |
/// | 20 | 1 | `gw_bits` |
/// | 21 | 1 | role of the node addressed: 1 slave, 2 master |
/// | 22 | 2 | `mtu` |
/// | 24 | 8 | `seq` |
/// | 32 | 8 | `challenge` |
/// | 40 | 16 | `cookie` |
/// | 56 | 8 | `gateway_epoch` |
/// | 64 | 4 | `hold_ns` |
/// | 68 | 1 | `cookie_fault`: 0 none, else see [`CookieFault`] |
/// | 69 | 1 | reserved, 0 |
/// | 70 | 2 | `range_count`, at most 16 |
/// | 72 | 16 | reserved, 0 |
/// | 88 | 8 each | shards served: first u32, last u32, both included |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAck {
    /// The node that is answered. The role stands in the payload, because slave 0 and master 0 have the same header.
    pub node: NodeId,
    /// The gateway is about to leave.
    pub draining: bool,
    /// The id is alive at another address, which keeps it.
    pub duplicate_id: bool,
    /// The node is a member and has a route.
    pub registered: bool,
    /// The gateway has a newer key than the one that signed the heartbeat and signs this answer.
    pub newer_key: bool,
    /// Cargo to the node leaves from the ports of lanes, and not from the port where the gateway listens: the gateway
    /// has a raw port there.
    pub lanes: bool,
    /// Bits of a slave id, as this gateway counts them.
    pub slave_bits: u8,
    /// Bits of a slave id inside one gateway, as this gateway counts them.
    pub gw_bits: u8,
    /// Largest IP packet that was acknowledged for this node, in bytes.
    pub mtu: u16,
    /// `seq` of the heartbeat that is answered.
    pub seq: u64,
    /// The challenge of the heartbeat that is answered.
    pub challenge: u64,
    /// The cookie to put into the next heartbeats: a fresh one in each answer.
    pub cookie: Cookie,
    /// Differs after each start of the gateway.
    pub gateway_epoch: u64,
    /// The longest time that a record may wait in the gateway, in nanoseconds.
    pub hold_ns: u32,
    /// Why the cookie of the heartbeat did not register the node, if that was the reason. The next heartbeat, with the
    /// cookie of this answer, will register it.
    pub cookie_fault: Option<CookieFault>,
    /// The shards that this gateway serves.
    pub ranges: ArrayVec<ShardRange, MAX_RANGES>,
}

impl HeartbeatAck {
    /// Bytes of the payload without ranges.
    pub const PAYLOAD_LEN: usize = size_of::<Layout>();

    /// Bytes of the whole record.
    pub fn record_len(&self) -> usize {
        HEADER_LEN + Self::PAYLOAD_LEN + self.ranges.len() * size_of::<RangeLayout>()
    }

    /// The gateway's scale, or why its bit counts are not a scale.
    ///
    /// # Errors
    /// The error is [`ScaleError`] when the record's `slave_bits` is above 24, or its `gw_bits` is above its
    /// `slave_bits`.
    pub const fn scale(&self) -> Result<Scale, ScaleError> {
        Scale::new(self.slave_bits, self.gw_bits)
    }

    /// Whether the gateway serves `shard`.
    pub fn serves(&self, shard: Shard) -> bool {
        self.ranges.iter().any(|range| range.contains(shard))
    }

    /// Reads a HEARTBEAT_ACK; does not verify its tag.
    ///
    /// [`LinkError::Layout`] also for more than [`MAX_RANGES`] ranges, for a range that ends before it begins,
    /// and for a header that does not address a node of that role.
    ///
    /// # Errors
    /// The error is [`LinkError::Layout`] when the record has another type or is a part, or its fields contradict each
    /// other. It is [`LinkError::Version`] for another major version. It is [`LinkError::Role`] for an unknown role. It
    /// is [`LinkError::TooShort`] when the payload ends before its fields or ranges do.
    pub fn parse(record: &Record<'_>) -> Result<Self, LinkError> {
        let payload = payload_of(record, MsgType::HEARTBEAT_ACK)?;
        let (fields, rest) = Layout::ref_from_prefix(payload).map_err(|_| LinkError::TooShort)?;
        let header = record.header();
        let node = match Role::from_wire(fields.role)? {
            role @ Role::Slave => NodeId { role, id: header.slave_id() },
            Role::Master => NodeId::master(header.master_id()),
        };
        let count = usize::from(fields.range_count.get());
        if !node.is_in(header) || count > MAX_RANGES {
            return Err(LinkError::Layout);
        }
        let (found, _) = <[RangeLayout]>::ref_from_prefix_with_elems(rest, count).map_err(|_| LinkError::TooShort)?;
        let mut ranges = ArrayVec::new();
        for range in found {
            let range = ShardRange { first: range.first.get(), last: range.last.get() };
            if range.first > range.last {
                return Err(LinkError::Layout);
            }
            ranges.push(range);
        }
        Ok(Self {
            node,
            draining: fields.flags & DRAINING != 0,
            duplicate_id: fields.flags & DUPLICATE_ID != 0,
            registered: fields.flags & REGISTERED != 0,
            newer_key: fields.flags & NEWER_KEY != 0,
            lanes: fields.flags & LANES != 0,
            slave_bits: fields.slave_bits,
            gw_bits: fields.gw_bits,
            mtu: fields.mtu.get(),
            seq: fields.seq.get(),
            challenge: fields.challenge.get(),
            cookie: Cookie(fields.cookie),
            gateway_epoch: fields.gateway_epoch.get(),
            hold_ns: fields.hold_ns.get(),
            cookie_fault: CookieFault::from_wire(fields.cookie_fault),
            ranges,
        })
    }

    /// Writes the whole record, signed if there is a key, and returns its length.
    ///
    /// `None` when it does not fit, or for a master's id of more than 16 bits.
    pub fn emit(&self, key: Option<&Key>, out: &mut [u8]) -> Option<usize> {
        let payload_len = u32::try_from(self.record_len() - HEADER_LEN).ok()?;
        let header = self.node.header(MsgType::HEARTBEAT_ACK, payload_len)?;
        let fields = Layout {
            tag: [0; TAG_LEN],
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
            flags: flags_of(self),
            slave_bits: self.slave_bits,
            gw_bits: self.gw_bits,
            role: self.node.role as u8,
            mtu: U16::new(self.mtu),
            seq: U64::new(self.seq),
            challenge: U64::new(self.challenge),
            cookie: self.cookie.0,
            gateway_epoch: U64::new(self.gateway_epoch),
            hold_ns: U32::new(self.hold_ns),
            cookie_fault: self.cookie_fault.map_or(0, |fault| fault as u8),
            reserved_0: 0,
            range_count: U16::new(u16::try_from(self.ranges.len()).ok()?),
            reserved_1: [0; 16],
        };
        let ranges: ArrayVec<RangeLayout, MAX_RANGES> = self.ranges.iter().map(RangeLayout::new).collect();
        emit_record(header, &fields, ranges.as_slice().as_bytes(), key, out)
    }
}

const _: () = assert!(HeartbeatAck::PAYLOAD_LEN == 88);
// A gateway that answers strangers must not send more than it received.
const _: () = assert!(HeartbeatAck::PAYLOAD_LEN + 5 * size_of::<RangeLayout>() <= Heartbeat::PAYLOAD_LEN);
// To a node that it heard a while ago, it must not send more than three times as much.
const _: () = assert!(HeartbeatAck::PAYLOAD_LEN + MAX_RANGES * size_of::<RangeLayout>() <= 3 * Heartbeat::PAYLOAD_LEN);

#[cfg(test)]
mod tests {
    use super::*;

    // unsigned
    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x02, 0x00, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x60, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x02, 0x00, 0x04, 0x11, 0x0d, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x11, 0x00, 0x00, 0xe0, 0x46, 0x1e, 0xa1, 0xc4, 0xef, 0xbe, 0xfe, 0xca, 0xce, 0xfa, 0xed, 0xfe, 0x00,
        0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, 0xe9, 0x50, 0xc3, 0x00,
        0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];

    const COOKIE: Cookie = Cookie(0x7766_5544_3322_1100_feed_face_cafe_beef_u128.to_le_bytes());

    fn repr() -> HeartbeatAck {
        HeartbeatAck {
            node: NodeId { role: Role::Slave, id: 17 },
            draining: false,
            duplicate_id: false,
            registered: true,
            newer_key: false,
            lanes: false,
            slave_bits: 17,
            gw_bits: 13,
            mtu: 1280,
            seq: 1,
            challenge: 0xc4a1_1e46_e000_0011,
            cookie: COOKIE,
            gateway_epoch: 0xe90c_0000_0000_0001,
            hold_ns: 50_000,
            cookie_fault: None,
            ranges: [ShardRange { first: 0, last: 0 }].into_iter().collect(),
        }
    }

    fn parse(bytes: &[u8]) -> Result<HeartbeatAck, LinkError> {
        HeartbeatAck::parse(&Record::first(bytes).unwrap())
    }

    fn with(at: usize, value: u8) -> Result<HeartbeatAck, LinkError> {
        let mut bytes = LITERAL.to_vec();
        bytes[at] = value;
        parse(&bytes)
    }

    #[test]
    fn a_literal_ack_is_read_and_written() {
        assert_eq!(parse(LITERAL), Ok(repr()));
        let mut out = [0xee; 120];
        assert_eq!(repr().emit(None, &mut out), Some(LITERAL.len()));
        assert_eq!(&out[..LITERAL.len()], LITERAL);
        assert_eq!(repr().emit(None, &mut out[..LITERAL.len() - 1]), None);
        assert_eq!(repr().scale(), Ok(Scale::default()));
        assert!(repr().serves(Shard(0)) && !repr().serves(Shard(1)));
    }

    #[test]
    fn slave_0_and_master_0_are_told_apart() {
        for role in [Role::Slave, Role::Master] {
            let ack = HeartbeatAck { node: NodeId { role, id: 0 }, ..repr() };
            let mut out = [0; 120];
            let len = ack.emit(None, &mut out).unwrap();
            assert_eq!(parse(&out[..len]).unwrap().node, ack.node);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(with(39, 1), Err(LinkError::Version(1)));
        assert_eq!(with(44, 0), Err(LinkError::Role(0)));
        assert_eq!(with(44, 2), Err(LinkError::Layout));
        assert_eq!(with(93, 17), Err(LinkError::Layout));
        assert_eq!(with(93, 2), Err(LinkError::TooShort));
        assert_eq!(with(93, 0).map(|ack| ack.ranges.len()), Ok(0));
        assert_eq!(with(111, 1), Err(LinkError::Layout));
        assert_eq!(with(115, 1).map(|ack| ack.serves(Shard(1))), Ok(true));
        assert_eq!(with(18, 87), Err(LinkError::TooShort));
    }

    #[test]
    fn each_fault_of_a_cookie_is_its_number_and_an_unknown_one_is_one() {
        let fault = |number| with(91, number).unwrap().cookie_fault;
        let known = [CookieFault::Unknown, CookieFault::Expired, CookieFault::OtherBoot];
        assert_eq!([0, 1, 2, 3].map(fault), [None, Some(known[0]), Some(known[1]), Some(known[2])]);
        assert_eq!(fault(0xff), Some(CookieFault::Unknown));
        for fault in known {
            let mut out = [0; 120];
            let len = HeartbeatAck { cookie_fault: Some(fault), ..repr() }.emit(None, &mut out).unwrap();
            assert_eq!(parse(&out[..len]).unwrap().cookie_fault, Some(fault));
        }
    }

    #[test]
    fn each_flag_is_its_bit() {
        let flags = |bits| with(41, bits).map(|a| [a.draining, a.duplicate_id, a.registered, a.newer_key, a.lanes]);
        let one = |at| Ok([0, 1, 2, 3, 4].map(|flag| flag == at));
        assert_eq!([0, 1, 2, 4, 8, 16].map(flags), [Ok([false; 5]), one(0), one(1), one(2), one(3), one(4)]);
        assert_eq!(flags(0xff), Ok([true; 5]));
        let mut out = [0; LITERAL.len()];
        for bits in [0, 1, 2, 4, 8, 16] {
            with(41, bits).unwrap().emit(None, &mut out);
            assert_eq!(out[41], bits);
        }
    }
}
