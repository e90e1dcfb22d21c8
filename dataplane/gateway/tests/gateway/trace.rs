//! A trace reports for each record what the gateway did with it. A traced gateway does the same as any other.

use crate::support;

use frame::{Datagram, Peer, Precedence};
use gateway::trace::{Event, Fate, Trace, trace};
use gateway::{GatewayCommand, GatewayConfig};
use proptest::prelude::*;
use support::{
    Arrival, HOLD, LIMIT, MTU, Rig, START, Sent, but, cargo, cargoes, config, master, pool, pushing, record, route,
    slave, slave_id,
};
use wire::{HEADER_LEN, MsgType};

/// Traces the next records of a slave.
fn traced(rig: &mut Rig, id: u32, count: u32) -> Trace {
    let (tracers, trace) = trace(slave_id(id), count, 1);
    for tracer in tracers {
        rig.command(GatewayCommand::Trace(Box::new(tracer)));
    }
    trace
}

/// What happened since the last call.
fn events(trace: &mut Trace) -> Vec<Event> {
    std::iter::from_fn(|| trace.take()).collect()
}

/// Number, cause, time open, records, bytes and receiver of what left.
type Left = (u32, &'static str, u64, u16, usize, Option<Peer>);

/// The fates of the records that came, and the cause, records and bytes of each datagram that left.
#[derive(Debug, Default, PartialEq)]
struct Said {
    fates: Vec<Fate>,
    left: Vec<Left>,
}

fn said(trace: &mut Trace) -> Said {
    let mut said = Said::default();
    for event in events(trace) {
        match event {
            Event::Arrived { fate, .. } => said.fates.push(fate),
            Event::Left { number, cause, open, records, bytes, peer, .. } => {
                let peer = peer.map(support::without_source);
                said.left.push((number, cause, open, records, bytes, peer));
            }
        }
    }
    said
}

fn fates(trace: &mut Trace) -> Vec<Fate> {
    said(trace).fates
}

#[test]
fn a_record_that_waits_says_where_it_came_from_and_why_it_left() {
    let mut rig = Rig::with_nodes(config());
    let mut trace = traced(&mut rig, 17, 3);
    let two = [cargo(18, 1, 0, 9), cargo(17, 1, 42, 10)].concat();
    rig.receive_one(master(1), &two);
    let [Event::Arrived { number, time, lcore, peer, offset, datagram, msg_type, req_id, len, fate }] =
        events(&mut trace)[..]
    else {
        panic!("one record arrived")
    };
    assert_eq!((number, time, lcore, peer), (0, START, 0, master(1)));
    assert_eq!((offset, datagram, len), (HEADER_LEN + 9, two.len(), HEADER_LEN + 10));
    assert_eq!((msg_type, req_id), (0x8000, 1 << 48 | 42));
    assert_eq!(fate, Fate::Opened(1, 33));
    rig.advance(1000);
    rig.receive_one(master(2), &cargo(17, 2, 43, 20));
    rig.advance(HOLD - 1000);
    let peer = Some(slave(17));
    assert_eq!(
        said(&mut trace),
        Said {
            fates: vec![Fate::Appended(1000, 2, 33 + 43)],
            left: vec![(0, "hold", HOLD, 2, 76, peer), (1, "hold", HOLD, 2, 76, peer)]
        }
    );
    // The third record is the last one that is traced.
    rig.receive_one(master(1), &cargoes(17, 1, 0..5, 10));
    let left = said(&mut trace);
    assert_eq!(left.fates, [Fate::Adopted(5, 165)]);
    rig.command(GatewayCommand::Drain);
    rig.advance(0);
    assert_eq!(said(&mut trace).left, [(2, "drain", 0, 5, 165, peer)]);
}

#[test]
fn every_reason_to_leave_is_named() {
    let mut rig = Rig::with_nodes(GatewayConfig { early: true, ..config() });
    let mut trace = traced(&mut rig, 17, 100);
    let peer = Some(slave(17));
    // Full: the next record does not fit.
    rig.receive_one(master(1), &cargo(17, 1, 0, 700));
    rig.receive_one(master(1), &cargo(17, 1, 1, 800));
    let said_now = said(&mut trace);
    assert_eq!(said_now.fates, [Fate::Adopted(1, 723), Fate::Opened(1, 823)]);
    assert_eq!(said_now.left, [(0, "full", 0, 1, 723, peer)]);
    // Full: no further record fits.
    rig.receive_one(master(1), &[cargo(18, 1, 0, 1), cargo(17, 1, 2, LIMIT - 823 - 23 - 22)].concat());
    let said_now = said(&mut trace);
    assert_eq!(said_now.fates, [Fate::Appended(0, 2, LIMIT - 22)]);
    assert_eq!(said_now.left, [(1, "full", 0, 2, LIMIT - 22, peer), (2, "full", 0, 2, LIMIT - 22, peer)]);
    // Order: a record that fills a datagram alone goes behind the waiting records.
    rig.receive_one(master(1), &cargo(17, 1, 3, 10));
    rig.receive_one(master(1), &cargo(17, 1, 4, LIMIT - 23));
    let said_now = said(&mut trace);
    let Fate::Forwarded(1, LIMIT, to) = said_now.fates[1] else { panic!("{said_now:?}") };
    assert_eq!((support::without_source(to), said_now.left), (slave(17), vec![(3, "order", 0, 1, 33, peer)]));
    // Push: somebody waits for the one behind it.
    rig.receive_one(master(1), &cargo(17, 1, 7, 10));
    rig.receive_one(master(1), &pushing(cargo(17, 1, 8, 10)));
    let said_now = said(&mut trace);
    assert_eq!(said_now.fates, [Fate::Adopted(1, 33), Fate::Appended(0, 2, 66)]);
    assert_eq!(said_now.left, [(5, "push", 0, 2, 66, peer), (6, "push", 0, 2, 66, peer)]);
    // Early: nothing came for a quarter of the hold.
    rig.receive_one(master(1), &cargo(17, 1, 5, 10));
    rig.advance(HOLD / 4);
    assert_eq!(said(&mut trace).left, [(7, "early", HOLD / 4, 1, 33, peer)]);
    // The route is removed, and the waiting records are dropped.
    rig.receive_one(master(1), &cargo(17, 1, 6, 10));
    rig.set_slave(17, None);
    assert_eq!(said(&mut trace).left, [(8, "route_removed", 0, 1, 33, None)]);
    // A smaller MTU cuts the waiting records into new datagrams.
    rig.set_slave(17, Some(route(slave(17), MTU)));
    rig.receive_one(master(1), &cargoes(17, 1, 0..10, 100));
    rig.set_slave(17, Some(route(slave(17), 600)));
    let left: Vec<_> = said(&mut trace).left.into_iter().map(|(_, cause, ..)| cause).collect();
    assert_eq!(left, ["order"; 10]);
}

/// When a datagram does not fit behind the waiting records, its records are appended and reported one by one.
#[test]
fn each_record_of_a_datagram_that_is_split_has_its_own_fate() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 700));
    let mut trace = traced(&mut rig, 17, 100);
    rig.receive_one(master(1), &cargoes(17, 1, 1..4, 300));
    let said = said(&mut trace);
    let (first, record) = (723, 323);
    let fates =
        [Fate::Appended(0, 2, first + record), Fate::Appended(0, 3, first + 2 * record), Fate::Opened(1, record)];
    assert_eq!(said.fates, fates);
    assert_eq!(
        said.left.iter().map(|left| (left.0, left.1, left.3)).collect::<Vec<_>>(),
        [(0, "full", 3), (1, "full", 3)]
    );
}

