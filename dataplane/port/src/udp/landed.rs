//! What a receive call brought, on its way into bursts.

use frame::Peer;

/// The messages of the last receive call that are not in a burst yet.
#[derive(Debug, Default)]
pub(super) struct Landed {
    /// The number of the next message, and of the first that the call did not bring. The last frame to receive into is
    /// that of the next message.
    pub(super) next: usize,
    pub(super) end: usize,
    /// The next message is a train of which a part may have left.
    pub(super) train: Option<Cut>,
    /// Datagrams that these messages had so far.
    pub(super) datagrams: usize,
    /// Datagrams of a message, on average over the call before.
    usual: usize,
}

/// A train that is being cut up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Where its next datagram begins, and where the last one ends.
    pub(super) at: usize,
    pub(super) end: usize,
    /// Bytes of each datagram but the last.
    pub(super) each: usize,
    /// The last one is not whole.
    pub(super) truncated: bool,
    pub(super) peer: Peer,
    pub(super) ce: bool,
}

impl Landed {
    /// Whether something waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.end
    }

    /// How many messages are asked for to fill this room.
    #[inline]
    pub(super) fn wanted(&self, room: usize) -> usize {
        room.div_ceil(self.usual.max(1))
    }

    /// A call brought `count` messages.
    pub(super) fn land(&mut self, count: usize) {
        *self = Self { end: count, usual: self.usual, ..Self::default() };
    }

    /// The next message is done with.
    #[inline]
    pub(super) fn step(&mut self) {
        self.next += 1;
        if self.is_empty() {
            self.usual = self.datagrams / self.end.max(1);
        }
    }
}
