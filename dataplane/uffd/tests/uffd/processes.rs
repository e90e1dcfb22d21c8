//! fork: what the child reads, and what it does to MOVE.

use crate::support::{Child, Ended, WORDS, available, holds, install, next_fault, pattern, registered};
use uffd::{FaultEvent, FeatureSet, Obstacle, PAGE, Progress, Waking};

/// This is the trap: no error anywhere.
#[test]
fn without_its_event_a_child_reads_zeros() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 2);
    install(&uffd, &memory, 0..1);
    let child = Child::fork(|| {
        let there = memory.load(0) == pattern(0, 0);
        let missing = memory.load(WORDS) == 0;
        i32::from(there) + 2 * i32::from(missing)
    });
    assert_eq!(child.wait(), Ended::Code(3), "what was there is there, and what was not is zero");
}

#[test]
fn with_its_event_a_child_has_a_userfaultfd_of_its_own() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::EVENT_FORK, 2);
    install(&uffd, &memory, 0..1);
    // fork waits until its event was read, and glibc has locked its malloc meanwhile: a handler in the same process
    // must not allocate before it has read the event.
    let (ready, is_ready) = std::sync::mpsc::channel();
    let handler = std::thread::spawn({
        let memory = std::sync::Arc::clone(&memory);
        move || {
            let mut events = Vec::with_capacity(1);
            ready.send(()).unwrap();
            while !(uffd.wait(100).unwrap() && uffd.read(&mut events, 1).unwrap() == 1) {}
            let Some(FaultEvent::Fork(child)) = events.pop() else { panic!("no fork") };
            assert_eq!(next_fault(&child).address, memory.page(1));
            install(&child, &memory, 1..2);
            uffd
        }
    });
    is_ready.recv().unwrap();
    let child = Child::fork(|| i32::from(memory.load(WORDS + 7) != pattern(1, 7)));
    assert_eq!(child.wait(), Ended::Code(0));
    let uffd = handler.join().unwrap();
    // What came to the child did not come to the parent.
    install(&uffd, &memory, 1..2);
}

#[test]
fn after_a_fork_move_refuses_pages_until_they_are_written() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::MOVE, 4);
    let (second, staging) = registered(FeatureSet::MOVE, 4);
    install(&uffd, &memory, 0..4);
    // SAFETY: it waits for a signal.
    let child = Child::fork(|| unsafe { libc::pause() });
    let move_one = |page| {
        // SAFETY: no reference points into this kind of memory.
        unsafe { second.move_pages(staging.page(page), memory.page(page), PAGE, false, Waking::Wake) }
    };
    let busy = Progress { bytes: 0, obstacle: Some(Obstacle::Busy) };
    assert_eq!(move_one(0), busy);
    memory.store(5, pattern(0, 5));
    assert!(move_one(0).is_all(), "written: it is the parent's alone");
    assert_eq!(move_one(1), busy);
    let rest = memory.page(1) as *mut libc::c_void;
    // SAFETY: pages of the memory, whose bytes stay as they are.
    assert_eq!(unsafe { libc::madvise(rest, 3 * PAGE as usize, libc::MADV_POPULATE_WRITE) }, 0);
    assert!((1..4).all(|page| move_one(page).is_all()));
    assert!((0..4).all(|page| holds(&staging, page, page)));
    child.kill();
    assert_eq!(child.wait(), Ended::Signal(libc::SIGKILL));
}
