//! MEMBERS: the gateway tells a master who is there, as differences or as a snapshot.

use super::{LinkError, NodeId, SpeedClass, VERSION_MAJOR, VERSION_MINOR, payload_of};
use crate::record::{HEADER_LEN, MsgType, Record, RecordHeader, req_id};
use crate::tag::{self, Key, TAG_LEN};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const SNAPSHOT: u8 = 1 << 0;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    tag: [u8; TAG_LEN],
    major: u8,
    minor: u8,
    flags: u8,
    reserved_0: u8,
    count: U16,
    entry_size: U16,
    challenge: U64,
    gateway_epoch: U64,
    from_generation: U64,
    to_generation: U64,
    reserved_1: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryLayout {
    id: U32,
    state: u8,
    speed_class: u8,
    mtu: U16,
    vcpus: U16,
    reserved: U16,
    domain: U32,
    epoch: U64,
    pages_total: U64,
    pages_free: U64,
}

/// The state of a slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MemberState {
    /// Its heartbeats arrive.
    Here = 1,
    /// Silent together with many others; the network may be the cause.
    Suspect = 2,
    /// Silent for too long: its memory is lost.
    Gone = 3,
}

impl MemberState {
    fn from_wire(state: u8) -> Result<Self, LinkError> {
        match state {
            1 => Ok(Self::Here),
            2 => Ok(Self::Suspect),
            3 => Ok(Self::Gone),
            _ => Err(LinkError::Layout),
        }
    }
}

/// One slave in a MEMBERS record.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | `id` |
/// | 4 | 1 | state: 1 here, 2 suspect, 3 gone |
/// | 5 | 1 | `speed_class` |
/// | 6 | 2 | `mtu` |
/// | 8 | 2 | `vcpus` |
/// | 10 | 2 | reserved, 0 |
/// | 12 | 4 | `domain` |
/// | 16 | 8 | `epoch` |
/// | 24 | 8 | `pages_total` |
/// | 32 | 8 | `pages_free` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The slave id, not checked against a scale.
    pub id: u32,
    /// The state of the slave.
    pub state: MemberState,
    /// Largest IP packet acknowledged for it, in bytes.
    pub mtu: u16,
    /// Virtual CPUs that it can run.
    pub vcpus: u16,
    /// How fast its link is.
    pub speed_class: SpeedClass,
    /// Its failure domain; zero is unknown.
    pub domain: u32,
    /// Its boot epoch.
    pub epoch: u64,
    /// Memory that it lends, in 4 KiB pages.
    pub pages_total: u64,
    /// The part of its memory that nobody has leased, in 4 KiB pages.
    pub pages_free: u64,
}

impl Member {
    /// Bytes of one entry, as this crate writes it.
    pub const LEN: usize = size_of::<EntryLayout>();

    fn read(entry: &EntryLayout) -> Result<Self, LinkError> {
        Ok(Self {
            id: entry.id.get(),
            state: MemberState::from_wire(entry.state)?,
            mtu: entry.mtu.get(),
            vcpus: entry.vcpus.get(),
            speed_class: SpeedClass(entry.speed_class),
            domain: entry.domain.get(),
            epoch: entry.epoch.get(),
            pages_total: entry.pages_total.get(),
            pages_free: entry.pages_free.get(),
        })
    }

    fn layout(&self) -> EntryLayout {
        EntryLayout {
            id: U32::new(self.id),
            state: self.state as u8,
            speed_class: self.speed_class.0,
            mtu: U16::new(self.mtu),
            vcpus: U16::new(self.vcpus),
            reserved: U16::ZERO,
            domain: U32::new(self.domain),
            epoch: U64::new(self.epoch),
            pages_total: U64::new(self.pages_total),
            pages_free: U64::new(self.pages_free),
        }
    }
}

/// The fixed fields of a MEMBERS record.
///
/// Payload, little-endian, packed:
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 16 | tag |
/// | 16 | 1 | version major, 2 |
/// | 17 | 1 | version minor |
/// | 18 | 1 | flags: bit 0 SNAPSHOT |
/// | 19 | 1 | reserved, 0 |
/// | 20 | 2 | count of entries |
/// | 22 | 2 | bytes of one entry, at least 40; bytes beyond 40 are ignored |
/// | 24 | 8 | `challenge` |
/// | 32 | 8 | `gateway_epoch` |
/// | 40 | 8 | `from_generation` |
/// | 48 | 8 | `to_generation` |
/// | 56 | 8 | reserved, 0 |
/// | 64 | | entries, see [`Member`] |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembersHead {
    /// The master that gets it; it stands in the record header.
    pub master: u16,
    /// Forget all members of this gateway before applying the entries.
    pub snapshot: bool,
    /// The challenge of the master's last accepted heartbeat.
    pub challenge: u64,
    /// Differs after each start of the gateway; generations of another epoch mean nothing.
    pub gateway_epoch: u64,
    /// The generation that the entries change.
    pub from_generation: u64,
    /// The generation that they lead to.
    pub to_generation: u64,
}

