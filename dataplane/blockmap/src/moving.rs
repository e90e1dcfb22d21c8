//! Extents whose blocks move to others, and how far the present move has come.

use std::collections::VecDeque;

/// The next step of a move: read these bytes from one extent, write them to the other one at the same place, and say
/// how it ended with [`BlockMap::copied`](crate::BlockMap::copied).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// The extent that is recalled.
    pub from: u64,
    /// The other one.
    pub to: u64,
    /// The first byte in both.
    pub offset: u32,
    /// How many.
    pub len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An extent was asked for.
    Wants,
    /// Writes under way have to end.
    Waits(u64),
    /// Blocks before the second number are copied. A step may be under way.
    Copies(u64, u32, Option<CopyStep>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) slot: u32,
    pub(crate) phase: Phase,
}

/// The extents that are to be moved, and the one that is.
#[derive(Debug, Default)]
pub(crate) struct Relocation {
    pub(crate) queue: VecDeque<u64>,
    pub(crate) current: Option<Move>,
}
