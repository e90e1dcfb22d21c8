//! Any traffic, any routes, any pool. After every step the gateway agrees with a model that has none of its shortcuts.
//! No record is lost or invented, and no frame is lost.

use crate::support;

use frame::time::FOREVER;
use frame::{BURST, Peer, PoolConfig, PortId, Precedence, Time, Vlan};
use gateway::{GatewayCommand, GatewayConfig};
use link::Route;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use support::model::{Model, To};
use support::*;
use wire::{HEADER_LEN, MsgType, Shard, ShardSet};

/// The largest datagram that is made: it fits a chunk behind any headroom of [`headroom`].
const LARGEST: usize = 2048 - 640;

#[derive(Clone, Debug)]
struct Setting {
    hold: Time,
    early: bool,
    low_water: u32,
    masters: u16,
    shards: Vec<u32>,
    frames: u32,
    reserve: u32,
    push_rate: u32,
    mtus: Vec<u16>,
}

/// A record, before its datagram decides what an honest sender would write into it.
#[derive(Clone, Debug)]
struct RecordSpec {
    slave: u32,
    master: u16,
    kind: MsgType,
    len: usize,
    copies: usize,
    push: bool,
}

#[derive(Clone, Copy, Debug)]
enum Sender {
    Master(u16),
    Slave(u32),
}

#[derive(Clone, Debug)]
struct DatagramSpec {
    sender: Sender,
    /// How the sender's address differs from the registered one. Above 4 it does not differ.
    disguise: u8,
    /// Records name their true sender. Downward records are for slaves of one shard.
    honest: bool,
    records: Vec<RecordSpec>,
    /// Bytes that were changed on the way.
    flips: Vec<(Index, u8)>,
    cut: Option<Index>,
    ce: bool,
    headroom: usize,
}

#[derive(Clone, Debug)]
struct RouteSpec {
    mtu: u16,
    fixed_port: bool,
    /// The address: the node's own on either port, with or without a VLAN tag, or one that many nodes share.
    place: u8,
}

#[derive(Clone, Debug)]
enum Step {
    Receive(Vec<DatagramSpec>),
    Advance(Time),
    Route(Sender, Option<RouteSpec>),
    Transmit { port: u8, most: usize, fails: bool },
    LendAllBut(u32),
    GiveBack,
    SetHold(Time),
    SetEarly(bool),
    Answer(Sender, usize),
    Drain,
}

fn hold() -> impl Strategy<Value = Time> {
    prop_oneof![Just(0), Just(1), Just(7), 1_000..100_000_u64, Just(FOREVER)]
}

fn mtu() -> impl Strategy<Value = u16> {
    prop_oneof![51..200_u16, 200..1500_u16, Just(1280), Just(1500), Just(1500), Just(9000), Just(u16::MAX)]
}

fn setting() -> impl Strategy<Value = Setting> {
    let shards = proptest::sample::subsequence(vec![0, 1, 2, 3], 1..=4);
    let small = (hold(), any::<bool>(), 0..40_u32, 1..4_u16, shards);
    // None, few and many records with PUSH have an effect.
    let push_rate = prop_oneof![Just(0), Just(100), Just(gateway::push::MOST)];
    (small, prop_oneof![12..40_u32, 100..300_u32], 0..4_u32, push_rate, vec(mtu(), 67)).prop_map(
        |((hold, early, low_water, masters, shards), frames, reserve, push_rate, mtus)| Setting {
            hold,
            early,
            low_water,
            masters,
            shards,
            frames,
            reserve,
            push_rate,
            mtus,
        },
    )
}

fn sender() -> impl Strategy<Value = Sender> {
    // Few slaves, so that records meet in buffers. The other ids occur now and then.
    prop_oneof![
        2 => (1..4_u16).prop_map(Sender::Master),
        2 => (14..20_u32).prop_map(Sender::Slave),
        1 => (0..64_u32).prop_map(Sender::Slave),
    ]
}

fn record_spec() -> impl Strategy<Value = RecordSpec> {
    let slave = prop_oneof![4 => 14..20_u32, 1 => 0..64_u32, 1 => 60..70_u32];
    let kind = prop_oneof![
        8 => Just(MsgType::OPAQUE),
        4 => Just(MsgType::RC),
        1 => Just(MsgType::HEARTBEAT),
        1 => Just(MsgType::MEMBERS),
    ];
    let len = prop_oneof![4 => 0..100_usize, 1 => 100..LARGEST, 1 => 1350..LARGEST - HEADER_LEN];
    let copies = prop_oneof![4 => Just(1), 1 => 2..30_usize];
    let push = prop::bool::weighted(0.1);
    (slave, 1..5_u16, kind, len, copies, push).prop_map(|(slave, master, kind, len, copies, push)| RecordSpec {
        slave,
        master,
        kind,
        len,
        copies,
        push,
    })
}

fn headroom() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(302), 1 => Just(322), 1 => Just(128), 1 => 0..70_usize, 1 => 300..640_usize]
}

