//! A thread beside poll loops, for work that they must not wait for: it works, then waits for a change in the kernel,
//! for its bell, or for a time.

use crate::netlink;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// Why a resolver cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the kernel's tables of neighbours and addresses: cannot {action}: {source}")]
pub struct ResolverError {
    /// What failed.
    pub(crate) action: &'static str,
    /// The kernel's error.
    pub(crate) source: io::Error,
}

/// The bell that wakes a [`Worker`]: a descriptor that nothing else makes readable.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// A bell that was not rung.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes integers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes the thread that waits, or the next one that will.
    pub(crate) fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the kernel reads eight live bytes. It fails only when the bell was rung already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Resets it.
    fn silence(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the kernel writes eight bytes into a live array. It fails only when the bell was not rung.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How long a worker waits when nothing happens, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(i32);

impl Wait {
    /// No wait.
    pub(crate) const NOT: Self = Self(0);
    /// A wait without a limit.
    pub(crate) const FOR_EVER: Self = Self(-1);

    /// A wait of this many milliseconds.
    pub(crate) const fn milliseconds(milliseconds: u16) -> Self {
        Self(milliseconds as i32)
    }
}

/// The thread. Dropping it ends the thread after its present work.
pub(crate) struct Worker {
    end: Arc<AtomicBool>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread of this name in the network namespace of the caller. It calls `prepare`, which may give up
    /// privileges that `work` does not need. Then it waits as `first` says, works, and waits as the result of `work`
    /// says, in a loop. A wait ends when `bell` rings, when `changes` reports a change in the kernel (the report is
    /// discarded), or when its time is over.
    ///
    /// # Errors
    /// There is no thread, or `prepare` failed.
    pub(crate) fn start(
        name: &str,
        bell: Arc<Bell>,
        changes: OwnedFd,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        first: Wait,
        mut work: impl FnMut() -> Wait + Send + 'static,
    ) -> Result<Self, ResolverError> {
        let failed = |action| move |source| ResolverError { action, source };
        let end = Arc::new(AtomicBool::new(false));
        let (rung, ended) = (Arc::clone(&bell), Arc::clone(&end));
        let (tell, prepared) = mpsc::sync_channel(1);
        let body = move || {
            let result = prepare();
            let failed = result.is_err();
            if tell.send(result).is_err() || failed {
                return;
            }
            let mut next = first;
            loop {
                wait([rung.as_fd(), changes.as_fd()], next);
                rung.silence();
                netlink::discard(changes.as_fd());
                if ended.load(Ordering::Acquire) {
                    return;
                }
                next = work();
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        let worker = Self { end, bell, thread: Some(thread.map_err(failed("start a thread"))?) };
        match prepared.recv() {
            Ok(result) => result.map_err(failed("confine its thread"))?,
            Err(mpsc::RecvError) => return Err(failed("start its thread")(io::Error::other("it panicked"))),
        }
        Ok(worker)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

/// Waits until one of the descriptors is readable.
fn wait(fds: [BorrowedFd<'_>; 2], Wait(timeout_ms): Wait) {
    let mut fds = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: a live array and its length. After an interruption the caller checks everything once more.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> OwnedFd {
        netlink::changes(libc::RTMGRP_LINK).unwrap()
    }

    #[test]
    fn it_works_when_it_is_rung_and_ends_when_it_is_dropped() {
        let (tell, worked) = mpsc::channel();
        let bell = Arc::new(Bell::new().unwrap());
        // Rung before a thread waits.
        bell.ring();
        let mut rounds = 0;
        let work = move || {
            rounds += 1;
            let _ = tell.send(rounds);
            // The second round begins by itself.
            if rounds == 1 { Wait::milliseconds(1) } else { Wait::FOR_EVER }
        };
        let worker = Worker::start("worker", Arc::clone(&bell), changes(), || Ok(()), Wait::FOR_EVER, work).unwrap();
        assert_eq!((worked.recv(), worked.recv()), (Ok(1), Ok(2)));
        bell.ring();
        assert_eq!(worked.recv(), Ok(3));
        drop(worker);
        assert!(worked.recv().is_err(), "the thread is gone, and its end of the channel with it");
    }

    #[test]
    fn one_that_cannot_be_prepared_does_not_work() {
        let bell = Arc::new(Bell::new().unwrap());
        let refused = || Err(io::Error::other("no"));
        let worker = Worker::start("worker", bell, changes(), refused, Wait::NOT, || panic!("it works"));
        let error = worker.err().unwrap().to_string();
        assert!(error.contains("cannot confine its thread: no"), "{error}");
    }
}
