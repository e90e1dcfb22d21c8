//! A master, slaves that lend, gateways between them, and a network that loses, doubles and delays.

use crate::lender::TestSlave;
use crate::rng::Rng;
use frame::time::{MICROSECOND, MILLISECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time};
use lease::ConnectKey;
use link::registrar::Health;
use link::{ChallengeSecret, NodeConfig, Registrar, RegistrarConfig, RouteChange};
use master::{
    Allocate, AllocationRefusal, BufferKey, ClientId, ClientQuota, ExtentId, Master, MasterBooks, MasterConfig,
    MasterEvent, PageCompletion,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::mpsc::{Receiver, channel};
use wire::record::FRAG_PUSH;
use wire::{MsgType, Record, Scale, Walk};

pub(crate) const MASTER: u16 = 1;
pub(crate) const BASE: u64 = 0x10_0000;
pub(crate) const BUFFER: usize = 1 << 20;
pub(crate) const CLUSTER_KEY: [u8; 32] = [0x5a; 32];

pub(crate) fn outbox() -> Outbox {
    let pool = PoolConfig { frames: 1024, chunk: 2048, hugepages: Hugepages::Never, reserve: 16 };
    Outbox::new(Pool::new(pool).unwrap(), 1)
}

/// The datagrams that wait in an outbox.
pub(crate) fn drain(out: &mut Outbox) -> Vec<(Peer, Vec<u8>)> {
    let queue = out.queue(PortId(0)).unwrap();
    std::iter::from_fn(|| queue.take()).map(|datagram| (datagram.peer, datagram.frame.data().to_vec())).collect()
}

pub(crate) fn gateway_peer(number: usize) -> Peer {
    Peer::socket(PortId(0), format!("10.0.0.{}:9999", number + 1).parse().unwrap())
}

fn master_peer() -> Peer {
    Peer::socket(PortId(0), "10.1.0.1:7000".parse().unwrap())
}

/// A gateway that passes each datagram of cargo on by itself.
struct Gateway {
    registrar: Registrar,
    slaves: BTreeMap<u32, Peer>,
    masters: BTreeMap<u16, Peer>,
    is_down: bool,
}

#[derive(Default)]
struct Replies {
    datagrams: Vec<(Peer, Vec<u8>)>,
    routes: Vec<RouteChange>,
}

impl link::Sink for Replies {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _: u16) {
        self.datagrams.push((*to, datagram.to_vec()));
    }

    fn route(&mut self, change: RouteChange) {
        self.routes.push(change);
    }
}

impl Gateway {
    fn new(now: Time, rng: &mut Rng) -> Self {
        let config = RegistrarConfig { epoch: rng.bits(), secret: rng.secret(), ..RegistrarConfig::default() };
        let registrar = Registrar::new(config, now).unwrap();
        Self { registrar, slaves: BTreeMap::new(), masters: BTreeMap::new(), is_down: false }
    }

    fn settle(&mut self, replies: Replies) -> Vec<(Peer, Vec<u8>)> {
        for route in replies.routes {
            match route {
                RouteChange::Slave { id, route: Some(route) } => {
                    self.slaves.insert(id.get(), route.peer);
                }
                RouteChange::Slave { id, route: None } => {
                    self.slaves.remove(&id.get());
                }
                RouteChange::Master { id, route: Some(route) } => {
                    self.masters.insert(id, route.peer);
                }
                RouteChange::Master { id, route: None } => {
                    self.masters.remove(&id);
                }
            }
        }
        replies.datagrams
    }

