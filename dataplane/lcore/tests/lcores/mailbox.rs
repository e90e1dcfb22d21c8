//! The mailbox with its real doorbells; `tests/loom` tries the interleavings.

use lcore::mailbox::{Receiver, mailbox, mailbox_with_call, mailbox_without_doorbell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn rang<T>(receiver: &Receiver<T>, seconds: i64) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(receiver.doorbell().unwrap(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
}

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let (sender, mut receiver) = mailbox_without_doorbell(2);
    assert_eq!((sender.try_send(1), sender.try_send(2), sender.try_send(3)), (Ok(()), Ok(()), Err(3)));
    assert!(sender.is_full());
    assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some(1), Some(2), None));
    drop(receiver);
    assert!(sender.is_closed());
    assert_eq!(sender.try_send(4), Err(4));
}

#[test]
fn the_bell_rings_only_for_a_sleeper_and_once() {
    let (sender, mut receiver) = mailbox(8).unwrap();
    sender.try_send(1).unwrap();
    assert!(!rang(&receiver, 0), "an awake receiver needs no bell");
    assert!(!receiver.arm(), "a message waits: no sleep");
    receiver.disarm();
    assert_eq!(receiver.try_recv(), Some(1));
    assert!(receiver.arm());
    sender.try_send(2).unwrap();
    assert!(rang(&receiver, 0));
    receiver.disarm();
    assert!(!rang(&receiver, 0), "`disarm` takes the ring back");
    receiver.waker().wake();
    assert!(rang(&receiver, 0), "wake needs neither message nor sleep");
}

#[test]
fn a_doorbell_may_be_a_call() {
    let rings = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&rings);
    let (sender, mut receiver) = mailbox_with_call(8, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    sender.try_send(1).unwrap();
    assert_eq!(rings.load(Ordering::Relaxed), 0);
    assert_eq!(receiver.try_recv(), Some(1));
    assert!(receiver.arm() && receiver.doorbell().is_none());
    sender.try_send(2).unwrap();
    sender.try_send(3).unwrap();
    assert_eq!(rings.load(Ordering::Relaxed), 1);
}

/// Two senders and a receiver that sleeps whenever it may: a lost wake-up would leave it asleep for a minute.
#[test]
fn no_wake_up_is_lost() {
    const EACH: u32 = 20_000;
    let (sender, mut receiver) = mailbox(16).unwrap();
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    while sender.try_send(number).is_err() {
                        std::thread::yield_now();
                    }
                    if number % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut received = 0;
    while received < 2 * EACH {
        while receiver.try_recv().is_some() {
            received += 1;
        }
        if received < 2 * EACH && receiver.arm() {
            assert!(rang(&receiver, 60), "asleep with {received} of {} messages", 2 * EACH);
        }
        receiver.disarm();
    }
    for sender in senders {
        sender.join().unwrap();
    }
    assert_eq!(receiver.try_recv(), None);
}
