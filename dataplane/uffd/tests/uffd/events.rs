//! Events other than page faults, and what they do to calls and to their causes.

use crate::support::{
    WORDS, available, bytes, eventually, holds, install, next_event, next_fault, pattern, registered, touch,
    touch_and_sleep,
};
use std::sync::Arc;
use uffd::{FaultEvent, FeatureSet, Obstacle, PAGE, PrivateMemory, Progress, Waking};

const NOTHING: Progress = Progress { bytes: 0, obstacle: Some(Obstacle::Again) };

/// A thread that drops pages, and waits until its event was read.
fn dropper(memory: &Arc<PrivateMemory>, first: u64, pages: u64) -> std::thread::JoinHandle<()> {
    let memory = Arc::clone(memory);
    std::thread::spawn(move || memory.drop_pages(first, pages).unwrap())
}

#[test]
fn while_an_event_is_unread_calls_say_again() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::EVENT_REMOVE.with(FeatureSet::MOVE), 16);
    let (second, staging) = registered(FeatureSet::MOVE, 4);
    install(&uffd, &memory, 0..4);
    let drops = dropper(&memory, 0, 1);
    eventually("the event", || uffd.wait(100).unwrap());
    assert_eq!(uffd.copy(memory.page(8), &bytes(8, 1), Waking::Wake), NOTHING);
    assert_eq!(uffd.zero(memory.page(8), PAGE, Waking::Wake), NOTHING);
    // SAFETY: no reference points into this kind of memory.
    let own = unsafe { uffd.move_pages(memory.page(8), staging.page(0), PAGE, false, Waking::Wake) };
    assert_eq!(own, NOTHING);
    // SAFETY: as above.
    let other = unsafe { second.move_pages(staging.page(1), memory.page(1), PAGE, false, Waking::Wake) };
    assert!(other.is_all(), "{other:?}: the userfaultfd that owns the destination has no event");
    assert!(holds(&staging, 1, 1));
    uffd.wake(memory.page(8), PAGE).unwrap();
    assert!(!drops.is_finished(), "its cause waits");
    match next_event(&uffd) {
        FaultEvent::Remove { start, end } => assert_eq!((start, end), (memory.page(0), memory.page(1))),
        other => panic!("{other:?}"),
    }
    // Again lasts until the cause is scheduled: there is nothing to wait for but time.
    eventually("COPY to work", || match uffd.copy(memory.page(8), &bytes(8, 1), Waking::Wake) {
        NOTHING => false,
        done => done.is_all(),
    });
    drops.join().unwrap();
    assert!(holds(&memory, 8, 8));
}

#[test]
fn page_faults_are_read_before_events() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::EVENT_REMOVE, 8);
    install(&uffd, &memory, 0..1);
    let drops = dropper(&memory, 0, 1);
    eventually("the event", || uffd.wait(100).unwrap());
    let waits = touch_and_sleep(&memory, 5);
    assert_eq!(next_fault(&uffd).address, memory.page(5), "though it is younger");
    assert!(matches!(next_event(&uffd), FaultEvent::Remove { .. }));
    drops.join().unwrap();
    install(&uffd, &memory, 5..6);
    assert_eq!(waits.join().unwrap(), pattern(5, 1));
}

/// MADV_FREE has the same event as MADV_DONTNEED; munmap has its own.
#[test]
fn madvise_and_munmap_are_told() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::EVENT_REMOVE.with(FeatureSet::EVENT_UNMAP), 8);
    install(&uffd, &memory, 0..8);
    let (start, len) = (memory.address(), memory.len());
    let causes = std::thread::spawn(move || {
        let at = |page: u64| (start + page * PAGE) as *mut libc::c_void;
        // SAFETY: pages of the memory, to which no reference points; it is forgotten below.
        unsafe {
            assert_eq!(libc::madvise(at(1), 2 * PAGE as usize, libc::MADV_DONTNEED), 0);
            assert_eq!(libc::madvise(at(4), PAGE as usize, libc::MADV_FREE), 0);
            assert_eq!(libc::munmap(at(0), len as usize), 0);
        }
    });
    let pages = |start: u64, end: u64| ((start - memory.address()) / PAGE, (end - memory.address()) / PAGE);
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(match next_event(&uffd) {
            FaultEvent::Remove { start, end } => ("remove", pages(start, end)),
            FaultEvent::Unmap { start, end } => ("unmap", pages(start, end)),
            other => panic!("{other:?}"),
        });
    }
    causes.join().unwrap();
    assert_eq!(told, [("remove", (1, 3)), ("remove", (4, 5)), ("unmap", (0, 8))]);
    std::mem::forget(memory);
}

