//! Datagrams that arrive on one lcore and are for another, and lcores that end together.

use crate::toy::{FOR_LCORE, Order, ToyPort, ToyRole, Wire, pool};
use lcore::handover::{HandOver, HandOverEnds};
use lcore::mailbox::{self, Sender};
use lcore::together::{Company, Together};
use lcore::{Lcore, poll::QUIET_POLLS};
use port::rate::{Limit, RatedPort};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

struct Member {
    lcore: Lcore<Together<ToyRole>, HandOver<ToyPort>>,
    wire: Arc<Mutex<Wire>>,
    orders: Sender<Order>,
    ends: HandOverEnds,
}

fn members(count: usize, frames: u32, slots: usize, hold: u64) -> Vec<Member> {
    let (orders, mailboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mailbox::mailbox_without_doorbell(16)).unzip();
    let company = Company::new(count);
    let ends = HandOverEnds::new(orders.iter().map(Sender::announcer).collect(), slots, 64);
    let member = |(((index, orders), mailbox), ends): (((usize, Sender<Order>), _), HandOverEnds)| {
        let (pool, wire) = (pool(frames), Arc::new(Mutex::new(Wire::default())));
        let port = HandOver::new(ToyPort::new(0, &pool, &wire, None), &pool, Some(ends.clone()));
        let role = Together::new(ToyRole::new(hold), company.clone());
        let lcore = Lcore::new(index as u16, role, vec![port], pool, mailbox, None);
        Member { lcore, wire, orders, ends }
    };
    orders.into_iter().enumerate().zip(mailboxes).zip(ends).map(member).collect()
}

impl Member {
    /// A datagram arrives here that is for the lcore `to`.
    fn arrive(&self, own: usize, to: usize, number: u32) {
        let mut bytes = if own == to { vec![b'c', 0] } else { vec![FOR_LCORE, to as u8 + 1] };
        bytes.extend([own as u8, to as u8]);
        bytes.extend(number.to_le_bytes());
        self.wire.lock().unwrap().to_port.push_back(bytes);
    }

    fn room(&self, room: usize) {
        self.wire.lock().unwrap().room = room;
    }

    fn dropped(&self) -> u64 {
        self.ends.counters().rx_dropped_other_lcore.get()
    }
}

fn poll(members: &mut [Member], now: u64) {
    for member in members {
        member.lcore.poll_once(now);
    }
}

/// What the role of a member has sent: where it arrived, for which lcore it was, and its number.
fn sent(member: &Member) -> Vec<(u8, u8, u32)> {
    let wire = member.wire.lock().unwrap();
    let number = |bytes: &Vec<u8>| u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    wire.from_port.iter().map(|bytes| (bytes[2], bytes[3], number(bytes))).collect()
}

/// Without that, an lcore sleeps while what its port held back could leave.
#[test]
fn the_port_inside_says_when_it_sends_again() {
    let (pool, wire) = (pool(64), Arc::new(Mutex::new(Wire { room: 100, ..Wire::default() })));
    let port = RatedPort::new(ToyPort::new(0, &pool, &wire, None), Limit::new("64K".parse().unwrap(), 1).unwrap());
    let (_orders, mailbox) = mailbox::mailbox_without_doorbell(16);
    let port = HandOver::new(port, &pool, None);
    let mut lcore = Lcore::new(0, ToyRole::new(0), vec![port], pool, mailbox, None);
    wire.lock().unwrap().to_port.extend([0, 1, 2].map(|number| vec![b'c', 0, 0, 0, number, 0, 0, 0]));
    let (mut now, mut polls) = (1, 0);
    while wire.lock().unwrap().from_port.len() < 3 {
        lcore.poll_once(now);
        polls += 1;
        now = lcore.deadline().filter(|at| *at > now).unwrap_or(now + 1);
        assert!(polls < 20, "it is never polled when something may leave");
    }
    // With headers each is 74 bytes: 9.25 ms.
    assert!((18_000_000..19_000_000).contains(&now), "{now}");
}

#[test]
fn a_datagram_goes_to_the_lcore_that_it_is_for() {
    let mut members = members(2, 64, 4, 0);
    members.iter().for_each(|member| member.room(100));
    members[0].arrive(0, 1, 7);
    members[0].arrive(0, 0, 8);
    for now in 1..3 {
        poll(&mut members, now);
    }
    assert_eq!(sent(&members[0]), [(0, 0, 8)]);
    assert_eq!(sent(&members[1]), [(0, 1, 7)]);
    let counts = members.iter().map(|member| {
        let counters = member.ends.counters();
        (counters.rx_other_lcore.get(), counters.rx_handed_over.get(), counters.rx_dropped_other_lcore.get())
    });
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 0, 0), (0, 1, 0)]);
    // Peers that leave have no mark: an answer goes as any other does.
    assert!(
        members.iter().all(|member| member.lcore.outbox().pool().in_use() == member.lcore.conservation().ports as u32)
    );
}

