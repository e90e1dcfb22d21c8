//! Link control ends at the gateway: it goes to the registrar untouched, and never disturbs the cargo around it.

use crate::support;

use frame::{Class, Datagram, Peer, Precedence};
use gateway::GatewayCommand;
use support::*;
use wire::MsgType;

fn heartbeat(slave: u32, number: u64) -> Vec<u8> {
    record(MsgType::HEARTBEAT, slave, 0, number, 100)
}

/// The datagrams that wait for the registrar with this precedence: the sender and the bytes of each.
fn waiting(rig: &mut Rig, precedence: Precedence) -> Vec<(Peer, Vec<u8>)> {
    let waiting = std::iter::from_fn(|| rig.out.next_control(precedence));
    let waiting = waiting.map(|Datagram { frame, peer, .. }| (peer, frame.data().to_vec())).collect();
    rig.check();
    waiting
}

/// The datagrams that wait for the registrar: the sender and the bytes of each.
fn for_registrar(rig: &mut Rig) -> Vec<(Peer, Vec<u8>)> {
    Precedence::ALL.into_iter().flat_map(|precedence| waiting(rig, precedence)).collect()
}

#[test]
fn link_control_goes_to_the_registrar_untouched() {
    for (kind, from) in
        [(MsgType::HEARTBEAT, slave(20)), (MsgType::HEARTBEAT_ACK, master(1)), (MsgType::MEMBERS, slave(63))]
    {
        let mut rig = Rig::with_nodes(config());
        let before = rig.counts();
        // A farm packs several into one datagram.
        let bytes: Vec<_> = (16..24).flat_map(|id| record(kind, id, 0, 7, 90)).collect();
        rig.receive_one(from, &bytes);
        let mut changed = vec![("flush.link_datagrams_in", 1), ("flush.link_records_in", 8)];
        // Only heartbeats keep a node registered. Slave 20 is registered, so its heartbeat does not count as a
        // stranger's.
        changed.extend((kind != MsgType::HEARTBEAT).then_some(("flush.link_strangers_in", 1)));
        rig.assert_changed(&before, &changed);
        assert_eq!(for_registrar(&mut rig), [(from, bytes)]);
        assert_eq!(rig.pool.in_use(), 0);
    }
}

#[test]
fn what_follows_link_control_in_its_datagram_is_the_registrars_too() {
    let mut rig = Rig::with_nodes(config());
    let before = rig.counts();
    let bytes = [heartbeat(20, 0), cargo(20, 1, 1, 5), vec![1, 2, 3]].concat();
    rig.receive_one(slave(20), &bytes);
    rig.assert_changed(&before, &[("flush.link_datagrams_in", 1), ("flush.link_records_in", 2)]);
    assert_eq!(for_registrar(&mut rig), [(slave(20), bytes)]);
}

#[test]
fn link_control_is_not_judged_by_routes_or_shards() {
    let mut rig = Rig::new(config(), pool(64));
    let bytes = [heartbeat(0, 0), heartbeat(63, 1)];
    rig.receive(&[(master(1), &bytes[0]), (slave(63), &bytes[1])]);
    assert_eq!(for_registrar(&mut rig), [(master(1), bytes[0].clone()), (slave(63), bytes[1].clone())]);
}

