//! Whether the figures of the honest nodes hold, and what happened to each attacker.

use crate::herd::Herd;
use crate::replay::Replay;
use crate::table::{Row, table};
use anyhow::Context;
use bench::report::grouped;
use clap::Args as Flags;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Flags)]
pub(crate) struct Args {
    /// Honest slaves
    #[arg(long)]
    slaves: u64,
    /// What gvm-pktgen reported of the honest slaves while nobody attacked
    #[arg(long, value_name = "FILE")]
    alone: PathBuf,
    /// The same under attack
    #[arg(long, value_name = "FILE")]
    attacked: PathBuf,
    /// What `gvm-dp stats --json` said of a gateway before the attack; once for each
    #[arg(long, required = true, value_name = "FILE")]
    before: Vec<PathBuf>,
    /// The same after it, in the same order
    #[arg(long, required = true, value_name = "FILE")]
    after: Vec<PathBuf>,
    /// What `gvm-dp stats --json` said of the flooding slave
    #[arg(long, value_name = "FILE")]
    flooder: PathBuf,
    /// What the master reported that fills the slow link, where there is one
    #[arg(long, value_name = "FILE")]
    slow: Option<PathBuf>,
    /// What the replayer reported
    #[arg(long, value_name = "FILE")]
    replay: PathBuf,
    /// What the member reported that floods the registrar
    #[arg(long, value_name = "FILE")]
    herd: PathBuf,
    /// The most honest records that may be lost, in a million
    #[arg(long, default_value_t = 1000)]
    lost: u64,
    /// The longest round trip of 99 % of the honest records, in milliseconds
    #[arg(long, default_value_t = 50)]
    p99: u64,
}

