//! One bell of many bells: an lcore sleeps on it, and each of many other processes rings one of its own.
//!
//! It is an epoll instance. An eventfd of the process itself stands in it for the mailbox, and one more for each client
//! that may ring ([`Bells::add`]). They are watched edge-triggered, and nobody reads those of clients: a client that
//! writes much, or reads what it wrote, changes nothing for others. A client that rings without need costs the lcore a
//! poll for each ring, as an interrupt would.
//!
//! The other direction must not use an eventfd that the client has: `O_NONBLOCK` belongs to the open file description,
//! so that a client could make the lcore wait in its write. A pipe has a description for each end.

use crate::mailbox::Bell;
use rustix::event::{EventfdFlags, epoll, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Rings that one call takes out. Others stay, and end the next sleep at once.
const AT_ONCE: usize = 64;

/// See the module's documentation. Clones are the same bell.
#[derive(Clone)]
pub struct Bells(Arc<Inner>);

struct Inner {
    epoll: OwnedFd,
    own: OwnedFd,
}

impl Bells {
    /// A bell that only the own process rings.
    ///
    /// # Errors
    /// The kernel has no descriptor left. The error is the kernel's.
    pub fn new() -> io::Result<Self> {
        let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let inner = Inner { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, own };
        let bells = Self(Arc::new(inner));
        bells.watch(bells.0.own.as_fd())?;
        Ok(bells)
    }

    /// From now on `bell`, an eventfd, rings, too. Closing all its descriptors ends that, and so does dropping the
    /// guard: another process may keep a descriptor open for as long as it likes.
    ///
    /// # Errors
    /// The kernel does not watch it: it is no eventfd, or it stands in this bell already. The error is the kernel's.
    pub fn add(&self, bell: OwnedFd) -> io::Result<Watched> {
        self.watch(bell.as_fd())?;
        Ok(Watched { bells: self.clone(), bell })
    }

    fn watch(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        Ok(epoll::add(&self.0.epoll, bell, epoll::EventData::new_u64(0), events)?)
    }
}

impl Bell for Bells {
    fn ring(&self) {
        // It can fail only when 2^64 - 2 rings were made.
        let _ = rustix::io::write(&self.0.own, &1u64.to_ne_bytes());
    }

    fn silence(&self) {
        let mut rung = [const { MaybeUninit::<epoll::Event>::uninit() }; AT_ONCE];
        // Interrupted, or out of kernel memory: the rings stay, and cost one wake-up.
        let _ = epoll::wait(&self.0.epoll, &mut rung, Some(&NOW));
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.epoll.as_fd())
    }
}

const NOW: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };

/// The eventfd of a client that may ring. Dropping it ends that.
pub struct Watched {
    bells: Bells,
    bell: OwnedFd,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It stands there until then: nobody else can remove it.
        let _ = epoll::delete(&self.bells.0.epoll, &self.bell);
    }
}

impl std::fmt::Debug for Bells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bells")
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}
