//! Two keys while the cluster changes its key, and a gateway that leaves.

use crate::common;

use common::*;
use frame::time::{MILLISECOND, SECOND};
use link::{ClusterKey, KeyRing, MemberTable, NodeEvent, RegistrarConfig, Standing};
use wire::Scale;
use wire::link::NodeId;

fn new_key() -> ClusterKey {
    ClusterKey::from_bytes([0x77; 32])
}

fn both() -> KeyRing<ClusterKey> {
    KeyRing::changing(key(), new_key())
}

fn only(key: ClusterKey) -> KeyRing<ClusterKey> {
    key.into()
}

/// Three slaves and a master behind one gateway, all with the old key.
fn cluster() -> (Gateway, Vec<Client>) {
    let mut gateway = Gateway::new(config(), START);
    let ids = [slave(17), slave(18), slave(19), NodeId::master(3)];
    let mut clients: Vec<Client> =
        ids.iter().zip(1..).map(|(&id, number)| Client::new(id, address(number), START)).collect();
    live(&mut gateway, &mut clients, START, 4);
    clients.iter_mut().for_each(|client| drop(client.events()));
    (gateway, clients)
}

/// Lets this many seconds pass.
fn live(gateway: &mut Gateway, clients: &mut [Client], from: u64, seconds: u64) -> u64 {
    let to = from + seconds * SECOND;
    run(gateway, &mut clients.iter_mut().collect::<Vec<_>>(), from, to);
    to
}

fn set_keys(client: &mut Client, keys: &KeyRing<ClusterKey>) {
    let id = client.node.id();
    client.node.set_keys(keys.node_keys(id));
}

/// Asserts that no node was lost, refused, or registered again.
fn is_undisturbed(gateway: &Gateway, clients: &mut [Client]) {
    assert_eq!((gateway.refused(), gateway.counter("nodes_gone")), (0, 0));
    for client in clients {
        assert_eq!((client.events_but_mtu(), client.node.is_registered()), (vec![], true));
        assert_eq!((&client.refusals[..], &client.members_refusals[..]), (&[][..], &[][..]));
    }
}

#[test]
fn the_key_changes_gateway_first_and_nobody_notices() {
    let (mut gateway, mut clients) = cluster();
    let now = START + 4 * SECOND;
    gateway.registrar.set_keys(both());
    assert_eq!(gateway.counter("members_old_key"), 4);
    let now = live(&mut gateway, &mut clients, now, 2);
    // The nodes get the new key one after the other. Each uses it as soon as the gateway says that it has a second key.
    for at in 0..clients.len() {
        set_keys(&mut clients[at], &both());
        live(&mut gateway, &mut clients, now + at as u64 * 3 * SECOND, 3);
        assert_eq!(gateway.counter("members_old_key"), 3 - at as u64);
    }
    let now = now + 12 * SECOND;
    for client in &mut clients {
        set_keys(client, &only(new_key()));
    }
    gateway.registrar.set_keys(only(new_key()));
    assert_eq!(gateway.counter("members_old_key"), 0);
    // MEMBERS still reach the master.
    clients[0].config.pages_free = 0;
    live(&mut gateway, &mut clients, now, 5);
    assert_eq!(clients[3].mirror[&17].pages_free, 0);
    is_undisturbed(&gateway, &mut clients);
}

#[test]
fn a_node_with_two_keys_finds_the_one_that_its_gateway_has() {
    for (keys, signs) in [(only(key()), key()), (both(), new_key()), (only(new_key()), new_key())] {
        let mut gateway = Gateway::new(RegistrarConfig { keys, ..config() }, START);
        let mut client = Client::new(slave(17), address(1), START);
        set_keys(&mut client, &both());
        run(&mut gateway, &mut [&mut client], START, START + 5 * SECOND);
        assert!(client.node.is_registered());
        assert_eq!(client.node.key(), Some(&signs.node_key(slave(17))));
        assert_eq!(client.node.signs(), usize::from(signs == new_key()), "the older of two keys has number 0");
        // The gateway forgets that key and has only the other one, as when an operator takes the change back.
        let other = if signs == key() { new_key() } else { key() };
        gateway.registrar.set_keys(only(other.clone()));
        run(&mut gateway, &mut [&mut client], START + 5 * SECOND, START + 15 * SECOND);
        assert!(client.node.is_registered());
        assert_eq!(client.node.key(), Some(&other.node_key(slave(17))));
    }
}

