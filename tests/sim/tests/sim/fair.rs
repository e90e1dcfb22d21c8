//! A gateway whose outgoing link is slower than the incoming cargo. One slave sends at full speed, or gets cargo at
//! full speed, and the others keep their shares. Heartbeats are heard all the time. Memory ports on a virtual clock.

use frame::time::MICROSECOND;
use frame::{Time, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use link::{Route, RouteChange};
use sim::core::{Core, Sizes};
use sim::packet;
use sim::place::{Place, Who};
use wire::record::{emit, req_id};
use wire::{MsgType, RecordHeader, Scale, Shard, ShardSet, Walk};

/// Slaves that send evenly. The slave with the next number sends at full speed.
const HONEST: u32 = 20;
const MASTER: u16 = 1;
const PAYLOAD: usize = 200;
/// Time of a step. In each step the link takes a fixed number of records, in any datagrams.
const STEP: Time = 10 * MICROSECOND;
const TAKEN: i64 = 12;
/// Records of the greedy slave in a step: many times as many as leave.
const FLOOD: usize = 60;
/// A heartbeat of a stranger comes once in this many steps, in a datagram of its own.
const HEARTBEAT: u64 = 20;

const GATEWAY: Place = Place::first(Who::Gateway(0));

fn slave_place(id: u32) -> Place {
    Place::first(Who::Farm(id as u16))
}

fn scale() -> Scale {
    Scale::new(8, 8).expect("the bits are in range")
}

struct Rig {
    core: Core<Gateway>,
    now: Time,
    steps: u64,
    /// Records that came out, to or from each slave.
    out: Vec<u64>,
    /// The fraction of a record that each honest slave has to send or to get.
    owed: Vec<f64>,
    /// Records that the link of each port has room for.
    room: [i64; 2],
}

impl Rig {
    fn new(ports: u8) -> Self {
        let shards = ShardSet::new(scale(), &[Shard(0)]).expect("the shard exists");
        let sizes = Sizes { frames: 4096, chunk: 2048, mtus: [1500; 2], rx_ring: 256, tx_ring: 64, mailbox: 256 };
        let places: Vec<Place> = (0..ports).map(|port| Place { who: Who::Gateway(0), port }).collect();
        let core = Core::new(0, &places, sizes, None, |pool| Gateway::new(GatewayConfig::new(shards), pool).unwrap());
        let route = |place: Place, port: u8| {
            let mut peer = place.peer(Vlan::UNTAGGED);
            peer.port = frame::PortId(port);
            Some(Route { peer, mtu: 1500, fixed_port: false })
        };
        let master = RouteChange::Master { id: MASTER, route: route(Place::first(Who::Master(0)), 0) };
        assert!(core.commands.try_send(GatewayCommand::Route(master)).is_ok());
        for id in 0..=HONEST {
            let slave = scale().slave_id(id).expect("it is in range");
            let change = RouteChange::Slave { id: slave, route: route(slave_place(id), ports - 1) };
            assert!(core.commands.try_send(GatewayCommand::Route(change)).is_ok());
        }
        let mut rig = Self {
            core,
            now: 0,
            steps: 0,
            out: vec![0; HONEST as usize + 1],
            owed: vec![0.0; HONEST as usize],
            room: [0; 2],
        };
        rig.core.poll(0);
        rig
    }

    fn record(id: u32, number: u64) -> Vec<u8> {
        let header = RecordHeader::new(MsgType(0x8000), id, req_id(MASTER, number), PAYLOAD as u32);
        let mut bytes = vec![0; wire::HEADER_LEN + PAYLOAD];
        emit(&header, &[7; PAYLOAD], &mut bytes).expect("there is room");
        bytes
    }

    /// Datagrams of up to six records, from a slave or from the master.
    fn inject(&mut self, id: u32, records: usize, down: bool) {
        let from = if down { Place::first(Who::Master(0)) } else { slave_place(id) };
        let port = if down { 0 } else { self.core.lcore.ports().len() - 1 };
        let to = Place { port: port as u8, ..GATEWAY };
        let mut left = records;
        while left > 0 {
            let some = left.min(6);
            let payload: Vec<u8> = (0..some).flat_map(|_| Self::record(id, self.steps)).collect();
            let frame = packet::build(from, to, None, wire::GATEWAY_PORT, &payload);
            self.core.lcore.ports_mut()[port].inject(&frame);
            left -= some;
        }
    }

    /// One step: everybody sends, the lcore polls, the NIC takes what it can.
    fn step(&mut self, share: f64, greedy: usize, down: bool) {
        self.steps += 1;
        self.now += STEP;
        for id in 0..HONEST {
            self.owed[id as usize] += share;
            let whole = self.owed[id as usize] as usize;
            if whole > 0 {
                self.owed[id as usize] -= whole as f64;
                self.inject(id, whole, down);
            }
            // The greedy slave sends among the others, and not always behind them.
            if id == HONEST / 2 {
                self.inject(HONEST, greedy, down);
            }
        }
        if self.steps.is_multiple_of(HEARTBEAT) {
            let header = RecordHeader::new(MsgType::HEARTBEAT, 0, 0, 0);
            let mut bytes = vec![0; wire::HEADER_LEN];
            emit(&header, &[], &mut bytes).expect("there is room");
            let frame = packet::build(Place::first(Who::Stranger), GATEWAY, None, 5, &bytes);
            assert!(self.core.lcore.ports_mut()[0].inject(&frame), "a heartbeat has room");
        }
        self.core.poll(self.now);
        assert!(self.core.lcore.conservation().holds());
        for (port, room) in self.core.lcore.ports_mut().iter_mut().zip(&mut self.room) {
            *room = (*room + TAKEN).min(2 * TAKEN);
            while *room > 0
                && let Some(frame) = port.collect()
            {
                let read = packet::read(frame.data()).expect("what leaves is right");
                for item in Walk::new(packet::payload(frame.data(), &read), scale()) {
                    let (id, _) = item.expect("what leaves is records");
                    self.out[id.get() as usize] += 1;
                    *room -= 1;
                }
            }
        }
    }

    /// The records that left in `steps` steps: those of each honest slave, and those of the greedy one.
    fn run(&mut self, steps: u64, share: f64, greedy: usize, down: bool) -> (Vec<u64>, u64) {
        self.out.fill(0);
        for _ in 0..steps {
            self.step(share, greedy, down);
        }
        let (greedy, honest) = self.out.split_last().expect("there is one");
        (honest.to_vec(), *greedy)
    }
}

/// Checks that each honest slave that sends just its share has nine tenths of it, while another sends many times as
/// much as can leave.
fn keeps_its_share(down: bool, ports: u8) {
    let mut rig = Rig::new(ports);
    let leaves = TAKEN as f64;
    let share = leaves / f64::from(HONEST + 1);
    rig.run(2_000, share, FLOOD, down);
    let steps = 4_000;
    let (honest, greedy) = rig.run(steps, share, FLOOD, down);
    let due = share * steps as f64;
    let least = honest.iter().copied().min().expect("there are some") as f64;
    println!("down {down}, {ports} ports: {:.3} of the share at least, greedy {:.3}", least / due, greedy as f64 / due);
    assert!(least >= 0.9 * due, "a share is {due}: {honest:?}, and the greedy one had {greedy}");
    assert!(greedy as f64 >= 0.5 * due, "the greedy one has its share, too: {greedy} of {due}");

    let counters = rig.core.lcore.role().counters();
    let direction = if down { &counters.down } else { &counters.up };
    assert!(direction.dropped_fair_share.get() > 0);
    let heard = rig.core.lcore.counters().control_dropped_no_registrar.get();
    assert_eq!(heard, rig.steps / HEARTBEAT, "every heartbeat was heard");
    // A slave that is alone has the whole link: nothing is left unused.
    rig.run(2_000, 0.0, FLOOD, down);
    let (_, alone) = rig.run(1_000, 0.0, FLOOD, down);
    assert!(alone as f64 >= 0.95 * leaves * 1_000.0, "{alone}");
}

#[test]
fn slaves_keep_their_shares_beside_one_that_sends_flat_out() {
    keeps_its_share(false, 1);
}

#[test]
fn slaves_keep_their_shares_beside_one_that_is_sent_to_flat_out() {
    keeps_its_share(true, 1);
}

#[test]
fn a_port_that_is_contended_costs_the_other_port_nothing() {
    keeps_its_share(false, 2);
    // The upward direction is contended. Cargo for slaves leaves by the other port, and none of it is lost.
    let mut rig = Rig::new(2);
    rig.run(3_000, 0.0, FLOOD, false);
    let before = rig.core.lcore.role().counters().down.records_in.get();
    for _ in 0..1_000 {
        rig.inject(3, 2, true);
        rig.step(0.0, FLOOD, false);
    }
    let down = &rig.core.lcore.role().counters().down;
    assert_eq!((down.records_in.get() - before, down.dropped()), (2_000, 0));
    assert!(rig.core.lcore.outbox().counters().down.records_out.get() >= 1_990);
}