/// Moves memory to the place of another one, which is gone then.
fn remap(from: u64, to: u64, len: u64) {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are memories of the test, into which no reference points; the caller forgets the first one.
    let moved =
        unsafe { libc::mremap(from as *mut libc::c_void, len as usize, len as usize, flags, to as *mut libc::c_void) };
    assert_eq!(moved.addr() as u64, to);
}

/// This is the trap: mremap takes the registration away.
#[test]
fn without_its_event_mremap_means_zeros() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 4);
    install(&uffd, &memory, 0..2);
    let target = PrivateMemory::new(4).unwrap();
    remap(memory.address(), target.address(), memory.len());
    std::mem::forget(memory);
    assert!(holds(&target, 0, 0) && holds(&target, 1, 1));
    assert_eq!(target.load(3 * WORDS + 1), 0, "a page that was on a slave");
    assert!(!uffd.wait(0).unwrap());
}

#[test]
fn with_its_event_moved_memory_faults_at_its_new_place() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::EVENT_REMAP, 4);
    install(&uffd, &memory, 0..2);
    let target = Arc::new(PrivateMemory::new(4).unwrap());
    let (from, to, len) = (memory.address(), target.address(), memory.len());
    std::mem::forget(memory);
    let mover = std::thread::spawn(move || remap(from, to, len));
    match next_event(&uffd) {
        FaultEvent::Remap { from: was, to: is, len: bytes } => assert_eq!((was, is, bytes), (from, to, len)),
        other => panic!("{other:?}"),
    }
    mover.join().unwrap();
    assert!(holds(&target, 0, 0));
    let waits = touch(&target, 3);
    assert_eq!(next_fault(&uffd).address, target.page(3));
    install(&uffd, &target, 3..4);
    assert_eq!(waits.join().unwrap(), pattern(3, 1));
}

#[test]
fn a_fault_has_its_thread_and_bursts_have_many() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::THREAD_ID, 4);
    let threads: Vec<_> = (0..4).map(|page| touch_and_sleep(&memory, page)).collect();
    let mut events = Vec::new();
    assert_eq!(uffd.read(&mut events, 3).unwrap(), 3, "not more than wanted");
    assert_eq!(uffd.read(&mut events, 64).unwrap(), 1);
    assert_eq!(uffd.read(&mut events, 64).unwrap(), 0);
    let mut faults: Vec<_> = events
        .iter()
        .map(|event| match event {
            FaultEvent::Fault(fault) => (fault.address, fault.thread, fault.is_write),
            other => panic!("{other:?}"),
        })
        .collect();
    faults.sort_unstable();
    assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [0, 1, 2, 3].map(|page| memory.page(page)));
    let mut tids: Vec<u32> = faults.iter().map(|fault| fault.1).collect();
    tids.sort_unstable();
    tids.dedup();
    assert!(
        tids.len() == 4 && tids.iter().all(|&tid| std::path::Path::new(&format!("/proc/self/task/{tid}")).exists())
    );
    assert!(faults.iter().all(|fault| !fault.2), "they read");
    install(&uffd, &memory, 0..4);
    for (page, thread) in (0..).zip(threads) {
        assert_eq!(thread.join().unwrap(), pattern(page, 1));
    }
}
