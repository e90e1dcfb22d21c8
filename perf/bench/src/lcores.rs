//! `lcores`: two lcores compared with one, each with a gateway, an arena and an input of its own.
//!
//! They run as in the product, on pinned threads in polling mode. On a shared machine other programs take cores away
//! from the threads, which no design can prevent. So each figure comes twice: by the wall clock, and by the CPU time of
//! the threads. The cost of two lcores for each other (shared cache lines, memory bandwidth, a shared core's second
//! thread) is in both figures; the time that other programs take is only in the first.

use crate::account;
use crate::aggregate;
use crate::input::{self, Shape};
use crate::ratios::{Ratios, median};
use crate::report::Report;
use crate::unavailable::needs;
use anyhow::Context;
use gateway::GatewayCounters;
use lcore::thread::{LcoreHandle, Starting, ThreadConfig, View, cpu_ns, start};
use lcore::{Clock, CoreList, RxMode};
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// 8,192 slaves in random order, one record in a datagram: what costs most. More input than the L2 cache holds.
const SHAPE: Shape = Shape { slaves: 8_192, payload: 64, records: 1, packets: 65_536, up: false, scattered: false };

/// Fills buffers to all levels, and caches.
const WARM_UP: Duration = Duration::from_millis(200);

/// What one round saw.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Million records per second of each kind of clock, of one lcore: the mean over the cores.
    pub one: Rate,
    /// The same of two lcores at once, together.
    pub two: Rate,
}

/// Million records per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// By the wall clock.
    pub wall: f64,
    /// By the CPU time of the lcores' threads, each by its own, summed.
    pub cpu: f64,
}

impl Round {
    /// Two lcores against one, by the wall clock and by CPU time.
    pub fn ratios(&self) -> (f64, f64) {
        (self.two.wall / self.one.wall, self.two.cpu / self.one.cpu)
    }
}

/// An lcore that runs, and what its gateway counts.
struct Subject {
    running: LcoreHandle,
    gateway: Arc<GatewayCounters>,
}

/// An lcore that is being built.
type Beginning = (Starting<io::Error>, mpsc::Receiver<Arc<GatewayCounters>>);

fn begin(index: u16, core: usize, packets: &Arc<Vec<Vec<u8>>>) -> anyhow::Result<Beginning> {
    let packets = Arc::clone(packets);
    let config = ThreadConfig { index, core: Some(core), mode: RxMode::Polling, clock: Clock::start() };
    let (tell, told) = mpsc::channel();
    let build = move || {
        let lcore =
            aggregate::lcore(index, &SHAPE, &packets, 32).map_err(|error| io::Error::other(error.to_string()))?;
        // Nobody waits for it when the benchmark was given up.
        let _ = tell.send(Arc::clone(lcore.role().counters()));
        Ok(lcore)
    };
    Ok((start(config, build, || ())?, told))
}

fn wait((starting, told): Beginning) -> anyhow::Result<Subject> {
    let running = starting.wait()?;
    Ok(Subject { running, gateway: told.recv().context("the lcore was built")? })
}

impl Subject {
    /// Ends it, and sees that all that came in went its way.
    fn end(self) -> anyhow::Result<()> {
        let view = self.running.view().clone();
        self.running.stop();
        self.running.join();
        let ports = view.ports.into_iter().map(|port| port.counters);
        account::counters(false, &self.gateway, &view.outbox, ports).map(drop)
    }
}

fn records(view: &View) -> u64 {
    view.outbox.down.records_out.get()
}

