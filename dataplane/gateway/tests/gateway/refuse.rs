//! Refused records: each reason has its counter, nothing else changes, and the records before a refused one are served.
//!
//! Every step of the rig checks `records_in = out + held + queued + dropped` and that no frame is lost.

use crate::support;

use frame::time::FOREVER;
use frame::{Peer, PortId, Role, Vlan};
use gateway::GatewayConfig;
use link::Route;
use support::*;
use wire::{HEADER_LEN, MsgType, Scale, Shard, ShardSet};

/// Receives `[good, bad]` as one datagram. Asserts that `good` goes to `to`, and that `bad` changes exactly the
/// counters `reasons`. The datagram has `records` records.
#[track_caller]
fn refused_behind_a_good_record(
    from: Peer,
    direction: &str,
    to: Peer,
    good: &[u8],
    bad: &[u8],
    records: i64,
    reasons: &[(&str, i64)],
) {
    let mut rig = Rig::with_nodes(config());
    let before = rig.counts();
    rig.receive_one(from, &[good, bad].concat());
    let name = |counter: &str| format!("{direction}.{counter}");
    let mut expected = vec![
        (name("datagrams_in"), 1),
        (name("bytes_in"), (good.len() + bad.len()) as i64),
        (name("records_in"), records),
        (name("held"), 1),
    ];
    expected.extend(reasons.iter().map(|&(reason, by)| (name(reason), by)));
    let expected: Vec<_> = expected.iter().map(|(name, by)| (name.as_str(), *by)).collect();
    rig.assert_changed(&before, &expected);
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(to, good.to_vec())]);
}

/// As above, downward and upward.
#[track_caller]
fn bad_record(down: &[u8], up: &[u8], reason: &str) {
    let bad_bytes = |bad: &[u8]| [(reason.to_owned(), 1), ("bad_bytes".to_owned(), bad.len() as i64)];
    for (from, direction, to, good, bad) in [
        (master(1), "down", slave(17), cargo(17, 1, 0, 30), down),
        (slave(20), "up", master(1), cargo(20, 1, 0, 30), up),
    ] {
        let reasons = bad_bytes(bad);
        let reasons: Vec<_> = reasons.iter().map(|(name, by)| (name.as_str(), *by)).collect();
        refused_behind_a_good_record(from, direction, to, &good, bad, 2, &reasons);
    }
}

/// A datagram that consists of one record, all of which is refused.
#[track_caller]
fn all_refused(rig: &mut Rig, from: Peer, direction: &str, bytes: &[u8], reason: &str) {
    let before = rig.counts();
    let held = rig.gateway.frames_held();
    rig.receive_one(from, bytes);
    let name = |counter: &str| format!("{direction}.{counter}");
    let expected =
        [(name("datagrams_in"), 1), (name("bytes_in"), bytes.len() as i64), (name("records_in"), 1), (name(reason), 1)];
    let expected: Vec<_> = expected.iter().map(|(name, by)| (name.as_str(), *by)).collect();
    rig.assert_changed(&before, &expected);
    assert_eq!((rig.gateway.frames_held(), rig.out.frames()), (held, 0));
}

/// A record whose header was changed: `value` at `offset`.
fn changed(mut record: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
    record[offset..offset + value.len()].copy_from_slice(value);
    record
}

#[test]
fn truncated() {
    for len in [1, HEADER_LEN - 1] {
        bad_record(&cargo(18, 1, 1, 0)[..len], &cargo(20, 2, 1, 0)[..len], "dropped_truncated");
    }
}

#[test]
fn bad_magic() {
    let wrong = |record| changed(record, 0, b"GVMX");
    bad_record(&wrong(cargo(18, 1, 1, 5)), &wrong(cargo(20, 2, 1, 5)), "dropped_bad_magic");
}

#[test]
fn bad_length_by_one_byte_and_by_four_gigabytes() {
    for lie in [6_u32, u32::MAX, u32::MAX - HEADER_LEN as u32 + 1] {
        let lying = |record| changed(record, wire::record::offset::PAYLOAD_LEN, &lie.to_le_bytes());
        bad_record(&lying(cargo(18, 1, 1, 5)), &lying(cargo(20, 2, 1, 5)), "dropped_bad_length");
    }
}

