//! `forward`: the cost of one record from NIC queue to NIC queue, compared with a forwarder that reads no packet.
//!
//! An lcore with two AF_XDP ports on veth, as in the product, on core 0. On core 1 the kernel makes packets faster than
//! they can be forwarded, and receives them for the lcore. The measure is the processor time of the lcore's thread, in
//! which the kernel also sends its packets up to the far end's counter, and of the core's softirq thread.
//!
//! | module | what |
//! |---|---|
//! | [`world`] | the namespaces |
//! | [`machine`] | the lcore with its ports and XDP programs |
//! | [`subject`] | its role: the gateway, or the bare forwarder |
//! | [`input`] | packets from the kernel |
//! | [`measure`] | one slice of time: processor time and records |
//! | [`latency`] | one packet at a time |

pub mod input;
pub mod latency;
pub mod machine;
pub mod measure;
pub mod subject;
pub mod world;

use crate::ratios::{Ratios, median};
use crate::report::Report;
use anyhow::Context as _;
use ebpf::generate::{Pattern, Sink};
use frame::Time;
use frame::time::MICROSECOND;
use gateway::GatewayCommand;
use input::{Input, RECORD};
use latency::Latency;
use lcore::Clock;
use machine::{Machine, SLAVES};
use measure::{Meter, Slice};
use std::time::Duration;
use subject::{Order, Which};
use world::{MASTER_SIDE, SLAVE_SIDE, UP_PORT, World, address_of};

/// The lcore's core.
const LCORE: usize = 0;
/// The generator's core, which also receives.
const GENERATOR: usize = 1;
/// Attempts to measure a slice that another program has disturbed.
const ATTEMPTS: usize = 5;

/// One kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its name in the table.
    pub name: &'static str,
    pattern: Pattern,
    hold: Time,
}

/// Nothing that could share a datagram, and records that can, 16 to a datagram.
const LOADS: [Load; 2] = [
    Load { name: "(a) nothing mergeable, hold 0", pattern: Pattern { slaves: SLAVES, run: 1 }, hold: 0 },
    Load { name: "(b) 16 mergeable, hold 50 us", pattern: Pattern { slaves: SLAVES, run: 16 }, hold: 50 * MICROSECOND },
];

/// One load's figures: medians over the rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// The load.
    pub load: Load,
    /// Millions of records per second of processor time in the gateway.
    pub ours: f64,
    /// The same in the bare forwarder.
    pub bare: f64,
    /// `ours / bare`, of the rounds.
    pub ratios: Ratios,
    /// Records in a datagram that left the gateway.
    pub records_per_datagram: f64,
    /// Least share of the polls that did something.
    pub busy: f64,
    /// Least share of the packets at the port that found its rings full.
    pub overflow: f64,
    /// Share of the time in which the gateway and the bare forwarder did not rest.
    pub awake: (f64, f64),
    /// Nanoseconds per record outside the kernel, in the gateway and in the bare forwarder.
    pub user_ns: (f64, f64),
    /// Slices that were no measurement because the lcore was not busy or its input did not overflow.
    pub repeated: usize,
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub struct Table {
    /// One row for each load.
    pub rows: Vec<Row>,
    /// One packet at a time.
    pub latencies: Vec<Latency>,
}

/// The median of what `of` makes of slices.
fn middle(slices: &[Slice], of: impl Fn(&Slice) -> f64) -> f64 {
    median(slices.iter().map(of).collect())
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

/// Measures a slice, and repeats it if it is not valid; returns it with the number of invalid ones. A quick run accepts
/// every slice: it was checked that all records arrived.
fn slice(load: &Load, which: Which, bench: &Bench<'_>, length: Duration) -> anyhow::Result<(Slice, usize)> {
    bench.machine.order(Order::Use(which))?;
    bench.machine.order(Order::Gateway(GatewayCommand::SetHold(load.hold)))?;
    for repeated in 0..ATTEMPTS {
        let input = Input::start(bench.world, bench.ifindex, &bench.packet, load.pattern, GENERATOR);
        let slice = bench.meter.slice(input, length).with_context(|| format!("{}, {which:?}", load.name))?;
        match slice.flaw() {
            None => return Ok((slice, repeated)),
            Some(_) if bench.quick => return Ok((slice, repeated + 1)),
            Some(flaw) if repeated + 1 == ATTEMPTS => anyhow::bail!(
                "{}, {which:?}: no measurement in {ATTEMPTS} attempts, {flaw} ({:.0} % of polls, {:.1} % lost on \
                 receive): \
                 the machine is too busy, or has fewer than two cores",
                load.name,
                slice.busy * 100.0,
                slice.overflow() * 100.0
            ),
            Some(_) => {}
        }
    }
    anyhow::bail!("no attempt was made")
}

struct Bench<'a> {
    world: &'a World,
    machine: &'a Machine,
    meter: Meter<'a>,
    ifindex: u32,
    packet: Vec<u8>,
    quick: bool,
}

