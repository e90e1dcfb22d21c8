//! The plan of a seed: a cluster, its faults, and their times.

use crate::place::{Place, Who};
use crate::rng::Rng;
use crate::slow::SlowLink;
use frame::Time;
use frame::time::{FOREVER, MICROSECOND, MILLISECOND, SECOND};
use std::fmt;
use wire::Scale;

/// A flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// A registered master sends valid heartbeats all the time, and reports that it knows no member.
    Master,
    /// A registered slave sends valid heartbeats all the time.
    Slave,
    /// Strangers without proven addresses send heartbeats.
    Strangers,
    /// Packets are lost in bursts, and a farm dies.
    Losses,
    /// More masters come and go than there are places for, and their messages are replayed.
    Masters,
}

/// How often things go wrong on the wire, in a million frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Frames that vanish.
    pub drop: u32,
    /// Frames that arrive twice.
    pub duplicate: u32,
    /// Frames that arrive later than those behind them.
    pub delay: u32,
    /// Frames with a wrong bit.
    pub corrupt: u32,
    /// Frames that end early.
    pub truncate: u32,
    /// Datagrams of cargo whose sender made a mistake in the records.
    pub damage: u32,
    /// Frames with a congestion mark.
    pub mark: u32,
}

/// One gateway process.
#[derive(Clone, Debug)]
pub struct GatewayPlan {
    /// Its lcores.
    pub lcores: u16,
    /// Whether slaves have a port of their own.
    pub two_port: bool,
    /// The shards that it serves.
    pub shards: Vec<u32>,
    /// The slaves behind it.
    pub slaves: Vec<u32>,
    /// Frames of each lcore.
    pub frames: u32,
    /// Frames in each RX ring.
    pub rx_ring: usize,
    /// Frames in each TX ring.
    pub tx_ring: usize,
    /// Time that its NIC needs for a frame, in nanoseconds; 0 takes all at once.
    pub tx_gap: u64,
    /// Largest IP packet; of two ports, on the masters'.
    pub mtu: u16,
    /// Largest IP packet on the slaves' port, if that is another one.
    pub slave_mtu: u16,
    /// Places in each mailbox.
    pub mailbox: usize,
}

/// One master or farm.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Largest IP packet that it says it can take.
    pub mtu: u16,
    /// Whether its UDP port is part of its address.
    pub fixed_port: bool,
    /// Its VLAN, if its frames are tagged.
    pub vlan: Option<u16>,
    /// For farms: the slaves, by gateway.
    pub slaves: Vec<Vec<u32>>,
    /// When it starts.
    pub start: Time,
    /// Whether it speaks version 1 of link control.
    pub old: bool,
}

/// A planned event.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// It loses everything.
    Crash(Who),
    /// It starts again.
    Restart(Who),
    /// Its network is gone until then.
    Cut(Who, Time),
    /// One of its lcores stands still until then.
    Stall(Who, u16, Time),
    /// A stranger sends things.
    Hostile,
}

/// The whole plan of a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The scale.
    pub scale: Scale,
    /// Heartbeat interval, in nanoseconds.
    pub interval: u64,
    /// The cluster key, if there is one.
    pub key: Option<[u8; 32]>,
    /// The hold, in nanoseconds.
    pub hold: u64,
    /// Whether buffers leave early.
    pub early: bool,
    /// Bytes of each frame of every arena.
    pub chunk: u32,
    /// The masters.
    pub masters: Vec<NodePlan>,
    /// The gateways.
    pub gateways: Vec<GatewayPlan>,
    /// The farms.
    pub farms: Vec<NodePlan>,
    /// The farm that has each slave: its number, or `u16::MAX`.
    pub home: Vec<u16>,
    /// What goes wrong on the wire.
    pub faults: Faults,
    /// Shortest way through the wire, in nanoseconds.
    pub latency: u64,
    /// What goes wrong elsewhere, by time.
    pub script: Vec<(Time, Action)>,
    /// How long things go wrong, in nanoseconds.
    pub trouble: Time,
    /// Time between two trains of records of a master, in nanoseconds.
    pub train_gap: u64,
    /// Records of a train at most.
    pub train: u64,
    /// Records a second that each farm sends on its own.
    pub upward: u64,
    /// The largest payload of cargo.
    pub payload: u64,
    /// Whether a gateway is drained while cargo comes.
    pub drain_under_load: bool,
    /// Whether strangers attack.
    pub hostile: bool,
    /// A gateway that serves the same shards as the first one, for its slaves to go to.
    pub twin: Option<u16>,
    /// What happens to the first gateway under load, once all is calm.
    pub trial: Trial,
    /// Whether the cluster changes its key under load.
    pub rotates: bool,
    /// Nodes behind slow links while things go wrong: what gateways send to them waits.
    pub slow: Vec<SlowLink>,
    /// Time that NICs of gateways need for a frame while things go wrong, in nanoseconds: slower than a train comes.
    pub slow_nic: u64,
    /// What floods the cluster, once all is calm.
    pub flood: Option<Flood>,
}