#[test]
fn bad_slave_id() {
    for id in [64, u32::MAX] {
        bad_record(&cargo(id, 1, 1, 5), &cargo(id, 2, 1, 5), "dropped_bad_slave_id");
    }
}

#[test]
fn everything_behind_a_bad_record_is_dropped_with_it_as_one() {
    let bad = [changed(cargo(18, 1, 1, 5), 0, &[0]), cargo(18, 1, 2, 5), cargo(18, 1, 3, 5)].concat();
    bad_record(&bad, &bad, "dropped_bad_magic");
}

#[test]
fn a_datagram_that_begins_badly_is_on_the_account_of_who_sent_it() {
    let garbage = [0xee; 100];
    for (from, direction) in [(master(2), "down"), (slave(20), "up"), (slave(63), "up")] {
        let mut rig = Rig::with_nodes(config());
        let before = rig.counts();
        rig.receive_one(from, &garbage);
        let name = |counter: &str| format!("{direction}.{counter}");
        let expected = [("datagrams_in", 1), ("bytes_in", 100), ("records_in", 1), ("dropped_bad_magic", 1)];
        let mut expected: Vec<_> = expected.iter().map(|&(counter, by)| (name(counter), by)).collect();
        expected.push((name("bad_bytes"), 100));
        let expected: Vec<_> = expected.iter().map(|(name, by)| (name.as_str(), *by)).collect();
        rig.assert_changed(&before, &expected);
    }
}

#[test]
fn an_empty_datagram_counts_and_does_nothing() {
    let mut rig = Rig::with_nodes(config());
    let before = rig.counts();
    let good = cargo(17, 1, 0, 0);
    rig.receive(&[(slave(63), b"".as_slice()), (master(1), good.as_slice()), (master(1), b"".as_slice())]);
    rig.assert_changed(
        &before,
        &[
            ("flush.empty_datagrams", 2),
            ("down.datagrams_in", 1),
            ("down.records_in", 1),
            ("down.bytes_in", 23),
            ("down.held", 1),
        ],
    );
}

#[test]
fn foreign_shard() {
    // Shard 3 is another gateway's.
    let mut rig = Rig::with_nodes(config());
    all_refused(&mut rig, master(1), "down", &cargo(48, 1, 0, 5), "dropped_foreign_shard");
    all_refused(&mut rig, master(1), "down", &cargo(15, 1, 0, 5), "dropped_foreign_shard");
    all_refused(&mut rig, slave(48), "up", &cargo(48, 1, 0, 5), "dropped_foreign_shard");
    let (good, foreign) = (cargo(20, 1, 0, 5), cargo(48, 1, 1, 5));
    refused_behind_a_good_record(slave(20), "up", master(1), &good, &foreign, 2, &[("dropped_foreign_shard", 1)]);
}

#[test]
fn mixed_shards_are_judged_by_the_first_record() {
    let good = cargo(17, 1, 0, 5);
    // Shard 2 is served, and shard 3 is not. Neither of them is shard 1.
    let bad = [cargo(32, 1, 1, 5), cargo(48, 1, 2, 5)].concat();
    refused_behind_a_good_record(master(1), "down", slave(17), &good, &bad, 3, &[("dropped_mixed_shards", 2)]);
}

#[test]
fn a_record_of_the_first_shard_behind_one_of_another_is_served() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &[cargo(17, 1, 0, 5), cargo(32, 1, 1, 5), cargo(17, 1, 2, 5)].concat());
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), [cargo(17, 1, 0, 5), cargo(17, 1, 2, 5)].concat())]);
    assert_eq!(rig.counts()["down.dropped_mixed_shards"], 1);
}

#[test]
fn upward_records_of_several_shards_may_share_a_datagram() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(32, Some(route(slave(17), MTU)));
    let both = [cargo(17, 1, 0, 5), cargo(32, 1, 1, 5)].concat();
    rig.receive_one(slave(17), &both);
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(master(1), both)]);
}

#[test]
fn link_control_among_cargo() {
    for kind in [MsgType::HEARTBEAT, MsgType::HEARTBEAT_ACK, MsgType::MEMBERS] {
        let reasons = [("dropped_mixed_link", 1)];
        let (good, bad) = (cargo(17, 1, 0, 5), record(kind, 17, 1, 1, 50));
        refused_behind_a_good_record(master(1), "down", slave(17), &good, &bad, 2, &reasons);
        let (good, bad) = (cargo(20, 1, 0, 5), record(kind, 20, 1, 1, 50));
        refused_behind_a_good_record(slave(20), "up", master(1), &good, &bad, 2, &reasons);
    }
}

