//! Bounded queues between threads, with a doorbell for a receiver that sleeps.
//!
//! A sender rings (writes to an eventfd) only when the receiver is asleep or about to be, so a busy receiver costs its
//! senders no system call. No wake-up is lost:
//!
//! - the sender puts its message into the queue, and *then* reads `asleep`;
//! - the receiver sets `asleep`, and *then* looks at the queue ([`Receiver::arm`]).
//!
//! With a sequentially consistent fence between the two steps on each side, at least one of them sees the other.

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

struct Shared<T> {
    queue: ArrayQueue<T>,
    asleep: AtomicBool,
    closed: AtomicBool,
    waker: Waker,
}

/// Rings a mailbox's doorbell, whatever the mailbox carries.
#[derive(Clone)]
pub struct Waker(Bell);

#[derive(Clone)]
enum Bell {
    None,
    Eventfd(Arc<OwnedFd>),
    Call(Arc<dyn Fn() + Send + Sync>),
}

impl Waker {
    /// Wakes the receiver, also when it is only about to sleep.
    pub fn wake(&self) {
        match &self.0 {
            Bell::None => {}
            Bell::Eventfd(doorbell) => {
                // It can fail only when 2^64 - 2 rings were not yet heard: the receiver wakes from those.
                let _ = rustix::io::write(doorbell, &1u64.to_ne_bytes());
            }
            Bell::Call(call) => call(),
        }
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Bell::None => "Waker(none)",
            Bell::Eventfd(_) => "Waker(eventfd)",
            Bell::Call(_) => "Waker(call)",
        })
    }
}

/// A mailbox for at most `capacity` messages (at least 1), whose receiver can sleep on a doorbell.
pub fn mailbox<T: Send>(capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    Ok(build(capacity, Waker(Bell::Eventfd(Arc::new(doorbell)))))
}

/// A mailbox without a doorbell, for receivers that never sleep: simulated lcores, tests.
pub fn mailbox_without_doorbell<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    build(capacity, Waker(Bell::None))
}

/// A mailbox whose doorbell is a call, for a receiver that sleeps in a runtime of its own. `ring` runs on the senders'
/// threads, must not block, and a ring between [`Receiver::arm`] and sleep must not be lost.
pub fn mailbox_with_call<T: Send>(
    capacity: usize,
    ring: impl Fn() + Send + Sync + 'static,
) -> (Sender<T>, Receiver<T>) {
    build(capacity, Waker(Bell::Call(Arc::new(ring))))
}

fn build<T>(capacity: usize, waker: Waker) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        waker,
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The end that puts messages in; clones put into the same mailbox, from any thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Puts a message in; gives it back when the mailbox is full or its receiver is gone.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(message);
        }
        self.shared.queue.push(message)?;
        fence(Ordering::SeqCst);
        // One ring is enough: whoever takes the flag rings, and the receiver looks at the queue after it set it again.
        if self.shared.asleep.load(Ordering::Relaxed) && self.shared.asleep.swap(false, Ordering::AcqRel) {
            self.shared.waker.wake();
        }
        Ok(())
    }

    /// Whether a message would be refused now for want of room.
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// Whether the receiver is gone: no message will ever be taken.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// The end that takes messages out; there is one.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// The oldest message, if there is one.
    #[inline]
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// Whether no message waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Announces sleep: from now on senders ring. Returns whether it is right to sleep: a message that is there already
    /// may have come without a ring.
    #[must_use]
    pub fn arm(&mut self) -> bool {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.shared.queue.is_empty()
    }

    /// Ends what [`arm`](Self::arm) began, and silences the doorbell.
    pub fn disarm(&mut self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
        if let Bell::Eventfd(doorbell) = &self.shared.waker.0 {
            // WouldBlock: it did not ring. An early ring costs one wake-up; a message is found in the queue anyway.
            let _ = rustix::io::read(doorbell, &mut [0u8; 8]);
        }
    }

    /// A way to wake this receiver without a message.
    pub fn waker(&self) -> Waker {
        self.shared.waker.clone()
    }

    /// What becomes readable when a sender rings, if the doorbell is a descriptor.
    pub fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        match &self.shared.waker.0 {
            Bell::Eventfd(doorbell) => Some(doorbell.as_fd()),
            Bell::None | Bell::Call(_) => None,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
        assert!(!rang(&receiver, 0), "disarm silences it");
        receiver.waker().wake();
        assert!(rang(&receiver, 0), "wake needs neither message nor sleep");
    }

    #[test]
    fn a_doorbell_may_be_a_call() {
        let rings = Arc::new(std::sync::atomic::AtomicU32::new(0));
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
}
