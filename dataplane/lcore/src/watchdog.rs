//! Finds lcores that stand still, where they stand, and why.
//!
//! Each lcore writes its [`Pulse`] with plain stores; another thread reads it now and then. A sleeping lcore wakes at
//! least every [`crate::wait::LONGEST_SLEEP`], so its pulse never stops for long either.
//!
//! For an lcore that stands still, the kernel's account of its thread shows one of three causes. The thread uses CPU
//! time: it is stuck in code. It wants CPU time and gets none: another program has its core. It does not want any: it
//! waits in the kernel. The reads are also samples of where lcores spend their time, at no cost for the poll loop.

use crate::counters::StageSamples;
pub use crate::pulse::{Pulse, Stage};
use crate::thread::{Account, View};
use frame::time::MILLISECOND;
use frame::{PortId, Time};
use port::About;
use std::fmt;
use std::sync::Arc;

/// Why an lcore stands still, according to the kernel's account of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It uses CPU time: it does not return from its present work.
    Stuck,
    /// It wants to run and its CPU time does not grow: something else has its core.
    Descheduled,
    /// It waits in the kernel.
    Blocked,
    /// The kernel does not report it.
    Unknown,
}

impl Cause {
    /// Judges what happened to a thread in `time` nanoseconds.
    fn of(before: Option<Account>, after: Option<Account>, time: u64) -> Self {
        let (Some(before), Some(after)) = (before, after) else { return Self::Unknown };
        match after.ran.saturating_sub(before.ran) >= time / 2 {
            true => Self::Stuck,
            false if after.runnable => Self::Descheduled,
            false => Self::Blocked,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stuck => "its CPU time grows, so it is stuck in code: please report it with `gvm-dp stats --json`",
            Self::Descheduled => {
                "it wants to run and its CPU time does not grow: another program has its core; give it one of its own \
                 (isolcpus, cpusets)"
            }
            Self::Blocked => "it waits in the kernel and uses no CPU time: `dmesg` may say for what",
            Self::Unknown => "is another program on its core, or is the process stopped?",
        })
    }
}

/// A finding of one check of the lcores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An lcore has stood still for at least the patience; reported once.
    Stalled {
        /// Which lcore, counted from 0.
        lcore: usize,
        /// Where it stands.
        stage: Stage,
        /// The port at which it stands, as the port describes itself with its queue; empty if it is at no port.
        port: String,
        /// The time since which it was seen to stand.
        since: Time,
        /// The cause, as far as the kernel knows.
        cause: Cause,
    },
    /// It moves again.
    Recovered {
        /// Which lcore, counted from 0.
        lcore: usize,
        /// How long it was seen to stand, in nanoseconds.
        stood: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled { lcore, stage, port, cause, .. } => {
                write!(f, "lcore {lcore} stands still {stage}")?;
                if !port.is_empty() {
                    write!(f, " ({port})")?;
                }
                write!(f, ": {cause}")
            }
            Self::Recovered { lcore, stood } => write!(f, "lcore {lcore} polls again after {} ms", stood / MILLISECOND),
        }
    }
}

/// An lcore, as the watchdog sees it.
pub struct Subject {
    pulse: Arc<Pulse>,
    samples: Arc<StageSamples>,
    tid: Option<i32>,
    ports: Vec<(PortId, Arc<dyn About>)>,
}

impl From<Arc<Pulse>> for Subject {
    /// An lcore without a thread of its own: a simulated one.
    fn from(pulse: Arc<Pulse>) -> Self {
        Self { pulse, samples: Arc::default(), tid: None, ports: Vec::new() }
    }
}

impl From<&View> for Subject {
    fn from(view: &View) -> Self {
        Self {
            pulse: Arc::clone(&view.pulse),
            samples: Arc::clone(&view.stages),
            tid: Some(view.tid),
            ports: view.ports.iter().map(|port| (port.id, Arc::clone(&port.about))).collect(),
        }
    }
}

struct Watched {
    subject: Subject,
    beats: u64,
    /// When it was last seen to have moved.
    moved: Time,
    /// When it was first seen to stand, and its thread's account then.
    stands: Option<(Time, Option<Account>)>,
    reported: bool,
}

/// Checks the pulses of a process's lcores.
pub struct Watchdog {
    patience: u64,
    watched: Vec<Watched>,
}

impl Watchdog {
    /// Watches lcores. An lcore that does not begin a poll for `patience` nanoseconds stands still.
    pub fn new(now: Time, patience: u64, lcores: impl IntoIterator<Item = impl Into<Subject>>) -> Self {
        let watch = |lcore| {
            let subject: Subject = lcore;
            Watched { beats: subject.pulse.beats(), subject, moved: now, stands: None, reported: false }
        };
        Self { patience, watched: lcores.into_iter().map(Into::into).map(watch).collect() }
    }

    /// Checks all lcores, and returns the changes since the last check. Call it several times within the patience.
    pub fn check(&mut self, now: Time) -> Vec<Finding> {
        self.check_with(now, Account::of)
    }

