//! The runtime of the one thread that waits for sockets, signals and answers.

use crate::exit::Failure;
use std::io;
use std::os::unix::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// Descriptors that a runtime and its first signal take. If they are not free, tokio panics.
const OWN: usize = 8;

/// Descriptors that a process keeps free for its clients. With fewer it would run, but answer nobody.
pub const SPARE: usize = 32;

/// Checks that this many more descriptors can be opened.
///
/// # Errors
/// The limit on open files is too low.
pub fn have_descriptors(count: usize) -> io::Result<()> {
    (0..count.div_ceil(2)).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// A runtime on the calling thread.
///
/// # Errors
/// The kernel has no descriptors left for it.
pub fn runtime() -> Result<Runtime, Failure> {
    let failed = |error| Failure::Machine(format!("cannot start the control thread: {error}"));
    have_descriptors(OWN).map_err(failed)?;
    Builder::new_current_thread().enable_all().build().map_err(failed)
}
