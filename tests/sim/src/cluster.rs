//! The cluster: machines, the wire between them, and the loop that lets events happen.

use crate::core::Core;
use crate::desk::Desk;
use crate::ledger::{Ledger, Sums, Wrong};
use crate::master::{self, Master};
use crate::place::{Place, Who};
use crate::plan::{Action, Faults, Plan};
use crate::queue::{Event, Queue};
use crate::rng::Rng;
use crate::trace::{Happened, Trace};
use frame::time::{FOREVER, MICROSECOND, MILLISECOND};
use frame::{Role, Time};
use gateway::Gateway;
use lcore::watchdog::Watchdog;
use link::registrar::Health;
use port::Port;
use slave::Farm;
use std::collections::{BTreeMap, VecDeque};

/// How often the watchdog checks, and the registrar is told that the gateway is well.
const LOOK: u64 = 200 * MILLISECOND;

/// A gateway process that runs.
pub struct GatewayNode {
    /// Its lcores.
    pub cores: Vec<Core<Gateway>>,
    /// Their accounts.
    pub ledgers: Vec<Ledger>,
    /// Its registrar.
    pub desk: Desk,
    pub(crate) desk_wake: Time,
    pub(crate) watchdog: Watchdog,
    pub(crate) looked: Time,
    /// Until then the registrar works on what it has read.
    pub(crate) busy: Time,
}

/// The machines, the wire and the events of a run.
pub struct Cluster {
    /// The plan of the seed.
    pub plan: Plan,
    /// Virtual time.
    pub now: Time,
    /// When the last fault ended.
    pub calm_since: Time,
    /// What happened.
    pub trace: Trace,
    /// The masters that run.
    pub masters: Vec<Option<Core<Master>>>,
    /// The farms that run.
    pub farms: Vec<Option<Core<Farm>>>,
    /// The gateways that run.
    pub gateways: Vec<Option<GatewayNode>>,
    /// Sums of the gateway lcores that ended.
    pub closed: Sums,
    /// Their counters, by name.
    pub counted: BTreeMap<String, u64>,
    /// Frames that a wire fault, a cut or a missing machine took, by fate.
    pub fates: BTreeMap<&'static str, u64>,
    /// Records of cargo in frames that reached nobody: a full ring, a cut, a machine that does not run.
    pub unreached: u64,
    /// When cargo was last sent to each gateway.
    pub sent_to: BTreeMap<Who, Time>,
    /// The last link control for gateways that a stranger has seen.
    pub heartbeats: VecDeque<(Place, Place, Vec<u8>)>,
    /// The last answers that a stranger got.
    pub answers: VecDeque<Vec<u8>>,
    /// Link control of all ages that a stranger has recorded: heartbeats and answers, with the time of each.
    pub recorded: Vec<(Time, Place, Place, Vec<u8>)>,
    /// The challenge secrets of each machine's last start.
    pub secrets: BTreeMap<Who, [u8; 32]>,
    pub(crate) faults: Faults,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) script: usize,
    pub(crate) cut: BTreeMap<Who, Time>,
    pub(crate) quiet: bool,
    /// Some machine is or was of version 1 of link control.
    pub(crate) accepts_v1: bool,
    /// Time that a registrar needs for each datagram, in nanoseconds.
    pub(crate) registrar_cost: u64,
}

impl Cluster {
    /// A cluster in which no machine runs yet.
    pub fn new(plan: Plan, print: bool) -> Self {
        let rng = Rng::new(plan.seed).fork(1);
        let mut trace = Trace::new(print);
        trace.say(&plan);
        let mut cluster = Self {
            now: 0,
            calm_since: 0,
            trace,
            masters: plan.masters.iter().map(|_| None).collect(),
            farms: plan.farms.iter().map(|_| None).collect(),
            gateways: plan.gateways.iter().map(|_| None).collect(),
            closed: Sums::default(),
            counted: BTreeMap::new(),
            fates: BTreeMap::new(),
            unreached: 0,
            sent_to: BTreeMap::new(),
            heartbeats: VecDeque::new(),
            answers: VecDeque::new(),
            recorded: Vec::new(),
            secrets: BTreeMap::new(),
            faults: plan.faults,
            queue: Queue::default(),
            rng,
            script: 0,
            cut: BTreeMap::new(),
            quiet: false,
            accepts_v1: plan.accepts_v1(),
            registrar_cost: 0,
            plan,
        };
        let starts =
            cluster.plan.machines().into_iter().map(|who| (cluster.plan.node(who).map_or(0, |n| n.start), who));
        let mut script: Vec<_> = starts.map(|(at, who)| (at, Action::Restart(who))).collect();
        script.append(&mut cluster.plan.script);
        script.sort_by_key(|line| line.0);
        cluster.plan.script = script;
        cluster.next_line();
        cluster
    }

