//! Standard output and standard error of every program of the project.
//!
//! | module | what |
//! |---|---|
//! | [`out`] | the output of a command: all of it, or an error |
//! | [`err`] | lines on standard error: a thread that writes one never waits for the reader |
//!
//! No other code of the product uses `std::io::stdout`, `std::io::stderr` or a macro that prints; `tests/house` checks
//! this.
#![forbid(unsafe_code)]

pub mod err;
pub mod out;

use std::io;
use std::sync::Arc;

/// From now on a write beyond the limit on file sizes (`ulimit -f`) is an error like any other. By default the kernel
/// ends the process with SIGXFSZ, even if only a line of the log did not fit.
///
/// # Errors
/// The process cannot have another handler.
pub fn survive_file_size_limit() -> io::Result<()> {
    // Nobody reads the flag: only the handler matters.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}
