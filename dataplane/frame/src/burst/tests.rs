//! Compares a burst with a list.

use super::*;
use crate::{Hugepages, Pool, PoolConfig, PortId, Vlan};
use proptest::prelude::*;
use std::num::NonZeroU16;

fn pool() -> Pool {
    let config = PoolConfig { frames: 256, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    Pool::new(config).unwrap()
}

fn peer(number: u8) -> Peer {
    Peer::ipv4(PortId(0), [10, 0, 0, number], 9999, Vlan::UNTAGGED, [2; 6])
}

fn datagram(pool: &Pool, bytes: &[u8], from: u8) -> Datagram {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.append(bytes));
    let sum = NonZeroU16::new(u16::from(from) * 7);
    Datagram { ce: from % 2 == 1, sum, ..Datagram::new(frame, peer(from), Class::Link, 0) }
}

/// What can happen to a burst.
#[derive(Clone, Debug)]
enum Step {
    /// A datagram of one of two pools, from one of a few senders.
    Push {
        second: bool,
        from: u8,
        len: usize,
    },
    Take(prop::sample::Index),
    Drain(usize),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (prop::bool::weighted(0.2), 0..4u8, 0..200usize);
    let step = prop_oneof![
        20 => push.prop_map(|(second, from, len)| Step::Push { second, from, len }),
        5 => any::<prop::sample::Index>().prop_map(Step::Take),
        1 => (0..4usize).prop_map(Step::Drain),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Sender and bytes of each datagram; `None` where the datagram was taken out.
type Model = Vec<Option<(u8, Vec<u8>)>>;

fn is(model: &(u8, Vec<u8>), peer: &Peer, bytes: &[u8], ce: bool, sum: Option<NonZeroU16>) -> bool {
    let (from, expected) = model;
    let known = NonZeroU16::new(u16::from(*from) * 7);
    *peer == self::peer(*from) && bytes == expected && ce == (from % 2 == 1) && sum == known
}

proptest! {
    /// Order, contents and senders are those of a list. Every chunk goes back once, to its own pool.
    #[test]
    fn it_is_a_list_that_loses_no_frame(steps in steps()) {
        let (pools, mut burst, mut model) = ([pool(), pool()], Burst::new(), Model::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { second, from, len } => {
                    let bytes = vec![number as u8; len];
                    let pushed = burst.push(datagram(&pools[usize::from(second)], &bytes, from));
                    prop_assert_eq!(pushed.is_ok(), model.len() < BURST);
                    if pushed.is_ok() {
                        model.push(Some((from, bytes)));
                    }
                }
                Step::Take(which) if !model.is_empty() => {
                    let at = which.index(model.len());
                    match (burst.take(at), model[at].take()) {
                        (Some(Datagram { frame, peer, ce, sum, .. }), Some(known)) => {
                            prop_assert!(is(&known, &peer, frame.data(), ce, sum));
                        }
                        (None, None) => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Take(_) => {}
                Step::Drain(most) => {
                    let rest = model.drain(..).flatten();
                    for (Datagram { frame, peer, ce, sum, .. }, known) in burst.drain().zip(rest).take(most) {
                        prop_assert!(is(&known, &peer, frame.data(), ce, sum));
                    }
                }
                Step::Clear => {
                    let stamp = burst.stamp();
                    burst.clear();
                    prop_assert!(model.is_empty() || burst.stamp() != stamp, "the old stamp is still in use");
                    model.clear();
                }
            }
            prop_assert_eq!((burst.len(), burst.room()), (model.len(), BURST - model.len()));
            for (at, known) in model.iter().enumerate() {
                prop_assert_eq!(burst.get(at).is_some(), known.is_some());
                let bytes = known.as_ref().map_or(&[][..], |(_, bytes)| bytes);
                prop_assert_eq!(burst.bytes(at), bytes);
                let (part, note) = burst.part(at);
                prop_assert_eq!((part, note), (bytes, burst.note(at)));
                prop_assert_eq!(burst.source(at), burst.peer(at));
                if let (Some(view), Some(known)) = (burst.get(at), known) {
                    prop_assert!(is(known, view.peer, view.frame.data(), view.ce, view.sum));
                    prop_assert_eq!(view.frame.headroom() + view.frame.len() + view.frame.tailroom(), 2048);
                }
            }
            prop_assert!((model.len()..BURST).all(|at| burst.part(at).0.is_empty()), "nothing is here");
            let here = model.iter().flatten().count() as u32;
            prop_assert_eq!(pools.iter().map(Pool::in_use).sum::<u32>(), here);
        }
        drop(burst);
        prop_assert!(pools.iter().all(|pool| pool.in_use() == 0), "a dropped burst gives its frames back");
    }
}

#[test]
fn one_sender_stands_in_the_burst_once() {
    let (pool, mut burst) = (pool(), Burst::new());
    for from in [1, 1, 2, 2, 1] {
        burst.push(datagram(&pool, b"bytes", from)).unwrap();
    }
    let senders: Vec<_> = (0..burst.len()).map(|number| burst.sender(number)).collect();
    assert!(senders[0] == senders[1] && senders[2] == senders[3] && senders[1] != senders[2]);
    assert!((0..burst.len()).map(|number| *burst.peer(number)).eq([1, 1, 2, 2, 1].map(peer)));
    assert_eq!(*burst.peer(BURST), Peer::NOBODY);
    let other = Burst::new();
    assert!(other.stamp() != burst.stamp() && burst.stamp() != 0, "0 is the stamp of no burst");
}

#[test]
fn the_pool_may_end_before_its_burst() {
    let (pool, mut burst) = (pool(), Burst::new());
    burst.push(datagram(&pool, b"bytes", 1)).unwrap();
    drop(pool);
    assert_eq!(burst.bytes(0), b"bytes");
    burst.clear();
    assert!(burst.bytes(0).is_empty() && burst.get(0).is_none() && burst.take(0).is_none());
}
