//! One poll after another, on a clock that the test controls.

use crate::toy::{Bench, LINK, Order};
use frame::time::FOREVER;
use lcore::poll::{COMMANDS_PER_POLL, QUIET_POLLS, TX_BACKLOG};
use lcore::{Polled, Stage};
use proptest::prelude::*;

#[test]
fn a_datagram_comes_in_waits_and_leaves() {
    let mut bench = Bench::new(64, 1, 100);
    bench.room(8);
    bench.put(0, b"one");
    assert_eq!(bench.lcore.poll_once(10), Polled { received: 1, sent: 0, commands: 0 });
    assert_eq!(bench.lcore.deadline(), Some(110));
    assert_eq!(bench.lcore.poll_once(109), Polled::default());
    assert_eq!(bench.lcore.poll_once(110), Polled { received: 0, sent: 1, commands: 0 });
    assert_eq!(bench.wires[0].lock().unwrap().from_port, [b"one"]);
    bench.lcore.poll_once(200);
    let counters = bench.lcore.counters();
    assert_eq!((counters.polls.get(), counters.empty_polls.get()), (4, 2));
    assert_eq!((counters.rx_bursts_1.get(), counters.rx_datagrams.get(), counters.tx_datagrams.get()), (1, 1, 1));
    // The first poll lasted until 109 and the third until 200. The second was empty and does not count.
    assert_eq!(counters.busy_ns.get(), 99 + 90);
    assert_eq!((bench.lcore.pulse().beats(), bench.lcore.pulse().stage()), (4, Stage::Waiting));
}

#[test]
fn a_flood_of_commands_does_not_starve_the_ports() {
    let mut bench = Bench::new(64, 1, 0);
    bench.room(1);
    bench.put(0, b"x");
    for _ in 0..COMMANDS_PER_POLL + 1 {
        assert!(bench.orders.try_send(Order::Drain).is_ok());
    }
    assert_eq!(bench.lcore.poll_once(1), Polled { received: 1, sent: 1, commands: COMMANDS_PER_POLL });
    assert_eq!(bench.lcore.poll_once(2).commands, 1);
}

#[test]
fn a_full_tx_ring_pauses_receiving_until_it_has_room() {
    let mut bench = Bench::new(8192, 1, 0);
    for _ in 0..2 * TX_BACKLOG {
        bench.put(0, b"x");
    }
    let mut now = 0;
    let mut poll = |bench: &mut Bench| {
        now += 1;
        bench.lcore.poll_once(now)
    };
    while poll(&mut bench).received > 0 {}
    assert!(bench.lcore.outbox().frames() > TX_BACKLOG && bench.lcore.outbox().frames() <= TX_BACKLOG + frame::BURST);
    assert_eq!(bench.lcore.counters().rx_paused_backlog.get(), 1);
    bench.room(1000);
    assert_eq!(poll(&mut bench).received, 0);
    assert_eq!(poll(&mut bench).received, frame::BURST);
    bench.room(usize::MAX);
    while !poll(&mut bench).is_empty() {}
    assert_eq!(bench.wires[0].lock().unwrap().from_port.len(), 2 * TX_BACKLOG);
    assert!(bench.lcore.conservation().holds());
}

#[test]
fn an_empty_pool_pauses_receiving_only_while_a_ring_is_full() {
    // The role holds the frames for ever, and not a ring. The lcore must go on calling the role, which makes room by
    // itself.
    let mut bench = Bench::new(128, 1, FOREVER);
    for _ in 0..1000 {
        bench.put(0, b"x");
    }
    for now in 1..50 {
        bench.lcore.poll_once(now);
    }
    // The ring is full. The frames that the role gave up wait for room in the ring, and nothing more comes in.
    assert!(bench.lcore.counters().rx_paused_pool.get() > 0);
    assert!(bench.lcore.conservation().holds());
    bench.room(usize::MAX);
    for now in 50..200 {
        bench.lcore.poll_once(now);
    }
    let wire = bench.wires[0].lock().unwrap();
    assert_eq!(wire.to_port.len(), 0);
    assert_eq!(wire.from_port.len() + bench.lcore.conservation().role, 1000);
}

#[test]
fn link_control_waits_for_a_full_registrar_and_is_not_lost() {
    let mut bench = Bench::new(64, 1, 0);
    for number in 0..10 {
        bench.put(0, &[LINK, number]);
    }
    bench.lcore.poll_once(1);
    let counters = bench.lcore.counters().clone();
    assert_eq!((counters.control_datagrams.get(), counters.control_delayed.get()), (4, 1));
    let mut got = Vec::new();
    for now in 2..10 {
        while let Some(mail) = bench.registrar.try_recv() {
            got.push(mail.bytes()[1]);
        }
        bench.lcore.poll_once(now);
    }
    assert_eq!(got, (0..10).collect::<Vec<u8>>());
    drop(bench.registrar);
    bench.wires[0].lock().unwrap().to_port.push_back(vec![LINK, 99]);
    bench.lcore.poll_once(20);
    assert_eq!(counters.control_dropped_no_registrar.get(), 1);
    assert_eq!(bench.lcore.outbox().pool().in_use(), 0);
}

