//! gvm-dp: the dataplane of GiantVM Frontier-X. This crate reads the command line and runs a role, which `process`
//! assembles and supervises, or another command.
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`config`], [`check`] | `gvm-dp config`: the settings of a process, and the faults in a file |
//! | [`key`] | `gvm-dp key`: keys |
//! | [`page`] | `gvm-dp page`: remote memory by hand |
//! | [`qp`] | `gvm-dp qp`: queue pairs over RoCEv2 by hand |
//! | [`manual`] | manual pages and shell completions |
#![forbid(unsafe_code)]

pub mod check;
pub mod cli;
pub mod config;
pub mod key;
pub mod manual;
pub mod page;
pub mod qp;

use clap::{ArgMatches, FromArgMatches};
use cli::{Cli, Command, HugepagesCommand};
use common::exit::{self, Failure};
use common::{output, plain, signal};
use host::log::{self, LogFilter};
use host::{hugepages, privilege};
use process::assemble::ports;
use process::{ending, role};
use settings::flags::{DiskArgs, GatewayArgs, MasterArgs, ProcessArgs, SlaveArgs, Switch};
use settings::{RoleName, RunningSettings, Sources};
use std::panic::catch_unwind;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    stdio::err::catch_panics();
    // The panic was already reported.
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

/// Returns the exit code of everything that is no failure of gvm-dp.
fn command_line() -> Result<u8, Failure> {
    let survives = stdio::survive_file_size_limit();
    survives.map_err(|error| Failure::Machine(format!("cannot listen to signals: {error}")))?;
    // A shell may only ask for completions.
    match shell::answer(cli::command) {
        Ok(false) => {}
        Ok(true) => return Ok(0),
        Err(error) => return output::answer(&error),
    }
    let parsed = cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    match parsed {
        Ok((cli, matches)) => run(cli, &matches).map(|()| 0),
        Err(error) => output::answer(&error),
    }
}

fn run(cli: Cli, matches: &ArgMatches) -> Result<(), Failure> {
    // The flags of the default role stand where other commands have their name.
    let flags = matches.subcommand().map_or(matches, |(_, flags)| flags);
    match cli.command {
        None | Some(Command::Gateway(_)) => gateway(Sources::new(RoleName::Gateway, flags)),
        Some(Command::Slave(_)) => slave(Sources::new(RoleName::Slave, flags)),
        Some(Command::Master(_)) => master(Sources::new(RoleName::Master, flags)),
        Some(Command::Disk(_)) => disk(Sources::new(RoleName::Disk, flags)),
        Some(command) => {
            log::start(&LogFilter::from_env(), None)?;
            ask(command, flags)
        }
    }
}

/// Runs a command that does its work and ends.
fn ask(command: Command, matches: &ArgMatches) -> Result<(), Failure> {
    match command {
        Command::Stats(args) => client::stats::run(&args),
        Command::Top(args) => client::top::run(&args),
        Command::Routes(args) => client::routes::run(&args),
        Command::Capture(args) => client::capture::run(&args),
        Command::Trace(args) => client::trace::run(&args),
        Command::Drain(args) => client::drain::run(&args),
        Command::Config(command) => config::run(&command, matches),
        Command::Set(args) => client::set::set(&args),
        Command::Reload(args) => client::set::reload(&args),
        Command::Key(command) => privilege::hide_memory().and_then(|()| key::run(command)),
        Command::Page(command) => page::run(&command),
        Command::Qp(command) => qp::run(command),
        Command::Hugepages(command) => {
            let flags = matches.subcommand().map_or(matches, |(_, flags)| flags);
            let memory = ports::memory(&gateway_config(Sources::new(RoleName::Gateway, flags))?.0.common)?;
            match command {
                HugepagesCommand::Show(_) => hugepages::show(&memory),
                HugepagesCommand::Reserve(_) => hugepages::reserve(&memory),
            }
        }
        Command::Man(args) => manual::pages(&args),
        Command::Completion(args) => manual::completion(&args),
        Command::Gateway(_) | Command::Slave(_) | Command::Master(_) | Command::Disk(_) => {
            Err(Failure::Internal("a role is started elsewhere".to_owned()))
        }
    }
}

fn gateway(sources: Sources) -> Result<(), Failure> {
    signal::hold()?;
    privilege::hide_memory()?;
    let (config, running) = gateway_config(sources)?;
    role::gateway::run(config, running)
}

fn gateway_config(sources: Sources) -> Result<(settings::config::GatewaySettings, RunningSettings), Failure> {
    let file = sources.read_file()?;
    let settings = sources.resolve(file.as_ref())?;
    let args: GatewayArgs = settings.arguments()?;
    start_log(&args.common.process)?;
    settings.say();
    let mut config = settings::config::GatewaySettings::new(args).map_err(|failure| settings.locate(failure))?;
    config.common.reads = settings.files(&sources);
    Ok((config, RunningSettings::new(sources, file, &settings)))
}

fn slave(sources: Sources) -> Result<(), Failure> {
    signal::hold()?;
    privilege::hide_memory()?;
    let file = sources.read_file()?;
    let settings = sources.resolve(file.as_ref())?;
    let args: SlaveArgs = settings.arguments()?;
    start_log(&args.common.process)?;
    settings.say();
    let mut config = settings::config::SlaveSettings::new(args).map_err(|failure| settings.locate(failure))?;
    config.common.reads = settings.files(&sources);
    role::slave::run(config, RunningSettings::new(sources, file, &settings))
}

fn master(sources: Sources) -> Result<(), Failure> {
    signal::hold()?;
    privilege::hide_memory()?;
    let file = sources.read_file()?;
    let settings = sources.resolve(file.as_ref())?;
    let args: MasterArgs = settings.arguments()?;
    start_log(&args.common.process)?;
    settings.say();
    let mut config = settings::master::MasterSettings::new(args).map_err(|failure| settings.locate(failure))?;
    config.common.reads = settings.files(&sources);
    role::master::run(config, RunningSettings::new(sources, file, &settings))
}

fn disk(sources: Sources) -> Result<(), Failure> {
    signal::hold()?;
    privilege::hide_memory()?;
    let file = sources.read_file()?;
    let settings = sources.resolve(file.as_ref())?;
    let args: DiskArgs = settings.arguments()?;
    start_log(&args.process)?;
    settings.say();
    let mut config = settings::disk::DiskSettings::new(args).map_err(|failure| settings.locate(failure))?;
    config.common.reads = settings.files(&sources);
    role::disk::run(config, RunningSettings::new(sources, file, &settings))
}

/// Starts the log of a role's process.
fn start_log(process: &ProcessArgs) -> Result<(), Failure> {
    log::start(&process.log, Some((process.seccomp, process.landlock == Switch::On)))
}
