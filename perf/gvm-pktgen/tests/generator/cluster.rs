//! Generator, farm and two registrars on a virtual clock. Between them is a relay that forwards record by record. The
//! generator must report exactly the faults that the relay made.

use frame::time::{MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time};
use link::{
    ClusterKey, Credential, Health, NodeConfig, Registrar, RegistrarConfig, Route, RouteChange, ShardRanges, Sink,
};
use pktgen::check::Targets;
use pktgen::counters::{Counters, Phase};
use pktgen::distribution::Distribution;
use pktgen::generator::{Down, Event, Generator, GeneratorCommand, GeneratorConfig, Via};
use pktgen::report::{Report, Verdict};
use pktgen::size::Sizes;
use slave::{Farm, FarmConfig, Ids, TrafficConfig};
use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::{Arc, Mutex};
use wire::{MsgType, Record, Scale, Shard, Walk};

const MASTER: u16 = 3;
const KEY: [u8; 32] = [7; 32];

fn peer(address: &str) -> Peer {
    Peer::socket(PortId(0), address.parse().unwrap())
}

fn outbox() -> Outbox {
    let pool = PoolConfig { frames: 4096, hugepages: Hugepages::Never, ..PoolConfig::default() };
    Outbox::new(Pool::new(pool).unwrap(), 1)
}

fn deliver<R: Role>(role: &mut R, out: &mut Outbox, now: Time, from: Peer, bytes: &[u8]) {
    let mut burst = Burst::new();
    let mut frame = out.alloc().unwrap();
    assert!(frame.append(bytes));
    burst.push(Datagram::new(frame, from, Class::Link, 0)).unwrap();
    role.receive(now, PortId(0), &mut burst, out);
}

fn sent(out: &mut Outbox) -> Vec<(Peer, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(datagram) = out.queue(PortId(0)).unwrap().take() {
        sent.push((datagram.peer, datagram.frame.data().to_vec()));
    }
    sent
}

/// The fault of the `n`th record of cargo that passes.
type Fault = fn(n: u64) -> Fate;

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Pass,
    Lose,
    Twice,
    Corrupt,
    /// It changes places with the next record.
    Later,
}

/// The outputs of a registrar.
#[derive(Default)]
struct Told {
    datagrams: Vec<(Peer, Vec<u8>)>,
    slaves: BTreeMap<u32, Route>,
    masters: BTreeMap<u16, Route>,
}

impl Sink for Told {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _records: u16) {
        self.datagrams.push((*to, datagram.to_vec()));
    }

    fn route(&mut self, change: RouteChange) {
        match change {
            RouteChange::Slave { id, route: Some(route) } => drop(self.slaves.insert(id.get(), route)),
            RouteChange::Slave { id, route: None } => drop(self.slaves.remove(&id.get())),
            RouteChange::Master { id, route: Some(route) } => drop(self.masters.insert(id, route)),
            RouteChange::Master { id, route: None } => drop(self.masters.remove(&id)),
        }
    }
}

struct Relay {
    address: Peer,
    registrar: Registrar,
    told: Told,
    fault: Fault,
    passed: u64,
    later: Option<(Peer, Vec<u8>)>,
}

impl Relay {
    fn new(address: &str, shards: std::ops::Range<u32>, fault: Fault) -> Self {
        let shards = ShardRanges::from_shards(shards.map(Shard)).unwrap();
        let key = Some(ClusterKey::from_bytes(KEY));
        let registrar =
            Registrar::new(RegistrarConfig { shards, keys: key.into(), ..RegistrarConfig::default() }, 0).unwrap();
        Self { address: peer(address), registrar, told: Told::default(), fault, passed: 0, later: None }
    }

