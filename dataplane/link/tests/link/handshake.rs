//! Registration: cookie, ACK, route, MTU; restarts of the gateway; what a node reports.

use crate::common;

use common::*;
use frame::PortId;
use frame::time::{MILLISECOND, SECOND};
use link::{AckRefusal, NodeConfig, NodeEvent, Notice, Route, RouteChange};
use wire::link::{CookieFault, HeartbeatAck, MemberState, NodeId};
use wire::{IPV4_UDP_LEN, Record, Scale, UNPROVEN_MTU};

fn slave_id(id: u32) -> wire::SlaveId {
    scale().slave_id(id).unwrap()
}

#[test]
fn a_node_is_registered_after_two_heartbeats_at_once() {
    let mut gateway = Gateway::new(config(), START);
    let mut client = Client::new(slave(17), address(1), START);

    let first = client.heartbeat(START).expect("the first heartbeat is due at the start");
    let answers = gateway.receive(START, &client.peer, &first);
    let ack = ack_in(&answers);
    assert!(!ack.registered && !ack.cookie.is_none() && ack.seq == 1);
    assert_eq!((ack.cookie_fault, ack.challenge), (Some(CookieFault::Unknown), client.node.challenge()));
    assert_eq!(gateway.registrar.summary().here, 0, "state was stored for a stranger");
    assert!(gateway.routes().is_empty());
    client.take(START, &answers);

    let second = client.heartbeat(START).expect("a new cookie is answered at once");
    assert_eq!(heartbeat_in(&second).cookie, ack.cookie);
    let answers = gateway.receive(START, &client.peer, &second);
    client.take(START, &answers);
    let expected = NodeEvent::Registered {
        hold_ns: 50_000,
        mtu: UNPROVEN_MTU,
        scale: scale(),
        gateway_epoch: 77,
        shards: "1".parse().unwrap(),
        first_time: true,
    };
    assert_eq!(client.events(), [expected]);
    assert_eq!((client.node.hold_ns(), client.node.mtu(), client.node.is_registered()), (50_000, 1280, true));
    let route = Route { peer: client.peer, mtu: UNPROVEN_MTU, fixed_port: false };
    assert_eq!(gateway.routes(), [RouteChange::Slave { id: slave_id(17), route: Some(route) }]);
    assert_eq!(gateway.registrar.state(slave_id(17)), MemberState::Here);
    assert_eq!((gateway.counter("heartbeats_challenged"), gateway.counter("heartbeats_accepted")), (1, 1));

    // The same heartbeat once more changes nothing: no route, no generation.
    let generation = gateway.registrar.summary().generation;
    run(&mut gateway, &mut [&mut client], START + SECOND, START + 20 * SECOND);
    let mtu =
        gateway.routes().iter().filter(|change| matches!(change, RouteChange::Slave { route: Some(_), .. })).count();
    assert_eq!(mtu, 1, "one change, when the MTU was proven");
    assert_eq!(gateway.registrar.summary().generation, generation + 1);
    assert_eq!(gateway.refused(), 0);
}

#[test]
fn without_a_key_both_ends_run() {
    let mut gateway = Gateway::new(link::RegistrarConfig { keys: link::KeyRing::none(), ..config() }, START);
    let mut client = Client::with(slave(17), address(1), node_config(), None, START);
    client.exchange(&mut gateway, START);
    assert!(client.node.is_registered());
    assert_eq!(gateway.refused(), 0);
}

#[test]
fn a_new_cookie_is_answered_at_most_once_in_100_ms() {
    let mut client = Client::new(slave(17), address(1), START);
    let mut sent = Vec::new();
    let mut cookie = 1;
    let mut now = START;
    // A gateway, or someone with its key, that gives another cookie each time.
    while now < START + 500 * MILLISECOND {
        if let Some(datagram) = client.heartbeat(now) {
            sent.push(now);
            let mut gateway = Gateway::new(link::RegistrarConfig { secret: [cookie; 32], ..config() }, now);
            cookie += 1;
            let answers = gateway.receive(now, &client.peer, &datagram);
            client.take(now, &answers);
        }
        now += MILLISECOND;
    }
    // The first heartbeat, the prompt answer to its ACK, and then one in each 100 ms.
    assert_eq!(sent.len(), 6, "{sent:?}");
    assert!(sent[1..].windows(2).all(|pair| pair[1] - pair[0] == 100 * MILLISECOND), "{sent:?}");
}

