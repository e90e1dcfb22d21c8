//! What the routes of the control socket share.

use crate::ask::Ask;
use crate::board::Board;
use crate::single::Single;
use api::error::ApiError;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// What every request is answered with.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) board: Arc<Board>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) captures: Single,
    pub(crate) traces: Single,
    pub(crate) reloads: Reloads,
}

impl Office {
    /// Answers from what the board shows, and from what the control thread is asked.
    pub(crate) fn new(board: Arc<Board>, asks: mpsc::Sender<Ask>) -> Self {
        let (captures, traces) = (Single::default(), Single::default());
        Self { board, asks, captures, traces, reloads: Reloads::default() }
    }

    /// Asks the control thread; an error when it is about to end.
    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).await.map_err(|_| ApiError::ending())?;
        answered.await.map_err(|_| ApiError::ending())
    }
}

/// Reloads, of which one runs at a time.
#[derive(Clone)]
pub(crate) struct Reloads {
    /// The right to be the one.
    pub one: Arc<Semaphore>,
    /// Whether a SIGHUP waits for it. Another one would want the same: the files as they will be by then.
    pub waits: Arc<AtomicBool>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { one: Arc::new(Semaphore::new(1)), waits: Arc::default() }
    }
}
