//! Tests of the ledger itself: it must find each kind of fault that it is made for.

use frame::Vlan;
use frame::time::MICROSECOND;
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use link::{Route, RouteChange};
use sim::core::{Core, Sizes};
use sim::ledger::Ledger;
use sim::packet;
use sim::place::{Place, Who};
use sim::plan::Plan;
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, MsgType, ShardSet, echo};

const MASTER: Place = Place::first(Who::Master(0));
const GATEWAY: Place = Place::first(Who::Gateway(0));

/// One gateway lcore between a master and a farm, with its account.
struct Rig {
    plan: Plan,
    core: Core<Gateway>,
    ledger: Ledger,
    slave: u32,
    farm: Place,
}

impl Rig {
    fn new() -> Self {
        let mut plan = Plan::of_seed(1);
        plan.faults.duplicate = 0;
        let slave = (0..plan.scale.slaves()).find(|&id| plan.farm_of(id).is_some()).unwrap();
        let farm_number = plan.farm_of(slave).unwrap();
        plan.farms[usize::from(farm_number)].vlan = None;
        plan.farms[usize::from(farm_number)].mtu = 1500;
        let farm = Place::first(Who::Farm(farm_number));
        let sizes = Sizes { frames: 256, chunk: 2048, mtus: [1500; 2], rx_ring: 64, tx_ring: 64, mailbox: 64 };
        let config = GatewayConfig { early: false, ..GatewayConfig::new(ShardSet::all(plan.scale)) };
        let mut core = Core::new(0, &[GATEWAY], sizes, None, |pool| Gateway::new(config, pool).unwrap());
        let route = |place: Place| Some(Route { peer: place.peer(Vlan::UNTAGGED), mtu: 1500, fixed_port: false });
        let id = plan.scale.slave_id(slave).unwrap();
        for change in
            [RouteChange::Master { id: 1, route: route(MASTER) }, RouteChange::Slave { id, route: route(farm) }]
        {
            assert!(core.commands.try_send(GatewayCommand::Route(change)).is_ok());
        }
        core.lcore.poll_once(0);
        let ledger = Ledger::new(GATEWAY.who, &core.lcore, &plan);
        Self { plan, core, ledger, slave, farm }
    }

    fn record(&self, sequence: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN + 64];
        let header = RecordHeader::new(MsgType::PATTERN, self.slave, req_id(1, 9), 64);
        echo::emit(&header, &echo::EchoHeader::new(5, sequence), &mut bytes).unwrap();
        bytes
    }

    fn receive(&mut self, from: Place, payload: &[u8], broken: bool) {
        let frame = packet::build(from, GATEWAY, None, 9999, payload);
        let taken = self.core.lcore.ports_mut()[0].inject(&frame);
        self.ledger.arrived(0, frame, broken, taken);
    }

    /// Lets the records 0 to 2 pass. Returns the datagram that left.
    fn pass(&mut self) -> Vec<u8> {
        for sequence in 0..3 {
            let record = self.record(sequence);
            self.receive(MASTER, &record, false);
        }
        self.core.lcore.poll_once(1_000);
        self.ledger.polled(&self.core.lcore, &self.plan).unwrap();
        self.core.lcore.poll_once(60 * MICROSECOND);
        self.ledger.polled(&self.core.lcore, &self.plan).unwrap();
        let (_, frame) = self.core.collect().unwrap();
        assert!(self.core.collect().is_none());
        frame
    }

    fn sent(&self, to: Place, records: &[Vec<u8>]) -> Vec<u8> {
        packet::build(GATEWAY, to, None, wire::lane_port(self.slave as u16), &records.concat())
    }

    fn finds(&mut self, frame: &[u8], what: &str) {
        let wrong = self.ledger.left(0, frame, &self.plan).unwrap_err();
        assert!(wrong.contains(what), "{wrong}");
    }
}

#[test]
fn what_is_right_balances() {
    let mut rig = Rig::new();
    let frame = rig.pass();
    assert_eq!(frame, rig.sent(rig.farm, &[rig.record(0), rig.record(1), rig.record(2)]));
    rig.ledger.left(0, &frame, &rig.plan).unwrap();
    rig.ledger.polled(&rig.core.lcore, &rig.plan).unwrap();
    let sums = rig.ledger.close(&rig.core.lcore).unwrap();
    assert_eq!((sums.records, sums.left, sums.datagrams, sums.dropped, sums.crashed), (3, 3, 1, 0, 0));
}

#[test]
fn what_is_held_at_the_end_is_counted_as_crashed() {
    let mut rig = Rig::new();
    let record = rig.record(0);
    rig.receive(MASTER, &record, false);
    rig.core.lcore.poll_once(1_000);
    rig.ledger.polled(&rig.core.lcore, &rig.plan).unwrap();
    rig.receive(MASTER, &record, false);
    let sums = rig.ledger.close(&rig.core.lcore).unwrap();
    assert_eq!((sums.records, sums.left, sums.crashed, sums.left_in_ring), (1, 0, 1, 1));
}

#[test]
fn what_left_twice_changed_reordered_or_invented_is_found() {
    let twice = |rig: &mut Rig, frame: &[u8]| {
        rig.ledger.left(0, frame, &rig.plan).unwrap();
        rig.finds(frame, "did not come in, or twice, or out of order");
    };
    let mut rig = Rig::new();
    let frame = rig.pass();
    twice(&mut rig, &frame);

    let mut rig = Rig::new();
    rig.pass();
    let mut changed = rig.record(1);
    changed[60] ^= 1;
    let frame = rig.sent(rig.farm, &[rig.record(0), changed]);
    rig.finds(&frame, "did not come in");

    let mut rig = Rig::new();
    rig.pass();
    let frame = rig.sent(rig.farm, &[rig.record(1), rig.record(0)]);
    rig.finds(&frame, "out of order");

    let mut rig = Rig::new();
    rig.pass();
    let frame = rig.sent(rig.farm, &[rig.record(7)]);
    rig.finds(&frame, "did not come in");
}

#[test]
fn what_left_to_a_wrong_place_is_found() {
    let mut rig = Rig::new();
    rig.pass();
    let frame = rig.sent(MASTER, &[rig.record(0)]);
    rig.plan.masters[0].vlan = None;
    rig.plan.masters[0].mtu = 1500;
    rig.finds(&frame, "did not come in");
    let mut frame = rig.sent(rig.farm, &[rig.record(0)]);
    let last = frame.len() - 1;
    frame[last] ^= 1;
    rig.finds(&frame, "wrong headers or checksums");
    rig.plan.farms.iter_mut().for_each(|farm| farm.mtu = 100);
    let frame = rig.sent(rig.farm, &[rig.record(0)]);
    rig.finds(&frame, "takes packets of 100");
}

#[test]
fn a_frame_that_left_unseen_is_found() {
    let mut rig = Rig::new();
    rig.pass();
    let wrong = rig.ledger.polled(&rig.core.lcore, &rig.plan).unwrap_err();
    assert!(wrong.contains("the rings do not have the frames"), "{wrong}");
}

#[test]
fn a_broken_frame_that_a_port_lets_pass_is_found() {
    let mut rig = Rig::new();
    let record = rig.record(3);
    rig.receive(MASTER, &record, true);
    rig.core.lcore.poll_once(1_000);
    let wrong = rig.ledger.polled(&rig.core.lcore, &rig.plan).unwrap_err();
    assert!(wrong.contains("counted (1, 0, 0), came (0, 0, 0)"), "{wrong}");
}
