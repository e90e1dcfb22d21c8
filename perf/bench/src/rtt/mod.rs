//! `rtt`: one READ of 4 KiB at a time over AF_XDP on veth, against a bare ping-pong of the same bytes.
//!
//! Two lcores, one in each of two namespaces, each with one AF_XDP port on its own core, polling. Both ways use the same
//! ports. The bare ping-pong answers a packet of a READ request's size with packets of the sizes of its responses, and
//! looks at nothing and writes nothing; the READ makes and checks two ICRCs, and copies the bytes out of one region and
//! into another.
//!
//! | module | what |
//! |---|---|
//! | [`bare`] | the ping-pong |
//! | [`machine`] | the lcores, and which of the two they do |

pub mod bare;
pub mod machine;

use crate::rtt::machine::Pair;
use roce::Latencies;

/// Bytes of a READ.
pub const BYTES: u32 = 4096;

/// Round trips of a turn, the first of which do not count: caches, next hops, the congestion window.
const TURN: u64 = 3000;
const WARM_UP: u64 = 500;

/// One way's figures.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// Every round trip that counted.
    pub latencies: Latencies,
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Table {
    /// The READ, and the bare ping-pong.
    pub rows: [Row; 2],
    /// p50 of the READ over that of the ping-pong of the same round, of each round.
    pub ratios: Vec<f64>,
    /// The link's MTU, and the path MTU that follows.
    pub mtus: (u16, u32),
}

impl Table {
    /// The middle one of all rounds' ratios.
    pub fn ratio(&self) -> f64 {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Measures both in turn, and prints a table and the READ's histogram.
///
/// # Errors
/// AF_XDP cannot be had, or something did not come back.
pub fn table(rounds: usize, mtu: u16) -> anyhow::Result<Table> {
    let pair = Pair::start(mtu)?;
    let mut rows = ["READ", "ping-pong"].map(|name| Row { name, latencies: Latencies::new() });
    let mut ratios = Vec::with_capacity(rounds);
    pair.read(WARM_UP)?;
    pair.ping(WARM_UP)?;
    for round in 0..rounds {
        // Each comes first in every other round.
        let (read, ping) = if round % 2 == 0 {
            let read = pair.read(TURN)?;
            (read, pair.ping(TURN)?)
        } else {
            let ping = pair.ping(TURN)?;
            (pair.read(TURN)?, ping)
        };
        ratios.push(read.at(0.5) as f64 / ping.at(0.5) as f64);
        for (row, turn) in rows.iter_mut().zip([&read, &ping]) {
            row.latencies.merge(turn);
        }
    }
    let mtus = (mtu, pair.path_mtu());
    pair.end()?;
    let table = Table { rows, ratios, mtus };
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
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = self.ratios.iter().copied().fold(0.0, f64::max);
        println!("p50 of a READ over that of the ping-pong, by rounds: {least:.3} to {largest:.3}");
    }
}
