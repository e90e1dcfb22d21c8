//! Questions to the server for which nobody waits: for applications with an event loop of their own.

use crate::client::Client;
use crate::error::PagesError;
use crate::question::Question;
use crate::work::Extent;
use channel::message::{MOST_EXTENTS, Message, MessageBody};

/// The answer to [`Client::ask_allocate`].
#[derive(Debug)]
pub struct AskAnswer {
    /// The question.
    pub question: Question,
    /// The extents, or why there are none.
    pub extents: Result<Vec<Extent>, PagesError>,
}

impl Client {
    /// Asks for extents, all of them or none, and does not wait: [`Client::answers`] has the answer. Their bytes are
    /// zero, or what this connection wrote into extents that it has freed.
    ///
    /// # Errors
    /// [`PagesError::ServerGone`].
    pub fn ask_allocate(&mut self, count: u32, apart: bool) -> Result<Question, PagesError> {
        let number = self.ask_later(MessageBody::Allocate { count, apart })?;
        self.questions.open.push(number);
        Ok(Question(number))
    }

    /// Frees extents, and does not wait for the answer. Those that this connection does not have are ignored. A request
    /// under way is done, or ends with NO_SUCH_EXTENT.
    ///
    /// # Errors
    /// [`PagesError::ServerGone`].
    pub fn ask_free(&mut self, extents: &[Extent]) -> Result<(), PagesError> {
        for part in extents.chunks(MOST_EXTENTS) {
            self.ask_later(MessageBody::Free(part.iter().map(|extent| extent.number()).collect()))?;
        }
        Ok(())
    }

    fn ask_later(&mut self, body: MessageBody) -> Result<u64, PagesError> {
        if self.is_gone {
            return Err(self.gone());
        }
        let number = self.next_number();
        self.questions.unsent.push_back(Message { tag: number, body });
        self.send_questions();
        Ok(number)
    }

    /// Whether [`Client::notices`] has something to return.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The answers that came since the last call. When the server is gone, each open question has the answer
    /// [`PagesError::ServerGone`].
    pub fn answers(&mut self) -> Vec<AskAnswer> {
        if !self.is_gone {
            self.pump();
        }
        let came = std::mem::take(&mut self.questions.answers).into_iter().map(|(number, body)| {
            let extents = match body {
                MessageBody::Allocated(extents) => Ok(extents.into_iter().map(Extent::from_number).collect()),
                MessageBody::Refused { reason, limit } => Err(PagesError::Refused { reason, limit }),
                _ => Err(PagesError::Nonsense("another answer to an allocation")),
            };
            AskAnswer { question: Question(number), extents }
        });
        let mut answers: Vec<AskAnswer> = came.collect();
        if self.is_gone {
            let open = std::mem::take(&mut self.questions.open).into_iter();
            answers.extend(
                open.map(|number| AskAnswer { question: Question(number), extents: Err(PagesError::ServerGone) }),
            );
        }
        answers
    }
}
