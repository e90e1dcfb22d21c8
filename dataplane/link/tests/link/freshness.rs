//! A recorded message is never accepted as an answer and registers nobody. Only the gateway's own clock matters.

use crate::common;

use common::*;
use frame::time::{MILLISECOND, SECOND};
use frame::{Peer, Time};
use link::{
    AckRefusal, ChallengeSecret, ClusterKey, KeyRing, MembersRefusal, NodeConfig, NodeEvent, Notice, RegistrarConfig,
    RouteChange, SILENT_INTERVALS,
};
use proptest::prelude::*;
use wire::link::{CookieFault, Heartbeat, Member, MemberState, MembersBuilder, MembersHead, NodeId, SpeedClass};
use wire::{Record, Scale, Walk};

const LATER: Time = START + SECOND;

/// The datagrams that a recorder gets between a gateway and its nodes.
#[derive(Default)]
struct Tape {
    heartbeats: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

/// Runs the clients for a while and records all datagrams.
fn recorded(gateway: &mut Gateway, clients: &mut [&mut Client], from: Time, to: Time, tape: &mut Tape) {
    let mut now = from;
    while now < to {
        for client in clients.iter_mut() {
            while let Some(heartbeat) = client.heartbeat(now) {
                let answers = gateway.receive(now, &client.peer, &heartbeat);
                tape.heartbeats.push(heartbeat);
                tape.answers.extend(answers.iter().map(|(_, bytes)| bytes.clone()));
                client.take(now, &answers);
            }
        }
        for answer in gateway.advance(now) {
            tape.answers.push(answer.1.clone());
            clients.iter_mut().for_each(|client| client.take(now, std::slice::from_ref(&answer)));
        }
        now += 10 * MILLISECOND;
    }
}

/// A gateway, and a tape of the session of a master and 8 slaves there. The master is gone at the returned time.
fn session(id: u16) -> (Gateway, Client, Tape, Time) {
    let mut gateway = Gateway::new(config(), START);
    let mut slaves: Vec<Client> = (16..24).map(|id| Client::new(slave(id), address(id as u8), START)).collect();
    let mut master = Client::new(NodeId::master(id), address(200), START);
    let mut tape = Tape::default();
    let mut all: Vec<&mut Client> = slaves.iter_mut().collect();
    run(&mut gateway, &mut all, START, START + SECOND);
    recorded(&mut gateway, &mut [&mut master], START + SECOND, START + 5 * SECOND, &mut tape);
    assert_eq!(master.table.len(), 8);
    (gateway, master, tape, START + 5 * SECOND)
}

/// Plays all recorded answers to a client after each heartbeat that it sends. The real gateway is dead.
fn play_answers(client: &mut Client, tape: &Tape, from: Time, to: Time) {
    let mut now = from;
    while now < to {
        client.heartbeat(now);
        client.probe(now);
        for answer in &tape.answers {
            for item in Walk::new(answer, Scale::default()) {
                client.take_record(now, &gateway_peer(), &item.unwrap().1);
            }
        }
        let event = client.node.poll_event(&client.config, now);
        client.events.extend(event);
        now += 100 * MILLISECOND;
    }
}

#[test]
fn a_recorded_session_registers_no_master_and_shows_it_no_member() {
    let (_, _, tape, now) = session(3);
    // Another start of the same master. Its heartbeats have the numbers of the recorded session.
    let mut master = Client::with(NodeId::master(3), address(200), booted(6), Some(key()), now);
    play_answers(&mut master, &tape, now, now + 6 * SECOND);
    assert!(!master.node.is_registered() && master.table.is_empty());
    assert_eq!(master.events(), [NodeEvent::OldAnswers]);
    assert!(master.refusals.iter().all(|refusal| *refusal == AckRefusal::Challenge));
    assert!(master.members_refusals.iter().all(|refusal| *refusal == MembersRefusal::Challenge));
    assert!(master.refusals.len() > 100 && !master.members_refusals.is_empty());
}

#[test]
fn answers_of_another_gateway_are_none() {
    let (_, _, tape, now) = session(3);
    // The same start of the master uses two gateways. Answers of one gateway are sent from the address of the other.
    let mut elsewhere = gateway_peer();
    elsewhere.udp_port += 1;
    let mut master = Client::new(NodeId::master(3), address(200), now);
    master.node =
        link::Node::new(NodeId::master(3), Some(key().node_key(NodeId::master(3))), elsewhere, &master.config, now);
    master.heartbeat(now).unwrap();
    for answer in &tape.answers {
        master.take_record(now, &elsewhere, &Record::first(answer).unwrap());
    }
    assert!(!master.node.is_registered());
    let acks = master.refusals.iter().filter(|refusal| **refusal == AckRefusal::Challenge).count();
    assert_eq!(acks + master.members_refusals.len(), tape.answers.len());
}

#[test]
fn within_one_session_an_old_snapshot_and_old_differences_change_nothing() {
    let (mut gateway, mut master, tape, now) = session(3);
    // A slave leaves, and the master gets the change. Then all earlier MEMBERS are sent to it again.
    let mut slaves: Vec<Client> =
        (17..24).map(|id| Client::with(slave(id), address(id as u8), booted(7), Some(key()), now)).collect();
    let mut all: Vec<&mut Client> = slaves.iter_mut().chain([&mut master]).collect();
    run(&mut gateway, &mut all, now, now + 12 * SECOND);
    let (known, generation) = (master.mirror.clone(), master.table.generation());
    assert!(!known.contains_key(&16) && known.len() == 7);
    for answer in tape.answers.iter().rev().chain(&tape.answers) {
        master.take_record(now + 12 * SECOND, &gateway_peer(), &Record::first(answer).unwrap());
    }
    // Then snapshots that the test makes, of older generations of the same start of the gateway.
    for (from_generation, to_generation) in [(0, generation - 1), (0, generation), (generation - 1, generation)] {
        let head = MembersHead {
            master: 3,
            snapshot: from_generation == 0,
            challenge: master.node.challenge(),
            gateway_epoch: 77,
            from_generation,
            to_generation,
        };
        let mut out = [0; 512];
        let mut builder = MembersBuilder::new(head, &mut out).unwrap();
        assert!(builder.push(&Member {
            id: 16,
            state: MemberState::Here,
            mtu: 1500,
            vcpus: 1,
            speed_class: SpeedClass::UNKNOWN,
            domain: 0,
            epoch: 5,
            pages_total: 1,
            pages_free: 1,
        }));
        let len = builder.finish(Some(key().node_key(NodeId::master(3)).as_bytes()));
        master.take_record(now + 12 * SECOND, &gateway_peer(), &Record::first(&out[..len]).unwrap());
        assert_eq!(master.members_refusals.pop(), Some(MembersRefusal::Stale));
    }
    assert_eq!((&master.mirror, master.table.generation()), (&known, generation));
}

#[test]
fn a_heartbeat_of_an_earlier_boot_never_displaces_a_later_one() {
    let mut gateway = Gateway::new(config(), START);
    let mut first = Client::with(slave(17), address(1), booted(u64::MAX), Some(key()), START);
    let mut tape = Tape::default();
    recorded(&mut gateway, &mut [&mut first], START, START + 3 * SECOND, &mut tape);
    // These heartbeats were recorded and lost. The gateway never got their numbers.
    let lost = first.heartbeat(START + 4 * SECOND - MILLISECOND).unwrap();
    tape.heartbeats.push(lost);
    // The next boot of the node has the lowest possible epoch. The epoch must not decide.
    let boot = START + 4 * SECOND;
    let mut second = Client::with(slave(17), address(1), booted(0), Some(key()), boot);
    second.exchange(&mut gateway, boot);
    assert!(second.node.is_registered());
    gateway.routes();
    let generation = gateway.registrar.summary().generation;
    for at in [boot + MILLISECOND, boot + 2 * SECOND] {
        for heartbeat in &tape.heartbeats {
            assert!(
                gateway.receive(at, &first.peer, heartbeat).iter().all(|(_, bytes)| bytes.len() <= heartbeat.len())
            );
        }
    }
    assert_eq!((gateway.routes(), gateway.registrar.summary().generation), (vec![], generation));
    assert!(gateway.counter("refused_other_boot") >= 2);
    assert_eq!(gateway.notices(), [Notice::OtherBoot { node: slave(17), from: first.peer }]);
    // The later boot goes on. Answers to it are not for the earlier one.
    let heartbeat = second.heartbeat(boot + 2 * SECOND).unwrap();
    assert!(ack_in(&gateway.receive(boot + 2 * SECOND, &second.peer, &heartbeat)).registered);
    // They bring nothing back when the later boot is gone, also not after the cookies have expired.
    let mut now = boot + 2 * SECOND;
    while gateway.registrar.summary().here > 0 {
        now += SECOND / 10;
        gateway.advance(now);
    }
    gateway.routes();
    for at in [now, now + 20 * SECOND] {
        for heartbeat in &tape.heartbeats {
            gateway.receive(at, &first.peer, heartbeat);
        }
    }
    assert_eq!((gateway.routes(), gateway.registrar.summary().here), (vec![], 0));
    assert!(gateway.counter("cookies_expired") > 0);
}

#[test]
fn an_honest_restart_is_registered_at_once_whatever_its_clock_says() {
    let mut gateway = Gateway::new(config(), START);
    // The clocks are right, years ahead, an hour behind, at 1970, and at the largest time. Each start begins while the
    // one before is still registered.
    for (turn, epoch) in
        [1_764_000_000_000_000_000, 4_000_000_000_000_000_000, 1_763_996_400_000_000_000, 0, u64::MAX, 1]
            .into_iter()
            .enumerate()
    {
        let now = START + turn as u64 * SECOND;
        let mut client = Client::with(slave(17), address(1), booted(epoch), Some(key()), now);
        client.exchange(&mut gateway, now);
        assert!(client.node.is_registered(), "boot epoch {epoch}");
        assert!(matches!(client.events_but_mtu()[..], [NodeEvent::Registered { .. }]));
    }
    assert_eq!((gateway.refused(), gateway.notices()), (0, vec![]));
}

#[test]
fn without_a_key_nobody_is_kept_out_by_a_claimed_boot() {
    let mut gateway = Gateway::new(RegistrarConfig { keys: KeyRing::none(), ..config() }, START);
    let mut client = Client::with(slave(17), address(1), node_config(), None, START);
    client.exchange(&mut gateway, START);
    let mut liar = Client::with(slave(17), address(1), booted(u64::MAX), None, START + MILLISECOND);
    liar.exchange(&mut gateway, START + MILLISECOND);
    assert!(liar.node.is_registered(), "without a key it may be a restart");
    run(&mut gateway, &mut [&mut client], START + 10 * MILLISECOND, START + 3 * SECOND);
    assert!(client.node.is_registered());
    assert_eq!(gateway.registrar.members().next().unwrap().member.epoch, 5);
}

#[test]
fn who_was_silent_for_longer_than_cookies_hold_proves_itself_within_an_interval() {
    let (mut gateway, mut client, _) = registered(17, START);
    let later = START + 11 * SECOND + MILLISECOND;
    for at in 0..110 {
        gateway.advance(START + at * 100 * MILLISECOND);
    }
    let heartbeat = client.heartbeat(later).unwrap();
    let answers = gateway.receive(later, &client.peer, &heartbeat);
    let ack = ack_in(&answers);
    assert_eq!((ack.registered, ack.cookie_fault), (false, Some(CookieFault::Expired)));
    client.take(later, &answers);
    assert_eq!(client.events(), [NodeEvent::CookieRefused { fault: CookieFault::Expired }]);
    client.exchange(&mut gateway, later);
    assert_eq!((gateway.counter("cookies_expired"), gateway.registrar.summary().here), (1, 1));
    assert!(gateway.refused() == 0 && client.node.is_registered());
}

#[test]
fn a_cookie_holds_for_ten_intervals_and_not_longer() {
    for (age, is_valid) in [(10 * SECOND, true), (10 * SECOND + 1, false)] {
        let (mut gateway, client, last) = registered(17, START);
        let ack = ack_in(&gateway.receive(START + age, &client.peer, &signed(&Heartbeat { seq: 100, ..last })));
        assert_eq!(ack.registered, is_valid, "{age}");
    }
}

#[test]
fn a_cookie_is_for_one_boot() {
    let (mut gateway, client, last) = registered(17, START);
    let stolen = Heartbeat { boot_epoch: 6, seq: 100, ..last };
    let ack = ack_in(&gateway.receive(LATER, &client.peer, &signed(&stolen)));
    assert_eq!((ack.registered, ack.cookie_fault), (false, Some(CookieFault::Unknown)));
}

#[test]
fn who_proves_its_key_at_another_address_waits_for_silence_alone() {
    let (mut gateway, _, _) = registered(17, START);
    // The machine died. Its disk starts in another machine, with another boot epoch, while packets are being lost.
    let mut other = Client::with(slave(17), address(2), booted(1), Some(key()), START);
    let mut now = START;
    let mut lost = 0;
    while !other.node.is_registered() {
        lost += 1;
        let health = link::Health { rx_lost: lost, ..link::Health::GOOD };
        gateway.registrar.advance(now, health, &mut gateway.out);
        other.exchange(&mut gateway, now);
        now += 10 * MILLISECOND;
        assert!(now < START + (SILENT_INTERVALS + 1) * SECOND + 100 * MILLISECOND, "it is kept out");
    }
    assert!(now >= START + SILENT_INTERVALS * SECOND);
}

#[test]
fn a_drain_says_the_challenge_back_with_a_fresh_cookie() {
    let (mut gateway, mut client, last) = registered(17, START);
    gateway.registrar.leave(LATER);
    let answers = gateway.advance(LATER);
    let ack = ack_in(&answers);
    assert_eq!((ack.draining, ack.challenge), (true, client.node.challenge()));
    assert_ne!(ack.cookie, last.cookie);
    client.take(LATER, &answers);
    assert_eq!(client.events(), [NodeEvent::Draining]);
    // It does not count as an answer to another start.
    let mut restarted = Client::with(slave(17), address(1), booted(6), Some(key()), LATER);
    for _ in 0..last.seq {
        restarted.node.transmit(&restarted.config, LATER + SECOND, &mut [0; 256]);
    }
    restarted.take(LATER + SECOND, &answers);
    assert_eq!((restarted.events(), restarted.refusals), (vec![], vec![AckRefusal::Challenge]));
}

#[test]
fn a_gateway_that_does_not_take_its_own_cookies_is_named() {
    // A NAT gives another port to each heartbeat.
    let mut gateway = Gateway::new(config(), START);
    let mut client = Client::new(slave(17), address(1), START);
    let mut now = START;
    for turn in 0..30 {
        if let Some(heartbeat) = client.heartbeat(now) {
            let mut from = client.peer;
            from.udp_port += turn;
            let answers = gateway.receive(now, &from, &heartbeat);
            for (_, bytes) in &answers {
                client.take_record(now, &gateway_peer(), &Record::first(bytes).unwrap());
            }
        }
        now += 100 * MILLISECOND;
    }
    assert_eq!(client.events(), [NodeEvent::CookieRefused { fault: CookieFault::Unknown }]);
    assert!(client.events.is_empty() && !client.node.is_registered());
}

/// One thing that happens at one address.
#[derive(Clone, Debug)]
enum Step {
    /// The node boots again. Its clock shows this time.
    Boot(u64),
    /// This many milliseconds pass. The node sends its due heartbeats, unless it is cut off.
    Wait(u64, bool),
    /// A recorded heartbeat is played.
    Play(prop::sample::Index),
    /// The gateway boots again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)].prop_map(Step::Boot),
        4 => (1u64..4_000, any::<bool>()).prop_map(|(ms, cut)| Step::Wait(ms, cut)),
        6 => any::<prop::sample::Index>().prop_map(Step::Play),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any recordings are played, and clocks show any time. The registered boot is never an earlier one than before,
    /// and the living boot is registered soon.
    #[test]
    fn boots_never_go_back_and_the_living_one_is_registered(steps in steps()) {
        let mut gateway = Gateway::new(config(), START);
        let (mut now, mut starts, mut boots) = (START, 1u64, vec![(0u64, 0u64)]);
        let boot = |epoch: u64, number: u64, now| {
            // The epochs come from the clock. They only need to differ.
            let epoch = epoch.wrapping_add(number);
            (epoch, Client::with(slave(17), address(1),
                NodeConfig { challenges: ChallengeSecret::new([number as u8; 32]), ..booted(epoch) }, Some(key()), now))
        };
        let (epoch, mut client) = boot(5, 0, now);
        boots[0] = (epoch, 0);
        let mut tape: Vec<Vec<u8>> = Vec::new();
        let mut latest = 0;
        let peer: Peer = address(1);
        for step in steps {
            match step {
                Step::Boot(epoch) => {
                    let number = boots.len() as u64;
                    let (epoch, next) = boot(epoch, number, now);
                    if boots.iter().all(|(other, _)| *other != epoch) {
                        boots.push((epoch, number));
                        client = next;
                    }
                }
                Step::Wait(ms, is_cut) => {
                    let end = now + ms * MILLISECOND;
                    while now < end {
                        while let Some(heartbeat) = client.heartbeat(now) {
                            tape.push(heartbeat.clone());
                            if !is_cut {
                                let answers = gateway.receive(now, &peer, &heartbeat);
                                client.take(now, &answers);
                            }
                        }
                        client.node.poll_event(&client.config, now);
                        let answers = gateway.advance(now);
                        client.take(now, &answers);
                        now += 10 * MILLISECOND;
                    }
                }
                Step::Play(index) => if !tape.is_empty() {
                    let heartbeat = &tape[index.index(tape.len())];
                    let answers = gateway.receive(now, &peer, heartbeat);
                    prop_assert!(answers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= heartbeat.len());
                    client.take(now, &answers);
                },
                Step::Restart => {
                    starts += 1;
                    let config = RegistrarConfig { secret: [starts as u8; 32], epoch: starts, ..config() };
                    gateway = Gateway::new(config, now);
                }
            }
            for change in gateway.routes() {
                let RouteChange::Slave { route: Some(_), .. } = change else { continue };
                let registered = gateway.registrar.members().next().map(|view| view.member.epoch);
                let number = boots.iter().find(|(epoch, _)| Some(*epoch) == registered).map(|(_, number)| *number);
                let Some(number) = number else { continue };
                prop_assert!(number >= latest, "boot {number} after boot {latest}");
                latest = number;
            }
        }
        run(&mut gateway, &mut [&mut client], now, now + 3 * SECOND);
        prop_assert!(client.node.is_registered());
        prop_assert_eq!(gateway.registrar.members().next().unwrap().member.epoch, client.config.boot_epoch);
    }
}

/// Three masters use a gateway that has places for two. The third takes the place of the first, which was gone.
///
/// Returns the datagrams of the first one, and a time at which all of them are gone while its last cookies still hold.
fn a_master_is_forgotten(gateway: &mut Gateway) -> (Client, Tape, Time) {
    let mut masters: Vec<Client> = (3..6).map(|id| Client::new(NodeId::master(id), address(id as u8), START)).collect();
    let [first, second, third] = &mut masters[..] else { unreachable!() };
    let mut tape = Tape::default();
    recorded(gateway, &mut [first], START, START + 2 * SECOND, &mut tape);
    run(gateway, &mut [second], START + SECOND, START + 2 * SECOND);
    let mut now = START + 2 * SECOND;
    while gateway.registrar.masters().count() > 0 {
        now += 10 * MILLISECOND;
        gateway.advance(now);
    }
    third.exchange(gateway, now);
    assert!(third.node.is_registered());
    gateway.routes();
    (masters.remove(0), tape, now + SECOND)
}

#[test]
fn a_master_whose_place_was_taken_is_not_registered_by_what_it_sent() {
    let mut gateway = Gateway::new(RegistrarConfig { max_masters: 2, ..config() }, START);
    let (mut first, tape, now) = a_master_is_forgotten(&mut gateway);
    for heartbeat in &tape.heartbeats {
        let answers = gateway.receive(now, &first.peer, heartbeat);
        assert!(answers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= heartbeat.len());
        assert!(!ack_in(&answers).registered);
    }
    assert_eq!(gateway.routes(), []);
    assert_eq!(gateway.registrar.masters().map(|view| view.id).collect::<Vec<_>>(), [5]);
    // The master itself was only cut off. It is registered again at once.
    first.exchange(&mut gateway, now);
    assert!(first.node.is_registered());
    let is_back = |change: &RouteChange| matches!(change, RouteChange::Master { id: 3, route: Some(_) });
    assert!(gateway.routes().iter().all(is_back));
}

/// Steps of a gateway with few places and of its masters.
#[derive(Clone, Debug)]
enum Turn {
    /// This many milliseconds pass, in which these masters send heartbeats.
    Live(u64, [bool; 4]),
    /// A heartbeat that registered its master is played.
    Play(prop::sample::Index),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Masters take each other's places in any way. A heartbeat that registered a master registers it no second time,
    /// and a living master is registered soon.
    #[test]
    fn what_registered_a_master_once_registers_it_no_second_time(
        turns in proptest::collection::vec(
            prop_oneof![
                (1u64..6_000, any::<[bool; 4]>()).prop_map(|(ms, who)| Turn::Live(ms, who)),
                any::<prop::sample::Index>().prop_map(Turn::Play),
            ],
            1..30,
        )
    ) {
        let mut gateway = Gateway::new(RegistrarConfig { max_masters: 2, ..config() }, START);
        let mut masters: Vec<Client> =
            (0..4).map(|id| Client::new(NodeId::master(id), address(id as u8 + 1), START)).collect();
        let (mut now, mut tape) = (START, Vec::new());
        for turn in turns {
            match turn {
                Turn::Live(ms, who) => {
                    let end = now + ms * MILLISECOND;
                    while now < end {
                        for (master, _) in masters.iter_mut().zip(who).filter(|(_, lives)| *lives) {
                            while let Some(heartbeat) = master.heartbeat(now) {
                                let answers = gateway.receive(now, &master.peer, &heartbeat);
                                if answers.first().is_some_and(|_| ack_in(&answers).registered) {
                                    tape.push((master.peer, heartbeat));
                                }
                                master.take(now, &answers);
                            }
                            master.node.poll_event(&master.config, now);
                        }
                        gateway.advance(now);
                        now += 10 * MILLISECOND;
                    }
                }
                Turn::Play(index) => if !tape.is_empty() {
                    let (from, heartbeat) = &tape[index.index(tape.len())];
                    gateway.routes();
                    gateway.receive(now, from, heartbeat);
                    prop_assert_eq!(gateway.routes(), []);
                },
            }
        }
        // After the others are gone, it has a place within an interval and the rest of the current one.
        run(&mut gateway, &mut [&mut masters[0]], now, now + 6 * SECOND);
        prop_assert!(masters[0].node.is_registered());
    }
}

#[test]
fn two_clusters_with_other_keys_do_not_hear_each_other() {
    let (_, _, tape, now) = session(3);
    let other = ClusterKey::from_bytes([1; 32]);
    let mut master = Client::with(NodeId::master(3), address(200), booted(6), Some(other), now);
    play_answers(&mut master, &tape, now, now + 6 * SECOND);
    assert_eq!(master.events(), [NodeEvent::NoAnswer]);
    assert!(master.refusals.iter().all(|refusal| *refusal == AckRefusal::Forged));
}
