//! `aggregate`: what one record costs in the gateway, on one lcore and memory ports.
//!
//! Timed is a whole poll: receive burst, headers, walk, route and anti-spoofing, append, flush, headers with checksum,
//! transmit burst, frame return. The hold is infinite, so that every buffer leaves full.

use crate::floor::Floor;
use crate::input::{self, GATEWAY, MASTER, MASTER_AT, SLAVE_SIDE, Shape};
use crate::stopwatch::Stopwatch;
use frame::time::FOREVER;
use frame::{Peer, PortId, Role, Vlan};
use gateway::{Command, Gateway, GatewayConfig};
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
}

/// An lcore with a gateway that serves all shards, with the shape's slaves and one master registered. It has an arena
/// of its own, and another one for its input.
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
    let mut gateway = Gateway::new(config, &pool);
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
            gateway.command(0, Command::Route(RouteChange::Slave { id, route }), &mut out);
        }
    }
    let peer = Peer::ipv4(PortId(0), MASTER_AT.ip, MASTER_AT.udp_port, Vlan::UNTAGGED, MASTER_AT.mac);
    let route = Some(Route { peer, mtu, fixed_port: false });
    gateway.command(0, Command::Route(RouteChange::Master { id: MASTER, route }), &mut out);
    let (_sender, receiver) = mailbox_without_doorbell(16);
    Ok(Lcore::new(index, gateway, ports, pool, receiver, None))
}

impl Bench {
    /// A gateway that is polled by hand.
    pub fn new(shape: Shape, packets: &[Vec<u8>], burst: usize) -> anyhow::Result<Self> {
        Ok(Self { lcore: lcore(0, &shape, packets, burst)?, now: 0, shape })
    }

    /// The same with another MTU, and frames of so many bytes for the input and for buffers.
    pub fn with(
        shape: Shape,
        packets: &[Vec<u8>],
        burst: usize,
        mtu: u16,
        input: u32,
        buffers: u32,
    ) -> anyhow::Result<Self> {
        Ok(Self { lcore: lcore_with(0, &shape, packets, burst, mtu, [input, buffers])?, now: 0, shape })
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
        start.nanoseconds() / (received * self.shape.records) as f64
    }

    /// What went through since the start.
    pub fn figures(&self) -> Figures {
        let (records_in, records_out, _) = self.account();
        let out = self.lcore.outbox().counters();
        let (records_left, datagrams_left) = (out.down_records_out.get(), out.down_datagrams_out.get());
        Figures { records_in, records_out, records_left, datagrams_left }
    }

    /// Records in, records out, and the share of flushes with cause `full`.
    pub fn account(&self) -> (u64, u64, f64) {
        let counters = self.lcore.role().counters();
        let out = self.lcore.outbox().counters();
        let flush = &counters.flush;
        let full = flush.flush_full.get();
        let others = [&flush.flush_hold, &flush.flush_early, &flush.flush_room, &flush.flush_order, &flush.flush_drain];
        let others: u64 = others.iter().map(|counter| counter.get()).sum();
        let (direction, left) = if self.shape.up {
            (&counters.up, out.up_records_out.get())
        } else {
            (&counters.down, out.down_records_out.get())
        };
        (direction.records_in.get(), left + direction.held.get(), full as f64 / (full + others).max(1) as f64)
    }
}

/// What went through a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Records that came in.
    pub records_in: u64,
    /// Records that left, and those that wait in buffers.
    pub records_out: u64,
    /// Records that left.
    pub records_left: u64,
    /// Datagrams that they left in.
    pub datagrams_left: u64,
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
    /// `ours / floor`, the median over rounds that measured both.
    pub ratio: f64,
    /// Prefetch distance of the floor.
    pub distance: usize,
    /// Share of flushes with cause `full`.
    pub full: f64,
}

/// The middle of some values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures one number of slaves, in turn with the floor.
pub fn measure(slaves: u32, records: usize, up: bool, rounds: usize) -> anyhow::Result<Row> {
    // Twice as many records as slaves and at least 16 MiB of cache lines: nothing of the input stays in the L2 cache.
    let packets = (2 * slaves as usize / records).max(65_536 / records);
    let shape = Shape { slaves, payload: 64, records, packets, up };
    let input = input::packets(&shape);
    let mut bench = Bench::new(shape, &input, frame::BURST)?;
    let mut floor = Floor::new(&shape, &input, usize::from(MTU) - 28)?;
    // Buffers fill to all levels, and every page is touched.
    let warm_up = 8 * slaves as usize * 16 / (packets * records) + 2;
    for _ in 0..warm_up {
        bench.run();
    }
    let (_, distance) = floor.best(records);
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (us, (them, _)) = (bench.run(), floor.best(records));
        ours.push(us);
        floors.push(them);
        ratios.push(us / them);
    }
    let (records_in, records_out, full) = bench.account();
    anyhow::ensure!(records_in == records_out, "{records_in} records went in and {records_out} came out");
    Ok(Row { slaves, records, up, ours: median(ours), floor: median(floors), ratio: median(ratios), distance, full })
}

/// The whole table, as text on standard output and as a value.
pub fn table(rounds: usize) -> anyhow::Result<Vec<Row>> {
    println!("aggregate: 64-byte payloads, MTU 1500, hold infinite, uniformly random slaves, one lcore");
    println!(
        "{:>9} {:>8} {:>9} {:>9} {:>9} {:>7} {:>9} {:>7}",
        "direction", "slaves", "rec/dgram", "ns/rec", "floor ns", "ratio", "prefetch", "full"
    );
    let mut rows = Vec::new();
    for (up, records) in [(false, 1), (false, 16), (true, 1), (true, 16)] {
        for slaves in [1, 64, 8_192, 131_072] {
            let row = measure(slaves, records, up, rounds)?;
            println!(
                "{:>9} {:>8} {:>9} {:>9.1} {:>9.1} {:>7.2} {:>9} {:>6.1}%",
                if row.up { "up" } else { "down" },
                row.slaves,
                row.records,
                row.ours,
                row.floor,
                row.ratio,
                row.distance,
                row.full * 100.0
            );
            rows.push(row);
        }
    }
    Ok(rows)
}
