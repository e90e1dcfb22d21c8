//! Runs work until a signal ends it.

use common::exit::Failure;
use common::signal::{self, Signals};

/// The exit code of a command that was ended before it was complete.
pub(super) const QUEUE_PAIR: u8 = 8;

/// Runs a future until it is done, or until SIGTERM or SIGINT.
pub(super) async fn until_told<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    let heard = signal::insist(QUEUE_PAIR)?;
    let told = async {
        let name = signals.end().await;
        heard.set();
        name
    };
    tokio::select! {
        done = work => done,
        name = told => Err(Failure::QueuePair(format!("{name} before it was complete"))),
    }
}
