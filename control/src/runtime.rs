//! The runtime of the one thread that waits for sockets, signals and answers.

use crate::exit::Failure;
use tokio::runtime::{Builder, Runtime};

/// A runtime on the calling thread.
///
/// # Errors
/// The kernel lacks what it waits with: descriptors.
pub fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Machine(format!("cannot start the control thread: {error}")))
}