#[test]
fn no_route_down() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(18, None);
    all_refused(&mut rig, master(1), "down", &cargo(18, 1, 0, 5), "dropped_no_route");

    let before = rig.counts();
    rig.receive_one(master(1), &[cargoes(18, 1, 0..3, 5), cargo(17, 1, 3, 5), cargo(18, 1, 4, 5)].concat());
    rig.assert_changed(
        &before,
        &[
            ("down.datagrams_in", 1),
            ("down.bytes_in", 5 * 28),
            ("down.records_in", 5),
            ("down.held", 1),
            ("down.dropped_no_route", 4),
        ],
    );
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 3, 5))]);
}

#[test]
fn no_route_up_without_the_master() {
    let (good, bad) = (cargo(20, 1, 0, 5), cargo(20, 3, 1, 5));
    refused_behind_a_good_record(slave(20), "up", master(1), &good, &bad, 2, &[("dropped_no_route", 1)]);
}

#[test]
fn unregistered_source() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(20, None);
    all_refused(&mut rig, slave(20), "up", &cargo(20, 1, 0, 5), "dropped_unregistered_source");
    // A stranger does not become a master by naming one that is not there.
    all_refused(&mut rig, master(3), "up", &cargo(20, 3, 0, 5), "dropped_unregistered_source");
    // A farm's address is valid only for the ids that are registered there.
    rig.set_slave(21, Some(route(slave(22), MTU)));
    let before = rig.counts();
    rig.receive_one(slave(22), &[cargo(21, 1, 0, 5), cargo(20, 1, 1, 5), cargo(22, 1, 2, 5)].concat());
    rig.assert_changed(
        &before,
        &[
            ("up.datagrams_in", 1),
            ("up.bytes_in", 3 * 28),
            ("up.records_in", 3),
            ("up.held", 2),
            ("up.dropped_unregistered_source", 1),
        ],
    );
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(master(1), [cargo(21, 1, 0, 5), cargo(22, 1, 2, 5)].concat())]);
}

/// Peers that differ from `peer` in one point; the text names the point.
fn impostors(peer: Peer) -> [(&'static str, Peer); 4] {
    [
        ("port", but(peer, |peer| peer.port = PortId(1 - peer.port.0))),
        ("VLAN", but(peer, |peer| peer.vlan = Vlan::tagged(7))),
        ("VLAN 0 is a tag too", but(peer, |peer| peer.vlan = Vlan::tagged(0))),
        ("IP", Peer::ipv4(peer.port, [10, 9, 9, 9], peer.udp_port, peer.vlan, peer.mac)),
    ]
}

#[test]
fn spoofed_slave_by_port_vlan_or_ip() {
    for (what, impostor) in impostors(slave(20)) {
        let mut rig = Rig::with_nodes(config());
        all_refused(&mut rig, impostor, "up", &cargo(20, 1, 0, 5), "dropped_spoofed");
        // The same counter counts when the master is not there.
        all_refused(&mut rig, impostor, "up", &cargo(20, 3, 0, 5), "dropped_spoofed");
        assert_eq!(rig.held(), (0, 0), "{what}");
    }
}

#[test]
fn spoofed_slave_behind_an_honest_record() {
    let (good, bad) = (cargo(20, 1, 0, 5), cargo(21, 1, 1, 5));
    refused_behind_a_good_record(slave(20), "up", master(1), &good, &bad, 2, &[("dropped_spoofed", 1)]);
}

#[test]
fn spoofed_master_by_port_vlan_or_ip_is_taken_for_a_slave() {
    for (what, impostor) in impostors(master(1)) {
        let mut rig = Rig::with_nodes(config());
        all_refused(&mut rig, impostor, "up", &cargo(17, 1, 0, 5), "dropped_spoofed");
        assert_eq!(rig.held(), (0, 0), "{what}");
    }
}

#[test]
fn the_udp_port_counts_only_where_it_is_fixed() {
    for fixed_port in [false, true] {
        let mut rig = Rig::with_nodes(config());
        rig.set_slave(20, Some(Route { fixed_port, ..route(slave(20), MTU) }));
        rig.set_master(1, Some(Route { fixed_port, ..route(master(1), MTU) }));
        let elsewhere = |peer| but(peer, |peer| peer.udp_port += 1);
        if fixed_port {
            all_refused(&mut rig, elsewhere(slave(20)), "up", &cargo(20, 1, 0, 5), "dropped_spoofed");
            all_refused(&mut rig, elsewhere(master(1)), "up", &cargo(20, 1, 0, 5), "dropped_spoofed");
        } else {
            rig.receive_one(elsewhere(slave(20)), &cargo(20, 1, 0, 5));
            rig.receive_one(elsewhere(master(1)), &cargo(20, 1, 0, 5));
            assert_eq!(rig.held(), (1, 1));
        }
    }
}

#[test]
fn routers_may_move_so_the_mac_is_never_compared() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(but(slave(20), |peer| peer.mac = [0xee; 6]), &cargo(20, 1, 0, 5));
    rig.receive_one(but(master(1), |peer| peer.mac = [0xee; 6]), &cargo(20, 1, 0, 5));
    assert_eq!(rig.held(), (1, 1));
    rig.advance(HOLD);
    let to: Vec<_> = rig.sent().into_iter().map(|sent| sent.to).collect();
    assert_eq!(to, [master(1), slave(20)], "answers go where the node is registered");
}

