//! Leases: CONNECT, CONNECT_REPLY and DISCONNECT, by which a master gets memory of a slave and gives it back.
//!
//! They are cargo: gateways pass them on. Each payload begins with a [tag](crate::tag) and a version, as link control
//! does. `docs/paging.md` says what they mean over the life of a lease. Parsing does not verify the tag.

mod connect;
mod disconnect;
mod pair;
mod reply;
mod units;

pub use connect::Connect;
pub use disconnect::{Disconnect, LeaseEnd};
pub use pair::PairEnd;
pub use reply::{ConnectAnswer, ConnectReply, Grant, Recall, Refusal};
pub use units::{MAX_UNITS, UnitSet};

use crate::record::{MsgType, Record, RecordHeader, req_id};
use crate::signed::{self, Unexpected};
use core::fmt;

/// The major version of these messages that this crate reads and writes.
pub const VERSION_MAJOR: u8 = 1;

/// The minor version that this crate writes.
pub const VERSION_MINOR: u8 = 0;

/// A unit has two to this power bytes: 64 MiB.
pub const UNIT_SHIFT: u32 = 26;

/// The field `key`: the tag is made with the connect key. Other numbers are for keys of pairs.
pub const CONNECT_KEY: u8 = 0;

/// Where in the payload the field `key` is.
const KEY_AT: usize = crate::tag::TAG_LEN + 2;

/// Bytes of a secret, and of its lock.
pub const SECRET_LEN: usize = 16;

/// Why a record is not the expected message of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseError {
    /// The payload ends before its fields do.
    TooShort,
    /// The major version, given here, is not [`VERSION_MAJOR`].
    Version(u8),
    /// It is signed with a key, given here, that is not [`CONNECT_KEY`].
    Key(u8),
    /// The fields contradict each other or their documented ranges.
    Layout,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("a message of a lease shorter than its fields"),
            Self::Version(major) => write!(
                f,
                "a message of a lease of version {major}, this gvm-dp speaks version {VERSION_MAJOR}: run the same \
                 major version on both ends"
            ),
            Self::Key(key) => write!(f, "a message of a lease signed with an unknown kind of key, {key}"),
            Self::Layout => f.write_str("a message of a lease whose fields contradict each other"),
        }
    }
}

impl core::error::Error for LeaseError {}

/// The two ends of a lease, as the record header has them in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseEnds {
    /// The slave that lends, not checked against a scale.
    pub slave: u32,
    /// The master that borrows.
    pub master: u16,
}

impl LeaseEnds {
    fn header(self, msg_type: MsgType, payload_len: usize) -> Option<RecordHeader> {
        Some(RecordHeader::new(msg_type, self.slave, req_id(self.master, 0), u32::try_from(payload_len).ok()?))
    }

    /// The ends that a record header names; `None` if its request id says more than the master.
    pub fn of(header: &RecordHeader) -> Option<Self> {
        let ends = Self { slave: header.slave_id(), master: header.master_id() };
        (header.req_id() == req_id(ends.master, 0)).then_some(ends)
    }
}

/// The ends and the payload of a message of this type.
fn parts_of<'a>(record: &Record<'a>, msg_type: MsgType) -> Result<(LeaseEnds, &'a [u8]), LeaseError> {
    let payload = signed::payload_of(record, msg_type, VERSION_MAJOR).map_err(|unexpected| match unexpected {
        Unexpected::Layout => LeaseError::Layout,
        Unexpected::TooShort => LeaseError::TooShort,
        Unexpected::Version(major) => LeaseError::Version(major),
    })?;
    match payload.get(KEY_AT) {
        None => return Err(LeaseError::TooShort),
        Some(&CONNECT_KEY) => {}
        Some(&key) => return Err(LeaseError::Key(key)),
    }
    let ends = LeaseEnds::of(record.header()).ok_or(LeaseError::Layout)?;
    Ok((ends, payload))
}
