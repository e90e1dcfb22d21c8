//! Nodes of version 1 during an update. They are let in only with the flag, and by the rules of version 1. They never
//! take the place of a node that is known by version 2.

use crate::common;
#[path = "common/old.rs"]
mod old;

use common::*;
use frame::time::{MILLISECOND, SECOND};
use frame::{Peer, Time};
use link::{AckRefusal, NodeConfig, Notice, RegistrarConfig};
use wire::link::{HeartbeatAck, LinkError, MemberState, NodeId, v1};
use wire::{HEADER_LEN, Key, Record, Scale};

const MAJOR_AT: usize = HEADER_LEN + 16;

fn accepting() -> RegistrarConfig {
    RegistrarConfig { accept_v1: true, ..config() }
}

fn key_of(node: NodeId) -> Option<Key> {
    Some(*key().node_key(node).as_bytes())
}

/// A node's datagram, rewritten to version 1.
fn old(datagram: &[u8]) -> Vec<u8> {
    old::sent(datagram, Scale::default(), key_of)
}

/// Takes answers of version 1.
fn take(client: &mut Client, now: Time, answers: &[(Peer, Vec<u8>)]) {
    let own = client.peer;
    for (to, bytes) in answers.iter().filter(|(to, _)| *to == own) {
        assert_eq!(bytes[MAJOR_AT], 1, "a node of version 1 is answered in version 1");
        let challenge = client.node.challenge();
        let new = old::heard(bytes, Scale::default(), |_| challenge, key_of);
        client.take(now, &[(*to, new)]);
    }
}

/// Runs the clients, each with its own version.
fn live(gateway: &mut Gateway, new: &mut [&mut Client], old_ones: &mut [&mut Client], from: Time, to: Time) {
    let mut now = from;
    while now < to {
        new.iter_mut().for_each(|client| client.exchange(gateway, now));
        for client in old_ones.iter_mut() {
            while let Some(heartbeat) = client.heartbeat(now).or_else(|| client.probe(now)) {
                let sent = old(&heartbeat);
                let answers = gateway.receive(now, &client.peer, &sent);
                take(client, now, &answers);
            }
            let event = client.node.poll_event(&client.config, now);
            client.events.extend(event);
        }
        for answer in gateway.advance(now) {
            let answers = [answer];
            let is_old = |client: &&mut &mut Client| client.peer == answers[0].0;
            match old_ones.iter_mut().find(is_old) {
                Some(client) => take(client, now, &answers),
                None => new.iter_mut().for_each(|client| client.take(now, &answers)),
            }
        }
        now += 10 * MILLISECOND;
    }
}

#[test]
fn without_the_flag_version_1_is_refused_with_the_remedy() {
    let mut gateway = Gateway::new(config(), START);
    let mut client = Client::new(slave(17), address(1), START);
    let heartbeat = old(&client.heartbeat(START).unwrap());
    assert_eq!(heartbeat.len(), 107);
    assert!(gateway.receive(START, &client.peer, &heartbeat).is_empty());
    assert_eq!((gateway.counter("refused_version"), gateway.refused()), (1, 1));
    let told = gateway.notices();
    assert_eq!(told, [Notice::Version { major: 1, from: client.peer }]);
    assert!(told[0].to_string().contains("--accept-v1"), "{}", told[0]);
}

#[test]
fn with_the_flag_both_versions_live_together() {
    let mut gateway = Gateway::new(accepting(), START);
    let client = |id, last| Client::new(id, address(last), START);
    let (mut new_slave, mut old_slave) = (client(slave(17), 1), client(slave(18), 2));
    let (mut new_master, mut old_master) = (client(NodeId::master(3), 3), client(NodeId::master(4), 4));
    let mut now = START;
    for _ in 0..5 {
        live(
            &mut gateway,
            &mut [&mut new_slave, &mut new_master],
            &mut [&mut old_slave, &mut old_master],
            now,
            now + SECOND,
        );
        now += SECOND;
    }
    for client in [&new_slave, &old_slave, &new_master, &old_master] {
        assert!(client.node.is_registered(), "{}", client.node.id());
        assert_eq!((client.node.mtu(), &client.refusals[..]), (1500, &[][..]));
    }
    for master in [&new_master, &old_master] {
        assert_eq!(master.table.iter().map(|member| member.id).collect::<Vec<_>>(), [17, 18]);
        assert!(master.table.iter().all(|member| member.state == MemberState::Here));
        assert_eq!(master.table.generation(), gateway.registrar.summary().generation);
    }
    assert_eq!((gateway.counter("members_v1"), gateway.refused()), (2, 0));
    assert!(
        gateway.counter("heartbeats_v1") > 10
            && gateway.counter("heartbeats_accepted") > gateway.counter("heartbeats_v1")
    );
    let said = gateway.notices();
    assert_eq!(said.len(), 2, "once for each node of version 1: {said:?}");
    assert!(said.iter().all(|notice| matches!(notice, Notice::OldVersion { .. })));

    // A drain reaches both.
    gateway.registrar.leave(now);
    live(
        &mut gateway,
        &mut [&mut new_slave, &mut new_master],
        &mut [&mut old_slave, &mut old_master],
        now,
        now + 2 * SECOND,
    );
    assert_eq!(gateway.registrar.unheard(), 0);
}

#[test]
fn a_stranger_of_version_1_is_sent_no_more_than_it_sent() {
    let shards = "0,2,4,6,8,10,12,14".parse().unwrap();
    let mut gateway = Gateway::new(RegistrarConfig { scale: Scale::new(6, 2).unwrap(), shards, ..accepting() }, START);
    let mut client = Client::new(slave(17), address(1), START);
    let heartbeat = old(&client.heartbeat(START).unwrap());
    let answers = gateway.receive(START, &client.peer, &heartbeat);
    assert!(!answers.is_empty() && answers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= heartbeat.len());
}

