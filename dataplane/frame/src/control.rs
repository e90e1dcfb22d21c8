//! Link control that waits for the registrar, in three queues: who goes first does not wait for the others, and their
//! flood takes no room from it.

use crate::Datagram;
use std::collections::VecDeque;

/// Which link control goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Precedence {
    /// From where a node is registered, and no more of it than that node needs.
    Member = 0,
    /// From anybody else.
    Stranger = 1,
    /// From where a node is registered, but more than it needs.
    Excess = 2,
}

impl Precedence {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Member, Self::Stranger, Self::Excess];

    /// Its number: the place in whatever has one thing for each of them.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The most datagrams that wait in one lcore for room in the registrar's mailbox, given how many frames it has: 256 of
    /// members, as many of strangers, and 32 of excess; where frames are few, a quarter, a sixteenth and a thirty-second.
    pub const fn backlog(self, frames: usize) -> usize {
        let (most, part) = match self {
            Self::Member => (256, frames / 4),
            Self::Stranger => (256, frames / 16),
            Self::Excess => (32, frames / 32),
        };
        // There is room for one at least.
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
    /// How many wait: most polls look at nothing else.
    waiting: usize,
}

impl ControlQueues {
    /// Empty queues, of an lcore that has so many frames.
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

    /// Puts a datagram in, or drops it when as many wait as may. Whether there was room.
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

    /// The first that waits.
    pub(crate) fn take(&mut self, precedence: Precedence) -> Option<Datagram> {
        let first = self.of(precedence).pop_front();
        self.waiting -= usize::from(first.is_some());
        first
    }

    /// Puts one back in front.
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
