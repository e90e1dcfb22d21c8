//! HEARTBEAT: a node tells its gateway that it is alive, and what it has.

use super::{Cookie, LinkError, NodeId, Role, SpeedClass, VERSION_MAJOR, VERSION_MINOR, emit_record, payload_of};
use crate::record::{HEADER_LEN, MsgType, Record};
use crate::tag::{Key, TAG_LEN};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(super) const FIXED_PORT: u8 = 1 << 0;
pub(super) const PADDED: u8 = 1 << 1;
pub(super) const LEFT: u8 = 1 << 2;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    role: u8,
    flags: u8,
    id: U32,
    boot_epoch: U64,
    seq: U64,
    challenge: U64,
    cookie: [u8; Cookie::LEN],
    members_generation: U64,
    members_epoch: U64,
    pages_total: U64,
    pages_free: U64,
    domain: U32,
    vcpus: U16,
    max_ip_packet: U16,
    speed_class: u8,
    reserved: [u8; 23],
}

/// A node's announcement of itself, once every heartbeat interval.
///
/// Payload, little-endian, packed:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | tag |
/// | 16 | 1 | version major, 2 |
/// | 17 | 1 | version minor |
/// | 18 | 1 | role: 1 slave, 2 master |
/// | 19 | 1 | flags: bit 0 FIXED_PORT, bit 1 PADDED, bit 2 LEFT |
/// | 20 | 4 | id |
/// | 24 | 8 | `boot_epoch` |
/// | 32 | 8 | `seq` |
/// | 40 | 8 | `challenge` |
/// | 48 | 16 | `cookie` |
/// | 64 | 8 | `members_generation` |
/// | 72 | 8 | `members_epoch` |
/// | 80 | 8 | `pages_total` |
/// | 88 | 8 | `pages_free` |
/// | 96 | 4 | `domain` |
/// | 100 | 2 | `vcpus` |
/// | 102 | 2 | `max_ip_packet` |
/// | 104 | 1 | `speed_class` |
/// | 105 | 23 | reserved, 0 |
/// | 128 | | end; zero padding may follow |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The sender; the record header says the same.
    pub node: NodeId,
    /// Send the answer to the source port of this heartbeat: there is a socket or a NAT behind it.
    pub fixed_port: bool,
    /// This datagram was padded to `max_ip_packet`, so that its arrival proves the size.
    pub padded: bool,
    /// The node heard that the gateway drains, and sends its cargo elsewhere, if it has another gateway.
    pub left: bool,
    /// Differs after each start of the node. Epochs have no order.
    pub boot_epoch: u64,
    /// Grows with each heartbeat of one boot.
    pub seq: u64,
    /// Drawn at random by each start of the node for each of its gateways; the gateway's messages repeat it.
    pub challenge: u64,
    /// The gateway's last cookie for this start of the node at this address; none until one was received.
    pub cookie: Cookie,
    /// Membership generation that a master has; zero in a slave's.
    pub members_generation: u64,
    /// Gateway epoch that `members_generation` belongs to; zero in a slave's.
    pub members_epoch: u64,
    /// Memory that the node lends, in 4 KiB pages.
    pub pages_total: u64,
    /// The part of its memory that nobody has leased, in 4 KiB pages.
    pub pages_free: u64,
    /// Failure domain: nodes of one domain fail together. Zero is unknown, and means a domain of its own.
    pub domain: u32,
    /// Virtual CPUs that the node can run.
    pub vcpus: u16,
    /// Largest IP packet that the node says it can take, in bytes.
    pub max_ip_packet: u16,
    /// How fast the node's link is.
    pub speed_class: SpeedClass,
}

impl Heartbeat {
    /// Bytes of the payload without padding.
    pub const PAYLOAD_LEN: usize = size_of::<Layout>();
    /// Bytes of the whole record without padding.
    pub const RECORD_LEN: usize = HEADER_LEN + Self::PAYLOAD_LEN;

