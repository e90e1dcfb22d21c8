//! What a gateway sends in return. It sends strangers no more than it got. It sends little to nodes that it did not
//! hear for a while. It does not send the same membership again and again.

use crate::common;

use common::*;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use link::{Health, NodeConfig, RegistrarConfig};
use proptest::prelude::*;
use wire::Scale;
use wire::link::{Cookie, Heartbeat, NodeId};

const SLAVES: u32 = 4096;

fn bytes(answers: &[(frame::Peer, Vec<u8>)]) -> usize {
    answers.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// A gateway of 4,096 slaves that are all here, and the configuration of its nodes.
fn crowd(shards: &str) -> (Gateway, NodeConfig) {
    let scale = Scale::new(16, 12).unwrap();
    let mut gateway = Gateway::new(RegistrarConfig { scale, shards: shards.parse().unwrap(), ..config() }, START);
    let node = NodeConfig { scale, max_ip_packet: 1280, ..node_config() };
    for id in 0..SLAVES {
        Client::with(slave(id), address(1), node.clone(), Some(key()), START).exchange(&mut gateway, START);
    }
    assert_eq!(gateway.registrar.summary().here, SLAVES);
    (gateway, node)
}

/// A master that has a cookie and got no members yet. Its next heartbeat registers it.
fn proven(gateway: &mut Gateway, node: &NodeConfig, now: Time) -> (Client, Heartbeat) {
    let mut master = Client::with(NodeId::master(3), address(200), node.clone(), Some(key()), now);
    let first = master.heartbeat(now).unwrap();
    let answers = gateway.receive(now, &master.peer, &first);
    assert!(bytes(&answers) <= first.len());
    let cookie = ack_in(&answers).cookie;
    (master, Heartbeat { cookie, seq: 2, ..heartbeat_in(&first) })
}

#[test]
fn an_address_that_showed_no_cookie_is_sent_no_more_than_it_sent() {
    for shards in ["0", "0,2,4,6,8,10,12,14"] {
        let (mut gateway, node) = crowd(shards);
        let (master, heartbeat) = proven(&mut gateway, &node, START);
        let mut wrong = heartbeat.cookie;
        wrong.0[15] ^= 1;
        for cookie in [Cookie::NONE, wrong, Cookie([0xff; 16])] {
            let asked = signed(&Heartbeat { cookie, ..heartbeat });
            assert!(bytes(&gateway.receive(START, &master.peer, &asked)) <= asked.len());
        }
        // An expired cookie counts as none.
        let asked = signed(&heartbeat);
        assert!(bytes(&gateway.receive(START + 10 * SECOND + 1, &master.peer, &asked)) <= asked.len());
        assert_eq!(gateway.counter("members_out"), 0);
        // The same holds for a right cookie from another address.
        assert!(bytes(&gateway.receive(START, &address(201), &asked)) <= asked.len());
    }
}

#[test]
fn an_address_with_a_cookie_that_is_not_fresh_is_sent_three_times_as_much_at_most() {
    for shards in ["0", "0,2,4,6,8,10,12,14"] {
        for (age, is_fresh) in [(3 * SECOND, true), (3 * SECOND + 1, false), (10 * SECOND, false)] {
            let (mut gateway, node) = crowd(shards);
            let (master, heartbeat) = proven(&mut gateway, &node, START);
            let asked = signed(&heartbeat);
            let answers = gateway.receive(START + age, &master.peer, &asked);
            assert!(ack_in(&answers).registered);
            assert_eq!(bytes(&answers) > 3 * asked.len(), is_fresh, "{} bytes at {age}", bytes(&answers));
            assert_eq!(gateway.counter("members_out") > 0, is_fresh);
            if !is_fresh {
                // Nothing more is sent to it later, until it answers with the new cookie.
                assert_eq!(gateway.advance(START + age + SECOND), []);
                let cookie = ack_in(&answers).cookie;
                let answers = gateway.receive(
                    START + age + SECOND,
                    &master.peer,
                    &signed(&Heartbeat { cookie, seq: 3, ..heartbeat }),
                );
                assert_eq!(answers.len(), 33, "an ACK and a window of MEMBERS");
            }
        }
    }
}

#[test]
fn a_master_that_asks_for_everything_again_and_again_has_it_twice_and_then_32_datagrams_an_interval() {
    let (mut gateway, node) = crowd("0");
    let (master, mut heartbeat) = proven(&mut gateway, &node, START);
    // 4,096 slaves, 29 in a datagram.
    let snapshot = 142;
    let mut sent = Vec::new();
    let (each, seconds) = (SECOND / 2000, 20);
    for turn in 0..seconds * 2000 {
        let now = START + turn * each;
        if turn % 2000 == 0 {
            sent.push(gateway.counter("members_out"));
        }
        let answers = gateway.receive(now, &master.peer, &signed(&heartbeat));
        let ack = ack_in(&answers);
        assert!(ack.registered);
        heartbeat = Heartbeat { seq: heartbeat.seq + 1, cookie: ack.cookie, members_generation: 0, ..heartbeat };
        // The gateway is deaf, so that its slaves stay although they send nothing.
        gateway.registrar.advance(now, Health { polling: false, ..Health::GOOD }, &mut gateway.out);
        gateway.out.replies.clear();
    }
    let in_seconds: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(in_seconds[0] <= 32 + snapshot + 32, "{in_seconds:?}");
    assert!(in_seconds[1..].iter().all(|&sent| sent <= 33), "{in_seconds:?}");
    assert!(gateway.counter("members_withheld") > 30_000);
}

#[test]
fn a_master_that_starts_again_has_all_members_at_once_and_again_after_a_while() {
    let (mut gateway, node) = crowd("0");
    let mut now = START;
    for boot in 0..3u64 {
        let config = NodeConfig { scale: node.scale, max_ip_packet: 1280, ..booted(100 + boot) };
        let mut master = Client::with(NodeId::master(3), address(200), config, Some(key()), now);
        run(&mut gateway, &mut [&mut master], now, now + 500 * MILLISECOND);
        assert_eq!(master.table.len(), SLAVES as usize, "boot {boot}");
        now += 6 * SECOND;
    }
}

#[test]
fn what_is_new_is_told_however_often_it_changes() {
    let (mut gateway, node) = crowd("0");
    let mut master = Client::with(NodeId::master(3), address(200), node.clone(), Some(key()), START);
    run(&mut gateway, &mut [&mut master], START, START + SECOND);
    let mut now = START + SECOND;
    let mut slave = Client::with(slave(7), address(1), NodeConfig { boot_epoch: 9, ..node }, Some(key()), now);
    let first = heartbeat_in(&slave.heartbeat(now).unwrap());
    let mut cookie = ack_in(&gateway.receive(now, &slave.peer, &signed(&first))).cookie;
    let sent = gateway.counter("members_out");
    // Two hundred changes in four seconds need more datagrams than the limit for repeated membership.
    for turn in 0..200 {
        let heartbeat = Heartbeat { seq: 2 + turn, cookie, pages_free: turn % 2, ..first };
        let ack = ack_in(&gateway.receive(now, &slave.peer, &signed(&heartbeat)));
        assert!(ack.registered);
        cookie = ack.cookie;
        run(&mut gateway, &mut [&mut master], now, now + 20 * MILLISECOND);
        now += 20 * MILLISECOND;
    }
    run(&mut gateway, &mut [&mut master], now, now + 100 * MILLISECOND);
    assert_eq!((master.mirror[&7].epoch, master.mirror[&7].pages_free), (9, 1));
    assert!(gateway.counter("members_out") - sent > 64);
    assert_eq!(gateway.counter("members_withheld"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// One datagram has heartbeats with any cookies of any age. The answer is at most three times as long as the
    /// datagram, unless a fresh cookie of a master is among them. Without a valid cookie the answer is not longer than
    /// the datagram.
    #[test]
    fn what_a_datagram_brings_bounds_what_it_gets(
        nodes in proptest::collection::vec((0u16..4, any::<bool>(), 0u8..3), 1..8),
        age in 0u64..14,
    ) {
        let scale = Scale::new(6, 2).unwrap();
        let shards = "0,2,4,6,8,10,12,14".parse().unwrap();
        let mut gateway = Gateway::new(RegistrarConfig { scale, shards, ..config() }, START);
        let node = NodeConfig { scale, ..node_config() };
        let mut datagram = Vec::new();
        let mut valid = false;
        let mut fresh_master = false;
        for (id, is_master, cookie) in nodes {
            let node_id = if is_master { NodeId::master(id) } else { slave(u32::from(id)) };
            let mut client = Client::with(node_id, address(1), node.clone(), Some(key()), START);
            let first = client.heartbeat(START).unwrap();
            let given = ack_in(&gateway.receive(START, &client.peer, &first)).cookie;
            let cookie = [Cookie::NONE, Cookie([3; 16]), given][usize::from(cookie)];
            valid |= cookie == given && age <= 10;
            fresh_master |= cookie == given && age <= 3 && is_master;
            datagram.extend(signed(&Heartbeat { cookie, seq: 2, ..heartbeat_in(&first) }));
        }
        let answers = gateway.receive(START + age * SECOND, &address(1), &datagram);
        let times = if valid { 3 } else { 1 };
        prop_assert!(fresh_master || bytes(&answers) <= times * datagram.len());
    }
}
