//! Floods on a calm cluster: a registered node or strangers send far more than the registrar can read, or packets are
//! lost in bursts while a farm dies. Well-behaved nodes stay registered, and dead ones are noticed. In another flood,
//! more masters come and go than there are places for: replays of their messages register nobody.
//!
//! Here the registrar needs time for each datagram that it reads, so that a flood has an effect.

use crate::cluster::Cluster;
use crate::ledger::Wrong;
use crate::machines::MASTERS;
use crate::master;
use crate::packet;
use crate::place::{Place, Who};
use crate::plan::{Faults, Flood, Plan};
use crate::queue::Event;
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use link::{ClusterKey, KeyRing, Node, NodeConfig, SILENT_INTERVALS};
use wire::link::{MemberState, NodeId};
use wire::{MsgType, Walk};

/// How long a flood lasts, in intervals.
const LASTS: u64 = 6;

/// The rate of a flood, as a multiple of what the registrar can read.
const TIMES: u64 = 2;

/// Intervals in which a death is noticed while packets are lost in bursts.
const NOTICED_WITHIN: u64 = 5;

/// The id of the master that floods.
const MASTER: u16 = 999;

/// A node that sends far too much.
struct Flooder {
    nodes: Vec<Node>,
    config: NodeConfig,
    from: Place,
    to: Place,
    /// The messages that it sent while it listened.
    sent: Vec<Vec<u8>>,
}

impl Cluster {
    /// The flood of the plan, if it has one.
    pub(crate) fn flood(&mut self) -> Result<(), Wrong> {
        let Some(flood) = self.plan.flood else { return Ok(()) };
        let gateway = self.rng.below(self.gateways.len() as u64) as usize;
        match flood {
            Flood::Losses => {
                self.phase("losses in bursts");
                self.lose_in_bursts()?;
            }
            Flood::Master => {
                self.phase("a flood of a master");
                self.flooded(gateway, &[NodeId::master(MASTER)], 1)?;
            }
            Flood::Slave => {
                self.phase("a flood of a slave");
                let nobody = |id: &u32| self.plan.serves(gateway, *id) && self.plan.farm_of(*id).is_none();
                let id = (0..self.plan.scale.slaves()).find(nobody).and_then(|id| self.plan.scale.slave_id(id));
                let Some(id) = id else { return Ok(()) };
                self.flooded(gateway, &[NodeId::slave(id)], 1)?;
            }
            Flood::Strangers => {
                self.phase("a flood of strangers");
                let ids: Vec<NodeId> = (0..64).map(|id| NodeId::master(MASTER + id)).collect();
                self.flooded(gateway, &ids, 0)?;
            }
            Flood::Masters => {
                self.phase("masters come and go");
                self.come_and_go(gateway)?;
            }
        }
        *self.counted.entry(format!("flood.{flood:?}").to_lowercase()).or_default() += 1;
        self.wait_until_whole()
    }

    fn intervals_of(&self, intervals: u64) -> Time {
        intervals * self.plan.interval
    }

    /// More heartbeats a second than all nodes of a gateway send together.
    fn heartbeats_a_second(&self, gateway: usize) -> u64 {
        let nodes = self.plan.gateways[gateway].slaves.len() as u64;
        500 + 2 * nodes * SECOND / self.plan.interval
    }

    /// These nodes flood a gateway; `members` of them become members and are gone again in the end.
    fn flooded(&mut self, gateway: usize, ids: &[NodeId], members: u64) -> Result<(), Wrong> {
        let capacity = 2 * self.heartbeats_a_second(gateway);
        let gap = SECOND / (capacity * TIMES);
        let gone = self.gone();
        let mut flooder = self.flooder(gateway, ids);
        if members > 0 {
            self.join(&mut flooder)?;
        }
        // From now on it sends all the time, and receives nothing.
        flooder.config.interval = gap * ids.len() as u64;
        self.registrar_cost = SECOND / capacity;
        let end = self.now + self.intervals_of(LASTS);
        let mut look = self.now;
        while self.now < end {
            self.speak(&mut flooder, false);
            self.run_until(self.now + gap)?;
            if self.now >= look {
                look = self.now + self.plan.interval / 4;
                self.nobody_is_missing(gone)?;
            }
        }
        // The registrar reads what is left, and then finds that the flooder is silent.
        self.run_until(self.now + self.intervals_of(5))?;
        self.registrar_cost = 0;
        self.nobody_is_missing(gone + members)?;
        if self.gone() != gone + members {
            return Err(format!("who floods is still there: {} are gone, not {}", self.gone(), gone + members));
        }
        Ok(())
    }

