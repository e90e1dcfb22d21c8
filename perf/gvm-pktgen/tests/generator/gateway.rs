//! Generator and farm with a real gateway and its registrar between them, on a virtual clock.

use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Precedence, Role, Time};
use gateway::{Gateway, GatewayConfig};
use link::{
    ClusterKey, Credential, Health, NodeConfig, Registrar, RegistrarConfig, RouteChange, ShardRanges as LinkShards,
    Sink,
};
use pktgen::check::Targets;
use pktgen::counters::Phase;
use pktgen::distribution::Distribution;
use pktgen::generator::{Down, Generator, GeneratorConfig, Via};
use pktgen::report::{Report, Verdict};
use pktgen::size::Sizes;
use slave::{Farm, FarmConfig, Ids, TrafficConfig};
use std::num::{NonZeroU16, NonZeroU32};
use wire::{Scale, ShardSet};

const SLAVES: u32 = 64;

fn peer(address: &str) -> Peer {
    Peer::socket(PortId(0), address.parse().unwrap())
}

fn pool() -> Pool {
    Pool::new(PoolConfig { frames: 8192, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap()
}

/// The commands of the registrar to the gateway.
#[derive(Default)]
struct Desk(Vec<gateway::GatewayCommand>);

impl Sink for Desk {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _records: u16) {
        self.0.push(gateway::GatewayCommand::Reply { peer: *to, bytes: datagram.into() });
    }

    fn route(&mut self, change: RouteChange) {
        self.0.push(gateway::GatewayCommand::Route(change));
    }
}

struct Cluster {
    now: Time,
    /// The addresses of generator, gateway and farm.
    addresses: [Peer; 3],
    outs: [Outbox; 3],
    generator: Generator,
    gateway: Gateway,
    farm: Farm,
    registrar: Registrar,
    desk: Desk,
}

impl Cluster {
    fn new(change: impl FnOnce(&mut GeneratorConfig)) -> Self {
        let addresses = ["10.0.0.9:5000", "10.0.0.1:9999", "10.0.1.1:6000"].map(peer);
        let outs = [pool(), pool(), pool()].map(|pool| Outbox::new(pool, 1));
        let key = ClusterKey::from_bytes([7; 32]);
        let node = NodeConfig { fixed_port: true, ..NodeConfig::default() };
        let credential = Credential::Cluster(key.clone().into());
        let mut config = GeneratorConfig {
            targets: Targets { first: 100, count: SLAVES },
            master: 3,
            run: 99,
            via: Via::Gateways { gateways: vec![addresses[1]], node: node.clone(), credential: credential.clone() },
            down: Down::Echo,
            sizes: Sizes::Fixed(64),
            distribution: Distribution::Burst(32),
            seed: 1,
            rate: Some(1_000_000),
            window: None,
            window_timeout: 100 * MILLISECOND,
            pack: NonZeroU16::new(1),
            duration: 50 * MILLISECOND,
            records: None,
            expect_members: SLAVES,
        };
        change(&mut config);
        let mut farm = FarmConfig::new(addresses[1], Ids::range(Scale::default(), 100, SLAVES).unwrap());
        (farm.node, farm.credential) = (node, credential);
        let shards = LinkShards::all(Scale::default());
        let registrar = RegistrarConfig { shards, keys: key.into(), ..RegistrarConfig::default() };
        Self {
            now: 0,
            addresses,
            gateway: Gateway::new(GatewayConfig::new(ShardSet::all(Scale::default())), outs[1].pool()).unwrap(),
            outs,
            generator: Generator::new(config, 0, |_| ()),
            farm: Farm::new(farm, 0, |_| ()).unwrap(),
            registrar: Registrar::new(registrar, 0).unwrap(),
            desk: Desk::default(),
        }
    }

    /// Polls each role once. Sent datagrams have arrived when the next step begins.
    fn step(&mut self, pass: u64) {
        let mut bursts = [Burst::new(), Burst::new(), Burst::new()];
        for from in 0..3 {
            while let Some(datagram) = self.outs[from].queue(PortId(0)).unwrap().take() {
                let to =
                    self.addresses.iter().position(|address| address.address() == datagram.peer.address()).unwrap();
                let mut frame = self.outs[to].pool().alloc().unwrap();
                assert!(frame.append(datagram.frame.data()));
                let arrived = Datagram::new(frame, self.addresses[from], Class::Link, 0);
                if let Err(arrived) = bursts[to].push(arrived) {
                    self.receive(to, &mut bursts[to]);
                    bursts[to].push(arrived).unwrap();
                }
            }
        }
        for (to, burst) in bursts.iter_mut().enumerate() {
            self.receive(to, burst);
        }
        let next = |out: &mut Outbox| Precedence::ALL.into_iter().find_map(|precedence| out.next_control(precedence));
        while let Some(control) = next(&mut self.outs[1]) {
            self.registrar.receive(self.now, &control.peer, control.frame.data(), &mut self.desk);
        }
        self.registrar.advance(self.now, Health::GOOD, &mut self.desk);
        for command in self.desk.0.drain(..) {
            self.gateway.command(self.now, command, &mut self.outs[1]);
        }
        self.generator.advance(self.now, &mut self.outs[0]);
        self.gateway.advance(self.now, &mut self.outs[1]);
        self.farm.advance(self.now, &mut self.outs[2]);
        self.now += pass;
    }

    fn receive(&mut self, to: usize, burst: &mut Burst) {
        let (now, out) = (self.now, &mut self.outs[to]);
        match to {
            0 => self.generator.receive(now, PortId(0), burst, out),
            1 => self.gateway.receive(now, PortId(0), burst, out),
            _ => self.farm.receive(now, PortId(0), burst, out),
        }
    }

    /// Runs in long steps until sending begins, then in steps of 10 us, and then in long steps to the end.
    fn run(&mut self, at_start: impl FnOnce(&mut Self)) -> Report {
        while self.generator.phase() == Phase::Waiting {
            self.step(MILLISECOND);
            assert!(self.now < 20 * SECOND, "never ready");
        }
        at_start(self);
        while self.generator.phase() == Phase::Sending {
            self.step(10 * MICROSECOND);
        }
        // The last answers come back at the same rate as the others.
        (0..100).for_each(|_| self.step(10 * MICROSECOND));
        while self.generator.phase() != Phase::Done {
            self.step(MILLISECOND);
        }
        let (generator, farm) = (self.generator.counters(), self.farm.counters());
        assert!(generator.balance() && farm.balance());
        assert_eq!((self.gateway.counters().down.dropped(), self.gateway.counters().up.dropped()), (0, 0));
        let echo = farm.echo_replied.get() > 0;
        Report::new(generator, self.generator.latency(), SLAVES, echo)
    }
}

#[test]
fn bursts_to_slaves_are_merged_on_their_way_and_nothing_is_lost() {
    let mut cluster = Cluster::new(|_| ());
    let report = cluster.run(|_| ());
    assert_eq!((report.verdict(), report.echo.ok), (Verdict::Ok, report.down.records));
    assert!((49_000..=50_000).contains(&report.down.records), "{}", report.down.records);
    assert_eq!((report.echo.reordered, report.down.records_per_datagram), (0, 1.0));
    // Each datagram to the gateway has one record. A datagram from the gateway has room for 16 records of 87 bytes.
    let out = cluster.outs[1].counters();
    let saved = 1.0 - out.down.datagrams_out.get() as f64 / out.down.records_out.get() as f64;
    assert!(saved >= 0.9, "{saved}");
    assert!(report.received.saved_percent >= 90.0, "{}", report.received.saved_percent);
    // Two holds, and the steps in between.
    assert!(report.latency_ns.max <= 2 * 50 * MICROSECOND + 8 * 10 * MICROSECOND, "{}", report.latency_ns.max);
}

#[test]
fn what_slaves_send_on_their_own_is_merged_too() {
    let mut cluster = Cluster::new(|config| config.down = Down::Nothing);
    let traffic = TrafficConfig {
        master: 3,
        payload: 64,
        rate: Some(1_000_000),
        burst: NonZeroU32::MIN,
        pack: NonZeroU16::MIN,
        records: Some(40_000),
    };
    let report = cluster.run(|cluster| {
        let now = cluster.now;
        cluster.farm.command(now, slave::FarmCommand::StartTraffic(traffic), &mut cluster.outs[2]);
    });
    assert_eq!((report.up.ok, report.up.lost, report.verdict()), (40_000, 0, Verdict::Ok));
    assert!(report.received.saved_percent >= 90.0, "{}", report.received.saved_percent);
}

#[test]
fn a_mix_of_sizes_to_random_slaves_comes_back_whole() {
    let mut cluster = Cluster::new(|config| {
        (config.sizes, config.distribution, config.pack) = (Sizes::Imix, Distribution::Zipf(1.0), None);
        config.rate = Some(200_000);
    });
    let report = cluster.run(|_| ());
    assert_eq!((report.verdict(), report.echo.ok), (Verdict::Ok, report.down.records));
    assert!(report.down.payload_bytes > 200 * report.down.records, "{report}");
}
