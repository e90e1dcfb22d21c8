//! The responder: serves requests in order, each once, and answers those that come again.
//!
//! READs and atomic operations stay in a response cache (`replays`) as long as the peer may ask for them again: as many as it may
//! have outstanding. What is to be sent is the packets of those that are pending, in the order of their PSNs, and then one ACK or
//! NAK for all since.

mod reply;
mod request;

use crate::memory::Memory;
use crate::qp::Context;
use crate::slab::{Chain, NONE};
use crate::{ReadyToReceive, Receive};
use wire::rc::{Psn, RnrTimer, Syndrome};

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
    /// All of it was sent once.
    pub(crate) answered: bool,
}

/// What a [`Replay`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// With bytes of a region, read when they are sent.
    Read,
    /// With the word as it was before.
    Atomic(u64),
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
        answered: false,
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
    reply: Option<(Syndrome, Psn)>,
    expect: Expect,
    /// A NAK was sent for the expected PSN; what is beyond is dropped until it comes.
    naked: bool,
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
        reply: None,
        expect: Expect::Beginning,
        naked: false,
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

    /// Whether there is something to answer.
    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.pending != NONE || self.reply.is_some()
    }
}

/// How serving the expected request ended.
enum Served {
    /// It was done.
    Done,
    /// It is refused.
    Refused(Syndrome),
}

impl<M: Memory> Context<'_, M> {
    /// The receive that the next SEND goes to.
    fn receive(&self) -> Option<Receive> {
        self.shared.receives.get(self.qp.responder.receives.head).copied()
    }

    /// An ACK for all that was done; it does not take the place of a NAK that was not sent yet.
    fn acknowledge(&mut self, psn: Psn) {
        let responder = &mut self.qp.responder;
        if !matches!(responder.reply, Some((Syndrome::RnrNak(_) | Syndrome::Nak(_), _))) {
            responder.reply = Some((Syndrome::ACK, psn));
        }
    }

    /// The first pending replay after one, or [`NONE`].
    fn next_pending(&self, index: u32) -> u32 {
        let mut next = self.shared.replays.next(index);
        while self.shared.replays.get(next).is_some_and(|replay| !replay.is_pending()) {
            next = self.shared.replays.next(next);
        }
        next
    }

    /// A pending replay is to be sent; the one with the first PSN goes first.
    fn activate(&mut self, index: u32) {
        let first = |index: u32| self.shared.replays.get(index).map(|replay| replay.psn);
        let earlier = match (first(index), first(self.qp.responder.pending)) {
            (Some(new), Some(old)) => new.is_before(old),
            _ => true,
        };
        if earlier {
            self.qp.responder.pending = index;
        }
    }

    /// Forgets the response cache and all that is to be answered.
    pub(crate) fn forget_replays(&mut self) {
        while self.shared.replays.pop(&mut self.qp.responder.replays).is_some() {}
        self.qp.responder.pending = NONE;
        self.qp.responder.reply = None;
    }
}
