//! The life of a lease at the slave.

use crate::common::{Slave, bytes_of, config, connect, grant, next, refusal, set};
use frame::time::SECOND;
use lease::LenderConfig;
use wire::Record;
use wire::lease::{Connect, Disconnect, LeaseEnd, Refusal};
use wire::link::Role;
use wire::rc::PathMtu;

use crate::common::START as NOW;

fn end_of(connect: &Connect, session: u64) -> Vec<u8> {
    let disconnect = Disconnect {
        ends: connect.ends,
        from: Role::Master,
        answer: false,
        reason: LeaseEnd::Done,
        slave_epoch: connect.slave_epoch,
        master_epoch: connect.master_epoch,
        session,
    };
    let mut out = vec![0; Disconnect::LEN];
    disconnect.emit(None, &mut out).unwrap();
    out
}

#[test]
fn a_lease_is_opened_with_a_cookie_grown_shrunk_and_ended() {
    let mut slave = Slave::with(8, 4);
    let first = connect(1, 3);
    let reply = slave.open(NOW, &first);
    assert_eq!((grant(&reply).units, reply.free, reply.lease_ms), (set(0..3), 5, 60_000));
    let opening = slave.memory.openings[0];
    assert_eq!((opening.master, opening.pairs, opening.path_mtu), (1, first.pairs, PathMtu::B1024));
    let more = Connect { want: 5, ..next(&first, &reply) };
    let reply = slave.connect(NOW + 1, &more).unwrap();
    assert_eq!(grant(&reply).units, set(0..5));
    // Two units are given back, and one is wanted in their place. It must be a clean unit.
    let less = Connect { want: 4, keep: set([0, 2, 4]), ..next(&more, &reply) };
    let reply = slave.connect(NOW + 2, &less).unwrap();
    assert_eq!(grant(&reply).units, set([0, 1, 2, 4]));
    assert_eq!((slave.lender.books().dirty, slave.lender.books().free), (2, 2));
    slave.memory.scrub(&mut slave.lender);
    let answer = slave.take(NOW + 3, &end_of(&less, grant(&reply).session)).unwrap();
    let answer = Disconnect::parse(&Record::first(&answer).unwrap()).unwrap();
    assert_eq!((answer.from, answer.answer, answer.session), (Role::Slave, true, grant(&reply).session));
    let books = slave.lender.books();
    assert_eq!((books.leases, books.leased, books.dirty, books.free), (0, 0, 4, 4));
    assert!(slave.memory.regions.is_empty());
    // A repeated DISCONNECT is confirmed again, and ends nothing a second time.
    assert!(slave.take(NOW + 4, &end_of(&less, grant(&reply).session)).is_some());
    assert_eq!(slave.lender.counters().leases_ended.get(), 1);
}

#[test]
fn the_path_mtu_is_what_both_ways_allow() {
    for (ours, theirs) in [(PathMtu::B4096, PathMtu::B512), (PathMtu::B512, PathMtu::B4096)] {
        let mut slave = Slave::new(LenderConfig { path_mtu: ours, ..config(1, 1) });
        let reply = slave.open(NOW, &Connect { path_mtu: theirs, ..connect(1, 1) });
        assert_eq!((grant(&reply).path_mtu, slave.memory.openings[0].path_mtu), (PathMtu::B512, PathMtu::B512));
    }
}

#[test]
fn a_lease_that_is_not_renewed_ends_after_a_minute_and_is_scrubbed_before_the_next() {
    let mut slave = Slave::with(2, 2);
    let first = connect(1, 2);
    let reply = slave.open(NOW, &first);
    slave.advance(NOW + 60 * SECOND - 1);
    assert_eq!(slave.lender.books().leased, 2);
    assert_eq!(slave.lender.deadline(), Some(NOW + 60 * SECOND));
    slave.advance(NOW + 60 * SECOND);
    assert_eq!((slave.lender.books().leased, slave.lender.books().dirty), (0, 2));
    let refused = slave.connect(NOW + 60 * SECOND, &next(&first, &reply)).unwrap();
    assert_eq!(refusal(&refused), Some(Refusal::Session));
    // Nothing is granted until the units are scrubbed.
    let other = connect(2, 2);
    let reply = slave.open(NOW + 61 * SECOND, &other);
    assert!(grant(&reply).units.is_empty());
    slave.memory.scrub(&mut slave.lender);
    let reply = slave.connect(NOW + 62 * SECOND, &next(&other, &reply)).unwrap();
    assert_eq!(grant(&reply).units, set(0..2));
}