fn quiet(bench: &mut Bench, from: u64) {
    for now in from..from + u64::from(QUIET_POLLS) {
        assert!(!bench.lcore.is_idle_and_drained());
        bench.lcore.poll_once(now);
    }
}

#[test]
fn drained_means_that_nothing_is_left_anywhere() {
    let mut bench = Bench::new(64, 2, FOREVER);
    bench.put(1, b"held");
    bench.lcore.poll_once(1);
    assert!(!bench.lcore.is_idle_and_drained());
    assert!(bench.orders.try_send(Order::Drain).is_ok());
    bench.lcore.poll_once(2);
    assert!(!bench.lcore.is_idle_and_drained(), "it waits for room in the ring");
    bench.room(1);
    bench.put(0, b"late");
    bench.lcore.poll_once(3);
    quiet(&mut bench, 4);
    assert!(bench.lcore.is_idle_and_drained());
    assert_eq!(bench.wires[1].lock().unwrap().from_port, [b"held"]);
    assert_eq!(bench.wires[0].lock().unwrap().from_port, [b"late"]);
}

#[test]
fn what_arrives_after_the_end_of_receiving_stays_in_the_port() {
    let mut bench = Bench::new(64, 1, FOREVER);
    bench.room(8);
    bench.put(0, b"in");
    bench.lcore.poll_once(1);
    bench.lcore.stop_receiving();
    bench.put(0, b"out");
    assert!(bench.orders.try_send(Order::Drain).is_ok());
    bench.lcore.poll_once(2);
    quiet(&mut bench, 3);
    assert!(bench.lcore.is_idle_and_drained());
    let wire = bench.wires[0].lock().unwrap();
    assert_eq!((wire.from_port.len(), wire.to_port.len()), (1, 1));
}

/// What happens outside the lcore between two polls.
#[derive(Clone, Debug)]
enum Step {
    Arrive { port: u8, count: u8, link: bool },
    Room(u8),
    Registrar,
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2u8, 1..150u8, any::<bool>()).prop_map(|(port, count, link)| Step::Arrive { port, count, link }),
        (0..100u8).prop_map(Step::Room),
        Just(Step::Registrar),
        (1..400u16).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// After every poll each frame has exactly one owner, and every datagram comes out once, whatever happens outside
    /// the lcore.
    #[test]
    fn no_frame_and_no_datagram_is_lost(steps in proptest::collection::vec(step(), 1..60), frames in 16u32..300) {
        let mut bench = Bench::new(frames, 2, 300);
        let (mut now, mut number, mut received) = (0, 0u32, 0);
        let mut mails = Vec::new();
        for step in steps {
            match step {
                Step::Arrive { port, count, link } => {
                    for _ in 0..count {
                        let mut bytes = vec![if link { LINK } else { b'c' }];
                        bytes.extend(number.to_le_bytes());
                        number += 1;
                        bench.put(usize::from(port), &bytes);
                    }
                }
                Step::Room(room) => bench.room(usize::from(room)),
                Step::Registrar => mails.extend(std::iter::from_fn(|| bench.registrar.try_recv())),
                Step::Wait(ns) => now += u64::from(ns),
            }
            now += 1;
            received += bench.lcore.poll_once(now).received;
            let at = bench.lcore.conservation();
            prop_assert!(at.holds(), "{at:?}");
        }
        bench.room(usize::MAX);
        prop_assert!(bench.orders.try_send(Order::Drain).is_ok());
        for _ in 0..10_000 {
            now += 1;
            received += bench.lcore.poll_once(now).received;
            mails.extend(std::iter::from_fn(|| bench.registrar.try_recv()));
            if bench.lcore.is_idle_and_drained() {
                break;
            }
        }
        prop_assert!(bench.lcore.is_idle_and_drained());
        // Frames that the device completes later go back as well.
        bench.lcore.poll_once(now + 1);
        bench.lcore.poll_once(now + 2);
        prop_assert_eq!(bench.lcore.outbox().pool().in_use(), 0);
        let mut out: Vec<Vec<u8>> = mails.iter().map(|mail| mail.bytes().to_vec()).collect();
        for wire in &bench.wires {
            out.append(&mut wire.lock().unwrap().from_port);
        }
        let dropped = bench.lcore.outbox().counters().link_dropped_mailbox_full.get() as usize;
        prop_assert_eq!(out.len() + dropped, received);
        prop_assert_eq!(received, number as usize);
        out.sort_unstable();
        out.dedup();
        prop_assert_eq!(out.len() + dropped, received, "one came out twice");
    }
}
