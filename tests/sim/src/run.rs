//! One run: trouble, then calm. All nodes are there again and answer, strangers fail, and in the end nobody holds
//! anything any more.

use crate::cluster::Cluster;
use crate::ledger::{Sums, Wrong};
use crate::master;
use crate::place::Who;
use crate::plan::Plan;
use crate::trace::Happened;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use std::collections::BTreeMap;
use std::fmt;

/// Heartbeat intervals after which everybody must be there again, once nothing goes wrong any more.
const WHOLE_WITHIN: u64 = 6;

/// Heartbeat intervals after which a gateway that restarted must know all its nodes again.
const RESTARTED_WITHIN: u64 = 2;

/// How often a slave is asked before it counts as mute: a question may meet a full ring.
const ROUNDS: usize = 5;

/// A run that went wrong. Its text has the command that replays it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Whether it is the large cluster of that seed.
    pub large: bool,
    /// Virtual time, in nanoseconds.
    pub at: Time,
    /// What is wrong.
    pub what: Wrong,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, large, at, what } = self;
        let large = if *large { " --large" } else { "" };
        let seconds = *at as f64 / SECOND as f64;
        write!(
            f,
            "seed {seed} at {seconds:.9} s: {what}\n  replay: cargo run -p gvm-sim -- --seed {seed}{large} --trace"
        )
    }
}

impl std::error::Error for Failure {}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// A hash over all that happened: equal hashes are equal runs.
    pub hash: u64,
    /// The number of events.
    pub events: u64,
    /// Virtual time, in nanoseconds.
    pub time: Time,
    /// The account of all gateway lcores.
    pub sums: Sums,
    /// What the gateways counted, by name.
    pub counted: BTreeMap<String, u64>,
    /// What faults of the wire did to frames.
    pub fates: BTreeMap<&'static str, u64>,
    /// Slaves that were asked in the end, all of which answered.
    pub answered: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums {
            frames,
            ring_full,
            refused,
            left_in_ring,
            records,
            bad,
            links,
            left,
            datagrams,
            dropped,
            crashed,
            ..
        } = self.sums;
        writeln!(f, "seed {}: {} events in {:.3} s", self.seed, self.events, self.time as f64 / SECOND as f64)?;
        writeln!(f, "hash {:016x}", self.hash)?;
        let fates: Vec<String> = self.fates.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(f, "the wire: {}", fates.join(", "))?;
        writeln!(f, "frames at gateways {frames}: {ring_full} found a full ring, {refused} refused as broken, ")?;
        writeln!(f, "    {left_in_ring} in a ring when the gateway ended; {links} records of link control")?;
        writeln!(f, "records of cargo {records}: {left} left in {datagrams} datagrams, {dropped} dropped by name, ")?;
        writeln!(f, "    {crashed} held by a gateway that crashed; {bad} of them no records")?;
        for (name, count) in self.counted.iter().filter(|(_, count)| **count > 0) {
            if name.contains("dropped") || name.contains("refused") || name.starts_with("flush_") {
                writeln!(f, "    {name:<36} {count}")?;
            }
        }
        write!(f, "{} slaves answered in the end", self.answered)
    }
}

/// Runs the cluster of a seed; prints every event when `print` is set.
///
/// # Errors
/// The error says what is wrong, when it happened, and how to run it again: an equation does not hold, or a node does
/// not come back, answer or drain in time.
pub fn run_seed(seed: u64, print: bool) -> Result<Outcome, Failure> {
    run(Plan::of_seed(seed), false, print)
}

/// Runs the large cluster of a seed.
///
/// # Errors
/// The error says what is wrong, when it happened, and how to run it again: an equation does not hold, or a node does
/// not come back, answer or drain in time.
pub fn run_large(seed: u64, print: bool) -> Result<Outcome, Failure> {
    run(Plan::large(seed), true, print)
}

fn run(plan: Plan, large: bool, print: bool) -> Result<Outcome, Failure> {
    let seed = plan.seed;
    let mut cluster = Cluster::new(plan, print);
    let answered = cluster.live().map_err(|what| Failure { seed, large, at: cluster.now, what })?;
    let Cluster { trace, now, closed, counted, fates, .. } = cluster;
    let (hash, events) = (trace.hash(), trace.events());
    let outcome = Outcome { seed, hash, events, time: now, sums: closed, counted, fates, answered };
    match outcome.balance() {
        Ok(()) => Ok(outcome),
        Err(what) => Err(Failure { seed, large, at: now, what }),
    }
}

impl Outcome {
    /// The ledger of the whole run.
    fn balance(&self) -> Result<(), Wrong> {
        let Sums { records, left, dropped, crashed, .. } = self.sums;
        if records != left + dropped + crashed {
            return Err(format!("{records} records came, {left} left, {dropped} were dropped, {crashed} crashed"));
        }
        let by_name = self.counted.iter().filter(|(name, _)| {
            name.starts_with("down.dropped_")
                || name.starts_with("up.dropped_")
                || name.starts_with("down_records_dropped_")
                || name.starts_with("up_records_dropped_")
        });
        let by_name: u64 = by_name.map(|(_, count)| count).sum();
        if by_name != dropped {
            return Err(format!("{dropped} records were dropped, {by_name} by name"));
        }
        Ok(())
    }
}

impl Cluster {
    pub(crate) fn phase(&mut self, name: &'static str) {
        self.trace.note(self.now, &Happened::Phase(name));
    }

