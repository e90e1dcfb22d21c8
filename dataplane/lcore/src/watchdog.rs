//! Who notices that an lcore stands still, and where.
//!
//! Each lcore leaves its pulse: how many polls it began and which part of a poll it is in, as two plain stores. Another
//! thread looks now and then. A sleeping lcore wakes at least every [`crate::wait::LONGEST_SLEEP`], so its pulse never
//! stands still for long either.

use frame::{PortId, Time};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The part of a poll in which an lcore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before its first poll.
    Starting,
    /// Taking commands from its mailbox.
    Mailbox,
    /// Receiving from a port.
    Rx(PortId),
    /// In the role, with a burst of a port.
    Receive(PortId),
    /// In the role's timers and flushes.
    Advance,
    /// Sending to a port.
    Tx(PortId),
    /// Giving link control to the registrar.
    Control,
    /// Between polls: spinning, yielding or asleep.
    Waiting,
    /// Its loop ended.
    Stopped,
}

impl Stage {
    const fn encode(self) -> u32 {
        match self {
            Self::Starting => 0,
            Self::Mailbox => 1,
            Self::Rx(port) => 2 | (port.0 as u32) << 8,
            Self::Receive(port) => 3 | (port.0 as u32) << 8,
            Self::Advance => 4,
            Self::Tx(port) => 5 | (port.0 as u32) << 8,
            Self::Control => 6,
            Self::Waiting => 7,
            Self::Stopped => 8,
        }
    }

    const fn decode(code: u32) -> Self {
        let port = PortId((code >> 8) as u8);
        match code & 0xff {
            0 => Self::Starting,
            1 => Self::Mailbox,
            2 => Self::Rx(port),
            3 => Self::Receive(port),
            4 => Self::Advance,
            5 => Self::Tx(port),
            6 => Self::Control,
            7 => Self::Waiting,
            _ => Self::Stopped,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("before its first poll"),
            Self::Mailbox => f.write_str("in a command of its mailbox"),
            Self::Rx(port) => write!(f, "in receive of port {}", port.0),
            Self::Receive(port) => write!(f, "in the role, with a burst of port {}", port.0),
            Self::Advance => f.write_str("in the role's timers and flushes"),
            Self::Tx(port) => write!(f, "in transmit of port {}", port.0),
            Self::Control => f.write_str("handing link control to the registrar"),
            Self::Waiting => f.write_str("between polls"),
            Self::Stopped => f.write_str("after its last poll"),
        }
    }
}

/// What an lcore shows of itself. Written by the lcore alone, with plain stores.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    stage: AtomicU32,
}

impl Pulse {
    /// A poll begins.
    #[inline]
    pub(crate) fn beat(&self) {
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage.encode(), Ordering::Relaxed);
    }

    /// Polls begun so far.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Where the lcore is.
    pub fn stage(&self) -> Stage {
        Stage::decode(self.stage.load(Ordering::Relaxed))
    }
}

/// What a look at the lcores found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An lcore has stood still for at least the patience; said once.
    Stalled {
        /// Which lcore, counted from 0.
        lcore: usize,
        /// Where it stands.
        stage: Stage,
        /// Since when it was seen to stand.
        since: Time,
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
            Self::Stalled { lcore, stage, .. } => write!(
                f,
                "lcore {lcore} stands still {stage}: is another program on its core, or is the process stopped?"
            ),
            Self::Recovered { lcore, stood } => {
                write!(f, "lcore {lcore} polls again after {} ms", stood / frame::time::MILLISECOND)
            }
        }
    }
}

struct Watched {
    pulse: Arc<Pulse>,
    beats: u64,
    moved: Time,
    reported: bool,
}

/// Looks at the pulses of a process's lcores.
pub struct Watchdog {
    patience: u64,
    watched: Vec<Watched>,
}

impl Watchdog {
    /// Watches lcores; one that does not begin a poll for `patience` nanoseconds stands still.
    pub fn new(now: Time, patience: u64, pulses: impl IntoIterator<Item = Arc<Pulse>>) -> Self {
        let watch = |pulse: Arc<Pulse>| Watched { beats: pulse.beats(), pulse, moved: now, reported: false };
        Self { patience, watched: pulses.into_iter().map(watch).collect() }
    }

    /// Looks at all lcores, and says what changed since the last look. Call it every fraction of the patience.
    pub fn look(&mut self, now: Time) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (lcore, watched) in self.watched.iter_mut().enumerate() {
            let (beats, stage) = (watched.pulse.beats(), watched.pulse.stage());
            if beats != watched.beats || stage == Stage::Stopped {
                if watched.reported {
                    findings.push(Finding::Recovered { lcore, stood: now - watched.moved });
                }
                *watched = Watched { pulse: Arc::clone(&watched.pulse), beats, moved: now, reported: false };
            } else if !watched.reported && now - watched.moved >= self.patience {
                watched.reported = true;
                findings.push(Finding::Stalled { lcore, stage, since: watched.moved });
            }
        }
        findings
    }

    /// Whether every lcore moved within the patience: what the registrar needs before it calls a silent node gone.
    pub fn all_move(&self) -> bool {
        self.watched.iter().all(|watched| !watched.reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_survive_the_encoding() {
        let ports = [PortId(0), PortId(255)];
        let mut stages = vec![Stage::Starting, Stage::Mailbox, Stage::Advance, Stage::Control, Stage::Waiting];
        stages.push(Stage::Stopped);
        stages.extend(ports.iter().flat_map(|&port| [Stage::Rx(port), Stage::Receive(port), Stage::Tx(port)]));
        for stage in stages {
            assert_eq!(Stage::decode(stage.encode()), stage);
        }
    }

    #[test]
    fn a_stall_is_named_once_with_its_place_and_so_is_its_end() {
        let pulses = [Arc::new(Pulse::default()), Arc::new(Pulse::default())];
        let mut dog = Watchdog::new(0, 100, pulses.iter().cloned());
        for now in [40, 80, 120] {
            pulses[0].beat();
            pulses[1].enter(Stage::Tx(PortId(1)));
            let stalled = Finding::Stalled { lcore: 1, stage: Stage::Tx(PortId(1)), since: 0 };
            assert_eq!(dog.look(now), if now == 120 { vec![stalled] } else { vec![] });
        }
        assert!(!dog.all_move());
        pulses[0].beat();
        assert_eq!(dog.look(130), []);
        pulses.iter().for_each(|pulse| pulse.beat());
        let findings = dog.look(150);
        assert_eq!(findings, [Finding::Recovered { lcore: 1, stood: 150 }]);
        assert!(dog.all_move());
        let text = Finding::Stalled { lcore: 1, stage: Stage::Tx(PortId(1)), since: 0 }.to_string();
        assert!(text.contains("lcore 1 stands still in transmit of port 1"), "{text}");
    }

    #[test]
    fn an_lcore_that_ended_does_not_stand_still() {
        let pulse = Arc::new(Pulse::default());
        pulse.enter(Stage::Stopped);
        let mut dog = Watchdog::new(0, 100, [pulse]);
        assert_eq!(dog.look(1000), []);
    }
}
