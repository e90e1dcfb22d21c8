//! The responder: serves requests in order, each once, and answers repeated ones again.
//!
//! READs and atomic operations stay in a response cache (`replays`) as long as the peer may ask for them again: as many
//! as it may have outstanding. First the packets of pending answers are sent, in the order of their PSNs, and then one
//! ACK or NAK for everything since. Which of the two it is, and its PSN, is decided when it leaves, so that packets
//! that came in between count.

mod replays;
mod reply;
mod request;

use crate::ReadyToReceive;
use crate::slab::{Chain, NONE};
use wire::rc::{Kind, NakCode, Psn, RnrTimer};

/// What the next packet of the peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The beginning of a request.
    Beginning,
    /// More of a SEND.
    Send,
    /// More of a WRITE.
    Write,
}

/// A READ or an atomic operation that was done, and may be asked for again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replay {
    pub(crate) what: What,
    /// The address that it read, and the rkey of the request.
    pub(crate) address: u64,
    pub(crate) rkey: u32,
    pub(crate) len: u32,
    pub(crate) psn: Psn,
    pub(crate) packets: u32,
    /// The number of complete messages when it was done.
    pub(crate) msn: u32,
    /// Packets `from .. until` are asked for; those before `next` were sent.
    pub(crate) from: u32,
    pub(crate) next: u32,
    pub(crate) until: u32,
    /// The packets before this one were sent at least once; the rest of `packets` is pending.
    pub(crate) sent: u32,
}

/// The content of a [`Replay`]'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Bytes of a region, read when they are sent.
    Read,
    /// The old value of the word.
    Atomic {
        original: u64,
        /// The operation: only the same one is answered again.
        kind: Kind,
        swap_add: u64,
        compare: u64,
    },
}

/// The NAK for the expected PSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nak {
    /// There is none.
    None,
    /// It was sent. Until the expected request comes, later ones are silently dropped.
    Told,
    /// Later requests were dropped, and the peer must be told.
    Missing,
    /// There is no receive for the expected request, and the peer must be told.
    NotReady,
    /// A request is refused for good.
    Fatal(NakCode),
}

impl Replay {
    pub(crate) const BLANK: Self = Self {
        what: What::Read,
        address: 0,
        rkey: 0,
        len: 0,
        psn: Psn::new(0),
        packets: 0,
        msn: 0,
        from: 0,
        next: 0,
        until: 0,
        sent: 0,
    };

    pub(crate) fn is_pending(&self) -> bool {
        self.next < self.until
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Responder {
    /// The address of the rest of the WRITE in progress.
    address: u64,
    rkey: u32,
    remaining: u32,
    /// The PSN of the next new request.
    epsn: Psn,
    /// Number of complete messages, modulo 2^24.
    msn: u32,
    /// Posted receives, the oldest first.
    pub(crate) receives: Chain,
    /// The response cache, the oldest first.
    pub(crate) replays: Chain,
    /// The first pending answer, or [`NONE`].
    pending: u32,
    /// Bytes of the SEND in progress.
    received: u32,
    /// If `owes` is set, the peer must be told that everything up to this PSN was done.
    owed: Psn,
    /// With [`Nak::Missing`] and [`Nak::NotReady`]: the last PSN that came and was not done. With [`Nak::Fatal`]: the
    /// PSN of the NAK, which is that of the refused request, or of the first packet of an answer that was never sent.
    undone: Psn,
    owes: bool,
    nak: Nak,
    expect: Expect,
    pub(crate) depth: u8,
    rnr_timer: RnrTimer,
}

impl Responder {
    pub(crate) const IDLE: Self = Self {
        address: 0,
        rkey: 0,
        remaining: 0,
        epsn: Psn::new(0),
        msn: 0,
        receives: Chain::EMPTY,
        replays: Chain::EMPTY,
        pending: NONE,
        received: 0,
        owed: Psn::new(0),
        undone: Psn::new(0),
        owes: false,
        nak: Nak::None,
        expect: Expect::Beginning,
        depth: 0,
        rnr_timer: RnrTimer::new(0),
    };

    /// Ready to receive; keeps the receives that are posted.
    pub(crate) fn start(&self, attributes: &ReadyToReceive) -> Self {
        Self {
            epsn: attributes.psn,
            depth: attributes.read_depth,
            rnr_timer: attributes.rnr_timer,
            receives: self.receives,
            ..Self::IDLE
        }
    }

    /// The state that determines the future, with `position` instead of places in the slab.
    #[cfg(test)]
    pub(crate) fn essence(&self, position: impl Fn(u32) -> u32) -> Self {
        let bare = |chain: Chain| Chain { head: 0, tail: 0, ..chain };
        let (receives, replays) = (bare(self.receives), bare(self.replays));
        Self { receives, replays, pending: position(self.pending), ..*self }
    }

    /// The PSN of the next new request.
    #[cfg(test)]
    pub(crate) fn expected(&self) -> Psn {
        self.epsn
    }

    /// Whether there is something to send.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.pending != NONE || self.owes || !matches!(self.nak, Nak::None | Nak::Told)
    }

    /// Drops a request that came before the expected one.
    fn drop_beyond(&mut self, psn: Psn) {
        match self.nak {
            Nak::None => (self.nak, self.undone) = (Nak::Missing, psn),
            Nak::Missing | Nak::NotReady if self.undone.is_before(psn) => self.undone = psn,
            _ => {}
        }
    }

    /// There is no receive for the expected request.
    #[cold]
    fn delay(&mut self) {
        if !matches!(self.nak, Nak::Missing | Nak::NotReady) {
            self.undone = self.epsn;
        }
        self.nak = Nak::NotReady;
    }

    /// The expected request was done after all, so a NAK about it is no longer needed. A dropped later request may be
    /// the next missing one.
    #[cold]
    fn came(&mut self) {
        let untold = matches!(self.nak, Nak::Missing | Nak::NotReady);
        self.nak = if untold && !self.undone.is_before(self.epsn) { Nak::Missing } else { Nak::None };
    }
}

/// The result of serving the expected request.
enum Served {
    /// It was done.
    Done,
    /// It must come again later: there is no receive.
    NotReady,
    /// It is refused for good.
    Refused(NakCode),
}
