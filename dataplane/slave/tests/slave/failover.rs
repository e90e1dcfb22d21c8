//! A farm behind two gateways: the registrars are real, and the test carries the packets.

use frame::time::{MILLISECOND, SECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time};
use link::{ClusterKey, Credential, Health, KeyRing, Registrar, RegistrarConfig, RouteChange, Sink};
use slave::{Farm, FarmCommand, FarmConfig, FarmEvent, Ids, TrafficConfig};
use std::sync::{Arc, Mutex};
use wire::record::{RecordHeader, emit, req_id};
use wire::{HEADER_LEN, MsgType, Scale, Walk};

const SLAVES: u32 = 20;

fn peer(address: &str) -> Peer {
    Peer::socket(PortId(0), address.parse().unwrap())
}

fn old_key() -> ClusterKey {
    ClusterKey::from_bytes([1; 32])
}

fn new_key() -> ClusterKey {
    ClusterKey::from_bytes([2; 32])
}

#[derive(Default)]
struct Replies(Vec<Vec<u8>>);

impl Sink for Replies {
    fn reply(&mut self, _to: &Peer, datagram: &[u8], _records: u16) {
        self.0.push(datagram.to_vec());
    }

    fn route(&mut self, _change: RouteChange) {}
}

struct Gateway {
    address: Peer,
    registrar: Registrar,
    /// Whether the gateway runs and its network works.
    is_there: bool,
    /// Records of cargo that came, and the time of the last one.
    cargo: u64,
    last: Time,
}

impl Gateway {
    fn new(address: &str, epoch: u64, now: Time) -> Self {
        let config = RegistrarConfig { keys: old_key().into(), epoch, ..RegistrarConfig::default() };
        let registrar = Registrar::new(config, now).unwrap();
        Self { address: peer(address), registrar, is_there: true, cargo: 0, last: 0 }
    }

    fn counter(&self, name: &str) -> u64 {
        let mut found = None;
        let counters = Arc::clone(self.registrar.counters());
        frame::counter::CounterSet::visit(&*counters, &mut |other, _, value| {
            if other == name {
                found = Some(value);
            }
        });
        found.unwrap_or_else(|| panic!("no counter {name}"))
    }
}

struct Rig {
    farm: Farm,
    out: Outbox,
    now: Time,
    gateways: [Gateway; 2],
    told: Arc<Mutex<Vec<FarmEvent>>>,
    /// Records of answers that went to each gateway.
    answers: [u64; 2],
}

