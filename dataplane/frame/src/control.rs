//! Link control that waits for the registrar, in three queues: mail that goes first does not wait for the others, and a
//! flood of the others takes no room from it.

use crate::Datagram;
use std::collections::VecDeque;

/// Which link control goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Precedence {
    /// From an address where a node is registered, within that node's budget.
    Member = 0,
    /// From any other address.
    Stranger = 1,
    /// From an address where a node is registered, beyond that node's budget.
    Excess = 2,
}

impl Precedence {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Member, Self::Stranger, Self::Excess];

    /// Its number: the index in arrays with one element for each precedence.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The most datagrams that wait in one lcore for room in the registrar's mailbox, given its number of frames: 256
    /// of members, 256 of strangers, and 32 of excess. If frames are few, it is a quarter, a sixteenth and a
    /// thirty-second of them.
    pub const fn backlog(self, frames: usize) -> usize {
        let (most, part) = match self {
            Self::Member => (256, frames / 4),
            Self::Stranger => (256, frames / 16),
            Self::Excess => (32, frames / 32),
        };
        // There is room for at least one.
        if part == 0 {
            1
        } else if part < most {
            part
        } else {
            most
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct ControlQueues {
    queues: [VecDeque<Datagram>; 3],
    frames: usize,
    /// How many wait in all: most polls read only this.
    waiting: usize,
}

impl ControlQueues {
    /// Empty queues for an lcore with this many frames.
    pub(crate) fn new(frames: usize) -> Self {
        Self {
            queues: Precedence::ALL.map(|precedence| VecDeque::with_capacity(precedence.backlog(frames))),
            frames,
            waiting: 0,
        }
    }

    fn of(&mut self, precedence: Precedence) -> &mut VecDeque<Datagram> {
        let [member, stranger, excess] = &mut self.queues;
        match precedence {
            Precedence::Member => member,
            Precedence::Stranger => stranger,
            Precedence::Excess => excess,
        }
    }

    /// Adds a datagram, or drops it when the queue is full. Returns whether there was room.
    pub(crate) fn put(&mut self, precedence: Precedence, datagram: Datagram) -> bool {
        let most = precedence.backlog(self.frames);
        let queue = self.of(precedence);
        let has_room = queue.len() < most;
        if has_room {
            queue.push_back(datagram);
            self.waiting += 1;
        }
        has_room
    }

    /// Takes the first waiting datagram.
    pub(crate) fn take(&mut self, precedence: Precedence) -> Option<Datagram> {
        let first = self.of(precedence).pop_front();
        self.waiting -= usize::from(first.is_some());
        first
    }

    /// Puts a datagram back in front.
    pub(crate) fn untake(&mut self, precedence: Precedence, datagram: Datagram) {
        self.of(precedence).push_front(datagram);
        self.waiting += 1;
    }

    /// How many wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_precedence_has_a_place_of_its_own() {
        assert_eq!(Precedence::ALL.map(Precedence::index), [0, 1, 2]);
    }
}
