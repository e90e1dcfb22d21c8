//! Gone and suspect: what silence means, and when it means nothing.

mod common;

use common::*;
use frame::time::{MILLISECOND, SECOND};
use link::{Health, NodeConfig, NodeEvent, Notice, RegistrarConfig, RouteChange};
use wire::Scale;
use wire::link::MemberState;

const STEP: u64 = 10 * MILLISECOND;

/// A gateway of 256 slaves, all registered at `START` and alive until the returned time.
fn cluster(slaves: u32) -> (Gateway, Vec<Client>, u64) {
    let scale = Scale::new(8, 8).unwrap();
    let mut gateway = Gateway::new(RegistrarConfig { scale, shards: "0".parse().unwrap(), ..config() }, START);
    let node_config = NodeConfig { scale, max_ip_packet: 1280, ..node_config() };
    let mut clients: Vec<Client> = (0..slaves)
        .map(|id| Client::with(slave(id), address(id as u8), node_config.clone(), Some(key()), START))
        .collect();
    let until = START + 4 * SECOND;
    run(&mut gateway, &mut clients.iter_mut().collect::<Vec<_>>(), START, until);
    assert_eq!(gateway.registrar.summary().here, slaves);
    gateway.routes();
    (gateway, clients, until)
}

fn states(gateway: &Gateway) -> (u32, u32) {
    let summary = gateway.registrar.summary();
    assert_eq!(gateway.counter("slaves_here"), u64::from(summary.here));
    assert_eq!(gateway.counter("slaves_suspect"), u64::from(summary.suspect));
    (summary.here, summary.suspect)
}

#[test]
fn silence_of_three_intervals_is_gone_and_the_route_goes() {
    let (mut gateway, client, _) = registered(17, START);
    let id = scale().slave_id(17).unwrap();
    let mut now = START;
    while now < START + 3 * SECOND {
        gateway.advance(now);
        now += STEP;
    }
    assert_eq!(gateway.registrar.state(id), MemberState::Here);
    assert!(gateway.routes().is_empty());
    assert_eq!(gateway.registrar.deadline(), Some(START + 3 * SECOND));
    let generation = gateway.registrar.summary().generation;
    gateway.advance(START + 3 * SECOND);
    assert_eq!(gateway.registrar.state(id), MemberState::Gone);
    assert_eq!(gateway.routes(), [RouteChange::Slave { id, route: None }]);
    assert_eq!(gateway.registrar.summary().generation, generation + 1);
    assert_eq!(gateway.registrar.deadline(), None);

    // Its cookie still holds: one heartbeat brings it back.
    let mut client = client;
    let heartbeat = client.heartbeat(now + SECOND).unwrap();
    assert!(ack_in(&gateway.receive(now + SECOND, &client.peer, &heartbeat)).registered);
    assert!(matches!(gateway.routes()[..], [RouteChange::Slave { route: Some(_), .. }]));
}

#[test]
fn a_few_that_fall_silent_are_gone() {
    let (mut gateway, mut clients, now) = cluster(200);
    // Exactly 5 %.
    let mut alive: Vec<&mut Client> = clients.iter_mut().skip(10).collect();
    run(&mut gateway, &mut alive, now, now + 4 * SECOND + STEP);
    assert_eq!(states(&gateway), (190, 0));
    assert_eq!(gateway.counter("mass_silences"), 0);
    assert_eq!(gateway.routes().len(), 10);
    assert_eq!(gateway.counter("nodes_gone"), 10);
}

#[test]
fn many_that_fall_silent_are_suspect_for_ten_intervals() {
    let (mut gateway, mut clients, now) = cluster(200);
    let mut alive: Vec<&mut Client> = clients.iter_mut().skip(50).collect();
    run(&mut gateway, &mut alive, now, now + 4 * SECOND + STEP);
    assert_eq!(states(&gateway), (150, 50));
    assert_eq!(gateway.counter("mass_silences"), 1);
    assert!(gateway.notices().iter().any(|n| matches!(n, Notice::MassSilence { present: 200, .. })));
    assert!(gateway.routes().is_empty(), "suspects keep their routes");
    let suspect = gateway.registrar.members().find(|view| view.member.state == MemberState::Suspect).unwrap();
    assert!(suspect.member.id < 50);

    // Twenty return in time, the others do not.
    let mut alive: Vec<&mut Client> = clients.iter_mut().skip(30).collect();
    run(&mut gateway, &mut alive, now + 4 * SECOND + STEP, now + 12 * SECOND);
    assert_eq!(states(&gateway), (170, 30));
    assert!(gateway.routes().is_empty());
    run(&mut gateway, &mut alive, now + 12 * SECOND, now + 14 * SECOND + STEP);
    assert_eq!(states(&gateway), (170, 0));
    assert_eq!(gateway.routes().len(), 30);
}

