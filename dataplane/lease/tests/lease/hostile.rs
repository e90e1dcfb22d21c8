//! A member of the cluster that lies, and arbitrary bytes.

use crate::common::{START as NOW, Slave, connect, grant, loan, next, proposal, refusal, sent, set, talk, told};
use lease::{LoanEnd, LoanEvent};
use proptest::prelude::*;
use wire::lease::{Connect, ConnectReply, Grant, Refusal, UnitSet};
use wire::lease::{ConnectAnswer, Disconnect, LeaseEnd, Recall};
use wire::link::{Cookie, Role};
use wire::rc::PathMtu;
use wire::{HEADER_LEN, MsgType, Record, RecordHeader};

fn emitted(reply: &ConnectReply) -> Vec<u8> {
    let mut out = vec![0; ConnectReply::MAX_LEN];
    let len = reply.emit(None, &mut out).unwrap();
    out[..len].to_vec()
}

#[test]
fn a_master_that_keeps_what_it_never_had_gets_nothing_by_it() {
    let mut slave = Slave::with(4, 2);
    slave.open(NOW, &connect(2, 2));
    let first = connect(1, 1);
    let reply = slave.open(NOW, &first);
    let all = Connect { keep: set(0..4096), want: u32::MAX, ..next(&first, &reply) };
    let reply = slave.connect(NOW, &all).unwrap();
    assert_eq!(grant(&reply).units, set([0]), "the indexes that it claims stay empty");
    assert_eq!(slave.lender.units_of(2), Some(set(0..2)));
}

#[test]
fn a_master_reaches_no_session_of_another() {
    let mut slave = Slave::with(4, 2);
    let (first, other) = (connect(1, 2), connect(2, 2));
    let reply = slave.open(NOW, &first);
    slave.open(NOW, &other);
    // Master 2 names the session of master 1.
    let thief = Connect { session: grant(&reply).session, seq: 9, keep: UnitSet::EMPTY, ..other };
    assert_eq!(slave.connect(NOW, &thief).as_ref().and_then(refusal), Some(Refusal::Session));
    let end = Disconnect {
        ends: other.ends,
        from: Role::Master,
        answer: false,
        reason: LeaseEnd::Done,
        slave_epoch: other.slave_epoch,
        master_epoch: first.master_epoch,
        session: grant(&reply).session,
    };
    let mut out = vec![0; Disconnect::LEN];
    end.emit(None, &mut out).unwrap();
    slave.take(NOW, &out);
    assert_eq!(slave.lender.books().leased, 4);
}

#[test]
fn a_disconnect_that_comes_back_to_its_sender_ends_nothing() {
    let (mut slave, mut loan) = (Slave::with(4, 2), loan(None));
    loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
    talk(&mut loan, &mut slave, NOW);
    loan.close(NOW);
    let farewell = sent(&mut loan, NOW).unwrap();
    assert_eq!(told(&mut loan, NOW, &farewell), (None, None));
    let answer = slave.take(NOW, &farewell).unwrap();
    assert_eq!(slave.take(NOW, &answer), None, "the slave's own answer");
    assert_eq!(told(&mut loan, NOW, &answer), (Some(LoanEvent::Ended(LoanEnd::Done)), None));
}

#[test]
fn a_confirmation_ends_nothing() {
    let (mut slave, mut loan) = (Slave::with(4, 2), loan(None));
    loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
    talk(&mut loan, &mut slave, NOW);
    loan.close(NOW);
    let mut confirmation = sent(&mut loan, NOW).unwrap();
    confirmation[HEADER_LEN + 19] = 1;
    assert_eq!(slave.take(NOW, &confirmation), None);
    assert_eq!(slave.lender.books().leases, 1);
}

#[test]
fn a_loan_believes_only_the_answer_to_its_last_connect() {
    let (mut slave, mut loan) = (Slave::with(4, 2), loan(None));
    loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
    let ask = sent(&mut loan, NOW).unwrap();
    let cookie = slave.take(NOW, &ask).unwrap();
    let right = ConnectReply::parse(&Record::first(&cookie).unwrap()).unwrap();
    let lies = [
        ConnectReply { seq: 2, ..right },
        ConnectReply { seq: 0, ..right },
        ConnectReply { master_epoch: 1, ..right },
        ConnectReply { ends: wire::lease::LeaseEnds { slave: 18, ..right.ends }, ..right },
        ConnectReply { ends: wire::lease::LeaseEnds { master: 2, ..right.ends }, ..right },
    ];
    for lie in lies {
        assert_eq!(told(&mut loan, NOW, &emitted(&lie)), (None, None));
    }
    assert_eq!(sent(&mut loan, NOW), None, "a lie was believed");
    told(&mut loan, NOW, &cookie);
    let open = sent(&mut loan, NOW).expect("the cookie is used");
    let granted = slave.take(NOW, &open).unwrap();
    let right = ConnectReply::parse(&Record::first(&granted).unwrap()).unwrap();
    assert_eq!(told(&mut loan, NOW, &emitted(&ConnectReply { slave_epoch: 1, ..right })), (None, None));
    assert!(matches!(told(&mut loan, NOW, &granted).0, Some(LoanEvent::Opened { .. })));
    // The same reply again is not newer, and no CONNECT waits for the refusal.
    assert_eq!(told(&mut loan, NOW, &granted), (None, None));
    let refused = ConnectReply { answer: ConnectAnswer::Refused(Refusal::Session), reply_seq: 99, ..right };
    assert_eq!(told(&mut loan, NOW, &emitted(&refused)), (None, None));
    assert!(loan.is_open());
}

