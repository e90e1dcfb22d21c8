//! One run.

use super::client::ClientCounts;
use super::cluster::{FARMS, GATEWAYS, MASTERS, Machine, PagesCluster, WireFaults};
use frame::Role;
use frame::time::{MILLISECOND, SECOND};
use master::MasterCommand;
use std::collections::BTreeMap;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct PagesOutcome {
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
}

impl PagesOutcome {
    fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }
}

/// Runs one seed.
///
/// # Errors
/// The first thing that is wrong, with the time.
pub fn run_seed(seed: u64) -> Result<PagesOutcome, String> {
    let mut cluster = PagesCluster::new(seed)?;
    let result = run(&mut cluster);
    result.map_err(|what| format!("seed {seed} at {} us: {what}", cluster.now / 1000))
}

fn run(cluster: &mut PagesCluster) -> Result<PagesOutcome, String> {
    let mut outcome = PagesOutcome::default();
    let faults = |cluster: &mut PagesCluster, most: u64| cluster.rng.below(most) as u32;
    cluster.faults = WireFaults {
        lost: faults(cluster, 30_000),
        doubled: faults(cluster, 20_000),
        late: faults(cluster, 50_000),
        damaged: faults(cluster, 10_000),
    };
    run_for(cluster, 3 * SECOND)?;
    for _ in 0..400 {
        trouble(cluster, &mut outcome)?;
        for number in 0..MASTERS {
            let master = &mut cluster.masters[number];
            master.clients.act(cluster.now, &mut master.host.role, &mut cluster.rng)?;
            master.host.command(cluster.now, MasterCommand::Free(none(), Vec::new()));
        }
        let most = if cluster.rng.one_in(60) { 2 * SECOND } else { 3 * MILLISECOND };
        let time = cluster.rng.below(most);
        run_for(cluster, time)?;
    }
    end(cluster)?;
    for master in &cluster.masters {
        let ClientCounts { done, failed, verified, allocated, lost, recalled, parked, resumed } = master.clients.counts;
        let counts = [
            ("done", done),
            ("failed", failed),
            ("verified", verified),
            ("allocated", allocated),
            ("lost", lost),
            ("recalled", recalled),
            ("parked", parked),
            ("resumed", resumed),
        ];
        counts.iter().for_each(|(name, count)| outcome.add(name, *count));
        let program = master.clients.program_counts;
        let counts = [
            ("program_verified", program.verified),
            ("program_paused", program.paused),
            ("program_fetched", program.fetched),
            ("program_evicted", program.evicted),
            ("program_relocated", program.relocated),
        ];
        counts.iter().for_each(|(name, count)| outcome.add(name, *count));
        let stats = master.host.role.stats();
        let all: [&dyn frame::counter::CounterSet; 3] = [&*stats.counters, &*stats.loans, &*stats.transport];
        all.iter().for_each(|set| set.visit(&mut |name, _, value| outcome.add(name, value)));
    }
    for view in cluster.farms.iter().filter_map(|farm| farm.host.role.lending()) {
        let visitor = &mut |name: &str, _: &'static str, value| outcome.add(name, value);
        frame::counter::CounterSet::visit(&*view.leases, visitor);
    }
    Ok(outcome)
}

/// A client that does not exist: a command about it wakes the master, as another thread does.
fn none() -> master::ClientId {
    master::ClientId::NOBODY
}

fn run_for(cluster: &mut PagesCluster, time: u64) -> Result<(), String> {
    let end = cluster.now + time;
    while cluster.now < end {
        cluster.step(end)?;
    }
    Ok(())
}

fn trouble(cluster: &mut PagesCluster, outcome: &mut PagesOutcome) -> Result<(), String> {
    let farm = cluster.rng.below(FARMS as u64) as usize;
    let what = match cluster.rng.below(300) {
        0 => {
            cluster.restart(Machine::Farm(farm))?;
            "farm starts again"
        }
        1 => {
            let gateway = cluster.rng.below(GATEWAYS as u64) as usize;
            cluster.restart(Machine::Gateway(gateway))?;
            "gateway starts again"
        }
        2 => {
            let master = cluster.rng.below(MASTERS as u64) as usize;
            cluster.restart(Machine::Master(master))?;
            "master starts again"
        }
        3 | 4 => {
            let gateway = cluster.rng.below(GATEWAYS as u64) as usize;
            let machine = if cluster.rng.one_in(2) { Machine::Farm(farm) } else { Machine::Gateway(gateway) };
            if cluster.cut.is_empty() {
                cluster.cut.push(machine)
            } else {
                cluster.cut.clear()
            }
            "a machine is cut off, or back"
        }
        5..=7 => {
            let (units, within) = (cluster.rng.below(4) as u32, cluster.rng.below(4 * SECOND));
            cluster.limit(farm, units, within);
            "memory is recalled"
        }
        8..=12 => {
            cluster.limit(farm, cluster.units(), 0);
            "memory is lent again"
        }
        13 => {
            // Nobody is gone, but queue pairs fail.
            let cut = (0..GATEWAYS).map(Machine::Gateway).collect();
            let before = std::mem::replace(&mut cluster.cut, cut);
            run_for(cluster, 7 * SECOND)?;
            cluster.cut = before;
            "all gateways are cut off"
        }
        _ => return Ok(()),
    };
    outcome.add(what, 1);
    Ok(())
}

/// All faults end, and everything comes to rest.
fn end(cluster: &mut PagesCluster) -> Result<(), String> {
    cluster.faults = WireFaults::default();
    cluster.cut.clear();
    for farm in 0..FARMS {
        cluster.limit(farm, cluster.units(), 0);
    }
    for master in &mut cluster.masters {
        master.clients.leave();
        master.host.command(cluster.now, MasterCommand::Drain);
    }
    let until = cluster.now + 150 * SECOND;
    while !cluster.masters.iter().all(|master| master.host.role.is_drained() && master.clients.is_empty()) {
        if cluster.now >= until {
            let books: Vec<_> = cluster.masters.iter().map(|master| master.host.role.check()).collect();
            return Err(format!("the masters do not drain: {books:?}"));
        }
        cluster.step(until)?;
    }
    // A lease whose end nobody heard, or whose master has started again, expires.
    let until = cluster.now + 70 * SECOND;
    while cluster.lent() > 0 {
        if cluster.now >= until {
            return Err(format!("{} units never came back", cluster.lent()));
        }
        cluster.step(until)?;
    }
    for (number, master) in cluster.masters.iter().enumerate() {
        let stats = master.host.role.stats();
        if stats.transport.bytes_in_flight.get() != 0 || stats.transport.qps.get() != 0 {
            return Err(format!("master {number} has bytes in flight, or queue pairs, after its end"));
        }
        if !stats.transport.balance() {
            return Err(format!("the packets of master {number} do not balance"));
        }
    }
    Ok(())
}
