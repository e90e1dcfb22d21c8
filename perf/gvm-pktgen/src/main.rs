//! `gvm-pktgen`: see `gvm-pktgen --help`.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{CommandFactory, Parser};
use pktgen::cli::Cli;
use pktgen::report::{Report, Verdict};
use pktgen::run::{RunError, run};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

const CANNOT_RUN: u8 = 1;
const NOT_READY: u8 = 3;
const CONTENT: u8 = 4;
const LOSS: u8 = 5;

fn main() -> ExitCode {
    match shell::answer(Cli::command) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => error.exit(),
    }
    let cli = Cli::parse();
    if let Some(made) = for_others(&cli) {
        return match made {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "gvm-pktgen: {error:#}");
                ExitCode::from(CANNOT_RUN)
            }
        };
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let quiet = cli.quiet;
    let say = move |line: &str| {
        if !quiet {
            // Without a standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    };
    let report = match run(&cli, say) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "gvm-pktgen: {error}");
            return ExitCode::from(if matches!(error, RunError::NotReady(_)) { NOT_READY } else { CANNOT_RUN });
        }
    };
    if let Err(error) = print(&report, cli.json.as_deref()) {
        let _ = writeln!(std::io::stderr(), "gvm-pktgen: {error:#}");
        return ExitCode::from(CANNOT_RUN);
    }
    match report.verdict() {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Content => ExitCode::from(CONTENT),
        Verdict::Loss if cli.allow_loss => ExitCode::SUCCESS,
        Verdict::Loss => ExitCode::from(LOSS),
    }
}

/// What `man` and shells ask for, if that is what is asked for.
fn for_others(cli: &Cli) -> Option<anyhow::Result<()>> {
    if let Some(directory) = &cli.man {
        let failed = || format!("cannot write the manual page to {}", directory.display());
        return Some(shell::manual::pages(Cli::command(), shell::release::date(), directory).with_context(failed));
    }
    let script = shell::script(cli.completion?, "gvm-pktgen");
    Some(script.and_then(|script| std::io::stdout().write_all(script.as_bytes())).context("cannot print"))
}

/// The table goes to standard output, unless the JSON does.
fn print(report: &Report, json: Option<&Path>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    let mut stdout = std::io::stdout().lock();
    match json {
        Some(path) if path == Path::new("-") => {
            writeln!(std::io::stderr(), "{report}")?;
            writeln!(stdout, "{text}")?;
        }
        Some(path) => {
            writeln!(stdout, "{report}")?;
            std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => writeln!(stdout, "{report}")?,
    }
    Ok(())
}