/// What happens to a gateway that has a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It drains: nothing must be lost.
    Drain,
    /// It crashes: what was under way or held there is lost, and nothing else.
    Kill,
    /// Its network is gone for some intervals.
    Cut,
}

/// Records a second that the masters of a small cluster send, so that a run is short.
const RECORDS_A_SECOND: u64 = 3_000;

const MTUS: [u16; 6] = [576, 1280, 1400, 1492, 1500, 1500];

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let gw_bits = rng.between(5, 9) as u8;
        let slave_bits = gw_bits + rng.between(0, 3) as u8;
        let scale = Scale::new(slave_bits, gw_bits).expect("the bits are in range");
        let jumbo = rng.one_in(8);
        let gateways = gateways(&mut rng, scale, jumbo);
        let slaves = rng.pick(&[10, 40, 40, 100, 300, 600]);
        let farms = rng.between(1, 6);
        let mut plan = Self {
            seed,
            scale,
            interval: rng.pick(&[200, 250, 500]) * MILLISECOND,
            key: (!rng.one_in(3)).then(|| rng.secret()),
            hold: rng.pick(&[0, 5 * MICROSECOND, 50 * MICROSECOND, 50 * MICROSECOND, FOREVER]),
            early: rng.one_in(2),
            chunk: if jumbo { 16_384 } else { 2048 },
            masters: Vec::new(),
            gateways,
            farms: Vec::new(),
            home: Vec::new(),
            faults: faults(&mut rng),
            latency: rng.between(2, 60) * MICROSECOND,
            script: Vec::new(),
            trouble: 0,
            train_gap: rng.between(2, 20) * MILLISECOND,
            train: rng.pick(&[4, 16, 64, 200]),
            upward: rng.pick(&[0, 100, 400]),
            payload: rng.pick(&[32, 64, 256, 1400]),
            drain_under_load: rng.one_in(4),
            hostile: rng.one_in(2),
            twin: None,
            trial: Trial::Drain,
            rotates: false,
            slow: Vec::new(),
            slow_nic: 0,
            flood: Self::pick_flood(&mut rng.fork(3)),
        };
        let mut more = rng.fork(2);
        plan.trial = more.pick(&[Trial::Drain, Trial::Kill, Trial::Cut]);
        plan.rotates = plan.key.is_some() && more.one_in(4);
        if more.one_in(3) {
            plan.twin = Some(plan.gateways.len() as u16);
            plan.gateways.push(GatewayPlan { lcores: more.pick(&[1, 2, 4]), ..plan.gateways[0].clone() });
        }
        plan.trouble = plan.interval * 4;
        plan.settle_nodes(&mut rng, slaves, farms, jumbo);
        // Half a train on average: at most some thousand records a second of all masters together.
        let least = SECOND * plan.train * plan.masters.len() as u64 / 2 / RECORDS_A_SECOND;
        plan.train_gap = plan.train_gap.max(least);
        plan.write_script(&mut rng);
        if !plan.rotates && more.one_in(4) {
            for node in plan.masters.iter_mut().chain(&mut plan.farms) {
                node.old = more.one_in(2);
            }
        }
        plan.slow_down(&mut rng.fork(13));
        plan
    }

    /// Some links are slow, and some NICs of gateways.
    fn slow_down(&mut self, rng: &mut Rng) {
        // A drain under load has a time in which it must be done.
        if self.drain_under_load {
            return;
        }
        if rng.one_in(3) {
            let farms = (0..self.farms.len()).map(|i| Who::Farm(i as u16));
            let mut nodes: Vec<Who> = farms.chain([Who::Master(0)]).collect();
            rng.shuffle(&mut nodes);
            nodes.truncate(rng.between(1, 3) as usize);
            let link = |who| SlowLink { to: Place::first(who), gap: rng.between(1, 50) * MILLISECOND };
            self.slow = nodes.into_iter().map(link).collect();
        }
        if rng.one_in(4) {
            self.slow_nic = rng.pick(&[50, 100, 200]) * MICROSECOND;
        }
    }

    /// Whether gateways let in nodes of version 1.
    pub fn accepts_v1(&self) -> bool {
        self.masters.iter().chain(&self.farms).any(|node| node.old)
    }

    /// Thousands of slaves, and one gateway with 16 lcores beside a smaller one.
    pub fn large(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let scale = Scale::new(14, 12).expect("the bits are in range");
        let mut gateways = gateways(&mut rng, scale, false);
        gateways.resize(2, gateways[0].clone());
        for (gateway, (lcores, shards)) in gateways.iter_mut().zip([(16, vec![0, 2, 3]), (2, vec![1])]) {
            (gateway.lcores, gateway.shards, gateway.slaves) = (lcores, shards, Vec::new());
            (gateway.frames, gateway.rx_ring, gateway.mailbox) = (1024, 512, 4096);
            (gateway.mtu, gateway.slave_mtu) = (1500, 1500);
        }
        let mut plan = Self { scale, gateways, home: Vec::new(), twin: None, ..Self::of_seed(seed) };
        plan.masters.clear();
        plan.farms.clear();
        plan.chunk = 2048;
        plan.interval = 500 * MILLISECOND;
        plan.trouble = 3 * plan.interval;
        (plan.hold, plan.early) = (50 * MICROSECOND, true);
        (plan.train, plan.train_gap, plan.upward) = (400, 10 * MILLISECOND, 2000);
        plan.settle_nodes(&mut rng, 6000, 24, false);
        plan.write_script(&mut rng);
        plan
    }

    /// The id of a master on the wire.
    pub const fn master_id(number: u16) -> u16 {
        number + 1
    }

    /// Hold, and whether buffers leave early, while nothing goes wrong: questions are answered soon.
    pub fn calm_hold(&self) -> (u64, bool) {
        (self.hold.min(50 * MICROSECOND), self.hold == FOREVER || self.early)
    }

    /// The gateways for the slaves of a gateway, the preferred one first; empty for the twin of another.
    pub fn ways(&self, gateway: usize) -> Vec<usize> {
        match self.twin.map(usize::from) {
            Some(twin) if twin == gateway => Vec::new(),
            Some(twin) if gateway == 0 => vec![0, twin],
            _ => vec![gateway],
        }
    }

    /// Whether a gateway has a slave's shard.
    pub fn serves(&self, gateway: usize, slave: u32) -> bool {
        self.gateways[gateway].shards.contains(&(slave >> self.scale.gw_bits()))
    }

    /// Which gateway has a shard, if any; of two the first.
    pub fn gateway_of(&self, slave: u32) -> Option<u16> {
        let shard = slave >> self.scale.gw_bits();
        self.gateways.iter().position(|gateway| gateway.shards.contains(&shard)).map(|at| at as u16)
    }

    /// The farm that has a slave, if any.
    pub fn farm_of(&self, slave: u32) -> Option<u16> {
        self.home.get(slave as usize).copied().filter(|&farm| farm != u16::MAX)
    }

    /// The plan of a master or farm.
    pub fn node(&self, who: Who) -> Option<&NodePlan> {
        match who {
            Who::Master(i) => self.masters.get(usize::from(i)),
            Who::Farm(i) => self.farms.get(usize::from(i)),
            Who::Gateway(_) | Who::Stranger => None,
        }
    }

    /// The same, for changing.
    pub fn node_mut(&mut self, who: Who) -> Option<&mut NodePlan> {
        match who {
            Who::Master(i) => self.masters.get_mut(usize::from(i)),
            Who::Farm(i) => self.farms.get_mut(usize::from(i)),
            Who::Gateway(_) | Who::Stranger => None,
        }
    }

    /// Every machine.
    pub fn machines(&self) -> Vec<Who> {
        let gateways = (0..self.gateways.len()).map(|i| Who::Gateway(i as u16));
        let masters = (0..self.masters.len()).map(|i| Who::Master(i as u16));
        let farms = (0..self.farms.len()).map(|i| Who::Farm(i as u16));
        gateways.chain(masters).chain(farms).collect()
    }

    fn settle_nodes(&mut self, rng: &mut Rng, slaves: u64, farms: u64, jumbo: bool) {
        self.home = vec![u16::MAX; self.scale.slaves() as usize];
        let node = |rng: &mut Rng, limit: u64| NodePlan {
            mtu: if jumbo && rng.one_in(2) { 9000 } else { rng.pick(&MTUS) },
            fixed_port: rng.one_in(3),
            vlan: if rng.one_in(4) { Some(rng.below(4095) as u16) } else { None },
            slaves: Vec::new(),
            start: rng.below(limit),
            old: false,
        };
        let late = self.interval / 2;
        self.masters = (0..rng.between(1, 3)).map(|_| node(rng, late)).collect();
        self.farms = (0..farms).map(|_| node(rng, late)).collect();
        let mut served: Vec<u32> = (0..self.scale.slaves()).filter(|&id| self.gateway_of(id).is_some()).collect();
        rng.shuffle(&mut served);
        served.truncate(slaves.max(farms) as usize);
        for farm in &mut self.farms {
            farm.slaves = vec![Vec::new(); self.gateways.len()];
        }
        for (at, id) in served.into_iter().enumerate() {
            // Every farm has at least one slave.
            let farm = if (at as u64) < farms { at as u64 } else { rng.below(farms) } as u16;
            if let Some(gateway) = self.gateway_of(id) {
                self.gateways[usize::from(gateway)].slaves.push(id);
                self.farms[usize::from(farm)].slaves[usize::from(gateway)].push(id);
                self.home[id as usize] = farm;
            }
        }
        if let Some(twin) = self.twin {
            self.gateways[usize::from(twin)].slaves = self.gateways[0].slaves.clone();
        }
    }

    fn write_script(&mut self, rng: &mut Rng) {
        let machines = self.machines();
        for _ in 0..rng.below(7) {
            let at = rng.between(self.interval / 2, self.trouble);
            let who = rng.pick(&machines);
            let lasting = rng.between(self.interval / 20, 2 * self.interval);
            match rng.below(3) {
                0 => {
                    self.script.push((at, Action::Crash(who)));
                    self.script.push((at + lasting, Action::Restart(who)));
                }
                1 => self.script.push((at, Action::Cut(who, at + lasting))),
                _ => {
                    let lcores = match who {
                        Who::Gateway(i) => self.gateways[usize::from(i)].lcores,
                        _ => 1,
                    };
                    let lcore = rng.below(u64::from(lcores)) as u16;
                    self.script.push((at, Action::Stall(who, lcore, at + rng.between(1, lasting))));
                }
            }
        }
        if self.hostile {
            for _ in 0..10 {
                self.script.push((rng.below(self.trouble), Action::Hostile));
            }
        }
        self.script.sort_by_key(|line| line.0);
    }
}

