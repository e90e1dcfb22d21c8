//! Link control: HEARTBEAT, HEARTBEAT_ACK and MEMBERS, the records that end at a gateway or begin there.
//!
//! Each payload begins with a [tag](crate::tag) and a version. Within a major version a payload only grows at its end,
//! with a new minor version: unknown trailing bytes are ignored. Another major version is refused with its number.
//! Parsing does not verify the tag.

mod ack;
mod cookie;
mod heartbeat;
mod members;
mod speed;
pub mod v1;

pub use ack::{HeartbeatAck, MAX_RANGES, ShardRange};
pub use cookie::{Cookie, CookieFault};
pub use heartbeat::Heartbeat;
pub use members::{Member, MemberState, Members, MembersBuilder, MembersHead};
pub use speed::SpeedClass;

use crate::SlaveId;
use crate::record::{MsgType, Record, RecordHeader, req_id};
use crate::signed::{self, Unexpected, emit_record};
use core::fmt;

/// The major version of link control that this crate reads and writes.
pub const VERSION_MAJOR: u8 = 2;

/// The minor version of link control that this crate writes.
pub const VERSION_MINOR: u8 = 0;

/// Why a record is not the expected link control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkError {
    /// The payload ends before its fields do.
    TooShort,
    /// The major version, given here, is not [`VERSION_MAJOR`].
    Version(u8),
    /// The role, given here, is neither slave nor master.
    Role(u8),
    /// The fields contradict each other, the record header, or their documented ranges.
    Layout,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("link control shorter than its fields"),
            Self::Version(major) => write!(
                f,
                "link control of version {major}, this gvm-dp speaks version {VERSION_MAJOR}: run the same major \
                 version on both ends"
            ),
            Self::Role(role) => write!(f, "link control with unknown role {role} (1 is slave, 2 is master)"),
            Self::Layout => f.write_str("link control whose fields contradict each other"),
        }
    }
}

impl core::error::Error for LinkError {}

/// The role of a node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Lends its memory.
    Slave = 1,
    /// Runs the virtual machine.
    Master = 2,
}

impl Role {
    pub(crate) fn from_wire(role: u8) -> Result<Self, LinkError> {
        match role {
            1 => Ok(Self::Slave),
            2 => Ok(Self::Master),
            other => Err(LinkError::Role(other)),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slave => "slave",
            Self::Master => "master",
        })
    }
}

/// The identity of a node: slaves and masters have separate numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Slave or master.
    pub role: Role,
    /// The slave id, or the master's id, which has 16 bits.
    pub id: u32,
}

impl NodeId {
    /// The node that is this slave.
    pub const fn slave(id: SlaveId) -> Self {
        Self { role: Role::Slave, id: id.get() }
    }

    /// The node that is this master.
    pub const fn master(id: u16) -> Self {
        Self { role: Role::Master, id: id as u32 }
    }

    /// The header of this node's link control: a slave stands in `slave_id`, a master in the top of `req_id`.
    ///
    /// `None` for a master's id of more than 16 bits.
    pub fn header(self, msg_type: MsgType, payload_len: u32) -> Option<RecordHeader> {
        let (slave_id, req_id) = match self.role {
            Role::Slave => (self.id, 0),
            Role::Master => (0, req_id(u16::try_from(self.id).ok()?, 0)),
        };
        Some(RecordHeader::new(msg_type, slave_id, req_id, payload_len))
    }

    /// Whether `header` is addressed like this node's link control.
    pub fn is_in(self, header: &RecordHeader) -> bool {
        self.header(header.msg_type(), header.payload_len())
            .is_some_and(|own| (own.slave_id(), own.req_id()) == (header.slave_id(), header.req_id()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.id)
    }
}

/// Checks the common parts of link control, and returns its payload.
fn payload_of<'a>(record: &Record<'a>, msg_type: MsgType) -> Result<&'a [u8], LinkError> {
    payload_of_version(record, msg_type, VERSION_MAJOR)
}

/// As `payload_of`, for link control of another version.
fn payload_of_version<'a>(record: &Record<'a>, msg_type: MsgType, version: u8) -> Result<&'a [u8], LinkError> {
    signed::payload_of(record, msg_type, version).map_err(|unexpected| match unexpected {
        Unexpected::Layout => LinkError::Layout,
        Unexpected::TooShort => LinkError::TooShort,
        Unexpected::Version(major) => LinkError::Version(major),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slaves_and_masters_stand_in_their_places_of_the_header() {
        let slave = NodeId { role: Role::Slave, id: 17 };
        let header = slave.header(MsgType::HEARTBEAT, 128).unwrap();
        assert_eq!((header.slave_id(), header.req_id(), header.payload_len()), (17, 0, 128));
        let master = NodeId::master(17);
        let header = master.header(MsgType::HEARTBEAT, 128).unwrap();
        assert_eq!((header.slave_id(), header.req_id()), (0, 17 << 48));
        assert!(master.is_in(&header) && !slave.is_in(&header));
        assert_eq!(NodeId { role: Role::Master, id: 65_536 }.header(MsgType::HEARTBEAT, 128), None);
    }

    #[test]
    fn another_version_is_named_with_the_remedy() {
        let text = alloc::format!("{}", LinkError::Version(1));
        assert!(text.contains("version 1") && text.contains("run the same major version"), "{text}");
    }
}
