//! The exact times at which a node sends heartbeats, padded heartbeats and acknowledgements, and what happens after
//! silence.

use crate::common;

use common::*;
use frame::time::{FOREVER, MILLISECOND, SECOND};
use link::{NodeConfig, NodeEvent, SILENT_INTERVALS, datagram_room};
use wire::{IPV4_UDP_LEN, UNPROVEN_MTU};

/// Where a node's heartbeats fall in the interval: consecutive ids are spread by the golden ratio.
fn phase(id: u32, interval: u64) -> u64 {
    let golden = 0x9E37_79B9_u64;
    let fraction = (u64::from(id) * golden) % (1 << 32);
    (u128::from(interval) * u128::from(fraction) / (1 << 32)) as u64
}

fn config_with(interval: u64) -> NodeConfig {
    NodeConfig { interval, ..node_config() }
}

fn client(id: u32, config: NodeConfig) -> Client {
    Client::with(slave(id), address(1), config, Some(key()), START)
}

#[test]
fn the_second_heartbeat_falls_where_the_id_says() {
    for interval in [SECOND, 10 * SECOND] {
        for id in [0, 1, 17, 8191, 131_071] {
            let config = NodeConfig { no_answer_after: FOREVER, ..config_with(interval) };
            let mut client = client(id, config.clone());
            assert_eq!(client.node.deadline(&config), START, "the first is due at once");
            client.heartbeat(START).unwrap();
            let next = START + interval / 4 + phase(id, interval);
            assert_eq!(client.node.deadline(&config), next);
            assert!(!client.node.is_due(next - 1) && client.node.is_due(next));
            assert!(client.heartbeat(next - 1).is_none() && client.heartbeat(next).is_some());
            assert_eq!(client.node.deadline(&config), next + interval, "an interval later");
        }
    }
}

#[test]
fn a_late_heartbeat_moves_the_next_by_half_an_interval_at_most() {
    let config = NodeConfig { no_answer_after: FOREVER, ..config_with(SECOND) };
    for (late, then) in [(0, 1000), (499, 1000), (500, 1000), (501, 1001), (800, 1300), (5000, 5500)] {
        let mut client = client(17, config.clone());
        client.heartbeat(START).unwrap();
        let next = client.node.deadline(&config);
        client.heartbeat(next + late * MILLISECOND).unwrap();
        assert_eq!(client.node.deadline(&config), next + then * MILLISECOND, "{late} ms late");
    }
}

#[test]
fn a_prompt_heartbeat_changes_no_regular_one() {
    let mut gateway = Gateway::new(config(), START);
    let mut client = client(17, config_with(SECOND));
    let first = client.heartbeat(START).unwrap();
    let regular = client.node.deadline(&client.config);
    let answers = gateway.receive(START, &client.peer, &first);
    client.take(START, &answers);
    assert!(client.node.is_due(START), "a new cookie is answered at once");
    client.heartbeat(START).unwrap();
    assert_eq!(client.node.deadline(&client.config), regular);
    assert!(client.heartbeat(START).is_none());
}

#[test]
fn every_heartbeat_has_the_next_number() {
    let mut client = client(17, config_with(SECOND));
    let mut now = START;
    for seq in 1..6 {
        let datagram = client.heartbeat(now).unwrap();
        assert_eq!(heartbeat_in(&datagram).seq, seq);
        now += 2 * SECOND;
    }
}

#[test]
fn a_heartbeat_that_does_not_fit_is_due_as_before() {
    let mut client = client(17, config_with(SECOND));
    assert_eq!(client.node.transmit(&client.config, START, &mut [0; 20]), None);
    assert!(client.node.is_due(START));
    let datagram = client.heartbeat(START).unwrap();
    assert_eq!(heartbeat_in(&datagram).seq, 1, "a heartbeat that was not sent takes no number");
}

#[test]
fn without_an_answer_there_is_none_after_a_time_and_after_that_only_heartbeats_are_due() {
    let config = NodeConfig { no_answer_after: 700 * MILLISECOND, ..config_with(60 * SECOND) };
    let mut client = client(17, config.clone());
    client.heartbeat(START).unwrap();
    let regular = START + 15 * SECOND + phase(17, 60 * SECOND);
    let silent = START + 700 * MILLISECOND;
    assert_eq!(client.node.deadline(&config), silent);
    assert_eq!(client.node.poll_event(&config, silent - 1), None);
    assert_eq!(client.node.poll_event(&config, silent), Some(NodeEvent::NoAnswer));
    assert_eq!(client.node.poll_event(&config, silent), None, "once for each silence");
    assert_eq!(client.node.deadline(&config), regular);
}

#[test]
fn a_gateway_is_doubted_after_two_intervals_and_a_half_and_lost_after_three() {
    for interval in [SECOND, 4 * SECOND] {
        let mut gateway = Gateway::new(link::RegistrarConfig { interval, ..config() }, START);
        let mut client = client(17, config_with(interval));
        client.exchange(&mut gateway, START);
        assert!(client.node.is_registered());
        client.events();
        let config = client.config.clone();
        assert_eq!(client.node.last_heard(), START);
        assert_eq!(client.node.doubt_at(&config), START + 5 * interval / 2);
        let lost = START + SILENT_INTERVALS * interval;
        // Heartbeats go on, and nobody answers.
        let mut now = START;
        while now < lost {
            assert_eq!(client.node.poll_event(&config, now), None);
            client.heartbeat(now);
            now = client.node.deadline(&config).max(now + 1);
            assert!(now <= lost, "the silence ends before another heartbeat is due");
        }
        assert_eq!(client.node.poll_event(&config, lost), Some(NodeEvent::Lost));
        assert!(!client.node.is_registered());
    }
}