    /// Reads a HEARTBEAT; does not verify its tag.
    ///
    /// [`LinkError::Layout`] also when the header names another node than the payload.
    ///
    /// # Errors
    /// The error is [`LinkError::Layout`] when the record has another type or is a part. It is [`LinkError::Version`]
    /// for another major version. It is [`LinkError::Role`] for an unknown role. It is [`LinkError::TooShort`] when the
    /// payload ends before its fields do.
    pub fn parse(record: &Record<'_>) -> Result<Self, LinkError> {
        let payload = payload_of(record, MsgType::HEARTBEAT)?;
        let (fields, _) = Layout::ref_from_prefix(payload).map_err(|_| LinkError::TooShort)?;
        let node = NodeId { role: Role::from_wire(fields.role)?, id: fields.id.get() };
        if !node.is_in(record.header()) {
            return Err(LinkError::Layout);
        }
        Ok(Self {
            node,
            fixed_port: fields.flags & FIXED_PORT != 0,
            padded: fields.flags & PADDED != 0,
            left: fields.flags & LEFT != 0,
            boot_epoch: fields.boot_epoch.get(),
            seq: fields.seq.get(),
            challenge: fields.challenge.get(),
            cookie: Cookie(fields.cookie),
            members_generation: fields.members_generation.get(),
            members_epoch: fields.members_epoch.get(),
            pages_total: fields.pages_total.get(),
            pages_free: fields.pages_free.get(),
            domain: fields.domain.get(),
            vcpus: fields.vcpus.get(),
            max_ip_packet: fields.max_ip_packet.get(),
            speed_class: SpeedClass(fields.speed_class),
        })
    }

    /// Writes the whole record without padding, signed if there is a key, and returns its length.
    ///
    /// `None` when it does not fit, or for a master's id of more than 16 bits.
    pub fn emit(&self, key: Option<&Key>, out: &mut [u8]) -> Option<usize> {
        self.emit_padded(key, Self::RECORD_LEN, out)
    }

    /// As [`emit`](Self::emit), with zeroes up to a record of `pad_to` bytes, header included.
    ///
    /// A `pad_to` below [`RECORD_LEN`](Self::RECORD_LEN) adds nothing. The caller sets the flag `padded`.
    pub fn emit_padded(&self, key: Option<&Key>, pad_to: usize, out: &mut [u8]) -> Option<usize> {
        let payload_len = u32::try_from(pad_to.max(Self::RECORD_LEN) - HEADER_LEN).ok()?;
        let header = self.node.header(MsgType::HEARTBEAT, payload_len)?;
        let flag = |set, bit| if set { bit } else { 0 };
        let fields = Layout {
            tag: [0; TAG_LEN],
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
            role: self.node.role as u8,
            flags: flag(self.fixed_port, FIXED_PORT) | flag(self.padded, PADDED) | flag(self.left, LEFT),
            id: U32::new(self.node.id),
            boot_epoch: U64::new(self.boot_epoch),
            seq: U64::new(self.seq),
            challenge: U64::new(self.challenge),
            cookie: self.cookie.0,
            members_generation: U64::new(self.members_generation),
            members_epoch: U64::new(self.members_epoch),
            pages_total: U64::new(self.pages_total),
            pages_free: U64::new(self.pages_free),
            domain: U32::new(self.domain),
            vcpus: U16::new(self.vcpus),
            max_ip_packet: U16::new(self.max_ip_packet),
            speed_class: self.speed_class.0,
            reserved: [0; 23],
        };
        emit_record(header, &fields, &[], key, out)
    }
}

