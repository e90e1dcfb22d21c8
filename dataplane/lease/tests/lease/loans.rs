//! The master's end.

use crate::common::{START as NOW, Slave, connect, loan, proposal, sent, set, talk, told};
use frame::time::{MILLISECOND, SECOND};
use lease::{ConnectKey, LenderConfig, Loan, LoanEnd, LoanEvent, Proposal, lock_of};
use wire::Record;
use wire::lease::{Connect, Disconnect, LeaseEnd, Refusal, UnitSet};

fn parsed(bytes: &[u8]) -> Connect {
    Connect::parse(&Record::first(bytes).unwrap()).unwrap()
}

fn opened(slave: &mut Slave, want: u32) -> Loan {
    let mut loan = loan(None);
    loan.open(NOW, proposal(), UnitSet::EMPTY, want);
    let events = talk(&mut loan, slave, NOW);
    let [LoanEvent::Opened { gained, lost, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!((gained, lost), (set(0..want as u16), UnitSet::EMPTY));
    loan
}

#[test]
fn with_keys_on_both_ends_a_lease_is_opened_and_with_different_ones_it_is_not() {
    let key = ConnectKey::of_cluster(&[3; 32]);
    let mut slave = Slave::new(LenderConfig { keys: key.clone().into(), ..crate::common::config(4, 2) });
    for (right, key) in [(false, None), (false, Some(ConnectKey::of_cluster(&[4; 32]))), (true, Some(key))] {
        let mut loan = crate::common::loan(key);
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        talk(&mut loan, &mut slave, NOW);
        assert_eq!(loan.is_open(), right);
    }
    // A slave without a key answers unsigned. A master with a key does not accept that.
    let (mut bare, mut loan) = (Slave::with(4, 2), crate::common::loan(Some(ConnectKey::of_cluster(&[3; 32]))));
    loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
    talk(&mut loan, &mut bare, NOW);
    assert!(!loan.is_open());
}

#[test]
fn it_renews_every_ten_seconds_and_repeats_with_the_same_bytes_ever_more_rarely() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 2);
    assert_eq!(loan.deadline(), Some(NOW + 10 * SECOND));
    assert_eq!(sent(&mut loan, NOW + 10 * SECOND - 1), None);
    let renewal = NOW + 10 * SECOND;
    let first = sent(&mut loan, renewal).unwrap();
    let mut now = renewal;
    for wait in [50, 100, 200, 400, 800, 1000, 1000] {
        now += wait * MILLISECOND;
        assert_eq!((loan.deadline(), sent(&mut loan, now - 1)), (Some(now), None));
        assert_eq!(sent(&mut loan, now), Some(first.clone()));
    }
    // The lease time counts from the first CONNECT, because the slave may have got that one.
    let answer = slave.take(now, &first).unwrap();
    told(&mut loan, now, &answer);
    assert_eq!(loan.deadline(), Some(renewal + 10 * SECOND));
}

#[test]
fn silence_ends_it_after_a_minute_and_all_is_lost() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 2);
    sent(&mut loan, NOW + 10 * SECOND).unwrap();
    assert_eq!(loan.advance(NOW + 60 * SECOND - 1), None);
    assert_eq!(loan.held(), &set(0..2));
    assert_eq!(loan.advance(NOW + 60 * SECOND), Some(LoanEvent::Ended(LoanEnd::Silence)));
    assert!(loan.held().is_empty() && loan.deadline().is_none());
    // The slave heard nothing either, so it has ended the lease by then.
    slave.advance(NOW + 60 * SECOND);
    assert_eq!(slave.lender.books().leased, 0);
}

#[test]
fn what_is_wanted_and_given_back_is_said_at_once_and_one_connect_is_under_way_at_a_time() {
    let mut slave = Slave::with(8, 2);
    let mut loan = opened(&mut slave, 4);
    loan.give_back(&set([1, 2, 7]));
    assert_eq!((loan.held(), loan.deadline()), (&set([0, 3]), Some(0)));
    let first = sent(&mut loan, NOW).unwrap();
    assert_eq!((parsed(&first).keep, parsed(&first).want), (set([0, 3]), 4));
    loan.give_back(&set([3]));
    loan.want(5);
    assert_eq!(sent(&mut loan, NOW), None);
    // The repetition is the same, though more was given back.
    assert_eq!(sent(&mut loan, NOW + 50 * MILLISECOND), Some(first.clone()));
    let answer = slave.take(NOW, &first).unwrap();
    let (event, _) = told(&mut loan, NOW, &answer);
    // Indexes 1 and 2 are new units; 3 does not come back.
    assert_eq!(event, Some(LoanEvent::Changed { gained: set([1, 2]), lost: UnitSet::EMPTY }));
    assert_eq!(loan.held(), &set(0..3));
    let second = sent(&mut loan, NOW).unwrap();
    assert_eq!((parsed(&second).keep, parsed(&second).want), (set(0..3), 5));
}

