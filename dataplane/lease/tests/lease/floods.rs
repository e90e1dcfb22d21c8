//! Many messages of strangers, and forged ones.

use crate::common::{EPOCH, START as NOW, Slave, bytes_of, config, connect, grant, next, refusal, set};
use frame::time::{MILLISECOND, SECOND};
use lease::{ConnectKey, LenderConfig};
use wire::Record;
use wire::lease::{Connect, ConnectReply, Refusal};

fn key() -> ConnectKey {
    ConnectKey::of_cluster(&[3; 32])
}

fn signed(connect: &Connect) -> Vec<u8> {
    bytes_of(connect, Some(key().as_bytes()))
}

fn reply(bytes: &[u8]) -> ConnectReply {
    assert!(wire::tag::verify(key().as_bytes(), bytes), "the answer is signed");
    ConnectReply::parse(&Record::first(bytes).unwrap()).unwrap()
}

/// A slave with a key, and the last CONNECT and answer of its one lease.
fn slave() -> (Slave, Connect, ConnectReply) {
    let mut slave = Slave::new(LenderConfig { keys: key().into(), ..config(4, 2) });
    let first = connect(1, 2);
    let cookie = reply(&slave.take(NOW, &signed(&Connect { seq: 1, ..first })).unwrap()).cookie;
    let first = Connect { cookie, ..first };
    let answer = reply(&slave.take(NOW, &signed(&first)).unwrap());
    assert_eq!(grant(&answer).units, set(0..2));
    (slave, first, answer)
}

#[test]
fn a_message_without_the_tag_of_the_connect_key_gets_no_answer() {
    let (mut slave, first, answer) = slave();
    let forged = next(&first, &answer);
    let mut changed = signed(&forged);
    *changed.last_mut().unwrap() ^= 1;
    let other = ConnectKey::of_cluster(&[4; 32]);
    for bytes in [bytes_of(&forged, None), bytes_of(&forged, Some(other.as_bytes())), changed] {
        assert_eq!(slave.take(NOW, &bytes), None);
    }
    assert_eq!(slave.lender.counters().lease_dropped_forged.get(), 3);
    assert_eq!(reply(&slave.take(NOW, &signed(&forged)).unwrap()).seq, forged.seq);
}

#[test]
fn a_flood_of_strangers_costs_few_tags_and_no_lease() {
    let (mut slave, first, answer) = slave();
    let now = NOW + SECOND;
    for master in 2..5000 {
        assert_eq!(slave.take(now, &bytes_of(&connect(master, 9), None)), None);
    }
    let counters = slave.lender.counters();
    assert_eq!((counters.lease_dropped_forged.get(), counters.lease_dropped_budget.get()), (64, 4934));
    // A master with a session is not delayed, and a master that comes a little later is served as well.
    let renewed = slave.take(now, &signed(&next(&first, &answer))).unwrap();
    assert_eq!(grant(&reply(&renewed)).units, set(0..2));
    assert_eq!(slave.take(now, &signed(&connect(9, 1))), None);
    let later = slave.take(now + MILLISECOND, &signed(&connect(9, 1))).unwrap();
    assert_eq!(refusal(&reply(&later)), Some(Refusal::Cookie));
}

#[test]
fn a_message_for_another_slave_is_not_taken() {
    let (mut slave, first, answer) = slave();
    let mut other = next(&first, &answer);
    other.ends.slave += 1;
    assert_eq!(slave.take(NOW, &signed(&other)), None);
    assert_eq!(slave.lender.counters().lease_dropped_unexpected.get(), 1);
}

#[test]
fn nothing_grows_with_strangers_that_are_members() {
    let (mut slave, ..) = slave();
    for master in 2..2000 {
        let now = NOW + u64::from(master) * SECOND / 100;
        let answer = reply(&slave.take(now, &signed(&connect(master, 9))).unwrap());
        assert_eq!((refusal(&answer), answer.slave_epoch), (Some(Refusal::Cookie), EPOCH));
    }
    assert_eq!(slave.lender.books().leases, 1);
    assert_eq!(slave.memory.openings.len(), 1);
}