    /// Somebody who will flood a gateway as these nodes.
    fn flooder(&mut self, gateway: usize, ids: &[NodeId]) -> Flooder {
        let key = self.plan.key.map(ClusterKey::from_bytes);
        let (from, to) = (Place::first(Who::Stranger), Place::first(Who::Gateway(gateway as u16)));
        let boot = (self.now, self.rng.secret());
        let config = master::node_config(self.plan.scale, 10 * MILLISECOND, boot, 1280, false);
        let node = |id: &NodeId| {
            let keys: KeyRing<_> = key.as_ref().map(|key| key.node_key(*id)).into();
            Node::new(*id, keys, to.peer(frame::Vlan::UNTAGGED), &config, self.now)
        };
        let nodes = ids.iter().map(node).collect();
        Flooder { nodes, config, from, to, sent: Vec::new() }
    }

    /// All nodes of a flooder become members.
    fn join(&mut self, flooder: &mut Flooder) -> Result<(), Wrong> {
        self.answers.clear();
        let end = self.now + self.intervals_of(1);
        while !flooder.nodes.iter().all(Node::is_registered) {
            if self.now >= end {
                return Err("a node that was just started is not registered".to_owned());
            }
            self.speak(flooder, true);
            self.run_until(self.now + MILLISECOND)?;
        }
        Ok(())
    }

    /// All places for masters are taken, and those masters vanish. Another master takes a place, and vanishes, too.
    /// Then all their messages are replayed while the cookies are valid.
    fn come_and_go(&mut self, gateway: usize) -> Result<(), Wrong> {
        let free = MASTERS - self.masters.len() as u16;
        let mut sent = Vec::new();
        for ids in [MASTER..MASTER + free, MASTER + free..MASTER + free + 1] {
            let ids: Vec<NodeId> = ids.map(NodeId::master).collect();
            let mut flooder = self.flooder(gateway, &ids);
            self.join(&mut flooder)?;
            sent.append(&mut flooder.sent);
            self.run_until(self.now + self.intervals_of(SILENT_INTERVALS + 1))?;
            self.no_masters_but_ours(gateway)?;
        }
        for frame in sent {
            self.transmit(Place::first(Who::Stranger), frame);
        }
        self.run_until(self.now + self.plan.latency + 5 * MILLISECOND)?;
        self.no_masters_but_ours(gateway)
    }

    fn no_masters_but_ours(&self, gateway: usize) -> Result<(), Wrong> {
        let registrar = self.gateways[gateway].as_ref().map(|node| node.desk.registrar());
        let masters = registrar.map_or(0, |registrar| registrar.masters().count());
        if masters == self.masters.len() {
            return Ok(());
        }
        Err(format!("{masters} masters are registered at gateway {gateway}, of which {} live", self.masters.len()))
    }

    /// Sends the due messages of a flooder; `listens` says whether it receives the answers.
    fn speak(&mut self, flooder: &mut Flooder, listens: bool) {
        let Flooder { nodes, config, from, to, sent } = flooder;
        let gateway = to.peer(frame::Vlan::UNTAGGED);
        while let Some(frame) = self.answers.pop_front() {
            let Some(read) = packet::read(&frame).filter(|_| listens) else { continue };
            for (_, record) in Walk::new(packet::payload(&frame, &read), self.plan.scale).flatten() {
                if record.header().msg_type() == MsgType::HEARTBEAT_ACK {
                    nodes.iter_mut().for_each(|node| drop(node.handle(config, self.now, &gateway, &record)));
                }
            }
        }
        let mut bytes = [0; 256];
        for node in nodes {
            if let Some(len) = node.transmit(config, self.now, &mut bytes) {
                let frame = packet::build(*from, *to, None, wire::GATEWAY_PORT, &bytes[..len]);
                if listens {
                    sent.push(frame.clone());
                }
                self.transmit(*from, frame);
            }
        }
    }

