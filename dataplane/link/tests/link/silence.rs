//! When a silent node is suspect or gone, and when silence does not count.

use crate::common;

use common::*;
use frame::time::{MILLISECOND, SECOND};
use link::{ClusterKey, Health, KeyRing, NodeConfig, NodeEvent, Notice, RegistrarConfig, RouteChange};
use proptest::prelude::*;
use wire::Scale;
use wire::link::{Heartbeat, MemberState};

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

    // Its cookie still holds, so that one heartbeat registers it again.
    let mut client = client;
    let heartbeat = client.heartbeat(now + SECOND).unwrap();
    assert!(ack_in(&gateway.receive(now + SECOND, &client.peer, &heartbeat)).registered);
    assert!(matches!(gateway.routes()[..], [RouteChange::Slave { route: Some(_), .. }]));
}

#[test]
fn a_few_that_fall_silent_are_gone() {
    let (mut gateway, mut clients, now) = cluster(200);
    // Exactly 5 % fall silent.
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
    for deaf in [(|_: u64| Health { polling: false, ..Health::GOOD }) as fn(u64) -> Health, |now| Health {
        rx_lost: now / STEP,
        ..Health::GOOD
    }] {
        let (mut gateway, _, _) = registered(17, START);
        let mut now = START;
        while now < START + 10 * SECOND {
            gateway.registrar.advance(now, deaf(now), &mut gateway.out);
            now += STEP;
        }
        assert_eq!(states(&gateway), (1, 0));
        assert!(gateway.counter("deaf_spells") > 0);
        // The silence counts from the moment at which the gateway could hear again.
        let lost = deaf(now - STEP).rx_lost;
        while now < START + 12 * SECOND {
            gateway.registrar.advance(now, Health { rx_lost: lost, ..Health::GOOD }, &mut gateway.out);
            now += STEP;
        }
        assert_eq!(states(&gateway), (1, 0));
        while now < START + 13 * SECOND + STEP {
            gateway.registrar.advance(now, Health { rx_lost: lost, ..Health::GOOD }, &mut gateway.out);
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
        gateway.registrar.advance(now, Health { polling: false, ..Health::GOOD }, &mut gateway.out);
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
        assert!(calls < 20);
    }
    assert_eq!((states(&gateway), now), ((0, 0), START + 3 * SECOND));
}

/// Advances in steps of 100 ms with this health until the gateway has no member left. Returns how long that took.
fn until_nobody(gateway: &mut Gateway, health: impl Fn(u64) -> Health) -> u64 {
    let mut now = START;
    while states(gateway) != (0, 0) {
        now += SECOND / 10;
        assert!(now < START + 1000 * SECOND, "silence is never judged");
        gateway.registrar.advance(now, health(now), &mut gateway.out);
    }
    now - START
}

#[test]
fn losses_in_every_look_excuse_a_silence_for_ten_intervals_only() {
    for rate in [10, 1000] {
        let (mut gateway, _, _) = registered(17, START);
        let lossy = |now: u64| Health { rx_lost: now / (SECOND / rate), ..Health::GOOD };
        assert_eq!(until_nobody(&mut gateway, lossy), 13 * SECOND);
        let id = scale().slave_id(17).unwrap();
        assert_eq!(gateway.routes(), [RouteChange::Slave { id, route: None }]);
        assert_eq!((gateway.counter("nodes_gone"), gateway.counter("doubt_ended")), (1, 1));
        assert_eq!(gateway.notices(), [Notice::DoubtEnded]);
    }
}

#[test]
fn an_lcore_that_stands_still_for_good_excuses_a_silence_for_thirty_intervals_only() {
    let (mut gateway, _, _) = registered(17, START);
    assert_eq!(until_nobody(&mut gateway, |_| Health { polling: false, ..Health::GOOD }), 33 * SECOND);
    // The times of two causes do not add up.
    let (mut gateway, _, _) = registered(17, START);
    assert_eq!(until_nobody(&mut gateway, |now| Health { polling: false, rx_lost: now, ..Health::GOOD }), 33 * SECOND);
}

#[test]
fn many_that_die_while_packets_are_lost_are_gone_in_the_end() {
    let (mut gateway, _, now) = cluster(200);
    let dead = now;
    let mut now = now;
    while states(&gateway) != (0, 0) {
        now += SECOND / 10;
        gateway.registrar.advance(now, Health { rx_lost: now, ..Health::GOOD }, &mut gateway.out);
        // They are silent for 13 intervals and suspect for 10. The last heartbeats are up to one interval old.
        assert!(now <= dead + 24 * SECOND, "{:?}", states(&gateway));
    }
    assert!(now >= dead + 22 * SECOND && gateway.counter("mass_silences") == 1);
}

/// Time between two health samples of the control thread.
const LOOK: u64 = 200 * MILLISECOND;

/// The number of packets lost up to `now`. In each `period` packets are lost for `burst`, one each millisecond. The
/// first loss is `phase` after the start.
fn lost_by(now: u64, period: u64, burst: u64, phase: u64) -> u64 {
    let since = now.saturating_sub(START + phase);
    let in_this = if now < START + phase { 0 } else { (since % period).min(burst) / MILLISECOND + 1 };
    since / period * (burst / MILLISECOND + 1) + in_this
}

#[test]
fn a_death_is_noticed_within_five_intervals_while_losses_come_in_bursts() {
    // Bursts of 0.15 s every 2 s, one lost packet each second, and bursts of 0.25 s every second. Both packets and mail
    // are lost this way.
    let bursts = [(2 * SECOND, 150 * MILLISECOND), (SECOND, 0), (SECOND, 250 * MILLISECOND)];
    for (period, burst) in bursts {
        for phase in (0..period).step_by(37 * MILLISECOND as usize) {
            for is_mail in [false, true] {
                let (mut gateway, _, _) = registered(17, START);
                gateway.advance(START);
                let mut now = START;
                while states(&gateway) != (0, 0) {
                    now += LOOK;
                    let lost = lost_by(now, period, burst, phase);
                    let health = if is_mail {
                        Health { mail_lost: lost, ..Health::GOOD }
                    } else {
                        Health { rx_lost: lost, ..Health::GOOD }
                    };
                    gateway.registrar.advance(now, health, &mut gateway.out);
                    assert!(now <= START + 13 * SECOND, "period {period} phase {phase}");
                }
                // A burst of a quarter of a second can fall into three of five samples.
                let most = if burst > LOOK { 8 * SECOND } else { 5 * SECOND };
                assert!(now <= START + most, "{} ms, period {period} phase {phase}", (now - START) / MILLISECOND);
                assert!(gateway.counter("deaf_ns") > 0 && gateway.counter("doubt_ended") == 0);
            }
        }
    }
}

#[test]
fn many_that_die_while_losses_come_in_bursts_are_suspect_and_gone_in_time() {
    let (mut gateway, mut clients, began) = cluster(200);
    // Half of the nodes die. The others lose the heartbeats that fall into a burst.
    let (dead, alive) = clients.split_at_mut(100);
    assert!(dead.iter().all(|client| client.node.is_registered()));
    let (mut now, mut suspect_at, mut gone_at) = (began, None, None);
    while now < began + 30 * SECOND {
        now += STEP;
        let is_burst = (now - began) % (2 * SECOND) < 150 * MILLISECOND;
        for client in alive.iter_mut() {
            let Some(heartbeat) = client.heartbeat(now) else { continue };
            if !is_burst {
                let answers = gateway.receive(now, &client.peer, &heartbeat);
                client.take(now, &answers);
            }
        }
        if (now - began).is_multiple_of(LOOK) {
            let rx_lost = lost_by(now, 2 * SECOND, 150 * MILLISECOND, began - START);
            gateway.registrar.advance(now, Health { rx_lost, ..Health::GOOD }, &mut gateway.out);
        }
        let (here, suspect) = states(&gateway);
        assert!(here >= 100, "{here} are here {} ms after the death", (now - began) / MILLISECOND);
        if here == 100 && suspect_at.is_none() {
            suspect_at = Some(now - began);
        }
        if (here, suspect) == (100, 0) && gone_at.is_none() {
            gone_at = Some(now - began);
        }
    }
    let (suspect_at, gone_at) = (suspect_at.expect("suspect"), gone_at.expect("gone"));
    assert!(suspect_at <= 5 * SECOND, "{suspect_at}");
    // Ten more intervals without loss.
    assert!(gone_at <= suspect_at + 13 * SECOND && gone_at >= 11 * SECOND, "{gone_at}");
    assert_eq!((gateway.counter("nodes_gone"), gateway.counter("mass_silences")), (100, 1));
}

#[test]
fn who_is_heard_stays_however_much_is_lost() {
    let (mut gateway, mut clients, now) = cluster(40);
    let mut t = now;
    while t < now + 120 * SECOND {
        // Each node loses nine of ten heartbeats, and the last node loses all.
        for (number, client) in clients.iter_mut().enumerate() {
            if let Some(heartbeat) = client.heartbeat(t)
                && number != 39
                && (t / SECOND + number as u64).is_multiple_of(10)
            {
                let answers = gateway.receive(t, &client.peer, &heartbeat);
                client.take(t, &answers);
            }
        }
        t += STEP;
        gateway.registrar.advance(t, Health { rx_lost: t, ..Health::GOOD }, &mut gateway.out);
    }
    assert_eq!((states(&gateway), gateway.counter("nodes_gone")), ((39, 0), 1));
}

/// Slave 17 dies while packets are lost all the time. Its next boot, at another address, asks for the id. Returns how
/// long it waits for the id.
fn restarted_elsewhere(key: impl Into<KeyRing<ClusterKey>> + Clone, health: impl Fn(u64) -> Health) -> u64 {
    let mut gateway = Gateway::new(RegistrarConfig { keys: key.clone().into(), ..config() }, START);
    let keys: KeyRing<ClusterKey> = key.into();
    let node = |last, boot_epoch, now| {
        let config = NodeConfig { boot_epoch, ..node_config() };
        Client::with(slave(17), address(last), config, keys.get(0).cloned(), now)
    };
    let mut first = node(1, 5, START);
    first.exchange(&mut gateway, START);
    assert!(first.node.is_registered());
    let mut second = node(2, 6, START + SECOND / 2);
    let mut now = START + SECOND / 2;
    while !second.node.is_registered() {
        assert!(now < START + 100 * SECOND, "the id is never free");
        gateway.registrar.advance(now, health(now), &mut gateway.out);
        second.exchange(&mut gateway, now);
        now += STEP;
    }
    assert_eq!(gateway.registrar.peer(scale().slave_id(17).unwrap()), Some(second.peer));
    assert!(gateway.counter("refused_duplicate") > 0, "while the first may be alive it keeps the id");
    now - START
}

#[test]
fn a_new_boot_with_the_nodes_key_does_not_wait_for_losses_to_end() {
    let lossy = |now: u64| Health { rx_lost: now, ..Health::GOOD };
    // It waits for three intervals, and up to one more until its next heartbeat.
    let waited = restarted_elsewhere(key(), lossy);
    assert!((3 * SECOND..=4 * SECOND + STEP).contains(&waited), "{waited}");
    // Without a key anybody can claim the id, and losses may be the reason for the silence. So it waits longer, but not
    // for ever.
    let waited = restarted_elsewhere(KeyRing::none(), lossy);
    assert!((13 * SECOND..=14 * SECOND + STEP).contains(&waited), "{waited}");
}

#[test]
fn pauses_of_the_registrar_excuse_a_silence_ten_times_in_a_row() {
    let (mut gateway, _, _) = registered(17, START);
    let mut now = START;
    for pause in 1..=10 {
        now += 5 * SECOND / 2;
        gateway.advance(now);
        assert_eq!(states(&gateway), (1, 0), "pause {pause}");
    }
    gateway.advance(now + 5 * SECOND / 2);
    gateway.advance(now + 5 * SECOND);
    assert_eq!(states(&gateway), (0, 0));

    // With time to judge silence between them the pauses are not in a row, and a node that is heard stays.
    let (mut gateway, mut client, _) = registered(17, START);
    let mut now = START;
    for _ in 0..20 {
        now += 60 * SECOND;
        gateway.advance(now);
        run(&mut gateway, &mut [&mut client], now, now + 4 * SECOND);
        now += 4 * SECOND;
    }
    assert_eq!((states(&gateway), gateway.counter("nodes_gone")), ((1, 0), 0));
}

proptest! {
    /// Whatever happens to the gateway, a silent node is judged within the bounds of the causes of deafness, and never
    /// too early.
    #[test]
    fn doubt_is_bounded(
        steps in proptest::collection::vec((10u64..500, 0u8..4, any::<bool>()), 50..120),
        stalls in any::<bool>(),
    ) {
        let (mut gateway, client, last) = registered(17, START);
        let (mut now, mut lost, mut gone) = (START, 0, None);
        for (step, loss, polling) in steps.iter().cycle().take(2000) {
            now += step * MILLISECOND;
            lost += u64::from(*loss == 0);
            let health = Health { polling: *polling || !stalls, rx_lost: lost, ..Health::GOOD };
            gateway.registrar.advance(now, health, &mut gateway.out);
            if states(&gateway) == (0, 0) {
                gone = Some(now - START);
                break;
            }
        }
        let bound = if stalls { 33 } else { 13 };
        let gone = gone.expect("it is gone at last");
        prop_assert!((3 * SECOND..=bound * SECOND + SECOND / 2).contains(&gone), "{gone}");
        // Its own next heartbeat registers it again, or the one after that if its cookie has expired.
        let next = Heartbeat { seq: last.seq + 1, ..last };
        let mut ack = ack_in(&gateway.receive(now, &client.peer, &signed(&next)));
        prop_assert_eq!(ack.registered, now - START <= 10 * SECOND);
        if !ack.registered {
            let next = Heartbeat { seq: last.seq + 2, cookie: ack.cookie, ..last };
            ack = ack_in(&gateway.receive(now, &client.peer, &signed(&next)));
        }
        prop_assert!(ack.registered);
    }

    /// Several nodes were heard at different times. Each is gone when its silence has lasted for three intervals
    /// without the spells of losses, or for thirteen with them. No node waits for another.
    #[test]
    fn each_is_judged_by_its_own_clear_silence(
        heard in proptest::collection::vec(0u64..3000, 1..6),
        looks in proptest::collection::vec((1u64..500, any::<bool>()), 60..150),
        quiet in any::<bool>(),
    ) {
        let mut gateway = Gateway::new(config(), START);
        let mut clients: Vec<Client> =
            (0..heard.len() as u32).map(|n| Client::new(slave(17 + n), address(n as u8), START)).collect();
        for client in &mut clients {
            client.exchange(&mut gateway, START);
        }
        gateway.advance(START);
        let (mut now, mut lost) = (START, 0);
        let mut last = vec![START; heard.len()];
        // A judged node stays judged until it is heard again, even if the next loss marks the time before it as deaf.
        let mut judged = vec![None; heard.len()];
        let mut spells: Vec<(u64, u64)> = Vec::new();
        for (step, loses) in looks.iter().cycle().take(1000) {
            let before = now;
            now += step * MILLISECOND;
            // The node that is due first sends first, until it dies.
            let due = |(n, client): (usize, &Client)| {
                let due = client.node.deadline(&client.config);
                (due <= now.min(START + heard[n] * MILLISECOND)).then_some((due.max(before), n))
            };
            while let Some((due, n)) = clients.iter().enumerate().filter_map(due).min() {
                clients[n].exchange(&mut gateway, due);
            }
            for view in gateway.registrar.members() {
                last[view.member.id as usize - 17] = view.heard;
            }
            let loses = *loses && !quiet;
            lost += u64::from(loses);
            if loses {
                match spells.last_mut() {
                    Some(spell) if before <= spell.1 + SECOND / 32 => spell.1 = now,
                    _ => spells.push((before, now)),
                }
            }
            gateway.registrar.advance(now, Health { rx_lost: lost, ..Health::GOOD }, &mut gateway.out);
            let gone = |heard: u64| {
                let deaf = |spell: &(u64, u64)| spell.1.min(now).saturating_sub(spell.0.max(heard));
                let clear = (now - heard) - spells.iter().map(deaf).sum::<u64>();
                clear >= 3 * SECOND || now >= heard + 13 * SECOND
            };
            for (n, last) in last.iter().enumerate() {
                let state = gateway.registrar.state(scale().slave_id(17 + n as u32).unwrap());
                // A node that is not here any more is suspect if others fell silent at the same time, else gone.
                let is_here = state == MemberState::Here;
                if gone(*last) {
                    judged[n] = Some(*last);
                }
                prop_assert_eq!(is_here, judged[n] != Some(*last), "slave {} was heard {} ms \
                    ago", n, (now - last) / MILLISECOND);
            }
        }
    }

    /// A node that is heard at least once in three intervals stays, whatever packets the gateway loses and however
    /// often it stands still.
    #[test]
    fn who_is_heard_in_time_stays(
        steps in proptest::collection::vec((10u64..500, any::<bool>(), any::<bool>()), 50..200),
        silences in proptest::collection::vec(1u64..2990, 1..20),
    ) {
        let (mut gateway, client, mut last) = registered(17, START);
        let (mut now, mut lost) = (START, 0);
        let mut silences = silences.iter().cycle();
        let mut next_heard = START + silences.next().unwrap() * MILLISECOND;
        for (step, loses, polling) in steps {
            let until = now + step * MILLISECOND;
            while next_heard <= until {
                now = next_heard;
                last.seq += 1;
                let ack = ack_in(&gateway.receive(now, &client.peer, &signed(&last)));
                prop_assert!(ack.registered);
                last.cookie = ack.cookie;
                next_heard += silences.next().unwrap() * MILLISECOND;
            }
            now = until;
            lost += u64::from(loses);
            gateway.registrar.advance(now, Health { polling, rx_lost: lost, ..Health::GOOD }, &mut gateway.out);
            prop_assert_eq!(states(&gateway), (1, 0));
        }
        prop_assert_eq!(gateway.counter("nodes_gone"), 0);
    }
}