/// Runs one lcore on each core for a while.
fn run(cores: &[usize], packets: &Arc<Vec<Vec<u8>>>, time: Duration) -> anyhow::Result<Rate> {
    let starting = cores.iter().enumerate().map(|(index, core)| begin(index as u16, *core, packets));
    let starting: Vec<_> = starting.collect::<anyhow::Result<_>>()?;
    let lcores: Vec<Subject> = starting.into_iter().map(wait).collect::<anyhow::Result<_>>()?;
    std::thread::sleep(WARM_UP);
    let clock = Clock::start();
    let look = || -> anyhow::Result<Vec<(u64, u64)>> {
        let look = |lcore: &Subject| Some((records(lcore.running.view()), cpu_ns(lcore.running.view().tid)?));
        lcores.iter().map(look).collect::<Option<_>>().context("an lcore is gone")
    };
    let (from, before) = (clock.now(), look()?);
    std::thread::sleep(time);
    let (to, after) = (clock.now(), look()?);
    let mut rate = Rate::default();
    for ((records_before, cpu_before), (records_after, cpu_after)) in before.into_iter().zip(after) {
        let records = (records_after - records_before) as f64;
        rate.wall += records * 1e3 / (to - from) as f64;
        rate.cpu += records * 1e3 / (cpu_after - cpu_before).max(1) as f64;
    }
    lcores.into_iter().try_for_each(Subject::end)?;
    Ok(rate)
}

/// Measures one lcore on each of two cores, and two at once, in turns; prints a line for each round.
///
/// # Errors
/// The error is [`Unavailable`](crate::unavailable::Unavailable) when this process may use one core alone. It is
/// another one when an lcore cannot be started or ends early, or a record is lost.
pub fn table(rounds: usize, time: Duration) -> anyhow::Result<Vec<Round>> {
    let machine = CoreList::of_this_process()?;
    let cores: Vec<usize> = machine.iter().take(2).collect();
    needs(cores.len() == 2, format!("two lcores need two cores, and this process may use core {machine} alone"))?;
    let &[first, second] = cores.as_slice() else { anyhow::bail!("two cores") };
    let packets = Arc::new(input::packets(&SHAPE));
    println!(
        "lcores: 8,192 slaves, 64-byte payloads, one record per datagram, memory ports, cores {first} and {second}"
    );
    println!(
        "{:>6} {:>10} {:>10} {:>7} {:>12} {:>12} {:>7}",
        "round", "1: Mrec/s", "2: Mrec/s", "ratio", "1: /CPU-s", "2: /CPU-s", "ratio"
    );
    let mut table = Vec::with_capacity(rounds);
    for number in 1..=rounds {
        let a = run(&[first], &packets, time)?;
        let two = run(&cores, &packets, time)?;
        let b = run(&[second], &packets, time)?;
        let one = Rate { wall: (a.wall + b.wall) / 2.0, cpu: (a.cpu + b.cpu) / 2.0 };
        let round = Round { one, two };
        let (wall, cpu) = round.ratios();
        println!(
            "{number:>6} {:>10.2} {:>10.2} {wall:>7.2} {:>12.2} {:>12.2} {cpu:>7.2}",
            one.wall, two.wall, one.cpu, two.cpu
        );
        table.push(round);
    }
    Ok(table)
}

/// The benchmark; `time` is that of each measurement, of which a round has three.
///
/// # Errors
/// There are not two cores, or records are missing.
pub fn report(rounds: Option<usize>, time: Option<Duration>, quick: bool) -> anyhow::Result<Report> {
    let (usual, long) = if quick { (1, 100) } else { (7, 500) };
    let table = table(rounds.unwrap_or(usual), time.unwrap_or(Duration::from_millis(long)))?;
    let ratios = |of: fn((f64, f64)) -> f64| Ratios::of(table.iter().map(|round| of(round.ratios())).collect());
    let (by_wall, by_cpu) = (ratios(|(wall, _)| wall), ratios(|(_, cpu)| cpu));
    println!("two lcores against one: {:.2} by the wall clock, {:.2} by CPU time", by_wall.median, by_cpu.median);
    let details = table.iter().map(|round| {
        serde_json::json!({
            "one_mrecords_per_second": round.one.wall, "two_mrecords_per_second": round.two.wall,
            "one_mrecords_per_cpu_second": round.one.cpu, "two_mrecords_per_cpu_second": round.two.cpu,
            "ratio": round.ratios().0, "cpu_ratio": round.ratios().1
        })
    });
    let (value, details) = (median(table.iter().map(|round| round.two.cpu).collect()), details.collect());
    Ok(Report { name: "lcores", value, unit: "Mrecords/s-of-CPU-time", ratios: by_cpu, details })
}