    /// A whole run. Returns how many slaves answered in the end.
    fn live(&mut self) -> Result<u64, Wrong> {
        self.phase("trouble");
        self.run_until(self.plan.trouble)?;
        if self.plan.drain_under_load {
            self.drain_under_load()?;
        }
        self.calm()?;
        self.wait_until_whole()?;
        if self.plan.rotates {
            self.rotate_the_key()?;
        }
        if self.plan.twin.is_some() {
            self.fail_over()?;
        }
        if self.rng.one_in(3) {
            self.restart_a_gateway()?;
            self.wait_until_whole()?;
        }
        self.flood()?;
        let answered = self.ask_everybody()?;
        self.phase("strangers");
        if self.plan.hostile {
            self.attack()?;
        }
        self.finish()?;
        Ok(answered)
    }

    pub(crate) fn wait_until_whole(&mut self) -> Result<(), Wrong> {
        let end = self.now + WHOLE_WITHIN * self.plan.interval;
        while let Some(missing) = self.missing() {
            if self.now >= end {
                return Err(format!("after {WHOLE_WITHIN} calm heartbeat intervals {missing}"));
            }
            self.run_until(self.now + self.plan.interval / 8)?;
        }
        Ok(())
    }

    fn restart_a_gateway(&mut self) -> Result<(), Wrong> {
        self.phase("restart");
        let gateway = self.rng.below(self.gateways.len() as u64) as usize;
        let who = Who::Gateway(gateway as u16);
        self.crash(who)?;
        self.run_until(self.now + self.plan.interval / 10)?;
        self.start(who);
        self.run_until(self.now + RESTARTED_WITHIN * self.plan.interval)?;
        match self.missing_at(gateway) {
            Some(missing) => Err(format!("gateway {gateway}, {RESTARTED_WITHIN} intervals after a restart: {missing}")),
            None => Ok(()),
        }
    }

    /// Every live slave is asked, and answers.
    fn ask_everybody(&mut self) -> Result<u64, Wrong> {
        self.phase("questions");
        let ids = (0..).zip(&self.plan.home).filter(|(_, farm)| **farm != u16::MAX).map(|(id, _)| id);
        let all: Vec<u32> = ids.collect();
        let mut asked = all.clone();
        for _ in 0..ROUNDS {
            self.tell_master(0, master::Command::Ask(asked));
            let has_asked =
                |cluster: &Self| cluster.masters[0].as_ref().is_none_or(|core| core.lcore.role().has_asked());
            self.run_until(self.now + MILLISECOND)?;
            while !has_asked(self) {
                self.run_until(self.now + MILLISECOND)?;
            }
            self.run_until(self.now + 20 * MILLISECOND)?;
            asked = self.masters[0].iter().flat_map(|core| core.lcore.role().unanswered().iter().copied()).collect();
            if asked.is_empty() {
                return Ok(all.len() as u64);
            }
        }
        Err(format!("{} of {} slaves do not answer: {asked:?}", asked.len(), all.len()))
    }

    /// A gateway is told to drain while cargo comes: it ends, holding nothing.
    fn drain_under_load(&mut self) -> Result<(), Wrong> {
        self.phase("drain under load");
        let Some(node) = &mut self.gateways[0] else { return Ok(()) };
        node.desk.drain(self.now);
        self.wake_desk(0, self.now);
        self.wake_all(0, self.now);
        self.run_until(self.now + 20 * MILLISECOND)?;
        self.end_gateway(0)
    }

    /// Waits for a gateway that drains, and ends it.
    pub(crate) fn end_gateway(&mut self, gateway: usize) -> Result<(), Wrong> {
        let end = self.now + 5 * SECOND;
        loop {
            let Some(node) = &mut self.gateways[gateway] else { return Ok(()) };
            let told = !node.desk.is_waiting() && node.cores.iter().all(|core| core.lcore.mailbox().is_empty());
            if told {
                node.cores.iter_mut().for_each(|core| core.lcore.stop_receiving());
            }
            if told && node.cores.iter().all(|core| core.lcore.is_idle_and_drained()) {
                break;
            }
            if self.now >= end {
                return Err(format!("gateway {gateway} does not end to drain"));
            }
            self.wake_desk(gateway as u16, self.now);
            self.wake_all(gateway as u16, self.now);
            self.run_until(self.now + 10 * 1_000)?;
        }
        let crashed = self.closed.crashed;
        self.close(gateway)?;
        if self.closed.crashed != crashed {
            return Err(format!("gateway {gateway} drained and still held records"));
        }
        Ok(())
    }

    /// All machines drain, in the order that people would choose: the ends first.
    pub(crate) fn finish(&mut self) -> Result<(), Wrong> {
        self.phase("drain");
        for i in 0..self.farms.len() {
            self.tell_farm(i, slave::FarmCommand::Drain);
        }
        for i in 0..self.masters.len() {
            self.tell_master(i, master::Command::Drain);
        }
        self.run_until(self.now + 20 * MILLISECOND)?;
        for gateway in 0..self.gateways.len() {
            if let Some(node) = &mut self.gateways[gateway] {
                node.desk.drain(self.now);
            }
            self.wake_desk(gateway as u16, self.now);
        }
        self.run_until(self.now + 50 * MILLISECOND)?;
        for _ in 0..20 {
            (0..self.gateways.len()).for_each(|gateway| self.wake_all(gateway as u16, self.now));
            self.run_until(self.now + 10 * 1_000)?;
        }
        if self.queue.in_flight() > 0 {
            return Err(format!("{} frames are still on the wire", self.queue.in_flight()));
        }
        self.check_ends()?;
        self.check_empty()?;
        self.count_ends();
        (0..self.gateways.len()).try_for_each(|gateway| self.close(gateway))
    }
}