fn datagram_spec() -> impl Strategy<Value = DatagramSpec> {
    let flips = prop_oneof![4 => Just(Vec::new()), 1 => vec((any::<Index>(), any::<u8>()), 1..4)];
    let cut = prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let records = prop_oneof![3 => vec(record_spec(), 1..3), 2 => vec(record_spec(), 0..8)];
    (sender(), 0..40_u8, prop::bool::weighted(0.8), records, flips, cut, prop::bool::weighted(0.1), headroom())
        .prop_map(|(sender, disguise, honest, records, flips, cut, ce, headroom)| DatagramSpec {
            sender,
            disguise,
            honest,
            records,
            flips,
            cut,
            ce,
            headroom,
        })
}

fn route_spec() -> impl Strategy<Value = RouteSpec> {
    (mtu(), any::<bool>(), 0..5_u8).prop_map(|(mtu, fixed_port, place)| RouteSpec { mtu, fixed_port, place })
}

fn step() -> impl Strategy<Value = Step> {
    let bursts = prop_oneof![6 => vec(datagram_spec(), 1..6), 1 => vec(datagram_spec(), 30..=BURST)];
    prop_oneof![
        24 => bursts.prop_map(Step::Receive),
        8 => prop_oneof![0..5_u64, 0..30_000_u64, 0..200_000_u64].prop_map(Step::Advance),
        4 => (sender(), proptest::option::weighted(0.7, route_spec())).prop_map(|(who, route)| Step::Route(who, route)),
        12 => (0..2_u8, 1..200_usize, prop::bool::weighted(0.1))
            .prop_map(|(port, most, fails)| Step::Transmit { port, most, fails }),
        2 => (0..40_u32).prop_map(Step::LendAllBut),
        3 => Just(Step::GiveBack),
        1 => hold().prop_map(Step::SetHold),
        1 => any::<bool>().prop_map(Step::SetEarly),
        1 => (sender(), 1..4_usize).prop_map(|(to, records)| Step::Answer(to, records)),
    ]
}

/// A few steps, perhaps a drain, and a few more.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    (vec(step(), 1..40), proptest::option::weighted(0.3, vec(step(), 0..10))).prop_map(|(mut steps, after)| {
        if let Some(after) = after {
            steps.push(Step::Drain);
            steps.extend(after);
        }
        steps
    })
}

/// Where a node may be registered.
fn place(who: Sender, place: u8) -> Peer {
    let own = match who {
        Sender::Master(id) => master(id),
        Sender::Slave(id) => slave(id),
    };
    match place {
        0 => own,
        1 => but(own, |peer| peer.vlan = Vlan::tagged(3)),
        2 => but(own, |peer| peer.port = PortId(1 - peer.port.0)),
        // One socket for many, as a farm has it.
        3 => slave(200),
        _ => master(201),
    }
}

/// The gateway, its model, and what makes every record unlike all others.
struct Pair {
    rig: Rig,
    model: Model,
    number: u64,
    reserve: u32,
}

impl Pair {
    fn new(setting: &Setting) -> Self {
        let shards: Vec<_> = setting.shards.iter().copied().map(Shard).collect();
        let config = GatewayConfig {
            hold: setting.hold,
            early: setting.early,
            masters: setting.masters,
            low_water: setting.low_water,
            push_rate: setting.push_rate,
            lane: support::LANE,
            ..GatewayConfig::new(ShardSet::new(scale(), &shards).unwrap())
        };
        let pool = PoolConfig { reserve: setting.reserve, ..pool(setting.frames) };
        let model = Model::new(config.clone(), pool.chunk);
        let mut pair = Self { rig: Rig::new(config, pool), model, number: 0, reserve: setting.reserve };
        let who = (1..4).map(Sender::Master).chain((0..64).map(Sender::Slave));
        for (who, &mtu) in who.zip(&setting.mtus) {
            pair.route(who, Some(route(place(who, 0), mtu)));
        }
        pair
    }

    fn route(&mut self, who: Sender, route: Option<Route>) {
        let to = match who {
            Sender::Master(id) => {
                self.rig.set_master(id, route);
                To::Master(id)
            }
            Sender::Slave(id) => {
                self.rig.set_slave(id, route);
                To::Slave(id)
            }
        };
        self.model.set_route(&self.rig, to, route);
    }

    /// The source address of a datagram: where its sender is registered, or an address that differs in one point.
    fn source(&self, sender: Sender, disguise: u8) -> Peer {
        let route = match sender {
            Sender::Master(id) => self.model.master(id),
            Sender::Slave(id) => self.model.slave(id),
        };
        let peer = route.map_or(place(sender, 0), |route| route.peer);
        match disguise {
            0 => but(peer, |peer| peer.udp_port ^= 1),
            1 => but(peer, |peer| peer.vlan = Vlan::tagged(9)),
            2 => but(peer, |peer| peer.port = PortId(1 - peer.port.0)),
            3 => but(peer, |peer| peer.mac[5] ^= 0xff),
            4 => master(222),
            _ => peer,
        }
    }

