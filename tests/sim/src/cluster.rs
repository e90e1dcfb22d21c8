//! The cluster: machines, the wire between them, and the loop that lets events happen.

use crate::core::{Core, Sizes};
use crate::desk::Desk;
use crate::ledger::{Ledger, Sums, Wrong};
use crate::master::{self, Master};
use crate::packet;
use crate::place::{Place, Who};
use crate::plan::{Action, Faults, Plan};
use crate::queue::{Event, Queue};
use crate::rng::Rng;
use crate::trace::{Fate, Happened, Trace};
use frame::time::{FOREVER, MICROSECOND, MILLISECOND, SECOND};
use frame::{Role, Time, Vlan};
use gateway::{Gateway, GatewayConfig};
use lcore::mailbox::mailbox_without_doorbell;
use lcore::watchdog::Watchdog;
use link::registrar::Health;
use link::{ClusterKey, Credential, Node, Registrar, RegistrarConfig};
use port::Port;
use slave::{Farm, FarmConfig, Ids, TrafficConfig};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use wire::Shard;
use wire::link::NodeId;

/// How often the watchdog looks, and the registrar is told that the gateway is well.
const LOOK: u64 = 200 * MILLISECOND;

/// A gateway process that runs.
pub struct GatewayNode {
    /// Its lcores.
    pub cores: Vec<Core<Gateway>>,
    /// Their accounts.
    pub ledgers: Vec<Ledger>,
    /// Its registrar.
    pub desk: Desk,
    desk_wake: Time,
    watchdog: Watchdog,
    looked: Time,
}

/// See the module's documentation.
pub struct Cluster {
    /// What the seed stands for.
    pub plan: Plan,
    /// Virtual time.
    pub now: Time,
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
    /// What those counted by name.
    pub counted: BTreeMap<String, u64>,
    /// Frames that a wire fault, a cut or a missing machine took, by fate.
    pub fates: BTreeMap<&'static str, u64>,
    /// The last link control for gateways, which a stranger has seen.
    pub heartbeats: VecDeque<(Place, Place, Vec<u8>)>,
    /// The last answers that a stranger got.
    pub answers: VecDeque<Vec<u8>>,
    pub(crate) faults: Faults,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    script: usize,
    cut: BTreeMap<Who, Time>,
    quiet: bool,
}