    fn take(&mut self, now: Time, from: &Peer, bytes: &[u8]) -> Vec<(Peer, Vec<u8>)> {
        let Ok(first) = Record::first(bytes) else { return Vec::new() };
        if first.header().msg_type().is_link_control() {
            let mut replies = Replies::default();
            self.registrar.receive(now, from, bytes, &mut replies);
            return self.settle(replies);
        }
        let is_down = self.masters.values().any(|master| master == from);
        let mut sent = Vec::new();
        for (slave, record) in Walk::new(bytes, Scale::default()).filter_map(Result::ok) {
            let to = match is_down {
                true => self.slaves.get(&slave.get()),
                // A slave speaks for itself alone.
                false if self.slaves.get(&slave.get()) != Some(from) => None,
                false => self.masters.get(&record.header().master_id()),
            };
            sent.extend(to.map(|to| (*to, record.bytes().to_vec())));
        }
        sent
    }

    fn advance(&mut self, now: Time) -> Vec<(Peer, Vec<u8>)> {
        let mut replies = Replies::default();
        self.registrar.advance(now, Health::GOOD, &mut replies);
        self.settle(replies)
    }
}

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) late: u32,
}

type Flight = Reverse<(Time, u64, [u8; 32], Peer2, Vec<u8>)>;

/// A peer that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer2(Peer);

impl PartialOrd for Peer2 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Peer2 {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

/// See the module's documentation.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) master: Master<Vec<u8>>,
    out: Outbox,
    events: Receiver<MasterEvent>,
    pub(crate) slaves: Vec<TestSlave>,
    /// Slaves that nothing reaches, and that reach nobody.
    pub(crate) cut: Vec<u32>,
    gateways: Vec<Gateway>,
    flights: BinaryHeap<Flight>,
    sent: u64,
    pub(crate) faults: Faults,
    pub(crate) rng: Rng,
    pub(crate) told: Vec<MasterEvent>,
    /// Packets of the master without PUSH, and with it.
    pub(crate) packets: [u64; 2],
}

fn config(gateways: usize, rng: &mut Rng) -> MasterConfig {
    let node = NodeConfig {
        boot_epoch: rng.bits(),
        challenges: ChallengeSecret::new(rng.secret()),
        max_ip_packet: 1500,
        ..NodeConfig::default()
    };
    MasterConfig {
        node,
        seed: rng.secret(),
        connect_keys: ConnectKey::of_cluster(&CLUSTER_KEY).into(),
        slaves: 8,
        clients: 4,
        extents: 256,
        requests: 64,
        buffers: 8,
        ..MasterConfig::new(MASTER, (0..gateways).map(gateway_peer).collect())
    }
}

impl World {
    /// Slaves with so many units each, all registered at all gateways.
    pub(crate) fn new(seed: u64, slaves: &[u32], gateways: usize) -> Self {
        Self::with(seed, slaves, gateways, |_| ())
    }

    pub(crate) fn with(seed: u64, slaves: &[u32], gateways: usize, change: impl FnOnce(&mut MasterConfig)) -> Self {
        let mut rng = Rng::new(seed);
        let now = 1_000_000_000;
        let mut config = config(gateways, &mut rng);
        change(&mut config);
        let (events, told) = channel();
        let master = Master::new(config, now, move |event| events.send(event).unwrap()).unwrap();
        let mut world = Self {
            now,
            master,
            out: outbox(),
            events: told,
            slaves: Vec::new(),
            cut: Vec::new(),
            gateways: (0..gateways).map(|_| Gateway::new(now, &mut rng)).collect(),
            flights: BinaryHeap::new(),
            sent: 0,
            faults: Faults::default(),
            rng,
            told: Vec::new(),
            packets: [0; 2],
        };
        for (number, units) in slaves.iter().enumerate() {
            let slave = world.slave(number, *units);
            world.slaves.push(slave);
        }
        world
    }

    /// The master's process is killed and started again: it knows nothing but what its configuration has.
    pub(crate) fn restart_master(&mut self, change: impl FnOnce(&mut MasterConfig)) {
        let mut config = config(self.gateways.len(), &mut self.rng);
        change(&mut config);
        let (events, told) = channel();
        self.master = Master::new(config, self.now, move |event| events.send(event).unwrap()).unwrap();
        (self.events, self.told) = (told, Vec::new());
    }