#[test]
fn the_first_heartbeats_leave_together_and_the_later_ones_spread() {
    let config = node_config();
    let mut in_tenth = [0; 20];
    for id in 0..1000 {
        let mut client = Client::new(slave(id), address(1), START);
        assert!(client.heartbeat(START).is_some());
        assert!(client.heartbeat(START).is_none());
        let next = client.node.deadline(&config) - START;
        in_tenth[(next * 10 / SECOND) as usize] += 1;
    }
    // The heartbeats spread over one whole interval that begins at a quarter of it: 100 in each tenth, and 50 in the
    // half tenths at both ends.
    assert!(in_tenth[3..12].iter().all(|&n| (90..=110).contains(&n)), "{in_tenth:?}");
    assert_eq!(in_tenth[..2], [0, 0]);
}

#[test]
fn heartbeats_of_a_farm_share_datagrams_and_so_do_their_answers() {
    let mut gateway = Gateway::new(config(), START);
    let mut farm: Vec<Client> = (16..26).map(|id| Client::new(slave(id), address(1), START)).collect();
    for round in 0..2 {
        let mut datagram = Vec::new();
        for client in &mut farm {
            datagram.extend(client.heartbeat(START).unwrap());
        }
        let answers = gateway.receive(START, &address(1), &datagram);
        assert_eq!(answers.len(), 1, "10 ACKs of 119 bytes fit one datagram");
        assert!(answers[0].1.len() <= datagram.len());
        for client in &mut farm {
            // A farm gives each node its own answers; the others refuse them by name.
            client.take(START, &answers);
            assert!(client.refusals.drain(..).all(|refusal| refusal == AckRefusal::OtherNode));
            assert_eq!(client.node.is_registered(), round == 1);
        }
    }
    assert_eq!(gateway.registrar.summary().here, 10);
}

#[test]
fn many_answers_are_cut_into_datagrams_of_1280() {
    let mut gateway = Gateway::new(config(), START);
    let mut datagram = Vec::new();
    for _ in 0..3 {
        for id in 16..32 {
            datagram.extend(Client::new(slave(id), address(1), START).heartbeat(START).unwrap());
        }
    }
    let answers = gateway.receive(START, &address(1), &datagram);
    assert!(answers.iter().all(|(_, bytes)| bytes.len() + usize::from(IPV4_UDP_LEN) <= 1280));
    assert_eq!(answers.iter().map(|(_, bytes)| bytes.len() / 119).collect::<Vec<_>>(), [10, 10, 10, 10, 8]);
}

#[test]
fn answers_fit_the_smaller_mtu_of_both_ends() {
    for (ours, theirs) in [(576, 1500), (1500, 576)] {
        let mut gateway = Gateway::new(link::RegistrarConfig { mtu: ours, ..config() }, START);
        let mut datagram = Vec::new();
        for id in 16..32 {
            let mut client = Client::new(slave(id), address(1), START);
            client.config.max_ip_packet = theirs;
            datagram.extend(client.heartbeat(START).unwrap());
        }
        let answers = gateway.receive(START, &address(1), &datagram);
        let sizes: Vec<_> = answers.iter().map(|(_, bytes)| bytes.len()).collect();
        assert!(sizes.iter().all(|len| len + usize::from(IPV4_UDP_LEN) <= 576), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 16 * 119);
    }
}

#[test]
fn strangers_are_never_sent_more_than_they_sent() {
    // 16 ranges do not fit into an ACK that is as long as a heartbeat.
    let scale = Scale::new(8, 2).unwrap();
    let shards: Vec<String> = (0..16).map(|n| (3 * n).to_string()).collect();
    let config = link::RegistrarConfig { scale, shards: shards.join(",").parse().unwrap(), ..config() };
    let mut gateway = Gateway::new(config, START);
    let node_config = NodeConfig { scale, ..node_config() };
    let mut client = Client::with(slave(1), address(1), node_config, Some(key()), START);
    let first = client.heartbeat(START).unwrap();
    let answers = gateway.receive(START, &client.peer, &first);
    assert!(answers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= first.len());
    client.take(START, &answers);
    client.exchange(&mut gateway, START);
    // After the address is proven, the ACK has all ranges.
    let Some(NodeEvent::Registered { shards, .. }) = client.events().into_iter().next() else { panic!() };
    assert_eq!(shards.ranges().len(), 16);
}

