//! A gateway on a core of its own, and records that come at a fixed rate.
//!
//! One more thread is the master and all slaves: it sends what is due, one record to a datagram and each datagram
//! alone, and takes what comes. It spins, so that each record's time is known to the length of one of its rounds.

use super::world::{Counters, Farm, Master, Nodes, dropped, gateway, pool, socket};
use crate::unavailable::needs;
use anyhow::{Context as _, ensure};
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use lcore::mailbox::mailbox;
use lcore::thread::{LcoreHandle, ThreadConfig, cpu_ns, start};
use lcore::{Clock, CoreList, Lcore, RxMode};
use port::udp::UdpOptions;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

/// Before anything counts: sockets, routes and caches have been used.
const WARM_UP: Duration = Duration::from_millis(100);

/// When the last record has left, so long nothing must come before all is counted.
const QUIET: Time = 50 * MILLISECOND;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The cores of the traffic and of the gateway.
    pub cores: [usize; 2],
    /// How many slaves.
    pub slaves: u32,
    /// Records a second.
    pub rate: u64,
    /// How long, after the warm-up.
    pub length: Duration,
}

/// What one slice saw.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// Of all records, warm-up included: those that did not come, and which of them the gateway's socket, the gateway
    /// and the slaves' socket lost. A socket counts a train as one.
    pub lost: u64,
    /// See `lost`.
    pub lost_at: [u64; 3],
    /// All records that were sent, warm-up included.
    pub all: u64,
    /// The gateway's share of its core.
    pub share: f64,
    /// From departure to arrival: median and p99, in microseconds.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
    /// Records in a datagram that came.
    pub records_per_datagram: f64,
    /// Sleeps of the gateway in a second.
    pub sleeps: f64,
    /// Its naps in a second.
    pub naps: f64,
}

/// The cores of the traffic and of the gateway.
///
/// # Errors
/// This process may use one core only.
pub(super) fn cores() -> anyhow::Result<[usize; 2]> {
    let cores: Vec<usize> = CoreList::of_this_process()?.iter().collect();
    needs(cores.len() >= 2, "it needs two cores, and this process may use one")?;
    match cores[..] {
        [first, .., last] => Ok([first, last]),
        _ => anyhow::bail!("no two cores"),
    }
}

/// A gateway on its thread.
struct Running {
    lcore: LcoreHandle,
    address: SocketAddr,
    counters: Counters,
}

fn run(core: usize, nodes: Nodes, mode: RxMode, clock: Clock) -> anyhow::Result<Running> {
    let (_commands, mailbox) = mailbox(64)?;
    let (tell, told) = mpsc::channel();
    let build = move || -> anyhow::Result<_> {
        let pool = pool(16_384)?;
        let port = socket(&pool, UdpOptions::default())?;
        let role = gateway(&pool, nodes, 50 * MICROSECOND)?;
        tell.send((port.local_addr(), role.counters().clone()))?;
        Ok(Lcore::new(0, role, vec![port], pool, mailbox, None))
    };
    let config = ThreadConfig { index: 0, core: Some(core), mode, clock };
    let build = move || build().map_err(|error| io::Error::other(error.to_string()));
    let lcore = start(config, build, || ())?.wait()?;
    let (address, counters) = told.recv()?;
    Ok(Running { lcore, address, counters })
}

/// Measures one slice with the gateway in this mode.
///
/// # Errors
/// There is no memory or no socket. A record came changed, twice or out of order. A record is
/// missing that nobody counted.
pub(super) fn slice(pace: Pace, mode: RxMode) -> anyhow::Result<Slice> {
    let [here, there] = pace.cores;
    core_affinity::set_for_current(core_affinity::CoreId { id: here });
    let clock = Clock::start();
    let (mut master, mut farm) = (Master::new(pace.slaves, false)?, Farm::new(pace.slaves)?);
    let nodes = Nodes { slaves: pace.slaves, master: master.address(), farm: farm.address() };
    let gateway = run(there, nodes, mode, clock)?;
    master.send_to(gateway.address);
    let view = gateway.lcore.view().clone();
    let look = || Some((clock.now(), cpu_ns(view.tid)?, [view.lcore.sleeps.get(), view.lcore.naps.get()]));

    let mut made = 0;
    let mut traffic = |length: Duration, farm: &mut Farm| -> anyhow::Result<()> {
        let began = clock.now();
        let (end, already) = (began + length.as_nanos() as Time, made);
        loop {
            let now = clock.now().min(end);
            let due = already + ((now - began) as u128 * u128::from(pace.rate) / u128::from(SECOND)) as u64;
            // At most a burst at once: a thread that was interrupted does not flood the gateway.
            let records = (due - made).min(64);
            made += records;
            master.send(clock.now(), records)?;
            farm.hear(clock)?;
            if now == end && made == due {
                return Ok(());
            }
        }
    };
    traffic(WARM_UP, &mut farm)?;
    let warm = farm.records;
    let before = look().context("the gateway's thread is gone")?;
    farm.latencies = Some(Vec::with_capacity((pace.rate as f64 * pace.length.as_secs_f64() * 1.1) as usize));
    traffic(pace.length, &mut farm)?;
    let after = look().context("the gateway's thread is gone")?;
    let mut quiet_at = clock.now() + QUIET;
    while clock.now() < quiet_at {
        master.flush(clock.now())?;
        if farm.hear(clock)? > 0 {
            quiet_at = clock.now() + QUIET;
        }
    }
    let mut latencies = farm.latencies.take().unwrap_or_default();
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(place).map_or(f64::NAN, |ns| *ns as f64 / MICROSECOND as f64)
    };
    let all = master.sent();
    gateway.lcore.stop();
    gateway.lcore.join();
    let by_gateway = dropped(&gateway.counters, &view.outbox)?;
    let by_socket = view.lcore.rx_lost.get();
    let lost = all - farm.records;
    let lost_at = [by_socket, by_gateway, farm.lost()];
    ensure!(
        lost == 0 || lost_at.iter().any(|lost| *lost > 0),
        "{lost} of {all} records are missing, and nobody lost one"
    );
    ensure!(farm.records > warm, "nothing came");
    ensure!(farm.missing <= lost, "{} records are missing of {lost} that did not come", farm.missing);
    let time = (after.0 - before.0) as f64;
    Ok(Slice {
        lost,
        lost_at,
        all,
        share: (after.1 - before.1) as f64 / time,
        p50: at(0.5),
        p99: at(0.99),
        records_per_datagram: farm.records as f64 / farm.datagrams as f64,
        sleeps: (after.2[0] - before.2[0]) as f64 * SECOND as f64 / time,
        naps: (after.2[1] - before.2[1]) as f64 * SECOND as f64 / time,
    })
}