    fn slave(&mut self, number: usize, units: u32) -> TestSlave {
        let gateways: Vec<Peer> = (0..self.gateways.len()).map(gateway_peer).collect();
        let key = Some(ConnectKey::of_cluster(&CLUSTER_KEY));
        let domain = 100 + number as u32 / 2;
        TestSlave::new(17 + number as u32, units, domain, &gateways, key, self.now, &mut self.rng)
    }

    /// A slave starts again: all that it lent is gone.
    pub(crate) fn restart_slave(&mut self, number: usize) {
        let units = self.slaves[number].lender.books().units;
        self.slaves[number] = self.slave(number, units);
    }

    /// A gateway starts again, and knows nobody.
    pub(crate) fn restart_gateway(&mut self, number: usize) {
        self.gateways[number] = Gateway::new(self.now, &mut self.rng);
    }

    /// A gateway is down, or up again.
    pub(crate) fn set_down(&mut self, number: usize, is_down: bool) {
        self.gateways[number].is_down = is_down;
        if !is_down {
            self.restart_gateway(number);
        }
    }

    /// A datagram is under way.
    pub(crate) fn send(&mut self, from: Peer, to: Peer, bytes: Vec<u8>) {
        let Faults { lost, doubled, late } = self.faults;
        let copies = if self.rng.chance(lost) { 0 } else { 1 + u32::from(self.rng.chance(doubled)) };
        for _ in 0..copies {
            let mut delay = MICROSECOND * (5 + self.rng.below(20));
            if self.rng.chance(late) {
                delay += self.rng.below(20 * MILLISECOND);
            }
            self.sent += 1;
            self.flights.push(Reverse((self.now + delay, self.sent, *to.as_bytes(), Peer2(from), bytes.clone())));
        }
    }

    fn send_all(&mut self, from: Peer, sent: Vec<(Peer, Vec<u8>)>) {
        sent.into_iter().for_each(|(to, bytes)| self.send(from, to, bytes));
    }

    fn deliver(&mut self, to: [u8; 32], from: Peer, bytes: &[u8]) {
        let now = self.now;
        if to == *master_peer().as_bytes() {
            return self.give_master(from, bytes);
        }
        if let Some(number) = (0..self.gateways.len()).find(|number| to == *gateway_peer(*number).as_bytes()) {
            if !self.gateways[number].is_down {
                let sent = self.gateways[number].take(now, &from, bytes);
                self.send_all(gateway_peer(number), sent);
            }
            return;
        }
        let cut = &self.cut;
        let slave = self.slaves.iter_mut().find(|slave| to == *slave.peer.as_bytes() && !cut.contains(&slave.id));
        if let Some(slave) = slave {
            let sent = slave.take(now, &from, bytes, false);
            let peer = slave.peer;
            self.send_all(peer, sent);
        }
    }

    /// The master receives a datagram.
    pub(crate) fn give_master(&mut self, from: Peer, bytes: &[u8]) {
        let mut burst = Burst::new();
        let mut frame = self.out.alloc().unwrap();
        assert!(frame.append(bytes));
        burst.push(Datagram::new(frame, from, Class::Up, 0)).unwrap();
        self.master.receive(self.now, PortId(0), &mut burst, &mut self.out);
        assert!(burst.is_empty());
    }

    /// All that is on its way is lost.
    pub(crate) fn lose_flights(&mut self) {
        self.flights.clear();
    }

