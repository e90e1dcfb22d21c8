//! The state that the routes of the control socket share.

use crate::board::Board;
use crate::request::ControlRequest;
use crate::single::Single;
use api::error::ApiError;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// What is needed to answer a request.
#[derive(Clone)]
pub(crate) struct ServerState {
    pub(crate) board: Arc<Board>,
    pub(crate) requests: mpsc::Sender<ControlRequest>,
    pub(crate) captures: Single,
    pub(crate) traces: Single,
    pub(crate) reloads: Reloads,
}

impl ServerState {
    /// Takes answers from the board and from the control thread.
    pub(crate) fn new(board: Arc<Board>, requests: mpsc::Sender<ControlRequest>) -> Self {
        let (captures, traces) = (Single::default(), Single::default());
        Self { board, requests, captures, traces, reloads: Reloads::default() }
    }

    /// Asks the control thread; an error if it is about to end.
    pub(crate) async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
    ) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| ApiError::ending())?;
        answered.await.map_err(|_| ApiError::ending())
    }
}

/// The permission to reload. One reload runs at a time.
#[derive(Clone)]
pub(crate) struct Reloads {
    /// The permit for it.
    pub one: Arc<Semaphore>,
    /// Whether a SIGHUP waits for the permit. Another SIGHUP need not wait, too: it would read the same files at the
    /// same time.
    pub waits: Arc<AtomicBool>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { one: Arc::new(Semaphore::new(1)), waits: Arc::default() }
    }
}