#[test]
fn a_master_may_not_speak_for_another() {
    let (good, bad) = (cargo(17, 1, 0, 5), cargo(17, 2, 1, 5));
    refused_behind_a_good_record(master(1), "down", slave(17), &good, &bad, 2, &[("dropped_spoofed", 1)]);
    let unknown = cargo(17, 3, 1, 5);
    refused_behind_a_good_record(master(1), "down", slave(17), &good, &unknown, 2, &[("dropped_spoofed", 1)]);
}

#[test]
fn masters_at_one_address_may_share_a_datagram() {
    let mut rig = Rig::with_nodes(config());
    rig.set_master(2, Some(route(master(1), MTU)));
    let both = [cargo(17, 1, 0, 5), cargo(17, 2, 1, 5)].concat();
    rig.receive_one(master(1), &both);
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), both)]);
}

#[test]
fn too_large() {
    let mut rig = Rig::with_nodes(config());
    let small = 28 + 100;
    rig.set_slave(17, Some(route(slave(17), small)));
    rig.set_master(2, Some(route(master(2), small)));
    all_refused(&mut rig, master(1), "down", &cargo(17, 1, 0, 100 - HEADER_LEN + 1), "dropped_too_large");
    all_refused(&mut rig, slave(20), "up", &cargo(20, 2, 0, 100 - HEADER_LEN + 1), "dropped_too_large");

    // Exactly as large as the route takes is not too large.
    rig.receive_one(master(1), &cargo(17, 1, 0, 100 - HEADER_LEN));
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 0, 100 - HEADER_LEN))]);
}

#[test]
fn too_large_between_others() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(17, Some(route(slave(17), 28 + 100)));
    let before = rig.counts();
    let records = [cargo(17, 1, 0, 5), cargo(17, 1, 1, 200), cargo(17, 1, 2, 5)];
    rig.receive_one(master(1), &records.concat());
    rig.advance(HOLD);
    let bytes: Vec<_> = rig.sent().into_iter().flat_map(|sent| sent.bytes).collect();
    assert_eq!(bytes, [records[0].clone(), records[2].clone()].concat());
    let difference = |name: &str| rig.counts()[name] - before[name];
    assert_eq!((difference("down.dropped_too_large"), difference("down.records_in")), (1, 3));
}

#[test]
fn a_route_that_takes_nothing_is_a_route_all_the_same() {
    for mtu in [0, 28, 28 + HEADER_LEN as u16 - 1] {
        let mut rig = Rig::with_nodes(config());
        rig.set_slave(17, Some(route(slave(17), mtu)));
        rig.set_master(2, Some(route(master(2), mtu)));
        all_refused(&mut rig, master(1), "down", &cargo(17, 1, 0, 0), "dropped_too_large");
        all_refused(&mut rig, slave(20), "up", &cargo(20, 2, 0, 0), "dropped_too_large");
    }
}

