//! `pages`: remote memory moved and verified between real processes, while the gateway is killed and started again. The
//! trial is `perf/pages.sh`; here its figures are read and judged.
//!
//! The ratio of the last line is that of the pages a second of the step in which the gateway was killed, to those of
//! the next one.

use crate::ratios::Ratios;
use crate::report::{Report, grouped};
use crate::unavailable::needs_two_cores_and_namespaces;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the trial is run.
#[derive(Clone, Debug)]
pub struct PagesTrial {
    /// The script.
    pub script: PathBuf,
    /// Where `gvm-dp` is.
    pub binaries: PathBuf,
    /// How much memory, as `10G` or `256M`; the script's own choice without.
    pub size: Option<String>,
    /// Requests under way; the script's own choice without.
    pub depth: Option<u32>,
    /// Seconds of random reads; the script's own choice without.
    pub seconds: Option<u32>,
}

/// Records and datagrams of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Leg {
    records: u64,
    datagrams: u64,
}

impl Leg {
    fn saved(&self) -> f64 {
        100.0 * (1.0 - self.datagrams as f64 / self.records.max(1) as f64)
    }

    fn add(self, other: Self) -> Self {
        Self { records: self.records + other.records, datagrams: self.datagrams + other.datagrams }
    }
}

fn read(folder: &Path, name: &str) -> anyhow::Result<Value> {
    let file = folder.join(name);
    let text = std::fs::read(&file).with_context(|| format!("the script wrote no {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))
}

fn count(stats: &Value, set: &str, counter: &str) -> anyhow::Result<u64> {
    stats["total"][set][counter].as_u64().with_context(|| format!("statistics without {set} {counter}"))
}

fn leg(stats: &Value, set: &str, records: &str, datagrams: &str) -> anyhow::Result<Leg> {
    Ok(Leg { records: count(stats, set, records)?, datagrams: count(stats, set, datagrams)? })
}

/// One step of the application.
struct Step {
    name: String,
    pages: u64,
    per_second: f64,
    us: [f64; 3],
    repeated: u64,
    wrong_bytes: u64,
    failed: u64,
}

impl Step {
    fn of(step: &Value) -> anyhow::Result<Self> {
        let number = |key: &str| step[key].as_u64().with_context(|| format!("a step without {key}"));
        let us = |key| Ok::<_, anyhow::Error>(number(key)? as f64 / 1e3);
        Ok(Self {
            name: step["step"].as_str().context("a step without a name")?.to_owned(),
            pages: number("blocks")?,
            per_second: step["blocks_per_second"].as_f64().context("a step without a rate")?,
            us: [us("p50_ns")?, us("p99_ns")?, us("max_ns")?],
            repeated: number("repeated")?,
            wrong_bytes: number("wrong_bytes")?,
            failed: number("failed")?,
        })
    }
}

/// Runs the script; its files are in `out` then.
fn run(trial: &PagesTrial, out: &Path, quick: bool) -> anyhow::Result<()> {
    let mut command = Command::new(&trial.script);
    command.arg(&trial.binaries).arg(out).stdin(Stdio::null());
    if quick {
        command.arg("--quick");
    }
    let options = [
        ("--size", trial.size.clone()),
        ("--depth", trial.depth.map(|depth| depth.to_string())),
        ("--seconds", trial.seconds.map(|seconds| seconds.to_string())),
    ];
    for (name, value) in options {
        command.args(value.iter().flat_map(|value| [name, value]));
    }
    let status = command.status().with_context(|| format!("cannot run {}", trial.script.display()))?;
    ensure!(status.success(), "{} failed: {status}", trial.script.display());
    Ok(())
}

/// The benchmark.
///
/// # Errors
/// A process ended, a request failed, a byte was wrong, or the gateway was not killed while pages moved.
pub fn report(trial: &PagesTrial, quick: bool) -> anyhow::Result<Report> {
    needs_two_cores_and_namespaces()?;
    let out = std::env::temp_dir().join(format!("gvm-bench-pages-{}", std::process::id()));
    std::fs::create_dir_all(&out)?;
    let judged = run(trial, &out, quick).and_then(|()| judge(&out));
    // Nobody needs it, and a leftover in a temporary directory harms nobody.
    let _ = std::fs::remove_dir_all(&out);
    judged
}

fn judge(out: &Path) -> anyhow::Result<Report> {
    let bench = read(out, "bench.json")?;
    let steps = bench["steps"].as_array().context("no steps")?;
    let steps = steps.iter().map(Step::of).collect::<anyhow::Result<Vec<_>>>()?;
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    ensure!(names == ["write", "verify", "read"], "the steps are {names:?}");
    let depth = &bench["depth"];
    println!("pages: a master, a gateway and 4 slaves; AF_XDP at the master and the gateway, MTU 9000, depth {depth}");
    println!(
        "{:<8} {:>10} {:>10} {:>9} {:>9} {:>10} {:>9}",
        "", "pages", "pages/s", "p50 us", "p99 us", "max us", "repeated"
    );
    let mut details = Vec::new();
    for step in &steps {
        let [p50, p99, most] = step.us;
        let (name, pages) = (&step.name, grouped(step.pages));
        println!(
            "{name:<8} {pages:>10} {:>10.0} {p50:>9.1} {p99:>9.1} {most:>10.0} {:>9}",
            step.per_second, step.repeated
        );
        ensure!(step.failed == 0, "{} requests of the step {name} failed", step.failed);
        ensure!(step.wrong_bytes == 0, "{} bytes of the step {name} are wrong", step.wrong_bytes);
        details.push(serde_json::json!({
            "step": name, "pages": step.pages, "pages_per_second": step.per_second, "p50_us": p50, "p99_us": p99,
            "max_us": most, "repeated": step.repeated, "wrong_bytes": step.wrong_bytes
        }));
    }
    let (first, second) = (read(out, "gateway-1.json")?, read(out, "gateway-2.json")?);
    let (mut down, mut up) = (Leg::default(), Leg::default());
    for gateway in [&first, &second] {
        let carried = leg(gateway, "outbox", "down_records_out", "down_datagrams_out")?;
        ensure!(carried.records > 0, "a gateway carried nothing: it was not killed while pages moved");
        down = down.add(carried);
        up = up.add(leg(gateway, "outbox", "up_records_out", "up_datagrams_out")?);
    }
    let master = leg(&read(out, "master.json")?, "record", "rc_records_out", "datagrams_out")?;
    let mut slaves = Leg::default();
    for number in 1..=4 {
        let slave = read(out, &format!("slave-{number}.json"))?;
        slaves = slaves.add(leg(&slave, "record", "rc_records_out", "datagrams_out")?);
    }
    println!("{:<28} {:>12} {:>12} {:>14}", "", "records", "datagrams", "packets saved");
    let legs = [
        ("master to gateway", master),
        ("gateway to slaves", down),
        ("slaves to gateway", slaves),
        ("gateway to master", up),
    ];
    for (name, leg) in legs {
        println!("{name:<28} {:>12} {:>12} {:>12.1} %", grouped(leg.records), grouped(leg.datagrams), leg.saved());
        details.push(serde_json::json!({
            "leg": name, "records": leg.records, "datagrams": leg.datagrams, "saved_percent": leg.saved()
        }));
    }
    let wrong: u64 = steps.iter().map(|step| step.wrong_bytes).sum();
    println!("wrong bytes: {wrong}; the gateway was killed and started again while pages were written");
    let value = steps[2].per_second;
    let ratios = Ratios::of(vec![steps[0].per_second / steps[1].per_second]);
    Ok(Report { name: "pages", value, unit: "pages/s", ratios, details: details.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the script writes, as far as it is read.
    fn wrote(name: &str, wrong_bytes: u64, second: u64) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gvm-bench-pages-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, value: Value| std::fs::write(folder.join(name), value.to_string()).unwrap();
        let step = |name: &str, per_second: f64, wrong: u64| {
            serde_json::json!({
                "step": name, "blocks": 100, "blocks_per_second": per_second, "p50_ns": 1000, "p99_ns": 2000,
                "max_ns": 3000, "repeated": 0, "wrong_bytes": wrong, "failed": 0
            })
        };
        let steps = [step("write", 50.0, 0), step("verify", 100.0, wrong_bytes), step("read", 200.0, 0)];
        write("bench.json", serde_json::json!({ "steps": steps, "depth": 64 }));
        for (name, records) in [("gateway-1.json", 10), ("gateway-2.json", second)] {
            let outbox = serde_json::json!({
                "down_records_out": records, "down_datagrams_out": 1, "up_records_out": records, "up_datagrams_out": 2
            });
            write(name, serde_json::json!({ "total": { "outbox": outbox } }));
        }
        let record = serde_json::json!({ "total": { "record": { "rc_records_out": 8, "datagrams_out": 2 } } });
        ["master", "slave-1", "slave-2", "slave-3", "slave-4"].iter().for_each(|name| {
            write(&format!("{name}.json"), record.clone());
        });
        folder
    }

    #[test]
    fn a_trial_is_judged() {
        let good = wrote("good", 0, 20);
        let report = judge(&good).unwrap();
        assert_eq!((report.value, report.ratios.median), (200.0, 0.5));
        let legs: Vec<_> = report.details.as_array().unwrap().iter().filter(|part| part["leg"].is_string()).collect();
        assert_eq!((&legs[0]["saved_percent"], &legs[1]["records"]), (&75.0.into(), &30.into()));
        let wrong = wrote("wrong", 3, 20);
        assert!(judge(&wrong).unwrap_err().to_string().contains("3 bytes"));
        let early = wrote("early", 0, 0);
        assert!(judge(&early).unwrap_err().to_string().contains("was not killed while pages moved"));
        for folder in [good, wrong, early] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