#[test]
fn padded_heartbeats_come_at_once_and_then_amid_two_regular_ones() {
    for (claimed, sizes) in [(1500, vec![1500, 1500]), (9000, vec![9000, 9000, 1500, 1500]), (UNPROVEN_MTU, vec![])] {
        let mut gateway = Gateway::new(config(), START);
        let mut client = client(17, NodeConfig { max_ip_packet: claimed, ..config_with(SECOND) });
        for _ in 0..2 {
            let heartbeat = client.heartbeat(START).unwrap();
            let answers = gateway.receive(START, &client.peer, &heartbeat);
            client.take(START, &answers);
        }
        assert!(client.node.is_registered());
        let mut now = START;
        let mut probed = Vec::new();
        while now < START + 8 * SECOND {
            if client.node.wants_probe(&client.config, now) {
                // The network drops them all.
                let probe = client.probe(now).unwrap();
                probed.push((now, probe.len() + usize::from(IPV4_UDP_LEN)));
                assert!(!client.node.wants_probe(&client.config, now), "one between two regular ones");
            }
            if let Some(heartbeat) = client.heartbeat(now) {
                let answers = gateway.receive(now, &client.peer, &heartbeat);
                client.take(now, &answers);
            }
            now += MILLISECOND;
        }
        assert_eq!(probed.iter().map(|(_, size)| *size).collect::<Vec<_>>(), sizes);
        let first = START + SECOND / 4 + phase(17, SECOND);
        for (number, (at, _)) in (0..).zip(&probed) {
            // A padded heartbeat is due half an interval before the next regular one, so in the middle between two. The
            // time is rounded up to the step of this test.
            let due = if number == 0 { START } else { first + number * SECOND - SECOND / 2 };
            assert!(*at >= due && *at < due + MILLISECOND, "{number}: {at} is not {due}");
        }
    }
}

#[test]
fn a_master_says_what_it_has_when_a_burst_has_settled() {
    let mut gateway = Gateway::new(config(), START);
    let mut master = Client::new(wire::link::NodeId::master(1), address(9), START);
    let mut slave = Client::new(slave(17), address(1), START);
    run(&mut gateway, &mut [&mut master, &mut slave], START, START + 4 * SECOND);
    // A change reaches the master. It confirms the change two milliseconds later, long before its next regular
    // heartbeat.
    let mut now = START + 4 * SECOND;
    slave.config.pages_free = 0;
    let told = loop {
        assert!(now < START + 8 * SECOND, "the master is told of changes");
        slave.exchange(&mut gateway, now);
        master.exchange(&mut gateway, now);
        let answers = gateway.advance(now);
        if answers.iter().any(|(to, _)| *to == master.peer) {
            master.take(now, &answers);
            break now;
        }
        now += MILLISECOND;
    };
    assert_eq!(master.node.deadline(&master.config), told + 2 * MILLISECOND);
    assert!(master.heartbeat(told + 2 * MILLISECOND - 1).is_none());
    let said = heartbeat_in(&master.heartbeat(told + 2 * MILLISECOND).unwrap());
    assert_eq!(said.members_generation, gateway.registrar.summary().generation);
}

#[test]
fn a_packet_has_room_for_what_its_headers_leave() {
    let v6 = frame::Peer::socket(frame::PortId(0), "[2001:db8::1]:9999".parse().unwrap());
    assert_eq!((datagram_room(&address(1), 1500), datagram_room(&v6, 1500)), (1472, 1452));
    assert_eq!((datagram_room(&address(1), 10), datagram_room(&v6, 48)), (0, 0));
}

#[test]
fn who_hears_of_a_drain_says_so_soon_but_not_twice_in_20_ms() {
    for (heard, said) in [(5, 20), (19, 20), (20, 20), (21, 21), (100, 100)] {
        let (mut gateway, mut client, _) = registered(17, START);
        let (heard, said) = (START + heard * MILLISECOND, START + said * MILLISECOND);
        gateway.registrar.leave(heard);
        client.take(heard, &gateway.advance(heard));
        assert_eq!(client.events(), [NodeEvent::Draining]);
        assert!(client.heartbeat(said - 1).is_none());
        assert!(heartbeat_in(&client.heartbeat(said).unwrap()).left);
        assert!(client.heartbeat(said).is_none(), "once");
    }
}

#[test]
fn an_answer_to_a_padded_heartbeat_decides_at_once() {
    let mut gateway = Gateway::new(config(), START);
    let mut client = client(17, NodeConfig { max_ip_packet: 9000, ..config_with(SECOND) });
    for _ in 0..2 {
        let heartbeat = client.heartbeat(START).unwrap();
        let answers = gateway.receive(START, &client.peer, &heartbeat);
        client.take(START, &answers);
    }
    assert!(client.node.is_registered());
    client.events();
    let mut now = START;
    let mut padded = 0;
    while client.events.is_empty() {
        now += MILLISECOND;
        assert!(now < START + 10 * SECOND, "it is decided in the end");
        let probe = client.probe(now);
        padded += probe.iter().count();
        // The gateway's network carries 1500.
        let arrives = |datagram: &Vec<u8>| datagram.len() + usize::from(IPV4_UDP_LEN) <= 1500;
        for datagram in client.heartbeat(now).into_iter().chain(probe).filter(arrives) {
            let answers = gateway.receive(now, &client.peer, &datagram);
            client.take(now, &answers);
        }
    }
    // Two padded heartbeats of 9000 bytes and one of 1500. A second one of 1500 is not needed.
    assert_eq!((client.events(), padded), (vec![NodeEvent::MtuReduced { claimed: 9000, acknowledged: 1500 }], 3));
}
