//! The cluster changes its key: masters and slaves have the old connect key, both, or the new one.

use crate::common::{START as NOW, Slave, config, proposal, sent, set, talk, told};
use frame::time::{MILLISECOND, SECOND};
use lease::{ConnectKey, ConnectKeys, LenderConfig, Loan, LoanConfig, LoanEvent};
use wire::Record;
use wire::lease::{LeaseEnd, UnitSet};

fn old() -> ConnectKey {
    ConnectKey::of_cluster(&[3; 32])
}

fn new() -> ConnectKey {
    ConnectKey::of_cluster(&[4; 32])
}

fn both() -> ConnectKeys {
    ConnectKeys::changing(old(), new())
}

fn slave(keys: impl Into<ConnectKeys>) -> Slave {
    Slave::new(LenderConfig { keys: keys.into(), ..config(4, 2) })
}

fn loan(keys: impl Into<ConnectKeys>) -> Loan {
    let config = LoanConfig { slave: crate::common::SLAVE, master: 1, master_epoch: 0x1001, keys: keys.into() };
    Loan::new(config, Default::default())
}

/// Talks until there is an event, with time for repetitions; returns when it came.
fn until_event(loan: &mut Loan, slave: &mut Slave, from: u64) -> (u64, LoanEvent) {
    for step in 0..100 {
        let now = from + step * 10 * MILLISECOND;
        if let Some(event) = talk(loan, slave, now).pop() {
            return (now, event);
        }
    }
    panic!("nothing happened in a second");
}

fn signed_by(bytes: &[u8]) -> Option<&'static str> {
    let keys = [("old", old()), ("new", new())];
    keys.into_iter().find(|(_, key)| wire::tag::verify(key.as_bytes(), bytes)).map(|(name, _)| name)
}

#[test]
fn a_lease_is_opened_whatever_both_have_in_common() {
    let cases: [(&str, ConnectKeys, ConnectKeys, u64); 7] = [
        ("the same", old().into(), old().into(), 0),
        ("the slave first", old().into(), both(), 0),
        ("the master first", both(), old().into(), 0),
        ("both have both", both(), both(), 0),
        ("the slave has the old one no more", both(), new().into(), 150 * MILLISECOND),
        ("the master has the old one no more", new().into(), both(), 0),
        ("the change is over", new().into(), new().into(), 0),
    ];
    for (what, master, lender, later) in cases {
        let (mut loan, mut slave) = (loan(master), slave(lender));
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        let (at, event) = until_event(&mut loan, &mut slave, NOW);
        assert!(matches!(event, LoanEvent::Opened { .. }), "{what}: {event:?}");
        assert_eq!((at - NOW, loan.held()), (later, &set(0..2)), "{what}");
        // What it needs the next time it knows.
        let again = at + 10 * SECOND;
        let renewal = sent(&mut loan, again).unwrap();
        let answer = slave.take(again, &renewal).expect(what);
        assert_eq!(signed_by(&answer), signed_by(&renewal), "{what}");
        told(&mut loan, again, &answer);
        assert!(loan.is_settled(), "{what}");
    }
    for (master, lender) in [(old(), new()), (new(), old())] {
        let (mut loan, mut slave) = (loan(master), slave(lender));
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        assert_eq!(talk(&mut loan, &mut slave, NOW), []);
        assert!(!loan.is_open() && slave.lender.counters().lease_dropped_forged.get() > 0);
    }
}

#[test]
fn keys_change_while_a_lease_goes_on_and_nothing_is_lost() {
    // In any order of the four steps in which each end keeps one key of the other.
    for master_first in [true, false] {
        let (mut loan, mut slave) = (loan(old()), slave(old()));
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        talk(&mut loan, &mut slave, NOW);
        let mut now = NOW;
        let mut renews = |loan: &mut Loan, slave: &mut Slave| {
            now += 11 * SECOND;
            // It is repeated until the right key was tried.
            for step in 0..40 {
                talk(loan, slave, now + step * 10 * MILLISECOND);
            }
            assert!(loan.is_settled() && loan.held() == &set(0..2));
        };
        renews(&mut loan, &mut slave);
        for (masters, slaves) in [(both(), both()), (new().into(), new().into())] {
            for is_master in [master_first, !master_first] {
                match is_master {
                    true => loan.set_keys(masters.clone()),
                    false => slave.lender.set_keys(slaves.clone()),
                }
                renews(&mut loan, &mut slave);
            }
        }
        assert_eq!(slave.lender.units_of(1), Some(set(0..2)));
        assert_eq!(slave.memory.openings.len(), 1, "the session is the first one");
    }
}

#[test]
fn what_a_slave_says_unasked_has_the_key_of_the_masters_last_message() {
    for (keys, expected) in [(old(), "old"), (new(), "new")] {
        let (mut loan, mut slave) = (loan(keys), slave(both()));
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        talk(&mut loan, &mut slave, NOW);
        slave.lender.set_limit(NOW, 1, SECOND);
        let recall = slave.unasked(NOW).remove(0);
        assert_eq!(signed_by(&recall), Some(expected));
        told(&mut loan, NOW, &recall);
        assert_eq!(loan.recall().map(|(units, _)| units), Some(1));
        slave.lender.leave(NOW, SECOND);
        slave.advance(NOW + SECOND);
        slave.advance(NOW + SECOND);
        let farewells = slave.unasked(NOW + SECOND);
        let farewell = farewells.last().unwrap();
        assert_eq!(signed_by(farewell), Some(expected));
        let left = wire::lease::Disconnect::parse(&Record::first(farewell).unwrap()).unwrap();
        assert_eq!(left.reason, LeaseEnd::Leaving);
        // The end that the master says is signed with it, too.
        let mut other = crate::keys::loan(both());
        let mut lender = crate::keys::slave(new());
        other.open(NOW, proposal(), UnitSet::EMPTY, 2);
        let (at, _) = until_event(&mut other, &mut lender, NOW);
        other.close(at);
        assert_eq!(signed_by(&sent(&mut other, at).unwrap()), Some("new"));
    }
}
