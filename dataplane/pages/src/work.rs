//! What an application asks for, and how it ends.

use crate::buffer::Buffer;
use channel::{ChannelStatus, Lane, Transfer};

/// 2 MiB of remote memory that the server allocated for this connection.
///
/// It is a number. A wrong one reaches nothing of anybody else: the request ends with NO_SUCH_EXTENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent(u64);

impl Extent {
    /// The extent with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A request that has not been posted yet, with its buffer.
#[derive(Debug)]
pub struct Work {
    pub(crate) extent: Extent,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    /// Bytes of the buffer before those of the request.
    pub(crate) skip: u32,
    pub(crate) buffer: Buffer,
    pub(crate) transfer: Transfer,
    pub(crate) lane: Lane,
    pub(crate) tag: u64,
}

impl Work {
    const fn new(transfer: Transfer, extent: Extent, offset: u32, buffer: Buffer) -> Self {
        let len = if buffer.len() > u32::MAX as usize { u32::MAX } else { buffer.len() as u32 };
        Self { extent, offset, len, skip: 0, buffer, transfer, lane: Lane::Demand, tag: 0 }
    }

    /// Bytes of an extent, from `offset` on, replace the bytes of the buffer. The offset is a multiple of 8.
    pub const fn read(extent: Extent, offset: u32, buffer: Buffer) -> Self {
        Self::new(Transfer::Read, extent, offset, buffer)
    }

    /// The bytes of the buffer replace bytes of an extent, from `offset` on. The offset is a multiple of 8.
    pub const fn write(extent: Extent, offset: u32, buffer: Buffer) -> Self {
        Self::new(Transfer::Write, extent, offset, buffer)
    }

    /// Only so many bytes, a multiple of 8, from the begin of the buffer on. At most all of them.
    #[must_use]
    pub fn with_len(mut self, len: u32) -> Self {
        self.len = self.len.min(len);
        self
    }

    /// Only so many bytes, a multiple of 8, from this byte of the buffer on, a multiple of 8. At most those that the
    /// buffer has there.
    #[must_use]
    pub fn with_part(mut self, at: u32, len: u32) -> Self {
        let most = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.skip = at.min(most);
        self.len = len.min(most - self.skip);
        self
    }

    /// With a number that its [`Ended`] has, too.
    #[must_use]
    pub const fn tagged(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// In this lane. Without it: [`Lane::Demand`].
    #[must_use]
    pub const fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Its number.
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// The extent.
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// Takes its buffer back.
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

/// A request that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The number that the request had.
    pub tag: u64,
    /// The extent.
    pub extent: Extent,
    /// How it ended. After a READ that did not end with DONE the bytes of the buffer are undefined.
    pub status: ChannelStatus,
    /// Bytes that were transferred.
    pub len: u32,
    /// The buffer of the request.
    pub buffer: Buffer,
}