/// A burst in which datagram `n` is link control where bit `n` of `links` is set. The others are cargo for one slave,
/// for two slaves, or upward. After the burst each record is at its destination, in order.
fn mixed_burst(links: u64, datagrams: usize) {
    let mut rig = Rig::with_nodes(config());
    let mut burst = Vec::new();
    let (mut registrar, mut expected) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for number in 0..datagrams {
        let n = number as u64;
        let (from, bytes) = if links & (1 << number) != 0 {
            // Each node stays within its budget, so that all of them wait in one queue.
            let id = 22 + n as u32 % 26;
            let bytes = heartbeat(id, n);
            registrar.push((slave(id), bytes.clone()));
            (slave(id), bytes)
        } else if number % 3 == 0 {
            let bytes = [cargo(17, 1, n, number % 7), cargo(18, 1, n, number % 5)];
            expected[1].extend_from_slice(&bytes[0]);
            expected[2].extend_from_slice(&bytes[1]);
            (master(1), bytes.concat())
        } else if number % 3 == 1 {
            let bytes = cargo(21, 1, n, number % 9);
            expected[0].extend_from_slice(&bytes);
            (slave(21), bytes)
        } else {
            let bytes = cargo(17 + n as u32 % 2, 2, n, number % 11);
            expected[1 + number % 2].extend_from_slice(&bytes);
            (master(2), bytes)
        };
        burst.push(rig.datagram(from, &bytes, Arrival::default()).unwrap());
    }
    rig.receive_burst(burst);
    assert_eq!(for_registrar(&mut rig), registrar, "links {links:b}");
    rig.advance(HOLD);
    let mut got = [Vec::new(), Vec::new(), Vec::new()];
    for (to, bytes) in rig.sent_bytes() {
        let place = [master(1), slave(17), slave(18)].into_iter().position(|peer| peer == to);
        got[place.expect("nobody else was addressed")].extend(bytes);
    }
    assert_eq!(got, expected, "links {links:b}");
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn every_mixture_of_link_control_and_cargo_in_a_small_burst() {
    for links in 0..1 << 7 {
        mixed_burst(links, 7);
    }
}

#[test]
fn mixtures_in_full_bursts() {
    let patterns = [1, 1 << 63, u64::MAX >> 1, u64::MAX - 1, u64::MAX, 0xaaaa_aaaa_aaaa_aaaa, 0x5555_5555_5555_5555];
    for links in patterns.into_iter().chain([0xffff_ffff_0000_0000, 0xffff_ffff, 0x8000_0001_0001_8000]) {
        mixed_burst(links, 64);
    }
}

#[test]
fn bad_and_empty_datagrams_between_link_control_and_cargo() {
    let mut rig = Rig::with_nodes(config());
    let (link, good) = (heartbeat(20, 0), cargo(17, 1, 1, 5));
    rig.receive(&[
        (slave(20), b"".as_slice()),
        (slave(20), link.as_slice()),
        (master(1), b"bad".as_slice()),
        (master(1), good.as_slice()),
        (slave(20), link.as_slice()),
    ]);
    assert_eq!(for_registrar(&mut rig), [(slave(20), link.clone()), (slave(20), link)]);
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), good)]);
    assert_eq!((rig.counts()["flush.empty_datagrams"], rig.counts()["down.dropped_truncated"]), (1, 1));
}

#[test]
fn cargo_beside_link_control_is_forwarded_whole_and_adopted_as_ever() {
    let mut rig = Rig::with_nodes(config());
    let large = cargo(17, 1, 0, LIMIT - wire::HEADER_LEN);
    let frames = rig.receive(&[
        (slave(20), &heartbeat(20, 0)),
        (master(1), &large),
        (slave(20), &heartbeat(20, 1)),
        (master(1), &cargo(18, 1, 1, 5)),
    ]);
    rig.advance(HOLD);
    let sent: Vec<_> = rig.sent().into_iter().map(|sent| (sent.to, sent.frame)).collect();
    assert_eq!(sent, [(slave(17), frames[1]), (slave(18), frames[3])]);
}

#[test]
fn an_answer_leaves_as_link_control_before_cargo() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, LIMIT - wire::HEADER_LEN));
    assert_eq!(rig.out.frames(), 1, "cargo waits for the port already");
    let before = rig.counts();
    let answer = [record(MsgType::HEARTBEAT_ACK, 17, 0, 1, 60), record(MsgType::HEARTBEAT_ACK, 18, 0, 2, 60)].concat();
    rig.command(GatewayCommand::Reply { peer: slave(17), bytes: answer.clone().into() });
    let sent = rig.sent();
    let seen: Vec<_> = sent.iter().map(|sent| (sent.to, sent.class, sent.records, sent.ce)).collect();
    assert_eq!(seen, [(slave(17), Class::Link, 2, false), (slave(17), Class::Down, 1, false)]);
    assert_eq!(sent[0].bytes, answer);
    let difference = |name: &str| rig.counts()[name] - before[name];
    assert_eq!((difference("tx.link_datagrams_out"), difference("tx.link_records_out")), (1, 2));
    assert_eq!((difference("tx.down_records_out"), difference("down.records_in")), (1, 0));
}