impl Rig {
    /// Registered with both, and sending 1,000 records a second.
    fn new() -> Self {
        let gateways = [Gateway::new("10.0.0.1:9999", 5, 0), Gateway::new("10.0.0.1:9998", 6, 0)];
        let ids = Ids::range(Scale::default(), 100, SLAVES).unwrap();
        let mut config = FarmConfig::new(gateways[0].address, ids);
        config.slaves[0].0.push(gateways[1].address);
        config.credential = Credential::Cluster(old_key().into());
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        let farm = Farm::new(config, 0, move |event| listener.lock().unwrap().push(event)).unwrap();
        let pool = PoolConfig { frames: 512, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let out = Outbox::new(Pool::new(pool).unwrap(), 1);
        let mut rig = Self { farm, out, now: 0, gateways, told, answers: [0; 2] };
        rig.run(SECOND);
        let traffic = TrafficConfig {
            master: 1,
            payload: 64,
            rate: Some(1000),
            burst: 1.try_into().unwrap(),
            pack: 1.try_into().unwrap(),
            records: None,
        };
        rig.farm.command(rig.now, FarmCommand::StartTraffic(traffic), &mut rig.out);
        rig.run(SECOND);
        rig
    }

    fn deliver(&mut self, from: Peer, bytes: &[u8]) {
        let mut burst = Burst::new();
        let mut frame = self.out.alloc().unwrap();
        assert!(frame.append(bytes));
        burst.push(Datagram::new(frame, from, Class::Link, 0)).unwrap();
        self.farm.receive(self.now, PortId(0), &mut burst, &mut self.out);
    }

    fn run(&mut self, time: u64) {
        let end = self.now + time;
        while self.now < end {
            self.farm.advance(self.now, &mut self.out);
            while let Some(datagram) = self.out.queue(PortId(0)).unwrap().take() {
                self.pass(&datagram);
            }
            for at in 0..2 {
                let mut replies = Replies::default();
                if self.gateways[at].is_there {
                    self.gateways[at].registrar.advance(self.now, Health::GOOD, &mut replies);
                }
                self.back(at, replies);
            }
            self.now += MILLISECOND;
        }
    }

    fn pass(&mut self, datagram: &Datagram) {
        let at = self.gateways.iter().position(|gateway| gateway.address == datagram.peer).expect("a gateway");
        let bytes = datagram.frame.data();
        let first = Walk::new(bytes, Scale::default()).next().unwrap().unwrap().1.header().msg_type();
        match first {
            MsgType::ECHO_REPLY => self.answers[at] += u64::from(datagram.records),
            MsgType::PATTERN => {
                self.gateways[at].cargo += u64::from(datagram.records);
                self.gateways[at].last = self.now;
            }
            _ if self.gateways[at].is_there => {
                let mut replies = Replies::default();
                let farm = peer("10.9.9.9:7");
                self.gateways[at].registrar.receive(self.now, &farm, bytes, &mut replies);
                self.back(at, replies);
            }
            _ => {}
        }
    }

    fn back(&mut self, at: usize, replies: Replies) {
        let address = self.gateways[at].address;
        replies.0.iter().for_each(|bytes| self.deliver(address, bytes));
    }

    fn ask(&mut self, at: usize) {
        let mut question = vec![0; HEADER_LEN + 8];
        emit(&RecordHeader::new(MsgType::ECHO, 105, req_id(1, 9), 8), &[7; 8], &mut question).unwrap();
        self.deliver(self.gateways[at].address, &question);
        self.farm.advance(self.now, &mut self.out);
        while let Some(datagram) = self.out.queue(PortId(0)).unwrap().take() {
            self.pass(&datagram);
        }
    }

    /// Records of cargo that each gateway gets in this time.
    fn cargo(&mut self, time: u64) -> [u64; 2] {
        let before = [self.gateways[0].cargo, self.gateways[1].cargo];
        self.run(time);
        [self.gateways[0].cargo - before[0], self.gateways[1].cargo - before[1]]
    }

    fn moves(&self) -> u64 {
        self.farm.counters().gateway_moves.get()
    }
}

#[test]
fn cargo_goes_to_the_first_gateway_and_answers_where_the_question_came_from() {
    let mut rig = Rig::new();
    let counters = Arc::clone(rig.farm.counters());
    assert_eq!((counters.registered.get(), counters.registrations.get()), (SLAVES.into(), 2 * u64::from(SLAVES)));
    assert_eq!(rig.cargo(SECOND)[1], 0);
    rig.ask(0);
    rig.ask(1);
    assert_eq!((rig.answers, counters.answers_elsewhere.get(), rig.moves()), ([1, 1], 0, 0));
}

#[test]
fn when_the_first_falls_silent_cargo_goes_to_the_second_and_comes_back_once_it_is_steady() {
    let mut rig = Rig::new();
    let died = rig.now;
    rig.gateways[0].is_there = false;
    rig.run(3 * SECOND);
    let outage = rig.gateways[0].last - died;
    assert!((SECOND + SECOND / 2..=SECOND * 5 / 2).contains(&outage), "{outage}");
    let counters = Arc::clone(rig.farm.counters());
    assert_eq!(rig.moves(), SLAVES.into());
    rig.run(SECOND);
    assert_eq!((counters.registered.get(), counters.registrations.get()), (SLAVES.into(), SLAVES.into()));
    // The first gateway starts again and knows nobody.
    rig.gateways[0] = Gateway::new("10.0.0.1:9999", 9, rig.now);
    assert_eq!(rig.cargo(3 * SECOND)[0], 0);
    rig.run(2 * SECOND);
    assert_eq!(rig.cargo(SECOND)[1], 0);
    assert_eq!((rig.moves(), counters.registrations.get()), (2 * u64::from(SLAVES), 2 * u64::from(SLAVES)));
    let told = rig.told.lock().unwrap();
    let moved = told.iter().filter(|told| told.to_string().ends_with("cargo goes to this gateway now"));
    assert!(moved.count() >= 2, "{told:?}");
}

#[test]
fn one_lost_answer_moves_nothing() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        // Heartbeats of every other second are lost.
        rig.gateways[0].is_there = false;
        rig.run(SECOND);
        rig.gateways[0].is_there = true;
        rig.run(SECOND);
    }
    assert_eq!((rig.moves(), rig.cargo(SECOND)[1]), (0, 0));
}

#[test]
fn cargo_and_answers_leave_a_gateway_that_drains_at_once() {
    let mut rig = Rig::new();
    rig.gateways[0].registrar.leave(rig.now);
    rig.run(2 * MILLISECOND);
    let [first, second] = rig.cargo(100 * MILLISECOND);
    assert!(first == 0 && second >= 90, "{first} {second}");
    rig.ask(0);
    assert_eq!((rig.answers, rig.farm.counters().answers_elsewhere.get()), ([0, 1], 1));
    assert_eq!((rig.gateways[0].registrar.unheard(), rig.gateways[0].counter("drain_unheard")), (0, 0));
    assert_eq!(rig.moves(), SLAVES.into());
    // Both gateways are about to leave, so the first in the order is used.
    rig.gateways[1].registrar.leave(rig.now);
    rig.run(2 * MILLISECOND);
    assert_eq!(rig.cargo(100 * MILLISECOND)[1], 0);
}

#[test]
fn the_key_changes_without_a_moment_of_silence() {
    let mut rig = Rig::new();
    let both = KeyRing::changing(old_key(), new_key());
    let old_keys = |rig: &Rig| rig.gateways.each_ref().map(|gateway| gateway.counter("members_old_key"));
    for keys in [both.clone(), new_key().into()] {
        for at in 0..2 {
            if keys.len() > 1 {
                rig.gateways[at].registrar.set_keys(keys.clone());
                rig.run(SECOND);
            }
        }
        if keys.len() > 1 {
            assert_eq!(old_keys(&rig), [u64::from(SLAVES); 2]);
        }
        rig.farm.command(rig.now, FarmCommand::SetCredential(Credential::Cluster(keys.clone())), &mut rig.out);
        rig.run(3 * SECOND);
        assert_eq!(old_keys(&rig), [0; 2]);
    }
    for at in 0..2 {
        rig.gateways[at].registrar.set_keys(new_key().into());
        rig.run(2 * SECOND);
    }
    let counters = rig.farm.counters();
    assert_eq!((counters.keys_switched.get(), counters.acks_refused.get()), (2 * u64::from(SLAVES), 0));
    assert_eq!((counters.registrations.get(), rig.moves()), (2 * u64::from(SLAVES), 0));
    for gateway in &rig.gateways {
        assert_eq!((gateway.counter("refused_forged"), gateway.counter("nodes_gone")), (0, 0));
    }
}
