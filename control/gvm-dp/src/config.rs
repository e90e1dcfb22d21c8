//! `gvm-dp config`: the settings of a process that runs or would run.

use crate::check;
use crate::cli::{ConfigCommand, ShowArgs, ShowRole};
use api::settings::{SettingAnswer, SettingsAnswer};
use clap::ArgMatches;
use client::Target;
use client::args::NameArgs;
use client::set::text;
use common::exit::Failure;
use common::output::print;
use hyper::Method;
use serve::tuning::answer;
use settings::{RoleName, RunningSettings, Sources, example};
use std::fmt::Write as _;

/// Runs one of the config commands. `matches` are those of `gvm-dp config`.
///
/// # Errors
/// It fails as [`check::file`] does, or as [`Sources::read_file`] and [`Sources::resolve`] do. With `--running` it
/// fails as [`Target::find`] and [`Target::request`] do. The error is [`Failure::Output`] when stdout does not take the
/// text.
pub fn run(command: &ConfigCommand, matches: &ArgMatches) -> Result<(), Failure> {
    match command {
        ConfigCommand::Show(args) => show(args, matches.subcommand().map_or(matches, |(_, matches)| matches)),
        ConfigCommand::Check { file } => {
            let report = check::file(file.as_deref())?;
            print(&report).map(drop)
        }
        ConfigCommand::Example => print(&example::text()).map(drop),
    }
}

fn show(args: &ShowArgs, matches: &ArgMatches) -> Result<(), Failure> {
    let answer = if args.running {
        let target = Target::find(&NameArgs { name: args.gateway.common.process.name.clone() })?;
        target.read(&target.request(Method::GET, "/v1/settings")?)?
    } else {
        let role = match args.role {
            None | Some(ShowRole::Gateway(_)) => RoleName::Gateway,
            Some(ShowRole::Slave(_)) => RoleName::Slave,
            Some(ShowRole::Master(_)) => RoleName::Master,
            Some(ShowRole::Disk(_)) => RoleName::Disk,
        };
        let sources = Sources::new(role, matches.subcommand().map_or(matches, |(_, matches)| matches));
        let file = sources.read_file()?;
        let settings = sources.resolve(file.as_ref())?;
        answer(&RunningSettings::new(sources, file, &settings))
    };
    let text = if args.json {
        format!("{}\n", serde_json::to_string(&answer).map_err(|error| Failure::Internal(error.to_string()))?)
    } else {
        table(&answer)
    };
    print(&text).map(drop)
}

fn table(answer: &SettingsAnswer) -> String {
    let mut out = String::new();
    let file = answer.file.as_deref().unwrap_or("none");
    let _ = writeln!(out, "role {}, configuration file {file}\n", answer.role);
    let _ = writeln!(out, "{:<18}{:<28}from", "setting", "value");
    for setting in &answer.settings {
        let SettingAnswer { name, value, from, place, after_restart, .. } = setting;
        let _ = write!(out, "{name:<18}{:<28}{}", text(value), place.as_ref().unwrap_or(from));
        let _ = match after_restart {
            Some(value) => writeln!(out, "; {} after a restart", text(value)),
            None => writeln!(out),
        };
    }
    out
}
