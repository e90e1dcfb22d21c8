//! `rtt`: one READ of 4 KiB at a time over AF_XDP on veth, compared with a bare ping-pong of the same bytes.
//!
//! Two lcores, one in each of two namespaces, each with one AF_XDP port on its own core, polling. Both measurements use
//! the same ports. The bare ping-pong answers a packet of a READ request's size with packets of the sizes of its
//! responses, and neither reads nor writes payloads. The READ makes and checks two ICRCs, and copies the bytes out of
//! one region and into another.
//!
//! | module | what |
//! |---|---|
//! | [`bare`] | the ping-pong |
//! | [`machine`] | the lcores, and which of the two they do |

pub mod bare;
pub mod machine;

use crate::ratios::Ratios;
use crate::report::Report;
use crate::rtt::bare::BYTES;
use crate::rtt::machine::Pair;
use anyhow::Context as _;
use roce::Latencies;

/// Round trips of a turn, and of the turn that does not count: caches, next hops, the congestion window.
const TURN: (u64, u64) = (3000, 500);
/// The same of a quick run.
const QUICK: (u64, u64) = (200, 50);

/// One way's figures.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Every round trip that counted.
    pub latencies: Latencies,
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Table {
    /// The READ, and the bare ping-pong.
    pub rows: [Row; 2],
    /// p50 of the READ over that of the ping-pong of the same round.
    pub ratios: Ratios,
    /// The link's MTU, and the path MTU that follows.
    pub mtus: (u16, u32),
}

/// Measures both in turn, and prints a table and the READ's histogram. A round has `turn` round trips of each, the turn
/// before all rounds `warm_up`.
///
/// # Errors
/// AF_XDP cannot be had, or something did not come back.
pub fn table(rounds: usize, (turn, warm_up): (u64, u64), mtu: u16) -> anyhow::Result<Table> {
    let pair = Pair::start(mtu)?;
    let mut rows = ["READ", "ping-pong"].map(|name| Row { name, latencies: Latencies::new() });
    let mut ratios = Vec::with_capacity(rounds);
    pair.read(warm_up)?;
    pair.ping(warm_up)?;
    for round in 0..rounds {
        // Each comes first in every other round.
        let (read, ping) = if round % 2 == 0 {
            let read = pair.read(turn)?;
            (read, pair.ping(turn)?)
        } else {
            let ping = pair.ping(turn)?;
            (pair.read(turn)?, ping)
        };
        ratios.push(read.at(0.5) as f64 / ping.at(0.5) as f64);
        for (row, turn) in rows.iter_mut().zip([&read, &ping]) {
            row.latencies.merge(turn);
        }
    }
    let mtus = (mtu, pair.path_mtu());
    pair.end()?;
    for row in &rows {
        // The first of a turn has no predecessor and counts like all others.
        let (counted, asked) = (row.latencies.count(), turn * rounds as u64);
        anyhow::ensure!(counted == asked, "{asked} times {}, and {counted} came back", row.name);
    }
    let table = Table { rows, ratios: Ratios::of(ratios), mtus };
    table.print();
    Ok(table)
}

impl Table {
    fn print(&self) {
        let (mtu, path_mtu) = self.mtus;
        println!("one at a time, {BYTES} bytes, MTU {mtu}, path MTU {path_mtu}; microseconds");
        println!("{:>10} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "least", "p50", "p90", "p99", "p99.9");
        for Row { name, latencies } in &self.rows {
            let us = |share: f64| latencies.at(share) as f64 / 1e3;
            let shares = [0.0, 0.5, 0.9, 0.99, 0.999].map(us);
            let [least, p50, p90, p99, p999] = shares;
            println!("{name:>10} {least:>9.2} {p50:>9.2} {p90:>9.2} {p99:>9.2} {p999:>9.2}");
        }
        let Some(read) = self.rows.first() else { return };
        let most = read.latencies.powers().map(|(_, count)| count).max().unwrap_or(1).max(1);
        println!("READs by time:");
        for (bound, count) in read.latencies.powers().filter(|(_, count)| *count > 0) {
            let bar = "#".repeat((count * 40).div_ceil(most) as usize);
            println!("  up to {:>9.2} {count:>9} {bar}", bound as f64 / 1e3);
        }
        println!("p50 of a READ over that of the ping-pong: {}", self.ratios);
    }
}

/// The benchmark.
///
/// # Errors
/// See [`table`].
pub fn report(rounds: Option<usize>, mtu: u16, quick: bool) -> anyhow::Result<Report> {
    let (usual, turn) = if quick { (2, QUICK) } else { (9, TURN) };
    let table = table(rounds.unwrap_or(usual), turn, mtu)?;
    let us = |row: &Row, share: f64| row.latencies.at(share) as f64 / 1e3;
    let read = table.rows.first().context("nothing was measured")?;
    let details = table.rows.iter().map(|row| {
        let histogram: Vec<_> = row.latencies.powers().collect();
        serde_json::json!({
            "name": row.name, "mtu": table.mtus.0, "path_mtu": table.mtus.1, "least_us": us(row, 0.0),
            "p50_us": us(row, 0.5), "p90_us": us(row, 0.9), "p99_us": us(row, 0.99), "p999_us": us(row, 0.999),
            "histogram_ns": histogram
        })
    });
    let details = details.collect();
    Ok(Report { name: "rtt", value: us(read, 0.5), unit: "us-p50", ratios: table.ratios, details })
}