    fn take(&mut self, now: Time, from: Peer, bytes: &[u8]) {
        if Record::first(bytes).unwrap().header().msg_type().is_link_control() {
            return self.registrar.receive(now, &from, bytes, &mut self.told);
        }
        let mut shard = None;
        for item in Walk::new(bytes, Scale::default()) {
            let (id, record) = item.unwrap();
            let header = record.header();
            let up = matches!(header.msg_type(), MsgType::ECHO_REPLY | MsgType::PATTERN)
                && self.told.slaves.get(&id.get()).is_some_and(|route| route.peer == from);
            let to = if up {
                self.told.masters.get(&header.master_id()).copied()
            } else {
                let own = Scale::default().shard(id);
                assert_eq!(*shard.get_or_insert(own), own, "downward records of one datagram are of one shard");
                self.told.slaves.get(&id.get()).copied()
            };
            if let Some(to) = to {
                self.pass(to.peer, record.bytes().to_vec());
            }
        }
    }

    fn pass(&mut self, to: Peer, mut bytes: Vec<u8>) {
        let fate = (self.fault)(self.passed);
        self.passed += 1;
        match fate {
            Fate::Lose => return,
            Fate::Later => {
                self.later = Some((to, bytes));
                return;
            }
            Fate::Corrupt => *bytes.last_mut().unwrap() ^= 1,
            Fate::Twice => self.told.datagrams.push((to, bytes.clone())),
            Fate::Pass => {}
        }
        self.told.datagrams.push((to, bytes));
        self.told.datagrams.extend(self.later.take());
    }
}

struct Cluster {
    generator: Generator,
    generator_out: Outbox,
    farm: Farm,
    farm_out: Outbox,
    relays: Vec<Relay>,
    now: Time,
    /// Datagrams for the farm wait until then.
    farm_deaf_until: Time,
    waiting: Vec<(Peer, Peer, Vec<u8>)>,
    events: Arc<Mutex<Vec<Event>>>,
}

const GENERATOR: &str = "10.0.0.9:5000";
const FARM: &str = "10.0.1.1:6000";

impl Cluster {
    /// Slaves 8,000 to 8,399: two shards, each with a gateway.
    fn new(change: impl FnOnce(&mut GeneratorConfig), fault: Fault) -> Self {
        let relays = vec![Relay::new("10.0.0.1:9999", 0..1, fault), Relay::new("10.0.0.2:9999", 1..16, |_| Fate::Pass)];
        let credential = Credential::Cluster(ClusterKey::from_bytes(KEY).into());
        let node = NodeConfig { fixed_port: true, ..NodeConfig::default() };
        let ids = |first, count| Ids::range(Scale::default(), first, count).unwrap();
        let mut farm = FarmConfig::new(relays[0].address, ids(8_000, 192));
        farm.slaves.push((vec![relays[1].address], ids(8_192, 208)));
        (farm.credential, farm.node) = (credential.clone(), node.clone());
        let mut config = GeneratorConfig {
            targets: Targets { first: 8_000, count: 400 },
            master: MASTER,
            run: 99,
            via: Via::Gateways { gateways: relays.iter().map(|relay| relay.address).collect(), node, credential },
            down: Down::Echo,
            sizes: Sizes::Fixed(64),
            distribution: Distribution::Uniform,
            seed: 1,
            rate: Some(20_000),
            window: None,
            window_timeout: 100 * MILLISECOND,
            pack: None,
            duration: SECOND,
            records: None,
            expect_members: 400,
        };
        change(&mut config);
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&events);
        Self {
            generator: Generator::new(config, 0, move |event| listener.lock().unwrap().push(event)),
            generator_out: outbox(),
            farm: Farm::new(farm, 0, |_| ()).unwrap(),
            farm_out: outbox(),
            relays,
            now: 0,
            farm_deaf_until: 0,
            waiting: Vec::new(),
            events,
        }
    }

    fn step(&mut self) {
        let now = self.now;
        self.generator.advance(now, &mut self.generator_out);
        self.farm.advance(now, &mut self.farm_out);
        let mut flying: Vec<(Peer, Peer, Vec<u8>)> = Vec::new();
        for (from, out) in [(peer(GENERATOR), &mut self.generator_out), (peer(FARM), &mut self.farm_out)] {
            flying.extend(sent(out).into_iter().map(|(to, bytes)| (from, to, bytes)));
        }
        for relay in &mut self.relays {
            relay.registrar.advance(now, Health::GOOD, &mut relay.told);
        }
        if now >= self.farm_deaf_until {
            flying.append(&mut self.waiting);
        }
        while !flying.is_empty() {
            for (from, to, bytes) in std::mem::take(&mut flying) {
                if to == peer(GENERATOR) {
                    deliver(&mut self.generator, &mut self.generator_out, now, from, &bytes);
                } else if to == peer(FARM) && now < self.farm_deaf_until {
                    self.waiting.push((from, to, bytes));
                } else if to == peer(FARM) {
                    deliver(&mut self.farm, &mut self.farm_out, now, from, &bytes);
                } else if let Some(relay) = self.relays.iter_mut().find(|relay| relay.address == to) {
                    relay.take(now, from, &bytes);
                }
            }
            for relay in &mut self.relays {
                flying.extend(relay.told.datagrams.drain(..).map(|(to, bytes)| (relay.address, to, bytes)));
            }
            flying.extend(sent(&mut self.farm_out).into_iter().map(|(to, bytes)| (peer(FARM), to, bytes)));
        }
        self.now += MILLISECOND;
    }

    fn run(&mut self) -> Report {
        while self.generator.phase() != Phase::Done {
            self.step();
            assert!(self.now < 60 * SECOND, "stuck in {:?}", self.generator.phase());
        }
        assert!(self.counters().balance() && self.farm.counters().balance());
        assert_eq!((self.generator_out.pool().in_use(), self.farm_out.pool().in_use()), (0, 0));
        let echo = self.farm.counters().echo_replied.get() > 0;
        Report::new(self.counters(), self.generator.latency(), 400, echo)
    }

    fn counters(&self) -> &Counters {
        self.generator.counters()
    }
}

