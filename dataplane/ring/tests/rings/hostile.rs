//! The other end writes any values at any time.

use frame::{Hugepages, Shared};
use proptest::prelude::*;
use ring::{Poller, Poster, RingBroken};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const CAPACITY: usize = 4;

fn memory() -> Arc<Shared> {
    Arc::new(Shared::new(1, Hugepages::Never).unwrap())
}

#[test]
fn a_tail_that_jumps_or_goes_back_is_broken() {
    for (first, then) in [(5, None), (u64::MAX, None), (3, Some(2)), (4, Some(0)), (4, Some(9))] {
        let memory = memory();
        let mut poller = Poller::<_, 1>::new(memory.clone(), 0, CAPACITY).unwrap();
        let mut out = [[0; 1]; 8];
        memory[0].store(first, Ordering::Relaxed);
        let found = poller.poll(&mut out);
        let Some(then) = then else {
            assert_eq!(found, Err(RingBroken));
            continue;
        };
        assert_eq!(found, Ok(first as usize));
        memory[0].store(then, Ordering::Relaxed);
        assert_eq!((poller.poll(&mut out), poller.sleep()), (Err(RingBroken), Err(RingBroken)));
    }
}

#[test]
fn a_head_that_jumps_or_goes_back_is_broken() {
    for (first, then) in [(5, None), (u64::MAX, None), (2, Some(1)), (4, Some(9))] {
        let memory = memory();
        let mut poster = Poster::<_, 1>::new(memory.clone(), 0, CAPACITY).unwrap();
        poster.post(&[[7]; CAPACITY]).unwrap();
        memory[8].store(first, Ordering::Relaxed);
        let found = poster.post(&[[7]; CAPACITY]).map(|posted| posted.count);
        let Some(then) = then else {
            assert_eq!(found, Err(RingBroken));
            continue;
        };
        assert_eq!(found, Ok(first as usize));
        memory[8].store(then, Ordering::Relaxed);
        assert_eq!(poster.post(&[[7]; CAPACITY]), Err(RingBroken));
    }
}

#[test]
fn what_was_copied_does_not_change_with_the_ring() {
    let memory = memory();
    let mut poster = Poster::<_, 2>::new(memory.clone(), 0, CAPACITY).unwrap();
    let mut poller = Poller::<_, 2>::new(memory.clone(), 0, CAPACITY).unwrap();
    poster.post(&[[1, 2]]).unwrap();
    let mut out = [[0; 2]; 1];
    poller.poll(&mut out).unwrap();
    memory[24].store(99, Ordering::Relaxed);
    assert_eq!(out, [[1, 2]]);
}

proptest! {
    /// With any contents of the memory, an end works or reports that the ring is broken. It never polls or posts more
    /// than the capacity beyond the other end.
    #[test]
    fn rubbish_is_survived(
        rubbish in proptest::collection::vec((0usize..40, prop_oneof![0u64..12, any::<u64>()]), 1..60)) {
        let memory = memory();
        let mut poster = Poster::<_, 2>::new(memory.clone(), 0, CAPACITY).unwrap();
        let mut poller = Poller::<_, 2>::new(memory.clone(), 0, CAPACITY).unwrap();
        for (at, value) in rubbish {
            memory[at].store(value, Ordering::Relaxed);
            if let Ok(posted) = poster.post(&[[5; 2]; 8]) {
                prop_assert!(posted.count <= CAPACITY);
            }
            if let Ok(polled) = poller.poll(&mut [[0; 2]; 8]) {
                prop_assert!(polled <= CAPACITY);
            }
            let _ = poller.sleep();
        }
        // Nothing outside of the ring was written.
        prop_assert!(memory[40..].iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
