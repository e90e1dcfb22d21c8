//! MEMBERS: snapshot and differences to masters, whatever the network loses.

use crate::common;

use common::*;
use frame::time::{MILLISECOND, SECOND};
use frame::{Peer, PortId};
use link::{Health, MembersRefusal, NodeConfig, RegistrarConfig};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wire::link::{Heartbeat, Member, MemberState, Members, NodeId};
use wire::{HEADER_LEN, MsgType, Record, Scale};

fn master(id: u16, now: u64) -> Client {
    Client::new(NodeId::master(id), address(100 + id as u8), now)
}

/// The members, as the registrar reports them.
fn truth(gateway: &Gateway) -> BTreeMap<u32, Member> {
    gateway.registrar.members().map(|view| (view.member.id, view.member)).collect()
}

fn table(master: &Client) -> BTreeMap<u32, Member> {
    let table: BTreeMap<u32, Member> = master.table.iter().map(|member| (member.id, *member)).collect();
    assert_eq!(table, master.mirror, "the changes do not add up to the table");
    table
}

fn is_members(datagram: &[u8]) -> bool {
    Record::first(datagram).unwrap().header().msg_type() == MsgType::MEMBERS
}

/// A registered master, and a MEMBERS record for it that it has not applied yet.
fn told() -> (Gateway, Client, Vec<u8>, u64) {
    let mut gateway = Gateway::new(config(), START);
    let mut slave = Client::new(slave(17), address(1), START);
    slave.exchange(&mut gateway, START);
    let mut master = master(3, START);
    for _ in 0..2 {
        let heartbeat = master.heartbeat(START).unwrap();
        let answers = gateway.receive(START, &master.peer, &heartbeat);
        master.take(START, &answers[..1]);
        if let Some((_, members)) = answers.get(1) {
            assert!(is_members(members));
            return (gateway, master, members.clone(), START);
        }
    }
    panic!("no MEMBERS after the registration");
}

#[test]
fn a_master_is_told_of_all_and_of_each_change() {
    let mut gateway = Gateway::new(config(), START);
    let mut slaves: Vec<Client> = (16..32).map(|id| Client::new(slave(id), address(id as u8), START)).collect();
    let mut master = master(3, START);
    {
        let mut all: Vec<&mut Client> = slaves.iter_mut().chain([&mut master]).collect();
        run(&mut gateway, &mut all, START, START + 2 * SECOND);
    }
    assert_eq!(truth(&gateway).len(), 16);
    assert_eq!(table(&master), truth(&gateway));
    assert_eq!(
        master.table.get(20).map(|member| (member.state, member.mtu, member.epoch)),
        Some((MemberState::Here, 1500, 5))
    );
    assert_eq!(master.table.generation(), gateway.registrar.summary().generation);
    assert_eq!(gateway.registrar.masters().next().unwrap().generation, master.table.generation());

    // One slave leaves. The master knows it 20 ms after the gateway does.
    let gone = slaves.remove(0).node.id().id;
    let mut now = START + 2 * SECOND;
    let mut known = None;
    while known.is_none() {
        let mut all: Vec<&mut Client> = slaves.iter_mut().chain([&mut master]).collect();
        run(&mut gateway, &mut all, now, now + 10 * MILLISECOND);
        if !truth(&gateway).contains_key(&gone) {
            known = Some(now);
        }
        now += 10 * MILLISECOND;
    }
    let mut all: Vec<&mut Client> = slaves.iter_mut().chain([&mut master]).collect();
    run(&mut gateway, &mut all, now, now + 30 * MILLISECOND);
    assert_eq!(table(&master), truth(&gateway));
    assert_eq!(table(&master).len(), 15);
    assert!(master.members_refusals.is_empty(), "{:?}", master.members_refusals);
}

#[test]
fn a_master_of_an_empty_gateway_knows_that_it_is_empty() {
    let mut gateway = Gateway::new(config(), START);
    let mut master = master(3, START);
    run(&mut gateway, &mut [&mut master], START, START + 2 * SECOND);
    assert_eq!((master.table.epoch(), master.table.generation(), master.table.len()), (77, 1, 0));
    let sent = gateway.counter("members_out");
    run(&mut gateway, &mut [&mut master], START + 2 * SECOND, START + 10 * SECOND);
    assert_eq!(gateway.counter("members_out"), sent, "without a change no MEMBERS are sent");
}

