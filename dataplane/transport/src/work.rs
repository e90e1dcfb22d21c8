//! Requests to a queue pair and their results, with the terms of the verbs.

use std::fmt;

/// The number of a queue pair: 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Qpn(pub u32);

impl fmt::Display for Qpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}

/// The peer that packets go to and come from. It is a dense number that the caller chooses: a slave id, a master's id,
/// an index in a table of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathId(pub u32);

/// A part of a registered region of this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The region's key.
    pub key: u32,
    /// Virtual address.
    pub address: u64,
    /// Bytes.
    pub len: u32,
}

/// A place in a region of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Virtual address.
    pub address: u64,
    /// The region's rkey.
    pub key: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The local bytes go into the peer's next posted receive.
    Send,
    /// As `Send`, with immediate data.
    SendImm(u32),
    /// The local bytes go to a place at the peer.
    Write(Remote),
    /// As `Write`, with immediate data that completes the peer's next posted receive.
    WriteImm(Remote, u32),
    /// The local bytes are replaced by bytes of the peer.
    Read(Remote),
    /// The peer's word becomes `swap` if it equals `compare`; the 8 local bytes become its old value.
    CompareSwap {
        /// Where the word is; the address is a multiple of 8.
        remote: Remote,
        /// What it is compared with.
        compare: u64,
        /// Its new value.
        swap: u64,
    },
    /// `add` is added to the peer's word; the 8 local bytes become its old value.
    FetchAdd {
        /// Where the word is; the address is a multiple of 8.
        remote: Remote,
        /// What is added, modulo 2^64.
        add: u64,
    },
}

impl Op {
    /// Whether the peer answers with data. An ACK of a later request cannot replace such an answer.
    #[inline]
    pub(crate) const fn wants_data(self) -> bool {
        matches!(self, Self::Read(_) | Self::CompareSwap { .. } | Self::FetchAdd { .. })
    }

    #[inline]
    pub(crate) const fn is_atomic(self) -> bool {
        matches!(self, Self::CompareSwap { .. } | Self::FetchAdd { .. })
    }

    /// The kind that its completion has.
    pub const fn kind(self) -> CompletionKind {
        match self {
            Self::Send | Self::SendImm(_) => CompletionKind::Send,
            Self::Write(_) | Self::WriteImm(..) => CompletionKind::Write,
            Self::Read(_) => CompletionKind::Read,
            Self::CompareSwap { .. } => CompletionKind::CompareSwap,
            Self::FetchAdd { .. } => CompletionKind::FetchAdd,
        }
    }
}

/// One work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Comes back in the completion.
    pub id: u64,
    /// What to do.
    pub op: Op,
    /// The bytes of this end: read by SEND and WRITE, written by all others.
    pub local: Local,
}

/// A place for one incoming SEND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receive {
    /// Comes back in the completion.
    pub id: u64,
    /// Where the bytes go; the region must allow local writes.
    pub local: Local,
}

/// What was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompletionKind {
    /// A SEND that this end posted.
    Send,
    /// A WRITE that this end posted.
    Write,
    /// A READ that this end posted.
    Read,
    /// A COMPARE&SWAP that this end posted.
    CompareSwap,
    /// A FETCH&ADD that this end posted.
    FetchAdd,
    /// A posted receive: the peer's SEND.
    Receive,
    /// A posted receive: the immediate data of the peer's WRITE, whose bytes are where the peer said.
    ReceiveWriteImm,
}

/// The result of a work request, in the terms of the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Everything was done.
    Success,
    /// A SEND was longer than the posted receive.
    LocLenErr,
    /// The local buffer is not in a region, not permitted, or its memory failed.
    LocProtErr,
    /// The queue pair failed before this request's turn; a READ's local bytes may have changed in part.
    WrFlushErr,
    /// The peer cannot serve such a request.
    RemInvReqErr,
    /// Wrong rkey, outside of the peer's region, or not permitted there.
    RemAccessErr,
    /// The peer failed to do it.
    RemOpErr,
    /// The peer did not answer.
    RetryExcErr,
    /// The peer had no receive posted for too long.
    RnrRetryExcErr,
}

impl Status {
    /// The verbs' name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::LocLenErr => "LOC_LEN_ERR",
            Self::LocProtErr => "LOC_PROT_ERR",
            Self::WrFlushErr => "WR_FLUSH_ERR",
            Self::RemInvReqErr => "REM_INV_REQ_ERR",
            Self::RemAccessErr => "REM_ACCESS_ERR",
            Self::RemOpErr => "REM_OP_ERR",
            Self::RetryExcErr => "RETRY_EXC_ERR",
            Self::RnrRetryExcErr => "RNR_RETRY_EXC_ERR",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The end of one work request or posted receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The id of the work request or receive.
    pub id: u64,
    /// The queue pair.
    pub qpn: Qpn,
    /// What was completed.
    pub kind: CompletionKind,
    /// The result. If it is not [`Status::Success`], the other fields have no meaning.
    pub status: Status,
    /// Bytes that were transferred.
    pub len: u32,
    /// Immediate data that came with a receive.
    pub imm: Option<u32>,
}
