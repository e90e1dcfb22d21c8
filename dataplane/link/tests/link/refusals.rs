//! Link control that registers nothing: each kind has its counter.

use crate::common;

use common::*;
use frame::time::SECOND;
use frame::{Peer, PortId, Vlan};
use link::{NodeConfig, NodeEvent, Notice, Registrar, RegistrarConfig, RegistrarError, RouteChange};
use proptest::prelude::*;
use wire::link::{Cookie, Heartbeat, MemberState, NodeId};
use wire::{HEADER_LEN, MsgType, RecordHeader};

const LATER: u64 = START + SECOND;

/// A heartbeat that would be accepted if it were sent from `address(1)`.
fn next(last: &Heartbeat) -> Heartbeat {
    Heartbeat { seq: last.seq + 1, ..*last }
}

#[test]
fn forged_and_unsigned_heartbeats_are_refused_without_an_answer() {
    let (mut gateway, client, last) = registered(17, START);
    let good = signed(&next(&last));
    // One bit is flipped anywhere: in the header, the tag or the fields. Nothing is registered and nothing is answered.
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let before = gateway.refused();
        assert!(gateway.receive(LATER, &client.peer, &flipped).is_empty(), "bit {bit}");
        assert!(gateway.refused() > before, "bit {bit}");
    }
    assert!(gateway.counter("refused_forged") > gateway.refused() / 2);

    let before = gateway.counter("refused_forged");
    let mut out = [0; 256];
    let len = next(&last).emit(Some(key().node_key(slave(18)).as_bytes()), &mut out).unwrap();
    assert!(gateway.receive(LATER, &client.peer, &out[..len]).is_empty());
    assert_eq!(gateway.counter("refused_forged"), before + 1);
    assert!(gateway.notices().contains(&Notice::Forged { node: slave(17), from: client.peer }));

    let len = next(&last).emit(None, &mut out).unwrap();
    assert!(gateway.receive(LATER + SECOND, &client.peer, &out[..len]).is_empty());
    assert_eq!(gateway.counter("refused_unsigned"), 1);
    assert_eq!(gateway.notices(), [Notice::Unsigned { node: slave(17), from: client.peer }]);

    assert!(ack_in(&gateway.receive(LATER, &client.peer, &good)).registered, "the genuine one is accepted");
}

#[test]
fn a_replayed_heartbeat_registers_nothing() {
    let (mut gateway, client, last) = registered(17, START);
    assert!(gateway.receive(LATER, &client.peer, &signed(&last)).is_empty());
    let old = Heartbeat { seq: last.seq - 1, ..last };
    assert!(gateway.receive(LATER, &client.peer, &signed(&old)).is_empty());
    assert_eq!(gateway.counter("refused_replayed"), 2);

    // The replay does not bring back a node that is gone.
    let mut now = LATER;
    while gateway.registrar.summary().here > 0 {
        now += SECOND / 10;
        gateway.advance(now);
    }
    assert!(gateway.receive(now, &client.peer, &signed(&last)).is_empty());
    assert_eq!((gateway.counter("refused_replayed"), gateway.registrar.summary().here), (3, 0));
}

#[test]
fn a_heartbeat_from_another_address_gets_a_cookie_and_nothing_else() {
    let (mut gateway, client, last) = registered(17, START);
    let thief = address(66);
    let answers = gateway.receive(LATER, &thief, &signed(&next(&last)));
    let ack = ack_in(&answers);
    assert!(!ack.registered && !ack.duplicate_id && ack.cookie != last.cookie);
    assert_eq!(answers[0].0, thief);
    assert!(gateway.routes().is_empty());
    let id = scale().slave_id(17).unwrap();
    assert_eq!(gateway.registrar.peer(id), Some(client.peer));
    // The cookie does not hold for another UDP port, VLAN or port of the gateway.
    for change in [
        |peer: &mut Peer| peer.udp_port += 1,
        |peer: &mut Peer| peer.vlan = Vlan::tagged(5),
        |peer: &mut Peer| peer.port = PortId(1),
    ] {
        let mut from = client.peer;
        change(&mut from);
        assert!(!ack_in(&gateway.receive(LATER, &from, &signed(&next(&last)))).registered);
    }
    assert!(ack_in(&gateway.receive(LATER, &client.peer, &signed(&next(&last)))).registered);
}