    /// All do what is due now.
    pub(crate) fn advance(&mut self) {
        let now = self.now;
        self.master.advance(now, &mut self.out);
        let sent = drain(&mut self.out);
        for (_, record) in sent.iter().flat_map(|(_, bytes)| Walk::new(bytes, Scale::default())).filter_map(Result::ok)
        {
            if record.header().msg_type() == MsgType::RC {
                self.packets[usize::from(record.header().is_frag() & FRAG_PUSH != 0)] += 1;
            }
        }
        self.send_all(master_peer(), sent);
        assert_eq!(self.out.pool().in_use(), 0, "a frame is lost");
        for number in 0..self.slaves.len() {
            let sent = self.slaves[number].advance(now);
            if !self.cut.contains(&self.slaves[number].id) {
                self.send_all(self.slaves[number].peer, sent);
            }
        }
        for number in 0..self.gateways.len() {
            if !self.gateways[number].is_down {
                let sent = self.gateways[number].advance(now);
                self.send_all(gateway_peer(number), sent);
            }
        }
        self.told.extend(self.events.try_iter());
    }

    /// The books, after every check.
    pub(crate) fn books(&self) -> MasterBooks {
        self.master.check().unwrap()
    }

    /// One step: to the next moment at which something happens, at most until `end`.
    pub(crate) fn step(&mut self, end: Time) {
        self.advance();
        self.books();
        let flight = self.flights.peek().map_or(end, |Reverse((at, ..))| *at);
        let mut next = flight.min(end).min(self.master.deadline().unwrap_or(end));
        for slave in &self.slaves {
            next = next.min(slave.deadline());
        }
        for gateway in self.gateways.iter().filter(|gateway| !gateway.is_down) {
            next = next.min(gateway.registrar.deadline().unwrap_or(end));
        }
        // Timers may be early, or due again at once: time goes on all the same.
        self.now = next.max(self.now + 2 * MICROSECOND).min(end.max(self.now + 1));
        while self.flights.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, Peer2(from), bytes))) = self.flights.pop() else { break };
            self.deliver(to, from, &bytes);
        }
    }

    pub(crate) fn run(&mut self, time: Time) {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
    }

    /// Runs until something is so.
    pub(crate) fn run_until(&mut self, most: Time, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = self.now + most;
        while !is_so(self) {
            assert!(self.now < end, "in {} ms there was not: {what}", most / MILLISECOND);
            self.step(end);
        }
    }

    /// Runs until the master knows all slaves.
    pub(crate) fn start(&mut self) {
        let slaves = self.slaves.len();
        self.run_until(10_000 * MILLISECOND, "all members", |world| world.master.members().count() == slaves);
    }

    pub(crate) fn client(&mut self, extents: u32) -> (ClientId, BufferKey) {
        let client = self.master.add_client(ClientQuota { extents, requests: 32, buffers: 2 }).unwrap();
        (client, self.master.add_buffer(client, BASE, vec![0; BUFFER]).unwrap())
    }

    pub(crate) fn allocate(
        &mut self,
        client: ClientId,
        count: u32,
        apart: bool,
    ) -> Result<Vec<ExtentId>, AllocationRefusal> {
        let wanted = self.rng.bits();
        self.master.allocate(self.now, Allocate { client, tag: wanted, count, apart });
        let mut result = None;
        self.run_until(15_000 * MILLISECOND, "an answer to an allocation", |world| {
            world.told.retain(|event| {
                match event {
                    MasterEvent::Allocated { tag, extents, .. } if *tag == wanted => result = Some(Ok(extents.clone())),
                    MasterEvent::NotAllocated { tag, why, .. } if *tag == wanted => result = Some(Err(*why)),
                    _ => return true,
                }
                false
            });
            result.is_some()
        });
        result.unwrap()
    }

    /// Runs until so many completions have come.
    pub(crate) fn completions(&mut self, count: usize) -> Vec<PageCompletion> {
        let mut done = Vec::new();
        self.run_until(200_000 * MILLISECOND, "all completions", |world| {
            done.extend(std::iter::from_fn(|| world.master.poll()));
            done.len() >= count
        });
        assert_eq!(done.len(), count);
        done
    }

    /// The number of the slave in this world that has so much memory lent.
    pub(crate) fn lent(&self, number: usize) -> u32 {
        self.slaves[number].lender.books().leased
    }
}