#[test]
fn a_full_ring_drops_and_counts_and_delays_nobody() {
    let mut members = members(2, 64, 3, 0);
    members.iter().for_each(|member| member.room(100));
    for number in 0..5 {
        members[0].arrive(0, 1, number);
    }
    members[0].arrive(0, 0, 5);
    members[0].lcore.poll_once(1);
    assert_eq!((sent(&members[0]), members[0].dropped()), (vec![(0, 0, 5)], 2));
    members[1].lcore.poll_once(2);
    assert_eq!(sent(&members[1]), [(0, 1, 0), (0, 1, 1), (0, 1, 2)]);
    // The slots are empty again.
    members[0].arrive(0, 1, 6);
    members[0].lcore.poll_once(3);
    members[1].lcore.poll_once(4);
    assert_eq!((sent(&members[1]).last(), members[0].dropped()), (Some(&(0, 1, 6)), 2));
    // An lcore that does not exist gets nothing.
    members[1].arrive(1, 7, 9);
    members[1].lcore.poll_once(5);
    assert_eq!(members[1].dropped(), 1);
}

#[test]
fn lcores_end_together_and_hand_over_until_then() {
    // The role of lcore 1 holds what it has for long.
    let mut members = members(2, 64, 4, 1_000);
    members.iter().for_each(|member| member.room(100));
    assert!(members[0].orders.try_send(Order::Drain).is_ok());
    for now in 1..=2 + u64::from(QUIET_POLLS) {
        members[0].lcore.poll_once(now);
        assert!(!members[0].lcore.is_idle_and_drained(), "the other one is still there");
    }
    members[0].arrive(0, 1, 1);
    members[0].lcore.poll_once(20);
    members[1].lcore.poll_once(21);
    assert!(members[1].orders.try_send(Order::Drain).is_ok());
    for now in 22..=32 + u64::from(QUIET_POLLS) {
        poll(&mut members, now);
    }
    assert_eq!(sent(&members[1]), [(0, 1, 1)]);
    assert!(members.iter().all(|member| member.lcore.is_idle_and_drained()));
}

#[test]
fn an_lcore_that_is_gone_keeps_nobody() {
    let mut members = members(2, 64, 4, 0);
    drop(members.pop());
    assert!(members[0].orders.try_send(Order::Drain).is_ok());
    for now in 1..=2 + u64::from(QUIET_POLLS) {
        members[0].lcore.poll_once(now);
    }
    assert!(members[0].lcore.is_idle_and_drained());
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { at: usize, to: usize, count: u8 },
    Poll(usize),
    Room(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, 0..3usize, 1..100u8).prop_map(|(at, to, count)| Step::Arrive { at, to, count }),
        (0..3usize).prop_map(Step::Poll),
        (0..3usize).prop_map(Step::Poll),
        (0..200u8).prop_map(Step::Room),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every datagram comes out once, at the lcore that it is for, in the order in which it arrived there or at another
    /// lcore; or it is counted as dropped. After every poll each frame has one owner.
    #[test]
    fn nothing_is_lost_or_doubled_between_lcores(
        steps in proptest::collection::vec(step(), 1..80),
        frames in 16u32..200,
        slots in 1usize..100,
    ) {
        let mut members = members(3, frames, slots, 0);
        let (mut now, mut number) = (0, 0);
        for step in steps {
            match step {
                Step::Arrive { at, to, count } => for _ in 0..count {
                    members[at].arrive(at, to, number);
                    number += 1;
                },
                Step::Room(room) => members.iter().for_each(|member| member.room(room.into())),
                Step::Poll(at) => {
                    now += 1;
                    members[at].lcore.poll_once(now);
                    let at = members[at].lcore.conservation();
                    prop_assert!(at.holds(), "{at:?}");
                }
            }
        }
        for member in &members {
            member.room(usize::MAX);
            prop_assert!(member.orders.try_send(Order::Drain).is_ok());
        }
        for _ in 0..10_000 {
            now += 1;
            poll(&mut members, now);
            if members.iter().all(|member| member.lcore.is_idle_and_drained()) {
                break;
            }
        }
        let (mut came, mut dropped) = (0, 0);
        for (own, member) in members.iter().enumerate() {
            prop_assert!(member.lcore.is_idle_and_drained());
            prop_assert_eq!(member.lcore.outbox().pool().in_use() as usize, member.lcore.conservation().ports);
            let sent = sent(member);
            prop_assert!(sent.iter().all(|(_, to, _)| usize::from(*to) == own));
            for from in 0..3 {
                let theirs = sent.iter().filter(|(at, ..)| *at == from);
                let numbers: Vec<u32> = theirs.map(|(.., number)| *number).collect();
                prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
            }
            came += sent.len() as u64;
            dropped += member.dropped();
        }
        prop_assert_eq!(came + dropped, u64::from(number));
        let given: u64 = members.iter().map(|member| member.ends.counters().rx_other_lcore.get()).sum();
        let taken: u64 = members.iter().map(|member| member.ends.counters().rx_handed_over.get()).sum();
        prop_assert_eq!(given, taken);
    }
}