impl fmt::Display for Plan {
    /// One line for each fact that helps a reader of a trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, interval, hold, early, chunk, faults, latency, upward, train, train_gap, payload, .. } = self;
        let key = if self.key.is_some() { "signed" } else { "unsigned" };
        writeln!(
            f,
            "plan of seed {seed}: {:?}, interval {interval} ns, hold {hold} ns, early {early}, {key}",
            self.scale
        )?;
        writeln!(f, "  wire: latency {latency} ns, in a million {faults:?}; chunks of {chunk} bytes")?;
        writeln!(
            f,
            "  load: trains of up to {train} every {train_gap} ns, {upward}/s per farm, payload up to {payload}"
        )?;
        if let Some(flood) = self.flood {
            writeln!(f, "  flood: {flood:?}")?;
        }
        if let Some(twin) = self.twin {
            writeln!(
                f,
                "  gateway {twin} is the twin of gateway 0, trial {:?}, key rotation {}",
                self.trial, self.rotates
            )?;
        }
        if self.slow_nic > 0 {
            writeln!(f, "  NICs of gateways need {} ns for a frame while things go wrong", self.slow_nic)?;
        }
        for SlowLink { to, gap } in &self.slow {
            writeln!(f, "  {} is behind a slow link: {gap} ns for a datagram", to.who)?;
        }
        for (i, GatewayPlan { slaves, .. }) in self.gateways.iter().enumerate() {
            let plan = GatewayPlan { slaves: Vec::new(), ..self.gateways[i].clone() };
            writeln!(f, "  gateway {i}: {} slaves, {plan:?}", slaves.len())?;
        }
        for (name, nodes) in [("master", &self.masters), ("farm", &self.farms)] {
            for (i, NodePlan { mtu, fixed_port, vlan, slaves, start, old }) in nodes.iter().enumerate() {
                let slaves: usize = slaves.iter().map(Vec::len).sum();
                let port = if *fixed_port { "fixed port" } else { "lanes" };
                let version = if *old { 1 } else { 2 };
                writeln!(
                    f,
                    "  {name} {i}: MTU {mtu}, {port}, tag {vlan:?}, {slaves} slaves, version {version}, starts at \
                     {start} ns"
                )?;
            }
        }
        Ok(())
    }
}

