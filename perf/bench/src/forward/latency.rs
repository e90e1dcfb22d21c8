//! Added latency without load: one packet at a time, from a socket before the gateway to a socket behind it.

use crate::forward::input::{pin, record};
use crate::forward::machine::Machine;
use crate::forward::subject::{Order, Which};
use crate::forward::world::World;
use anyhow::Context as _;
use frame::time::MICROSECOND;
use gateway::GatewayCommand;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use wire::record::{FRAG_PUSH, offset};

/// Turns of each way to forward, one after the other, and packets of a turn.
const TURNS: (usize, usize) = (6, 500);
/// The same of a quick run.
const QUICK: (usize, usize) = (2, 20);
/// Between two packets, so that none meets another.
const PAUSE: Duration = Duration::from_micros(200);

/// A packet that takes longer counts as lost.
const NEVER: Duration = Duration::from_secs(60);

/// How one packet is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Its name in the table.
    pub name: &'static str,
    which: Which,
    hold_us: u64,
    early: bool,
    /// The packet's record has PUSH.
    push: bool,
}

const BARE: Way = Way { name: "bare forwarder", which: Which::Bare, hold_us: 0, early: true, push: false };
const OURS: Way = Way { name: "gateway, hold 0", which: Which::Ours, ..BARE };
const WAYS: [Way; 5] = [
    BARE,
    OURS,
    Way { name: "gateway, hold 50 us", hold_us: 50, ..OURS },
    Way { name: "gateway, hold 50 us, early flush off", hold_us: 50, early: false, ..OURS },
    Way { name: "gateway, hold 50 us, early flush off, PUSH", hold_us: 50, early: false, push: true, ..OURS },
];

/// Microseconds from the call that sends to the call that receives.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// How it was forwarded.
    pub way: Way,
    /// The quickest.
    pub least: f64,
    /// Half are quicker.
    pub p50: f64,
    /// 99 of 100 are quicker.
    pub p99: f64,
}

/// Measures all ways in turn. The calling thread is moved to a core.
///
/// # Errors
/// A packet does not arrive.
pub fn measure(world: &World, machine: &Machine, core: usize, quick: bool) -> anyhow::Result<Vec<Latency>> {
    let (turns, packets) = if quick { QUICK } else { TURNS };
    pin(core)?;
    let from = world.up.enter(|| UdpSocket::bind("10.91.1.2:9999"))?;
    let to = world.down.enter(|| UdpSocket::bind("10.91.2.2:9999"))?;
    to.set_nonblocking(true)?;
    let mut times: Vec<Vec<f64>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..turns {
        for (way, times) in WAYS.iter().zip(&mut times) {
            machine.order(Order::Use(way.which))?;
            machine.order(Order::Gateway(GatewayCommand::SetHold(way.hold_us * MICROSECOND)))?;
            machine.order(Order::Gateway(GatewayCommand::SetEarly(way.early)))?;
            for _ in 0..packets {
                times.push(ping(&from, &to, way.push).with_context(|| way.name)?);
                std::thread::sleep(PAUSE);
            }
        }
    }
    let latency = |(way, mut times): (&Way, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        Latency { way: *way, least: at(0.0), p50: at(0.5), p99: at(0.99) }
    };
    Ok(WAYS.iter().zip(times).map(latency).collect())
}

fn ping(from: &UdpSocket, to: &UdpSocket, push: bool) -> anyhow::Result<f64> {
    let mut record = record();
    if push {
        record[offset::IS_FRAG] |= FRAG_PUSH;
    }
    let mut buffer = [0; 2048];
    let began = Instant::now();
    from.send_to(&record, "10.91.1.1:9999")?;
    loop {
        if let Ok(len) = to.recv(&mut buffer) {
            let time = began.elapsed();
            anyhow::ensure!(buffer[..len] == record, "another record arrived");
            return Ok(time.as_nanos() as f64 / 1e3);
        }
        anyhow::ensure!(began.elapsed() < NEVER, "a record did not arrive");
    }
}