#[test]
fn members_that_are_not_the_gateways_own_change_nothing() {
    let (_, mut master, genuine, now) = told();
    let mut refusal = |from: &Peer, bytes: &[u8]| {
        master.take_record(now, from, &Record::first(bytes).unwrap());
        assert!(master.table.is_empty());
        master.members_refusals.pop()
    };
    let from = gateway_peer();
    let mut unsigned = genuine.clone();
    unsigned[HEADER_LEN..HEADER_LEN + 16].fill(0);
    assert_eq!(refusal(&from, &unsigned), Some(MembersRefusal::Unsigned));
    for at in HEADER_LEN..genuine.len() {
        let mut flipped = genuine.clone();
        flipped[at] ^= 0x10;
        let refusal = refusal(&from, &flipped);
        assert!(matches!(refusal, Some(MembersRefusal::Forged | MembersRefusal::Malformed(_))), "{at}: {refusal:?}");
    }
    assert_eq!(refusal(&address(9), &genuine), Some(MembersRefusal::OtherSource));
    let mut elsewhere = from;
    elsewhere.port = PortId(1);
    assert_eq!(refusal(&elsewhere, &genuine), Some(MembersRefusal::OtherSource));
    let resigned = |bytes: &[u8], change: &dyn Fn(&mut Vec<u8>), id: NodeId| {
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        wire::tag::sign(key().node_key(id).as_bytes(), &mut bytes);
        bytes
    };
    let me = NodeId::master(3);
    let other = resigned(&genuine, &|bytes| bytes[16] = 4, NodeId::master(4));
    assert_eq!(refusal(&from, &other), Some(MembersRefusal::OtherMaster));
    let challenge = resigned(&genuine, &|bytes| bytes[HEADER_LEN + 24] ^= 1, me);
    assert_eq!(refusal(&from, &challenge), Some(MembersRefusal::Challenge));
    let epoch = resigned(&genuine, &|bytes| bytes[HEADER_LEN + 32] ^= 1, me);
    assert_eq!(refusal(&from, &epoch), Some(MembersRefusal::Epoch));
    let gap = resigned(&genuine, &|bytes| bytes[HEADER_LEN + 40] = 1, me);
    assert_eq!(refusal(&from, &gap), Some(MembersRefusal::Gap));
    let difference = resigned(&genuine, &|bytes| bytes[HEADER_LEN + 18] = 0, me);
    assert_eq!(refusal(&from, &difference), Some(MembersRefusal::Gap));
    let id = resigned(&genuine, &|bytes| bytes[HEADER_LEN + 64] = 64, me);
    assert_eq!(refusal(&from, &id), Some(MembersRefusal::SlaveId(64)));

    master.take_record(now, &from, &Record::first(&genuine).unwrap());
    assert_eq!(master.table.len(), 1);
    master.take_record(now, &from, &Record::first(&genuine).unwrap());
    assert_eq!(master.members_refusals, [MembersRefusal::Stale], "a snapshot cannot be replayed");
}

#[test]
fn a_master_acknowledges_promptly_but_not_more_often_than_every_20_ms() {
    let scale = Scale::new(13, 13).unwrap();
    let mut gateway = Gateway::new(RegistrarConfig { scale, shards: "0".parse().unwrap(), ..config() }, START);
    let small = NodeConfig { scale, max_ip_packet: 1280, ..node_config() };
    for id in 0..scale.slaves() {
        let mut client = Client::with(slave(id), address(1), small.clone(), Some(key()), START);
        client.exchange(&mut gateway, START);
    }
    let mut master = Client::with(NodeId::master(3), address(200), small, Some(key()), START);
    let mut heartbeats = Vec::new();
    let mut now = START;
    while master.table.len() < 8192 {
        while let Some(datagram) = master.heartbeat(now) {
            heartbeats.push(now);
            let answers = gateway.receive(now, &master.peer, &datagram);
            assert!(answers.len() <= 33, "an ACK and a window");
            assert!(answers.iter().all(|(_, bytes)| bytes.len() + 28 <= 1280));
            master.take(now, &answers);
        }
        assert!(gateway.advance(now).is_empty(), "the window is full");
        now += MILLISECOND;
        assert!(now < START + SECOND, "{} of 8192 slaves after a second", master.table.len());
    }
    assert!(heartbeats[2..].windows(2).all(|pair| pair[1] - pair[0] >= 20 * MILLISECOND), "{heartbeats:?}");
    assert_eq!(table(&master), truth(&gateway));
    assert!(master.members_refusals.is_empty());
}

