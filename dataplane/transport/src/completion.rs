//! The completion queue: every work request and every receive ends here once.

use crate::Completion;
use std::collections::VecDeque;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Completions {
    queue: VecDeque<Completion>,
    capacity: usize,
    /// Completions that are expected, and not yet in the queue.
    owed: usize,
}

impl Completions {
    pub(crate) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        Self { queue: VecDeque::with_capacity(capacity), capacity, owed: 0 }
    }

    /// Whether there is room for one more expected completion.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.owed + self.queue.len() < self.capacity
    }

    #[inline]
    pub(crate) fn owe(&mut self) {
        self.owed += 1;
    }

    /// Forgets an expected completion: its queue pair is reset.
    pub(crate) fn forget(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// Adds an expected completion.
    #[inline]
    pub(crate) fn push(&mut self, completion: Completion) {
        self.owed = self.owed.saturating_sub(1);
        self.queue.push_back(completion);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Completion> {
        self.queue.pop_front()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
