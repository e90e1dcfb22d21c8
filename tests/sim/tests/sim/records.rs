//! Reliable connections of a master and its slaves through a gateway: packets in records, merged, held, lost, marked.

use frame::time::{MICROSECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time, Vlan};
use gateway::{Gateway, GatewayConfig};
use link::{Route, RouteChange};
use records::{End, RecordCommand, RecordRole};
use sim::rng::Rng;
use transport::{
    Access, Config, Endpoint, Local, Op, PathId, Qpn, ReadyToReceive, ReadyToSend, Region, Remote, Status, Work,
};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::{Scale, Shard, ShardSet};

const MASTER: u16 = 1;
/// Slaves of three shards of 16, so that their records need at least three datagrams.
const SLAVES: std::ops::Range<u32> = 10..40;
const PAGES: u64 = 8;
const PAGE: u32 = 4096;

fn scale() -> Scale {
    Scale::new(6, 4).unwrap()
}

fn pool() -> Pool {
    Pool::new(PoolConfig { frames: 2048, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
}

fn peer(port: u8, host: u32) -> Peer {
    Peer::ipv4(PortId(port), [10, port, 0, host as u8], 9999, Vlan::UNTAGGED, [2, port, 0, 0, 0, host as u8])
}

/// The gateway, as nodes on this port of it see it.
fn gateway_peer(port: u8) -> Peer {
    Peer::ipv4(PortId(0), [10, port, 0, 254], 9999, Vlan::UNTAGGED, [2; 6])
}

/// A node: its address as the gateway sees it, its role, and its outbox.
struct Node {
    peer: Peer,
    role: RecordRole<Vec<u8>>,
    out: Outbox,
    key: u32,
}

impl Node {
    fn new(peer: Peer, end: End, bytes: Vec<u8>) -> Self {
        let config = Config { paths: 64, replays: 1 << 14, hold: HOLD, ..Config::default() };
        let mut endpoint = Endpoint::new(config, 0).unwrap();
        let region = Region { base: 0, len: bytes.len() as u64, access: Access::ALL, domain: 0, memory: bytes };
        let key = endpoint.register(0x5555_5500, region).unwrap();
        let role = RecordRole::new(endpoint, end, scale(), config.paths).unwrap();
        Self { peer, role, out: Outbox::new(pool(), 1), key }
    }

    fn connect(&mut self, qpn: Qpn, path: PathId, peer: Qpn) {
        let via = gateway_peer(self.peer.port.0);
        self.role.command(0, RecordCommand::Route { path, peer: via, mtu: 1500 }, &mut self.out);
        let (psn, mtu, rnr_timer) = (Psn::new(0xff_fff0), PathMtu::B1024, RnrTimer::new(1));
        let endpoint = self.role.endpoint();
        let attributes = ReadyToReceive { path, peer, psn, mtu, read_depth: 128, rnr_timer };
        endpoint.ready_to_receive(qpn, &attributes).unwrap();
        endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, 128)).unwrap();
    }

    fn qp(&mut self) -> Qpn {
        let endpoint = self.role.endpoint();
        let qpn = endpoint.create(0x00aa_aa00, 0).unwrap();
        endpoint.init(qpn).unwrap();
        qpn
    }
}

const HOLD: Time = 50 * MICROSECOND;

/// A datagram on its way: time of arrival, source and destination, and whether it is marked.
struct Flight {
    time: Time,
    from: Peer,
    to: Peer,
    ce: bool,
    bytes: Vec<u8>,
}

struct World {
    gateway: Gateway,
    out: Outbox,
    nodes: Vec<Node>,
    flights: Vec<Flight>,
    rng: Rng,
    /// Of a thousand datagrams, this many are lost, and as many are marked.
    rate: u64,
    now: Time,
}

impl World {
    fn new(rate: u64, seed: u64) -> Self {
        let shards = ShardSet::new(scale(), &[Shard(0), Shard(1), Shard(2)]).unwrap();
        let config = GatewayConfig { hold: HOLD, masters: 4, ..GatewayConfig::new(shards) };
        let frames = pool();
        let (mut gateway, mut out) = (Gateway::new(config, &frames).unwrap(), Outbox::new(frames.clone(), 2));
        let mut route = |change| gateway.command(0, gateway::GatewayCommand::Route(change), &mut out);
        let via = |peer| Some(Route { peer, mtu: 1500, fixed_port: false });
        route(RouteChange::Master { id: MASTER, route: via(peer(0, 1)) });
        for id in SLAVES {
            route(RouteChange::Slave { id: scale().slave_id(id).unwrap(), route: via(peer(1, id)) });
        }
        let pages = (PAGES as usize) * PAGE as usize * SLAVES.len();
        let mut nodes = vec![Node::new(peer(0, 1), End::Master(MASTER), vec![0; pages])];
        for id in SLAVES {
            let content = (0..PAGES as u32 * PAGE).map(|at| (at.wrapping_mul(id) >> 3) as u8).collect();
            nodes.push(Node::new(peer(1, id), End::Slave(id), content));
        }
        Self { gateway, out, nodes, flights: Vec::new(), rng: Rng::new(seed), rate, now: SECOND }
    }