#[test]
fn the_oldest_leave_for_room_and_without_a_frame_nothing_is_kept() {
    let mut rig = Rig::new(GatewayConfig { low_water: 8, ..config() }, pool(32));
    for id in 16..48 {
        rig.set_slave(id, Some(route(slave(id), MTU)));
    }
    rig.set_master(1, Some(route(master(1), MTU)));
    let mut trace = traced(&mut rig, 16, 10);
    rig.receive_one(master(1), &cargo(16, 1, 0, 10));
    assert_eq!(fates(&mut trace), [Fate::Adopted(1, 33)]);
    rig.lend_all_but(5);
    rig.receive_one(master(1), &cargo(17, 1, 1, 10));
    let said = said(&mut trace);
    assert_eq!(said.left.iter().map(|left| left.1).collect::<Vec<_>>(), ["room"]);
}

#[test]
fn every_refusal_has_its_counters_name() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(20, None);
    rig.set_slave(21, Some(route(slave(21), 600)));
    let refused = |rig: &mut Rig, id: u32, from: Peer, bytes: &[u8], expected: &str| {
        let mut trace = traced(rig, id, 1);
        let before = rig.counts();
        rig.receive_one(from, bytes);
        let dropped = rig.changed(&before).into_iter().any(|(name, _)| name.ends_with(&format!("dropped_{expected}")));
        assert!(dropped, "{expected} is what is counted: {:?}", rig.changed(&before));
        let said = fates(&mut trace);
        let [Fate::Dropped(reason)] = said[..] else { panic!("{expected}: {said:?}") };
        assert_eq!(reason.name(), expected);
    };
    let elsewhere = but(slave(17), |peer| peer.port = master(1).port);
    let mixed = [cargo(16, 1, 0, 3), cargo(32, 1, 1, 3)].concat();
    let both = [cargo(16, 1, 0, 3), record(MsgType::HEARTBEAT, 17, 0, 1, 3)].concat();
    let mut long = cargo(17, 1, 0, 3);
    long[18] = 4;
    refused(&mut rig, 20, master(1), &cargo(20, 1, 0, 3), "no_route");
    refused(&mut rig, 17, slave(17), &cargo(17, 9, 0, 3), "no_route");
    refused(&mut rig, 5, master(1), &cargo(5, 1, 0, 3), "foreign_shard");
    refused(&mut rig, 32, master(1), &mixed, "mixed_shards");
    refused(&mut rig, 17, master(1), &both, "mixed_link");
    refused(&mut rig, 17, elsewhere, &cargo(17, 1, 0, 3), "spoofed");
    refused(&mut rig, 20, slave(20), &cargo(20, 1, 0, 3), "unregistered_source");
    refused(&mut rig, 21, master(1), &cargo(21, 1, 0, 1000), "too_large");
    refused(&mut rig, 17, slave(17), &long, "bad_length");
    rig.lend_all_but(1);
    refused(&mut rig, 17, master(1), &[cargo(17, 1, 0, 3), b"x".to_vec()].concat(), "no_frame");
    // More waits than a port can send, and this slave has used up its share.
    rig.lent.clear();
    while !rig.out.is_contended() {
        rig.receive_one(master(1), &cargo(18, 1, 0, LIMIT - HEADER_LEN));
    }
    for _ in 0..=u16::MAX as usize / LIMIT {
        rig.receive_one(master(1), &cargo(17, 1, 0, LIMIT - HEADER_LEN));
    }
    refused(&mut rig, 17, master(1), &[cargo(17, 1, 0, LIMIT - 60), cargo(18, 1, 1, 9)].concat(), "fair_share");
}

