//! The slave wants memory back.

use crate::common::{START as NOW, Slave, connect, grant, next, set};
use frame::time::SECOND;
use proptest::prelude::*;
use wire::Record;
use wire::lease::{Connect, ConnectReply, Recall};

fn reply(bytes: &[u8]) -> ConnectReply {
    ConnectReply::parse(&Record::first(bytes).unwrap()).unwrap()
}

/// The recalls that are sent now, by master.
fn told(slave: &mut Slave, now: u64) -> Vec<(u16, Recall)> {
    slave.unasked(now).iter().map(|bytes| (reply(bytes).ends.master, grant(&reply(bytes)).recall)).collect()
}

#[test]
fn what_is_too_much_is_recalled_of_each_by_its_size_again_and_again() {
    let mut slave = Slave::with(12, 3);
    for (master, want) in [(1, 6), (2, 3), (3, 3)] {
        slave.open(NOW, &connect(master, want));
    }
    slave.lender.set_limit(NOW, 8, 30 * SECOND);
    let all = |within_ms| {
        let recall = |units| Recall { units, within_ms };
        vec![(1, recall(2)), (2, recall(1)), (3, recall(1))]
    };
    assert_eq!(told(&mut slave, NOW), all(30_000));
    assert_eq!(slave.lender.deadline(), Some(NOW + SECOND));
    assert_eq!(told(&mut slave, NOW + SECOND - 1), []);
    assert_eq!(told(&mut slave, NOW + SECOND), all(29_000));
    // The same limit again changes neither shares nor time, and sends nothing.
    slave.lender.set_limit(NOW + SECOND, 8, 60 * SECOND);
    assert_eq!(told(&mut slave, NOW + SECOND), []);
    // A shorter time is used.
    slave.lender.set_limit(NOW + SECOND, 8, SECOND);
    assert_eq!(told(&mut slave, NOW + SECOND), all(1000));
    // More memory ends the recall. The master gets one message about that.
    slave.lender.set_limit(NOW + SECOND, 12, SECOND);
    assert_eq!(told(&mut slave, NOW + SECOND), [1, 2, 3].map(|master| (master, Recall::default())));
    assert_eq!(told(&mut slave, NOW + 9 * SECOND), []);
}

#[test]
fn who_gives_back_more_than_its_share_relieves_the_others() {
    let mut slave = Slave::with(12, 2);
    let (first, other) = (connect(1, 6), connect(2, 6));
    let reply = slave.open(NOW, &first);
    slave.open(NOW, &other);
    slave.lender.set_limit(NOW, 8, 30 * SECOND);
    assert_eq!(slave.lender.books().recalled, 4);
    let reply = slave.connect(NOW, &Connect { keep: set(0..3), want: 0, ..next(&first, &reply) }).unwrap();
    assert_eq!(grant(&reply).recall.units, 0);
    let states = told(&mut slave, NOW);
    assert_eq!(states.iter().find(|(master, _)| *master == 2).unwrap().1.units, 1);
}

#[test]
fn nothing_is_granted_while_more_is_lent_or_dirty_than_the_limit_allows() {
    let mut slave = Slave::with(4, 2);
    let first = connect(1, 3);
    let reply = slave.open(NOW, &first);
    slave.lender.set_limit(NOW, 3, SECOND);
    let more = Connect { want: 4, ..next(&first, &reply) };
    let reply = slave.connect(NOW, &more).unwrap();
    assert_eq!(grant(&reply).units, set(0..3));
    // A unit that is given back is dirty: it still takes the host's memory.
    let less = Connect { keep: set(0..2), want: 3, ..next(&more, &reply) };
    let reply = slave.connect(NOW, &less).unwrap();
    assert_eq!((grant(&reply).units, reply.free), (set(0..2), 0));
    slave.memory.scrub(&mut slave.lender);
    let reply = slave.connect(NOW, &next(&less, &reply)).unwrap();
    assert_eq!(grant(&reply).units, set(0..3));
}

#[test]
fn at_the_end_the_highest_are_taken_and_their_indexes_stay_empty_until_the_master_knows() {
    let mut slave = Slave::with(4, 1);
    let first = connect(1, 4);
    let reply = slave.open(NOW, &first);
    slave.lender.set_limit(NOW, 2, SECOND);
    slave.advance(NOW + SECOND - 1);
    assert_eq!(slave.lender.books().leased, 4);
    slave.advance(NOW + SECOND);
    assert_eq!(slave.lender.units_of(1), Some(set(0..2)));
    assert_eq!(slave.lender.counters().units_taken.get(), 2);
    slave.memory.scrub(&mut slave.lender);
    slave.lender.set_limit(NOW + SECOND, 4, SECOND);
    // All messages about the recall were lost. The master still keeps four units, and wants four.
    let unknowing = next(&first, &reply);
    let reply = slave.connect(NOW + 2 * SECOND, &unknowing).unwrap();
    assert_eq!(grant(&reply).units, set(0..2), "the master would take an empty unit for its own");
    // Now the master knows.
    let knowing = next(&unknowing, &reply);
    assert_eq!(grant(&slave.connect(NOW + 3 * SECOND, &knowing).unwrap()).units, set(0..4));
}

proptest! {
    /// Limits, leases, answers and time come in any order. The counts agree, and the recalls are exactly the units
    /// above the limit.
    #[test]
    fn books_hold(
        acts in proptest::collection::vec((0u8..6, 0u16..4, any::<u16>(), 0u32..12, 0u64..25 * SECOND), 1..80),
    ) {
        let mut slave = Slave::with(10, 3);
        let mut now = NOW;
        let mut masters: Vec<(Connect, Option<ConnectReply>)> =
            (0..4).map(|master| (connect(master, 3), None)).collect();
        for (act, master, bits, number, later) in acts {
            let (last, granted) = &mut masters[usize::from(master)];
            match act {
                0 => slave.lender.set_limit(now, number, later),
                1 => {
                    now += later;
                    slave.advance(now);
                    slave.unasked(now);
                }
                2 => slave.memory.scrub(&mut slave.lender),
                3 => {
                    *last = Connect { seq: last.seq + 2, want: number, session: 0, ..*last };
                    let reply = slave.open(now, last);
                    *granted = crate::common::refusal(&reply).is_none().then_some(reply);
                }
                _ => {
                    let Some(reply) = granted else { continue };
                    let keep = (0..16).filter(|index| bits >> index & 1 == 1).collect();
                    *last = Connect { keep, want: number, ..next(last, reply) };
                    match slave.connect(now, last) {
                        Some(reply) if crate::common::refusal(&reply).is_none() => {
                            let units = grant(&reply).units;
                            prop_assert!(units.len() <= 10);
                            *granted = Some(reply);
                        }
                        _ => *granted = None,
                    }
                }
            }
            slave.memory.check(&slave.lender);
        }
        // In the end all units come back.
        slave.lender.leave(now, SECOND);
        slave.advance(now + SECOND);
        slave.advance(now + SECOND);
        slave.unasked(now + SECOND);
        slave.memory.scrub(&mut slave.lender);
        prop_assert!(slave.lender.is_drained());
    }
}