    fn check_with(&mut self, now: Time, account: impl Fn(i32) -> Option<Account>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (lcore, watched) in self.watched.iter_mut().enumerate() {
            let (beats, stage) = (watched.subject.pulse.beats(), watched.subject.pulse.stage());
            let account = || watched.subject.tid.and_then(&account);
            watched.subject.samples.count(stage);
            if beats != watched.beats || stage == Stage::Stopped {
                if watched.reported {
                    findings.push(Finding::Recovered { lcore, stood: now - watched.moved });
                }
                (watched.beats, watched.moved, watched.stands, watched.reported) = (beats, now, None, false);
                continue;
            }
            let Some((since, before)) = watched.stands else {
                watched.stands = Some((now, account()));
                continue;
            };
            if !watched.reported && now - watched.moved >= self.patience {
                watched.reported = true;
                let cause = Cause::of(before, account(), now - since);
                let (port, since) = (watched.subject.port(stage), watched.moved);
                findings.push(Finding::Stalled { lcore, stage, port, since, cause });
            }
        }
        findings
    }

    /// Whether every lcore moved within the patience: the registrar needs this before it declares a silent node gone.
    pub fn all_move(&self) -> bool {
        self.watched.iter().all(|watched| !watched.reported)
    }
}

impl Subject {
    fn port(&self, stage: Stage) -> String {
        let Some(id) = stage.port() else { return String::new() };
        self.ports.iter().find(|(port, _)| *port == id).map_or_else(String::new, |(_, about)| about.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn stalled(lcore: usize, port: &str, cause: Cause) -> Finding {
        Finding::Stalled { lcore, stage: Stage::Tx(PortId(1)), port: port.to_owned(), since: 0, cause }
    }

    #[test]
    fn a_stall_is_named_once_with_its_place_and_so_is_its_end() {
        let pulses = [Arc::new(Pulse::default()), Arc::new(Pulse::default())];
        let mut dog = Watchdog::new(0, 100, pulses.iter().cloned());
        for now in [40, 80, 120] {
            pulses[0].beat();
            pulses[1].enter(Stage::Tx(PortId(1)));
            let expected = if now == 120 { vec![stalled(1, "", Cause::Unknown)] } else { vec![] };
            assert_eq!(dog.check(now), expected);
        }
        assert!(!dog.all_move());
        pulses[0].beat();
        assert_eq!(dog.check(130), []);
        pulses.iter().for_each(|pulse| pulse.beat());
        assert_eq!(dog.check(150), [Finding::Recovered { lcore: 1, stood: 150 }]);
        assert!(dog.all_move());
    }

    /// The finding of a watchdog for an lcore that did not poll for 100 ns. Its thread ran for `ran` of them.
    fn finding(ran: u64, runnable: bool) -> Finding {
        let pulse = Arc::new(Pulse::default());
        pulse.enter(Stage::Tx(PortId(1)));
        let facts = port::Facts { description: "xdp:eth0 queue 3".to_owned(), mtu: 1500, own_end: None };
        let ports: Vec<(PortId, Arc<dyn About>)> = vec![(PortId(1), Arc::new(facts))];
        let subject = Subject { pulse, samples: Arc::default(), tid: Some(1), ports };
        let samples = Arc::clone(&subject.samples);
        let mut dog = Watchdog::new(0, 100, [subject]);
        let account = Cell::new(Account { ran: 7, runnable: true });
        assert_eq!(dog.check_with(10, |_| Some(account.get())), []);
        account.set(Account { ran: 7 + ran, runnable });
        let mut findings = dog.check_with(110, |_| Some(account.get()));
        assert_eq!((findings.len(), samples.seen_in_tx.get()), (1, 2));
        findings.remove(0)
    }

    #[test]
    fn an_lcore_off_its_core_is_told_from_one_that_is_stuck() {
        for (ran, runnable, cause) in [
            (98, true, Cause::Stuck),
            (60, false, Cause::Stuck),
            (3, true, Cause::Descheduled),
            (0, false, Cause::Blocked),
        ] {
            assert_eq!(finding(ran, runnable), stalled(0, "xdp:eth0 queue 3", cause));
        }
        let text = finding(100, true).to_string();
        assert!(text.starts_with("lcore 0 stands still in transmit of port 1 (xdp:eth0 queue 3): its CPU"), "{text}");
        assert!(text.contains("stuck in code"), "{text}");
        assert!(finding(0, true).to_string().contains("another program has its core"));
    }

    #[test]
    fn the_kernel_accounts_for_this_thread() {
        let this = rustix::thread::gettid().as_raw_pid();
        // The calling thread is running.
        assert!(Account::of(this).is_some_and(|account| account.runnable));
        assert_eq!(Account::of(i32::MAX), None);
    }

    #[test]
    fn an_lcore_that_ended_does_not_stand_still() {
        let pulse = Arc::new(Pulse::default());
        pulse.enter(Stage::Stopped);
        let mut dog = Watchdog::new(0, 100, [pulse]);
        assert_eq!((dog.check(1000), dog.check(2000)), (vec![], vec![]));
    }
}