#[test]
fn a_route_may_promise_more_than_a_frame_holds() {
    let mut rig = Rig::with_nodes(GatewayConfig { hold: FOREVER, ..config() });
    rig.set_slave(17, Some(route(slave(17), u16::MAX)));
    // The smallest frame that an lcore hands out has this much room.
    let largest = 2048 - 128 - 3 * 64;
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.receive_one(master(1), &cargo(17, 1, 1, largest - 33 - HEADER_LEN));
    let bytes: Vec<_> = rig.sent().into_iter().flat_map(|sent| sent.bytes).collect();
    assert_eq!(bytes.len(), largest);
    assert_eq!(rig.held(), (0, 0));
}

#[test]
fn no_frame() {
    let mut rig = Rig::with_nodes(config());
    rig.lend_all_but(1);
    let before = rig.counts();
    // A datagram for two slaves cannot become a buffer, and its own frame is the last one of the pool.
    rig.receive_one(master(1), &[cargo(17, 1, 0, 5), cargo(18, 1, 1, 5), cargo(18, 1, 2, 5)].concat());
    rig.assert_changed(
        &before,
        &[("down.datagrams_in", 1), ("down.bytes_in", 3 * 28), ("down.records_in", 3), ("down.dropped_no_frame", 3)],
    );
    assert_eq!(rig.pool.free(), 1, "the received frame went back");
    // Upward, and for one slave only, a datagram needs no other frame.
    let before = rig.counts();
    rig.receive_one(slave(20), &[cargo(20, 1, 0, 5), cargo(20, 2, 1, 5)].concat());
    rig.receive_one(slave(20), &cargo(20, 1, 0, 5));
    rig.assert_changed(
        &before,
        &[
            ("up.datagrams_in", 2),
            ("up.bytes_in", 3 * 28),
            ("up.records_in", 3),
            ("up.dropped_no_frame", 2),
            ("up.held", 1),
        ],
    );
}

#[test]
fn without_frames_an_open_buffer_still_takes_records() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 5));
    rig.lend_all_but(1);
    // Slave 17 has its buffer already; slave 18 gets none.
    rig.receive_one(master(1), &[cargo(17, 1, 1, 5), cargo(18, 1, 2, 5)].concat());
    let counts = rig.counts();
    assert_eq!((counts["down.held"], counts["down.dropped_no_frame"]), (2, 1));
}

#[test]
fn route_removed() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargoes(17, 1, 0..3, 5));
    rig.receive_one(slave(20), &cargo(20, 2, 3, 5));
    let before = rig.counts();
    rig.set_slave(17, None);
    rig.set_master(2, None);
    // Nothing left, so no flush counts.
    rig.assert_changed(
        &before,
        &[("down.dropped_route_removed", 3), ("down.held", -3), ("up.dropped_route_removed", 1), ("up.held", -1)],
    );
    assert_eq!((rig.pool.in_use(), rig.gateway.deadline()), (0, None));
}

#[test]
fn what_was_queued_before_its_route_went_still_leaves() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 5));
    rig.advance(HOLD);
    rig.set_slave(17, None);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 0, 5))]);
    assert_eq!(rig.counts()["down.dropped_route_removed"], 0);
}

#[test]
fn a_route_to_a_port_that_does_not_exist_is_a_drop_on_transmit() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(17, Some(route(but(slave(17), |peer| peer.port = PortId(7)), MTU)));
    rig.receive_one(master(1), &cargoes(17, 1, 0..2, 5));
    rig.advance(HOLD);
    assert_eq!(rig.counts()["tx.down_records_dropped_tx"], 2);
    assert_eq!((rig.sent(), rig.pool.in_use()), (vec![], 0));
}

#[test]
fn routes_of_shards_that_are_not_served_and_masters_beyond_the_table_change_nothing() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(50, Some(route(slave(50), MTU)));
    all_refused(&mut rig, master(1), "down", &cargo(50, 1, 0, 5), "dropped_foreign_shard");
    // The table has four places: 1 and 2 are taken.
    for id in 3..=5 {
        rig.set_master(id, Some(route(master(id), MTU)));
    }
    all_refused(&mut rig, slave(20), "up", &cargo(20, 5, 0, 5), "dropped_no_route");
    rig.receive_one(slave(20), &cargo(20, 4, 0, 5));
    // A place that became free is used again, by its new owner alone.
    rig.set_master(2, None);
    rig.set_master(2, None);
    rig.set_master(5, Some(route(master(5), MTU)));
    rig.receive_one(slave(20), &cargo(20, 5, 1, 5));
    all_refused(&mut rig, slave(20), "up", &cargo(20, 2, 2, 5), "dropped_no_route");
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(master(4), cargo(20, 4, 0, 5)), (master(5), cargo(20, 5, 1, 5))]);
}

