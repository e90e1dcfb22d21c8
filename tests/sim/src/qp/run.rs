//! One run: two ends poll and packets travel until all requests have ended.

use super::link::Link;
use super::plan::{Mood, Plan};
use super::wire::{Wire, seed as icrc_seed};
use super::{Failure, Outcome};
use crate::rng::Rng;
use frame::Time;
use frame::counter::CounterSet;
use frame::time::{MILLISECOND, SECOND};
use std::collections::{BTreeMap, HashMap};
use transport::{Arrival, Completion, CompletionKind, Endpoint, PathId, PeerKind, Status};

type End = Endpoint<Vec<u8>>;

/// Virtual time after which a run counts as endless.
const LONGEST: Time = 1200 * SECOND;
/// Steps after which a run counts as endless.
const MOST_STEPS: u64 = 3_000_000;
/// No window is smaller: two packets of the largest path MTU.
const LEAST_WINDOW: u64 = 2 * (4096 + 100);
/// How long the other end may take to see by itself that a connection failed.
const PATIENCE: Time = 30 * MILLISECOND;

struct Run {
    plan: Plan,
    rng: Rng,
    now: Time,
    ends: [End; 2],
    /// The wires, by sender.
    wires: [Wire; 2],
    links: Vec<Link>,
    /// When each end was polled last.
    polled: [Time; 2],
    /// Whether each end has work for which nothing else would wake it.
    restless: [bool; 2],
    dead: Option<usize>,
    told: bool,
    statuses: HashMap<(CompletionKind, Status), u64>,
    /// Packets that were handed to each end.
    handed: [u64; 2],
    stray: u64,
    trace: bool,
}

/// Runs one seed.
///
/// # Errors
/// What is wrong, with the way to run it again.
pub fn run_seed(seed: u64, trace: bool) -> Result<Outcome, Failure> {
    run_plan(seed, Plan::new(seed), trace)
}

/// Runs a plan with the random numbers of a seed.
///
/// # Errors
/// What is wrong.
pub fn run_plan(seed: u64, plan: Plan, trace: bool) -> Result<Outcome, Failure> {
    let mut run = Run::new(seed, plan, trace).map_err(|what| Failure { seed, at: 0, what })?;
    match run.go() {
        Ok(()) => Ok(Outcome { seed, at: run.now, counted: run.counted() }),
        Err(what) => Err(Failure { seed, at: run.now, what: format!("{what}\n  {}", run.brief()) }),
    }
}

