//! gvm-dp: the dataplane of GiantVM Frontier-X. This crate reads text (command line, control socket), builds one role,
//! and gives it ports and lcores. It knows flags, never a packet byte.
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`address`] | addresses as people write them |
//! | [`units`] | durations and sizes as people write them |
//! | [`traffic`] | what a farm is asked to send, as text |
//! | [`settings`] | where settings come from: command line, configuration file, defaults |
//! | [`callers`] | who is in the middle of asking for something |
//! | [`config`] | what the settings mean, checked |
//! | [`ending`] | bounds for the end of a process |
//! | [`domain`] | failure domains, and how fast links are |
//! | [`exit`] | exit codes, and the errors behind them |
//! | [`faults`] | several errors that are said at once |
//! | [`hugepages`] | hugepages that a gateway needs, and reserving them |
//! | [`keyfile`] | key files, private to their owner |
//! | [`machine`] | interfaces and their addresses |
//! | [`manual`] | manual pages and shell completions |
//! | [`neighbor`] | the gateway of another shard, as text |
//! | [`notify`] | what the service manager is told |
//! | [`output`] | what commands print |
//! | [`owner`] | whose XDP program is attached to an interface |
//! | [`pci`] | the interface of a PCI device |
//! | [`placement`] | whether lcores stand where they are fast |
//! | [`qp`] | queue pairs over RoCEv2 by hand |
//! | [`plain`] | text of others, fit for a terminal |
//! | [`privilege`] | what the kernel lets this process do, at start and after that |
//! | [`runtime`] | the runtime of the control thread |
//! | [`sink`] | a file or pipe that is filled by a thread of its own |
//! | [`signal`] | what signals ask for |
//! | [`assemble`] | a role, its ports and its lcores, from settings |
//! | [`supervise`] | a running process: signals, watchdog, drain |
//! | [`serve`] | the control socket |
//! | [`client`] | the commands that ask a running process |
#![forbid(unsafe_code)]

pub mod address;
pub mod assemble;
pub mod callers;
pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod ending;
pub mod exit;
pub mod faults;
pub mod hugepages;
pub mod keyfile;
pub mod machine;
pub mod manual;
pub mod neighbor;
pub mod notify;
pub mod output;
pub mod owner;
pub mod pci;
pub mod placement;
pub mod plain;
pub mod privilege;
pub mod qp;
pub mod runtime;
pub mod serve;
pub mod settings;
pub mod signal;
pub mod sink;
pub mod static_routes;
pub mod supervise;
pub mod traffic;
pub mod units;

use assemble::ports::Memory;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use cli::{Cli, Command, HugepagesCommand};
use exit::Failure;
use settings::log::{self, LogFilter};
use settings::{RoleName, Running, Sources};
use std::panic::catch_unwind;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    stdio::err::catch_panics();
    // A panic has said what it is.
    let panicked = || Failure::Internal("gvm-dp panicked".to_owned());
    let code = match catch_unwind(command_line).unwrap_or_else(|_| Err(panicked())) {
        Ok(code) => code,
        Err(failure) => {
            let text = format!("gvm-dp: {failure}{}", exit::limit_hint(&failure));
            output::complain(&plain::lines(&text));
            failure.code()
        }
    };
    stdio::err::finish();
    if ending::has_left_threads() {
        ending::at_once(code);
    }
    ending::exits(code);
    ExitCode::from(code)
}

/// Returns the exit code of what is no failure of ours.
fn command_line() -> Result<u8, Failure> {
    let survives = stdio::survive_file_size_limit();
    survives.map_err(|error| Failure::Machine(format!("cannot listen to signals: {error}")))?;
    // A shell may only want to know how a line can go on.
    match shell::answer(Cli::command) {
        Ok(false) => {}
        Ok(true) => return Ok(0),
        Err(error) => return output::answer(&error),
    }
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    match parsed {
        Ok((cli, matches)) => run(cli, &matches).map(|()| 0),
        Err(error) => output::answer(&error),
    }
}

fn run(cli: Cli, matches: &ArgMatches) -> Result<(), Failure> {
    // The default role's flags stand where other commands have a name.
    let flags = matches.subcommand().map_or(matches, |(_, flags)| flags);
    match cli.command {
        None | Some(Command::Gateway(_)) => gateway(Sources::new(RoleName::Gateway, flags)),
        Some(Command::Slave(_)) => slave(Sources::new(RoleName::Slave, flags)),
        Some(command) => {
            log::start(&LogFilter::from_env(), None)?;
            ask(command, flags)
        }
    }
}

/// A command that does its work and ends.
fn ask(command: Command, matches: &ArgMatches) -> Result<(), Failure> {
    match command {
        Command::Stats(args) => client::stats::run(&args),
        Command::Top(args) => client::top::run(&args),
        Command::Routes(args) => client::routes::run(&args),
        Command::Capture(args) => client::capture::run(&args),
        Command::Trace(args) => client::trace::run(&args),
        Command::Drain(args) => client::drain::run(&args),
        Command::Config(command) => client::config::run(&command, matches),
        Command::Set(args) => client::set::set(&args),
        Command::Reload(args) => client::set::reload(&args),
        Command::Key(command) => privilege::hide_memory().and_then(|()| client::key::run(command)),
        Command::Qp(command) => qp::run(command),
        Command::Hugepages(command) => {
            let flags = matches.subcommand().map_or(matches, |(_, flags)| flags);
            let memory = Memory::of(&gateway_config(Sources::new(RoleName::Gateway, flags))?.0.common)?;
            match command {
                HugepagesCommand::Show(_) => hugepages::show(&memory),
                HugepagesCommand::Reserve(_) => hugepages::reserve(&memory),
            }
        }
        Command::Man(args) => manual::pages(&args),
        Command::Completion(args) => manual::completion(&args),
        Command::Gateway(_) | Command::Slave(_) => Err(Failure::Internal("a role is no question".to_owned())),
    }
}

fn gateway(sources: Sources) -> Result<(), Failure> {
    signal::hold()?;
    privilege::hide_memory()?;
    let (config, running) = gateway_config(sources)?;
    assemble::gateway::run(config, running)
}

fn gateway_config(sources: Sources) -> Result<(config::Gateway, Running), Failure> {
    let file = sources.read_file()?;
    let settings = sources.resolve(file.as_ref())?;
    let args: cli::GatewayArgs = settings.arguments()?;
    log::start(&args.common.log, Some((args.common.seccomp, args.common.landlock)))?;
    settings.say();
    let mut config = config::Gateway::new(args).map_err(|failure| settings.locate(failure))?;
    config.common.reads = settings.files(&sources);
    Ok((config, Running::new(sources, file, &settings)))
}

fn slave(sources: Sources) -> Result<(), Failure> {
    signal::hold()?;
    privilege::hide_memory()?;
    let file = sources.read_file()?;
    let settings = sources.resolve(file.as_ref())?;
    let args: cli::SlaveArgs = settings.arguments()?;
    log::start(&args.common.log, Some((args.common.seccomp, args.common.landlock)))?;
    settings.say();
    let mut config = config::Slave::new(args).map_err(|failure| settings.locate(failure))?;
    config.common.reads = settings.files(&sources);
    assemble::slave::run(config, Running::new(sources, file, &settings))
}