#[test]
fn a_padded_heartbeat_proves_the_mtu() {
    let (mut gateway, mut client, _) = registered(17, START);
    assert_eq!(client.node.mtu(), UNPROVEN_MTU);
    assert!(client.node.wants_probe(&client.config, START));
    let probe = client.probe(START).unwrap();
    assert_eq!(probe.len() + usize::from(IPV4_UDP_LEN), 1500);
    let answers = gateway.receive(START, &client.peer, &probe);
    client.take(START, &answers);
    assert_eq!(client.events(), [NodeEvent::MtuProven { mtu: 1500 }]);
    assert!(client.probe(START + SECOND).is_none(), "proven once is enough");
    let route = Route { peer: client.peer, mtu: 1500, fixed_port: false };
    assert_eq!(gateway.routes(), [RouteChange::Slave { id: slave_id(17), route: Some(route) }]);

    // The proof holds for the ordinary heartbeats that follow.
    run(&mut gateway, &mut [&mut client], START + SECOND, START + 5 * SECOND);
    assert_eq!(client.node.mtu(), 1500);
}

#[test]
fn routes_follow_a_port_that_takes_less_and_then_more_again() {
    let (mut gateway, mut client, _) = registered(17, START);
    let mut master = Client::new(NodeId::master(1), address(2), START);
    run(&mut gateway, &mut [&mut client, &mut master], START, START + 3 * SECOND);
    assert_eq!((client.node.mtu(), master.node.mtu()), (1500, 1500));
    let change = |gateway: &mut Gateway, mtu: u16| {
        let Gateway { registrar, out } = gateway;
        registrar.set_port_mtus(&[mtu], out);
    };
    let routes = |mtu: u16| {
        let route = |last| Some(Route { peer: address(last), mtu, fixed_port: false });
        [RouteChange::Slave { id: slave_id(17), route: route(1) }, RouteChange::Master { id: 1, route: route(2) }]
    };
    // Every lcore gets the change at once. Nodes get it with the answers to their next heartbeats, and masters get the
    // slave's MTU by MEMBERS.
    client.events();
    gateway.routes();
    change(&mut gateway, 1400);
    assert_eq!(gateway.routes(), routes(1400));
    run(&mut gateway, &mut [&mut client, &mut master], START + 3 * SECOND, START + 6 * SECOND);
    assert_eq!((client.node.mtu(), master.node.mtu(), master.mirror[&17].mtu), (1400, 1400, 1400));
    let reduced = NodeEvent::MtuReduced { claimed: 1500, acknowledged: 1400 };
    assert_eq!((client.events(), gateway.routes()), (vec![reduced], vec![]));
    // The proven MTU stays. After the next heartbeats the routes are as before.
    change(&mut gateway, 1500);
    assert_eq!(gateway.routes(), []);
    run(&mut gateway, &mut [&mut client, &mut master], START + 6 * SECOND, START + 8 * SECOND);
    let mut grown = gateway.routes();
    grown.sort_by_key(|change| matches!(change, RouteChange::Master { .. }));
    assert_eq!(grown, routes(1500));
    assert_eq!((client.node.mtu(), master.node.mtu(), master.mirror[&17].mtu), (1500, 1500, 1500));
    // A port never takes less than a heartbeat and a record need.
    change(&mut gateway, 300);
    assert_eq!(gateway.routes(), routes(wire::MIN_MTU));
}

