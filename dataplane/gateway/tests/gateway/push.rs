//! PUSH: what waits for a destination leaves behind a record for which somebody waits, and who may have that how often.

use crate::support;

use frame::time::{FOREVER, MICROSECOND, MILLISECOND, SECOND};
use frame::{Class, Datagram, PortId, Role};
use gateway::GatewayConfig;
use gateway::push::{MASTER_TIMES, MOST};
use support::*;

/// Nothing leaves but what is pushed or full, and nobody's budget ends.
fn waiting() -> GatewayConfig {
    GatewayConfig { hold: FOREVER, push_rate: MOST, ..config() }
}

#[test]
fn what_waits_leaves_in_the_same_poll_behind_nothing_and_in_order() {
    let mut rig = Rig::with_nodes(waiting());
    let records = [cargo(17, 1, 0, 10), cargo(17, 2, 1, 20), pushing(cargo(17, 1, 2, 30))];
    rig.receive(&[(master(1), &records[0]), (master(1), &cargo(18, 1, 9, 10)), (master(2), &records[1])]);
    assert_eq!((rig.sent(), rig.held()), (vec![], (3, 0)));
    let before = rig.counts();
    rig.receive_one(master(1), &records[2]);
    let bytes = records.concat();
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].to, sent[0].records, &sent[0].bytes), (1, slave(17), 3, &bytes));
    assert_eq!(rig.held(), (1, 0), "nobody waits for the record of another slave");
    rig.assert_changed(
        &before,
        &[
            ("down.datagrams_in", 1),
            ("down.records_in", 1),
            ("down.bytes_in", 53),
            ("down.held", -2),
            ("flush.flush_push", 1),
            ("tx.down_datagrams_out", 1),
            ("tx.down_records_out", 3),
            ("tx.down_bytes_out", bytes.len() as i64),
        ],
    );
}

#[test]
fn the_lcore_does_not_stay_away_from_who_waits() {
    let mut rig = Rig::with_nodes(config());
    for (wait, longest) in [(0, 0), (MILLISECOND - 1, 0), (1, HOLD)] {
        if wait == 0 {
            rig.receive_one(master(1), &pushing(cargo(17, 1, 0, 10)));
        }
        rig.now += wait;
        rig.receive_one(master(1), &cargo(18, 1, 1, 10));
        assert_eq!(rig.gateway.may_stay_away(), longest);
    }
    // In a datagram of many records it is the same.
    rig.receive_one(master(1), &[cargo(18, 1, 2, 10), pushing(cargo(17, 1, 3, 10))].concat());
    assert_eq!(rig.gateway.may_stay_away(), 0);
    // Where PUSH has no effect, nobody waits.
    let mut rig = Rig::with_nodes(GatewayConfig { push_rate: 0, ..config() });
    rig.receive_one(master(1), &pushing(cargo(17, 1, 0, 10)));
    assert_eq!(rig.gateway.may_stay_away(), HOLD);
}

#[test]
fn to_masters_it_is_the_same() {
    let mut rig = Rig::with_nodes(waiting());
    let records = [cargo(20, 1, 0, 10), cargo(21, 1, 1, 20), pushing(cargo(22, 1, 2, 30))];
    rig.receive(&[(slave(20), &records[0]), (slave(20), &cargo(20, 2, 5, 10)), (slave(21), &records[1])]);
    assert_eq!(rig.sent(), []);
    rig.receive_one(slave(22), &records[2]);
    assert_eq!(rig.sent_bytes(), [(master(1), records.concat())]);
    assert_eq!((rig.held(), rig.counts()["flush.flush_push"]), ((0, 1), 1));
}

#[test]
fn what_came_in_the_same_burst_shares_the_datagram_of_one_flush() {
    for down in [true, false] {
        let mut rig = Rig::with_nodes(waiting());
        let from = if down { master(1) } else { slave(17) };
        let records: Vec<_> = (0..6).map(|number| cargo(17, 1, number, 10)).collect();
        let pushed = |at: usize| if at == 1 || at == 3 { pushing(records[at].clone()) } else { records[at].clone() };
        let records: Vec<_> = (0..6).map(pushed).collect();
        let burst: Vec<_> = records.iter().map(|record| (from, &record[..])).collect();
        rig.receive(&burst);
        let to = if down { slave(17) } else { master(1) };
        assert_eq!(rig.sent_bytes(), [(to, records.concat())]);
        assert_eq!(rig.counts()["flush.flush_push"], 1);
    }
}