#[test]
fn a_third_key_is_forged_whatever_the_gateway_has() {
    let mut gateway = Gateway::new(RegistrarConfig { keys: both(), ..config() }, START);
    let third = ClusterKey::from_bytes([3; 32]);
    let mut client = Client::with(slave(17), address(1), node_config(), Some(third), START);
    run(&mut gateway, &mut [&mut client], START, START + 3 * SECOND);
    assert!(!client.node.is_registered() && gateway.counter("refused_forged") >= 2);
}

#[test]
fn a_gateway_that_leaves_tells_everybody_at_once() {
    let (mut gateway, mut clients) = cluster();
    let now = START + 4 * SECOND;
    assert_eq!((gateway.registrar.unheard(), gateway.counter("drain_unheard")), (4, 0));
    let sent = gateway.counter("acks_out");
    gateway.registrar.leave(now);
    assert_eq!(gateway.registrar.deadline(), Some(now));
    let told = gateway.advance(now);
    assert_eq!((told.len(), gateway.counter("drain_unheard")), (4, 4));
    clients.iter_mut().for_each(|client| client.take(now, &told));
    for client in &mut clients {
        assert_eq!(client.events_but_mtu(), [NodeEvent::Draining]);
        assert_eq!(client.node.standing(&client.config, now), Standing::Draining);
    }
    // They confirm it promptly, and not only when their next heartbeat is due.
    run(&mut gateway, &mut clients.iter_mut().collect::<Vec<_>>(), now, now + 100 * MILLISECOND);
    assert_eq!((gateway.registrar.unheard(), gateway.counter("drain_acks_out")), (0, 4));
    assert!(gateway.counter("acks_out") >= sent + 8);
    let later = now + SECOND;
    assert!(gateway.registrar.deadline().is_some_and(|at| at > now + 100 * MILLISECOND));
    assert_eq!(gateway.advance(later), []);
    is_undisturbed(&gateway, &mut clients);
}

#[test]
fn who_did_not_hear_is_told_again_and_the_next_answer_says_it_too() {
    let (mut gateway, mut clients) = cluster();
    let now = START + 4 * SECOND;
    gateway.registrar.leave(now);
    assert_eq!(gateway.advance(now).len(), 4, "and all of them are lost");
    assert_eq!(gateway.advance(now + 249 * MILLISECOND), []);
    let again = gateway.advance(now + 250 * MILLISECOND);
    assert_eq!(again.len(), 4);
    let later = now + 250 * MILLISECOND;
    clients[0].take(later, &again);
    let said = clients[0].heartbeat(later).unwrap();
    assert!(heartbeat_in(&said).left);
    gateway.receive(later, &clients[0].peer, &said);
    assert_eq!(gateway.registrar.unheard(), 3);
    // The answer to an ordinary heartbeat says it, too.
    let later = now + SECOND;
    let heartbeat = clients[1].heartbeat(later).unwrap();
    assert!(!heartbeat_in(&heartbeat).left);
    let answers = gateway.receive(later, &clients[1].peer, &heartbeat);
    clients[1].take(later, &answers);
    assert_eq!(clients[1].events_but_mtu(), [NodeEvent::Draining]);
}

