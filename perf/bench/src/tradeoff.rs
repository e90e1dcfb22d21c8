//! `tradeoff`: what a longer hold gives (records per datagram) and what it costs (added latency).
//!
//! It runs on a virtual clock, so that the figures depend only on the algorithm and are the same on every machine.
//! Records arrive at random times, and the gateway is polled every microsecond. A record's added latency is the time
//! from its arrival to the poll in which its datagram left.

use crate::input::{self, MASTER, Random};
use crate::ratios::Ratios;
use crate::report::Report;
use crate::svg::{Chart, Curve};
use frame::time::{MICROSECOND, SECOND};
use frame::{Burst, Class, Datagram, Outbox, Peer, PortId, Role, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig, push};
use link::{Route, RouteChange};
use std::path::Path;
use wire::record::{FRAG_PUSH, HEADER_LEN, MsgType, RecordHeader, req_id};
use wire::{Scale, ShardSet, Walk, echo};

const MTU: u16 = 1500;
const PAYLOAD: usize = 64;
/// Records of one measurement, and of one of a quick run.
const RECORDS: (u64, u64) = (200_000, 5_000);
/// The holds that are compared, in microseconds.
const HOLDS: [u64; 9] = [0, 5, 10, 20, 50, 100, 200, 500, 1_000];
/// The hold of the line with PUSH, in microseconds, and of how many records one has it.
const PUSH_HOLD: u64 = 50;
const PUSH_EVERY: u64 = 64;

/// Traffic from one master.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What it is called in table and chart.
    pub name: &'static str,
    /// Slaves that get records.
    pub slaves: u32,
    /// Records to the same slave in a row, in one datagram each.
    pub burst: u64,
    /// Records a second.
    pub rate: u64,
}

/// The loads that are compared.
pub const LOADS: [Load; 4] = [
    Load { name: "64 slaves, bursts of 32, 2 M/s", slaves: 64, burst: 32, rate: 2_000_000 },
    Load { name: "64 slaves, uniform, 2 M/s", slaves: 64, burst: 1, rate: 2_000_000 },
    Load { name: "1,024 slaves, uniform, 5 M/s", slaves: 1_024, burst: 1, rate: 5_000_000 },
    Load { name: "8,192 slaves, uniform, 5 M/s", slaves: 8_192, burst: 1, rate: 5_000_000 },
];

/// What one hold gave under one load.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The hold, in microseconds.
    pub hold_us: u64,
    /// Records in a datagram that left, on average.
    pub records_per_datagram: f64,
    /// Median of the added latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the added latency, in microseconds.
    pub p99_us: f64,
    /// The same of records with PUSH; 0 if there are none.
    pub push_p99_us: f64,
}

/// Runs `records` records of one load with one hold. If `push_every` is not 0, one record of so many has PUSH; it does
/// not count towards the latencies of the others.
///
/// # Errors
/// A record was changed, or the pool is too small.
pub fn measure(load: Load, hold_us: u64, push_every: u64, records: u64) -> anyhow::Result<Point> {
    let scale = Scale::default();
    let pool = input::pool(32_768, 2048)?;
    let mut config = GatewayConfig::new(ShardSet::all(scale));
    config.hold = hold_us * MICROSECOND;
    config.push_rate = push::MOST;
    let mut gateway = Gateway::new(config, &pool)?;
    let mut out = Outbox::new(pool, 2);
    let route = |peer| Some(Route { peer, mtu: MTU, fixed_port: false });
    let master = Peer::ipv4(PortId(0), [10, 0, 0, 2], wire::GATEWAY_PORT, Vlan::UNTAGGED, [0; 6]);
    gateway.command(0, GatewayCommand::Route(RouteChange::Master { id: MASTER, route: route(master) }), &mut out);
    for id in (0..load.slaves).filter_map(|id| scale.slave_id(id)) {
        let [_, a, b, c] = id.get().to_be_bytes();
        let peer = Peer::ipv4(PortId(1), [10, 1 + a, b, c], wire::GATEWAY_PORT, Vlan::UNTAGGED, [0; 6]);
        gateway.command(0, GatewayCommand::Route(RouteChange::Slave { id, route: route(peer) }), &mut out);
    }
    let mut random = Random::new(7);
    let (mut sent, mut datagrams, mut latencies) = (0, 0_u64, Vec::with_capacity(records as usize));
    let mut pushed = Vec::new();
    let (mut arrival, mut slave) = (0, 0);
    let mut burst = Burst::new();
    let mut bytes = [0; HEADER_LEN + PAYLOAD];
    let mut now = 0;
    while ((latencies.len() + pushed.len()) as u64) < records {
        now += MICROSECOND;
        loop {
            while sent < records && arrival <= now && burst.room() > 0 {
                if sent % load.burst == 0 {
                    slave = random.below(load.slaves);
                }
                let is_pushed = push_every > 0 && sent % push_every == 0;
                let header = RecordHeader::new(MsgType::PATTERN, slave, req_id(MASTER, sent), PAYLOAD as u32)
                    .with_frag(if is_pushed { FRAG_PUSH } else { 0 });
                anyhow::ensure!(
                    echo::emit(&header, &echo::EchoHeader::new(arrival, sent), &mut bytes).is_some(),
                    "a record fits its own size"
                );
                let mut frame = out.alloc().ok_or_else(|| anyhow::anyhow!("the pool is too small for this load"))?;
                anyhow::ensure!(frame.append(&bytes), "a record fits a frame");
                // There is room: the loop asks for it.
                let _ = burst.push(Datagram::new(frame, master, Class::Down, 0));
                sent += 1;
                // Gaps of a Poisson process, in whole nanoseconds.
                let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                arrival += (-(1.0 - uniform).ln() * (SECOND / load.rate) as f64) as u64;
            }
            if burst.is_empty() {
                break;
            }
            gateway.receive(now, PortId(0), &mut burst, &mut out);
        }
        gateway.advance(now, &mut out);
        let queue = out.queue(PortId(1)).ok_or_else(|| anyhow::anyhow!("there are two ports"))?;
        while let Some(datagram) = queue.take() {
            datagrams += 1;
            for record in Walk::new(datagram.frame.data(), scale) {
                let (_, record) = record.map_err(|bad| anyhow::anyhow!("a bad record left: {bad}"))?;
                let header = echo::check(&record).ok_or_else(|| anyhow::anyhow!("a changed record left"))?;
                let list = if record.header().is_frag() == 0 { &mut latencies } else { &mut pushed };
                list.push(now - header.stamp());
            }
        }
        queue.rewind();
    }
    let at = |times: &mut Vec<u64>, share: f64| {
        times.sort_unstable();
        let place = (times.len().saturating_sub(1) as f64 * share) as usize;
        times.get(place).map_or(0.0, |time| *time as f64 / MICROSECOND as f64)
    };
    let records_per_datagram = records as f64 / datagrams as f64;
    let (p50_us, p99_us) = (at(&mut latencies, 0.5), at(&mut latencies, 0.99));
    Ok(Point { hold_us, records_per_datagram, p50_us, p99_us, push_p99_us: at(&mut pushed, 0.99) })
}