#[test]
fn it_registers_learns_its_slaves_and_loses_nothing() {
    let mut cluster = Cluster::new(|_| (), |_| Fate::Pass);
    let report = cluster.run();
    assert_eq!((report.verdict(), report.echo.reordered, report.received.unexpected), (Verdict::Ok, 0, 0));
    assert!((19_900..=20_000).contains(&report.echo.ok), "{}", report.echo.ok);
    assert_eq!(report.echo.ok, report.down.records);
    assert_eq!((cluster.counters().members_known.get(), cluster.counters().route_mtu.get()), (400, 1500));
    assert!(report.down.records_per_datagram > 5.0, "{}", report.down.records_per_datagram);
    let events = cluster.events.lock().unwrap();
    assert!(events[0].event.to_string().starts_with("registered: hold 50 us"), "{events:?}");
}

#[test]
fn loss_is_counted_to_the_record() {
    // Both directions pass through the first relay. It loses each thousandth record of both.
    let mut cluster = Cluster::new(|_| (), |n| if n % 1000 == 999 { Fate::Lose } else { Fate::Pass });
    let report = cluster.run();
    assert_eq!((report.verdict(), report.echo.lost), (Verdict::Loss, cluster.relays[0].passed / 1000));
    assert_eq!((report.echo.duplicate, report.echo.corrupted), (0, 0));
}

#[test]
fn copies_corruption_and_disorder_are_told_apart() {
    // Only the slaves send, so that the relay's faults affect only upward records.
    let fault: Fault = |n| match n % 500 {
        100 => Fate::Twice,
        200 => Fate::Corrupt,
        300 => Fate::Later,
        _ => Fate::Pass,
    };
    let mut cluster = Cluster::new(|config| config.down = Down::Nothing, fault);
    while cluster.generator.phase() == Phase::Waiting {
        cluster.step();
    }
    let traffic = TrafficConfig {
        master: MASTER,
        payload: 64,
        rate: Some(10_000),
        burst: NonZeroU32::new(8).unwrap(),
        pack: NonZeroU16::new(8).unwrap(),
        records: Some(8_000),
    };
    let now = cluster.now;
    cluster.farm.command(now, slave::FarmCommand::StartTraffic(traffic), &mut cluster.farm_out);
    let report = cluster.run();
    let times = |at: u64| (cluster.relays[0].passed + 499 - at) / 500;
    assert_eq!((report.up.duplicate, report.up.corrupted), (times(100), times(200)));
    // A corrupted record is missing in its stream, unless it was the last one.
    assert!(report.up.lost <= times(200) && report.up.lost > 0, "{:?}", report.up);
    assert!(report.up.reordered > 0 && report.up.reordered <= times(300), "{:?}", report.up);
    assert_eq!((report.verdict(), report.down.records), (Verdict::Content, 0));
    assert_eq!(report.up.ok + report.up.corrupted, 8_000);
}