#[test]
fn many_are_told_in_turns_and_those_at_one_address_in_few_datagrams() {
    let scale = Scale::default();
    let config =
        RegistrarConfig { scale, shards: "0".parse().unwrap(), keys: KeyRing::none(), ..RegistrarConfig::default() };
    let mut gateway = Gateway::new(config, START);
    let node_config = link::NodeConfig { scale, ..node_config() };
    let client = |id| Client::with(slave(id), address(1), node_config.clone(), None, START);
    let mut clients: Vec<Client> = (0..2000).map(client).collect();
    for _ in 0..2 {
        for client in &mut clients {
            let heartbeat = client.heartbeat(START).unwrap();
            let answers = gateway.receive(START, &client.peer, &heartbeat);
            client.take(START, &answers);
        }
    }
    gateway.registrar.leave(START);
    let (mut now, mut told) = (START, 0);
    while gateway.counter("drain_acks_out") < 2000 {
        let datagrams = gateway.advance(now);
        told += datagrams.len();
        assert!((1..=33).contains(&datagrams.len()), "a few at a time: {}", datagrams.len());
        clients.iter_mut().for_each(|client| client.take(now, &datagrams));
        now = gateway.registrar.deadline().unwrap();
    }
    assert!(told <= 2000 / 10 + 20 && now < START + SECOND / 2, "{told}");
    assert!(clients.iter().all(|client| client.node.standing(&client.config, START) == Standing::Draining));
}

#[test]
fn a_gateway_is_doubted_before_it_is_lost_and_live_again_from_its_next_answer() {
    let (mut gateway, mut client, _) = registered(17, START);
    let standing = |client: &Client, now| client.node.standing(&client.config, now);
    assert_eq!(standing(&client, START), Standing::Live(START));
    let doubt = START + 2500 * MILLISECOND;
    assert_eq!((standing(&client, doubt - 1), standing(&client, doubt)), (Standing::Live(START), Standing::Silent));
    let later = START + 2600 * MILLISECOND;
    let heartbeat = client.heartbeat(later).unwrap();
    let answers = gateway.receive(later, &client.peer, &heartbeat);
    client.take(later, &answers);
    assert_eq!(standing(&client, later), Standing::Live(later));
    // The gateway restarts: it answers, and knows nobody.
    let restart = START + 4 * SECOND;
    let mut gateway = Gateway::new(RegistrarConfig { secret: [1; 32], epoch: 78, ..config() }, restart);
    let heartbeat = client.heartbeat(restart).unwrap();
    let answers = gateway.receive(restart, &client.peer, &heartbeat);
    client.take(restart, &answers);
    assert_eq!(standing(&client, restart), Standing::Silent);
    run(&mut gateway, &mut [&mut client], restart, restart + SECOND);
    let Standing::Live(since) = standing(&client, restart + SECOND) else { panic!("it is back") };
    assert!(since >= restart);
    let lost = restart + 5 * SECOND;
    assert_eq!(client.node.poll_event(&client.config, lost), Some(NodeEvent::Lost));
    assert_eq!(standing(&client, lost), Standing::Away);
}

#[test]
fn a_master_takes_members_that_its_earlier_key_signed() {
    let (mut gateway, mut clients) = cluster();
    let now = START + 4 * SECOND;
    gateway.registrar.set_keys(both());
    let mut master = clients.pop().unwrap();
    set_keys(&mut master, &both());
    // The master signs with the new key, as the gateway asks. MEMBERS that were sent a moment ago have the old key's
    // tag.
    let heartbeat = master.heartbeat(now + SECOND).unwrap();
    let answers = gateway.receive(now + SECOND, &master.peer, &heartbeat);
    assert!(ack_in(&answers).newer_key);
    let mut slave = clients.remove(0);
    slave.config.pages_free = 1;
    let heartbeat = slave.heartbeat(now + SECOND).unwrap();
    gateway.receive(now + SECOND, &slave.peer, &heartbeat);
    let members = gateway.advance(now + 2 * SECOND);
    master.take(now + SECOND, &answers);
    assert_eq!(master.node.key(), Some(&new_key().node_key(NodeId::master(3))));
    master.take(now + 2 * SECOND, &members);
    assert_eq!(master.table.get(17).map(|member| member.pages_free), Some(1));
    let stranger = MemberTable::new(scale(), SECOND);
    assert!(stranger.is_empty() && master.members_refusals.is_empty());
}
