//! A cluster that loses packets all the time: slaves that die are declared gone nevertheless, slaves that start again
//! elsewhere get their ids back, and no living node is declared gone.
//!
//! A stranger causes the losses: it sends packets for which no frame of a gateway has room. In addition, the wire loses
//! heartbeats.

use crate::cluster::Cluster;
use crate::ledger::Wrong;
use crate::packet;
use crate::place::{Place, Who};
use crate::plan::{Faults, Plan};
use crate::run::Failure;
use frame::Time;
use wire::link::MemberState;

/// Intervals in which a slave that starts again elsewhere gets its id back. With a key these are three of silence;
/// without a key, in addition, the ten for which losses excuse silence. Its own heartbeats get lost, too.
const BACK_WITHIN: [u64; 2] = [8, 20];

/// Intervals in which a dead slave is declared gone: three of silence, ten for which losses excuse it, and ten as a
/// suspect.
const GONE_WITHIN: u64 = 25;

/// Of a million frames, those that the wire loses.
const DROP: u32 = 100_000;

/// The result of such a run.
#[derive(Clone, Copy, Debug)]
pub struct Lossy {
    /// Whether the cluster has a key.
    pub signed: bool,
    /// Slaves that died.
    pub died: u64,
    /// How long it took until they were back elsewhere, in intervals.
    pub back: f64,
    /// How long it took until they were gone, in intervals.
    pub gone: f64,
}

/// Runs the cluster of a seed with losses.
///
/// # Errors
/// A dead node is still there, a living one is declared gone, or one that asks to register is not there.
pub fn run(seed: u64) -> Result<Lossy, Failure> {
    let mut cluster = Cluster::new(plan(seed), false);
    cluster.lose().map_err(|what| Failure { seed, large: false, at: cluster.now, what })
}

/// The cluster of a seed, without other faults; if it has only one farm, that of the next seed.
fn plan(seed: u64) -> Plan {
    let mut plans = (seed..).map(Plan::of_seed);
    let mut plan = plans.find(|plan| plan.farms.len() > 1).expect("most seeds have more farms than one");
    if plan.twin.take().is_some() {
        plan.gateways.pop();
        plan.farms.iter_mut().for_each(|farm| farm.slaves.truncate(plan.gateways.len()));
    }
    (plan.faults, plan.script, plan.flood) = (Faults::default(), Vec::new(), None);
    (plan.slow, plan.slow_nic) = (Vec::new(), 0);
    // Version 1 orders boots by clocks: a node that restarts with a clock that is behind must wait until it is
    // forgotten.
    plan.masters.iter_mut().chain(&mut plan.farms).for_each(|node| node.old = false);
    plan
}

impl Cluster {
    fn lose(&mut self) -> Result<Lossy, Wrong> {
        self.calm()?;
        self.wait_until_whole()?;
        self.phase("losses");
        self.faults = Faults { drop: DROP, ..Faults::default() };
        self.lossy_until(self.now + self.plan.interval)?;

        self.change_places()?;
        let began = self.now;
        let end = began + BACK_WITHIN[usize::from(self.plan.key.is_none())] * self.plan.interval;
        // Some nodes always miss three answers in a row; only what the gateways know counts.
        while let Some(missing) = (0..self.gateways.len()).find_map(|gateway| self.missing_at(gateway)) {
            self.lossy_turn(end, "slaves that started again elsewhere", || missing)?;
        }
        let back = self.now - began;

        // All nodes are there, so every node that is gone from now on is one of those that die.
        self.calm_since = self.now;
        let before = self.gone();
        self.crash(Who::Farm(0))?;
        let began = self.now;
        let dead: Vec<u32> = self.plan.farms[0].slaves.concat();
        let end = began + GONE_WITHIN * self.plan.interval;
        while let Some(&slave) = dead.iter().find(|&&slave| self.state(slave) != MemberState::Gone) {
            let state = self.state(slave);
            self.lossy_turn(end, "a farm that died", || format!("slave {slave} is {state:?}"))?;
        }
        let gone = self.now - began;
        if self.gone() != before + dead.len() as u64 {
            return Err(format!("{} died, {} are gone", dead.len(), self.gone() - before));
        }

        self.faults = Faults::default();
        self.start(Who::Farm(0));
        self.calm_since = self.now;
        self.wait_until_whole()?;
        self.finish()?;
        let intervals = |time: Time| time as f64 / self.plan.interval as f64;
        let signed = self.plan.key.is_some();
        Ok(Lossy { signed, died: dead.len() as u64, back: intervals(back), gone: intervals(gone) })
    }

    /// Time passes, and at every gateway a packet is lost in each look of its registrar.
    fn lossy_until(&mut self, end: Time) -> Result<(), Wrong> {
        while self.now < end {
            for gateway in 0..self.gateways.len() as u16 {
                let (from, to) = (Place::first(Who::Stranger), Place::first(Who::Gateway(gateway)));
                let payload = vec![0; self.plan.chunk as usize];
                self.transmit(from, packet::build(from, to, None, wire::GATEWAY_PORT, &payload));
            }
            self.run_until((self.now + self.plan.interval / 10).min(end))?;
        }
        Ok(())
    }

    fn lossy_turn(&mut self, end: Time, what: &str, missing: impl FnOnce() -> String) -> Result<(), Wrong> {
        if self.now >= end {
            return Err(format!("{what}, while packets are lost: {}", missing()));
        }
        self.lossy_until(self.now + self.plan.interval / 2)
    }

    /// The first two farms die, and start again with each other's slaves: each slave at another address.
    fn change_places(&mut self) -> Result<(), Wrong> {
        for farm in 0..2 {
            self.crash(Who::Farm(farm))?;
        }
        let [first, second, ..] = &mut self.plan.farms[..] else { return Err("there are too few farms".to_owned()) };
        std::mem::swap(&mut first.slaves, &mut second.slaves);
        self.plan.home.iter_mut().filter(|home| **home < 2).for_each(|home| *home = 1 - *home);
        (0..2).for_each(|farm| self.start(Who::Farm(farm)));
        Ok(())
    }

    pub(crate) fn state(&self, slave: u32) -> MemberState {
        let id = self.plan.scale.slave_id(slave);
        let node = self.plan.gateway_of(slave).and_then(|gateway| self.gateways[usize::from(gateway)].as_ref());
        node.zip(id).map_or(MemberState::Gone, |(node, id)| node.desk.registrar().state(id))
    }

    /// Nodes that gateways declared gone.
    pub(crate) fn gone(&self) -> u64 {
        self.gateways.iter().flatten().map(|node| node.desk.registrar().counters().nodes_gone.get()).sum()
    }
}