#[test]
fn a_node_that_takes_less_says_so_and_proves_it_when_it_takes_more_again() {
    let (mut gateway, mut client, _) = registered(17, START);
    run(&mut gateway, &mut [&mut client], START, START + 2 * SECOND);
    for (mtu, from) in [(1300, 2), (1500, 4), (1600, 6)] {
        client.config.max_ip_packet = mtu;
        client.node.probe_again(&client.config);
        run(&mut gateway, &mut [&mut client], START + from * SECOND, START + (from + 2) * SECOND);
        assert_eq!(client.node.mtu(), mtu.min(1500));
    }
    let said = client.events();
    assert_eq!(said.last(), Some(&NodeEvent::MtuReduced { claimed: 1600, acknowledged: 1500 }), "{said:?}");
}

#[test]
fn one_padded_heartbeat_proves_the_path_of_all_ids_at_its_address() {
    let (mut gateway, mut first, _) = registered(17, START);
    let mut second = Client::new(slave(18), first.peer, START);
    let mut elsewhere = Client::new(slave(19), address(2), START);
    for client in [&mut second, &mut elsewhere] {
        for _ in 0..2 {
            let heartbeat = client.heartbeat(START).unwrap();
            let answers = gateway.receive(START, &client.peer, &heartbeat);
            client.take(START, &answers);
        }
        assert!(client.node.is_registered());
        assert_eq!(client.node.mtu(), UNPROVEN_MTU);
    }
    let probe = first.probe(START).unwrap();
    let answers = gateway.receive(START, &first.peer, &probe);
    first.take(START, &answers);
    for client in [&mut second, &mut elsewhere] {
        let heartbeat = client.heartbeat(START + SECOND).unwrap();
        let answers = gateway.receive(START + SECOND, &client.peer, &heartbeat);
        client.take(START + SECOND, &answers);
    }
    assert_eq!((second.node.mtu(), elsewhere.node.mtu()), (1500, UNPROVEN_MTU));
}

#[test]
fn over_ipv6_the_headers_are_longer() {
    let mut gateway = Gateway::new(config(), START);
    let mut client = Client::new(slave(17), address(1), START);
    let ipv6 = |text: &str| frame::Peer::socket(PortId(0), text.parse().unwrap());
    let (ours, theirs) = (ipv6("[2001:db8::1]:9999"), ipv6("[2001:db8::2]:9999"));
    client.node = link::Node::new(slave(17), Some(key().node_key(slave(17))), theirs, &client.config, START);
    let mut probes = 0;
    for _ in 0..3 {
        let probe = client.probe(START);
        probes += probe.iter().filter(|probe| probe.len() == 1500 - 48).count();
        for datagram in client.heartbeat(START).into_iter().chain(probe) {
            for (_, answer) in gateway.receive(START, &ours, &datagram) {
                client.take_record(START, &theirs, &Record::first(&answer).unwrap());
            }
        }
    }
    assert_eq!((probes, client.node.mtu()), (1, 1500));
}

#[test]
fn a_heartbeat_that_only_says_it_is_padded_proves_nothing() {
    let (mut gateway, client, last) = registered(17, START);
    let lie = wire::link::Heartbeat { seq: last.seq + 1, padded: true, ..last };
    assert_eq!(ack_in(&gateway.receive(START, &client.peer, &signed(&lie))).mtu, UNPROVEN_MTU);
}

#[test]
fn an_mtu_that_does_not_get_through_is_reported() {
    let (mut gateway, mut client, _) = registered(17, START);
    let mut now = START;
    let mut probes = 0;
    while now < START + 10 * SECOND {
        // The network drops every packet above 1280.
        probes += usize::from(client.probe(now).is_some());
        while let Some(datagram) = client.heartbeat(now) {
            let answers = gateway.receive(now, &client.peer, &datagram);
            client.take(now, &answers);
        }
        client.events.extend(client.node.poll_event(&client.config, now));
        now += 10 * MILLISECOND;
    }
    assert_eq!(probes, 2);
    assert_eq!(client.events(), [NodeEvent::MtuReduced { claimed: 1500, acknowledged: UNPROVEN_MTU }]);
    assert!(client.node.is_registered());
}