#[test]
fn a_gateway_of_all_shards_at_the_default_scale_serves_the_first_and_the_last_slave() {
    let shards = ShardSet::all(Scale::default());
    let mut rig = Rig::new(GatewayConfig { shards, ..config() }, pool(64));
    rig.set_master(0xffff, Some(route(master(1), MTU)));
    let ids = [0, 131_071].map(|id| Scale::default().slave_id(id).unwrap());
    for (id, at) in ids.into_iter().zip([20, 21]) {
        let route = Some(route(slave(at), MTU));
        rig.command(gateway::GatewayCommand::Route(link::RouteChange::Slave { id, route }));
    }
    rig.receive_one(master(1), &cargo(0, 0xffff, 0, 5));
    rig.receive_one(master(1), &cargo(131_071, 0xffff, 1, 5));
    rig.receive_one(slave(21), &cargo(131_071, 0xffff, 2, 5));
    rig.advance(HOLD);
    let expected = [
        (master(1), cargo(131_071, 0xffff, 2, 5)),
        (slave(20), cargo(0, 0xffff, 0, 5)),
        (slave(21), cargo(131_071, 0xffff, 1, 5)),
    ];
    assert_eq!(rig.sent_bytes(), expected);
    all_refused(&mut rig, master(1), "down", &cargo(131_070, 0xffff, 3, 5), "dropped_no_route");
    assert_eq!(Scale::default().shard(ids[1]), Shard(15));
}

#[test]
fn one_stranger_in_a_burst_of_slaves_costs_only_itself() {
    const BURST: usize = 8;
    // The datagram at one place of the burst: its sender, its record, and the counter of its refusal. `None` means that
    // it is served.
    let strangers = [
        (slave(20), cargo(20, 1, 9, 30), None),
        (slave(21), cargo(20, 1, 9, 30), Some("up.dropped_spoofed")),
        (but(slave(20), |peer| peer.port = PortId(0)), cargo(20, 1, 9, 30), Some("up.dropped_spoofed")),
        (master(2), cargo(20, 1, 9, 30), Some("up.dropped_spoofed")),
        (slave(20), cargo(20, 3, 9, 30), Some("up.dropped_no_route")),
        (slave(50), cargo(50, 1, 9, 30), Some("up.dropped_foreign_shard")),
        (slave(20), cargo(20, 1, 9, 30)[..40].to_vec(), Some("up.dropped_bad_length")),
    ];
    for (from, bytes, refused) in strangers {
        for place in 0..BURST {
            let mut rig = Rig::with_nodes(config());
            let before = rig.counts();
            let mut expected = Vec::new();
            let burst = (0..BURST).map(|number| {
                let (from, bytes) = if number == place {
                    (from, bytes.clone())
                } else {
                    (slave(30 + number as u32), cargo(30 + number as u32, 1, number as u64, 30))
                };
                if number != place || refused.is_none() {
                    expected.extend_from_slice(&bytes);
                }
                rig.datagram(from, &bytes, Arrival::default()).unwrap()
            });
            let burst = burst.collect();
            rig.receive_burst(burst);
            let (all, bytes_in) = (BURST as i64, 7 * 53 + bytes.len() as i64);
            let held = if refused.is_some() { all - 1 } else { all };
            let mut changed =
                vec![("up.datagrams_in", all), ("up.records_in", all), ("up.bytes_in", bytes_in), ("up.held", held)];
            changed.extend(refused.map(|reason| (reason, 1)));
            if refused == Some("up.dropped_bad_length") {
                changed.push(("up.bad_bytes", 40));
            }
            rig.assert_changed(&before, &changed);
            rig.advance(HOLD);
            assert_eq!(rig.sent_bytes(), [(master(1), expected)], "{refused:?} at {place}");
        }
    }
}
