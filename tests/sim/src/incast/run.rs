//! Phases of a run, and its figures.

use super::world::{Computer, IncastSpec, IncastWorld};
use frame::Time;
use frame::time::{MILLISECOND, SECOND};

/// Figures of one master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasterFigures {
    /// Payload of bulk requests in the measured time, of each 1,000 bytes that its link carries in that time.
    pub goodput: u64,
    /// Demand READs without load, in nanoseconds: 50 and 99 of 100 were not longer.
    pub unloaded: [Time; 2],
    /// The same beside bulk requests.
    pub loaded: [Time; 2],
    /// Demand READs beside bulk requests.
    pub demands: u64,
    /// The window of all paths at the end.
    pub window: u64,
}

/// What a run has measured.
#[derive(Clone, Debug, Default)]
pub struct IncastOutcome {
    /// For each master.
    pub masters: Vec<MasterFigures>,
    /// Datagrams that links lost while the load began, and after that.
    pub lost_at_start: u64,
    /// Datagrams that links lost in the measured time.
    pub lost: u64,
    /// Records that gateways dropped in the whole run.
    pub dropped: u64,
    /// The most bytes that waited before the link of a master, in the measured time.
    pub longest: u64,
    /// Times that a window of all paths shrank: by delay, marks, losses.
    pub shrunk: [u64; 3],
    /// Datagrams that machines had no frame for.
    pub no_frame: u64,
}

/// How long each phase is.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// Demand READs alone.
    pub unloaded: Time,
    /// From the first bulk request on.
    pub start: Time,
    /// Then figures are taken.
    pub measured: Time,
}

impl Phases {
    /// What the figures of the documentation are measured with.
    pub const USUAL: Self = Self { unloaded: 300 * MILLISECOND, start: 50 * MILLISECOND, measured: 200 * MILLISECOND };
}

/// 50 and 99 of 100 were not longer.
fn percentiles(times: &mut [Time]) -> [Time; 2] {
    times.sort_unstable();
    [50, 99].map(|part| times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0))
}

fn lost(world: &IncastWorld) -> u64 {
    world.cables.values().map(|cable| cable.down.lost).sum()
}

/// Runs a world.
///
/// # Errors
/// The first thing that is wrong.
pub fn run(spec: &IncastSpec, phases: &Phases, seed: u64) -> Result<IncastOutcome, String> {
    let mut world = IncastWorld::new(spec, seed)?;
    go(&mut world, spec, phases).map_err(|what| format!("seed {seed} at {} us: {what}", world.now / 1000))
}

fn go(world: &mut IncastWorld, spec: &IncastSpec, phases: &Phases) -> Result<IncastOutcome, String> {
    let mut outcome = IncastOutcome::default();
    prepare(world, spec)?;
    // Demand READs alone.
    for number in 0..world.masters.len() {
        let client = &mut world.masters[number].client;
        client.demand_times.clear();
        client.demand_at = world.now;
        world.poll_at(Computer::Master(number), world.now);
    }
    world.run_until(world.now + phases.unloaded)?;
    let unloaded: Vec<_> = world
        .masters
        .iter_mut()
        .map(|master| percentiles(&mut std::mem::take(&mut master.client.demand_times)))
        .collect();
    let before = lost(world);
    // Bulk requests beside them.
    let begin = world.now;
    let mut order: Vec<_> = spec.masters.iter().enumerate().map(|(number, master)| (master.later, number)).collect();
    order.sort_unstable();
    for (later, number) in order {
        world.run_until(begin + later)?;
        world.masters[number].client.is_loading = true;
        world.poll_at(Computer::Master(number), world.now);
    }
    world.run_until(world.now.max(begin) + phases.start)?;
    outcome.lost_at_start = lost(world) - before;
    let before = lost(world);
    for number in 0..world.masters.len() {
        let client = &mut world.masters[number].client;
        client.demand_times.clear();
        client.bulk_bytes = 0;
        if let Some(cable) = world.cables.get_mut(&Computer::Master(number)) {
            cable.down.longest = 0;
        }
    }
    world.run_until(world.now + phases.measured)?;
    world.check()?;
    outcome.lost = lost(world) - before;
    for (number, master) in world.masters.iter_mut().enumerate() {
        let mut times = std::mem::take(&mut master.client.demand_times);
        let link = spec.masters[number].link;
        let carried = u128::from(link.mbit) * u128::from(phases.measured) / 8000;
        let stats = master.host.role.stats().transport;
        outcome.masters.push(MasterFigures {
            goodput: (u128::from(master.client.bulk_bytes) * 1000 / carried) as u64,
            unloaded: unloaded[number],
            demands: times.len() as u64,
            loaded: percentiles(&mut times),
            window: stats.window_bytes.get(),
        });
        let shrunk = [&stats.window_shrunk_delay, &stats.window_shrunk_mark, &stats.window_shrunk_loss];
        outcome.shrunk.iter_mut().zip(shrunk).for_each(|(sum, counter)| *sum += counter.get());
        let cable = world.cables.get(&Computer::Master(number));
        outcome.longest = outcome.longest.max(cable.map_or(0, |cable| cable.down.longest));
    }
    for gateway in &world.gateways {
        let (counters, out) = (gateway.host.role.counters(), gateway.host.out.counters());
        outcome.dropped += counters.down.dropped() + counters.up.dropped() + out.down.dropped() + out.up.dropped();
    }
    outcome.no_frame = world.no_frame;
    finish(world)?;
    Ok(outcome)
}

/// Masters know all slaves, have memory of each, and have written it.
fn prepare(world: &mut IncastWorld, spec: &IncastSpec) -> Result<(), String> {
    let until = world.now + 30 * SECOND;
    loop {
        let mut is_ready = true;
        for number in 0..world.masters.len() {
            let now = world.now;
            let master = &mut world.masters[number];
            let known = master.host.role.members().count();
            let spread = master.client.spread();
            if known < spec.slaves as usize {
                is_ready = false;
            } else if spread < spec.slaves as usize {
                is_ready = false;
                if (now / MILLISECOND).is_multiple_of(500) {
                    master.client.allocate(now, &mut master.host.role);
                }
            } else if !master.client.is_filled() || !master.client.is_idle() {
                is_ready = false;
                master.client.fill(now, &mut master.host.role);
            }
            world.poll_at(Computer::Master(number), now);
        }
        if is_ready {
            return Ok(());
        }
        if world.now > until {
            let spread: Vec<_> = world.masters.iter().map(|master| master.client.spread()).collect();
            return Err(format!("not ready after 30 s; slaves with memory of each master: {spread:?}"));
        }
        world.run_until(world.now + MILLISECOND)?;
    }
}

/// The load ends, all requests end, and nothing is in flight.
fn finish(world: &mut IncastWorld) -> Result<(), String> {
    for master in &mut world.masters {
        master.client.is_loading = false;
        master.client.demand_at = Time::MAX;
    }
    let until = world.now + 10 * SECOND;
    while !world.masters.iter().all(|master| master.client.is_idle()) {
        if world.now > until {
            return Err("requests do not end".to_owned());
        }
        world.run_until(world.now + MILLISECOND)?;
    }
    for (number, master) in world.masters.iter().enumerate() {
        if master.host.role.stats().transport.bytes_in_flight.get() != 0 {
            return Err(format!("master {number} has bytes in flight after all requests have ended"));
        }
    }
    world.check()
}