    /// Polls all roles once, five microseconds later.
    fn poll(&mut self) {
        self.now += 5 * MICROSECOND;
        let now = self.now;
        let due = self.flights.extract_if(.., |flight| flight.time <= now).collect::<Vec<_>>();
        for flight in due {
            let is_gateway = flight.to.ip_octets()[15] == 254;
            let node = self.nodes.iter_mut().find(|node| node.peer.ip() == flight.to.ip());
            let (out, from) = match &node {
                Some(node) => (&node.out, gateway_peer(node.peer.port.0)),
                None => (&self.out, flight.from),
            };
            let Some(mut frame) = out.alloc() else { continue };
            assert!(frame.append(&flight.bytes));
            let mut burst = Burst::new();
            let datagram = Datagram { ce: flight.ce, ..Datagram::new(frame, from, Class::Link, 0) };
            burst.push(datagram).unwrap();
            match node {
                Some(node) => node.role.receive(now, PortId(0), &mut burst, &mut node.out),
                None => {
                    assert!(is_gateway);
                    self.gateway.receive(now, from.port, &mut burst, &mut self.out);
                }
            }
        }
        self.gateway.advance(now, &mut self.out);
        let mut sent = Vec::new();
        for node in &mut self.nodes {
            node.role.advance(now, &mut node.out);
            while let Some(datagram) = node.out.queue(PortId(0)).unwrap().take() {
                sent.push((node.peer, datagram));
            }
        }
        for port in 0..2 {
            while let Some(datagram) = self.out.queue(PortId(port)).unwrap().take() {
                sent.push((gateway_peer(port), datagram));
            }
        }
        for (from, datagram) in sent {
            if self.rng.below(1000) < self.rate {
                continue;
            }
            let ce = datagram.ce || self.rng.below(1000) < self.rate;
            let bytes = datagram.frame.data().to_vec();
            self.flights.push(Flight { time: now + 20 * MICROSECOND, from, to: datagram.peer, ce, bytes });
        }
    }
}

/// Every page of every slave is read. Then the first page of each slave is written back changed.
fn run(rate: u64, seed: u64) -> World {
    let mut world = World::new(rate, seed);
    let slaves = SLAVES.len();
    let mut qps = Vec::new();
    for at in 0..slaves {
        let id = SLAVES.start + at as u32;
        let [master, slave] = world.nodes.get_disjoint_mut([0, 1 + at]).unwrap();
        let (ours, theirs) = (master.qp(), slave.qp());
        master.connect(ours, PathId(id), theirs);
        slave.connect(theirs, PathId(MASTER.into()), ours);
        qps.push((ours, slave.key));
    }
    let all = slaves as u64 * PAGES;
    for number in 0..all {
        let (qpn, key) = qps[number as usize % slaves];
        let page = number / slaves as u64;
        let local = (number % slaves as u64 * PAGES + page) * u64::from(PAGE);
        let master = &mut world.nodes[0];
        let local = Local { key: master.key, address: local, len: PAGE };
        let op = Op::Read(Remote { address: page * u64::from(PAGE), key });
        master.role.endpoint().post(qpn, Work { id: number, op, local }).unwrap();
    }
    let mut done = vec![0; all as usize + slaves];
    let mut read = 0;
    while done.contains(&0) {
        world.poll();
        assert!(world.now < 60 * SECOND, "seed {seed}");
        while let Some(completion) = world.nodes[0].role.endpoint().poll() {
            assert_eq!(completion.status, Status::Success, "seed {seed}");
            done[completion.id as usize] += 1;
            read += u64::from(completion.id < all);
            if read == all && completion.id < all {
                // All pages are read. The first page of each slave is now written over its last one.
                for (at, &(qpn, key)) in qps.iter().enumerate() {
                    let master = &mut world.nodes[0];
                    let address = (at as u64 * PAGES + PAGES - 1) * u64::from(PAGE);
                    let local = Local { key: master.key, address, len: PAGE };
                    let work = Work { id: all + at as u64, op: Op::Write(Remote { address: 0, key }), local };
                    master.role.endpoint().post(qpn, work).unwrap();
                }
            }
        }
    }
    assert!(done.iter().all(|&times| times == 1), "seed {seed}");
    for at in 0..slaves {
        let [master, slave] = world.nodes.get_disjoint_mut([0, 1 + at]).unwrap();
        let id = SLAVES.start + at as u32;
        let all = &master.role.endpoint().region(qps[at].1).map(|region| region.memory.clone());
        let ours = all.clone().unwrap_or_default();
        let theirs = slave.role.endpoint().region(qps[at].1).unwrap().memory.clone();
        let original: Vec<u8> = (0..PAGES as u32 * PAGE).map(|at| (at.wrapping_mul(id) >> 3) as u8).collect();
        let span = original.len();
        assert!(ours[at * span..(at + 1) * span] == original, "seed {seed}: what was read of slave {id}");
        assert!(
            theirs[..PAGE as usize] == original[span - PAGE as usize..],
            "seed {seed}: what was written to slave {id}"
        );
        assert!(theirs[PAGE as usize..] == original[PAGE as usize..], "seed {seed}: slave {id}");
    }
    world
}

#[test]
fn pages_come_and_go_through_a_gateway_that_merges_them() {
    let world = run(0, 1);
    let counters = world.gateway.counters();
    assert_eq!((counters.down.dropped(), counters.up.dropped()), (0, 0));
    // There are 240 READ requests, of which 8 for each slave share a datagram, and 120 packets of WRITEs, each of which
    // fills a datagram.
    let tx = world.out.counters();
    assert_eq!((tx.down.records_out.get(), tx.down.datagrams_out.get()), (360, 30 + 120));
    // From the master up to 26 requests of one shard share a datagram. The shards have 48, 128 and 64 requests.
    let master = world.nodes[0].role.counters();
    assert_eq!((master.rc_records_out.get(), master.datagrams_out.get()), (360, 2 + 5 + 3 + 120));
}

#[test]
fn with_loss_and_marks_all_comes_and_goes_as_well() {
    for seed in 0..6 {
        let world = run(10, seed);
        assert_eq!(world.gateway.counters().down.dropped(), 0);
    }
}
