//! `aggregate`: the cost of one record in the gateway, on one lcore and memory ports.
//!
//! A whole poll is timed: receive burst, headers, walk, route and anti-spoofing, append, flush, headers with checksum,
//! transmit burst, frame return. The hold is infinite, so that every buffer leaves full.

use crate::account::{self, Passed};
use crate::floor::Floor;
use crate::input::{self, GATEWAY, MASTER, MASTER_AT, SLAVE_SIDE, Shape};
use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::stopwatch::Stopwatch;
use anyhow::Context as _;
use frame::time::FOREVER;
use frame::{Peer, PortId, Role, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use lcore::Lcore;
use lcore::mailbox::mailbox_without_doorbell;
use link::{Route, RouteChange};
use port::replay::ReplayPort;
use wire::{Scale, ShardSet};

const MTU: u16 = 1500;

/// A gateway lcore with its input, ready to be polled.
pub struct Bench {
    lcore: Lcore<Gateway, ReplayPort>,
    now: u64,
    shape: Shape,
    received: u64,
}

/// An lcore with a gateway that serves all shards, with the shape's slaves and one master registered. It has an arena
/// of its own, and another one for its input.
///
/// # Errors
/// The machine has no memory for the arena of the lcore or for the one of its input.
pub fn lcore(
    index: u16,
    shape: &Shape,
    packets: &[Vec<u8>],
    burst: usize,
) -> anyhow::Result<Lcore<Gateway, ReplayPort>> {
    let longest = packets.iter().map(Vec::len).max().unwrap_or(0);
    let chunk = (longest + 320).next_multiple_of(64).max(512) as u32;
    lcore_with(index, shape, packets, burst, MTU, [chunk, 2048])
}

/// The same with another MTU, and frames of so many bytes for the input and for buffers.
fn lcore_with(
    index: u16,
    shape: &Shape,
    packets: &[Vec<u8>],
    burst: usize,
    mtu: u16,
    chunks: [u32; 2],
) -> anyhow::Result<Lcore<Gateway, ReplayPort>> {
    let scale = Scale::default();
    let input = input::pool(packets.len() as u32, chunks[0])?;
    // A buffer for each slave, the transmit ring, and what two bursts open.
    let pool = input::pool((shape.slaves + 2048).next_power_of_two(), chunks[1])?;
    let mut config = GatewayConfig::new(ShardSet::all(scale));
    config.hold = FOREVER;
    config.low_water = 0;
    let mut gateway = Gateway::new(config, &pool)?;
    let nothing = input::pool(64, 512)?;
    let port =
        |number, local, pool, packets: &[Vec<u8>]| ReplayPort::new(PortId(number), local, mtu, pool, packets, burst);
    let ports = if shape.up {
        vec![port(0, GATEWAY, nothing, &[]), port(1, SLAVE_SIDE, input, packets)]
    } else {
        vec![port(0, GATEWAY, input, packets), port(1, SLAVE_SIDE, nothing, &[])]
    };
    let mut out = frame::Outbox::new(pool.clone(), 2);
    for id in 0..shape.slaves {
        let at = input::slave_at(id);
        let peer = Peer::ipv4(PortId(1), at.ip, at.udp_port, Vlan::UNTAGGED, at.mac);
        let route = Some(Route { peer, mtu, fixed_port: false });
        if let Some(id) = scale.slave_id(id) {
            gateway.command(0, GatewayCommand::Route(RouteChange::Slave { id, route }), &mut out);
        }
    }
    let peer = Peer::ipv4(PortId(0), MASTER_AT.ip, MASTER_AT.udp_port, Vlan::UNTAGGED, MASTER_AT.mac);
    let route = Some(Route { peer, mtu, fixed_port: false });
    gateway.command(0, GatewayCommand::Route(RouteChange::Master { id: MASTER, route }), &mut out);
    let (_sender, receiver) = mailbox_without_doorbell(16);
    Ok(Lcore::new(index, gateway, ports, pool, receiver, None))
}

impl Bench {
    /// A gateway that is polled by hand.
    ///
    /// # Errors
    /// The machine has no memory for the arena of the lcore or for the one of its input.
    pub fn new(shape: Shape, packets: &[Vec<u8>], burst: usize) -> anyhow::Result<Self> {
        Ok(Self { lcore: lcore(0, &shape, packets, burst)?, now: 0, shape, received: 0 })
    }

    /// The same with another MTU, and frames of so many bytes for the input and for buffers.
    ///
    /// # Errors
    /// The machine has no memory for the arenas, or `input` or `buffers` is no size that a frame can have.
    pub fn with(
        shape: Shape,
        packets: &[Vec<u8>],
        burst: usize,
        mtu: u16,
        input: u32,
        buffers: u32,
    ) -> anyhow::Result<Self> {
        Ok(Self { lcore: lcore_with(0, &shape, packets, burst, mtu, [input, buffers])?, now: 0, shape, received: 0 })
    }

    /// Polls until every packet of the input went through once. Returns nanoseconds per record.
    #[inline(never)]
    pub fn run(&mut self) -> f64 {
        let start = Stopwatch::start();
        let mut received = 0;
        while received < self.shape.packets {
            self.now += 1_000;
            received += self.lcore.poll_once(self.now).received;
        }
        self.received += received as u64;
        start.nanoseconds() / (received * self.shape.records) as f64
    }

    /// What went through since the start.
    ///
    /// # Errors
    /// Something is missing or wrong: see [`account::check`].
    pub fn check(&self) -> anyhow::Result<Passed> {
        account::check(&self.lcore, &self.shape, self.received)
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Slaves in uniformly random order.
    pub slaves: u32,
    /// Records in an input datagram.
    pub records: usize,
    /// Whether the slaves send to the master, and not the master to them.
    pub up: bool,
    /// Nanoseconds per record in the gateway: the median of the rounds.
    pub ours: f64,
    /// Nanoseconds per record of the floor: the median of the rounds.
    pub floor: f64,
    /// `ours / floor`, of rounds that measured both.
    pub ratios: Ratios,
    /// Prefetch distance of the floor.
    pub distance: usize,
    /// Share of flushes with cause `full`.
    pub full: f64,
}

/// If the share of flushes with cause `full` is below this, the input is wrong.
const FULL: f64 = 0.99;

/// Measures one number of slaves, in turn with the floor. `warm` first fills buffers to all levels and touches every
/// page.
///
/// # Errors
/// The measured run did not happen: see [`Bench::check`].
pub fn measure(slaves: u32, records: usize, up: bool, rounds: usize, warm: bool) -> anyhow::Result<Row> {
    // Twice as many records as slaves and at least 16 MiB of cache lines: nothing of the input stays in the L2 cache.
    let packets = (2 * slaves as usize / records).max(65_536 / records);
    let shape = Shape { slaves, payload: 64, records, packets, up };
    let input = input::packets(&shape);
    let mut bench = Bench::new(shape, &input, frame::BURST)?;
    let mut floor = Floor::new(&shape, &input, usize::from(MTU) - 28)?;
    if warm {
        let warm_up = 8 * slaves as usize * 16 / (packets * records) + 2;
        for _ in 0..warm_up {
            bench.run();
        }
    }
    let (_, distance) = floor.best(records);
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (us, (them, _)) = (bench.run(), floor.best(records));
        ours.push(us);
        floors.push(them);
        ratios.push(us / them);
    }
    let full = bench.check()?.full_share();
    anyhow::ensure!(full >= FULL, "only {:.1} % of the buffers left because they were full", full * 100.0);
    let (ours, floor, ratios) = (median(ours), median(floors), Ratios::of(ratios));
    Ok(Row { slaves, records, up, ours, floor, ratios, distance, full })
}

/// The whole table, as text on standard output and as a value. A quick one has fewer slaves, and no warm-up.
///
/// # Errors
/// See [`measure`].
pub fn table(rounds: usize, quick: bool) -> anyhow::Result<Vec<Row>> {
    println!("aggregate: 64-byte payloads, MTU 1500, hold infinite, uniformly random slaves, one lcore");
    println!(
        "{:>9} {:>8} {:>9} {:>9} {:>9} {:>7} {:>12} {:>9} {:>7}",
        "direction", "slaves", "rec/dgram", "ns/rec", "floor ns", "ratio", "of rounds", "prefetch", "full"
    );
    let all = [1, 64, 8_192, 131_072];
    let slaves = if quick { &all[..3] } else { &all[..] };
    let mut rows = Vec::new();
    for (up, records) in [(false, 1), (false, 16), (true, 1), (true, 16)] {
        for &slaves in slaves {
            let way = if up { "up" } else { "down" };
            let row = measure(slaves, records, up, rounds, !quick)
                .with_context(|| format!("{way}, {slaves} slaves, {records} records in a datagram"))?;
            println!(
                "{way:>9} {:>8} {:>9} {:>9.1} {:>9.1} {:>7.2} {:>12} {:>9} {:>6.1}%",
                row.slaves,
                row.records,
                row.ours,
                row.floor,
                row.ratios.median,
                row.ratios.range(),
                row.distance,
                row.full * 100.0
            );
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The benchmark; with `slaves`, only for this many, with one record in a datagram, in one direction.
///
/// # Errors
/// See [`measure`].
pub fn report(rounds: Option<usize>, slaves: Option<u32>, up: bool, quick: bool) -> anyhow::Result<Report> {
    let rounds = rounds.unwrap_or(if quick { 4 } else { 9 });
    let rows = match slaves {
        Some(slaves) => vec![measure(slaves, 1, up, rounds, !quick)?],
        None => table(rounds, quick)?,
    };
    let shown = rows.iter().find(|row| row.slaves == 8_192 && row.records == 1).or(rows.first());
    let row = shown.context("nothing was measured")?;
    let details = rows.iter().map(|row| {
        serde_json::json!({
            "direction": if row.up { "up" } else { "down" }, "slaves": row.slaves,
            "records_per_datagram": row.records, "ns_per_record": row.ours, "floor_ns_per_record": row.floor,
            "ratio": row.ratios.median, "ratios": row.ratios.json(), "full_flushes": row.full
        })
    });
    let details = details.collect();
    Ok(Report { name: "aggregate", value: row.ours, unit: "ns/record", ratios: row.ratios, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_goes_in_comes_out_both_ways() {
        for (slaves, records, up) in [(64, 1, false), (64, 16, false), (64, 1, true), (64, 16, true)] {
            let row = measure(slaves, records, up, 2, false).unwrap();
            assert!(row.ratios.rounds == 2 && row.full >= FULL, "{row:?}");
        }
    }
}
