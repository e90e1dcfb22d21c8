//! Requests of clients, and the pieces into which they fall.

use crate::output::Part;
use crate::pool::Pooled;
use blockmap::{CopyStep, MapRefusal, Placed, WriteKind};
use frame::Time;
use nbd::reply;
use nbd::{NbdError, NbdOperation};

/// Where a reply goes: the connection, and what the client called the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) connection: u64,
    pub(crate) cookie: u64,
    /// Replies are structured.
    pub(crate) structured: bool,
}

/// Why a request fails, and what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) error: NbdError,
    pub(crate) text: &'static str,
}

impl Trouble {
    pub(crate) const LOST: Self = Self {
        error: NbdError::Io,
        text: "these blocks are lost with the slave that had them: write them again, or trim them",
    };
    pub(crate) const NO_ANSWER: Self =
        Self { error: NbdError::Io, text: "a slave did not answer, or refused: the log of the master says more" };
    pub(crate) const NO_MASTER: Self = Self { error: NbdError::Io, text: "no master serves this disk" };
    pub(crate) const NO_SPACE: Self =
        Self { error: NbdError::NoSpace, text: "no slave has memory to lend, or the quota of this disk is used up" };
    pub(crate) const CUT: Self =
        Self { error: NbdError::Shutdown, text: "the connection ended before the request was complete" };
    pub(crate) const NOT_FASTER: Self =
        Self { error: NbdError::NotSupported, text: "zeros for parts of blocks are written: that is not faster" };

    pub(crate) const fn of(refusal: MapRefusal) -> Self {
        match refusal {
            MapRefusal::Lost => Self::LOST,
            MapRefusal::NoSpace => Self::NO_SPACE,
            MapRefusal::NoServer => Self::NO_MASTER,
            MapRefusal::NoAnswer => Self::NO_ANSWER,
        }
    }
}

/// Bytes of a READ whose reply is in one piece.
#[derive(Debug)]
pub(crate) struct WholePart {
    pub(crate) at: u64,
    pub(crate) part: Part,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) to: ReplyTo,
    pub(crate) operation: NbdOperation,
    pub(crate) began: Time,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    /// Pieces under way, and one more until all were begun.
    pub(crate) left: u32,
    pub(crate) trouble: Option<Trouble>,
    /// What a READ in one piece has so far.
    pub(crate) whole: Vec<WholePart>,
    /// The last chunk of the reply was sent.
    pub(crate) is_closed: bool,
}

impl Request {
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }

    /// Whether the bytes of a READ leave all at once: the client wants it so, or replies are simple.
    pub(crate) fn is_whole(&self) -> bool {
        !self.to.structured || matches!(self.operation, NbdOperation::Read { whole: true })
    }

    /// The last parts of the reply.
    pub(crate) fn reply(mut self) -> Vec<Part> {
        let ReplyTo { cookie, structured, .. } = self.to;
        let mut head = Vec::with_capacity(32);
        match (self.trouble, self.operation) {
            (Some(trouble), _) if structured => {
                // Zeros of a READ may have left: an error says that nothing of the reply counts.
                reply::error(&mut head, cookie, trouble.error, trouble.text);
                vec![Part::head(&head)]
            }
            (Some(trouble), _) => {
                reply::simple(&mut head, cookie, Some(trouble.error));
                vec![Part::head(&head)]
            }
            (None, NbdOperation::Read { .. }) if self.is_whole() => {
                if structured {
                    reply::data(&mut head, cookie, true, self.offset, self.len);
                } else {
                    reply::simple(&mut head, cookie, None);
                }
                self.whole.sort_unstable_by_key(|part| part.at);
                let parts = std::mem::take(&mut self.whole).into_iter().map(|whole| whole.part);
                std::iter::once(Part::head(&head)).chain(parts).collect()
            }
            (None, NbdOperation::Read { .. }) => {
                if self.is_closed {
                    return Vec::new();
                }
                reply::done(&mut head, cookie);
                vec![Part::head(&head)]
            }
            (None, _) => {
                reply::simple(&mut head, cookie, None);
                vec![Part::head(&head)]
            }
        }
    }
}

/// What a piece does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    /// It reads bytes of an extent.
    Read {
        /// The extent.
        extent: u64,
        /// The first byte in the extent.
        offset: u32,
    },
    /// It writes; the map says where.
    Write(WriteKind, Option<Placed>),
    /// It copies from a recalled extent.
    CopyRead(CopyStep),
    /// It copies to another one.
    CopyWrite(CopyStep),
    /// It does nothing, and ends when what its request changed is kept.
    Keep,
}

/// A piece of a request, or of a move.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The request; of a move 0.
    pub(crate) request: u64,
    pub(crate) kind: PieceKind,
    /// The first byte of the disk.
    pub(crate) at: u64,
    pub(crate) len: u32,
    /// The buffer, while the piece waits.
    pub(crate) buffer: Option<Pooled>,
    /// How often it was sent again.
    pub(crate) repeats: u8,
}

impl Piece {
    /// Where the bytes of a write begin in its buffer: so that whole blocks have room.
    pub(crate) fn lead(&self) -> u32 {
        (self.at % u64::from(blockmap::BLOCK)) as u32
    }
}