#[test]
fn a_renewal_that_came_before_the_end_was_noticed_saves_the_lease() {
    let mut slave = Slave::with(2, 2);
    let first = connect(1, 2);
    let reply = slave.open(NOW, &first);
    // The slave did not run for a long time. It finds the renewal and the expired lease together.
    let late = NOW + 100 * SECOND;
    slave.connect(late, &next(&first, &reply)).unwrap();
    slave.advance(late);
    assert_eq!(slave.lender.books().leased, 2);
}

#[test]
fn a_second_master_of_the_same_id_waits_until_the_lease_has_expired() {
    let mut slave = Slave::with(2, 2);
    slave.open(NOW, &connect(1, 2));
    let second = Connect { master_epoch: 0xbad, ..connect(1, 2) };
    let reply = slave.open(NOW + 20 * SECOND, &second);
    assert_eq!((refusal(&reply), reply.lease_ms), (Some(Refusal::Held), 40_000));
    assert_eq!(reply.cookie.0, connect(1, 2).lock, "a master that starts again knows its lease by the lock");
    assert_eq!(slave.lender.units_of(1), Some(set(0..2)));
    slave.advance(NOW + 60 * SECOND);
    assert_eq!(refusal(&slave.open(NOW + 60 * SECOND + 1, &Connect { seq: 4, ..second })), None);
}

#[test]
fn who_has_the_secret_resumes_with_what_both_know() {
    let mut slave = Slave::with(4, 1);
    let reply = slave.open(NOW, &connect(1, 3));
    let old = grant(&reply);
    // The master names units 0 and 2, and one that it never had.
    let keep = set([0, 2, 9]);
    let again = Connect { master_epoch: 0x2001, resume: Some([1; 16]), lock: [7; 16], keep, want: 2, ..connect(1, 2) };
    let wrong = slave.open(NOW + 1, &Connect { resume: Some([2; 16]), ..again });
    assert_eq!(refusal(&wrong), Some(Refusal::Secret));
    assert_eq!(slave.lender.units_of(1), Some(set(0..3)));
    let reply = slave.open(NOW + 2, &Connect { seq: 4, ..again });
    let new = grant(&reply);
    assert_eq!(new.units, set([0, 2]));
    assert!(new.session != old.session && new.rkey != old.rkey);
    assert_eq!(slave.lender.books().dirty, 1);
    let region = slave.memory.regions.values().next().unwrap();
    assert_eq!(region.keys().copied().collect::<Vec<_>>(), [0, 2]);
    // The old secret is not accepted any more.
    let thief = Connect { master_epoch: 0x3001, ..again };
    assert_eq!(refusal(&slave.open(NOW + 3, &thief)), Some(Refusal::Secret));
    // The old session is not accepted either.
    let late = Connect { seq: 9, session: old.session, ..connect(1, 3) };
    assert_eq!(refusal(&slave.connect(NOW + 4, &late).unwrap()), Some(Refusal::Session));
}

#[test]
fn nothing_is_resumed_where_nothing_is() {
    let mut slave = Slave::with(4, 1);
    let reply = slave.open(NOW, &Connect { resume: Some([1; 16]), keep: set([0]), ..connect(1, 3) });
    assert_eq!(refusal(&reply), Some(Refusal::Secret));
    assert_eq!(slave.lender.books().leases, 0);
}