    /// Lets everything happen up to a time.
    ///
    /// # Errors
    /// Something that happens until then contradicts the ledger of a gateway lcore.
    pub fn run_until(&mut self, end: Time) -> Result<(), Wrong> {
        while let Some((time, event)) = self.queue.pop(end) {
            self.now = time;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Wrong> {
        match event {
            Event::Arrive { at, frame, broken } => self.arrive(at, frame, broken),
            Event::Poll { who, lcore } => self.poll(who, lcore)?,
            Event::Send { who, lcore } => self.send(who, lcore)?,
            Event::Desk { gateway } => self.work(gateway),
            Event::Script => {
                if let Some(&(_, action)) = self.plan.script.get(self.script) {
                    self.script += 1;
                    self.act(action)?;
                    self.next_line();
                }
            }
        }
        Ok(())
    }

    fn next_line(&mut self) {
        if let Some(&(at, _)) = self.plan.script.get(self.script) {
            self.queue.push(at.max(self.now), Event::Script);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Wrong> {
        match action {
            Action::Crash(who) => self.crash(who)?,
            Action::Restart(who) => self.start(who),
            Action::Cut(who, until) => {
                self.trace.note(self.now, &Happened::Turn(who, "is cut off"));
                self.cut.insert(who, until);
            }
            Action::Stall(who, lcore, until) => {
                self.trace.note(self.now, &Happened::Turn(who, "has an lcore that stands still"));
                match who {
                    Who::Gateway(i) => {
                        if let Some(node) = &mut self.gateways[usize::from(i)] {
                            node.cores[usize::from(lcore)].stalled = until;
                        }
                    }
                    Who::Master(i) => self.masters[usize::from(i)].iter_mut().for_each(|core| core.stalled = until),
                    Who::Farm(i) => self.farms[usize::from(i)].iter_mut().for_each(|core| core.stalled = until),
                    Who::Stranger => {}
                }
            }
            Action::Hostile => self.annoy(),
        }
        Ok(())
    }

    /// Ends all faults: machines that are gone start again, networks come back, and nobody sends trains any more.
    ///
    /// # Errors
    /// Nothing in it fails.
    pub fn calm(&mut self) -> Result<(), Wrong> {
        self.trace.note(self.now, &Happened::Phase("calm"));
        self.faults = Faults::default();
        self.script = self.plan.script.len();
        self.cut.clear();
        self.quiet = true;
        self.calm_since = self.now;
        for who in self.plan.machines() {
            self.start(who);
        }
        let (hold, early) = self.plan.calm_hold();
        for gateway in 0..self.gateways.len() {
            let Some(node) = &mut self.gateways[gateway] else { continue };
            node.desk.tell(|| gateway::GatewayCommand::SetHold(hold));
            node.desk.tell(|| gateway::GatewayCommand::SetEarly(early));
            node.cores.iter_mut().for_each(|core| {
                core.stalled = 0;
                core.lcore.ports_mut().iter_mut().for_each(|port| port.heal());
            });
            self.wake_all(gateway as u16, self.now);
        }
        self.masters.iter_mut().flatten().for_each(|core| core.stalled = 0);
        self.farms.iter_mut().flatten().for_each(|core| core.stalled = 0);
        for master in 0..self.masters.len() {
            self.tell_master(master, master::Command::Quiet);
        }
        for farm in 0..self.farms.len() {
            self.tell_farm(farm, slave::FarmCommand::StopTraffic);
        }
        Ok(())
    }

    pub(crate) fn wake(&mut self, who: Who, lcore: u16, at: Time) {
        let wake = match who {
            Who::Master(i) => self.masters[usize::from(i)].as_mut().map(|core| &mut core.wake),
            Who::Farm(i) => self.farms[usize::from(i)].as_mut().map(|core| &mut core.wake),
            Who::Gateway(i) => {
                self.gateways[usize::from(i)].as_mut().map(|node| &mut node.cores[usize::from(lcore)].wake)
            }
            Who::Stranger => None,
        };
        if let Some(wake) = wake
            && at < *wake
        {
            *wake = at;
            self.queue.push(at, Event::Poll { who, lcore });
        }
    }

    pub(crate) fn wake_all(&mut self, gateway: u16, at: Time) {
        let lcores = self.gateways[usize::from(gateway)].as_ref().map_or(0, |node| node.cores.len());
        (0..lcores).for_each(|lcore| self.wake(Who::Gateway(gateway), lcore as u16, at));
    }

    pub(crate) fn wake_desk(&mut self, gateway: u16, at: Time) {
        if let Some(node) = &mut self.gateways[usize::from(gateway)]
            && at < node.desk_wake
        {
            node.desk_wake = at;
            self.queue.push(at, Event::Desk { gateway });
        }
    }

    fn poll(&mut self, who: Who, lcore: u16) -> Result<(), Wrong> {
        let done = match who {
            Who::Master(i) => poll_if_due(self.masters[usize::from(i)].as_mut(), self.now),
            Who::Farm(i) => poll_if_due(self.farms[usize::from(i)].as_mut(), self.now),
            Who::Gateway(i) => {
                let node = self.gateways[usize::from(i)].as_mut();
                poll_if_due(node.and_then(|node| node.cores.get_mut(usize::from(lcore))), self.now)
            }
            Who::Stranger => None,
        };
        let Some((polled, next)) = done else { return Ok(()) };
        if let Some(polled) = polled {
            if !polled.is_empty() {
                self.trace.note(self.now, &Happened::Polled(who, lcore, polled.into()));
            }
            match who {
                Who::Gateway(i) => {
                    let Some(node) = &mut self.gateways[usize::from(i)] else { return Ok(()) };
                    let core = &mut node.cores[usize::from(lcore)];
                    // A poll that received nothing may still have refused frames, and it flushes what is due.
                    if !polled.is_empty() || core.news {
                        core.news = false;
                        node.ledgers[usize::from(lcore)].polled(&core.lcore, &self.plan)?;
                    }
                    if node.desk.has_mail() {
                        self.wake_desk(i, self.now + 5 * MICROSECOND);
                    }
                }
                Who::Master(i) => check_node(self.masters[usize::from(i)].as_ref(), who)?,
                Who::Farm(i) => check_node(self.farms[usize::from(i)].as_ref(), who)?,
                Who::Stranger => {}
            }
            self.begin_sending(who, lcore)?;
        }
        self.wake(who, lcore, next);
        Ok(())
    }

    /// Time that a gateway's NIC needs for a frame.
    fn tx_gap(&self, gateway: u16) -> u64 {
        let slow = if self.quiet { 0 } else { self.plan.slow_nic };
        self.plan.gateways[usize::from(gateway)].tx_gap.max(slow)
    }

    /// A NIC that is not busy begins to take frames.
    fn begin_sending(&mut self, who: Who, lcore: u16) -> Result<(), Wrong> {
        let gap = match who {
            Who::Gateway(i) => self.tx_gap(i),
            _ => 0,
        };
        if gap == 0 {
            while self.send_one(who, lcore)? {}
            return Ok(());
        }
        if let Who::Gateway(i) = who
            && let Some(node) = &mut self.gateways[usize::from(i)]
            && !std::mem::replace(&mut node.cores[usize::from(lcore)].sending, true)
        {
            self.queue.push(self.now + gap, Event::Send { who, lcore });
        }
        Ok(())
    }

    fn send(&mut self, who: Who, lcore: u16) -> Result<(), Wrong> {
        let Who::Gateway(i) = who else { return Ok(()) };
        let gap = self.tx_gap(i);
        if self.send_one(who, lcore)? {
            self.queue.push(self.now + gap, Event::Send { who, lcore });
        } else if let Some(node) = &mut self.gateways[usize::from(i)] {
            node.cores[usize::from(lcore)].sending = false;
        }
        Ok(())
    }

    /// Takes one frame from an lcore's TX rings and puts it on the wire; `false` when there is none.
    fn send_one(&mut self, who: Who, lcore: u16) -> Result<bool, Wrong> {
        let (taken, backlog) = match who {
            Who::Master(i) => collect(self.masters[usize::from(i)].as_mut()),
            Who::Farm(i) => collect(self.farms[usize::from(i)].as_mut()),
            Who::Gateway(i) => {
                let Some(node) = &mut self.gateways[usize::from(i)] else { return Ok(false) };
                let taken = collect(node.cores.get_mut(usize::from(lcore)));
                if let (Some((port, frame)), _) = &taken {
                    node.ledgers[usize::from(lcore)].left(*port, frame, &self.plan)?;
                }
                taken
            }
            Who::Stranger => (None, false),
        };
        if backlog {
            self.wake(who, lcore, self.now + MICROSECOND);
        }
        let Some((port, frame)) = taken else { return Ok(false) };
        self.transmit(Place { who, port }, frame);
        Ok(true)
    }

    fn work(&mut self, gateway: u16) {
        let rx_lost =
            |node: &GatewayNode| node.cores.iter().flat_map(|core| core.lcore.ports()).map(|port| port.rx_lost()).sum();
        let now = self.now;
        let Some(node) = &mut self.gateways[usize::from(gateway)] else { return };
        if node.desk_wake != now {
            return;
        }
        if now < node.busy {
            let busy = node.busy;
            node.desk_wake = FOREVER;
            return self.wake_desk(gateway, busy);
        }
        let looks = now >= node.looked + LOOK;
        if looks {
            node.looked = now;
            node.watchdog.check(now);
        }
        let outboxes = node.cores.iter().map(|core| core.lcore.outbox().counters());
        let mail_lost = outboxes.map(|counters| counters.link_dropped_mailbox_full.get()).sum();
        let health = Health { polling: node.watchdog.all_move(), rx_lost: rx_lost(node), mail_lost };
        if looks {
            node.desk.note_health(now, health);
        }
        let (next, read) = node.desk.work(now, health);
        node.busy = now + read * self.registrar_cost;
        let next = next.min(now + LOOK).max(now + MICROSECOND);
        node.desk_wake = FOREVER;
        let told: Vec<u16> =
            node.cores.iter().filter(|core| !core.lcore.mailbox().is_empty()).map(|core| core.lcore.index()).collect();
        self.wake_desk(gateway, next);
        told.into_iter().for_each(|lcore| self.wake(Who::Gateway(gateway), lcore, now + MICROSECOND));
    }
}

fn poll_if_due<R: Role>(core: Option<&mut Core<R>>, now: Time) -> Option<(Option<lcore::Polled>, Time)> {
    let core = core.filter(|core| core.wake == now)?;
    core.wake = FOREVER;
    if now < core.stalled {
        return Some((None, core.stalled));
    }
    let (polled, next) = core.poll(now);
    Some((Some(polled), next))
}

fn collect<R: Role>(core: Option<&mut Core<R>>) -> (Option<(u8, Vec<u8>)>, bool) {
    let Some(core) = core else { return (None, false) };
    let taken = core.collect();
    let backlog = taken.as_ref().is_some_and(|(port, _)| core.backlog(usize::from(*port)) > 0);
    (taken, backlog)
}

fn check_node<R: Role>(core: Option<&Core<R>>, who: Who) -> Result<(), Wrong> {
    match core.map(|core| core.lcore.conservation()) {
        Some(at) if !at.holds() => Err(format!("{who}: frames are lost: {at:?}")),
        _ => Ok(()),
    }
}
