//! The response cache of a queue pair, and the receives for SENDs.

use super::Nak;
use crate::Receive;
use crate::memory::Memory;
use crate::qp::Context;
use crate::slab::NONE;

impl<M: Memory> Context<'_, M> {
    /// The receive that the next SEND goes to.
    pub(super) fn receive(&self) -> Option<Receive> {
        self.shared.receives.get(self.qp.responder.receives.head).copied()
    }

    /// The first pending answer after this one, or [`NONE`].
    pub(super) fn next_pending(&self, index: u32) -> u32 {
        let mut next = self.shared.replays.next(index);
        while self.shared.replays.get(next).is_some_and(|replay| !replay.is_pending()) {
            next = self.shared.replays.next(next);
        }
        next
    }

    /// Makes an answer pending; the one with the first PSN is sent first.
    pub(super) fn activate(&mut self, index: u32) {
        let first = |index: u32| self.shared.replays.get(index).map(|replay| replay.psn);
        let earlier = match (first(index), first(self.qp.responder.pending)) {
            (Some(new), Some(old)) => new.is_before(old),
            _ => true,
        };
        if earlier {
            self.qp.responder.pending = index;
        }
    }

    /// Forgets the response cache and everything that must be answered.
    pub(crate) fn forget_replays(&mut self) {
        while self.shared.replays.pop(&mut self.qp.responder.replays).is_some() {}
        let responder = &mut self.qp.responder;
        (responder.pending, responder.owes, responder.nak) = (NONE, false, Nak::None);
    }
}