/// A MEMBERS record: its fixed fields, and a view of its entries.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    /// The fixed fields.
    pub head: MembersHead,
    entries: &'a [u8],
    entry_size: usize,
}

impl<'a> Members<'a> {
    /// Bytes of the payload without entries.
    pub const PAYLOAD_LEN: usize = size_of::<Layout>();

    /// Reads a MEMBERS record and checks every entry; does not verify its tag.
    ///
    /// [`LinkError::Layout`] also for an unknown state, and for a header that does not address a master.
    ///
    /// # Errors
    /// The error is [`LinkError::Layout`] when the record has another type or is a part, or says that an entry is
    /// shorter than a member. It is [`LinkError::Version`] for another major version. It is [`LinkError::TooShort`]
    /// when the payload ends before its fields or entries do.
    pub fn parse(record: &Record<'a>) -> Result<Self, LinkError> {
        let payload = payload_of(record, MsgType::MEMBERS)?;
        let (fields, rest) = Layout::ref_from_prefix(payload).map_err(|_| LinkError::TooShort)?;
        let master = record.header().master_id();
        let entry_size = usize::from(fields.entry_size.get());
        if !NodeId::master(master).is_in(record.header()) || entry_size < Member::LEN {
            return Err(LinkError::Layout);
        }
        // At most 65,535 * 65,535: does not overflow.
        let entries = rest.get(..usize::from(fields.count.get()) * entry_size).ok_or(LinkError::TooShort)?;
        for entry in entries.chunks_exact(entry_size) {
            let (entry, _) = EntryLayout::ref_from_prefix(entry).map_err(|_| LinkError::TooShort)?;
            MemberState::from_wire(entry.state)?;
        }
        let head = MembersHead {
            master,
            snapshot: fields.flags & SNAPSHOT != 0,
            challenge: fields.challenge.get(),
            gateway_epoch: fields.gateway_epoch.get(),
            from_generation: fields.from_generation.get(),
            to_generation: fields.to_generation.get(),
        };
        Ok(Self { head, entries, entry_size })
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.entries.len() / self.entry_size
    }

    /// Whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, in the order of the record.
    pub fn entries(&self) -> impl Iterator<Item = Member> + 'a {
        // `parse` checked that every entry is whole and its state known: none is filtered out here.
        self.entries.chunks_exact(self.entry_size).filter_map(|bytes| {
            let (entry, _) = EntryLayout::ref_from_prefix(bytes).ok()?;
            Member::read(entry).ok()
        })
    }
}

/// Writes the fixed fields of a record with this many entries.
pub(super) type WriteHead = fn(&MembersHead, u16, &mut [u8]);

/// Writes one MEMBERS record: entries until it is full, then [`finish`](Self::finish).
#[derive(Debug)]
pub struct MembersBuilder<'a> {
    out: &'a mut [u8],
    head: MembersHead,
    /// Bytes of the payload before the entries.
    head_len: usize,
    write_head: WriteHead,
    len: usize,
    count: u16,
}

impl<'a> MembersBuilder<'a> {
    /// Begins a record at the start of `out`; `None` when not even its fixed fields fit.
    ///
    /// The record will never be longer than `out`: cut `out` to what a datagram may hold.
    pub fn new(head: MembersHead, out: &'a mut [u8]) -> Option<Self> {
        Self::with_head(head, Members::PAYLOAD_LEN, write_head, out)
    }

    /// As `new`, with fixed fields of another version.
    pub(super) fn with_head(
        head: MembersHead,
        head_len: usize,
        write_head: WriteHead,
        out: &'a mut [u8],
    ) -> Option<Self> {
        let len = HEADER_LEN + head_len;
        (out.len() >= len).then_some(Self { out, head, head_len, write_head, len, count: 0 })
    }

    /// Appends an entry; returns whether there was room.
    pub fn push(&mut self, member: &Member) -> bool {
        let Some(count) = self.count.checked_add(1) else {
            return false;
        };
        let Some(room) = self.out.get_mut(self.len..self.len + Member::LEN) else {
            return false;
        };
        room.copy_from_slice(member.layout().as_bytes());
        self.len += Member::LEN;
        self.count = count;
        true
    }

    /// How many entries were appended.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether no entry was appended.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets the generation that the entries lead to, which may be known only when the record is full.
    pub fn set_to_generation(&mut self, to_generation: u64) {
        self.head.to_generation = to_generation;
    }

    /// Completes the record, signs it if there is a key, and returns its length.
    pub fn finish(self, key: Option<&Key>) -> usize {
        // At most 64 + 65,535 * 40 bytes of payload: fits in 32 bits.
        let payload_len = (self.len - HEADER_LEN) as u32;
        let header = RecordHeader::new(MsgType::MEMBERS, 0, req_id(self.head.master, 0), payload_len);
        // `new` checked that both fit.
        let (head, rest) = self.out.split_at_mut(HEADER_LEN);
        head.copy_from_slice(header.as_bytes());
        (self.write_head)(&self.head, self.count, &mut rest[..self.head_len]);
        if let Some(key) = key {
            tag::sign(key, &mut self.out[..self.len]);
        }
        self.len
    }
}

