//! What clients ask for, and how it ends.

use std::fmt;

/// Two to this power bytes are an extent: 2 MiB.
pub const EXTENT_SHIFT: u32 = 21;

/// Bytes of an extent.
pub const EXTENT_LEN: u32 = 1 << EXTENT_SHIFT;

/// Extents of a unit of 64 MiB.
pub const EXTENTS_PER_UNIT: u32 = 1 << (wire::lease::UNIT_SHIFT - EXTENT_SHIFT);

/// A client of the master: an application. The master gives the number out, and gives it to nobody else later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u32);

impl ClientId {
    /// No client has this number.
    pub const NOBODY: Self = Self(u32::MAX);

    pub(crate) const fn new(place: u16, generation: u16) -> Self {
        Self(place as u32 | (generation as u32) << 16)
    }

    pub(crate) const fn place(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    pub(crate) const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.place(), self.generation())
    }
}

/// 2 MiB of remote memory that belong to one client. The number is not given to a later extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtentId(u64);

impl ExtentId {
    pub(crate) const fn new(place: u32, generation: u32) -> Self {
        Self(place as u64 | (generation as u64) << 32)
    }

    pub(crate) const fn place(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The number as applications have it.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The extent with the number that an application names. It need not exist.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// Local memory of a client, which requests read or write. The number is that of the transport's region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferKey(pub(crate) u32);

/// What to do with bytes of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageOp {
    /// They replace bytes of the local buffer.
    Read,
    /// Bytes of the local buffer replace them.
    Write,
}

/// Which of the two queue pairs of a slave a request takes. Requests of one urgency to one slave are done in their
/// order; those of different urgency are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// Somebody waits for it: a page fault.
    Demand,
    /// Nobody waits for this one: prefetch, write-back, copies.
    Bulk,
}

impl Urgency {
    pub(crate) const BOTH: [Self; 2] = [Self::Demand, Self::Bulk];

    /// The queue pair, as CONNECT orders them.
    pub(crate) const fn pair(self) -> usize {
        match self {
            Self::Demand => 0,
            Self::Bulk => 1,
        }
    }
}

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Whose it is.
    pub client: ClientId,
    /// Comes back in the completion.
    pub tag: u64,
    /// What to do.
    pub op: PageOp,
    /// How urgent it is.
    pub urgency: Urgency,
    /// With which extent.
    pub extent: ExtentId,
    /// Where in the extent, in bytes.
    pub offset: u32,
    /// How many bytes: 1 to 2 MiB, and not beyond the end of the extent.
    pub len: u32,
    /// The client's local memory.
    pub buffer: BufferKey,
    /// Where in it: an address of the region.
    pub address: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageStatus {
    /// All bytes were transferred.
    Done,
    /// The slave that had the extent is gone. The extent is lost.
    SlaveGone,
    /// The slave that had the extent has started again. The extent is lost.
    SlaveRestarted,
    /// The slave took the memory of the extent back. The extent is lost.
    Recalled,
    /// The slave ended the lease. The extent is lost.
    LeaseEnded,
    /// The slave refused the request in each of several sessions.
    Refused,
    /// The slave did not answer in several sessions. The extent may still be there.
    NoAnswer,
    /// The request was under way when its session ended, several times. It may have been done in part.
    Flushed,
    /// The client has no such extent, or has freed it.
    NoSuchExtent,
    /// The bytes are not in the extent: no bytes, or beyond its end.
    OutOfRange,
    /// The local buffer is not the client's, too small, or its memory failed.
    BadBuffer,
    /// The client has as many requests under way as it may.
    Quota,
    /// There is no such client, or it is being removed.
    NoSuchClient,
}

impl PageStatus {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::SlaveGone,
        Self::SlaveRestarted,
        Self::Recalled,
        Self::LeaseEnded,
        Self::Refused,
        Self::NoAnswer,
        Self::Flushed,
        Self::NoSuchExtent,
        Self::OutOfRange,
        Self::BadBuffer,
        Self::Quota,
        Self::NoSuchClient,
    ];

    /// A name in words of the protocol between applications and the master.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "DONE",
            Self::SlaveGone => "SLAVE_GONE",
            Self::SlaveRestarted => "SLAVE_RESTARTED",
            Self::Recalled => "RECALLED",
            Self::LeaseEnded => "LEASE_ENDED",
            Self::Refused => "REFUSED",
            Self::NoAnswer => "NO_ANSWER",
            Self::Flushed => "FLUSHED",
            Self::NoSuchExtent => "NO_SUCH_EXTENT",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::BadBuffer => "BAD_BUFFER",
            Self::Quota => "QUOTA",
            Self::NoSuchClient => "NO_SUCH_CLIENT",
        }
    }
}

impl fmt::Display for PageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The end of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCompletion {
    /// Whose it was.
    pub client: ClientId,
    /// The tag of the request.
    pub tag: u64,
    /// What it was to do.
    pub op: PageOp,
    /// How it ended.
    pub status: PageStatus,
    /// Bytes that were transferred: all, or 0.
    pub len: u32,
}

/// Why extents are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The slave is gone, or was silent for as long as a lease lasts.
    SlaveGone,
    /// The slave has started again.
    SlaveRestarted,
    /// The slave took the memory back.
    Recalled,
    /// The slave ended the lease, or knows it no more.
    LeaseEnded,
}

impl From<Loss> for PageStatus {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::SlaveGone => Self::SlaveGone,
            Loss::SlaveRestarted => Self::SlaveRestarted,
            Loss::Recalled => Self::Recalled,
            Loss::LeaseEnded => Self::LeaseEnded,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SlaveGone => "the slave is gone",
            Self::SlaveRestarted => "the slave has started again",
            Self::Recalled => "the slave took the memory back",
            Self::LeaseEnded => "the slave ended the lease",
        })
    }
}

const _: () = assert!(EXTENTS_PER_UNIT == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_status_has_a_name_of_its_own() {
        let names: BTreeSet<_> = PageStatus::ALL.iter().map(|status| status.name()).collect();
        assert_eq!(names.len(), PageStatus::ALL.len());
    }

    #[test]
    fn a_number_names_its_place_and_generation() {
        let (client, extent) = (ClientId::new(7, 9), ExtentId::new(5, 3));
        assert_eq!((client.place(), client.generation(), client.to_string()), (7, 9, "7.9".to_owned()));
        assert_eq!((extent.place(), extent.generation(), extent.get()), (5, 3, 0x3_0000_0005));
        assert_eq!(ExtentId::from_number(extent.get()), extent);
    }
}
