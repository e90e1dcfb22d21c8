//! `gvm-sim`: runs simulated clusters from their seeds.

use anyhow::{Context, bail};
use clap::Parser;

/// Runs simulated clusters. The same seed is the same run, to the last bit.
#[derive(Parser)]
#[command(name = "gvm-sim", version)]
struct Cli {
    /// The seed of one run.
    #[arg(long, conflicts_with = "seeds", required_unless_present = "seeds")]
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
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let run = if cli.large { sim::run_large } else { sim::run_seed };
    if let Some(seed) = cli.seed {
        println!("{}", run(seed, cli.trace)?);
        return Ok(());
    }
    let seeds = cli.seeds.unwrap_or_default();
    let numbers = seeds.split_once("..").and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
    let (first, end) =
        numbers.with_context(|| format!("\"{seeds}\" is no range of seeds: write for example 0..200"))?;
    let (mut failed, mut records) = (0, 0);
    for seed in first..end {
        match run(seed, cli.trace) {
            Ok(outcome) => records += outcome.sums.records,
            Err(failure) => {
                failed += 1;
                eprintln!("{failure}");
            }
        }
    }
    let runs = end.saturating_sub(first);
    println!("{runs} runs, {records} records at gateways, {failed} failed");
    if failed > 0 {
        bail!("{failed} of {runs} seeds failed; each is replayed by the command above");
    }
    Ok(())
}