    fn bytes(&mut self, spec: &DatagramSpec) -> Vec<u8> {
        let mut bytes = Vec::new();
        let first = spec.records.first().map_or(0, |record| record.slave);
        for one in spec.records.iter().flat_map(|record| std::iter::repeat_n(record, record.copies)) {
            let (slave, from, kind) = match spec.sender {
                _ if !spec.honest => (one.slave, one.master, one.kind),
                Sender::Master(id) => ((first & !15) | (one.slave & 15), id, MsgType::OPAQUE),
                Sender::Slave(id) => (id, one.master, MsgType::OPAQUE),
            };
            self.number += 1;
            let record = record(kind, slave, from, self.number, one.len);
            let record = if one.push { pushing(record) } else { record };
            if bytes.len() + record.len() <= LARGEST {
                bytes.extend(record);
            }
        }
        if !bytes.is_empty() {
            for &(at, value) in &spec.flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = spec.cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        }
        bytes
    }

    fn receive(&mut self, specs: &[DatagramSpec]) {
        let mut burst = Vec::new();
        for spec in specs {
            let (from, bytes) = (self.source(spec.sender, spec.disguise), self.bytes(spec));
            let arrival = Arrival { ce: spec.ce, headroom: spec.headroom };
            // Without a free frame the device drops the datagram, and the gateway never gets it.
            if let Some(datagram) = self.rig.datagram(from, &bytes, arrival) {
                self.model.receive(self.rig.now, &from, &bytes, spec.ce);
                burst.push(datagram);
            }
        }
        self.rig.receive_burst(burst);
        for precedence in Precedence::ALL {
            while self.rig.out.next_control(precedence).is_some() {}
        }
    }

    fn answer(&mut self, to: Sender, records: usize) {
        let bytes: Vec<_> = (0..records).flat_map(|n| record(MsgType::HEARTBEAT_ACK, 0, 0, n as u64, 60)).collect();
        let peer = self.source(to, u8::MAX);
        if self.rig.pool.free() > 0 {
            self.model.answer(peer, bytes.clone());
        }
        self.rig.command(GatewayCommand::Reply { peer, bytes: bytes.into() });
    }

    fn no_frame(&self) -> u64 {
        let counters = self.rig.gateway.counters();
        counters.down.dropped_no_frame.get() + counters.up.dropped_no_frame.get()
    }

    fn fair_share(&self) -> u64 {
        let counters = self.rig.gateway.counters();
        counters.down.dropped_fair_share.get() + counters.up.dropped_fair_share.get()
    }

    fn step(&mut self, step: &Step) {
        let (no_frame, fair_share, contended) = (self.no_frame(), self.fair_share(), self.rig.out.is_contended());
        match step {
            Step::Receive(specs) => self.receive(specs),
            Step::Advance(nanoseconds) => {
                self.rig.advance(*nanoseconds);
                self.model.compare(&mut self.rig);
                self.model.advanced(&self.rig);
            }
            Step::Route(who, spec) => {
                let route = spec.as_ref().map(|spec| Route {
                    peer: place(*who, spec.place),
                    mtu: spec.mtu,
                    fixed_port: spec.fixed_port,
                });
                self.route(*who, route);
            }
            Step::Transmit { port, most, fails } => self.model.transmit(&mut self.rig, *port, *most, *fails),
            Step::LendAllBut(left) => self.rig.lend_all_but(*left),
            Step::GiveBack => self.rig.lent.clear(),
            Step::SetHold(hold) => {
                self.rig.command(GatewayCommand::SetHold(*hold));
                self.model.set_hold(*hold);
            }
            Step::SetEarly(early) => {
                self.rig.command(GatewayCommand::SetEarly(*early));
                self.model.set_early(*early);
            }
            Step::Answer(to, records) => self.answer(*to, *records),
            Step::Drain => {
                self.rig.command(GatewayCommand::Drain);
                self.model.drain();
            }
        }
        if self.no_frame() > no_frame {
            // During a step the gateway only takes frames. The frames of the burst go back at its end.
            let burst = if let Step::Receive(specs) = step { specs.len() as u32 } else { 1 };
            let free = self.rig.pool.free();
            assert!(free <= self.reserve + burst, "no frame was found, but {free} are free");
        }
        if self.fair_share() > fair_share {
            assert!(contended, "a drop for the share at a port that is not contended");
        }
        self.rig.check();
        self.model.compare(&mut self.rig);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_accounted_for_after_every_step(setting in setting(), steps in steps()) {
        let mut pair = Pair::new(&setting);
        for step in &steps {
            pair.step(step);
        }
        let end = [Step::Drain, Step::Advance(0)];
        let all = [0, 1].map(|port| Step::Transmit { port, most: usize::MAX, fails: false });
        for step in end.iter().chain(&all).chain([&Step::GiveBack]) {
            pair.step(step);
        }
        pair.model.finished(&pair.rig);
        prop_assert_eq!(pair.rig.pool.in_use(), 0);
    }
}