#[test]
fn jumbo_to_a_gateway_of_1500_settles_at_1500() {
    let mut gateway = Gateway::new(config(), START);
    let jumbo = NodeConfig { max_ip_packet: 9000, ..node_config() };
    let mut client = Client::with(slave(17), address(1), jumbo, Some(key()), START);
    let mut now = START;
    while now < START + 10 * SECOND {
        for datagram in [client.heartbeat(now), client.probe(now)].into_iter().flatten() {
            // Packets above the gateway's MTU do not arrive.
            if datagram.len() + usize::from(IPV4_UDP_LEN) <= 1500 {
                let answers = gateway.receive(now, &client.peer, &datagram);
                client.take(now, &answers);
            }
        }
        now += 10 * MILLISECOND;
    }
    assert_eq!(client.node.mtu(), 1500);
    assert!(client.events().contains(&NodeEvent::MtuReduced { claimed: 9000, acknowledged: 1500 }));
    let expected = Notice::MtuDiffers { node: slave(17), from: client.peer, claimed: 9000, ours: 1500 };
    assert_eq!(gateway.notices(), [expected]);
}

#[test]
fn a_restarted_gateway_is_whole_within_two_intervals() {
    let mut gateway = Gateway::new(config(), START);
    let mut clients: Vec<Client> = (16..32).map(|id| Client::new(slave(id), address(id as u8), START)).collect();
    let mut all: Vec<&mut Client> = clients.iter_mut().collect();
    run(&mut gateway, &mut all, START, START + 3 * SECOND);
    assert_eq!(gateway.registrar.summary().here, 16);
    let restart = START + 3 * SECOND;
    let mut gateway = Gateway::new(link::RegistrarConfig { secret: [1; 32], epoch: 78, ..config() }, restart);
    run(&mut gateway, &mut all, restart, restart + 2 * SECOND);
    assert_eq!(gateway.registrar.summary().here, 16);
    for client in clients {
        assert!(client.node.is_registered());
        assert_eq!((client.node.gateway_epoch(), client.node.mtu()), (78, 1500));
        let again = |event: &NodeEvent| matches!(event, NodeEvent::Registered { first_time: false, .. });
        assert_eq!(client.events.iter().filter(|event| again(event)).count(), 1);
    }
}

#[test]
fn a_silent_gateway_is_lost_and_then_does_not_answer() {
    let (mut gateway, mut client, _) = registered(17, START);
    let mut now = START;
    while now < START + 20 * SECOND {
        client.heartbeat(now);
        client.probe(now);
        let event = client.node.poll_event(&client.config, now);
        match now - START {
            3_000_000_000 => assert_eq!(event, Some(NodeEvent::Lost)),
            5_000_000_000 => assert_eq!(event, Some(NodeEvent::NoAnswer)),
            _ => assert_eq!(event, None, "after {} ms", (now - START) / MILLISECOND),
        }
        now += 10 * MILLISECOND;
    }
    run(&mut gateway, &mut [&mut client], now, now + 2 * SECOND);
    let events = client.events_but_mtu();
    let expired = NodeEvent::CookieRefused { fault: CookieFault::Expired };
    assert_eq!(events[0], expired);
    assert!(matches!(events[1..], [NodeEvent::Registered { first_time: false, .. }]), "{events:?}");
}

#[test]
fn a_deadline_is_when_something_happens() {
    let mut client = Client::new(slave(17), address(1), START);
    let mut now = START;
    for _ in 0..12 {
        let deadline = client.node.deadline(&client.config);
        assert!(deadline >= now || client.node.is_due(now));
        now = now.max(deadline);
        let sent = client.heartbeat(now).is_some();
        let event = client.node.poll_event(&client.config, now);
        assert!(sent || event.is_some(), "nothing happened at {now}");
    }
}