#[test]
fn a_slave_that_wants_cookies_for_ever_is_asked_at_the_pace_of_repetitions() {
    let mut loan = loan(None);
    loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
    let (mut asked, mut number) = (0, 0);
    for now in (NOW..NOW + 10_000_000_000).step_by(1_000_000) {
        while let Some(bytes) = sent(&mut loan, now) {
            asked += 1;
            let connect = Connect::parse(&Record::first(&bytes).unwrap()).unwrap();
            number += 1;
            let reply = ConnectReply {
                ends: connect.ends,
                slave_epoch: connect.slave_epoch,
                master_epoch: connect.master_epoch,
                seq: connect.seq,
                reply_seq: number,
                cookie: Cookie([number as u8; 16]),
                free: 0,
                lease_ms: 0,
                answer: ConnectAnswer::Refused(Refusal::Cookie),
            };
            told(&mut loan, now, &emitted(&reply));
        }
    }
    assert!((10..25).contains(&asked), "{asked} CONNECTs in ten seconds");
}

/// Arbitrary records. Their types and ends are right now and then.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let types = prop::sample::select(vec![MsgType::CONNECT, MsgType::CONNECT_REPLY, MsgType::DISCONNECT, MsgType::RC]);
    (types, 16u32..18, 0u16..3, proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()).prop_map(
        |(msg_type, slave, master, mut payload, version)| {
            if version && payload.len() > 18 {
                (payload[16], payload[18]) = (1, 0);
            }
            let header = RecordHeader::new(msg_type, slave, wire::record::req_id(master, 0), payload.len() as u32);
            let mut out = vec![0; HEADER_LEN + payload.len()];
            wire::record::emit(&header, &payload, &mut out).unwrap();
            out
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_bytes_change_nothing(all in proptest::collection::vec(records(), 1..30)) {
        let (mut slave, mut loan) = (Slave::with(4, 2), loan(None));
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        talk(&mut loan, &mut slave, NOW);
        for bytes in all {
            slave.take(NOW, &bytes);
            told(&mut loan, NOW, &bytes);
        }
        prop_assert_eq!(slave.lender.units_of(1), Some(set(0..2)));
        prop_assert_eq!(loan.held(), &set(0..2));
    }

    /// A slave grants, recalls and takes units at will. The master has the units of the last answer, except those that
    /// it gave back.
    #[test]
    fn a_slave_that_lies_about_units_is_taken_at_its_word_and_at_no_other(
        answers in proptest::collection::vec((any::<u64>(), any::<u32>(), 0u64..5, any::<bool>()), 1..20),
    ) {
        let (mut slave, mut loan) = (Slave::with(4, 2), loan(None));
        loan.open(NOW, proposal(), UnitSet::EMPTY, 2);
        let opened = talk(&mut loan, &mut slave, NOW);
        let Some(LoanEvent::Opened { grant, .. }) = opened.first() else { panic!("it is open") };
        let (mut seq, mut newest) = (2, 2);
        for (number, (bits, recalled, ahead, give)) in answers.into_iter().enumerate() {
            let now = NOW + number as u64;
            if give {
                loan.give_back(&set([0]));
                prop_assert!(!loan.held().contains(0));
                if sent(&mut loan, now).is_some() {
                    seq += 1;
                }
            }
            newest += ahead;
            let units: UnitSet = (0..64).filter(|index| bits >> index & 1 == 1).collect();
            let recall = Recall { units: recalled, within_ms: recalled };
            let answer = ConnectAnswer::Granted(Grant { units, recall, path_mtu: PathMtu::B256, ..*grant });
            let reply = ConnectReply {
                ends: connect(1, 0).ends,
                slave_epoch: crate::common::EPOCH,
                master_epoch: connect(1, 0).master_epoch,
                seq,
                reply_seq: newest,
                cookie: Cookie::NONE,
                free: 0,
                lease_ms: 0,
                answer,
            };
            let before = *loan.held();
            if let Some(LoanEvent::Changed { gained, lost }) = told(&mut loan, now, &emitted(&reply)).0 {
                prop_assert_eq!(before.without(&lost).or(&gained), *loan.held());
                prop_assert!(gained.and(&before).is_empty());
            } else {
                prop_assert_eq!(before, *loan.held());
            }
            if ahead == 0 {
                // This answer is not newer than the last one.
                prop_assert_eq!(before, *loan.held());
            } else {
                prop_assert!(loan.held().without(&units).is_empty());
            }
        }
    }
}
