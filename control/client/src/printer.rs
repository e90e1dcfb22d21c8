//! Prints text after text, until a signal comes or the reader is gone.

use common::exit::Failure;
use common::output::{OutputReader, print};
use common::signal::Signals;
use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc as answers;

/// How long a signal waits for the end of the text that is being printed.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether printing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// It goes on.
    On,
    /// The reader is gone, which is not an error.
    ReaderLeft,
    /// A signal asked for the end.
    Interrupted,
}

/// Prints whole texts on its own thread. So a signal can end the command even if the reader does not read.
pub(super) struct Printer {
    texts: mpsc::SyncSender<String>,
    printed: answers::Receiver<Result<OutputReader, Failure>>,
    signals: Signals,
}

impl Printer {
    /// From now on a signal does not end the process; it ends the waiting in [`print`](Self::print) and
    /// [`unless_ended`](Self::unless_ended). Call this inside the runtime.
    ///
    /// # Errors
    /// Signals cannot be listened to, or the thread cannot be started.
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
            .map_err(|error| Failure::Machine(format!("cannot start a thread: {error}")))?;
        Ok(Self { texts, printed, signals: Signals::listen()? })
    }

    /// Prints a text completely before anything else is printed.
    ///
    /// # Errors
    /// The text cannot be written.
    pub(super) async fn print(&mut self, text: String) -> Result<Goes, Failure> {
        let gone = || Failure::Internal("the thread that prints is gone".to_owned());
        // The thread is ready for it: the text before was printed.
        self.texts.send(text).map_err(|_| gone())?;
        let reader = tokio::select! {
            printed = self.printed.recv() => printed.ok_or_else(gone)??,
            _ = self.signals.stop() => {
                // A reader that reads gets the whole text.
                let _ = tokio::time::timeout(PATIENCE, self.printed.recv()).await;
                return Ok(Goes::Interrupted);
            }
        };
        Ok(if reader == OutputReader::Reads { Goes::On } else { Goes::ReaderLeft })
    }

    /// Waits for a future; `None` when a signal came first.
    pub(super) async fn unless_ended<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            value = something => Some(value),
            _ = self.signals.stop() => None,
        }
    }
}
