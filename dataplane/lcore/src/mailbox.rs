//! Bounded queues between threads, with a doorbell for a receiver that sleeps.
//!
//! A sender rings (writes to an eventfd) only when the receiver is asleep or about to be, so a busy receiver costs its
//! senders no system call. No wake-up is lost:
//!
//! - the sender puts its message into the queue, and *then* reads `asleep`;
//! - the receiver sets `asleep`, and *then* checks the queue ([`Receiver::arm`]).
//!
//! With a sequentially consistent fence between the two steps on each side, at least one side sees the other's step.
//!
//! `tests/loom` compiles this very file with a model of memory and tries the interleavings. For that, everything that
//! threads share comes from `super::sync`.

use super::sync::{AtomicBool, Ordering, Queue, fence};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The doorbell that wakes a receiver that sleeps.
///
/// A ring is kept until [`silence`](Self::silence) removes it: a ring between [`Receiver::arm`] and sleep must end that
/// sleep at once.
pub trait Bell: Send + Sync {
    /// Rings. Called on the senders' threads; must not block.
    fn ring(&self);

    /// Removes a ring that was not needed. A bell that cannot do this may leave it: it costs one wake-up.
    fn silence(&self) {}

    /// The descriptor that becomes readable when it rings, if it has one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// For receivers that never sleep.
struct NoBell;

impl Bell for NoBell {
    fn ring(&self) {}
}

/// For receivers that sleep in a runtime of their own.
struct CallBell<F>(F);

impl<F: Fn() + Send + Sync> Bell for CallBell<F> {
    fn ring(&self) {
        (self.0)();
    }
}

/// For receivers that sleep in `ppoll`.
struct EventfdBell(OwnedFd);

impl Bell for EventfdBell {
    fn ring(&self) {
        // It can fail only when 2^64 - 2 rings are pending: the receiver wakes from those.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn silence(&self) {
        // WouldBlock: it did not ring. An early ring costs one wake-up; the message is found in the queue in any case.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

struct Shared<T> {
    queue: Queue<T>,
    closed: AtomicBool,
    sleep: Arc<Sleep>,
}

/// Whether a receiver sleeps, and how it is woken.
struct Sleep {
    asleep: AtomicBool,
    bell: Arc<dyn Bell>,
}

impl Sleep {
    /// Something was put where the receiver looks: rings if it sleeps.
    #[inline]
    fn announce(&self) {
        fence(Ordering::SeqCst);
        // One ring is enough: the sender that clears the flag rings, and the receiver checks the queue after it has set
        // the flag again.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

/// Wakes the receiver of a mailbox for something that is not in the mailbox. The receiver looks for it in every poll,
/// also in the last one after [`Receiver::arm`].
#[derive(Clone)]
pub struct Announcer(Arc<Sleep>);

impl Announcer {
    /// Something was put where the receiver looks: rings if it sleeps, or is about to.
    #[inline]
    pub fn announce(&self) {
        self.0.announce();
    }
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcer")
    }
}

/// Rings a mailbox's doorbell, whatever the mailbox carries.
#[derive(Clone)]
pub struct Waker(Arc<dyn Bell>);

impl Waker {
    /// Wakes the receiver, also when it is only about to sleep.
    pub fn wake(&self) {
        self.0.ring();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.descriptor().is_some() { "Waker(eventfd)" } else { "Waker" })
    }
}

/// A mailbox for at most `capacity` messages (at least 1), whose receiver can sleep on a doorbell.
///
/// # Errors
/// The kernel makes no eventfd, as the process or the machine has no descriptors left. The error is the kernel's.
pub fn mailbox<T: Send>(capacity: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    Ok(mailbox_with(capacity, Arc::new(EventfdBell(doorbell))))
}

/// A mailbox without a doorbell, for receivers that never sleep: simulated lcores, tests.
pub fn mailbox_without_doorbell<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    mailbox_with(capacity, Arc::new(NoBell))
}

/// A mailbox whose doorbell is a call, for a receiver that sleeps in a runtime of its own. `ring` runs on the senders'
/// threads and must not block. A ring between [`Receiver::arm`] and sleep must not be lost.
pub fn mailbox_with_call<T: Send>(
    capacity: usize,
    ring: impl Fn() + Send + Sync + 'static,
) -> (Sender<T>, Receiver<T>) {
    mailbox_with(capacity, bell_with_call(ring))
}

/// A bell that is a call, for several mailboxes of one receiver; as in [`mailbox_with_call`].
pub fn bell_with_call(ring: impl Fn() + Send + Sync + 'static) -> Arc<dyn Bell> {
    Arc::new(CallBell(ring))
}

/// A mailbox with a doorbell of any kind.
pub fn mailbox_with<T: Send>(capacity: usize, bell: Arc<dyn Bell>) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Queue::new(capacity.max(1)),
        closed: AtomicBool::new(false),
        sleep: Arc::new(Sleep { asleep: AtomicBool::new(false), bell }),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The end that puts messages in; clones put into the same mailbox, from any thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Puts a message into the mailbox; returns it when the mailbox is full or its receiver is gone.
    ///
    /// # Errors
    /// The message itself comes back when the mailbox is full or its receiver is gone.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(message);
        }
        self.shared.queue.push(message)?;
        self.shared.sleep.announce();
        Ok(())
    }

    /// Whether a message would be refused now for lack of room.
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// A way to wake the receiver for something that is not in the mailbox.
    pub fn announcer(&self) -> Announcer {
        Announcer(Arc::clone(&self.shared.sleep))
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

    /// Announces sleep: from now on senders ring. Returns whether the receiver may sleep: a message that is already
    /// there may have come without a ring.
    #[must_use]
    pub fn arm(&mut self) -> bool {
        // A swap instead of a store: in the total order it comes after every swap of a sender. A checker of memory
        // models that does not know the total order of stores sees this, too.
        self.shared.sleep.asleep.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.shared.queue.is_empty()
    }

    /// Ends the effect of [`arm`](Self::arm), and silences the doorbell.
    pub fn disarm(&mut self) {
        self.shared.sleep.asleep.store(false, Ordering::Relaxed);
        self.shared.sleep.bell.silence();
    }

    /// A way to wake this receiver without a message.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared.sleep.bell))
    }

    /// The descriptor that becomes readable when a sender rings, if the doorbell has one.
    pub fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.shared.sleep.bell.descriptor()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}