#[test]
fn all_at_once_are_suspect_and_come_back() {
    let (mut gateway, mut clients, now) = cluster(200);
    run(&mut gateway, &mut [], now, now + 6 * SECOND);
    assert_eq!(states(&gateway), (0, 200));
    run(&mut gateway, &mut clients.iter_mut().collect::<Vec<_>>(), now + 6 * SECOND, now + 8 * SECOND);
    assert_eq!(states(&gateway), (200, 0));
    assert!(gateway.routes().is_empty());
    assert_eq!(gateway.counter("nodes_gone"), 0);
}

#[test]
fn one_of_two_is_no_mass() {
    let (mut gateway, mut clients, now) = cluster(2);
    run(&mut gateway, &mut [&mut clients[0]], now, now + 4 * SECOND + STEP);
    assert_eq!(states(&gateway), (1, 0));
}

#[test]
fn silence_means_nothing_while_the_gateway_is_deaf() {
    for deaf in [(|_: u64| Health { polling: false, rx_lost: 0 }) as fn(u64) -> Health, |now| Health {
        polling: true,
        rx_lost: now / SECOND,
    }] {
        let (mut gateway, _, _) = registered(17, START);
        let mut now = START;
        while now < START + 10 * SECOND {
            gateway.registrar.advance(now, deaf(now), &mut gateway.out);
            now += STEP;
        }
        assert_eq!(states(&gateway), (1, 0));
        assert!(gateway.counter("deaf_spells") > 0);
        // The silence counts from the moment on in which it could hear again.
        let lost = deaf(now - STEP).rx_lost;
        while now < START + 12 * SECOND {
            gateway.registrar.advance(now, Health { polling: true, rx_lost: lost }, &mut gateway.out);
            now += STEP;
        }
        assert_eq!(states(&gateway), (1, 0));
        while now < START + 13 * SECOND + STEP {
            gateway.registrar.advance(now, Health { polling: true, rx_lost: lost }, &mut gateway.out);
            now += STEP;
        }
        assert_eq!(states(&gateway), (0, 0));
    }
}

#[test]
fn an_id_cannot_be_claimed_because_the_gateway_was_deaf() {
    let (mut gateway, first, _) = registered(17, START);
    let mut now = START;
    while now < START + 10 * SECOND {
        gateway.registrar.advance(now, Health { polling: false, rx_lost: 0 }, &mut gateway.out);
        now += STEP;
    }
    let mut second = Client::new(slave(17), address(2), now);
    second.exchange(&mut gateway, now);
    assert_eq!(second.events(), [NodeEvent::Duplicate]);
    assert_eq!(gateway.registrar.peer(scale().slave_id(17).unwrap()), Some(first.peer));
}

#[test]
fn a_registrar_that_was_not_called_was_deaf() {
    let (mut gateway, mut client, _) = registered(17, START);
    gateway.advance(START);
    gateway.advance(START + 60 * SECOND);
    assert_eq!(states(&gateway), (1, 0));
    client.exchange(&mut gateway, START + 60 * SECOND);
    assert!(client.node.is_registered());
}

#[test]
fn called_at_its_deadlines_only_it_is_not_deaf() {
    let (mut gateway, _, _) = registered(17, START);
    let mut calls = 0;
    let mut now = START;
    while let Some(deadline) = gateway.registrar.deadline() {
        now = now.max(deadline);
        gateway.advance(now);
        calls += 1;
        assert!(calls < 10);
    }
    assert_eq!((states(&gateway), now), ((0, 0), START + 3 * SECOND));
}