#[test]
fn an_answer_needs_no_route_and_does_not_wait_for_the_hold() {
    let mut rig = Rig::new(config(), pool(64));
    let answer = record(MsgType::HEARTBEAT_ACK, 0, 0, 1, 60);
    rig.command(GatewayCommand::Reply { peer: master(3), bytes: answer.clone().into() });
    assert_eq!(rig.sent_bytes(), [(master(3), answer)]);
}

#[test]
fn an_answer_leaves_from_the_reserve_when_cargo_took_all_else() {
    let reserved = frame::PoolConfig { reserve: 8, ..pool(64) };
    let mut rig = Rig::new(config(), reserved);
    rig.lent.extend(std::iter::from_fn(|| rig.pool.alloc()));
    assert_eq!(rig.pool.free(), 8);
    let answer = record(MsgType::HEARTBEAT_ACK, 0, 0, 1, 60);
    for _ in 0..8 {
        rig.command(GatewayCommand::Reply { peer: master(1), bytes: answer.clone().into() });
    }
    assert_eq!(rig.counts()["flush.link_dropped_no_frame"], 0);
    rig.command(GatewayCommand::Reply { peer: master(1), bytes: answer.into() });
    assert_eq!(rig.counts()["flush.link_dropped_no_frame"], 1);
    assert_eq!(rig.sent().len(), 8);
}

#[test]
fn an_answer_that_no_frame_holds_is_dropped_by_name() {
    let mut rig = Rig::new(config(), pool(64));
    rig.command(GatewayCommand::Reply { peer: master(1), bytes: vec![0; 4096].into() });
    rig.assert_changed(&Rig::new(config(), pool(64)).counts(), &[("flush.link_dropped_no_frame", 1)]);
    assert_eq!((rig.sent(), rig.pool.in_use()), (vec![], 0));
}

#[test]
fn a_registrar_that_does_not_come_costs_a_bounded_number_of_frames() {
    let mut rig = Rig::new(config(), pool(1024));
    // First without a registered node.
    let strangers = Precedence::Stranger.backlog(1024) as u64;
    for number in 0..strangers + 10 {
        rig.receive_one(slave(20), &heartbeat(20, number));
    }
    assert_eq!(rig.counts()["tx.link_dropped_stranger"], 10);
    assert_eq!(u64::from(rig.pool.in_use()), strangers);
    let expected: Vec<_> = (0..strangers).map(|number| (slave(20), heartbeat(20, number))).collect();
    assert_eq!(for_registrar(&mut rig), expected);

    // Then with one node: its budget, and a little beyond it.
    let mut rig = Rig::with_nodes(config());
    let excess = Precedence::Excess.backlog(256) as u64;
    for number in 0..BURST + excess + 10 {
        rig.receive_one(slave(20), &heartbeat(20, number));
    }
    let counts = rig.counts();
    assert_eq!((counts["tx.link_dropped_excess"], counts["tx.link_dropped_mailbox_full"]), (10, 0));
    assert_eq!((counts["flush.link_excess_in"], counts["flush.link_strangers_in"]), (excess + 10, 0));
    assert_eq!(u64::from(rig.pool.in_use()), BURST + excess);
    let expected: Vec<_> = (0..BURST + excess).map(|number| (slave(20), heartbeat(20, number))).collect();
    assert_eq!(for_registrar(&mut rig), expected);
}

/// Heartbeats that a slave may send at once.
const BURST: u64 = 8;

fn heartbeat_of_master(master: u16, number: u64) -> Vec<u8> {
    let mut bytes = record(MsgType::HEARTBEAT, 0, master, 0, 100);
    bytes[wire::HEADER_LEN] = number as u8;
    bytes
}

