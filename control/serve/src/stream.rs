//! The body of an answer that continues as long as somebody sends pieces of it.

use hyper::body::{Body, Bytes, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Pieces, as a body.
pub(crate) struct Stream {
    pieces: mpsc::Receiver<Bytes>,
}

impl Stream {
    /// A body of the pieces from the channel. It ends when the sender is dropped. The sender notices when the client is
    /// gone.
    pub(crate) const fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
