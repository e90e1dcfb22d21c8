//! The cases of `aggregate`: the number of slaves, the direction, and the place of the input.

use super::subject::MTU;
use crate::input::Shape;
use clap::ValueEnum;
use std::fmt;

/// Bytes that a datagram of that MTU holds.
pub(super) const ROOM: u16 = MTU - wire::IPV4_UDP_LEN;

/// Records of a round, at least.
const ROUND: usize = 65_536;

/// How much of the input is in the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Warmth {
    /// Nothing: 65,536 records, or twice as many as slaves, and what the caches hold is taken out before each round
    Cold,
    /// As with a NIC that has 16,384 chunks: what it wrote is in the L3, if that is large
    Nic,
    /// All of the input: 4,096 records, so that instructions count, and buffers
    Small,
}

impl Warmth {
    /// Records of the input.
    fn records(self, slaves: u32) -> usize {
        match self {
            Self::Cold => ROUND.max(2 * slaves as usize),
            Self::Nic => 16_384,
            Self::Small => 4_096,
        }
    }
}

impl fmt::Display for Warmth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cold => "cold",
            Self::Nic => "nic",
            Self::Small => "small",
        })
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Slaves in uniformly random order.
    pub slaves: u32,
    /// Records in an input datagram.
    pub records: usize,
    /// Whether the slaves send to the master, and not the master to them.
    pub up: bool,
    /// How much of the input is in the caches.
    pub warmth: Warmth,
    /// Whether chunks are handed out in random order, as a NIC's pool does.
    pub scattered: bool,
}

impl Case {
    /// The heading of the columns with the case.
    pub(super) const HEAD: &str = "direction   slaves rec/dgram  input   chunks";

    pub(super) fn shape(&self) -> Shape {
        let &Self { slaves, records, up, warmth, scattered } = self;
        Shape { slaves, payload: 64, records, packets: warmth.records(slaves) / records, up, scattered }
    }

    /// Packets of a round.
    pub(super) fn round(&self) -> usize {
        let packets = self.shape().packets;
        packets * (ROUND / (packets * self.records)).max(1)
    }

    /// How often the input must pass so that buffers are filled to all levels, and every page was touched.
    pub(super) fn passes_to_fill(&self) -> usize {
        8 * 16 * self.slaves as usize / self.warmth.records(self.slaves) + 2
    }

    /// The one that the benchmark stands for.
    pub(super) const fn is_first(&self) -> bool {
        matches!(self, Self { slaves: 8_192, records: 1, up: false, warmth: Warmth::Cold, scattered: false })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slaves, records, up, warmth, scattered } = self;
        let (way, order) = (if *up { "up" } else { "down" }, if *scattered { "random" } else { "in turn" });
        write!(f, "{way:>9} {slaves:>8} {records:>9} {warmth:>6} {order:>8}")
    }
}
