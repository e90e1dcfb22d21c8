//! The baseline: a thread that sleeps in `ppoll` over an eventfd, and notes when it woke. No design can wake earlier.

use frame::Time;
use lcore::Clock;
use lcore::wait::LONGEST_SLEEP;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

struct Shared {
    bell: OwnedFd,
    woke_at: AtomicU64,
    woken: AtomicU64,
    end: AtomicBool,
}

/// A running sleeper; it ends when it is dropped.
pub(crate) struct Bare {
    shared: Arc<Shared>,
    tid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Bare {
    /// Starts it on a core.
    pub(crate) fn start(core: usize, clock: Clock) -> anyhow::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            bell,
            woke_at: AtomicU64::new(0),
            woken: AtomicU64::new(0),
            end: AtomicBool::new(false),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let inside = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("bare".to_owned()).spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            // Who started it waits for it.
            let _ = tell.send(rustix::thread::gettid().as_raw_pid());
            sleep(&inside, clock);
        })?;
        Ok(Self { shared, tid: told.recv()?, thread: Some(thread) })
    }

    /// The kernel's id of its thread.
    pub(crate) fn tid(&self) -> i32 {
        self.tid
    }

    /// Rings.
    pub(crate) fn ring(&self) -> anyhow::Result<()> {
        rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes())?;
        Ok(())
    }

    /// How often it woke for a ring, and the time of the last one.
    pub(crate) fn woke(&self) -> (u64, Time) {
        let woken = self.shared.woken.load(Ordering::Acquire);
        (woken, self.shared.woke_at.load(Ordering::Relaxed))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        let _ = self.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sleep(shared: &Shared, clock: Clock) {
    let longest = Timespec { tv_sec: 0, tv_nsec: LONGEST_SLEEP as i64 };
    while !shared.end.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(&shared.bell, PollFlags::IN)], Some(&longest));
        if rustix::io::read(&shared.bell, &mut [0u8; 8]).is_ok() {
            shared.woke_at.store(clock.now(), Ordering::Relaxed);
            shared.woken.store(shared.woken.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
    }
}