#[test]
fn link_control_goes_to_the_registrar_and_others_records_are_not_said() {
    let mut rig = Rig::with_nodes(config());
    let mut trace = traced(&mut rig, 17, 2);
    rig.receive_one(master(1), &cargo(18, 1, 0, 3));
    assert_eq!(said(&mut trace), Said::default());
    rig.receive_one(slave(17), &record(MsgType::HEARTBEAT, 17, 0, 0, 84));
    assert_eq!(fates(&mut trace), [Fate::Registrar]);
    assert!(rig.out.next_control(Precedence::Member).is_some());
    // Upward, the buffer also has a record of another slave.
    rig.receive_one(slave(18), &cargo(18, 1, 0, 3));
    rig.receive_one(slave(17), &cargo(17, 1, 1, 3));
    rig.receive_one(slave(18), &cargo(18, 1, 2, 3));
    rig.advance(HOLD);
    let peer = Some(master(1));
    assert_eq!(
        said(&mut trace),
        Said { fates: vec![Fate::Appended(0, 2, 52)], left: vec![(1, "hold", HOLD, 3, 78, peer)] }
    );
    rig.receive_one(slave(17), &cargo(17, 1, 3, 3));
    assert_eq!(said(&mut trace), Said::default(), "as many as were asked for");
}