impl Run {
    fn new(seed: u64, plan: Plan, trace: bool) -> Result<Self, String> {
        let mut rng = Rng::new(seed).fork(2);
        let mut ends = [0, 1].map(|_| End::new(plan.config, 0).expect("memory"));
        for end in &mut ends {
            for path in 0..plan.paths {
                end.set_path(PathId(path), plan.kind).map_err(|error| error.to_string())?;
            }
        }
        let links = (0..plan.connections as u32)
            .map(|number| Link::new(&plan, &mut rng, &mut ends, number))
            .collect::<Result<Vec<_>, _>>()?;
        let wires = [0, 1].map(|side| Wire::new(plan.faults[side].clone(), rng.fork(3 + side as u64)));
        Ok(Self {
            plan,
            rng,
            now: 0,
            ends,
            wires,
            links,
            polled: [0; 2],
            restless: [true; 2],
            dead: None,
            told: false,
            statuses: HashMap::new(),
            handed: [0; 2],
            stray: 0,
            trace,
        })
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.3} us  {}", self.now as f64 / 1e3, what());
        }
    }

    fn brief(&self) -> String {
        let Plan { mood, kind, mtu, connections, depth, read_depth, longest, starved, death, bad, .. } = &self.plan;
        format!(
            "{mood:?} {kind:?} mtu {} connections {connections} depth {depth} read_depth {read_depth} longest \
             {longest} \
             starved {starved:?} death {death:?} bad {bad} window {}/{}",
            mtu.bytes(),
            self.plan.config.path_window,
            self.plan.config.total_window
        )
    }

    fn go(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            if self.is_over() {
                return self.at_the_end();
            }
            let Some(next) = self.next_event() else { return Err("nothing will ever happen again".to_owned()) };
            self.now = next.max(self.now);
            if self.now > LONGEST {
                return Err(format!("no end: {}", self.unfinished()));
            }
            self.die()?;
            for side in 0..2 {
                if self.due(side).is_some_and(|due| due <= self.now) {
                    self.poll(side)?;
                }
            }
            self.renew()?;
            self.check_step()?;
        }
        Err(format!("no end: {}", self.unfinished()))
    }

    fn unfinished(&self) -> String {
        let part = |link: &Link| {
            let asked = [0, 1].map(|side| (link.flows[side].asked.len(), link.flows[side].left));
            format!("asked and left {asked:?}, failed {:?}", link.failed)
        };
        self.links.iter().filter(|link| !link.over).map(part).collect::<Vec<_>>().join("; ")
    }

    fn is_over(&self) -> bool {
        match self.dead {
            Some(dead) => self.links.iter().all(|link| link.over || link.flows[1 - dead].asked.is_empty()),
            None => self.links.iter().all(|link| link.over),
        }
    }

    /// When an end has something to do.
    fn due(&self, side: usize) -> Option<Time> {
        if self.dead == Some(side) {
            return None;
        }
        let output = self.ends[side].has_output() || self.restless[side];
        let first = [self.wires[1 - side].next(), self.ends[side].deadline(), output.then_some(self.now)];
        let mut due = first.into_iter().flatten().min();
        for link in self.links.iter().filter(|link| !link.over) {
            let receive = (link.receive_at[side] > self.polled[side]).then_some(link.receive_at[side]);
            let patience = link.failed[1 - side].filter(|_| link.failed[side].is_none()).map(|at| at + PATIENCE);
            let patience = patience.filter(|&at| at > self.polled[side]);
            due = [due, receive, patience].into_iter().flatten().min();
        }
        // The end was polled a moment ago, so it is busy until the next poll is allowed.
        Some(due?.max(self.polled[side] + self.plan.poll))
    }

    fn next_event(&self) -> Option<Time> {
        let death = self.plan.death.filter(|_| self.dead.is_none()).map(|death| death.at);
        let told = self.plan.death.filter(|_| self.dead.is_some() && !self.told).and_then(|death| death.told);
        [death, told, self.due(0), self.due(1)].into_iter().flatten().min()
    }

    fn die(&mut self) -> Result<(), String> {
        let Some(death) = self.plan.death else { return Ok(()) };
        if self.dead.is_none() && self.now >= death.at {
            self.dead = Some(death.side);
            self.wires[1 - death.side].dead = true;
            self.say(|| format!("end {} is dead", death.side));
        }
        if self.dead.is_some() && !self.told && death.told.is_some_and(|told| told <= self.now) {
            self.told = true;
            for path in 0..self.plan.paths {
                self.ends[1 - death.side].peer_gone(self.now, PathId(path));
            }
            self.complete(1 - death.side)?;
        }
        Ok(())
    }

    fn poll(&mut self, side: usize) -> Result<(), String> {
        let now = self.now;
        for _ in 0..self.rng.between(1, self.plan.burst) {
            let Some(packet) = self.wires[1 - side].take(now) else { break };
            self.say(|| format!("-> {side}: {}", describe(&packet.bytes)));
            // A packet from a stranger's address: whatever its contents, it is not for this path.
            let stray = self.rng.chance(500);
            let path = PathId(if stray { packet.path + self.plan.paths } else { packet.path });
            self.stray += u64::from(stray);
            let seed = icrc_seed(PathId(packet.path), packet.bytes.len());
            self.ends[side].receive(now, &Arrival { path, ce: packet.ce, seed, bytes: &packet.bytes });
            self.handed[side] += 1;
        }
        if self.ends[side].deadline().is_some_and(|deadline| deadline <= now) {
            self.ends[side].advance(now);
        }
        self.complete(side)?;
        self.ask(side)?;
        let room = self.rng.between(1, self.plan.room);
        self.wires[side].allow(now, room);
        self.ends[side].transmit(now, &mut self.wires[side]);
        self.complete(side)?;
        self.polled[side] = now;
        self.restless[side] = false;
        Ok(())
    }

    fn ask(&mut self, side: usize) -> Result<(), String> {
        let now = self.now;
        for link in self.links.iter_mut().filter(|link| !link.over) {
            if link.failed.iter().any(Option::is_some) {
                // The other end is told, or its own requests fail. An end without requests does not notice the failure.
                let other = link.failed[1 - side].filter(|_| link.failed[side].is_none());
                let idle = link.flows[side].asked.is_empty();
                if other.is_some_and(|at| (self.plan.told || idle) && now >= at + PATIENCE) {
                    self.ends[side].fail(now, link.qpns[side]).map_err(|error| error.to_string())?;
                    link.failed[side] = Some(now);
                }
                continue;
            }
            while link.flows[side].ask(&mut self.rng, &self.plan, &mut self.ends[side], link.qpns[side])? {}
            if self.plan.starved == Some(1 - side) {
                continue;
            }
            while now >= link.receive_at[side] {
                if !link.flows[1 - side].post_receive(&self.plan, &mut self.ends[side], link.qpns[side])? {
                    break;
                }
                if self.plan.receive_delay > 0 {
                    link.receive_at[side] = now + self.rng.below(self.plan.receive_delay);
                }
            }
        }
        Ok(())
    }

    fn complete(&mut self, side: usize) -> Result<(), String> {
        while let Some(done) = self.ends[side].poll() {
            self.say(|| format!("   {side}: {done:?}"));
            *self.statuses.entry((done.kind, done.status)).or_default() += 1;
            let Some(at) = self.links.iter().position(|link| !link.over && link.qpns[side] == done.qpn) else {
                return Err(format!("{done:?} of no connection"));
            };
            let (link, end) = (&mut self.links[at], &self.ends[side]);
            let receive = matches!(done.kind, CompletionKind::Receive | CompletionKind::ReceiveWriteImm);
            let bad = if receive {
                link.flows[1 - side].receive_ended(&done, end)?;
                None
            } else {
                link.flows[side].ended(&done, end)?.bad
            };
            if done.status == Status::Success {
                if link.failed[side].is_some() {
                    return Err(format!("{done:?} after the connection failed"));
                }
                continue;
            }
            if link.failed[side].is_some() {
                if done.status != Status::WrFlushErr {
                    return Err(format!("{done:?} after the connection failed"));
                }
                continue;
            }
            link.failed[side] = Some(self.now);
            self.justify(at, side, &done, bad)?;
        }
        Ok(())
    }

    /// The first error of a connection at one end must have a cause in the plan.
    fn justify(&self, at: usize, side: usize, done: &Completion, bad: Option<Status>) -> Result<(), String> {
        let link = &self.links[at];
        let other_failed = link.failed[1 - side].is_some() || link.is_spoilt();
        let gone = self.dead.is_some();
        let fits = match done.status {
            Status::RemAccessErr | Status::RemInvReqErr => bad == Some(done.status),
            Status::RetryExcErr => other_failed || gone || self.plan.may_exhaust(),
            // The standard's count is too low for the other connections of a starved run, too.
            Status::RnrRetryExcErr => match self.plan.kind {
                PeerKind::Own => self.plan.starved == Some(side) || gone,
                PeerKind::Roce => self.plan.starved.is_some(),
            },
            Status::WrFlushErr => other_failed || gone || self.plan.may_exhaust() || self.plan.starved.is_some(),
            Status::LocLenErr => link.flows[1 - side].spoilt,
            Status::Success | Status::LocProtErr | Status::RemOpErr => false,
        };
        if fits { Ok(()) } else { Err(format!("connection {at} end {side}: {done:?} has no cause, bad is {bad:?}")) }
    }

    /// Connections that have nothing outstanding are checked, ended, and made anew.
    fn renew(&mut self) -> Result<(), String> {
        if self.dead.is_some() {
            return Ok(());
        }
        for at in 0..self.links.len() {
            let link = &self.links[at];
            let one_sided = link.failed.iter().flatten().count() == 1;
            if link.over || !link.is_quiet() || one_sided {
                continue;
            }
            self.links[at].check(&self.plan, &self.ends, at)?;
            for side in 0..2 {
                self.ends[side].fail(self.now, self.links[at].qpns[side]).map_err(|error| error.to_string())?;
                // Receives that nobody used come back.
                self.links[at].failed[side].get_or_insert(self.now);
                self.complete(side)?;
                let left = self.links[at].flows[1 - side].receives.len();
                if left > 0 || self.ends[side].outstanding(self.links[at].qpns[side]) != Some(0) {
                    return Err(format!("connection {at}: {left} receives of end {side} never end"));
                }
            }
            self.links[at].check(&self.plan, &self.ends, at)?;
            let (plan, rng, ends) = (&self.plan, &mut self.rng, &mut self.ends);
            self.links[at].renew(self.now, plan, rng, ends)?;
            self.say(|| format!("connection {at} ends; over: {}", self.links[at].over));
            self.restless = [true; 2];
        }
        Ok(())
    }

    /// What holds after every step.
    fn check_step(&self) -> Result<(), String> {
        for side in 0..2 {
            let (end, config) = (&self.ends[side], &self.plan.config);
            let counters = end.counters();
            if !counters.balance() || counters.packets_in.get() != self.handed[side] {
                return Err(format!("end {side}: packets are not accounted for"));
            }
            if counters.packets_out.get() != self.wires[side].counters.sent {
                return Err(format!("end {side}: packets were sent that are not counted"));
            }
            // One request alone may be larger than the window; each packet has headers in addition.
            let (chunk, mtu) = (u64::from(config.path_window / 8), u64::from(self.plan.mtu.bytes()));
            let (window, largest) =
                (config.total_window.max(LEAST_WINDOW), chunk.max(mtu) + (chunk / mtu).max(1) * 100);
            // Beside urgent connections others have a share above the window, and one large request of each kind may go
            // alone.
            let shares = if self.plan.connections > 1 { window / 8 + 2 * largest } else { 0 };
            let most = window.max(largest) + shares;
            if counters.bytes_in_flight.get() > most {
                return Err(format!("end {side}: {} bytes in flight", counters.bytes_in_flight.get()));
            }
            let asked: usize =
                self.links.iter().filter(|link| !link.over).map(|link| link.flows[side].asked.len()).sum();
            if end.free_work() as usize + asked != config.work as usize {
                return Err(format!("end {side}: {asked} requests, {} of {} free", end.free_work(), config.work));
            }
        }
        Ok(())
    }

    fn at_the_end(&mut self) -> Result<(), String> {
        if let Some(dead) = self.dead {
            for (at, link) in self.links.iter_mut().enumerate().filter(|(_, link)| !link.over) {
                // Nobody polls the dead end: only its memory is checked.
                link.failed = [Some(self.now); 2];
                for (from, flow) in link.flows.iter().enumerate() {
                    let area = &self.ends[1 - from].region(flow.keys.area).ok_or("a region is gone")?.memory;
                    let right = flow.area.check(area, self.plan.mtu.bytes() as usize);
                    right.map_err(|byte| {
                        format!("connection {at}, end {dead} dead: wrong byte at {byte} of end {}", 1 - from)
                    })?;
                }
            }
            let (give_up, links) = (self.plan.config.give_up, self.plan.connections as u64);
            // Those that find no room in the windows wait for those before them.
            let latest = self.plan.death.map_or(0, |death| death.at) + (1 + links) * give_up * 5 / 4 + SECOND;
            if self.plan.kind == PeerKind::Own && self.now > latest {
                return Err("a peer that is gone was waited for too long".to_owned());
            }
            return Ok(());
        }
        for (side, end) in self.ends.iter().enumerate() {
            let counters = end.counters();
            if counters.bytes_in_flight.get() != 0 || counters.qps.get() != 0 || end.completions() != 0 {
                return Err(format!("end {side} is not empty at the end"));
            }
            let polled: u64 = self.statuses.values().sum();
            let ended = |end: &End| end.counters().completed.get() + end.counters().completed_in_error.get();
            if self.ends.iter().map(ended).sum::<u64>() != polled {
                return Err("completions were lost".to_owned());
            }
        }
        if self.plan.mood != Mood::Rough && self.plan.bad == 0 && self.plan.starved.is_none() {
            let failed: u64 = self.ends.iter().map(|end| end.counters().qps_failed.get()).sum();
            // Every queue pair fails once at the end, when it is closed.
            if failed != 2 * self.plan.connections as u64 {
                return Err(format!("{failed} queue pairs failed"));
            }
        }
        Ok(())
    }

    fn counted(&self) -> BTreeMap<String, u64> {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for (end, wire) in self.ends.iter().zip(&self.wires) {
            end.counters().visit(&mut |name, _, value| *counted.entry(name.to_owned()).or_default() += value);
            let w = &wire.counters;
            let wire = [
                ("wire.sent", w.sent),
                ("wire.duplicated", w.duplicated),
                ("wire.lost", w.lost),
                ("wire.cut", w.cut),
                ("wire.late", w.late),
                ("wire.corrupted", w.corrupted),
                ("wire.truncated", w.truncated),
                ("wire.marked", w.marked),
            ];
            wire.iter().for_each(|&(name, count)| *counted.entry(name.to_owned()).or_default() += count);
        }
        for ((kind, status), count) in &self.statuses {
            *counted.entry(format!("{kind:?} {status}")).or_default() += count;
        }
        *counted.entry("wire.stray".to_owned()).or_default() += self.stray;
        *counted.entry(format!("run.{:?}", self.plan.mood)).or_default() += 1;
        *counted.entry(format!("run.{:?}", self.plan.kind)).or_default() += 1;
        counted.entry("run.death".to_owned()).or_insert(u64::from(self.dead.is_some()));
        counted.entry("run.told".to_owned()).or_insert(u64::from(self.told));
        counted
    }
}

fn describe(bytes: &[u8]) -> String {
    match wire::rc::Packet::parse(bytes) {
        Ok(packet) => {
            let bth = packet.bth();
            let mut text =
                format!("{:#04x} qp {:x} psn {}", packet.opcode().number(), bth.destination(), bth.psn().get());
            if let Some(aeth) = packet.aeth() {
                text += &format!(" {:?} msn {}", aeth.syndrome(), aeth.msn());
            }
            if let Some(reth) = packet.reth() {
                text += &format!(" {:#x}+{}", reth.address(), reth.len());
            }
            text + &format!(" payload {}", packet.payload().len())
        }
        Err(error) => format!("{} bytes: {error}", bytes.len()),
    }
}
