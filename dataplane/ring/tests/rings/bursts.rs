//! Posted entries arrive once and in order.

use frame::{Hugepages, Shared};
use proptest::prelude::*;
use ring::{Poller, Posted, Poster, TooSmall, words_for};
use std::sync::Arc;

/// The two ends of a ring, each with a mapping of its own, as two processes have them.
fn ends(capacity: usize) -> (Poster<Arc<Shared>, 2>, Poller<Arc<Shared>, 2>) {
    let made = Shared::new(8 * words_for(capacity, 2), Hugepages::Never).unwrap();
    let adopted = Shared::adopt(made.file().try_clone_to_owned().unwrap(), 1 << 20).unwrap();
    made.freeze().unwrap();
    (Poster::new(Arc::new(made), 0, capacity).unwrap(), Poller::new(Arc::new(adopted), 0, capacity).unwrap())
}

#[test]
fn a_full_ring_takes_no_more_until_something_was_polled() {
    let (mut poster, mut poller) = ends(3);
    let entries = [[1, 2], [3, 4], [5, 6], [7, 8]];
    assert_eq!(poster.post(&entries), Ok(Posted { count: 3, ring: false }));
    assert_eq!(poster.post(&entries[3..]), Ok(Posted { count: 0, ring: false }));
    let mut out = [[0; 2]; 2];
    assert_eq!((poller.poll(&mut out), out), (Ok(2), [[1, 2], [3, 4]]));
    assert_eq!(poster.post(&entries[3..]), Ok(Posted { count: 1, ring: false }));
    assert_eq!((poller.poll(&mut out), out), (Ok(2), [[5, 6], [7, 8]]));
    assert_eq!(poller.poll(&mut out), Ok(0));
}

#[test]
fn the_room_is_what_was_polled() {
    let (mut poster, mut poller) = ends(3);
    assert_eq!((poster.room_for(1), poster.room_for(9)), (Ok(3), Ok(3)));
    poster.post(&[[1, 2], [3, 4]]).unwrap();
    poller.poll(&mut [[0; 2]; 2]).unwrap();
    // Who wants no more than is known of does not look.
    assert_eq!((poster.room_for(1), poster.room_for(2), poster.room_for(1)), (Ok(1), Ok(3), Ok(3)));
}

#[test]
fn who_sleeps_is_rung_for_once() {
    let (mut poster, mut poller) = ends(4);
    assert_eq!(poller.sleep(), Ok(true));
    assert_eq!(poster.post(&[[1, 1]]), Ok(Posted { count: 1, ring: true }));
    assert_eq!(poster.post(&[[2, 2]]), Ok(Posted { count: 1, ring: false }));
    assert_eq!(poller.sleep(), Ok(false), "there is something to poll");
    assert_eq!(poster.post(&[[3, 3]]), Ok(Posted { count: 1, ring: false }));
    poller.poll(&mut [[0; 2]; 4]).unwrap();
    assert_eq!((poller.sleep(), poller.wake()), (Ok(true), Ok(())));
    assert_eq!(poster.post(&[[4, 4]]), Ok(Posted { count: 1, ring: false }));
    // An empty burst rings no bell.
    poller.poll(&mut [[0; 2]; 4]).unwrap();
    assert_eq!((poller.sleep(), poster.post(&[])), (Ok(true), Ok(Posted { count: 0, ring: false })));
}

#[test]
fn a_ring_lies_inside_its_memory() {
    let memory = Arc::new(Shared::new(1, Hugepages::Never).unwrap());
    let words = memory.len();
    let last = words - words_for(4, 2);
    assert!(Poster::<_, 2>::new(memory.clone(), last, 4).is_ok());
    for (start, capacity) in [(last + 1, 4), (0, 0), (usize::MAX, 1), (0, usize::MAX)] {
        assert_eq!(Poster::<_, 2>::new(memory.clone(), start, capacity).err(), Some(TooSmall { capacity }));
        assert_eq!(Poller::<_, 2>::new(memory.clone(), start, capacity).err(), Some(TooSmall { capacity }));
    }
    assert!(Poster::<_, 0>::new(memory, 0, 4).is_err());
}

proptest! {
    #[test]
    fn all_arrives_once_and_in_order(capacity in 1usize..9,
        acts in proptest::collection::vec((any::<bool>(), 0usize..12), 1..200)) {
        let (mut poster, mut poller) = ends(capacity);
        let (mut posted, mut polled) = (0, 0);
        for (post, burst) in acts {
            if post {
                let entries: Vec<[u64; 2]> = (0..burst as u64).map(|at| [posted + at, !(posted + at)]).collect();
                let count = poster.post(&entries).unwrap().count;
                posted += count as u64;
                prop_assert_eq!(count, burst.min(capacity - (posted - polled) as usize + count));
            } else {
                let mut out = vec![[0; 2]; burst];
                let count = poller.poll(&mut out).unwrap();
                for entry in &out[..count] {
                    prop_assert_eq!(entry, &[polled, !polled]);
                    polled += 1;
                }
                prop_assert!(count == burst || polled == posted);
            }
            prop_assert!(polled <= posted && posted - polled <= capacity as u64);
        }
    }
}
