//! The head of a request, and what it asks for.

use crate::bytes::Bytes;
use crate::export::Export;
use crate::fault::NbdFault;
use crate::negotiation::Negotiated;
use crate::reply::NbdError;

const MAGIC: u32 = 0x2560_9513;

/// `NBD_CMD_...`.
mod kind {
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const DISC: u16 = 2;
    pub(super) const FLUSH: u16 = 3;
    pub(super) const TRIM: u16 = 4;
    pub(super) const CACHE: u16 = 5;
    pub(super) const WRITE_ZEROES: u16 = 6;
    pub(super) const BLOCK_STATUS: u16 = 7;
}

/// `NBD_CMD_FLAG_...`.
mod flag {
    pub(super) const FUA: u16 = 1;
    pub(super) const NO_HOLE: u16 = 1 << 1;
    pub(super) const DF: u16 = 1 << 2;
    pub(super) const REQ_ONE: u16 = 1 << 3;
    pub(super) const FAST_ZERO: u16 = 1 << 4;
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// `NBD_CMD_FLAG_...`.
    pub flags: u16,
    /// `NBD_CMD_...`.
    pub kind: u16,
    /// What the replies repeat.
    pub cookie: u64,
    /// The first byte of the disk that it is about.
    pub offset: u64,
    /// How many bytes of the disk it is about.
    pub len: u32,
}

/// What a request asks for, after it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NbdOperation {
    /// Bytes of the disk.
    Read {
        /// In one piece.
        whole: bool,
    },
    /// Bytes for the disk, which follow the head.
    Write,
    /// No bytes follow: zeros for the disk.
    WriteZeroes {
        /// Later writes there must have room.
        no_hole: bool,
        /// Only if that is faster than to write zeros.
        fast: bool,
    },
    /// The bytes are not needed any more.
    Trim,
    /// What was written must stay.
    Flush,
    /// The bytes will be needed soon.
    Cache,
    /// Which bytes are there.
    BlockStatus {
        /// One answer is enough.
        one: bool,
    },
    /// The client leaves.
    Disconnect,
}

impl RequestHead {
    /// Bytes of a head.
    pub const LEN: usize = 28;

    /// Reads a head.
    ///
    /// # Errors
    /// The bytes are no head, so that nobody knows where the next one begins.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, NbdFault> {
        let mut bytes = Bytes(bytes);
        let (Some(magic), Some(flags), Some(kind)) = (bytes.u32(), bytes.u16(), bytes.u16()) else {
            return Err(NbdFault::RequestMagic(0));
        };
        let (Some(cookie), Some(offset), Some(len)) = (bytes.u64(), bytes.u64(), bytes.u32()) else {
            return Err(NbdFault::RequestMagic(0));
        };
        if magic != MAGIC {
            return Err(NbdFault::RequestMagic(magic));
        }
        Ok(Self { flags, kind, cookie, offset, len })
    }

    /// Bytes that follow the head, also when the request is refused.
    pub const fn payload(&self) -> u32 {
        if self.kind == kind::WRITE { self.len } else { 0 }
    }

    /// What it asks for.
    ///
    /// # Errors
    /// What the client gets as answer, if the request cannot be done.
    pub fn check(&self, export: &Export, agreed: Negotiated) -> Result<NbdOperation, NbdError> {
        let Self { flags, kind, offset, len, .. } = *self;
        let has = |flag: u16| flags & flag != 0;
        let (operation, allowed) = match kind {
            kind::READ => (NbdOperation::Read { whole: has(flag::DF) }, if agreed.structured { flag::DF } else { 0 }),
            kind::WRITE => (NbdOperation::Write, 0),
            kind::DISC => return Ok(NbdOperation::Disconnect),
            kind::FLUSH => (NbdOperation::Flush, 0),
            kind::TRIM => (NbdOperation::Trim, 0),
            kind::CACHE => (NbdOperation::Cache, 0),
            kind::WRITE_ZEROES => {
                let (no_hole, fast) = (has(flag::NO_HOLE), has(flag::FAST_ZERO));
                (NbdOperation::WriteZeroes { no_hole, fast }, flag::NO_HOLE | flag::FAST_ZERO)
            }
            kind::BLOCK_STATUS if agreed.allocation => {
                (NbdOperation::BlockStatus { one: has(flag::REQ_ONE) }, flag::REQ_ONE)
            }
            _ => return Err(NbdError::Invalid),
        };
        if flags & !(allowed | flag::FUA) != 0 {
            return Err(NbdError::Invalid);
        }
        if operation == NbdOperation::Flush {
            return if offset == 0 && len == 0 { Ok(operation) } else { Err(NbdError::Invalid) };
        }
        let writes = matches!(operation, NbdOperation::Write | NbdOperation::WriteZeroes { .. } | NbdOperation::Trim);
        if writes && export.is_read_only {
            return Err(NbdError::NotPermitted);
        }
        let is_odd = len == 0 || !len.is_multiple_of(export.least) || !offset.is_multiple_of(export.least.into());
        if is_odd {
            return Err(NbdError::Invalid);
        }
        if offset.checked_add(len.into()).is_none_or(|end| end > export.size) {
            let is_full = matches!(operation, NbdOperation::Write | NbdOperation::WriteZeroes { .. });
            return Err(if is_full { NbdError::NoSpace } else { NbdError::Invalid });
        }
        match operation {
            NbdOperation::Read { .. } if len > export.most && agreed.structured => Err(NbdError::Overflow),
            NbdOperation::Read { .. } | NbdOperation::Write if len > export.most => Err(NbdError::Invalid),
            _ => Ok(operation),
        }
    }
}
