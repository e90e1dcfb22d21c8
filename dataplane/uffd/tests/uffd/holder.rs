//! What becomes of waiting threads when whoever handles their faults dies.

use crate::support::{Child, Ended, available, bytes, holds, install, next_fault, pattern, registered, touch};
use std::io::{Read as _, Write as _};
use uffd::{FeatureSet, Waking};

/// This is the trap: no error anywhere. Somebody must hold the descriptor.
#[test]
fn the_last_descriptor_gone_means_zeros() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 4);
    install(&uffd, &memory, 0..1);
    let waits = touch(&memory, 1);
    assert_eq!(next_fault(&uffd).address, memory.page(1));
    drop(uffd);
    assert_eq!(waits.join().unwrap(), 0, "the thread that waited");
    assert_eq!(memory.load(2 * 512), 0, "a thread that comes later");
    assert!(holds(&memory, 0, 0), "what was there stays");
}

/// A handler in another process reads a fault and is killed. Whoever holds the descriptor finishes the fault.
#[test]
fn a_killed_handler_loses_nothing_while_somebody_holds_the_descriptor() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 4);
    let (mut hears, mut says) = std::io::pipe().unwrap();
    let handler = Child::fork(|| {
        let mut events = Vec::new();
        while !(uffd.wait(-1).is_ok_and(|ready| ready) && uffd.read(&mut events, 1).is_ok_and(|count| count == 1)) {}
        let told = says.write_all(&[1]);
        // SAFETY: it waits for a signal.
        unsafe { libc::pause() };
        i32::from(told.is_err())
    });
    let waits = touch(&memory, 1);
    hears.read_exact(&mut [0]).unwrap();
    handler.kill();
    assert_eq!(handler.wait(), Ended::Signal(libc::SIGKILL));
    assert!(!uffd.wait(0).unwrap(), "a fault that was read is not read again");
    assert!(!waits.is_finished(), "and its thread waits");
    uffd.wake(memory.address(), memory.len()).unwrap();
    assert_eq!(next_fault(&uffd).address, memory.page(1), "woken, it faults again");
    assert!(uffd.copy(memory.page(1), &bytes(1, 1), Waking::Wake).is_all());
    assert_eq!(waits.join().unwrap(), pattern(1, 1));
}

/// What the dead handler had finished is found by EEXIST: then WAKE is all that is missing.
#[test]
fn a_page_that_came_without_a_wake_is_found_again() {
    let Some(_alone) = available() else { return };
    let (uffd, memory) = registered(FeatureSet::NONE, 2);
    let waits = touch(&memory, 1);
    assert_eq!(next_fault(&uffd).address, memory.page(1));
    assert!(uffd.copy(memory.page(1), &bytes(1, 1), Waking::DontWake).is_all());
    assert!(!waits.is_finished());
    let again = uffd.copy(memory.page(1), &bytes(0, 1), Waking::Wake);
    assert_eq!((again.bytes, again.obstacle), (0, Some(uffd::Obstacle::Exists)));
    uffd.wake(memory.page(1), uffd::PAGE).unwrap();
    assert_eq!(waits.join().unwrap(), pattern(1, 1), "and the page is the first one");
}