#[test]
fn without_queue_pairs_no_lease_begins_and_none_is_lost() {
    let mut slave = Slave::with(4, 2);
    slave.memory.full = true;
    assert_eq!(refusal(&slave.open(NOW, &connect(1, 3))), Some(Refusal::NoRoom));
    assert_eq!(slave.lender.books().leases, 0);
    slave.memory.full = false;
    assert_eq!(grant(&slave.open(NOW + 1, &Connect { seq: 4, ..connect(1, 3) })).units, set(0..3));
    slave.memory.full = true;
    let again = Connect { master_epoch: 0x2001, resume: Some([1; 16]), keep: set(0..3), ..connect(1, 3) };
    assert_eq!(refusal(&slave.open(NOW + 2, &again)), Some(Refusal::NoRoom));
    // A repeated CONNECT gets the same answer, and nothing is sent unasked to a master without a session.
    slave.lender.set_limit(NOW + 2, 1, SECOND);
    assert!(slave.unasked(NOW + 2).is_empty());
    slave.lender.set_limit(NOW + 2, 4, SECOND);
    slave.memory.full = false;
    let reply = slave.open(NOW + 3, &Connect { seq: 4, ..again });
    assert_eq!(grant(&reply).units, set(0..3));
}

#[test]
fn each_master_has_a_place_and_a_quota() {
    let mut slave = Slave::new(LenderConfig { quota: 3, ..config(10, 2) });
    for master in 1..=2 {
        assert_eq!(grant(&slave.open(NOW, &connect(master, u32::MAX))).units, set(0..3));
    }
    assert_eq!(refusal(&slave.open(NOW, &connect(3, 1))), Some(Refusal::NoRoom));
    let places: Vec<u16> = slave.memory.regions.keys().copied().collect();
    assert_eq!(places, [0, 1]);
}

#[test]
fn another_boot_of_the_slave_refuses_and_says_its_epoch() {
    let mut slave = Slave::with(2, 2);
    let reply = slave.connect(NOW, &Connect { slave_epoch: 5, ..connect(1, 1) }).unwrap();
    assert_eq!((refusal(&reply), reply.slave_epoch), (Some(Refusal::Epoch), crate::common::EPOCH));
    // A DISCONNECT of another boot ends nothing.
    let first = connect(1, 1);
    let session = grant(&slave.open(NOW, &first)).session;
    slave.take(NOW, &end_of(&Connect { slave_epoch: 5, ..first }, session));
    assert_eq!(slave.lender.books().leases, 1);
}

#[test]
fn a_lender_that_leaves_recalls_all_says_farewell_and_is_drained_when_all_is_clean() {
    let mut slave = Slave::with(4, 3);
    let (first, other) = (connect(1, 3), connect(2, 0));
    let reply = slave.open(NOW, &first);
    slave.open(NOW, &other);
    slave.lender.leave(NOW, 30 * SECOND);
    slave.advance(NOW);
    // The lease without units ends at once, the other one is recalled.
    let sent = slave.unasked(NOW);
    let farewell = Disconnect::parse(&Record::first(&sent[0]).unwrap()).unwrap();
    assert_eq!((sent.len(), farewell.ends.master, farewell.reason), (2, 2, LeaseEnd::Leaving));
    assert_eq!(refusal(&slave.open(NOW, &connect(3, 1))), Some(Refusal::Leaving));
    let reply = slave.connect(NOW + 1, &Connect { keep: set([1]), ..next(&first, &reply) }).unwrap();
    assert_eq!((grant(&reply).recall.units, grant(&reply).units), (1, set([1])));
    assert!(!slave.lender.is_drained());
    slave.advance(NOW + 30 * SECOND);
    assert_eq!(slave.unasked(NOW + 30 * SECOND).len(), 1);
    assert!(!slave.lender.is_drained(), "units are dirty");
    slave.memory.scrub(&mut slave.lender);
    assert!(slave.lender.is_drained());
    assert_eq!(slave.lender.deadline(), None);
}

#[test]
fn a_refusal_is_not_longer_than_what_it_answers() {
    let mut slave = Slave::with(4, 1);
    let asked = bytes_of(&connect(1, 3), None);
    let cookie = slave.take(NOW, &asked).unwrap();
    assert!(cookie.len() <= asked.len());
    for master in [1, 2] {
        slave.open(NOW + 1, &Connect { seq: 4, ..connect(master, 3) });
        let other = Connect { master_epoch: 0xbad, seq: 6, ..connect(master, 3) };
        let asked = bytes_of(&other, None);
        assert!(slave.take(NOW + 2, &asked).unwrap().len() <= asked.len());
    }
}
