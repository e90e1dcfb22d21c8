//! Printing on and on, until a signal comes or whoever reads has seen enough.

use common::exit::Failure;
use common::output::{OutputReader, print};
use common::signal::Signals;
use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc as answers;

/// How long the end of what is being printed is waited for when a signal comes in the middle.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether there is somebody to go on for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// There is.
    On,
    /// Nobody reads what is printed any more, which is no error.
    ReaderLeft,
    /// A signal asked for the end.
    Interrupted,
}

/// Prints whole texts, on a thread of its own: a reader that stands still does not keep a signal from ending the command.
pub(super) struct Printer {
    texts: mpsc::SyncSender<String>,
    printed: answers::Receiver<Result<OutputReader, Failure>>,
    signals: Signals,
}

impl Printer {
    /// From now on a signal ends what [`print`](Self::print) and [`unless_ended`](Self::unless_ended) wait for, and not the
    /// process. Call it inside the runtime.
    ///
    /// # Errors
    /// Signals cannot be listened to, or there is no thread to be had.
    pub(super) fn start() -> Result<Self, Failure> {
        let (texts, to_print) = mpsc::sync_channel::<String>(0);
        let (tell, printed) = answers::channel(1);
        let body = move || {
            while let Ok(text) = to_print.recv() {
                if tell.blocking_send(print(&text)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(body)
            .map_err(|error| Failure::Machine(format!("cannot start a thread: {error}; see ulimit -u")))?;
        Ok(Self { texts, printed, signals: Signals::listen()? })
    }

    /// Prints a text, all of it before anything else.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) async fn print(&mut self, text: String) -> Result<Goes, Failure> {
        let gone = || Failure::Internal("the thread that prints is gone".to_owned());
        // The thread waits for it: the text before was printed.
        self.texts.send(text).map_err(|_| gone())?;
        let reader = tokio::select! {
            printed = self.printed.recv() => printed.ok_or_else(gone)??,
            _ = self.signals.stop() => {
                // Whoever reads has the text whole, unless it does not read.
                let _ = tokio::time::timeout(PATIENCE, self.printed.recv()).await;
                return Ok(Goes::Interrupted);
            }
        };
        Ok(if reader == OutputReader::Reads { Goes::On } else { Goes::ReaderLeft })
    }

    /// Waits for something; `None` when a signal came first.
    pub(super) async fn unless_ended<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            value = something => Some(value),
            _ = self.signals.stop() => None,
        }
    }
}