#[test]
fn pattern_down_is_checked_by_the_slaves() {
    let mut cluster = Cluster::new(
        |config| {
            config.down = Down::Pattern;
            config.distribution = Distribution::Burst(32);
            config.records = Some(12_800);
            config.duration = 10 * SECOND;
        },
        |_| Fate::Pass,
    );
    let report = cluster.run();
    let farm = cluster.farm.counters();
    assert_eq!((report.down.records, farm.pattern_ok.get(), farm.pattern_gap.get()), (12_800, 12_800, 0));
    assert_eq!((report.received.records, report.verdict()), (0, Verdict::Ok));
}

#[test]
fn pages_travel_in_pieces_and_a_window_survives_loss() {
    let mut cluster = Cluster::new(
        |config| {
            (config.sizes, config.rate, config.window) = (Sizes::Page, None, Some(64));
            config.distribution = Distribution::Sequential;
            config.records = Some(4_000);
            config.duration = 50 * SECOND;
        },
        |n| if n % 50 == 7 { Fate::Lose } else { Fate::Pass },
    );
    let report = cluster.run();
    assert_eq!((report.down.records, report.down.payload_bytes), (4_000, 4_000 * 1024));
    assert_eq!((report.echo.lost, report.verdict()), (cluster.relays[0].passed.div_ceil(50), Verdict::Loss));
    assert!(report.window_given_up > 0 && report.window_given_up <= report.echo.lost);
}

#[test]
fn a_full_window_waits_as_long_as_it_is_told_to() {
    // For two seconds the farm's host does nothing. Every answer is late, and none is lost.
    let run = |window_timeout| {
        let mut cluster = Cluster::new(
            |config| {
                (config.rate, config.window, config.window_timeout) = (None, Some(64), window_timeout);
                config.records = Some(640);
                config.duration = 50 * SECOND;
            },
            |_| Fate::Pass,
        );
        while cluster.counters().answered() < 128 {
            cluster.step();
        }
        cluster.farm_deaf_until = cluster.now + 2 * SECOND;
        cluster.run()
    };
    let (patient, hasty) = (run(20 * SECOND), run(100 * MILLISECOND));
    assert_eq!((patient.echo.ok, patient.window_given_up), (640, 0));
    assert!(hasty.window_given_up >= 64, "{hasty:?}");
}

#[test]
fn nothing_is_sent_before_enough_slaves_are_known() {
    let mut cluster = Cluster::new(|config| config.expect_members = 401, |_| Fate::Pass);
    while cluster.now < 5 * SECOND {
        cluster.step();
    }
    let counters = cluster.counters();
    assert_eq!((cluster.generator.phase(), counters.sent_records.get()), (Phase::Waiting, 0));
    assert_eq!((counters.members_known.get(), counters.shards_missing.get()), (400, 0));
    cluster.generator.command(cluster.now, GeneratorCommand::Drain, &mut cluster.generator_out);
    assert!(cluster.generator.is_drained());
}

#[test]
fn strangers_and_foreign_shards_are_refused() {
    let mut cluster = Cluster::new(|config| config.targets = Targets { first: 8_000, count: 1 }, |_| Fate::Pass);
    for _ in 0..2_000 {
        cluster.step();
    }
    let bytes = sent(&mut cluster.farm_out);
    assert!(bytes.is_empty());
    let before = cluster.counters().refused_source.get();
    let mut junk = vec![0; 87];
    let header = wire::RecordHeader::new(MsgType::ECHO_REPLY, 8_000, 0, 64);
    wire::record::emit(&header, &[0; 64], &mut junk).unwrap();
    for from in ["10.0.0.1:9998", "10.0.0.3:9999", FARM] {
        deliver(&mut cluster.generator, &mut cluster.generator_out, cluster.now, peer(from), &junk);
    }
    assert_eq!(cluster.counters().refused_source.get(), before + 3);
    assert!(cluster.counters().balance());
}