#[test]
fn a_restart_of_the_gateway_is_no_mass_death() {
    let mut gateway = Gateway::new(config(), START);
    let mut slaves: Vec<Client> = (16..32).map(|id| Client::new(slave(id), address(id as u8), START)).collect();
    let mut master = master(3, START);
    let mut all: Vec<&mut Client> = slaves.iter_mut().chain([&mut master]).collect();
    run(&mut gateway, &mut all, START, START + 2 * SECOND);
    let restart = START + 2 * SECOND;
    let mut gateway = Gateway::new(RegistrarConfig { secret: [1; 32], epoch: 78, ..config() }, restart);
    // Slave 16 died with the gateway.
    all.remove(0);
    let mut fewest = usize::MAX;
    let mut now = restart;
    while now < restart + 11 * SECOND {
        run(&mut gateway, &mut all, now, now + 10 * MILLISECOND);
        fewest = fewest.min(all.last().unwrap().table.iter().filter(|member| member.id != 16).count());
        if now == restart + 3 * SECOND {
            let table = &all.last().unwrap().table;
            assert_eq!(table.get(16).unwrap().state, MemberState::Suspect);
            assert_eq!(table.iter().filter(|member| member.state == MemberState::Here).count(), 15);
        }
        now += 10 * MILLISECOND;
    }
    assert_eq!(fewest, 15);
    assert_eq!(table(&master), truth(&gateway));
    assert_eq!(table(&master).len(), 15);
}

#[test]
fn small_drifts_of_free_pages_are_no_change() {
    let (mut gateway, client, last) = registered(17, START);
    let generation = gateway.registrar.summary().generation;
    let mut seq = last.seq;
    let mut with_free = |pages_free| {
        seq += 1;
        gateway.receive(START, &client.peer, &signed(&Heartbeat { seq, pages_free, ..last }));
        gateway.registrar.summary().generation - generation
    };
    assert_eq!([995, 990, 986, 984].map(&mut with_free), [0, 0, 0, 1], "more than 1/64 of 1000");
    assert_eq!([970, 968, 0, 1, 0].map(&mut with_free), [1, 2, 3, 4, 5], "none at all, or some again, is always told");
}

/// What happens between two steps of the clock.
#[derive(Clone, Debug)]
enum Step {
    /// A slave falls silent or speaks again.
    Toggle(u32),
    /// A slave boots anew.
    Reboot(u32),
    /// A master boots anew and knows nothing.
    Forget(usize),
    /// The gateway starts anew and knows nothing.
    Restart,
    /// This many milliseconds pass.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u32..48).prop_map(Step::Toggle),
        2 => (0u32..48).prop_map(Step::Reboot),
        1 => (0usize..2).prop_map(Step::Forget),
        1 => Just(Step::Restart),
        8 => (1u64..2500).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..25)
}

/// A cluster whose network loses, repeats and swaps datagrams between gateway and masters.
struct World {
    gateway: Gateway,
    slaves: Vec<(Client, bool)>,
    masters: Vec<Client>,
    now: u64,
    random: u64,
    loss_percent: u64,
    starts: u64,
}

impl World {
    const SCALE: (u8, u8) = (6, 6);

    fn config(starts: u64) -> RegistrarConfig {
        let scale = Scale::new(Self::SCALE.0, Self::SCALE.1).unwrap();
        let shards = "0".parse().unwrap();
        RegistrarConfig { scale, shards, secret: [starts as u8; 32], epoch: starts, ..config() }
    }

    fn client(id: NodeId, at: u8, boot_epoch: u64, now: u64) -> Client {
        let scale = Scale::new(Self::SCALE.0, Self::SCALE.1).unwrap();
        // A packet of 1280 bytes has room for 28 entries, so that a snapshot needs several datagrams.
        let config = NodeConfig { scale, max_ip_packet: 1280, ..booted(boot_epoch) };
        Client::with(id, address(at), config, Some(key()), now)
    }