#[test]
fn a_recall_is_told_and_what_is_taken_is_lost() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 4);
    slave.lender.set_limit(NOW, 2, SECOND);
    let nothing = LoanEvent::Changed { gained: UnitSet::EMPTY, lost: UnitSet::EMPTY };
    assert_eq!(talk(&mut loan, &mut slave, NOW), [nothing]);
    assert_eq!(loan.recall(), Some((2, NOW + SECOND)));
    loan.give_back(&set([0]));
    assert_eq!(talk(&mut loan, &mut slave, NOW), [nothing]);
    assert_eq!(loan.recall().unwrap().0, 1);
    slave.advance(NOW + SECOND);
    let taken = LoanEvent::Changed { gained: UnitSet::EMPTY, lost: set([3]) };
    assert_eq!(talk(&mut loan, &mut slave, NOW + SECOND), [taken]);
    assert_eq!((loan.held(), loan.recall()), (&set([1, 2]), None));
}

#[test]
fn a_failed_queue_pair_is_mended_by_resuming_and_keeps_the_units() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 3);
    let again = Proposal { lock: lock_of(&[2; 16]), resume: Some([1; 16]), ..proposal() };
    let keep = *loan.held();
    loan.open(NOW + 1, again, keep, 3);
    assert!(!loan.is_open());
    let events = talk(&mut loan, &mut slave, NOW + 1);
    let [LoanEvent::Opened { grant, gained, lost }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((grant.units, gained, lost), (set(0..3), &UnitSet::EMPTY, &UnitSet::EMPTY));
    assert_eq!((slave.memory.openings.len(), slave.lender.books().dirty), (2, 0));
}

#[test]
fn a_slave_that_restarted_is_noticed_and_all_is_lost() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 3);
    let mut slave = Slave::new(LenderConfig { epoch: 0xe90d, ..crate::common::config(4, 2) });
    loan.want(4);
    let events = talk(&mut loan, &mut slave, NOW);
    assert_eq!(events, [LoanEvent::Ended(LoanEnd::Refused(Refusal::Epoch))]);
    assert!(loan.held().is_empty());
}

#[test]
fn a_lease_that_another_start_holds_is_named_with_its_time() {
    let mut slave = Slave::with(4, 2);
    slave.open(NOW - SECOND, &Connect { master_epoch: 3, ..connect(1, 2) });
    let mut loan = loan(None);
    loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
    let events = talk(&mut loan, &mut slave, NOW);
    let lock = lock_of(&[1; 16]);
    assert_eq!(events, [LoanEvent::Ended(LoanEnd::Held { lasts: 59 * SECOND, lock })]);
    assert_eq!(loan.deadline(), None);
    // Who has the secret of that lock resumes the lease, and keeps nothing of it.
    let again = Proposal { lock: lock_of(&[2; 16]), resume: Some([1; 16]), ..proposal() };
    loan.open(NOW, again, UnitSet::EMPTY, 2);
    let events = talk(&mut loan, &mut slave, NOW);
    let [LoanEvent::Opened { gained, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((gained, slave.lender.books().dirty), (&set(0..2), 2));
}

#[test]
fn the_end_is_said_until_it_is_confirmed_or_five_times() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 2);
    loan.close(NOW);
    assert!(loan.held().is_empty());
    let mut now = NOW;
    for wait in [50, 100, 200, 400, 800] {
        assert!(sent(&mut loan, now).is_some());
        assert_eq!(loan.advance(now), None);
        now += wait * MILLISECOND;
    }
    assert_eq!(loan.advance(now), Some(LoanEvent::Ended(LoanEnd::Done)));
    assert_eq!((sent(&mut loan, now), loan.deadline()), (None, None));
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 2);
    loan.close(NOW);
    assert_eq!(talk(&mut loan, &mut slave, NOW), [LoanEvent::Ended(LoanEnd::Done)]);
    assert_eq!(slave.lender.books().leases, 0);
}

#[test]
fn a_slave_that_leaves_is_answered() {
    let mut slave = Slave::with(4, 2);
    let mut loan = opened(&mut slave, 2);
    slave.lender.leave(NOW, SECOND);
    slave.advance(NOW + SECOND);
    slave.advance(NOW + SECOND);
    let bytes = slave.unasked(NOW + SECOND).remove(0);
    let (event, answer) = told(&mut loan, NOW + SECOND, &bytes);
    assert_eq!(event, Some(LoanEvent::Ended(LoanEnd::Left(LeaseEnd::Leaving))));
    let answer = Disconnect::parse(&Record::first(&answer.unwrap()).unwrap()).unwrap();
    assert!(answer.answer && loan.held().is_empty());
}
