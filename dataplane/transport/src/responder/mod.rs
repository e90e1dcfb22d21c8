//! The responder: serves requests in order, each once, and answers those that come again.
//!
//! READs and atomic operations stay in a response cache (`replays`) as long as the peer may ask for them again: as many as it may
//! have outstanding. What is to be sent is the packets of those that are pending, in the order of their PSNs, and then one ACK or
//! NAK for all since. Which of the two it is, and with which PSN, is decided when it leaves: what came in between counts.

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
    /// Where it read, and the rkey it said.
    pub(crate) address: u64,
    pub(crate) rkey: u32,
    pub(crate) len: u32,
    pub(crate) psn: Psn,
    pub(crate) packets: u32,
    /// Messages complete when it was done.
    pub(crate) msn: u32,
    /// Packets `from .. until` are asked for, of which those before `next` were sent.
    pub(crate) from: u32,
    pub(crate) next: u32,
    pub(crate) until: u32,
    /// The packets before this one were sent at least once; what is missing of `packets` is pending.
    pub(crate) sent: u32,
}

/// What a [`Replay`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// With bytes of a region, read when they are sent.
    Read,
    /// With the word as it was before.
    Atomic {
        original: u64,
        /// What was done: only the same is answered again.
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
    /// It was sent. Until the expected request comes, what is beyond is dropped without a word.
    Told,
    /// Requests beyond were dropped, and the peer is to be told so.
    Missing,
    /// There is no receive for the expected request, and the peer is to be told so.
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
    /// The rest of the WRITE that is under way.
    address: u64,
    rkey: u32,
    remaining: u32,
    /// The PSN of the next new request.
    epsn: Psn,
    /// Messages complete, modulo 2^24.
    msn: u32,
    /// Posted receives, the oldest first.
    pub(crate) receives: Chain,
    /// The response cache, the oldest first.
    pub(crate) replays: Chain,
    /// The first pending one, or [`NONE`].
    pending: u32,
    /// Bytes of the SEND that is under way.
    received: u32,
    /// The peer is to hear that all up to this PSN was done, if `owes`.
    owed: Psn,
    /// With [`Nak::Missing`] and [`Nak::NotReady`] the last PSN that came and was not done. With [`Nak::Fatal`] that of the
    /// NAK: of the refused request, or of the first packet of an answer that was never sent.
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

    /// What decides about the future, with `position` instead of places in the slab.
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

    /// Whether there is something to answer.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.pending != NONE || self.owes || !matches!(self.nak, Nak::None | Nak::Told)
    }

    /// A request beyond the expected one is dropped.
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

    /// The expected request was done after all: what was to be said of it need not be said any more. What was dropped
    /// beyond it may be the next one that is missing.
    #[cold]
    fn came(&mut self) {
        let untold = matches!(self.nak, Nak::Missing | Nak::NotReady);
        self.nak = if untold && !self.undone.is_before(self.epsn) { Nak::Missing } else { Nak::None };
    }
}

/// How serving the expected request ended.
enum Served {
    /// It was done.
    Done,
    /// It is to come again later: there is no receive.
    NotReady,
    /// It is refused for good.
    Refused(NakCode),
}
