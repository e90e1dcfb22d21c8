//! The bytes of replies.

use crate::option::ALLOCATION_ID;
use std::fmt;

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;

/// `NBD_REPLY_FLAG_DONE`: the last chunk of a reply.
const DONE: u16 = 1;

/// `NBD_REPLY_TYPE_...`.
mod chunk {
    pub(super) const NONE: u16 = 0;
    pub(super) const OFFSET_DATA: u16 = 1;
    pub(super) const OFFSET_HOLE: u16 = 2;
    pub(super) const BLOCK_STATUS: u16 = 5;
    pub(super) const ERROR: u16 = 1 << 15 | 1;
}

/// The error values of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum NbdError {
    /// `NBD_EPERM`.
    NotPermitted = 1,
    /// `NBD_EIO`.
    Io = 5,
    /// `NBD_EINVAL`.
    Invalid = 22,
    /// `NBD_ENOSPC`.
    NoSpace = 28,
    /// `NBD_EOVERFLOW`.
    Overflow = 75,
    /// `NBD_ENOTSUP`.
    NotSupported = 95,
    /// `NBD_ESHUTDOWN`.
    Shutdown = 108,
}

impl NbdError {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for NbdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPermitted => "EPERM",
            Self::Io => "EIO",
            Self::Invalid => "EINVAL",
            Self::NoSpace => "ENOSPC",
            Self::Overflow => "EOVERFLOW",
            Self::NotSupported => "ENOTSUP",
            Self::Shutdown => "ESHUTDOWN",
        })
    }
}

/// What is known about bytes of the disk, in one stretch (`NBD_STATE_...` of `base:allocation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockState {
    /// Bytes of the stretch, not 0.
    pub len: u32,
    /// Whether there is no memory for them yet.
    pub hole: bool,
    /// Whether they are zeros.
    pub zero: bool,
}

/// The most stretches in one reply.
pub const MOST_STATES: usize = 1 << 16;

/// Appends a simple reply. The bytes of a READ follow it.
pub fn simple(out: &mut Vec<u8>, cookie: u64, error: Option<NbdError>) {
    out.extend(SIMPLE_MAGIC.to_be_bytes());
    out.extend(error.map_or(0, NbdError::number).to_be_bytes());
    out.extend(cookie.to_be_bytes());
}

fn structured(out: &mut Vec<u8>, cookie: u64, is_last: bool, kind: u16, len: u32) {
    out.extend(STRUCTURED_MAGIC.to_be_bytes());
    out.extend((if is_last { DONE } else { 0 }).to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(len.to_be_bytes());
}

/// Appends the end of a structured reply without an error.
pub fn done(out: &mut Vec<u8>, cookie: u64) {
    structured(out, cookie, true, chunk::NONE, 0);
}

/// Appends the head of a chunk with `len` bytes of the disk, not 0, from `offset` on. The bytes follow it.
pub fn data(out: &mut Vec<u8>, cookie: u64, is_last: bool, offset: u64, len: u32) {
    structured(out, cookie, is_last, chunk::OFFSET_DATA, len.saturating_add(8));
    out.extend(offset.to_be_bytes());
}

/// Appends a chunk that says that `len` bytes, not 0, from `offset` on are zeros.
pub fn hole(out: &mut Vec<u8>, cookie: u64, is_last: bool, offset: u64, len: u32) {
    structured(out, cookie, is_last, chunk::OFFSET_HOLE, 12);
    out.extend(offset.to_be_bytes());
    out.extend(len.to_be_bytes());
}

/// Appends the end of a structured reply with an error, and a text for people of at most 4096 bytes.
pub fn error(out: &mut Vec<u8>, cookie: u64, error: NbdError, text: &str) {
    let text = text.as_bytes();
    let text = text.get(..text.len().min(4096)).unwrap_or_default();
    structured(out, cookie, true, chunk::ERROR, 6 + text.len() as u32);
    out.extend(error.number().to_be_bytes());
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text);
}

/// Appends a structured reply with the state of bytes of the disk: 1 to [`MOST_STATES`] stretches.
pub fn block_status(out: &mut Vec<u8>, cookie: u64, states: &[BlockState]) {
    structured(out, cookie, true, chunk::BLOCK_STATUS, 4 + 8 * states.len() as u32);
    out.extend(ALLOCATION_ID.to_be_bytes());
    for BlockState { len, hole, zero } in states {
        out.extend(len.to_be_bytes());
        out.extend((u32::from(*hole) | u32::from(*zero) << 1).to_be_bytes());
    }
}
