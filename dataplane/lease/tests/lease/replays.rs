//! Recorded messages that are played again.

use crate::common::{START as NOW, Slave, bytes_of, connect, grant, next, refusal, set};
use frame::time::SECOND;
use proptest::prelude::*;
use wire::lease::{Connect, Disconnect, LeaseEnd, Refusal};
use wire::link::{Cookie, Role};

#[test]
fn a_repetition_is_answered_and_renews_nothing() {
    let mut slave = Slave::with(4, 2);
    let first = connect(1, 2);
    let reply = slave.open(NOW, &first);
    let renewal = next(&first, &reply);
    slave.connect(NOW + SECOND, &renewal).unwrap();
    for second in 2..61 {
        let again = slave.connect(NOW + second * SECOND, &renewal).expect("it is answered");
        assert_eq!(grant(&again).units, set(0..2));
        slave.advance(NOW + second * SECOND);
    }
    assert_eq!(slave.lender.books().leased, 2);
    slave.advance(NOW + 61 * SECOND);
    assert_eq!(slave.lender.books().leased, 0, "a recording kept a lease");
}

#[test]
fn what_is_older_than_the_last_connect_changes_nothing() {
    let mut slave = Slave::with(4, 2);
    let first = connect(1, 2);
    let reply = slave.open(NOW, &first);
    let more = Connect { want: 4, ..next(&first, &reply) };
    let reply = slave.connect(NOW, &more).unwrap();
    let less = Connect { want: 1, keep: set([3]), ..next(&more, &reply) };
    slave.connect(NOW, &less).unwrap();
    assert_eq!(slave.connect(NOW, &more), None);
    assert_eq!(slave.connect(NOW, &first), None);
    assert_eq!(slave.lender.units_of(1), Some(set([3])));
    assert_eq!(slave.lender.counters().lease_dropped_stale.get(), 2);
}

/// Opens and ends a lease of a master. Returns all messages of the master.
fn opened_and_ended(slave: &mut Slave, now: u64, master: u16) -> Vec<Vec<u8>> {
    let ask = Connect { seq: 1, ..connect(master, 2) };
    let cookie = slave.connect(now, &ask).unwrap().cookie;
    let open = Connect { cookie, ..connect(master, 2) };
    let session = grant(&slave.connect(now, &open).unwrap()).session;
    let end = Disconnect {
        ends: open.ends,
        from: Role::Master,
        answer: false,
        reason: LeaseEnd::Done,
        slave_epoch: open.slave_epoch,
        master_epoch: open.master_epoch,
        session,
    };
    let mut out = vec![0; Disconnect::LEN];
    end.emit(None, &mut out).unwrap();
    slave.take(now, &out).unwrap();
    vec![bytes_of(&ask, None), bytes_of(&open, None), out]
}

#[test]
fn a_recorded_lease_is_opened_no_second_time() {
    let mut slave = Slave::with(4, 2);
    for bytes in opened_and_ended(&mut slave, NOW, 1) {
        slave.take(NOW + 1, &bytes);
    }
    assert_eq!(slave.lender.books().leases, 0);
    assert_eq!(slave.lender.counters().leases_opened.get(), 1);
}

#[test]
fn a_recorded_lease_whose_place_was_taken_is_opened_no_second_time() {
    let mut slave = Slave::with(4, 1);
    let recorded = opened_and_ended(&mut slave, NOW, 1);
    // Another master takes the only place, and leaves it: the slave has forgotten the first one.
    opened_and_ended(&mut slave, NOW + 1, 2);
    for bytes in recorded {
        slave.take(NOW + 2, &bytes);
    }
    assert_eq!(slave.lender.books().leases, 0);
    assert_eq!(slave.lender.counters().leases_opened.get(), 2);
}

#[test]
fn a_cookie_holds_for_ten_seconds_and_for_one_start_of_one_master() {
    let mut slave = Slave::with(4, 4);
    let ask = Connect { seq: 1, ..connect(1, 2) };
    let cookie = slave.connect(NOW, &ask).unwrap().cookie;
    for (now, wrong) in [
        (NOW, Connect { cookie: Cookie([0xaa; 16]), ..connect(1, 2) }),
        (NOW, Connect { cookie, master_epoch: 3, ..connect(1, 2) }),
        (NOW, Connect { cookie, ..connect(2, 2) }),
        (NOW + 10 * SECOND + 1, Connect { cookie, ..connect(1, 2) }),
    ] {
        assert_eq!(refusal(&slave.connect(now, &wrong).unwrap()), Some(Refusal::Cookie));
    }
    let right = Connect { cookie, ..connect(1, 2) };
    assert_eq!(refusal(&slave.connect(NOW + 10 * SECOND, &right).unwrap()), None);
}

#[test]
fn an_earlier_start_of_a_master_displaces_no_later_one() {
    let mut slave = Slave::with(4, 2);
    slave.open(NOW, &connect(1, 2));
    // Two starts of the master ask for a cookie, and both know the secret.
    let start = |epoch| Connect { master_epoch: epoch, resume: Some([1; 16]), keep: set(0..2), ..connect(1, 2) };
    let cookie = |slave: &mut Slave, epoch| slave.connect(NOW + 1, &Connect { seq: 1, ..start(epoch) }).unwrap().cookie;
    let (old, new) = (cookie(&mut slave, 7), cookie(&mut slave, 8));
    assert_eq!(refusal(&slave.connect(NOW + 2, &Connect { cookie: new, ..start(8) }).unwrap()), None);
    let late = slave.connect(NOW + 3, &Connect { cookie: old, ..start(7) }).unwrap();
    assert_eq!(refusal(&late), Some(Refusal::Cookie));
    assert_eq!(slave.memory.openings.len(), 2);
}

proptest! {
    /// Any recorded messages are played again in any order. No lease begins, none is renewed, and no unit changes its
    /// lease.
    #[test]
    fn recordings_change_nothing(
        order in proptest::collection::vec((0usize..8, 0u64..20 * SECOND), 1..40),
    ) {
        let mut slave = Slave::with(6, 2);
        let mut recorded = opened_and_ended(&mut slave, NOW, 1);
        let ask = Connect { seq: 1, ..connect(2, 3) };
        let cookie = slave.connect(NOW + 1, &ask).unwrap().cookie;
        let open = Connect { cookie, ..connect(2, 3) };
        let reply = slave.connect(NOW + 1, &open).unwrap();
        let more = Connect { want: 4, ..next(&open, &reply) };
        let reply = slave.connect(NOW + 2, &more).unwrap();
        let less = Connect { want: 2, keep: set([1]), ..next(&more, &reply) };
        slave.connect(NOW + 3, &less).unwrap();
        recorded.extend([ask, open, more, less].map(|connect| bytes_of(&connect, None)));
        let before = (slave.lender.books(), slave.lender.units_of(2), slave.lender.deadline());
        for (which, later) in order {
            slave.take(NOW + 4 + later, &recorded[which % recorded.len()]);
            let after = (slave.lender.books(), slave.lender.units_of(2), slave.lender.deadline());
            prop_assert_eq!(&after, &before);
        }
    }
}
