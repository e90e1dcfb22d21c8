//! SIGTERM and SIGINT: drain. A second one: end at once.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a process.
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Listens to them, instead of dying of them. Call it inside the runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and says which it was.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