impl Cluster {
    /// A cluster in which no machine runs yet.
    pub fn new(plan: Plan, print: bool) -> Self {
        let rng = Rng::new(plan.seed).fork(1);
        let mut trace = Trace::new(print);
        trace.say(&plan);
        let mut cluster = Self {
            now: 0,
            trace,
            masters: plan.masters.iter().map(|_| None).collect(),
            farms: plan.farms.iter().map(|_| None).collect(),
            gateways: plan.gateways.iter().map(|_| None).collect(),
            closed: Sums::default(),
            counted: BTreeMap::new(),
            fates: BTreeMap::new(),
            heartbeats: VecDeque::new(),
            answers: VecDeque::new(),
            faults: plan.faults,
            queue: Queue::default(),
            rng,
            script: 0,
            cut: BTreeMap::new(),
            quiet: false,
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
    pub fn calm(&mut self) -> Result<(), Wrong> {
        self.trace.note(self.now, &Happened::Phase("calm"));
        self.faults = Faults::default();
        self.script = self.plan.script.len();
        self.cut.clear();
        self.quiet = true;
        for who in self.plan.machines() {
            self.start(who);
        }
        let (hold, early) = (self.plan.hold.min(50 * MICROSECOND), self.plan.hold == FOREVER || self.plan.early);
        for gateway in 0..self.gateways.len() {
            let Some(node) = &mut self.gateways[gateway] else { continue };
            node.desk.tell(|| gateway::Command::SetHold(hold));
            node.desk.tell(|| gateway::Command::SetEarly(early));
            node.cores.iter_mut().for_each(|core| core.stalled = 0);
            self.wake_all(gateway as u16, self.now);
        }
        self.masters.iter_mut().flatten().for_each(|core| core.stalled = 0);
        self.farms.iter_mut().flatten().for_each(|core| core.stalled = 0);
        for master in 0..self.masters.len() {
            self.tell_master(master, master::Command::Quiet);
        }
        for farm in 0..self.farms.len() {
            self.tell_farm(farm, slave::Command::StopTraffic);
        }
        Ok(())
    }

    // ---- machines ----

    /// Starts a machine that does not run.
    pub fn start(&mut self, who: Who) {
        let epoch = self.now + 1;
        let started = match who {
            Who::Master(i) => {
                let i = usize::from(i);
                let started = self.masters[i].is_none();
                if started {
                    self.masters[i] = Some(self.make_master(i, epoch));
                }
                started
            }
            Who::Farm(i) => {
                let i = usize::from(i);
                let started = self.farms[i].is_none();
                if started {
                    self.farms[i] = Some(self.make_farm(i, epoch));
                }
                started
            }
            Who::Gateway(i) => {
                let i = usize::from(i);
                let started = self.gateways[i].is_none();
                if started {
                    self.gateways[i] = Some(self.make_gateway(i, epoch));
                    self.wake_desk(i as u16, self.now);
                }
                started
            }
            Who::Stranger => false,
        };
        if !started {
            return;
        }
        self.trace.note(self.now, &Happened::Turn(who, "starts"));
        if let Who::Gateway(i) = who {
            self.wake_all(i, self.now);
        } else {
            self.wake(who, 0, self.now);
        }
        if !self.quiet {
            match who {
                Who::Master(i) => {
                    let Plan { train: records, payload, train_gap: gap, .. } = self.plan;
                    self.tell_master(usize::from(i), master::Command::Trains { records, payload, gap });
                }
                Who::Farm(i) => self.start_traffic(usize::from(i)),
                Who::Gateway(_) | Who::Stranger => {}
            }
        }
    }

    fn start_traffic(&mut self, farm: usize) {
        // What never fits would never be sent.
        let fits = u64::from(self.plan.farms[farm].mtu.min(wire::UNPROVEN_MTU)) - 28 - wire::HEADER_LEN as u64;
        let low = wire::echo::MIN_LEN as u64;
        let high = self.plan.payload.min(fits).max(low);
        let traffic = TrafficConfig {
            master: Plan::master_id(self.rng.below(self.plan.masters.len() as u64) as u16),
            payload: self.rng.between(low, high) as u16,
            rate: Some(self.plan.upward),
            burst: (self.rng.between(1, 8) as u32).try_into().expect("it is not zero"),
            pack: (self.rng.between(1, 16) as u16).try_into().expect("it is not zero"),
            records: None,
        };
        if self.plan.upward > 0 {
            self.tell_farm(farm, slave::Command::StartTraffic(traffic));
        }
    }

    /// A machine loses everything.
    pub fn crash(&mut self, who: Who) -> Result<(), Wrong> {
        self.trace.note(self.now, &Happened::Turn(who, "crashes"));
        match who {
            Who::Master(i) => self.masters[usize::from(i)] = None,
            Who::Farm(i) => self.farms[usize::from(i)] = None,
            Who::Gateway(i) => self.close(usize::from(i))?,
            Who::Stranger => {}
        }
        Ok(())
    }

    /// Ends a gateway and closes its accounts.
    pub fn close(&mut self, gateway: usize) -> Result<(), Wrong> {
        let Some(node) = self.gateways[gateway].take() else { return Ok(()) };
        crate::check::count(&node, &mut self.counted);
        for (core, ledger) in node.cores.iter().zip(node.ledgers) {
            self.closed.add(&ledger.close(&core.lcore)?);
        }
        Ok(())
    }

    fn credential(&self) -> Credential {
        self.plan.key.map_or(Credential::None, |key| Credential::Cluster(ClusterKey::from_bytes(key)))
    }

    /// The place that nodes of a kind speak to at a gateway.
    pub(crate) fn door(&self, gateway: usize, who: Who) -> Place {
        let two_port = self.plan.gateways[gateway].two_port;
        let port = u8::from(two_port && matches!(who, Who::Farm(_)));
        Place { who: Who::Gateway(gateway as u16), port }
    }

    fn node_sizes(&self, mtu: u16) -> Sizes {
        Sizes {
            frames: 512 * 2048 / self.plan.chunk,
            chunk: self.plan.chunk,
            mtu,
            rx_ring: 256,
            tx_ring: 256,
            mailbox: 16,
        }
    }

    fn make_master(&mut self, i: usize, epoch: u64) -> Core<Master> {
        let plan = &self.plan.masters[i];
        let mtu = plan.mtu;
        let (who, vlan) = (Who::Master(i as u16), plan.vlan.map_or(Vlan::UNTAGGED, Vlan::tagged));
        let config = master::node_config(self.plan.scale, self.plan.interval, epoch, plan.mtu, plan.fixed_port);
        let id = NodeId::master(Plan::master_id(i as u16));
        let key = self.credential().node_key(id);
        let node = |gateway| Node::new(id, key.clone(), self.door(gateway, who).peer(vlan), self.now);
        let nodes = (0..self.gateways.len()).map(node).collect();
        let rng = self.rng.fork(epoch ^ (i as u64) << 48);
        let master = Master::new(Plan::master_id(i as u16), config, nodes, rng);
        Core::new(0, &[Place::first(who)], self.node_sizes(mtu), None, |_| master)
    }

    fn make_farm(&mut self, i: usize, epoch: u64) -> Core<Farm> {
        let plan = &self.plan.farms[i];
        let mtu = plan.mtu;
        let (who, vlan) = (Who::Farm(i as u16), plan.vlan.map_or(Vlan::UNTAGGED, Vlan::tagged));
        let with_slaves = plan.slaves.iter().enumerate().filter(|(_, ids)| !ids.is_empty());
        let slaves = with_slaves.map(|(gateway, ids)| {
            let ids = Ids::list(self.plan.scale, ids).expect("the ids are in range and different");
            (Some(self.door(gateway, who).peer(vlan)), ids)
        });
        let config = FarmConfig {
            slaves: slaves.collect(),
            node: master::node_config(self.plan.scale, self.plan.interval, epoch, plan.mtu, plan.fixed_port),
            credential: self.credential(),
            answer_any: false,
            streams: 4,
        };
        let farm = Farm::new(config, self.now, |_| {}).expect("the farm is right");
        Core::new(0, &[Place::first(who)], self.node_sizes(mtu), None, |_| farm)
    }

    fn make_gateway(&mut self, i: usize, epoch: u64) -> GatewayNode {
        let plan = &self.plan.gateways[i];
        let who = Who::Gateway(i as u16);
        let shards: Vec<Shard> = plan.shards.iter().map(|&shard| Shard(shard)).collect();
        let served = wire::ShardSet::new(self.plan.scale, &shards).expect("the shards exist");
        let (hold, early) = if self.quiet {
            (self.plan.hold.min(50 * MICROSECOND), self.plan.hold == FOREVER || self.plan.early)
        } else {
            (self.plan.hold, self.plan.early)
        };
        let config = GatewayConfig { hold, early, masters: 8, ..GatewayConfig::new(served) };
        let registrar = RegistrarConfig {
            scale: self.plan.scale,
            shards: link::ShardRanges::from_shards(shards).expect("there are few shards"),
            key: self.plan.key.map(ClusterKey::from_bytes),
            secret: self.rng.secret(),
            epoch,
            interval: self.plan.interval,
            hold_ns: u32::try_from(hold).unwrap_or(u32::MAX),
            mtu: plan.mtu,
            two_port: plan.two_port,
            max_masters: 8,
        };
        let (to_registrar, mails) = mailbox_without_doorbell(plan.mailbox);
        let places: Vec<Place> = (0..=u8::from(plan.two_port)).map(|port| Place { who, port }).collect();
        let sizes = Sizes {
            frames: if self.plan.chunk > 2048 { plan.frames.min(128) } else { plan.frames },
            chunk: self.plan.chunk,
            mtu: plan.mtu,
            rx_ring: plan.rx_ring,
            tx_ring: plan.tx_ring,
            mailbox: plan.mailbox,
        };
        let core = |index| {
            let make = |pool: &frame::Pool| Gateway::new(config.clone(), pool);
            Core::new(index, &places, sizes, Some(to_registrar.clone()), make)
        };
        let cores: Vec<Core<Gateway>> = (0..plan.lcores).map(core).collect();
        let ledgers = cores.iter().map(|core| Ledger::new(who, &core.lcore, &self.plan)).collect();
        let registrar = Registrar::new(registrar, self.now).expect("the settings are right");
        let desk = Desk::new(registrar, mails, cores.iter().map(|core| core.commands.clone()).collect());
        let watchdog = Watchdog::new(self.now, SECOND, cores.iter().map(|core| Arc::clone(core.lcore.pulse())));
        GatewayNode { cores, ledgers, desk, desk_wake: FOREVER, watchdog, looked: self.now }
    }

    /// Tells a master something.
    pub fn tell_master(&mut self, i: usize, command: master::Command) {
        if let Some(core) = &self.masters[i] {
            assert!(core.commands.try_send(command).is_ok(), "a master is told little");
            self.wake(Who::Master(i as u16), 0, self.now);
        }
    }

    /// Tells a farm something.
    pub fn tell_farm(&mut self, i: usize, command: slave::Command) {
        if let Some(core) = &self.farms[i] {
            assert!(core.commands.try_send(command).is_ok(), "a farm is told little");
            self.wake(Who::Farm(i as u16), 0, self.now);
        }
    }

    // ---- polls ----

    fn wake(&mut self, who: Who, lcore: u16, at: Time) {
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

    /// A NIC that is not busy begins to take frames.
    fn begin_sending(&mut self, who: Who, lcore: u16) -> Result<(), Wrong> {
        let gap = match who {
            Who::Gateway(i) => self.plan.gateways[usize::from(i)].tx_gap,
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
        let gap = self.plan.gateways[usize::from(i)].tx_gap;
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
        if now >= node.looked + LOOK {
            node.looked = now;
            node.watchdog.look(now);
        }
        let health = Health { polling: node.watchdog.all_move(), rx_lost: rx_lost(node) };
        let next = node.desk.work(now, health).min(now + LOOK).max(now + MICROSECOND);
        node.desk_wake = FOREVER;
        let told: Vec<u16> =
            node.cores.iter().filter(|core| !core.lcore.mailbox().is_empty()).map(|core| core.lcore.index()).collect();
        self.wake_desk(gateway, next);
        told.into_iter().for_each(|lcore| self.wake(Who::Gateway(gateway), lcore, now + MICROSECOND));
    }

    // ---- the wire ----

    /// Puts a frame on the wire.
    pub(crate) fn transmit(&mut self, from: Place, mut frame: Vec<u8>) {
        let Some(mut read) = packet::read(&frame) else { return };
        let Some(to) = Place::of(read.dst_ip) else { return };
        self.trace.note(self.now, &Happened::Sent(from, to, &frame));
        if self.is_cut(from.who) || self.is_cut(to.who) {
            return self.fate(Fate::Unreachable);
        }
        if self.rng.chance(self.faults.drop) {
            return self.fate(Fate::Dropped);
        }
        let is_cargo = packet::is_cargo(packet::payload(&frame, &read));
        if is_cargo && self.plan.node(from.who).is_some_and(|node| !node.fixed_port) {
            frame = packet::from_lane(&frame, &read);
        } else if !is_cargo && matches!(to.who, Who::Gateway(_)) {
            keep(&mut self.heartbeats, (from, to, frame.clone()));
        }
        if self.rng.chance(self.faults.mark) {
            self.fate(Fate::Marked);
            frame = packet::mark_ce(&frame, &read);
        }
        if is_cargo && from.who != Who::Stranger && self.rng.chance(self.faults.damage) {
            self.fate(Fate::Damaged);
            if let Some(now) = packet::read(&frame) {
                frame = packet::damage(&frame, &now, &mut self.rng);
            }
        }
        if self.rng.chance(self.faults.duplicate) {
            self.fate(Fate::Duplicated);
            let later = self.now + self.plan.latency + self.rng.below(200 * MICROSECOND);
            self.queue.push(later, Event::Arrive { at: to, frame: frame.clone(), broken: false });
        }
        let mut broken = false;
        if self.rng.chance(self.faults.corrupt)
            && let Some(now) = packet::read(&frame)
        {
            read = now;
            self.fate(Fate::Corrupted);
            packet::flip_a_bit(&mut frame, &read, &mut self.rng);
            broken = true;
        } else if self.rng.chance(self.faults.truncate) {
            self.fate(Fate::Truncated);
            packet::cut_short(&mut frame, &mut self.rng);
            broken = true;
        }
        let late = if self.rng.chance(self.faults.delay) { self.rng.below(300 * MICROSECOND) } else { 0 };
        self.queue.push(self.now + self.plan.latency + late, Event::Arrive { at: to, frame, broken });
    }

    fn fate(&mut self, fate: Fate) {
        self.trace.note(self.now, &Happened::Fate(fate));
        let name = match fate {
            Fate::Dropped => "dropped",
            Fate::Duplicated => "duplicated",
            Fate::Corrupted => "corrupted",
            Fate::Truncated => "truncated",
            Fate::Damaged => "damaged",
            Fate::Marked => "marked",
            Fate::Unreachable => "unreachable",
        };
        *self.fates.entry(name).or_default() += 1;
    }

    fn is_cut(&self, who: Who) -> bool {
        self.cut.get(&who).is_some_and(|&until| self.now < until)
    }

    fn arrive(&mut self, at: Place, frame: Vec<u8>, broken: bool) {
        let soon = self.now + self.rng.between(200, 2_000);
        let (taken, lcore) = match at.who {
            Who::Master(i) => (inject(self.masters[usize::from(i)].as_mut(), 0, &frame), 0),
            Who::Farm(i) => (inject(self.farms[usize::from(i)].as_mut(), 0, &frame), 0),
            Who::Gateway(i) => match &mut self.gateways[usize::from(i)] {
                Some(node) => {
                    let lcore = packet::rss(&frame, node.cores.len());
                    let taken = inject(node.cores.get_mut(lcore), at.port, &frame);
                    node.ledgers[lcore].arrived(at.port, frame, broken, taken == Some(true));
                    (taken, lcore)
                }
                None => (None, 0),
            },
            Who::Stranger => {
                keep(&mut self.answers, frame);
                (None, 0)
            }
        };
        match taken {
            None => self.fate(Fate::Unreachable),
            Some(taken) => {
                self.trace.note(self.now, &Happened::Arrived(at, lcore, taken));
                self.wake(at.who, lcore as u16, soon);
            }
        }
    }
}

/// Keeps the last few of something.
fn keep<T>(last: &mut VecDeque<T>, thing: T) {
    if last.len() >= 64 {
        last.pop_front();
    }
    last.push_back(thing);
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

fn inject<R: Role>(core: Option<&mut Core<R>>, port: u8, frame: &[u8]) -> Option<bool> {
    let core = core?;
    core.news = true;
    core.lcore.ports_mut().get_mut(usize::from(port)).map(|port| port.inject(frame))
}

fn check_node<R: Role>(core: Option<&Core<R>>, who: Who) -> Result<(), Wrong> {
    match core.map(|core| core.lcore.conservation()) {
        Some(at) if !at.holds() => Err(format!("{who}: frames are lost: {at:?}")),
        _ => Ok(()),
    }
}
