//! `udp`: a gateway on sockets of the kernel, over the loopback.
//!
//! Three questions: what trains save (several datagrams as one message of the kernel, in both directions) while input
//! never ends; what adaptive waiting costs and saves at a moderate rate, against polling; and how many records are lost
//! at a moderate rate by a gateway on one core.

mod paced;
mod saturated;
mod world;

use crate::ratios::{Ratios, median};
use crate::report::Report;
use frame::time::{MICROSECOND, MILLISECOND};
use lcore::RxMode;
use paced::{Pace, Slice};
use saturated::Load;
use std::time::Duration;

/// A master's stream to few slaves with the usual hold, and to more with a longer one: about as many records share a
/// datagram.
const LOADS: [Load; 2] = [Load { slaves: 4, hold: 50 * MICROSECOND }, Load { slaves: 64, hold: MILLISECOND }];

/// The rate of the comparison of polling with adaptive waiting, in records a second, and the slaves.
const WAITING: (u64, u32) = (300_000, 64);

/// The rate at which nearly nothing may be lost, in records a second, and the numbers of slaves.
const LOSSES: (u64, [u32; 2]) = (250_000, [64, 4096]);

/// Polling and adaptive waiting in turn.
#[derive(Clone, Debug)]
struct Waiting {
    polling: Vec<Slice>,
    adaptive: Vec<Slice>,
}

impl Waiting {
    fn measure(cores: [usize; 2], rounds: usize, length: Duration) -> anyhow::Result<Self> {
        let pace = Pace { cores, slaves: WAITING.1, rate: WAITING.0, length };
        let (mut polling, mut adaptive) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            polling.push(paced::slice(pace, RxMode::Polling)?);
            adaptive.push(paced::slice(pace, RxMode::Adaptive)?);
        }
        Ok(Self { polling, adaptive })
    }

    /// The p99 of adaptive waiting over that of polling, of the rounds.
    fn ratios(&self) -> Ratios {
        Ratios::of(
            self.polling.iter().zip(&self.adaptive).map(|(polling, adaptive)| adaptive.p99 / polling.p99).collect(),
        )
    }
}

fn middle(slices: &[Slice], of: impl Fn(&Slice) -> f64) -> f64 {
    median(slices.iter().map(of).collect())
}

/// The share of records that were lost, in percent.
fn percent(slice: &Slice) -> f64 {
    100.0 * slice.lost as f64 / slice.all.max(1) as f64
}

/// The benchmark; `length` is that of each slice at a fixed rate.
///
/// # Errors
/// There are no two cores, no memory or no socket; a record is missing that nobody counted, or came changed.
pub fn report(rounds: Option<usize>, length: Option<Duration>, quick: bool) -> anyhow::Result<Report> {
    // Threads are pinned later: then this process seems to have one core.
    let cores = paced::cores()?;
    let (usual, long, turns) = if quick { (1, 200, 2) } else { (9, 1000, 20) };
    let (rounds, length) = (rounds.unwrap_or(usual).max(1), length.unwrap_or(Duration::from_millis(long)));
    println!(
        "udp: a gateway on sockets over the loopback, records of 87 bytes, one in a datagram, all slaves at one address"
    );
    println!(
        "{:<34} {:>7} {:>8} {:>13} {:>6} {:>10} {:>13}",
        "down, saturated, CPU ns a record", "trains", "without", "sent, too", "ratio", "of rounds", "rec/dgram"
    );
    let mut rows = Vec::new();
    for load in LOADS {
        let row = saturated::row(load, rounds, turns)?;
        println!(
            "{:<34} {:>7.0} {:>8.0} {:>13.0} {:>6.2} {:>10} {:>6.1}/{:>6.1}",
            format!("{} slaves, hold {} us", load.slaves, load.hold / MICROSECOND),
            row.ns[0],
            row.ns[1],
            row.sent_too,
            row.ratios.median,
            row.ratios.range(),
            row.records_per_datagram[0],
            row.records_per_datagram[1]
        );
        rows.push(row);
    }
    let waiting = Waiting::measure(cores, rounds, length)?;
    println!(
        "{:<34} {:>10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9}",
        format!("{} records/s, {} slaves", WAITING.0, WAITING.1),
        "% of core",
        "p50 us",
        "p99 us",
        "rec/dgram",
        "sleeps/s",
        "naps/s",
        "% lost"
    );
    for (name, slices) in [("polling", &waiting.polling), ("adaptive", &waiting.adaptive)] {
        println!(
            "{name:<34} {:>10.1} {:>9.1} {:>9.1} {:>10.2} {:>9.0} {:>9.0} {:>9.3}",
            100.0 * middle(slices, |slice| slice.share),
            middle(slices, |slice| slice.p50),
            middle(slices, |slice| slice.p99),
            middle(slices, |slice| slice.records_per_datagram),
            middle(slices, |slice| slice.sleeps),
            middle(slices, |slice| slice.naps),
            middle(slices, percent)
        );
    }
    let p99 = waiting.ratios();
    println!("p99 of adaptive over polling: {p99}");
    println!(
        "{:<34} {:>9} {:>10} {:>9} {:>26}",
        format!("{} records/s, adaptive", LOSSES.0),
        "% lost",
        "of rounds",
        "% of core",
        "at gateway/in it/at slaves"
    );
    let mut losses = Vec::new();
    for slaves in LOSSES.1 {
        let pace = Pace { cores, slaves, rate: LOSSES.0, length };
        let slices = (0..rounds).map(|_| paced::slice(pace, RxMode::Adaptive)).collect::<anyhow::Result<Vec<_>>>()?;
        let range = Ratios::of(slices.iter().map(percent).collect());
        let at = |place: usize| slices.iter().filter_map(|slice| slice.lost_at.get(place)).sum::<u64>();
        println!(
            "{:<34} {:>9.3} {:>10} {:>9.1} {:>26}",
            format!("{slaves} slaves"),
            range.median,
            range.range(),
            100.0 * middle(&slices, |slice| slice.share),
            format!("{}/{}/{}", at(0), at(1), at(2))
        );
        losses.push(serde_json::json!({
            "slaves": slaves, "rate": LOSSES.0, "lost_percent": range.median, "lost_percents": range.json(),
            "lost_at": [at(0), at(1), at(2)], "share": middle(&slices, |slice| slice.share)
        }));
    }
    println!("every record came whole and in order, or somebody counted a loss");
    let row = rows.last().ok_or_else(|| anyhow::anyhow!("nothing was measured"))?;
    let mut details: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "slaves": row.load.slaves, "hold_ns": row.load.hold, "ns": row.ns, "ns_sent_too": row.sent_too,
                "records_per_datagram": row.records_per_datagram, "ratio": row.ratios.median,
                "ratios": row.ratios.json()
            })
        })
        .collect();
    for (name, slices) in [("polling", &waiting.polling), ("adaptive", &waiting.adaptive)] {
        details.push(serde_json::json!({
            "mode": name, "rate": WAITING.0, "share": middle(slices, |slice| slice.share),
            "p50_us": middle(slices, |slice| slice.p50), "p99_us": middle(slices, |slice| slice.p99),
            "p99_ratios": p99.json(), "lost_percent": middle(slices, percent)
        }));
    }
    details.extend(losses);
    Ok(Report { name: "udp", value: row.ns[0], unit: "ns/record", ratios: row.ratios, details: details.into() })
}
