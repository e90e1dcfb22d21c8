//! `gvm-sim`: runs simulated clusters from their seeds.

use anyhow::Context;
use clap::Parser;
use frame::time::MICROSECOND;
use sim::incast::run::{Phases, run as run_incast};
use sim::incast::scenarios;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

/// Runs simulated clusters. The same seed is the same run, to the last bit.
#[derive(Parser)]
#[command(name = "gvm-sim", version)]
struct Cli {
    /// The seed of one run.
    #[arg(long, conflicts_with = "seeds", required_unless_present_any = ["seeds", "incast"])]
    seed: Option<u64>,
    /// Many runs: the seeds A to B - 1, as in 0..200.
    #[arg(long, value_name = "A..B")]
    seeds: Option<String>,
    /// Print every event: virtual time in seconds, microseconds and nanoseconds, who, what.
    #[arg(long)]
    trace: bool,
    /// The large cluster of the seed: thousands of slaves, a gateway with 16 lcores.
    #[arg(long)]
    large: bool,
    /// The worlds of incast of the documentation, and their figures; or those with a text in their names.
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    #[arg(conflicts_with_all = ["large", "qp", "seed", "seeds"])]
    incast: Option<String>,
    /// Two endpoints of reliable connections instead of a cluster.
    #[arg(long, conflicts_with = "large")]
    qp: bool,
}

/// Runs one seed: how many records went through gateways, what was counted, and what to say.
fn run(cli: &Cli, seed: u64) -> Result<(u64, BTreeMap<String, u64>, String), String> {
    if cli.qp {
        let outcome = sim::qp::run_seed(seed, cli.trace).map_err(|failure| failure.to_string())?;
        let text = outcome.to_string();
        return Ok((0, outcome.counted, text));
    }
    let run = if cli.large { sim::run_large } else { sim::run_seed };
    let outcome = run(seed, cli.trace).map_err(|failure| failure.to_string())?;
    let text = outcome.to_string();
    Ok((
        outcome.sums.records,
        outcome.counted.into_iter().map(|(name, count)| (name.to_string(), count)).collect(),
        text,
    ))
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(text) = &cli.incast {
        return Ok(incast(text));
    }
    if let Some(seed) = cli.seed {
        return Ok(match run(&cli, seed) {
            Ok((_, _, text)) => {
                say(&format!("{text}\n"));
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        });
    }
    let seeds = cli.seeds.clone().unwrap_or_default();
    let numbers = seeds.split_once("..").and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
    let (first, end) =
        numbers.with_context(|| format!("\"{seeds}\" is not a range of seeds: write for example 0..200"))?;
    let (mut failed, mut records, mut counted) = (0, 0, BTreeMap::<String, u64>::new());
    for seed in first..end {
        match run(&cli, seed) {
            Ok((more, names, _)) => {
                records += more;
                names.into_iter().for_each(|(name, count)| *counted.entry(name).or_default() += count);
            }
            Err(failure) => {
                failed += 1;
                eprintln!("{failure}");
            }
        }
    }
    let runs = end.saturating_sub(first);
    counted.iter().for_each(|(name, count)| say(&format!("{name:<40} {count}\n")));
    say(&format!("{runs} runs, {records} records at gateways, {failed} failed\n"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a line for each master of each world.
fn incast(text: &str) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    say("world | goodput of 1,000 | demand p50 p99 alone, beside bulk, us | lost at start, later | longest queue\n");
    for (name, spec) in scenarios::all().into_iter().filter(|(name, _)| name.contains(text)) {
        match run_incast(&spec, &Phases::USUAL, 1) {
            Ok(outcome) => outcome.masters.iter().for_each(|master| {
                let [a, b, c, d] = [master.unloaded[0], master.unloaded[1], master.loaded[0], master.loaded[1]]
                    .map(|time| time / MICROSECOND);
                let (goodput, lost) = (master.goodput, [outcome.lost_at_start, outcome.lost + outcome.dropped]);
                let longest = outcome.longest;
                say(&format!("{name} | {goodput} | {a} {b}, {c} {d} | {}, {} | {longest}\n", lost[0], lost[1]));
            }),
            Err(what) => {
                eprintln!("{name}: {what}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Writes to standard output. A closed output is not a failure of the run.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
