//! `fio` as the client of an NBD server: what it is to read, and what it says.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The program.
pub(super) const FIO: &str = "fio";

/// What is read, and how much of it is outstanding.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadPattern {
    /// For people.
    pub(super) name: &'static str,
    /// As `fio` calls the order.
    pub(super) order: &'static str,
    /// Bytes of a READ.
    pub(super) bytes: u64,
    /// READs outstanding.
    pub(super) depth: u32,
}

/// What `fio` says about one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FioRun {
    /// READs that ended.
    pub(super) operations: u64,
    /// The time that they took.
    pub(super) seconds: f64,
    /// Median and 99th percentile of their latencies, in microseconds.
    pub(super) us: [f64; 2],
    /// Seconds of processor time of `fio` itself.
    pub(super) cpu: f64,
}

impl FioRun {
    /// Reads from the server at a Unix socket for so long.
    ///
    /// # Errors
    /// `fio` fails, a READ failed, or `fio` says something else than expected.
    pub(super) fn of(pattern: &ReadPattern, socket: &Path, size: u64, length: Duration) -> anyhow::Result<Self> {
        let mut command = Command::new(FIO);
        command.args(["--name=disk", "--ioengine=nbd", "--thread", "--time_based", "--norandommap"]);
        command.arg(format!("--uri=nbd+unix:///?socket={}", socket.display()));
        command.arg(format!("--rw={}", pattern.order));
        command.arg(format!("--bs={}", pattern.bytes));
        command.arg(format!("--iodepth={}", pattern.depth));
        command.arg(format!("--size={size}"));
        command.arg(format!("--runtime={}ms", length.as_millis()));
        command.arg("--output-format=json").stdin(Stdio::null());
        let output = command.output().context("cannot run fio")?;
        let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "fio failed: {} {said}{complaint}", output.status);
        Self::parse(&said).with_context(|| format!("fio said: {said}{complaint}"))
    }

    /// Notes may stand before the JSON.
    fn parse(said: &str) -> anyhow::Result<Self> {
        let json = said.find('{').and_then(|at| said.get(at..)).context("no JSON")?;
        let all: Value = serde_json::from_str(json)?;
        let job = &all["jobs"][0];
        ensure!(job["error"] == 0, "a READ failed: error {}", job["error"]);
        let number = |value: &Value, what: &str| value.as_f64().with_context(|| format!("no {what}"));
        let read = &job["read"];
        let operations = read["total_ios"].as_u64().context("no total_ios")?;
        let seconds = number(&read["runtime"], "runtime")? / 1e3;
        ensure!(operations > 0 && seconds > 0.0, "{operations} READs in {seconds} s");
        let percentiles = &read["clat_ns"]["percentile"];
        let us = |share: &str| number(&percentiles[share], share).map(|ns| ns / 1e3);
        let share = number(&job["usr_cpu"], "usr_cpu")? + number(&job["sys_cpu"], "sys_cpu")?;
        Ok(Self { operations, seconds, us: [us("50.000000")?, us("99.000000")?], cpu: share / 100.0 * seconds })
    }

    /// READs in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fio_says_is_understood() {
        let said = |error: u32, operations: u64| {
            let percentile = serde_json::json!({ "50.000000": 250_000, "99.000000": 900_000 });
            let read = serde_json::json!({
                "total_ios": operations, "runtime": 2_000, "clat_ns": { "percentile": percentile }
            });
            let job = serde_json::json!({ "error": error, "read": read, "usr_cpu": 30.0, "sys_cpu": 20.0 });
            format!("note: both iodepth >= 1 and synchronous\n{}", serde_json::json!({ "jobs": [job] }))
        };
        let run = FioRun::parse(&said(0, 100_000)).unwrap();
        assert_eq!(run, FioRun { operations: 100_000, seconds: 2.0, us: [250.0, 900.0], cpu: 1.0 });
        assert_eq!(run.per_second() as u64, 50_000);
        for wrong in [said(5, 100_000), said(0, 0), "{}".to_owned(), "fio: nothing".to_owned()] {
            assert!(FioRun::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
