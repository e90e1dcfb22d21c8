//! `jumbo`: MTU 9000. How many packets are saved at small payloads, and what a page of 4 KiB costs, of which two share
//! a datagram.
//!
//! The baseline for pages is a plain copy of the bytes from the same input to the same buffers. A whole poll is timed,
//! as in `aggregate`: it copies one page of two (the other's frame becomes the buffer), and computes the checksum over
//! both.

use crate::aggregate::Bench;
use crate::floor::Floor;
use crate::input::{self, Shape};
use crate::ratios::{Ratios, median};
use crate::report::Report;
use frame::pool::chunk_for_data;

/// The largest IP packet, in bytes.
const MTU: u16 = 9000;
/// Payload of a datagram, in bytes.
const ROOM: u16 = MTU - wire::IPV4_UDP_LEN;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Share of packets saved at 64-byte payloads, from 0 to 1.
    pub saved: f64,
    /// Records in a datagram there.
    pub records_per_datagram: f64,
    /// What pages cost, for each number of slaves.
    pub pages: [Row; 2],
}

/// What one page costs.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Slaves in uniformly random order.
    pub slaves: u32,
    /// Nanoseconds in the gateway: the median of the rounds.
    pub ours: f64,
    /// Nanoseconds of the copy: the median of the rounds.
    pub copy: f64,
    /// `ours / copy`, of rounds that measured both.
    pub ratios: Ratios,
    /// Pages in a datagram.
    pub records_per_datagram: f64,
}

fn bench(shape: Shape, packets: &[Vec<u8>]) -> anyhow::Result<Bench> {
    // Received frames are as large as all others, as on a NIC: a frame that becomes a buffer has room for the next
    // record.
    let chunk = chunk_for_data(u32::from(ROOM));
    Bench::with(shape, packets, frame::BURST, MTU, chunk, chunk)
}

fn page(slaves: u32, rounds: usize) -> anyhow::Result<Row> {
    // 32 MiB of input: none of it stays in a cache.
    let shape = Shape { slaves, payload: 4096, records: 1, packets: 8192, up: false, scattered: false };
    let packets = input::packets(&shape);
    let mut bench = bench(shape, &packets)?;
    let mut floor = Floor::new(&shape, &packets, chunk_for_data(u32::from(ROOM)), usize::from(ROOM))?;
    bench.warm();
    floor.best(1);
    let (mut ours, mut copies, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (us, (copy, _)) = (bench.run(shape.packets), floor.best(1));
        ours.push(us);
        copies.push(copy);
        ratios.push(us / copy);
    }
    let records_per_datagram = bench.check()?.records_per_datagram();
    let (ours, copy, ratios) = (median(ours), median(copies), Ratios::of(ratios));
    Ok(Row { slaves, ours, copy, ratios, records_per_datagram })
}

/// Measures all.
///
/// # Errors
/// Records are missing, or fewer than 98 % of the packets are saved.
pub fn table(rounds: usize) -> anyhow::Result<Table> {
    let shape = Shape { slaves: 64, payload: 64, records: 1, packets: 65_536, up: false, scattered: false };
    let packets = input::packets(&shape);
    let mut small = bench(shape, &packets)?;
    for _ in 0..4 {
        small.warm();
    }
    let records_per_datagram = small.check()?.records_per_datagram();
    drop((small, packets));
    let saved = 1.0 - 1.0 / records_per_datagram;
    println!("jumbo: MTU {MTU}, hold infinite, uniformly random slaves, one record per input datagram, one lcore");
    println!(
        "64-byte payloads: {records_per_datagram:.1} records per datagram, {:.2} % of the packets saved",
        saved * 100.0
    );
    anyhow::ensure!(saved >= 0.98, "only {:.2} % of the packets are saved", saved * 100.0);
    println!(
        "{:>8} {:>14} {:>10} {:>10} {:>7} {:>12}",
        "slaves", "pages/dgram", "ns/page", "copy ns", "ratio", "of rounds"
    );
    let measure = |slaves| {
        let row = page(slaves, rounds)?;
        let Row { ours, copy, ratios, records_per_datagram, .. } = row;
        let (ratio, range) = (ratios.median, ratios.range());
        println!("{slaves:>8} {records_per_datagram:>14.2} {ours:>10.1} {copy:>10.1} {ratio:>7.2} {range:>12}");
        Ok::<_, anyhow::Error>(row)
    };
    let pages = [measure(64)?, measure(1024)?];
    Ok(Table { saved, records_per_datagram, pages })
}

/// The benchmark.
///
/// # Errors
/// See [`table`].
pub fn report(rounds: Option<usize>, quick: bool) -> anyhow::Result<Report> {
    let table = table(rounds.unwrap_or(if quick { 2 } else { 9 }))?;
    let [row, _] = table.pages;
    let pages = table.pages.map(|row| {
        serde_json::json!({
            "slaves": row.slaves, "ns_per_record": row.ours, "copy_ns_per_record": row.copy,
            "ratio": row.ratios.median, "ratios": row.ratios.json(), "records_per_datagram": row.records_per_datagram
        })
    });
    let details = serde_json::json!({
        "saved": table.saved, "records_per_datagram": table.records_per_datagram, "pages": pages
    });
    Ok(Report { name: "jumbo", value: row.ours, unit: "ns/4KiB-record", ratios: row.ratios, details })
}