impl Bench<'_> {
    fn row(&self, load: Load, rounds: usize, length: Duration) -> anyhow::Result<Row> {
        let (mut ours, mut bare, mut repeated) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds.max(1) {
            for (which, slices) in [(Which::Ours, &mut ours), (Which::Bare, &mut bare)] {
                let (slice, again) = slice(&load, which, self, length)?;
                slices.push(slice);
                repeated += again;
            }
        }
        let ratios: Vec<f64> = ours.iter().zip(&bare).map(|(ours, bare)| ours.rate() / bare.rate()).collect();
        let all = || ours.iter().chain(&bare);
        Ok(Row {
            load,
            ours: middle(&ours, Slice::rate),
            bare: middle(&bare, Slice::rate),
            ratios: Ratios::of(ratios),
            records_per_datagram: middle(&ours, Slice::records_per_datagram),
            busy: least(all().map(|slice| slice.busy)),
            overflow: least(all().map(Slice::overflow)),
            awake: (middle(&ours, |slice| slice.awake), middle(&bare, |slice| slice.awake)),
            user_ns: (middle(&ours, Slice::user_ns), middle(&bare, Slice::user_ns)),
            repeated,
        })
    }
}

/// The whole table, as text on standard output and as a value. Needs root.
///
/// # Errors
/// There are no namespaces or no AF_XDP here, records got lost between a TX ring and the far end, or the machine is too
/// busy to measure anything.
pub fn table(rounds: usize, length: Duration, quick: bool) -> anyhow::Result<Table> {
    let clock = Clock::start();
    let world = World::new()?;
    let (ifindex, master) = address_of(&world.up, MASTER_SIDE)?;
    let (_, gateway) = address_of(&world.gateway, UP_PORT)?;
    let machine = Machine::start(&world, &master, LCORE, clock)?;
    let backing = machine.running.view().backing;
    println!(
        "forward: one record of {RECORD} bytes per datagram, {SLAVES} slaves, one lcore, AF_XDP on veth, {backing}"
    );
    for port in &machine.running.view().ports {
        println!("  port {}: {}", port.id.0, port.about.describe());
    }
    println!("{:<38} {:>8} {:>8} {:>8}", "one packet at a time, us", "least", "p50", "p99");
    let latencies = latency::measure(&world, &machine, GENERATOR, quick)?;
    for Latency { way, least, p50, p99 } in &latencies {
        println!("{:<38} {least:>8.1} {p50:>8.1} {p99:>8.1}", way.name);
    }
    let sink = world.down.enter(|| Sink::attach(SLAVE_SIDE, RECORD as u32))?;
    let meter = Meter::new(&machine, &sink, clock, world::threads_named(&format!("ksoftirqd/{LCORE}")));
    let packet = input::packet(&master, &gateway);
    let bench = Bench { world: &world, machine: &machine, meter, ifindex, packet, quick };
    machine.order(Order::Gateway(GatewayCommand::SetEarly(true)))?;
    machine.order(Order::Rest(true))?;
    println!(
        "{:<32} {:>8} {:>8} {:>6} {:>10} {:>9} {:>15} {:>5} {:>5} {:>9} {:>5}",
        "Mrecords per CPU second",
        "gateway",
        "bare",
        "ratio",
        "of rounds",
        "rec/dgram",
        "user ns/record",
        "busy",
        "lost",
        "awake",
        "again"
    );
    let mut rows = Vec::new();
    for load in LOADS {
        let row = bench.row(load, rounds, length)?;
        println!(
            "{:<32} {:>8.3} {:>8.3} {:>6.2} {:>10} {:>9.1} {:>7.0}/{:>7.0} {:>4.0}% {:>4.0}% {:>3.0}%/{:>3.0}% {:>5}",
            row.load.name,
            row.ours,
            row.bare,
            row.ratios.median,
            row.ratios.range(),
            row.records_per_datagram,
            row.user_ns.0,
            row.user_ns.1,
            row.busy * 100.0,
            row.overflow * 100.0,
            row.awake.0 * 100.0,
            row.awake.1 * 100.0,
            row.repeated
        );
        rows.push(row);
    }
    let arrived = sink.received()?;
    println!(
        "{} records arrived in {} datagrams, as many as left; {} datagrams were looked through, none was spoilt",
        arrived.records, arrived.datagrams, arrived.sampled
    );
    Ok(Table { rows, latencies })
}

/// The benchmark; `length` is that of each measurement, of which a round has four.
///
/// # Errors
/// See [`table`].
pub fn report(rounds: Option<usize>, length: Option<Duration>, quick: bool) -> anyhow::Result<Report> {
    let (usual, long) = if quick { (1, 100) } else { (15, 500) };
    let table = table(rounds.unwrap_or(usual), length.unwrap_or(Duration::from_millis(long)), quick)?;
    let row = table.rows.first().context("nothing was measured")?;
    let rows = table.rows.iter().map(|row| {
        serde_json::json!({
            "load": row.load.name, "mrecords_per_cpu_second": row.ours, "bare_mrecords_per_cpu_second": row.bare,
            "ratio": row.ratios.median, "ratios": row.ratios.json(),
            "records_per_datagram": row.records_per_datagram, "busy": row.busy, "lost_share": row.overflow,
            "user_ns_per_record": row.user_ns.0, "bare_user_ns_per_record": row.user_ns.1, "repeated": row.repeated
        })
    });
    let latencies = table.latencies.iter().map(|latency| {
        serde_json::json!({
            "way": latency.way.name, "least_us": latency.least, "p50_us": latency.p50, "p99_us": latency.p99
        })
    });
    let details = rows.chain(latencies).collect();
    Ok(Report { name: "forward", value: row.ours, unit: "Mrecords/CPU-s", ratios: row.ratios, details })
}
