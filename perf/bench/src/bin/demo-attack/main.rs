//! `demo-attack`: the hostile neighbours of `scripts/demo.sh --hostile`, and a check whether the honest nodes noticed.
//!
//! Use it only on machines and networks of your own.
#![forbid(unsafe_code)]

mod herd;
mod pcapng;
mod replay;
mod table;
mod verdict;

use anyhow::Context;
use clap::Parser;
use std::path::Path;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "What scripts/demo.sh --hostile does to a gateway, and what became of it", version)]
enum Cli {
    /// Registers as a master, with its own key, and floods the registrar with valid heartbeats
    Herd(herd::Args),
    /// Sends recorded link control again: heartbeats to their gateway, answers to their nodes
    Replay(replay::Args),
    /// Prints what each attacker tried, and whether the figures of the honest nodes hold; exit code 1 when they do not
    Verdict(verdict::Args),
}

fn write(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse() {
        Cli::Herd(args) => write(&args.json, &herd::run(&args)?)?,
        Cli::Replay(args) => write(&args.json, &replay::run(&args)?)?,
        Cli::Verdict(args) => {
            let (text, holds) = verdict::run(&args)?;
            stdio::out::print(&text)?;
            return Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}