    fn new(random: u64, loss_percent: u64) -> Self {
        Self {
            gateway: Gateway::new(Self::config(1), START),
            slaves: (0..48).map(|id| (Self::client(slave(id), id as u8, 1, START), true)).collect(),
            masters: (0..2).map(|id| Self::client(NodeId::master(id), 100 + id as u8, 1, START)).collect(),
            now: START,
            random,
            loss_percent,
            starts: 1,
        }
    }

    fn percent(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 100
    }

    fn deliver(&mut self, mut answers: Vec<(Peer, Vec<u8>)>) {
        if answers.len() > 1 && self.percent() < self.loss_percent {
            let last = answers.len() - 1;
            answers.swap(0, last);
        }
        for answer in answers {
            for _ in 0..if self.percent() < self.loss_percent / 2 { 2 } else { 1 } {
                if self.percent() >= self.loss_percent {
                    for master in &mut self.masters {
                        master.take(self.now, std::slice::from_ref(&answer));
                    }
                }
            }
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + ms * MILLISECOND;
        while self.now < end {
            for (client, _) in self.slaves.iter_mut().filter(|(_, alive)| *alive) {
                client.exchange(&mut self.gateway, self.now);
            }
            for at in 0..self.masters.len() {
                while let Some(heartbeat) = self.masters[at].heartbeat(self.now) {
                    if self.percent() >= self.loss_percent {
                        let answers = self.gateway.receive(self.now, &self.masters[at].peer, &heartbeat);
                        self.deliver(answers);
                    }
                }
                let Client { table, mirror, node, config, .. } = &mut self.masters[at];
                table.advance(self.now, |member| {
                    mirror.remove(&member.id);
                });
                node.poll_event(config, self.now);
            }
            self.gateway.registrar.advance(self.now, Health::GOOD, &mut self.gateway.out);
            let answers = std::mem::take(&mut self.gateway.out.replies);
            self.deliver(answers);
            self.now += 5 * MILLISECOND;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Toggle(id) => self.slaves[id as usize].1 ^= true,
            Step::Reboot(id) => {
                let (client, alive) = &mut self.slaves[id as usize];
                let boot_epoch = client.config.boot_epoch + 1;
                (*client, *alive) = (Self::client(slave(id), id as u8, boot_epoch, self.now), true);
            }
            Step::Forget(at) => {
                let boot_epoch = self.masters[at].config.boot_epoch + 1;
                self.masters[at] = Self::client(NodeId::master(at as u16), 100 + at as u8, boot_epoch, self.now);
            }
            Step::Restart => {
                self.starts += 1;
                self.gateway = Gateway::new(Self::config(self.starts), self.now);
            }
            Step::Wait(ms) => self.run(ms),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn tables_converge_whatever_was_lost(steps in steps(), random in any::<u64>(), loss_percent in 0u64..60) {
        let mut world = World::new(random, loss_percent);
        for step in steps {
            world.step(step);
        }
        // This is long enough for suspects to be gone, and for a master to remove members that a restarted gateway does
        // not name.
        world.run(3_000);
        world.loss_percent = 0;
        world.run(15_000);
        let truth = truth(&world.gateway);
        prop_assert!(truth.values().all(|member| member.state == MemberState::Here));
        prop_assert_eq!(truth.len(), world.slaves.iter().filter(|(_, alive)| *alive).count());
        for master in &world.masters {
            let table = table(master);
            let wrong: Vec<_> = (0..48).filter(|id| table.get(id) != truth.get(id)).collect();
            prop_assert!(wrong.is_empty(), "master {} is wrong about {wrong:?}", master.node.id());
            prop_assert_eq!(master.table.generation(), world.gateway.registrar.summary().generation);
        }
    }
}

#[test]
fn a_members_record_is_as_large_as_the_masters_mtu_allows() {
    let (_, _, bytes, _) = told();
    let record = Record::first(&bytes).unwrap();
    let members = Members::parse(&record).unwrap();
    assert!(members.head.snapshot);
    assert_eq!((members.head.from_generation, members.head.gateway_epoch, members.len()), (0, 77, 1));
}
