//! `gvm-dp page`: remote memory by hand, through a master on this host.
//!
//! | module | what |
//! |---|---|
//! | `area` | areas are made, opened, listed and freed |
//! | `transfer` | files and areas: written, read, compared |
//! | `engine` | requests for bytes of an area, many under way |
//! | `bench` | allocates, writes, verifies, measures |
//! | `load` | many requests under way |
//! | `master` | where it is, and what its answers mean for a command |
//! | `pattern` | the bytes that are written, and how many of those that come back are wrong |

mod area;
mod bench;
mod engine;
mod load;
mod master;
mod pattern;
mod transfer;

use crate::cli::PageCommand;
use common::exit::Failure;

/// Runs one of the page commands.
///
/// # Errors
/// The error is [`Failure::Usage`] or [`Failure::Setting`] for names and sizes that cannot be. It is
/// [`Failure::Client`] when no master answers, and [`Failure::AreaInUse`] when an area is in use, or there already. It
/// is [`Failure::Pages`] when the master refuses, a request fails, or bytes are wrong, and [`Failure::Machine`] when a
/// file cannot be read or written.
pub fn run(command: &PageCommand) -> Result<(), Failure> {
    match command {
        PageCommand::Alloc(args) => area::alloc(args),
        PageCommand::Write(args) => transfer::write(args),
        PageCommand::Read(args) => transfer::read(args),
        PageCommand::Verify(args) => transfer::verify(args),
        PageCommand::Free(args) => area::free(args),
        PageCommand::List(args) => area::list(args),
        PageCommand::Bench(args) => bench::run(args),
    }
}
