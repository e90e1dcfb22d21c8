//! `gvm-pktgen`: see `gvm-pktgen --help`.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{CommandFactory, Parser};
use pktgen::cli::Cli;
use pktgen::report::{Report, Verdict};
use pktgen::run::{RunError, run};
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;

const CANNOT_RUN: u8 = 1;
const NOT_READY: u8 = 3;
const CONTENT: u8 = 4;
const LOSS: u8 = 5;

fn main() -> ExitCode {
    stdio::err::catch_panics();
    // The panic has printed its message already.
    let code = catch_unwind(command_line).unwrap_or(CANNOT_RUN);
    stdio::err::finish();
    ExitCode::from(code)
}

fn complain(error: &anyhow::Error) {
    stdio::err::line(&format!("gvm-pktgen: {error:#}"));
}

/// Prints clap's answer. Help was asked for; everything else is an error.
fn answer(answer: &clap::Error) -> u8 {
    match answer.print() {
        // If standard error fails, nobody can be told. If the reader of the help has gone, that is not an error.
        Err(error) if !answer.use_stderr() && error.kind() != ErrorKind::BrokenPipe => {
            complain(&anyhow::Error::from(error).context("cannot write to stdout"));
            CANNOT_RUN
        }
        _ => u8::try_from(answer.exit_code()).unwrap_or(CANNOT_RUN),
    }
}

fn command_line() -> u8 {
    match shell::answer(Cli::command) {
        Ok(false) => {}
        Ok(true) => return 0,
        Err(error) => return answer(&error),
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    if let Err(error) = prepare() {
        complain(&error);
        return CANNOT_RUN;
    }
    if let Some(made) = for_others(&cli) {
        return match made {
            Ok(()) => 0,
            Err(error) => {
                complain(&error);
                CANNOT_RUN
            }
        };
    }
    let quiet = cli.quiet;
    let say = move |line: &str| {
        if !quiet {
            stdio::err::line(line);
        }
    };
    let report = match run(&cli, say) {
        Ok(report) => report,
        Err(error) => {
            let code = if matches!(error, RunError::NotReady(_)) { NOT_READY } else { CANNOT_RUN };
            complain(&error.into());
            return code;
        }
    };
    if let Err(error) = print(&report, cli.json.as_deref()) {
        complain(&error);
        return CANNOT_RUN;
    }
    match report.verdict() {
        Verdict::Ok => 0,
        Verdict::Content => CONTENT,
        Verdict::Loss if cli.allow_loss => 0,
        Verdict::Loss => LOSS,
    }
}

/// Writes the manual page or the completions, if the command line asks for them.
fn for_others(cli: &Cli) -> Option<anyhow::Result<()>> {
    if let Some(directory) = &cli.man {
        let failed = || format!("cannot write the manual page to {}", directory.display());
        return Some(shell::manual::pages(Cli::command(), shell::release::date(), directory).with_context(failed));
    }
    let script = shell::script(cli.completion?, "gvm-pktgen");
    Some(script.and_then(|script| stdio::out::print(&script)).context("cannot write to stdout"))
}

/// Starts the log. A slow reader of the log delays no poll loop.
fn prepare() -> anyhow::Result<()> {
    stdio::survive_file_size_limit().context("cannot listen to signals")?;
    stdio::err::start(|| Ok::<_, std::convert::Infallible>(())).map_err(|error| match error {
        stdio::err::StartError::Spawn(error) => {
            anyhow::anyhow!("cannot start a thread for the log: {error}; is there a limit on processes (ulimit -u)?")
        }
        stdio::err::StartError::Confine(never) => match never {},
    })?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stdio::err::Lines::default);
    lines.with_ansi(stdio::err::is_terminal()).without_time().init();
    Ok(())
}

/// The table goes to standard output, unless the JSON does.
fn print(report: &Report, json: Option<&Path>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    let table = format!("{report}\n");
    let print = |text: &str| stdio::out::print(text).context("cannot write to stdout");
    match json {
        Some(path) if path == Path::new("-") => {
            stdio::err::line(&table);
            print(&text)?;
        }
        Some(path) => {
            print(&table)?;
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => print(&table)?,
    }
    Ok(())
}