#[test]
fn in_a_datagram_of_many_records_each_destination_with_push_is_flushed() {
    let mut rig = Rig::with_nodes(waiting());
    let parts = [
        cargo(17, 1, 0, 10),
        pushing(cargo(17, 1, 1, 10)),
        cargo(17, 1, 2, 10),
        cargo(18, 1, 3, 10),
        pushing(cargo(19, 1, 4, 10)),
    ];
    rig.receive_one(master(1), &parts.concat());
    assert_eq!(rig.sent_bytes(), [(slave(17), parts[..3].concat()), (slave(19), parts[4].clone())]);
    assert_eq!((rig.held(), rig.counts()["flush.flush_push"]), ((1, 0), 2));
    // A datagram of one destination alone, which would become the buffer.
    rig.receive_one(master(1), &[cargo(20, 1, 5, 10), pushing(cargo(20, 1, 6, 10))].concat());
    assert_eq!(rig.sent_bytes().len(), 1);
    // One that leaves unchanged has nothing left to flush.
    let full = pushing(cargo(21, 1, 7, LIMIT - 23));
    rig.receive_one(master(1), &full);
    assert_eq!(rig.sent_bytes(), [(slave(21), full)]);
    assert_eq!(rig.counts()["flush.flush_push"], 3);
}

#[test]
fn a_record_that_is_dropped_pushes_nothing_and_costs_nobody_a_budget() {
    // Four at once, and then one in a tenth of a second.
    let mut rig = Rig::with_nodes(GatewayConfig { push_rate: 10, ..waiting() });
    rig.receive_one(slave(18), &cargo(18, 1, 0, 10));
    let spoofed = pushing(cargo(17, 1, 1, 10));
    for _ in 0..20 {
        rig.receive_one(slave(18), &spoofed);
    }
    assert_eq!((rig.sent(), rig.counts()["up.dropped_spoofed"], rig.counts()["up.push_ignored"]), (vec![], 20, 0));
    for number in 0..4 {
        rig.receive_one(slave(17), &pushing(cargo(17, 1, number, 10)));
        assert_eq!(rig.sent().len(), 1, "{number}: the budget is still there");
    }
    // Nor is PUSH of heartbeats anything.
    rig.receive_one(slave(17), &pushing(record(wire::MsgType::HEARTBEAT, 17, 0, 0, 10)));
    assert_eq!(rig.counts()["flush.flush_push"], 4);
}

#[test]
fn each_slave_has_a_budget_of_its_own_and_beyond_it_records_wait_as_others_do() {
    let mut rig = Rig::with_nodes(GatewayConfig { push_rate: 10, ..waiting() });
    let mut number = 0;
    let mut pushes = |rig: &mut Rig, id: u32, times: usize| {
        let flushed = |rig: &Rig| rig.counts()["flush.flush_push"];
        let before = flushed(rig);
        for _ in 0..times {
            number += 1;
            rig.receive_one(slave(id), &pushing(cargo(id, 1, number, 10)));
        }
        (flushed(rig) - before, rig.held().1)
    };
    assert_eq!(pushes(&mut rig, 17, 10), (4, 6));
    assert_eq!(rig.counts()["up.push_ignored"], 6);
    assert_eq!(pushes(&mut rig, 18, 1), (1, 0), "another slave's PUSH takes along what waits");
    rig.now += SECOND / 10;
    assert_eq!(pushes(&mut rig, 17, 3), (1, 2));
    rig.now += 10 * SECOND;
    assert_eq!(pushes(&mut rig, 17, 10), (4, 6), "no more is saved");
    assert_eq!(rig.counts()["down.push_ignored"], 0);
}

#[test]
fn a_master_has_sixteen_times_the_budget_of_a_slave() {
    let mut rig = Rig::with_nodes(GatewayConfig { push_rate: 1000, ..waiting() });
    // A bucket holds what it gets in 4 ms.
    for number in 0..100 {
        rig.receive_one(master(1), &pushing(cargo(17, 1, number, 10)));
    }
    assert_eq!(rig.counts()["flush.flush_push"], u64::from(4 * MASTER_TIMES));
    assert_eq!(rig.counts()["down.push_ignored"], 100 - u64::from(4 * MASTER_TIMES));
    rig.receive_one(master(2), &pushing(cargo(17, 2, 0, 10)));
    assert_eq!((rig.held(), rig.counts()["flush.flush_push"]), ((0, 0), u64::from(4 * MASTER_TIMES) + 1));
}

#[test]
fn a_budget_of_nothing_turns_push_off() {
    let mut rig = Rig::with_nodes(GatewayConfig { push_rate: 0, ..config() });
    rig.receive_one(slave(17), &pushing(cargo(17, 1, 0, 10)));
    rig.receive_one(master(1), &pushing(cargo(17, 1, 0, 10)));
    assert_eq!((rig.sent(), rig.held()), (vec![], (1, 1)));
    assert_eq!((rig.counts()["up.push_ignored"], rig.counts()["down.push_ignored"]), (1, 1));
    rig.advance(HOLD);
    assert_eq!(rig.sent().len(), 2);
}

