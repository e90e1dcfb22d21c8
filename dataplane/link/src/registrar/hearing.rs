//! When the gateway could not hear.

use super::deaf::Deaf;
use crate::SILENT_INTERVALS;
use frame::Time;

/// How long after a node's last heartbeat losses may excuse its silence, in intervals.
pub(super) const LOSS_INTERVALS: u64 = 10;
/// The shortest clear time between two spells of losses is an interval divided by this; a shorter one counts as deaf.
pub(super) const SPELLS_PER_INTERVAL: u64 = 32;
/// How long a suspect may be silent, in intervals. Losses excuse this silence like any other.
pub(super) const SUSPECT_INTERVALS: u64 = 10;

/// When the gateway could not hear, by cause.
pub(super) struct Hearing {
    /// When packets or mail were lost.
    pub(super) deaf: Deaf,
    /// The last time that an lcore did not poll.
    pub(super) stalled: Time,
    /// The end of the last pause that restarted all silence; at first the start.
    pub(super) paused: Time,
    /// Pauses in a row.
    pub(super) pauses: u32,
    pub(super) is_deaf: bool,
    /// The counts of losses at the last look: on receive, and as mail.
    pub(super) lost: Option<(u64, u64)>,
    /// The last look.
    pub(super) looked: Time,
    /// Nodes that fall silent up to this time are part of a mass silence.
    pub(super) mass_until: Option<Time>,
}

impl Hearing {
    pub(super) fn new(now: Time, interval: u64) -> Self {
        // No silence is measured from further back than the bound of a suspect.
        let keep = interval.saturating_mul(LOSS_INTERVALS + SILENT_INTERVALS + SUSPECT_INTERVALS);
        Self {
            deaf: Deaf::new(keep, interval / SPELLS_PER_INTERVAL),
            stalled: now,
            paused: now,
            pauses: 0,
            is_deaf: false,
            lost: None,
            looked: now,
            mass_until: None,
        }
    }
}
