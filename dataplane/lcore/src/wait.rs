//! What an lcore does between polls: nothing (polling), or sleep after a run of empty polls (adaptive).
//!
//! An adaptive lcore spins for some polls, then yields its core, then sleeps in `ppoll` over all its ports and the
//! mailbox's doorbell, never past the role's deadline. Timer slack is 1 ns: with the default of 50 us, a sleep of 20 us
//! takes 80.
//!
//! On sockets every look for packets is a system call. If packets come so often that no sleep pays, the lcore *naps*
//! there ([`crate::nap`]): after a poll that took all that had come, it stays away for a moment, and the next poll
//! finds several packets. No descriptor ends a nap, because each packet would.
//!
//! The order before sleep: arm the mailbox and the role's own sources of work, poll everything once more, compute the
//! deadline, sleep. The last poll finds whatever came before it; whatever comes later makes a descriptor readable or
//! rings the bell.

use crate::clock::Clock;
use crate::nap::Naps;
use crate::poll::{Lcore, Polled};
use arrayvec::ArrayVec;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{Role, Time};
use port::Port;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::str::FromStr;

/// How an lcore waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RxMode {
    /// It does not sleep: the core is busy all the time, and no packet waits for a wake-up.
    Polling,
    /// It sleeps after a run of empty polls: an idle lcore costs nothing, and the first packet waits for a wake-up.
    #[default]
    Adaptive,
}

impl RxMode {
    pub(crate) const fn encode(self) -> u8 {
        match self {
            Self::Polling => 0,
            Self::Adaptive => 1,
        }
    }

    pub(crate) const fn decode(code: u8) -> Self {
        match code {
            0 => Self::Polling,
            _ => Self::Adaptive,
        }
    }
}

/// A text that is not an [`RxMode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a rx mode: choose polling (lowest latency, a core each) or adaptive (sleeps when idle)")]
pub struct RxModeError(String);

impl FromStr for RxMode {
    type Err = RxModeError;

    fn from_str(text: &str) -> Result<Self, RxModeError> {
        match text {
            "polling" => Ok(Self::Polling),
            "adaptive" => Ok(Self::Adaptive),
            _ => Err(RxModeError(text.to_owned())),
        }
    }
}

impl fmt::Display for RxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::Adaptive => "adaptive",
        })
    }
}

/// Empty polls before an adaptive lcore yields its core between polls.
pub const SPINS: u32 = 32;

/// Empty polls before it sleeps.
pub const EMPTY_POLLS_BEFORE_SLEEP: u32 = 64;

/// The longest sleep: so the ports' housekeeping goes on, and the watchdog sees a pulse.
pub const LONGEST_SLEEP: u64 = 100 * MILLISECOND;

/// The longest sleep while there is a wait that no descriptor ends: a port without a descriptor, or link control for
/// which the registrar's mailbox had no room.
pub const NAP: u64 = 50 * MICROSECOND;

/// The most descriptors in one sleep, including the doorbell. Ports beyond that are polled every [`NAP`].
const MOST_DESCRIPTORS: usize = 16;

/// The waiting of one lcore.
#[derive(Debug)]
pub struct Waiter {
    mode: RxMode,
    empty: u32,
    naps: Naps,
    /// What the role knows of naps: the last value of [`Role::stays_away`].
    told: u64,
}

impl Waiter {
    /// A waiter for the thread that calls it; sets that thread's timer slack.
    pub fn new(mode: RxMode) -> Self {
        // If this fails, sleeps are longer than requested, and nothing else is wrong.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        Self { mode, empty: 0, naps: Naps::default(), told: 0 }
    }

    /// Sets another way of waiting from now on.
    #[inline]
    pub fn set_mode(&mut self, mode: RxMode) {
        self.mode = mode;
    }

    /// Waits as the mode says, after a poll that did `polled`.
    pub fn after<R: Role, P: Port>(&mut self, lcore: &mut Lcore<R, P>, polled: Polled, clock: &Clock) {
        let nap = if self.mode == RxMode::Adaptive { self.nap_after(lcore, polled) } else { None };
        if let Some(length) = nap {
            self.empty = 0;
            return self.nap(lcore, clock, length);
        }
        if std::mem::take(&mut self.told) != 0 {
            lcore.role_mut().stays_away(0);
        }
        if self.mode == RxMode::Polling || !polled.is_empty() {
            self.empty = 0;
            if polled.is_empty() {
                std::hint::spin_loop();
            }
            return;
        }
        self.empty += 1;
        if self.empty <= SPINS {
            std::hint::spin_loop();
        } else if self.empty <= EMPTY_POLLS_BEFORE_SLEEP {
            std::thread::yield_now();
        } else {
            self.sleep(lcore, clock);
        }
    }