#[test]
fn who_is_registered_goes_first_and_by_its_address() {
    let mut rig = Rig::with_nodes(config());
    let bytes = [heartbeat(20, 0), heartbeat(20, 0), heartbeat_of_master(1, 0), heartbeat_of_master(1, 0)];
    rig.receive(&[(slave(20), &bytes[0]), (slave(21), &bytes[1]), (master(1), &bytes[2]), (master(2), &bytes[3])]);
    let members = [(slave(20), bytes[0].clone()), (master(1), bytes[2].clone())];
    assert_eq!(waiting(&mut rig, Precedence::Member), members);
    let strangers = [(slave(21), bytes[1].clone()), (master(2), bytes[3].clone())];
    assert_eq!(waiting(&mut rig, Precedence::Stranger), strangers);
    assert_eq!(rig.counts()["flush.link_strangers_in"], 2);
    // Only heartbeats keep a node registered.
    let other = record(MsgType::MEMBERS, 20, 0, 0, 100);
    rig.receive_one(slave(20), &other);
    assert_eq!(waiting(&mut rig, Precedence::Stranger), [(slave(20), other)]);
}

#[test]
fn a_flood_of_one_node_spends_nobody_elses_budget() {
    let mut rig = Rig::with_nodes(config());
    for number in 0..100 {
        rig.receive_one(slave(20), &heartbeat(20, number));
        rig.receive_one(master(1), &heartbeat_of_master(1, number));
    }
    assert_eq!(waiting(&mut rig, Precedence::Member).len() as u64, BURST + 16);
    rig.receive(&[(slave(21), &heartbeat(21, 0)), (master(2), &heartbeat_of_master(2, 0))]);
    assert_eq!(waiting(&mut rig, Precedence::Member).len(), 2);
}

#[test]
fn a_farm_goes_first_while_one_of_its_slaves_has_something_left() {
    let mut rig = Rig::with_nodes(config());
    let at = slave(20);
    for id in 20..23 {
        rig.set_slave(id, Some(route(at, MTU)));
    }
    // Each heartbeat costs its own slave; slave 40 is registered elsewhere, which costs nobody.
    let pair = [heartbeat(20, 0), heartbeat(21, 0), heartbeat(40, 0)].concat();
    for _ in 0..BURST {
        rig.receive_one(at, &pair);
    }
    assert_eq!(waiting(&mut rig, Precedence::Member).len() as u64, BURST);
    rig.receive_one(at, &pair);
    assert_eq!(waiting(&mut rig, Precedence::Excess), [(at, pair.clone())]);
    let farm = [pair, heartbeat(22, 0)].concat();
    rig.receive_one(at, &farm);
    assert_eq!(waiting(&mut rig, Precedence::Member), [(at, farm)]);
    rig.receive_one(slave(40), &heartbeat(40, 0));
    assert_eq!(waiting(&mut rig, Precedence::Member).len(), 1);
}

#[test]
fn a_budget_fills_again_and_belongs_to_the_node_wherever_it_is() {
    let mut rig = Rig::with_nodes(config());
    let elsewhere = but(slave(20), |peer| *peer = slave(47));
    for number in 0..BURST + 3 {
        rig.receive_one(slave(20), &heartbeat(20, number));
    }
    rig.set_slave(20, Some(route(elsewhere, MTU)));
    rig.receive_one(elsewhere, &heartbeat(20, 99));
    assert_eq!(waiting(&mut rig, Precedence::Member).len() as u64, BURST);
    assert_eq!(waiting(&mut rig, Precedence::Excess).len(), 4);
    // A budget gets four heartbeats in each interval.
    rig.advance(config().interval);
    for number in 0..BURST {
        rig.receive_one(elsewhere, &heartbeat(20, number));
    }
    assert_eq!(waiting(&mut rig, Precedence::Member).len(), 4);
    // At an address where it is not registered any more it is a stranger.
    rig.receive_one(slave(20), &heartbeat(20, 0));
    assert_eq!(waiting(&mut rig, Precedence::Stranger).len(), 1);
}

#[test]
fn link_control_counts_as_traffic_for_early_flush_but_never_waits() {
    use frame::Role;
    let mut rig = Rig::with_nodes(gateway::GatewayConfig { early: true, ..config() });
    rig.receive_one(slave(20), &heartbeat(20, 0));
    assert_eq!((rig.gateway.deadline(), rig.gateway.frames_held()), (None, 0));
    rig.receive_one(master(1), &cargo(17, 1, 0, 5));
    rig.advance(HOLD / 4 - 1);
    rig.receive_one(slave(20), &heartbeat(20, 1));
    assert_eq!(rig.gateway.deadline(), Some(START + 2 * (HOLD / 4) - 1));
    for_registrar(&mut rig);
}
