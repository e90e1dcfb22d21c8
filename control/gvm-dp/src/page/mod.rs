//! `gvm-dp page`: remote memory by hand, through a master on this host.
//!
//! | module | what |
//! |---|---|
//! | `bench` | allocates, writes, verifies, measures |
//! | `load` | many requests under way |
//! | `master` | where it is, and what its answers mean for a command |
//! | `pattern` | the bytes that are written, and how many of those that come back are wrong |

mod bench;
mod load;
mod master;
mod pattern;

use crate::cli::PageCommand;
use common::exit::Failure;

/// Runs one of the page commands.
///
/// # Errors
/// The error is [`Failure::Usage`] for sizes that cannot be. It is [`Failure::Client`] when no master answers. It is
/// [`Failure::Pages`] when the master refuses, a request fails, or bytes are wrong.
pub fn run(command: &PageCommand) -> Result<(), Failure> {
    match command {
        PageCommand::Bench(args) => bench::run(args),
    }
}
