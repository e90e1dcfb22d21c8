//! `idle`: the cost of an idle gateway in adaptive mode, and the latency of the first record after idleness.
//!
//! The gateway has the default settings (hold 50 us, early flush), on a pinned lcore with memory ports that support
//! sleep. Beside it sleeps a thread that does nothing but `ppoll`: no design costs less or wakes earlier. Both are idle
//! at the same time, and are woken in turns.

pub(crate) mod bare;
mod wire;

use crate::input::{self, GATEWAY, MASTER, MASTER_AT, Shape};
use crate::ratios::Ratios;
use crate::report::Report;
use ::wire::{Scale, ShardSet};
use anyhow::Context;
use bare::Bare;
use frame::time::{MICROSECOND, SECOND};
use frame::{Peer, PortId, Role, Time, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use lcore::mailbox::mailbox;
use lcore::thread::{LcoreHandle, ThreadConfig, cpu_ns, start};
use lcore::{Clock, CoreList, Lcore, RxMode};
use link::{Route, RouteChange};
use port::headers::Local;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use wire::{Wire, WirePort};

const MTU: u16 = 1500;
const SLAVE_SIDE: Local = Local { mac: [2, 0, 0, 0, 1, 1], ip: [10, 1, 0, 1], udp_port: 9999 };
const SHAPE: Shape = Shape { slaves: 16, payload: 64, records: 1, packets: 256, up: false, scattered: false };

/// Between two wake-ups, in nanoseconds: long after the last spin, shorter than the longest sleep.
const PAUSE: std::ops::Range<u32> = 1_500_000..4_500_000;

/// A wake-up that takes longer counts as lost.
const NEVER: Time = 60 * SECOND;

/// Parts of all wake-ups, each with a ratio of its own.
const PARTS: usize = 10;

/// What was measured of one of the two.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Share of a core while nothing came, in percent.
    pub idle_percent: f64,
    /// CPU time of a wake-up until it sleeps again, in microseconds.
    pub cpu_us_per_wake: f64,
    /// The latencies, sorted, in microseconds.
    pub latencies: Vec<f64>,
}