fn gateways(rng: &mut Rng, scale: Scale, jumbo: bool) -> Vec<GatewayPlan> {
    let mut shards: Vec<u32> = (0..scale.shards()).collect();
    rng.shuffle(&mut shards);
    let count = rng.between(1, 3).min(shards.len() as u64) as usize;
    // Sometimes a shard that nobody serves.
    if shards.len() > count && rng.one_in(2) {
        shards.pop();
    }
    let mut gateways: Vec<GatewayPlan> = (0..count)
        .map(|_| GatewayPlan {
            lcores: rng.pick(&[1, 1, 2, 3, 4, 8]),
            two_port: rng.one_in(3),
            shards: Vec::new(),
            slaves: Vec::new(),
            frames: rng.pick(&[96, 128, 256, 512]),
            rx_ring: rng.pick(&[32, 64, 256]),
            tx_ring: rng.pick(&[4, 16, 64, 256]),
            tx_gap: rng.pick(&[0, 0, 300, 3000]),
            mtu: if jumbo { 9000 } else { rng.pick(&MTUS) },
            slave_mtu: 0,
            mailbox: rng.pick(&[2, 16, 512]),
        })
        .map(|plan| GatewayPlan { slave_mtu: slave_mtu(&plan), ..plan })
        .collect();
    for (at, shard) in shards.into_iter().enumerate() {
        gateways[at % count].shards.push(shard);
    }
    for gateway in &mut gateways {
        gateway.shards.sort_unstable();
    }
    gateways
}

/// The largest IP packet on a gateway's second port: if the first has jumbo frames, half of all gateways have a smaller
/// one here.
fn slave_mtu(gateway: &GatewayPlan) -> u16 {
    if gateway.mtu > 1500 && gateway.lcores % 2 == 1 { 1500 } else { gateway.mtu }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut rate = |most: u64| if rng.one_in(2) { 0 } else { rng.below(most) as u32 };
    Faults {
        drop: rate(100_000),
        duplicate: rate(50_000),
        delay: rate(100_000),
        corrupt: rate(40_000),
        truncate: rate(20_000),
        damage: rate(20_000),
        mark: rate(50_000),
    }
}
