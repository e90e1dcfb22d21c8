//! SIGTERM and SIGINT: drain. A second one: end at once. SIGHUP: read the configuration again.

use crate::exit::Failure;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To end.
    End(&'static str),
    /// To read the configuration again.
    Reload(&'static str),
}

/// The signals that a process listens to.
pub struct Signals {
    term: Stream,
    int: Stream,
    hup: Stream,
}

impl Signals {
    /// Listens to them, instead of dying of them. Call it inside the runtime.
    ///
    /// # Errors
    /// The process cannot have another handler.
    pub fn listen() -> Result<Self, Failure> {
        let cannot = |error| Failure::Machine(format!("cannot listen to signals: {error}"));
        let listen = |kind: SignalKind| signal(kind).map_err(cannot);
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::End("SIGTERM"),
            _ = self.int.recv() => Signal::End("SIGINT"),
            _ = self.hup.recv() => Signal::Reload("SIGHUP"),
        }
    }
}