#[test]
fn a_heartbeat_from_before_a_restart_of_the_gateway_registers_nothing() {
    let (_, client, last) = registered(17, START);
    let mut gateway = Gateway::new(RegistrarConfig { secret: [10; 32], epoch: 78, ..config() }, LATER);
    let ack = ack_in(&gateway.receive(LATER, &client.peer, &signed(&next(&last))));
    assert!(!ack.registered && ack.cookie != last.cookie);
    assert_eq!(gateway.registrar.summary().here, 0);
}

#[test]
fn a_router_may_move() {
    let (mut gateway, client, last) = registered(17, START);
    let mut moved = client.peer;
    moved.mac = [2, 9, 9, 9, 9, 9];
    assert!(ack_in(&gateway.receive(LATER, &moved, &signed(&next(&last)))).registered);
    let [RouteChange::Slave { route: Some(route), .. }] = gateway.routes()[..] else { panic!() };
    assert_eq!(route.peer.mac, moved.mac);
}

#[test]
fn an_id_is_free_for_another_address_after_three_silent_intervals() {
    let (mut gateway, mut first, _) = registered(17, START);
    let mut second = Client::new(slave(17), address(2), START);
    run(&mut gateway, &mut [&mut first, &mut second], START, START + 10 * SECOND);
    assert!(first.node.is_registered() && !second.node.is_registered());
    assert_eq!(second.events(), [NodeEvent::Duplicate]);
    assert!(gateway.counter("refused_duplicate") >= 9);
    let both = Notice::DuplicateId { node: slave(17), registered: first.peer, claimant: second.peer };
    assert!(gateway.notices().contains(&both));
    let id = scale().slave_id(17).unwrap();
    assert_eq!(gateway.registrar.peer(id), Some(first.peer));

    // The first node dies. The second gets the id as soon as the silence is long enough, and not before.
    let silent = START + 10 * SECOND;
    let heard = gateway.registrar.members().next().unwrap().heard;
    run(&mut gateway, &mut [&mut second], silent, heard + 3 * SECOND);
    assert!(!second.node.is_registered());
    run(&mut gateway, &mut [&mut second], heard + 3 * SECOND, heard + 4 * SECOND + SECOND / 10);
    assert!(second.node.is_registered());
    assert_eq!(gateway.registrar.peer(id), Some(second.peer));
    // Late heartbeats of the first node do not take the id back.
    run(&mut gateway, &mut [&mut second, &mut first], heard + 5 * SECOND, heard + 6 * SECOND);
    assert_eq!(gateway.registrar.peer(id), Some(second.peer));
}

#[test]
fn nodes_behind_one_nat_address_are_told_apart_by_their_port() {
    let mut gateway = Gateway::new(config(), START);
    let fixed = NodeConfig { fixed_port: true, ..node_config() };
    let mut first = Client::with(slave(17), address(1), fixed.clone(), Some(key()), START);
    let mut behind = address(1);
    behind.udp_port = 7777;
    let mut second = Client::with(slave(17), behind, fixed, Some(key()), START);
    first.exchange(&mut gateway, START);
    second.exchange(&mut gateway, START);
    assert!(first.node.is_registered());
    assert_eq!(second.events(), [NodeEvent::Duplicate]);
}

