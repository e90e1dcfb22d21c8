//! gvm-dp: the dataplane of GiantVM Frontier-X. This crate reads text (command line, control socket), builds one role,
//! and gives it ports and lcores. It knows flags, never a packet byte.
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`units`] | durations and sizes as people write them |
//! | [`traffic`] | what a farm is asked to send, as text |
//! | [`config`] | what the command line means, checked |
//! | [`exit`] | exit codes, and the errors behind them |
//! | [`keyfile`] | key files, private to their owner |
//! | [`machine`] | interfaces and their addresses |
//! | [`neighbor`] | the gateway of another shard, as text |
//! | [`owner`] | whose XDP program is attached to an interface |
//! | [`pci`] | the interface of a PCI device |
//! | [`privilege`] | what the kernel lets this process do, at start and after that |
//! | [`signal`] | SIGTERM and SIGINT |
//! | [`assemble`] | a role, its ports and its lcores, from settings |
//! | [`supervise`] | a running process: signals, watchdog, drain |
//! | [`serve`] | the control socket |
//! | [`client`] | the commands that ask a running process |
#![forbid(unsafe_code)]

pub mod assemble;
pub mod cli;
pub mod client;
pub mod config;
pub mod exit;
pub mod keyfile;
pub mod machine;
pub mod neighbor;
pub mod owner;
pub mod pci;
pub mod privilege;
pub mod serve;
pub mod signal;
pub mod supervise;
pub mod traffic;
pub mod units;

use clap::Parser;
use cli::{Cli, Command};
use exit::Failure;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("gvm-dp: {failure}");
            ExitCode::from(&failure)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => assemble::gateway::run(config::Gateway::new(cli.gateway)?),
        Some(Command::Gateway(args)) => assemble::gateway::run(config::Gateway::new(*args)?),
        Some(Command::Slave(args)) => assemble::slave::run(config::Slave::new(*args)?),
        Some(Command::Stats(args)) => client::stats::run(&args),
        Some(Command::Routes(args)) => client::routes::run(&args),
        Some(Command::Capture(args)) => client::capture::run(&args),
        Some(Command::Drain(args)) => client::drain::run(&args),
        Some(Command::Key(command)) => client::key::run(command),
    }
}

/// What a process says goes to stderr; `RUST_LOG` chooses what.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
