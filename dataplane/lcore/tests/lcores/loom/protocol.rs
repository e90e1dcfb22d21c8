//! What must hold, and proofs that it does not hold with a fault.

use super::bell::ModelBell;
use super::queue::Queue;
use super::{sound, unfenced};
use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::process::Command;
use std::sync::Arc;

/// Runs a scenario in all interleavings with at most three preemptions. Two are enough to show every fault below, and
/// three take only seconds.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(scenario);
}

/// Asserts that loom finds an interleaving of a faulty scenario in which a receiver sleeps for ever. The scenario is an
/// ignored test that runs as a process of its own, because loom may abort after a failure.
fn assert_sleeps_for_ever(test: &str) {
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this).args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("deadlock"), "{}\n{said}", String::from_utf8_lossy(&run.stdout));
}

/// Both ends of a mailbox of one of the modules.
macro_rules! ends {
    ($name:ident, $source:ident) => {
        mod $name {
            use super::*;
            use $source::mailbox::{Receiver, Sender, mailbox_with};

            pub(super) fn mailbox(capacity: usize, keeps: bool) -> (Sender<u32>, Receiver<u32>, Arc<ModelBell>) {
                let bell = Arc::new(ModelBell::new(keeps));
                let (sender, receiver) = mailbox_with(capacity, Arc::clone(&bell) as Arc<dyn $source::mailbox::Bell>);
                (sender, receiver, bell)
            }

            /// Takes `count` messages, and sleeps whenever it may. The order of steps is that of `lcore::wait`.
            pub(super) fn receive(receiver: &mut Receiver<u32>, bell: &ModelBell, count: usize) -> Vec<u32> {
                let mut got = Vec::new();
                loop {
                    got.extend(receiver.try_recv());
                    if got.len() == count {
                        return got;
                    }
                    if receiver.arm() {
                        let last_look = receiver.try_recv();
                        if last_look.is_none() && receiver.is_empty() {
                            bell.sleep();
                        }
                        got.extend(last_look);
                    } else {
                        // A message is on its way into the queue.
                        thread::yield_now();
                    }
                    receiver.disarm();
                }
            }

            pub(super) fn send(sender: &Sender<u32>, number: u32) {
                let mut message = number;
                while let Err(back) = sender.try_send(message) {
                    assert!(!sender.is_closed());
                    message = back;
                    thread::yield_now();
                }
            }
        }
    };
}

ends!(on_sound, sound);
ends!(on_unfenced, unfenced);

/// One sender, `count` messages, room for `capacity`.
fn one_sender(capacity: usize, count: u32, keeps: bool) {
    let (sender, mut receiver, bell) = on_sound::mailbox(capacity, keeps);
    let sending = thread::spawn(move || (0..count).for_each(|number| on_sound::send(&sender, number)));
    let got = on_sound::receive(&mut receiver, &bell, count as usize);
    sending.join().unwrap();
    assert_eq!(got, (0..count).collect::<Vec<_>>());
    assert!(receiver.try_recv().is_none());
}

/// Two senders with one message each. One ring may announce both messages.
fn two_senders() {
    let (sender, mut receiver, bell) = on_sound::mailbox(2, true);
    let senders = [0, 1].map(|number| {
        let sender = sender.clone();
        thread::spawn(move || on_sound::send(&sender, number))
    });
    let mut got = on_sound::receive(&mut receiver, &bell, 2);
    for sending in senders {
        sending.join().unwrap();
    }
    got.sort_unstable();
    assert_eq!(got, [0, 1]);
}

/// A second queue beside the mailbox, whose senders announce what they put there: `lcore::handover`.
macro_rules! second_queue {
    ($ends:ident) => {{
        let (sender, mut receiver, bell) = $ends::mailbox(1, true);
        let beside = Arc::new(Queue::new(1));
        let (announcer, given) = (sender.announcer(), Arc::clone(&beside));
        let handing = thread::spawn(move || {
            assert!(given.push(7).is_ok());
            announcer.announce();
        });
        while beside.pop() != Some(7) {
            // The order of steps is that of `lcore::wait`: the last poll looks into the second queue, too.
            if receiver.arm() {
                if let Some(got) = beside.pop() {
                    assert_eq!(got, 7);
                    break;
                }
                bell.sleep();
            }
            receiver.disarm();
        }
        handing.join().unwrap();
    }};
}

/// A waker, as `LcoreHandle::stop` uses it: the order is outside the mailbox, and the bell rings without a message.
fn waker() {
    let (sender, mut receiver, bell) = on_sound::mailbox(1, true);
    let order = Arc::new(AtomicBool::new(false));
    let (waker, given) = (receiver.waker(), Arc::clone(&order));
    let ordering = thread::spawn(move || {
        given.store(true, Ordering::Relaxed);
        waker.wake();
    });
    while !order.load(Ordering::Relaxed) {
        if receiver.arm() {
            bell.sleep();
        }
        receiver.disarm();
    }
    ordering.join().unwrap();
    drop(sender);
}

#[test]
fn no_wake_up_and_no_message_is_lost() {
    model(|| one_sender(2, 2, true));
}

#[test]
fn a_full_mailbox_refuses_and_loses_nothing() {
    model(|| one_sender(1, 2, true));
}

#[test]
fn two_senders_wake_one_receiver() {
    model(two_senders);
}

#[test]
fn a_ring_without_a_message_ends_sleep() {
    model(waker);
}

#[test]
fn what_is_announced_beside_the_mailbox_wakes_its_receiver() {
    model(|| second_queue!(on_sound));
}

#[test]
#[ignore = "must fail: another test runs it"]
fn faulty_second_queue_without_fences() {
    model(|| second_queue!(on_unfenced));
}

#[test]
fn without_the_fences_what_is_announced_is_missed() {
    assert_sleeps_for_ever("loom::protocol::faulty_second_queue_without_fences");
}

#[test]
fn what_is_sent_to_a_closing_mailbox_comes_back_or_goes_with_it() {
    model(|| {
        let (sender, receiver) = sound::mailbox::mailbox_without_doorbell::<Arc<()>>(1);
        let message = Arc::new(());
        let sent = Arc::clone(&message);
        let sending = thread::spawn(move || {
            let first = sender.try_send(sent);
            // After one refusal, the sender refuses every message.
            assert!(first.is_ok() || sender.is_closed());
            first.err()
        });
        drop(receiver);
        let back = sending.join().unwrap();
        assert_eq!(Arc::strong_count(&message), 1 + usize::from(back.is_some()));
    });
}

#[test]
#[ignore = "must fail: another test runs it"]
fn faulty_without_fences() {
    model(|| {
        let (sender, mut receiver, bell) = on_unfenced::mailbox(2, true);
        let sending = thread::spawn(move || on_unfenced::send(&sender, 0));
        on_unfenced::receive(&mut receiver, &bell, 1);
        sending.join().unwrap();
    });
}

#[test]
fn without_the_fences_a_wake_up_is_lost() {
    assert_sleeps_for_ever("loom::protocol::faulty_without_fences");
}

#[test]
#[ignore = "must fail: another test runs it"]
fn faulty_with_a_bell_that_forgets() {
    model(|| one_sender(2, 1, false));
}

#[test]
fn with_a_bell_that_forgets_a_wake_up_is_lost() {
    assert_sleeps_for_ever("loom::protocol::faulty_with_a_bell_that_forgets");
}