#[test]
fn a_node_says_once_what_is_wrong() {
    // Another scale.
    let other = Scale::new(6, 3).unwrap();
    let mut gateway = Gateway::new(link::RegistrarConfig { scale: other, ..config() }, START);
    let mut client = Client::new(slave(10), address(1), START);
    run(&mut gateway, &mut [&mut client], START, START + 5 * SECOND);
    assert_eq!(client.events(), [NodeEvent::ScaleMismatch { ours: scale(), theirs: other }]);
    assert!(!client.node.is_registered());

    // A slave of another gateway.
    let mut gateway = Gateway::new(config(), START);
    let mut client = Client::new(slave(3), address(1), START);
    run(&mut gateway, &mut [&mut client], START, START + 5 * SECOND);
    let shards = "1".parse().unwrap();
    assert_eq!(client.events(), [NodeEvent::ForeignShard { shard: wire::Shard(0), shards }]);
    assert!(gateway.counter("refused_foreign_shard") >= 4);
    assert!(gateway.notices().contains(&Notice::ForeignShard { node: slave(3), from: client.peer }));

    // A gateway that has no room for one more master, and goes on to have none.
    let mut gateway = Gateway::new(link::RegistrarConfig { max_masters: 1, ..config() }, START);
    let mut masters = [1, 2].map(|id| Client::new(NodeId::master(id), address(id as u8), START));
    run(&mut gateway, &mut masters.iter_mut().collect::<Vec<_>>(), START, START + 5 * SECOND);
    assert!(gateway.counter("refused_masters_full") >= 4);
    assert_eq!(masters[1].events(), [NodeEvent::Refused]);

    // A gateway that drains, with another hold.
    let (mut gateway, mut client, _) = registered(17, START);
    gateway.registrar.leave(START);
    gateway.registrar.set_hold(70_000);
    run(&mut gateway, &mut [&mut client], START, START + 5 * SECOND);
    assert_eq!(client.events_but_mtu(), [NodeEvent::Draining]);
    assert_eq!(client.node.hold_ns(), 70_000);
}

#[test]
fn a_node_refuses_answers_that_are_not_its_own() {
    let (mut gateway, mut client, _) = registered(17, START);
    let later = START + 2 * SECOND;
    let heartbeat = client.heartbeat(later).unwrap();
    let answers = gateway.receive(later, &client.peer, &heartbeat);
    let genuine = answers[0].1.clone();
    let mut ack = ack_in(&answers);
    let emit = |ack: &HeartbeatAck, id: NodeId| {
        let mut out = [0; 256];
        let len = ack.emit(Some(key().node_key(id).as_bytes()), &mut out).unwrap();
        out[..len].to_vec()
    };
    let mut refusal = |from, bytes: &[u8]| {
        client.take_record(later, &from, &Record::first(bytes).unwrap());
        assert!(client.events.is_empty());
        client.refusals.pop()
    };
    let gateway_at = gateway_peer();

    ack.challenge ^= 1;
    assert_eq!(refusal(gateway_at, &emit(&ack, slave(17))), Some(AckRefusal::Challenge));
    ack.challenge ^= 1;
    ack.seq -= 1;
    assert_eq!(refusal(gateway_at, &emit(&ack, slave(17))), Some(AckRefusal::Sequence));
    ack.seq += 2;
    assert_eq!(refusal(gateway_at, &emit(&ack, slave(17))), Some(AckRefusal::Sequence));
    ack.seq -= 1;
    assert_eq!(refusal(gateway_at, &emit(&ack, slave(18))), Some(AckRefusal::Forged));
    let mut unsigned = genuine.clone();
    unsigned[wire::HEADER_LEN..wire::HEADER_LEN + 16].fill(0);
    assert_eq!(refusal(gateway_at, &unsigned), Some(AckRefusal::Unsigned));
    for at in [30, 50, 60, genuine.len() - 1] {
        let mut flipped = genuine.clone();
        flipped[at] ^= 1;
        assert!(refusal(gateway_at, &flipped).is_some(), "byte {at}");
    }
    assert_eq!(refusal(address(200), &genuine), Some(AckRefusal::OtherSource));
    let mut elsewhere = gateway_at;
    elsewhere.port = PortId(1);
    assert_eq!(refusal(elsewhere, &genuine), Some(AckRefusal::OtherSource));
    let mut other = ack.clone();
    other.node = NodeId::master(0);
    assert_eq!(refusal(gateway_at, &emit(&other, NodeId::master(0))), Some(AckRefusal::OtherNode));
    // Cargo of raw ports comes from the UDP port of the lane. Answers come only from the UDP port on which the gateway
    // listens.
    let mut lane = gateway_at;
    lane.udp_port = 49169;
    assert_eq!(refusal(lane, &genuine), Some(AckRefusal::OtherSource));
    assert_eq!(refusal(gateway_at, &genuine), None);
    assert_eq!(client.node.last_heard(), later);
}