/// The whole table, on standard output and as values; the chart goes to `svg`, if one is asked for.
///
/// # Errors
/// It fails as [`measure`] does, or when the chart cannot be written to `svg`.
pub fn table(svg: Option<&Path>, quick: bool) -> anyhow::Result<Vec<(Load, Vec<Point>)>> {
    println!("tradeoff: 64-byte payloads, MTU 1500, early flush on, virtual clock, polled every microsecond");
    let records = if quick { RECORDS.1 } else { RECORDS.0 };
    let mut all = Vec::new();
    for load in LOADS {
        println!("\n{}", load.name);
        println!("{:>8} {:>13} {:>9} {:>9}", "hold us", "rec/datagram", "p50 us", "p99 us");
        let mut points = Vec::new();
        for hold in HOLDS {
            let point = measure(load, hold, 0, records)?;
            let Point { hold_us, records_per_datagram, p50_us, p99_us, .. } = point;
            println!("{hold_us:>8} {records_per_datagram:>13.2} {p50_us:>9.1} {p99_us:>9.1}");
            points.push(point);
        }
        let with_push = measure(load, PUSH_HOLD, PUSH_EVERY, records)?;
        let Point { hold_us, records_per_datagram, p50_us, p99_us, push_p99_us } = with_push;
        println!(
            "{hold_us:>8} {records_per_datagram:>13.2} {p50_us:>9.1} {p99_us:>9.1}   one record of {PUSH_EVERY} has \
             PUSH: p99 of those {push_p99_us:.1} us"
        );
        all.push((load, points));
    }
    if let Some(path) = svg {
        let curves = |value: fn(&Point) -> f64| {
            all.iter()
                .map(|(load, points)| Curve {
                    name: load.name,
                    points: points.iter().map(|point| (point.hold_us as f64, value(point))).collect(),
                })
                .collect()
        };
        let charts = [
            Chart { title: "records per datagram", unit: "", curves: curves(|point| point.records_per_datagram) },
            Chart { title: "added latency, p99", unit: "us", curves: curves(|point| point.p99_us) },
        ];
        std::fs::write(path, crate::svg::draw("hold in microseconds", &HOLDS.map(|hold| hold as f64), &charts))?;
        println!("\nchart: {}", path.display());
    }
    Ok(all)
}

/// The benchmark; the chart goes to `svg`.
///
/// # Errors
/// See [`measure`]; or the chart cannot be written.
pub fn report(svg: &Path, quick: bool) -> anyhow::Result<Report> {
    if let Some(folder) = svg.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let table = table(Some(svg), quick)?;
    let at = |hold| table.first().and_then(|(_, points)| points.iter().find(|point| point.hold_us == hold));
    let (Some(without), Some(with)) = (at(0), at(50)) else { anyhow::bail!("nothing was measured") };
    let (value, ratio) = (with.records_per_datagram, with.records_per_datagram / without.records_per_datagram);
    let details = table.iter().flat_map(|(load, points)| {
        points.iter().map(|point| {
            serde_json::json!({
                "load": load.name, "hold_us": point.hold_us, "records_per_datagram": point.records_per_datagram,
                "p50_us": point.p50_us, "p99_us": point.p99_us
            })
        })
    });
    // The clock is virtual: every round is the same.
    let (ratios, details) = (Ratios::exact(ratio), details.collect());
    Ok(Report { name: "tradeoff", value, unit: "records/datagram", ratios, details })
}