/// A record: its slave, the length of its payload, and whether it has PUSH.
type Part = (u32, usize, bool);

#[derive(Clone, Debug)]
enum Step {
    Burst(Vec<(bool, Vec<Part>)>),
    Wait(u64),
    Mtu(u32, u16),
    Gone(u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let record = (16u32..20, prop_oneof![0usize..60, 400usize..1449], prop::bool::weighted(0.1));
    let records = proptest::collection::vec(record, 1..8);
    let burst = proptest::collection::vec((any::<bool>(), records), 1..8);
    prop_oneof![
        6 => burst.prop_map(Step::Burst),
        3 => (0..HOLD).prop_map(Step::Wait),
        1 => (16u32..20, 600u16..1500).prop_map(|(id, mtu)| Step::Mtu(id, mtu)),
        1 => (16u32..20, any::<bool>()).prop_map(|(id, back)| Step::Gone(id, back)),
    ]
}

/// Runs the steps. Returns all that was sent, and the counters. Queued datagrams leave after each `every` steps.
fn play(rig: &mut Rig, steps: &[Step], every: usize) -> (Vec<Sent>, support::Counts) {
    let mut sent = Vec::new();
    let mut number = 0;
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Burst(datagrams) => {
                let mut burst: Vec<Datagram> = Vec::new();
                for (down, records) in datagrams {
                    let mut bytes = Vec::new();
                    for &(id, len, push) in records {
                        let record = cargo(id, 1, number, len);
                        let record = if push { pushing(record) } else { record };
                        number += 1;
                        if bytes.len() + record.len() <= LIMIT {
                            bytes.extend(record);
                        }
                    }
                    let from = if *down { master(1) } else { slave(records[0].0) };
                    burst.extend(rig.datagram(from, &bytes, Arrival::default()));
                }
                rig.receive_burst(burst);
            }
            Step::Wait(time) => rig.advance(*time),
            Step::Mtu(id, mtu) => rig.set_slave(*id, Some(route(slave(*id), *mtu))),
            Step::Gone(id, back) => {
                rig.set_slave(*id, None);
                if *back {
                    rig.set_slave(*id, Some(route(slave(*id), MTU)));
                }
            }
        }
        if at % every == 0 {
            sent.extend(rig.sent());
        }
    }
    rig.advance(HOLD);
    sent.extend(rig.sent());
    (sent, rig.counts())
}

proptest! {
    /// The same datagrams leave and the same is counted with and without a trace. The trace is complete: each record of
    /// the slave arrives once, and each waiting record leaves once.
    #[test]
    fn looking_changes_nothing_and_adds_up(steps in proptest::collection::vec(step(), 1..60), every in 1usize..60) {
        let config = GatewayConfig { early: true, low_water: 8, push_rate: 2000, ..config() };
        let (mut plain, mut looked) = (Rig::with_nodes(config.clone()), Rig::with_nodes(config));
        let mut trace = traced(&mut looked, 17, 10_000);
        let what = |sent: Vec<Sent>| sent.into_iter().map(|sent| (sent.to, sent.bytes)).collect::<Vec<_>>();
        let (plain, looked) = (play(&mut plain, &steps, every), play(&mut looked, &steps, every));
        prop_assert_eq!(what(plain.0), what(looked.0));
        prop_assert_eq!(plain.1, looked.1);
        let mut waits = std::collections::BTreeSet::new();
        let mut next = 0;
        for event in events(&mut trace) {
            match event {
                Event::Arrived { number, fate, .. } => {
                    prop_assert_eq!(number, next);
                    next += 1;
                    if matches!(fate, Fate::Opened(..) | Fate::Adopted(..) | Fate::Appended(..)) {
                        prop_assert!(waits.insert(number));
                    }
                }
                Event::Left { number, records, .. } => {
                    prop_assert!(waits.remove(&number));
                    prop_assert!(records > 0);
                }
            }
        }
        prop_assert!(waits.is_empty(), "the trace has no leaving of {waits:?}");
    }
}
