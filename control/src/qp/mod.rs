//! `gvm-dp qp`: queue pairs over RoCEv2 by hand.
//!
//! | module | what |
//! |---|---|
//! | [`exchange`] | the lines of the set-up |
//! | [`talk`] | the set-up over TCP |
//! | [`own`] | our end: an lcore with a port and the role |
//! | [`link`] | a queue pair with a peer that we call |
//! | [`serve`] | a region for whoever connects |
//! | [`transfer`] | reading and writing |
//! | [`input`] | what is written, and how much it is |
//! | [`whole`] | a file that is written as a whole or not at all |
//! | [`mod@bench`] | measuring |

pub mod bench;
pub mod exchange;
pub mod input;
pub mod link;
pub mod own;
pub mod serve;
pub mod talk;
pub mod transfer;
pub mod whole;

use crate::cli::QpCommand;
use crate::exit::Failure;
use crate::runtime::runtime;
use crate::signal::{self, Signals};

/// The TCP port of the set-up.
pub const SETUP_PORT: u16 = 9997;

/// The exit code of a command that was ended before it was complete.
const QUEUE_PAIR: u8 = 8;

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

/// Does something until it is done, or until SIGTERM or SIGINT.
async fn until_told<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
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