fn write_head(head: &MembersHead, count: u16, out: &mut [u8]) {
    let fields = Layout {
        tag: [0; TAG_LEN],
        major: VERSION_MAJOR,
        minor: VERSION_MINOR,
        flags: if head.snapshot { SNAPSHOT } else { 0 },
        reserved_0: 0,
        count: U16::new(count),
        entry_size: U16::new(Member::LEN as u16),
        challenge: U64::new(head.challenge),
        gateway_epoch: U64::new(head.gateway_epoch),
        from_generation: U64::new(head.from_generation),
        to_generation: U64::new(head.to_generation),
        reserved_1: U64::ZERO,
    };
    out.copy_from_slice(fields.as_bytes());
}

const _: () = assert!(Members::PAYLOAD_LEN == 64);
const _: () = assert!(Member::LEN == 40);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    // unsigned, to master 1: a snapshot with one member
    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x68, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x02, 0x00, 0x01, 0x00, 0x01, 0x00, 0x28, 0x00, 0x01, 0x00, 0x00, 0xe0, 0x46, 0x1e, 0xa1,
        0xc4, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x11, 0x00, 0x00,
        0x00, 0x02, 0x06, 0xdc, 0x05, 0x04, 0x00, 0x00, 0x00, 0xa1, 0xd0, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x58, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf4, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00,
    ];

    const HEAD: MembersHead = MembersHead {
        master: 1,
        snapshot: true,
        challenge: 0xc4a1_1e46_e000_0001,
        gateway_epoch: 9,
        from_generation: 0,
        to_generation: 7,
    };
    const MEMBER: Member = Member {
        id: 17,
        state: MemberState::Suspect,
        mtu: 1500,
        vcpus: 4,
        speed_class: SpeedClass(6),
        domain: 0xd0a1,
        epoch: 5,
        pages_total: 600,
        pages_free: 500,
    };

    fn parse(bytes: &[u8]) -> Result<(MembersHead, Vec<Member>), LinkError> {
        let members = Members::parse(&Record::first(bytes).unwrap())?;
        assert_eq!(members.len(), members.entries().count());
        Ok((members.head, members.entries().collect()))
    }

    fn with(at: usize, value: u8) -> Result<(MembersHead, Vec<Member>), LinkError> {
        let mut bytes = LITERAL.to_vec();
        bytes[at] = value;
        parse(&bytes)
    }

    #[test]
    fn a_literal_record_is_read_and_written() {
        assert_eq!(parse(LITERAL), Ok((HEAD, Vec::from([MEMBER]))));
        let mut out = [0xee; 140];
        let mut builder = MembersBuilder::new(HEAD, &mut out).unwrap();
        assert!(builder.push(&MEMBER));
        assert!(!builder.push(&MEMBER));
        assert_eq!(builder.len(), 1);
        let len = builder.finish(None);
        assert_eq!(&out[..len], LITERAL);
        assert_eq!(out[len], 0xee);
    }

    #[test]
    fn a_record_may_be_empty_and_its_generation_set_late() {
        let mut out = [0; 87];
        let mut builder = MembersBuilder::new(MembersHead { snapshot: false, ..HEAD }, &mut out).unwrap();
        builder.set_to_generation(8);
        assert!(builder.is_empty() && !builder.push(&MEMBER));
        let len = builder.finish(Some(&[3; 32]));
        assert!(crate::tag::verify(&[3; 32], &out[..len]));
        assert_eq!(parse(&out), Ok((MembersHead { snapshot: false, to_generation: 8, ..HEAD }, Vec::new())));
        assert!(MembersBuilder::new(HEAD, &mut out[..86]).is_none());
    }

    #[test]
    fn larger_entries_of_a_later_minor_version_are_read() {
        let mut bytes = LITERAL.to_vec();
        bytes.extend_from_slice(&[0xaa; 8]);
        bytes[18] += 8;
        bytes[45] = 48;
        assert_eq!(parse(&bytes), Ok((HEAD, Vec::from([MEMBER]))));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(with(39, 9).unwrap_err(), LinkError::Version(9));
        assert_eq!(with(45, 39).unwrap_err(), LinkError::Layout);
        assert_eq!(with(45, 41).unwrap_err(), LinkError::TooShort);
        assert_eq!(with(43, 2).unwrap_err(), LinkError::TooShort);
        assert_eq!(with(91, 0).unwrap_err(), LinkError::Layout);
        assert_eq!(with(91, 4).unwrap_err(), LinkError::Layout);
        assert_eq!(with(6, 1).unwrap_err(), LinkError::Layout);
        assert_eq!(with(10, 1).unwrap_err(), LinkError::Layout);
        assert_eq!(with(18, 63).unwrap_err(), LinkError::TooShort);
    }
}
