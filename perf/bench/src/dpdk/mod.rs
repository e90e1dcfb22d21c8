//! `dpdk`: the gateway between two virtual devices of DPDK, compared with `dpdk-testpmd`, which forwards between the
//! same two devices and reads no packet.
//!
//! One lcore, `net_pcap` (a file of packets, repeated) to `net_null`, one record of 64 bytes in each packet, slaves in
//! random order. Both are measured by the CPU time of the forwarding thread, in turns, on the same core. The hold is
//! infinite, so that buffers leave full, as in `aggregate`.
//!
//! `net_pcap` copies each packet into a frame, for the gateway as for `dpdk-testpmd`. So there are lines in which the
//! packets come from a ring (`net_ring`), where the driver costs next to nothing. The difference is the driver's part.

mod boundary;
mod ring;
mod source;
mod subject;
mod testpmd;

pub use boundary::{BURSTS, Boundary, boundary};

use crate::input::{self, Shape};
use crate::ratios::{Ratios, median};
use crate::report::Report;
use anyhow::Context as _;
use lcore::CoreList;
use netns::dpdk::write_pcap;
use port::dpdk::{Environment, EnvironmentConfig, LoadedPlugin};
use source::Source;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use subject::Subject;
use testpmd::Testpmd;

/// Active slaves of the lines of each source; the last one is the figure.
const SLAVES: [u32; 2] = [8_192, 64];
/// Packets for each slave before the file repeats itself, and packets at least.
const PACKETS: (u32, u32) = (16, 16_384);
/// What DPDK needs for the larger file, in MiB.
const MEMORY: u32 = 256;

/// One line of the table: medians over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The driver of the device that packets come from, without `net_`.
    pub source: &'static str,
    /// Active slaves.
    pub slaves: u32,
    /// Million records per CPU second through the gateway.
    pub ours: f64,
    /// Million packets per CPU second through `dpdk-testpmd`.
    pub testpmd: f64,
    /// Ours divided by that, of rounds that measured both.
    pub ratios: Ratios,
    /// Records in a datagram that left.
    pub merged: f64,
}

/// A file that goes away again.
struct Input(PathBuf);

