//! `failover`: the cost of a drain and of the death of one of two gateways. The trial itself is `perf/failover.sh`,
//! between real processes; here it is repeated, and its figures are collected.

use crate::ratios::{Ratios, median};
use crate::report::Report;
use anyhow::{Context as _, ensure};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How the trial is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The script.
    pub script: PathBuf,
    /// Where `gvm-dp` and `gvm-pktgen` are.
    pub binaries: PathBuf,
    /// Records a second down, and as many up; the script's own choice without.
    pub rate: Option<u64>,
    /// Slaves; the script's own choice without.
    pub slaves: Option<u32>,
}

/// One figure of a trial: `name=... value=... unit=... ratio=...`.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    ratio: f64,
}

impl Figure {
    fn of(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut field = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix('=');
        let (name, value) = (field("name")?.to_owned(), field("value")?.parse().ok()?);
        Some(Self { name, value, unit: field("unit")?.to_owned(), ratio: field("ratio")?.parse().ok()? })
    }
}

/// Runs the trial once. Its other output is shown.
fn trial(options: &Options, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(&options.script);
    command.arg(&options.binaries).stdout(Stdio::piped()).stdin(Stdio::null());
    if let Some(rate) = options.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if let Some(slaves) = options.slaves {
        command.args(["--slaves", &slaves.to_string()]);
    }
    if quick {
        command.arg("--quick");
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", options.script.display()))?;
    let mut figures = Vec::new();
    for line in BufReader::new(child.stdout.take().context("piped")?).lines() {
        let line = line?;
        match Figure::of(&line) {
            Some(figure) => figures.push(figure),
            None => println!("{line}"),
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "{} failed: {status}", options.script.display());
    Ok(figures)
}

/// The benchmark: `repeats` trials.
///
/// # Errors
/// A trial failed: a process ended, or what arrived is not what was sent.
pub fn report(repeats: Option<usize>, options: &Options, quick: bool) -> anyhow::Result<Report> {
    let repeats = repeats.unwrap_or(if quick { 1 } else { 3 });
    let mut trials = Vec::new();
    for _ in 0..repeats {
        trials.push(trial(options, quick)?);
    }
    collect(&trials)
}

fn collect(trials: &[Vec<Figure>]) -> anyhow::Result<Report> {
    let first = trials.first().context("nothing was measured")?;
    let mut rows = Vec::new();
    for Figure { name, unit, .. } in first {
        let of: Vec<_> = trials.iter().flatten().filter(|figure| figure.name == *name).collect();
        ensure!(of.len() == trials.len(), "{name} is missing in a trial");
        let value = median(of.iter().map(|figure| figure.value).collect());
        let ratios = Ratios::of(of.iter().map(|figure| figure.ratio).collect());
        println!("{name:<24} {value:>10.3} {unit:<8} ratios: {ratios}");
        rows.push((name, value, unit, ratios));
    }
    let outage = rows.iter().find(|(name, ..)| *name == "failover-kill-outage");
    let (_, value, _, ratios) = outage.context("no trial tells the outage of a kill")?;
    let details = rows.iter().map(|(name, value, unit, ratios)| {
        serde_json::json!({ "name": name, "value": value, "unit": unit, "ratios": ratios.json() })
    });
    let details = details.collect();
    Ok(Report { name: "failover-kill-outage", value: *value, unit: "s", ratios: *ratios, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_from_other_lines() {
        let figure = Figure::of("name=failover-drain-lost value=3 unit=records ratio=1.500").unwrap();
        assert_eq!((figure.name.as_str(), figure.value, figure.unit.as_str()), ("failover-drain-lost", 3.0, "records"));
        for line in
            ["trial  records  lost", "", "name=x", "name=x value=y unit=s ratio=1", "the name=x value=1 unit=s ratio=1"]
        {
            assert_eq!(Figure::of(line), None, "{line}");
        }
    }

    #[test]
    fn trials_become_a_median_and_a_range() {
        let trial = |outage: f64, ratio: f64| {
            let lost = Figure { name: "failover-drain-lost".into(), value: 0.0, unit: "records".into(), ratio: 1.0 };
            vec![lost, Figure { name: "failover-kill-outage".into(), value: outage, unit: "s".into(), ratio }]
        };
        let report = collect(&[trial(2.5, 2.0), trial(2.0, 1.5), trial(3.0, 4.0)]).unwrap();
        assert_eq!((report.value, report.ratios), (2.5, Ratios { median: 2.0, least: 1.5, largest: 4.0, rounds: 3 }));
        assert!(collect(&[trial(2.5, 2.0), Vec::new()]).is_err(), "a trial without figures");
        assert!(collect(&[]).is_err());
    }
}