/// The records of 31 slaves to one master over a tenth of a second, each poll one of them, and in between one slave
/// that sends a record with PUSH every 2 us, or the same records without. Returns datagrams to the master, and records.
fn beside_one_that_pushes(push: bool) -> (usize, u64) {
    let mut rig = Rig::with_nodes(GatewayConfig { hold: 50 * MICROSECOND, ..GatewayConfig::new(config().shards) });
    let mut datagrams = 0;
    let until = rig.now + SECOND / 10;
    let mut number = 0;
    while rig.now < until {
        number += 1;
        let (honest, greedy) = (cargo(16 + (number % 31) as u32, 1, number, 64), cargo(47, 1, number, 64));
        rig.receive_one(slave(16 + (number % 31) as u32), &honest);
        rig.receive_one(slave(47), &if push { pushing(greedy) } else { greedy });
        rig.advance(2 * MICROSECOND);
        datagrams += rig.sent().len();
    }
    (datagrams, rig.counts()["tx.up_records_out"])
}

/// What a slave can do: send a record with PUSH as often as it likes. It cannot undo the aggregation of the others.
#[test]
fn a_slave_that_pushes_all_it_sends_costs_a_master_as_many_datagrams_as_its_budget() {
    let ((without, _), (with, records)) = (beside_one_that_pushes(false), beside_one_that_pushes(true));
    let budget = gateway::config::PUSH_RATE as usize / 10;
    let at_once = gateway::config::PUSH_RATE as usize / 250;
    assert!(with > without, "{with} datagrams with PUSH, {without} without");
    assert!(with <= without + budget + at_once, "{with} datagrams with PUSH, {without} without");
    assert!(records > 90_000, "{records}");
}

/// Fills port 1 until it is contended.
fn contend(rig: &mut Rig) {
    let mut number = 0;
    while !rig.out.is_contended() {
        rig.receive_one(master(1), &cargo(18, 1, number, LIMIT - 23));
        number += 1;
    }
}

#[test]
fn push_has_no_effect_for_a_port_to_which_more_comes_than_it_sends() {
    let mut rig = Rig::with_nodes(waiting());
    contend(&mut rig);
    rig.receive_one(master(1), &pushing(cargo(17, 1, 0, 10)));
    assert_eq!((rig.held(), rig.counts()["down.push_ignored"]), ((1, 0), 1));
    rig.receive_one(slave(20), &pushing(cargo(20, 1, 0, 10)));
    assert_eq!((rig.held(), rig.counts()["up.push_ignored"]), ((1, 0), 0), "the other port has room");
    assert_eq!(rig.sent_on(0).len(), 1);
    while !rig.sent_on(1).is_empty() {}
    rig.receive_one(master(1), &pushing(cargo(17, 1, 1, 10)));
    assert_eq!((rig.held(), rig.sent_on(1).len()), ((0, 0), 1));
}

/// The datagrams of a port that are marked, of all that leave now.
fn marks(rig: &mut Rig, port: u8) -> Vec<bool> {
    rig.sent_on(port).iter().map(|sent| sent.ce).collect()
}

#[test]
fn what_waits_behind_a_quarter_of_the_bound_is_marked_and_nothing_else() {
    let mut rig = Rig::with_nodes(waiting());
    // With 256 frames a port is contended with 64 datagrams of cargo that wait: the bound for a mark is 16.
    let push = |rig: &mut Rig, number: u64| rig.receive_one(master(1), &pushing(cargo(17, 1, number, 10)));
    for number in 0..40 {
        push(&mut rig, number);
    }
    rig.out.queue(PortId(1)).unwrap().rewind();
    push(&mut rig, 40);
    let counts = rig.counts();
    assert_eq!((counts["tx.down_ce_marked"], counts["tx.up_ce_marked"]), (1, 0));
    // The other port has room.
    rig.receive_one(slave(20), &pushing(cargo(20, 1, 0, 10)));
    assert_eq!(marks(&mut rig, 0), [false]);
    let queue = rig.out.queue(PortId(1)).unwrap();
    for number in 0..24 {
        assert!(!queue.take().unwrap().ce, "{number}: it was there before too many were");
    }
    queue.rewind();
    // 17 wait: one more than 16. One that leaves unchanged is marked, too.
    rig.receive_one(master(1), &cargo(19, 1, 0, LIMIT - 23));
    assert_eq!(rig.counts()["tx.down_ce_marked"], 2);
    let queue = rig.out.queue(PortId(1)).unwrap();
    assert!(queue.take().is_some() && queue.take().is_some());
    queue.rewind();
    push(&mut rig, 41);
    assert_eq!(rig.counts()["tx.down_ce_marked"], 2);
    let marked = marks(&mut rig, 1);
    assert_eq!(marked.iter().filter(|marked| **marked).count(), 2);
    assert_eq!(marked.last(), Some(&false));
}

#[test]
fn link_control_is_never_marked() {
    let mut rig = Rig::with_nodes(waiting());
    contend(&mut rig);
    rig.out.queue(PortId(1)).unwrap().rewind();
    let frame = rig.pool.alloc().unwrap();
    rig.out.send(Datagram::new(frame, slave(17), Class::Link, 1));
    assert!(!rig.out.queue(PortId(1)).unwrap().peek().unwrap().ce);
}