/// Of `gvm-dp stats --json`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Stats {
    #[serde(default)]
    pub membership: Membership,
    pub total: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(default)]
    pub directions: BTreeMap<String, Direction>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Membership {
    pub registered: u64,
    pub suspect: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Direction {
    pub unaccounted: i64,
}

/// Of `gvm-pktgen --json`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Run {
    pub echo: Checked,
    pub down: Sent,
    pub latency_ns: Latency,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Sent {
    pub records: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Checked {
    pub ok: u64,
    pub lost: u64,
    pub corrupted: u64,
    pub duplicate: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Latency {
    pub p50: u64,
    pub p99: u64,
}

/// All that was reported.
pub(crate) struct Reports {
    pub slaves: u64,
    pub alone: Run,
    pub attacked: Run,
    pub before: Vec<Stats>,
    pub after: Vec<Stats>,
    pub flooder: Stats,
    pub slow: Option<Run>,
    pub replay: Replay,
    pub herd: Herd,
    pub lost: u64,
    pub p99: u64,
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<(String, bool)> {
    let all = |paths: &[PathBuf]| paths.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<Stats>>>();
    let reports = Reports {
        slaves: args.slaves,
        alone: read(&args.alone)?,
        attacked: read(&args.attacked)?,
        before: all(&args.before)?,
        after: all(&args.after)?,
        flooder: read(&args.flooder)?,
        slow: args.slow.as_deref().map(read).transpose()?,
        replay: read(&args.replay)?,
        herd: read(&args.herd)?,
        lost: args.lost,
        p99: args.p99,
    };
    let rows = reports.rows();
    let holds = rows.iter().all(|row| row.holds);
    Ok((table(&rows) + &reports.honest(holds), holds))
}

impl Stats {
    fn counter(&self, set: &str, name: &str) -> u64 {
        self.total.get(set).and_then(|set| set.get(name)).copied().unwrap_or(0)
    }
}

/// How often `part` is in `whole`, with two digits.
fn times(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.2}", part as f64 / whole as f64) }
}

impl Reports {
    /// How much a counter of the gateways grew.
    fn grew(&self, set: &str, name: &str) -> u64 {
        let sum = |stats: &[Stats]| stats.iter().map(|stats| stats.counter(set, name)).sum::<u64>();
        sum(&self.after).saturating_sub(sum(&self.before))
    }

    fn rows(&self) -> Vec<Row> {
        let Self { replay, herd, attacked, alone, .. } = self;
        let flooded = self.flooder.counter("farm", "traffic_records");
        let row = |who: &str, tried: String, became: String, holds| Row { who: who.to_owned(), tried, became, holds };
        let mut rows = vec![row(
            "a slave floods its master",
            format!("{} records", grouped(flooded)),
            "its own; the honest figures below".to_owned(),
            flooded > 0,
        )];
        if let Some(slow) = &self.slow {
            rows.push(row(
                "a slave behind 10 Mbit/s",
                format!("was sent {} records", grouped(slow.down.records)),
                format!("{} of them came back", grouped(slow.echo.ok)),
                slow.down.records > 0,
            ));
        }
        // The answer to a recorded message is no longer than the message, and no registration moves.
        let refused = self.grew("link", "refused_replayed") + self.grew("link", "refused_duplicate");
        rows.push(row(
            "a replayer",
            format!("{} heartbeats, {} answers", grouped(replay.heartbeats), grouped(replay.answers)),
            format!(
                "{} refused by name; {} bytes back for each",
                grouped(refused),
                times(replay.came_back_bytes, replay.heartbeat_bytes)
            ),
            replay.heartbeats > 0 && replay.came_back_bytes <= replay.heartbeat_bytes,
        ));
        let rate = herd.heartbeats as f64 / herd.seconds.max(0.001);
        rows.push(row(
            "a member floods the registrar",
            format!("{} heartbeats/s", grouped(rate as u64)),
            format!("{} bytes back for each", times(herd.answer_bytes, herd.bytes)),
            herd.heartbeats > 0 && herd.answer_bytes <= 3 * herd.bytes,
        ));
        let sum = |of: fn(&Membership) -> u64| self.after.iter().map(|stats| of(&stats.membership)).sum::<u64>();
        let (here, suspect) = (sum(|members| members.registered), sum(|members| members.suspect));
        let gone = self.grew("link", "nodes_gone");
        rows.push(row(
            "honest slaves",
            format!("{} registered", grouped(self.slaves)),
            format!("{} are, {} suspect, {} gone meanwhile", grouped(here), grouped(suspect), grouped(gone)),
            // The slow slave itself may be lost: its answers wait behind the data that it is sent.
            here >= self.slaves && suspect == 0 && gone <= u64::from(self.slow.is_some()),
        ));
        let sent = attacked.echo.ok + attacked.echo.lost;
        let wrong = attacked.echo.corrupted + attacked.echo.duplicate;
        rows.push(row(
            "honest records",
            format!("{} sent and answered", grouped(sent)),
            format!("{} lost, {} wrong", grouped(attacked.echo.lost), grouped(wrong)),
            attacked.echo.ok > 0 && attacked.echo.lost * 1_000_000 <= self.lost * sent && wrong == 0,
        ));
        let ms = |ns: u64| format!("{:.2}", ns as f64 / 1e6);
        rows.push(row(
            "honest round trips",
            format!("99 % in {} ms alone", ms(alone.latency_ns.p99)),
            format!("99 % in {} ms, half in {}", ms(attacked.latency_ns.p99), ms(attacked.latency_ns.p50)),
            attacked.latency_ns.p99 <= self.p99 * 1_000_000,
        ));
        let unaccounted: i64 =
            self.after.iter().flat_map(|stats| stats.directions.values()).map(|way| way.unaccounted.abs()).sum();
        rows.push(row(
            "books of the gateways",
            "every record".to_owned(),
            format!("{unaccounted} not accounted for"),
            unaccounted == 0,
        ));
        rows
    }

    fn honest(&self, holds: bool) -> String {
        if holds {
            "\nThe honest figures hold.\n".to_owned()
        } else {
            format!(
                "\nTHE HONEST FIGURES DO NOT HOLD: at most {} records in a million may be lost, and 99 % must take at \
                 most {} \
                 ms.\n",
                self.lost, self.p99
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ok: u64, lost: u64, p99: u64) -> Run {
        let text = format!(
            r#"{{"down": {{"records": {}}}, "echo": {{"ok": {ok}, "lost": {lost}, "corrupted": 0, "duplicate": 0}},
                "latency_ns": {{"p50": 100000, "p99": {p99}}}}}"#,
            ok + lost
        );
        serde_json::from_str(&text).unwrap()
    }

    fn stats(registered: u64, gone: u64) -> Stats {
        let text = format!(
            r#"{{"membership": {{"registered": {registered}, "suspect": 0}},
                "total": {{"link": {{"nodes_gone": {gone}, "refused_replayed": 7}}}},
                "directions": {{"up": {{"unaccounted": 0}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn reports() -> Reports {
        let flooder = serde_json::from_str(r#"{"total": {"farm": {"traffic_records": 50000}}}"#).unwrap();
        Reports {
            slaves: 100,
            alone: run(1000, 0, 400_000),
            attacked: run(10_000, 9, 4_000_000),
            before: vec![stats(50, 3), stats(50, 0)],
            after: vec![stats(50, 3), stats(50, 0)],
            flooder,
            slow: Some(run(100, 900, 1)),
            replay: Replay { heartbeats: 9, heartbeat_bytes: 900, answers: 9, came_back: 9, came_back_bytes: 900 },
            herd: Herd { heartbeats: 20_000, bytes: 2_000_000, answers: 5, answer_bytes: 500, seconds: 1.0 },
            lost: 1000,
            p99: 50,
        }
    }

    /// The rows that do not hold.
    fn broken(reports: &Reports) -> Vec<String> {
        reports.rows().into_iter().filter(|row| !row.holds).map(|row| row.who).collect()
    }

    #[test]
    fn honest_figures_hold() {
        let reports = reports();
        assert_eq!(broken(&reports), [""; 0]);
        let text = table(&reports.rows());
        assert!(text.contains("20,000 heartbeats/s") && text.contains("100 are, 0 suspect, 0 gone"), "{text}");
        assert!(reports.honest(true).contains("hold"));
    }

    #[test]
    fn each_figure_that_does_not_hold_is_named() {
        type Change = fn(&mut Reports);
        let cases: [(&str, Change); 12] = [
            ("honest slaves", |r| r.after[0].membership.registered = 49),
            ("honest slaves", |r| r.after[1].membership.suspect = 1),
            ("honest slaves", |r| r.after[1] = stats(50, 2)),
            ("honest records", |r| r.attacked.echo.lost = 11),
            ("honest records", |r| r.attacked.echo.corrupted = 1),
            ("honest records", |r| (r.attacked.echo.ok, r.attacked.echo.lost) = (0, 0)),
            ("honest round trips", |r| r.attacked.latency_ns.p99 = 51_000_000),
            ("books of the gateways", |r| r.after[0].directions.get_mut("up").unwrap().unaccounted = -1),
            ("a replayer", |r| r.replay.came_back_bytes = 901),
            ("a member floods the registrar", |r| r.herd.answer_bytes = 6_000_001),
            // An attacker that did nothing proves nothing.
            ("a slave floods its master", |r| r.flooder.total.clear()),
            ("a member floods the registrar", |r| r.herd.heartbeats = 0),
        ];
        for (who, change) in cases {
            let mut reports = reports();
            change(&mut reports);
            assert_eq!(broken(&reports), [who]);
        }
    }
}
