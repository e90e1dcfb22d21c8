//! `demo-table`: the figures of `scripts/demo.sh`, for people and as JSON, from what its processes reported.
#![forbid(unsafe_code)]

mod figures;
mod input;
mod table;

use anyhow::Context;
use bench::conditions::{Conditions, Machine};
use clap::Parser;
use figures::Figures;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(about = "The figures of scripts/demo.sh, from what its processes reported", version)]
struct Cli {
    /// Slaves that were registered
    #[arg(long)]
    slaves: u32,
    /// How long their registration took, in milliseconds
    #[arg(long)]
    registered_ms: u64,
    /// What gvm-pktgen reported of the run under load
    #[arg(long, value_name = "FILE")]
    load: PathBuf,
    /// What gvm-pktgen reported of round trips through the gateways
    #[arg(long, value_name = "FILE")]
    through: PathBuf,
    /// What gvm-pktgen reported of round trips without them
    #[arg(long, value_name = "FILE")]
    direct: PathBuf,
    /// What `gvm-dp stats --json` said of a gateway after the run under load; once for each
    #[arg(long, required = true, value_name = "FILE")]
    gateway: Vec<PathBuf>,
    /// A folder with copies of /proc/stat and /proc/loadavg, made when the run began
    #[arg(long, value_name = "FOLDER")]
    before: PathBuf,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// What the machine did since a run of many processes began.
fn conditions(before: &Path) -> anyhow::Result<Conditions> {
    let text = |name: &str| {
        let path = before.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let began = fs::metadata(before.join("stat"))?.modified()?;
    Conditions::since(&text("stat")?, &text("loadavg")?, began.elapsed().unwrap_or_default().as_secs_f64())
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let (machine, conditions) = (Machine::this(), conditions(&cli.before)?);
    let gateways: Vec<input::Gateway> = cli.gateway.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let runs = (read(&cli.load)?, read(&cli.through)?, read(&cli.direct)?);
    let figures = Figures::new(cli.slaves, cli.registered_ms, &gateways, &runs.0, &runs.1, &runs.2);
    print!("{}", table::of(&figures));
    println!("\nmachine: {machine}\nconditions: {conditions}");
    if let Some(path) = &cli.json {
        let mut json = serde_json::to_value(&figures)?;
        json["machine"] = serde_json::to_value(&machine)?;
        json["conditions"] = serde_json::to_value(&conditions)?;
        let text = serde_json::to_string_pretty(&json)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\nThe figures are also in {}.", path.display());
    }
    // A demo that lost or invented a record shows that something is wrong, and says so.
    anyhow::ensure!(figures.is_accounted_for(), "records are missing: see `unaccounted`, `lost` and `corrupted` above");
    Ok(())
}
