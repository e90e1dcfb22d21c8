//! `gvm-dp qp`: queue pairs over RoCEv2 by hand.
//!
//! | module | what |
//! |---|---|
//! | [`exchange`] | the lines of the set-up |
//! | [`talk`] | the set-up over TCP |
//! | [`own`] | our end: an lcore with a port and the role |
//! | [`link`] | a queue pair with a peer |
//! | [`serve`] | lends a region to whoever connects |
//! | [`transfer`] | reading and writing |
//! | [`input`] | the bytes to be written, and their number |
//! | [`whole`] | a file that is written as a whole or not at all |
//! | [`mod@bench`] | measuring |
//! | `told` | runs work until a signal ends it |

pub mod bench;
pub mod exchange;
pub mod input;
pub mod link;
pub mod own;
pub mod serve;
pub mod talk;
mod told;
pub mod transfer;
pub mod whole;

use crate::cli::QpCommand;
use common::exit::Failure;

/// Runs one of the commands.
///
/// # Errors
/// See [`Failure`]: the texts say what to do.
pub fn run(command: QpCommand) -> Result<(), Failure> {
    match command {
        QpCommand::Serve(args) => serve::run(&args),
        QpCommand::Read(args) => transfer::read(&args),
        QpCommand::Write(args) => transfer::write(&args),
        QpCommand::Bench(args) => bench::run(&args),
    }
}