    /// All well-behaved nodes are registered, and no more than `gone` are gone.
    fn nobody_is_missing(&self, gone: u64) -> Result<(), Wrong> {
        self.missing_but(u16::MAX)?;
        if self.gone() > gone {
            return Err(format!("{} nodes are gone, and {gone} were", self.gone()));
        }
        Ok(())
    }

    /// Whether every slave but those of one farm is registered at each of its gateways.
    fn missing_but(&self, farm: u16) -> Result<(), Wrong> {
        for (gateway, node) in self.gateways.iter().enumerate() {
            let Some(node) = node else { continue };
            for &slave in &self.plan.gateways[gateway].slaves {
                let Some(id) = self.plan.scale.slave_id(slave) else { continue };
                let state = node.desk.registrar().state(id);
                if state != MemberState::Here && self.plan.farm_of(slave) != Some(farm) {
                    return Err(format!("slave {slave} is {state:?} at gateway {gateway}, although it lives"));
                }
            }
        }
        Ok(())
    }

    /// In every second interval packets are lost for 0.15 of an interval, and gateways see that; meanwhile a farm dies.
    fn lose_in_bursts(&mut self) -> Result<(), Wrong> {
        let dead = self.rng.below(self.farms.len() as u64) as u16;
        let slaves: Vec<u32> = self.plan.farms[usize::from(dead)].slaves.concat();
        let (period, burst) = (self.intervals_of(2), self.plan.interval * 3 / 20);
        self.in_bursts(self.intervals_of(4), period, burst, u16::MAX)?;
        self.crash(Who::Farm(dead))?;
        let died = self.now;
        self.in_bursts(self.intervals_of(NOTICED_WITHIN), period, burst, dead)?;
        let is_here = |slave: &&u32| self.state(**slave) == MemberState::Here;
        if let Some(slave) = slaves.iter().find(is_here) {
            let since = (self.now - died) as f64 / self.plan.interval as f64;
            return Err(format!("slave {slave} is dead for {since:.1} intervals, and nobody has noticed"));
        }
        self.start(Who::Farm(dead));
        self.calm_since = self.now;
        Ok(())
    }

    fn in_bursts(&mut self, time: Time, period: Time, burst: Time, dead: u16) -> Result<(), Wrong> {
        let end = self.now + time;
        let step = (burst / 4).max(MICROSECOND);
        while self.now < end {
            let is_burst = self.now % period < burst;
            self.faults = Faults { drop: if is_burst { 1_000_000 } else { 0 }, ..Faults::default() };
            if is_burst {
                for gateway in 0..self.gateways.len() as u16 {
                    // No frame of a gateway has room for it: its port notes a loss.
                    let (from, at) = (Place::first(Who::Stranger), Place::first(Who::Gateway(gateway)));
                    let frame = packet::build(from, at, None, wire::GATEWAY_PORT, &vec![0; self.plan.chunk as usize]);
                    self.queue.push(self.now, Event::Arrive { at, frame, broken: false });
                }
            }
            self.run_until(self.now + step)?;
            self.missing_but(dead)?;
        }
        self.faults = Faults::default();
        Ok(())
    }
}

impl Plan {
    /// What floods a cluster, if anything, by its own random numbers.
    pub(crate) fn pick_flood(rng: &mut crate::rng::Rng) -> Option<Flood> {
        rng.one_in(2).then(|| rng.pick(&[Flood::Master, Flood::Slave, Flood::Strangers, Flood::Losses, Flood::Masters]))
    }
}