#[test]
fn masters_register_on_the_first_of_two_ports_only() {
    let mut gateway = Gateway::new(RegistrarConfig { two_port: true, ..config() }, START);
    let mut wrong = address(1);
    wrong.port = PortId(1);
    let mut master = Client::new(NodeId::master(3), wrong, START);
    master.exchange(&mut gateway, START);
    assert!(!master.node.is_registered());
    assert_eq!((gateway.counter("refused_master_port"), gateway.refused()), (1, 1));
    assert_eq!(gateway.notices(), [Notice::MasterPort { node: NodeId::master(3), from: wrong }]);
    let mut master = Client::new(NodeId::master(3), address(1), START);
    master.exchange(&mut gateway, START);
    assert!(master.node.is_registered());
    // Slaves may be behind either port.
    let mut slave = Client::new(slave(17), wrong, START);
    slave.exchange(&mut gateway, START);
    assert!(slave.node.is_registered());
}

#[test]
fn masters_are_bounded() {
    let mut gateway = Gateway::new(RegistrarConfig { max_masters: 2, ..config() }, START);
    let mut masters: Vec<Client> = (0..3).map(|id| Client::new(NodeId::master(id), address(id as u8), START)).collect();
    for master in &mut masters {
        master.exchange(&mut gateway, START);
    }
    assert_eq!(gateway.registrar.masters().map(|view| view.id).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(gateway.counter("refused_masters_full"), 1);
    assert_eq!(masters[2].events(), [NodeEvent::Refused]);
    // One master leaves. Its place is free when it is gone.
    let mut all: Vec<&mut Client> = masters[1..].iter_mut().collect();
    run(&mut gateway, &mut all, START, START + 5 * SECOND);
    assert!(masters[2].node.is_registered());
    assert!(gateway.routes().contains(&RouteChange::Master { id: 0, route: None }));
}

#[test]
fn other_refusals_are_counted_by_reason() {
    let (mut gateway, client, last) = registered(17, START);
    let mut version = signed(&next(&last));
    version[HEADER_LEN + 16] = 1;
    assert!(gateway.receive(LATER, &client.peer, &version).is_empty());
    assert_eq!(gateway.counter("refused_version"), 1);
    assert_eq!(gateway.notices(), [Notice::Version { major: 1, from: client.peer }]);

    let tiny = Heartbeat { max_ip_packet: 575, ..next(&last) };
    assert!(gateway.receive(LATER, &client.peer, &signed(&tiny)).is_empty());
    let good = signed(&next(&last));
    let mut short = good[..good.len() - 1].to_vec();
    let header = RecordHeader::new(MsgType::HEARTBEAT, 17, 0, (short.len() - HEADER_LEN) as u32);
    wire::record::emit(&header, &good[HEADER_LEN..good.len() - 1], &mut short).unwrap();
    assert!(gateway.receive(LATER, &client.peer, &short).is_empty());
    assert_eq!(gateway.counter("refused_malformed"), 2);

    let mut echo = [0; HEADER_LEN];
    wire::record::emit(&RecordHeader::new(MsgType::ECHO, 17, 0, 0), &[], &mut echo).unwrap();
    assert!(gateway.receive(LATER, &client.peer, &echo).is_empty());
    assert_eq!(gateway.counter("refused_unexpected"), 1);

    assert!(gateway.receive(LATER, &client.peer, &good[..good.len() - 1]).is_empty());
    assert_eq!(gateway.counter("refused_bad_record"), 1);
    assert_eq!(gateway.refused(), 5);
}

#[test]
fn a_notice_is_told_at_once_and_then_rarely_with_a_count() {
    let (mut gateway, client, last) = registered(17, START);
    let mut out = [0; 256];
    let len = next(&last).emit(None, &mut out).unwrap();
    // A refusal twice a second, for an hour and a half.
    for turn in 0..10_800 {
        gateway.receive(LATER + turn * SECOND / 2, &client.peer, &out[..len]);
    }
    assert_eq!(gateway.counter("refused_unsigned"), 10_800);
    // Notices come at once, and after 1, 11 and 71 minutes.
    assert_eq!(gateway.notices(), [Notice::Unsigned { node: slave(17), from: client.peer }; 4]);
    assert_eq!(gateway.out.untold, 71 * 60 * 2 - 3);
}

#[test]
fn two_nodes_with_one_id_do_not_fill_the_log() {
    let (mut gateway, mut first, _) = registered(17, START);
    let mut second = Client::new(slave(17), address(2), START);
    run(&mut gateway, &mut [&mut first, &mut second], START, START + 90 * SECOND);
    assert!(gateway.counter("refused_duplicate") >= 80);
    let both = Notice::DuplicateId { node: slave(17), registered: first.peer, claimant: second.peer };
    let told = gateway.notices();
    assert_eq!(told.iter().filter(|notice| **notice == both).count(), 2, "{told:?}");
    assert!(gateway.out.untold >= 50);
}

#[test]
fn strangers_with_many_names_hide_no_other_notice() {
    let (mut gateway, client, last) = registered(17, START);
    let mut out = [0; 256];
    for (turn, id) in (16..32).chain(0..16).chain(32..64).cycle().take(5000).enumerate() {
        let forged = Heartbeat { node: slave(id), ..next(&last) };
        let len = forged.emit(Some(&[7; 32]), &mut out).unwrap();
        gateway.receive(LATER + turn as u64, &address(3), &out[..len]);
    }
    // Sixteen notices name their node, and one is for all others.
    assert_eq!((gateway.counter("refused_forged"), gateway.notices().len()), (5000, 17));
    let len = next(&last).emit(None, &mut out).unwrap();
    gateway.receive(LATER + SECOND, &client.peer, &out[..len]);
    assert_eq!(gateway.notices(), [Notice::Unsigned { node: slave(17), from: client.peer }]);
}

#[test]
fn a_configuration_that_cannot_be_is_refused_with_the_remedy() {
    let refused = |change: fn(&mut RegistrarConfig)| {
        let mut config = config();
        change(&mut config);
        Registrar::new(config, START).err().unwrap()
    };
    assert_eq!(refused(|config| config.shards = link::ShardRanges::default()), RegistrarError::NoShards);
    let error = refused(|config| config.shards = "3-4".parse().unwrap());
    assert_eq!(error, RegistrarError::ShardOutOfRange { shard: wire::Shard(4), shards: 4 });
    assert!(error.to_string().contains("(0-3)"), "{error}");
    assert_eq!(refused(|config| config.interval = 0), RegistrarError::Interval);
    assert_eq!(refused(|config| config.mtu = 500), RegistrarError::Mtu(500));
    assert_eq!(refused(|config| config.epoch = 0), RegistrarError::Epoch);
    let shown = format!("{:?}", RegistrarConfig { secret: [201; 32], ..config() });
    assert!(shown.contains("epoch: 77") && !shown.contains("201"), "{shown}");
}

proptest! {
    #[test]
    fn nothing_that_strangers_send_registers_or_amplifies(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        genuine in proptest::collection::vec((16u32..32, any::<[u8; 16]>()), 0..6),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..3),
        tail_first in any::<bool>(),
    ) {
        let mut gateway = Gateway::new(config(), START);
        let mut datagram = Vec::new();
        for (id, cookie) in genuine {
            let mut client = Client::new(slave(id), address(1), START);
            let heartbeat = heartbeat_in(&client.heartbeat(START).unwrap());
            datagram.extend(signed(&Heartbeat { cookie: Cookie(cookie), ..heartbeat }));
        }
        if tail_first {
            std::mem::swap(&mut datagram, &mut bytes);
        }
        datagram.extend(bytes);
        for (at, bit) in flips {
            if !datagram.is_empty() {
                let at = at.index(datagram.len());
                datagram[at] ^= 1 << bit;
            }
        }
        let answers = gateway.receive(START, &address(1), &datagram);
        prop_assert!(answers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= datagram.len());
        prop_assert_eq!(gateway.registrar.summary().here, 0);
        prop_assert!(gateway.routes().is_empty());
        prop_assert_eq!(gateway.registrar.state(scale().slave_id(17).unwrap()), MemberState::Gone);
    }
}