impl Input {
    fn new(slaves: u32, packets: &[Vec<u8>]) -> Self {
        let name = format!("gvm-bench-{}-{slaves}.pcap", std::process::id());
        let path = std::env::temp_dir().join(name);
        write_pcap(&path, packets);
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Measures both in turns, from a ring and from a file, for each number of slaves.
///
/// # Errors
/// DPDK or `dpdk-testpmd` is not there or refuses something, or a record or a frame is missing.
pub fn table(rounds: usize, time: Duration) -> anyhow::Result<Vec<Row>> {
    testpmd::needs_testpmd()?;
    let machine = CoreList::of_this_process()?;
    let core = machine.iter().last().context("a core")?;
    let others: Vec<usize> = machine.iter().filter(|other| *other != core).collect();
    let main = others.first().copied().unwrap_or(core);
    let hugepages = host::hugepages::Hugepages::of(None).free()? * 2 >= 3 * u64::from(MEMORY);
    let config = EnvironmentConfig { pci: Vec::new(), hugepages, memory: MEMORY, cores: others };
    let environment = Environment::start(LoadedPlugin::find()?, config)?;
    println!(
        "dpdk: to net_null, 64-byte payloads, one record in a packet, core {core}, {}",
        if hugepages { "hugepages" } else { "ordinary pages" }
    );
    println!(
        "{:>6} {:>8} {:>14} {:>18} {:>7} {:>12} {:>14}",
        "from", "slaves", "Mrec/CPU-s", "testpmd Mpkt/CPU-s", "ratio", "of rounds", "records/packet"
    );
    let bench = Bench { environment, cores: [main, core], hugepages, rounds, time };
    let mut rows = Vec::new();
    for is_ring in [true, false] {
        for slaves in SLAVES {
            let packets = (slaves * PACKETS.0).max(PACKETS.1) as usize;
            let shape = Shape { slaves, payload: 64, records: 1, packets, up: false, scattered: false };
            let packets = Arc::new(input::packets(&shape));
            if is_ring {
                rows.push(bench.row(&shape, Source::Ring(&packets))?);
            } else {
                let file = Input::new(slaves, &packets);
                rows.push(bench.row(&shape, Source::File(file.path()))?);
            }
        }
    }
    driver(&rows);
    Ok(rows)
}

/// What all lines have in common.
struct Bench {
    environment: Environment,
    /// The core of everything else, and the core that is measured.
    cores: [usize; 2],
    hugepages: bool,
    rounds: usize,
    time: Duration,
}

impl Bench {
    /// Measures and prints one line.
    fn row(&self, shape: &Shape, source: Source<'_>) -> anyhow::Result<Row> {
        let mut subject = Subject::start(&self.environment, shape, source, self.cores[1])?;
        let mut testpmd = Testpmd::start(source, shape.packets, self.cores, self.hugepages)?;
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let one = testpmd.measure(self.time)?;
            let rate = subject.measure(self.time)?;
            let two = testpmd.measure(self.time)?;
            let baseline = (one + two) / 2.0;
            ours.push(rate);
            theirs.push(baseline);
            ratios.push(rate / baseline);
        }
        let merged = subject.finish()?;
        testpmd.finish()?;
        let row = Row {
            source: source.name(),
            slaves: shape.slaves,
            ours: median(ours),
            testpmd: median(theirs),
            ratios: Ratios::of(ratios),
            merged,
        };
        println!(
            "{:>6} {:>8} {:>14.2} {:>18.2} {:>7.3} {:>12} {merged:>14.1}",
            row.source,
            row.slaves,
            row.ours,
            row.testpmd,
            row.ratios.median,
            row.ratios.range()
        );
        Ok(row)
    }
}

/// Prints the part of the driver that reads a file: the difference between the lines of both sources.
fn driver(rows: &[Row]) {
    for file in rows.iter().filter(|row| row.source == "pcap") {
        let Some(ring) = rows.iter().find(|row| row.source == "ring" && row.slaves == file.slaves) else { continue };
        println!(
            "{} slaves, ns a packet: gateway {:.1} from a file and {:.1} from a ring, testpmd {:.1} and {:.1}",
            file.slaves,
            1e3 / file.ours,
            1e3 / ring.ours,
            1e3 / file.testpmd,
            1e3 / ring.testpmd
        );
    }
}

/// The benchmark; `time` is that of each measurement, of which a round has three.
///
/// # Errors
/// See [`table`].
pub fn report(rounds: Option<usize>, time: Option<Duration>, quick: bool) -> anyhow::Result<Report> {
    let (usual, long, bursts) = if quick { (1, 100, BURSTS / 1000) } else { (9, 500, BURSTS) };
    let rounds = rounds.unwrap_or(usual);
    let boundary = boundary(rounds, bursts)?;
    println!(
        "plugin boundary: {:.2} ns per record at bursts of 32 ({:.2} through the table, {:.2} in place)",
        boundary.cost(),
        boundary.table,
        boundary.inline
    );
    let rows = table(rounds, time.unwrap_or(Duration::from_millis(long)))?;
    let row = rows.last().context("nothing was measured")?;
    let lines = rows.iter().map(|row| {
        serde_json::json!({
            "source": row.source, "slaves": row.slaves, "mrecords_per_cpu_second": row.ours,
            "testpmd_mpackets_per_cpu_second": row.testpmd, "ratio": row.ratios.median, "ratios": row.ratios.json(),
            "records_per_datagram": row.merged
        })
    });
    let details = serde_json::json!({
        "lines": lines.collect::<Vec<_>>(), "boundary_ns_per_record": boundary.cost(),
        "boundary_table_ns": boundary.table, "boundary_inline_ns": boundary.inline
    });
    Ok(Report { name: "dpdk", value: row.ours, unit: "Mrecords/CPU-s", ratios: row.ratios, details })
}
