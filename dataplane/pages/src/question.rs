//! What was asked, and is not answered.

use channel::message::{Message, MessageBody};
use std::collections::VecDeque;

/// The number of a question: its answer has it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question(pub(crate) u64);

/// What was asked and is not answered.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    pub(crate) open: Vec<u64>,
    pub(crate) unsent: VecDeque<Message>,
    pub(crate) answers: Vec<(u64, MessageBody)>,
}

impl Questions {
    pub(crate) fn is_open(&self, number: u64) -> bool {
        self.open.contains(&number)
    }

    pub(crate) fn answer(&mut self, number: u64, body: MessageBody) {
        self.open.retain(|open| *open != number);
        self.answers.push((number, body));
    }

    /// The first question that is to be sent.
    pub(crate) fn unsent(&self) -> Option<&Message> {
        self.unsent.front()
    }

    pub(crate) fn sent(&mut self) {
        self.unsent.pop_front();
    }
}