    /// For how long the lcore stays away now, and for how long in all, if it does.
    #[inline]
    fn nap_after<R: Role, P: Port>(&mut self, lcore: &Lcore<R, P>, polled: Polled) -> Option<(u64, u64)> {
        let longest = lcore.may_stay_away();
        if longest == 0 {
            return None;
        }
        let length = self.naps.length(lcore.polled_at(), polled.received, longest)?;
        lcore.has_caught_up(polled).then_some((length, longest))
    }

    /// Stays away for a moment, whatever comes. The role must know before its last poll, so that it sends what falls
    /// due meanwhile: if it does not know, there is another poll first.
    fn nap<R: Role, P: Port>(&mut self, lcore: &mut Lcore<R, P>, clock: &Clock, (length, longest): (u64, u64)) {
        if self.told != longest {
            self.told = longest;
            return lcore.role_mut().stays_away(longest);
        }
        let now = clock.now();
        let _ = poll(&mut [], Some(&timespec(length)));
        let took = clock.now().saturating_sub(now);
        self.naps.woke(length, took);
        lcore.was_away(took);
        lcore.counters().naps.add(1);
        lcore.counters().asleep_ns.add(took);
    }

    fn sleep<R: Role, P: Port>(&mut self, lcore: &mut Lcore<R, P>, clock: &Clock) {
        let mut may_sleep = lcore.mailbox_mut().arm();
        if may_sleep {
            lcore.role_mut().doze();
            let last_look = lcore.poll_once(clock.now());
            may_sleep = last_look.is_empty() && lcore.mailbox().is_empty() && !lcore.is_idle_and_drained();
        }
        if may_sleep {
            lcore.publish();
            let now = clock.now();
            sleep_on(lcore, now);
            lcore.counters().sleeps.add(1);
            lcore.counters().asleep_ns.add(clock.now() - now);
        } else {
            self.empty = 0;
        }
        lcore.role_mut().wake();
        lcore.mailbox_mut().disarm();
    }
}

/// Sleeps until a port or the mailbox has something, or until the deadline.
fn sleep_on<R: Role, P: Port>(lcore: &Lcore<R, P>, now: Time) {
    let paused = lcore.is_paused();
    let mut announced = true;
    let mut fds = ArrayVec::<_, MOST_DESCRIPTORS>::new();
    for port in lcore.ports() {
        let mut events = PollFlags::empty();
        // Packets that a paused lcore does not take would wake it again and again.
        events.set(PollFlags::IN, !paused);
        events.set(PollFlags::OUT, port.wants_writable());
        announced &= port.wants_writable() || lcore.outbox().waiting(port.id()) == 0;
        announced &= paused || !port.has_received();
        match port.poll_fd() {
            Some(fd) if !events.is_empty() => {
                announced &= fds.try_push(PollFd::from_borrowed_fd(fd, events)).is_ok();
            }
            Some(_) => {}
            None => announced = false,
        }
    }
    match lcore.mailbox().doorbell() {
        Some(doorbell) => announced &= fds.try_push(PollFd::from_borrowed_fd(doorbell, PollFlags::IN)).is_ok(),
        None => announced = false,
    }
    announced &= !lcore.control_waits();
    let longest = if announced { LONGEST_SLEEP } else { NAP };
    let until = lcore.deadline().map_or(longest, |deadline| deadline.saturating_sub(now).min(longest));
    let timeout = timespec(until);
    // Interrupted by a signal, or out of kernel memory: the caller polls, and sleeps again.
    let _ = poll(&mut fds, Some(&timeout));
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / SECOND) as i64, tv_nsec: (ns % SECOND) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_they_are_read() {
        for mode in [RxMode::Polling, RxMode::Adaptive] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(RxMode::decode(mode.encode()), mode);
        }
        let error = "interrupt".parse::<RxMode>().unwrap_err().to_string();
        assert!(error.contains("choose polling") && error.contains("adaptive"), "{error}");
    }
}