const _: () = assert!(Heartbeat::PAYLOAD_LEN == 128);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x01, 0x00, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x02, 0x00, 0x01, 0x01, 0x11, 0x00, 0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22,
        0x11, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x11, 0x00, 0x00, 0xe0, 0x46, 0x1e, 0xa1, 0xc4, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa1, 0xd0, 0x00, 0x00, 0x04, 0x00, 0x28,
        0x23, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];

    fn repr() -> Heartbeat {
        Heartbeat {
            node: NodeId { role: Role::Slave, id: 17 },
            fixed_port: true,
            padded: false,
            left: false,
            boot_epoch: 0x1122_3344_5566_7788,
            seq: 1,
            challenge: 0xc4a1_1e46_e000_0011,
            cookie: Cookie::NONE,
            members_generation: 0,
            members_epoch: 0,
            pages_total: 3_145_728,
            pages_free: 3_145_728,
            domain: 0xd0a1,
            vcpus: 4,
            max_ip_packet: 9000,
            speed_class: SpeedClass(6),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Heartbeat, LinkError> {
        Heartbeat::parse(&Record::first(bytes).unwrap())
    }

    fn with(at: usize, value: u8) -> Result<Heartbeat, LinkError> {
        let mut bytes = LITERAL.to_vec();
        bytes[at] = value;
        parse(&bytes)
    }

    #[test]
    fn a_literal_heartbeat_is_read_and_written() {
        assert_eq!(parse(LITERAL), Ok(repr()));
        let mut out = [0xee; 160];
        assert_eq!(repr().emit(None, &mut out), Some(151));
        assert_eq!(&out[..151], LITERAL);
        assert_eq!(out[151], 0xee);
        assert_eq!(repr().emit(None, &mut out[..150]), None);
    }

    #[test]
    fn padding_is_zero_and_signed() {
        let mut out = [0xee; 300];
        let key = [7; 32];
        assert_eq!(repr().emit_padded(Some(&key), 256, &mut out), Some(256));
        assert!(out[151..256].iter().all(|byte| *byte == 0));
        assert_eq!(parse(&out), Ok(repr()));
        assert!(crate::tag::verify(&key, &out[..256]));
        out[255] = 1;
        assert!(!crate::tag::verify(&key, &out[..256]));
        assert_eq!(repr().emit_padded(None, 10, &mut out), Some(151));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(with(39, 1), Err(LinkError::Version(1)));
        assert_eq!(with(39, 3), Err(LinkError::Version(3)));
        assert_eq!(with(40, 9).map(|h| h.seq), Ok(1));
        assert_eq!(with(41, 3), Err(LinkError::Role(3)));
        assert_eq!(with(41, 2), Err(LinkError::Layout));
        assert_eq!(with(6, 18), Err(LinkError::Layout));
        assert_eq!(with(10, 1), Err(LinkError::Layout));
        assert_eq!(with(4, 2), Err(LinkError::Layout));
        assert_eq!(with(22, 1), Err(LinkError::Layout));
        assert_eq!(with(18, 127), Err(LinkError::TooShort));
        assert_eq!(with(18, 16), Err(LinkError::TooShort));
    }

    #[test]
    fn reserved_bytes_are_ignored() {
        for at in 128..151 {
            assert_eq!(with(at, 0xff), Ok(repr()), "byte {at}");
        }
        assert_eq!(with(127, 0xff).map(|h| h.speed_class), Ok(SpeedClass(0xff)));
    }

    #[test]
    fn each_flag_is_its_bit() {
        let flags = |bits| with(42, bits).map(|h| [h.fixed_port, h.padded, h.left]);
        let all: Vec<_> = [0, 1, 2, 4, 0xff].into_iter().map(flags).collect();
        let one = |at| Ok([0, 1, 2].map(|flag| flag == at));
        assert_eq!(all, [Ok([false; 3]), one(0), one(1), one(2), Ok([true; 3])]);
        let (mut out, mut again) = ([0; 151], [0; 151]);
        for heartbeat in all.iter().zip([0, 1, 2, 4, 7]).map(|(_, bits)| (bits, with(42, bits).unwrap())) {
            heartbeat.1.emit(None, &mut out);
            again.copy_from_slice(LITERAL);
            again[42] = heartbeat.0;
            assert_eq!(out, again);
        }
    }
}
