//! What an lcore publishes while it polls: how many polls it began, and which part of a poll it is in.

use frame::PortId;
use std::fmt;
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

impl Stage {
    /// The port that the lcore is working on, if any.
    pub const fn port(self) -> Option<PortId> {
        match self {
            Self::Rx(port) | Self::Receive(port) | Self::Tx(port) => Some(port),
            _ => None,
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

/// The published state of an lcore. Only the lcore writes it, with plain stores, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Pulse {
    beats: AtomicU64,
    stage: AtomicU32,
}

impl Pulse {
    /// A poll begins.
    #[inline]
    pub fn beat(&self) {
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The loop is there from now on.
    #[inline]
    pub fn enter(&self, stage: Stage) {
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
}