#[test]
fn version_1_keeps_its_rules() {
    let mut gateway = Gateway::new(accepting(), START);
    let mut client = Client::with(slave(17), address(1), booted(1000), Some(key()), START);
    live(&mut gateway, &mut [], &mut [&mut client], START, START + SECOND);
    assert!(client.node.is_registered());
    let last = old(&client.heartbeat(START + 2 * SECOND).unwrap());
    assert_eq!(gateway.receive(START + 2 * SECOND, &client.peer, &last).len(), 1);
    assert!(gateway.receive(START + 2 * SECOND, &client.peer, &last).is_empty());
    assert_eq!(gateway.counter("refused_replayed"), 1);
    // An earlier boot is refused and a later one accepted. So a clock that went back keeps such a node out.
    let mut earlier = Client::with(slave(17), address(1), booted(999), Some(key()), START);
    live(&mut gateway, &mut [], &mut [&mut earlier], START + 2 * SECOND, START + 3 * SECOND);
    assert!(!earlier.node.is_registered());
    assert!(gateway.notices().contains(&Notice::OlderBoot { node: slave(17), from: client.peer }));
    let mut later = Client::with(slave(17), address(1), booted(1001), Some(key()), START + 3 * SECOND);
    live(&mut gateway, &mut [], &mut [&mut later], START + 3 * SECOND, START + 4 * SECOND);
    assert!(later.node.is_registered());
}

#[test]
fn after_an_update_what_was_recorded_before_registers_nothing() {
    let mut gateway = Gateway::new(accepting(), START);
    let mut before = Client::with(slave(17), address(1), booted(u64::MAX), Some(key()), START);
    live(&mut gateway, &mut [], &mut [&mut before], START, START + SECOND);
    let unheard = old(&before.heartbeat(START + 2 * SECOND).unwrap());
    // Version 2 needs no later boot epoch.
    let now = START + 3 * SECOND;
    let mut after = Client::with(slave(17), address(1), booted(1), Some(key()), now);
    after.exchange(&mut gateway, now);
    assert!(after.node.is_registered());
    gateway.routes();
    assert_eq!(gateway.counter("members_v1"), 0);
    for at in [now, now + 10 * SECOND] {
        gateway.advance(at);
        assert!(gateway.receive(at, &before.peer, &unheard).is_empty());
    }
    assert_eq!(gateway.counter("refused_downgrade"), 2);
    assert!(gateway.notices().contains(&Notice::Downgrade { node: slave(17), from: before.peer }));
    assert!(gateway.routes().iter().all(|change| matches!(change, link::RouteChange::Slave { route: None, .. })));
}

#[test]
fn a_node_of_version_2_takes_nothing_of_version_1() {
    let mut client = Client::with(slave(17), address(1), NodeConfig { ..node_config() }, Some(key()), START);
    assert_eq!(client.heartbeat(START).unwrap()[MAJOR_AT], 2);
    let ack = HeartbeatAck {
        node: slave(17),
        draining: false,
        duplicate_id: false,
        registered: true,
        newer_key: false,
        lanes: false,
        slave_bits: 6,
        gw_bits: 4,
        mtu: 1500,
        seq: 1,
        challenge: 0,
        cookie: v1::cookie([1; 8]),
        gateway_epoch: 77,
        hold_ns: 0,
        cookie_fault: None,
        ranges: Default::default(),
    };
    let mut out = [0; 200];
    let len = v1::emit_ack(&ack, key_of(slave(17)).as_ref(), &mut out).unwrap();
    client.take_record(START, &gateway_peer(), &Record::first(&out[..len]).unwrap());
    assert_eq!(client.refusals, [AckRefusal::Malformed(LinkError::Version(1))]);
    assert!(!client.node.is_registered());
    let next = client.heartbeat(START + 2 * SECOND).unwrap();
    assert_eq!(next[MAJOR_AT], 2, "it never downgrades");
}

#[test]
fn a_master_whose_place_was_taken_is_still_known_by_version_2() {
    let mut gateway = Gateway::new(RegistrarConfig { max_masters: 1, ..accepting() }, START);
    // Before the update, and after it.
    let mut before = Client::new(NodeId::master(3), address(3), START);
    let mut tape = Vec::new();
    while let Some(heartbeat) = before.heartbeat(START) {
        tape.push(old(&heartbeat));
        let answers = gateway.receive(START, &before.peer, &tape[tape.len() - 1]);
        take(&mut before, START, &answers);
    }
    assert!(before.node.is_registered());
    let mut now = START + SECOND;
    // Other masters take the places of both, and are gone.
    for id in [3, 4] {
        let mut master = Client::with(NodeId::master(id), address(id as u8), booted(6), Some(key()), now);
        while gateway.registrar.masters().count() > usize::from(id == 3) {
            now += SECOND / 10;
            gateway.advance(now);
        }
        master.exchange(&mut gateway, now);
        assert!(master.node.is_registered());
    }
    while gateway.registrar.masters().count() > 0 {
        now += SECOND / 10;
        gateway.advance(now);
    }
    gateway.routes();
    gateway.notices();
    for heartbeat in &tape {
        gateway.receive(now, &before.peer, heartbeat);
    }
    assert_eq!(gateway.routes(), []);
    assert!(gateway.counter("refused_downgrade") > 0);
    assert_eq!(gateway.notices(), [Notice::Downgrade { node: NodeId::master(3), from: before.peer }]);
}