impl Figures {
    /// The latency that a share of all does not exceed, in microseconds.
    pub fn at(&self, share: f64) -> f64 {
        let place = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(place.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Gateway and baseline.
#[derive(Clone, Debug)]
pub struct Row {
    /// The gateway: from the delivery of a record to its departure.
    pub gateway: Figures,
    /// The thread that only sleeps: from the ring to being awake.
    pub bare: Figures,
    /// Sleeps of the lcore for each second of idleness.
    pub sleeps_per_second: f64,
    /// The gateway's p99 over the thread's, of each tenth of the wake-ups.
    pub ratios: Ratios,
}

fn lcore(core: usize, clock: Clock, wires: [Arc<Wire>; 2]) -> anyhow::Result<LcoreHandle> {
    let (_commands, mailbox) = mailbox(64)?;
    let build = move || -> anyhow::Result<Lcore<Gateway, WirePort>> {
        let pool = input::pool(16_384, 2048)?;
        let scale = Scale::default();
        let mut gateway = Gateway::new(GatewayConfig::new(ShardSet::all(scale)), &pool)?;
        let mut out = frame::Outbox::new(pool.clone(), 2);
        for id in 0..SHAPE.slaves {
            let peer = Peer::ipv4(PortId(1), [10, 1, 1, id as u8], 9999, Vlan::UNTAGGED, [2, 0, 1, 0, 0, id as u8]);
            let route = Some(Route { peer, mtu: MTU, fixed_port: false });
            let id = scale.slave_id(id).context("an id in range")?;
            gateway.command(0, GatewayCommand::Route(RouteChange::Slave { id, route }), &mut out);
        }
        let peer = Peer::ipv4(PortId(0), MASTER_AT.ip, MASTER_AT.udp_port, Vlan::UNTAGGED, MASTER_AT.mac);
        let route = Some(Route { peer, mtu: MTU, fixed_port: false });
        gateway.command(0, GatewayCommand::Route(RouteChange::Master { id: MASTER, route }), &mut out);
        let ends = [(PortId(0), GATEWAY, &wires[0]), (PortId(1), SLAVE_SIDE, &wires[1])];
        let ports = ends.map(|(id, local, wire)| WirePort::new(id, local, wire, &pool, clock));
        Ok(Lcore::new(0, gateway, ports.into(), pool, mailbox, None))
    };
    let config = ThreadConfig { index: 0, core: Some(core), mode: RxMode::Adaptive, clock };
    let build = move || build().map_err(|error| io::Error::other(error.to_string()));
    Ok(start(config, build, || ())?.wait()?)
}

/// Waits until `look` reports this count. Returns the time of that.
fn until(clock: Clock, count: u64, look: impl Fn() -> (u64, Time)) -> anyhow::Result<Time> {
    let began = clock.now();
    loop {
        let (seen, at) = look();
        if seen >= count {
            return Ok(at);
        }
        anyhow::ensure!(clock.now() - began < NEVER, "a wake-up was lost: nothing came for 60 seconds");
        std::thread::yield_now();
    }
}

/// The ratios of the p99 of each part.
fn ratios(ours: &[f64], theirs: &[f64]) -> Ratios {
    let p99 = |part: &[f64]| Figures { latencies: sorted(part.to_vec()), ..Figures::default() }.at(0.99);
    let each = ours.len().div_ceil(PARTS).max(1);
    Ratios::of(ours.chunks(each).zip(theirs.chunks(each)).map(|(us, them)| p99(us) / p99(them)).collect())
}

fn sorted(mut latencies: Vec<f64>) -> Vec<f64> {
    latencies.sort_by(f64::total_cmp);
    latencies
}

/// Measures idleness for `idle`, and then `wakes` wake-ups of each.
///
/// # Errors
/// The kernel refuses an arena, a thread or a core, a thread ends early, or a wake-up does not come within 60 seconds.
pub fn measure(idle: Duration, wakes: usize) -> anyhow::Result<Row> {
    let machine = CoreList::of_this_process()?;
    let cores: Vec<usize> = machine.iter().collect();
    // The waking thread should not run on their core.
    let asleep = *cores.last().context("no core")?;
    if let [waking, _, ..] = cores.as_slice() {
        core_affinity::set_for_current(core_affinity::CoreId { id: *waking });
    }
    let clock = Clock::start();
    let wires = [Arc::new(Wire::new()?), Arc::new(Wire::new()?)];
    let packets = input::packets(&SHAPE);
    let running = lcore(asleep, clock, wires.clone())?;
    let bare = Bare::start(asleep, clock)?;
    std::thread::sleep(Duration::from_millis(200));

    let cpu = || Some((cpu_ns(running.view().tid)?, cpu_ns(bare.tid())?));
    let sleeps = || running.view().lcore.sleeps.get();
    let (from, before, slept) = (clock.now(), cpu().context("a thread is gone")?, sleeps());
    std::thread::sleep(idle);
    let (to, after) = (clock.now(), cpu().context("a thread is gone")?);
    let time = (to - from) as f64;
    let percent = |before: u64, after: u64| 100.0 * (after - before) as f64 / time;
    let sleeps_per_second = (sleeps() - slept) as f64 * SECOND as f64 / time;

    let mut random = input::Random::new(1);
    let (mut ours, mut theirs) = (Vec::with_capacity(wakes), Vec::with_capacity(wakes));
    for number in 0..wakes as u64 {
        let mut pause = || {
            let ns = PAUSE.start + random.below(PAUSE.end - PAUSE.start);
            std::thread::sleep(Duration::from_nanos(ns.into()));
        };
        pause();
        let packet = packets.get(number as usize % packets.len()).context("a packet")?.clone();
        let before = clock.now();
        wires[0].deliver(packet)?;
        let at = until(clock, number + 1, || wires[1].sent())?;
        ours.push(at.saturating_sub(before) as f64 / MICROSECOND as f64);
        pause();
        let before = clock.now();
        bare.ring()?;
        let at = until(clock, number + 1, || bare.woke())?;
        theirs.push(at.saturating_sub(before) as f64 / MICROSECOND as f64);
    }
    let end = cpu().context("a thread is gone")?;
    let per_wake = |from: u64, to: u64| (to - from) as f64 / MICROSECOND as f64 / wakes as f64;
    let figures = |before, after, end, latencies| Figures {
        idle_percent: percent(before, after),
        cpu_us_per_wake: per_wake(after, end),
        latencies: sorted(latencies),
    };
    let ratios = ratios(&ours, &theirs);
    Ok(Row {
        ratios,
        gateway: figures(before.0, after.0, end.0, ours),
        bare: figures(before.1, after.1, end.1, theirs),
        sleeps_per_second,
    })
}

/// Measures, and prints the table.
///
/// # Errors
/// It fails as [`measure`] does.
pub fn table(idle: Duration, wakes: usize) -> anyhow::Result<Row> {
    let row = measure(idle, wakes)?;
    println!(
        "idle: a gateway lcore in adaptive mode (hold 50 us, early flush) and a bare ppoll, {wakes} wake-ups each"
    );
    println!("{:>8} {:>12} {:>12} {:>9} {:>9} {:>9}", "", "idle, % core", "CPU us/wake", "p50 us", "p99 us", "most us");
    for (name, figures) in [("gateway", &row.gateway), ("ppoll", &row.bare)] {
        println!(
            "{name:>8} {:>12.3} {:>12.1} {:>9.1} {:>9.1} {:>9.1}",
            figures.idle_percent,
            figures.cpu_us_per_wake,
            figures.at(0.5),
            figures.at(0.99),
            figures.at(1.0)
        );
    }
    println!("{:.0} sleeps per second of idleness", row.sleeps_per_second);
    Ok(row)
}

/// The benchmark: idleness for `idle`, then `wakes` wake-ups of each.
///
/// # Errors
/// A record did not leave.
pub fn report(idle: Option<Duration>, wakes: Option<usize>, quick: bool) -> anyhow::Result<Report> {
    let (long, often) = if quick { (Duration::from_millis(200), 100) } else { (Duration::from_secs(5), 2000) };
    let row = table(idle.unwrap_or(long), wakes.unwrap_or(often))?;
    let value = row.gateway.at(0.99);
    let details = [("gateway", &row.gateway), ("ppoll", &row.bare)].map(|(name, figures)| {
        serde_json::json!({
            "name": name, "idle_percent": figures.idle_percent, "cpu_us_per_wake": figures.cpu_us_per_wake,
            "p50_us": figures.at(0.5), "p99_us": figures.at(0.99), "most_us": figures.at(1.0)
        })
    });
    let details = details.into_iter().collect();
    // Over all wake-ups, as p99 is; the range is that of the parts.
    let ratios = Ratios { median: value / row.bare.at(0.99), ..row.ratios };
    Ok(Report { name: "idle", value, unit: "us-p99", ratios, details })
}
