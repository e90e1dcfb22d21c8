//! The order of a drain: nodes are told and move, then the gateway waits for silence, then held records leave.
//!
//! Each stage is bounded. A node that is stuck, or that has no other gateway, cannot keep this gateway from ending.

use frame::Time;
use frame::time::{MILLISECOND, SECOND};
use link::standing::doubt_after;

/// Nothing must arrive for this long before held records leave. Records that were under way have arrived by then.
const QUIET_FOR: u64 = 50 * MILLISECOND;
/// The longest time to wait for silence: nodes without another gateway keep sending.
const QUIET_WITHIN: u64 = 500 * MILLISECOND;
/// The longest time that nodes are given to move, whatever their heartbeat interval is.
const MOVE_WITHIN: u64 = 5 * SECOND;

/// The stage of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nodes are told, and move to another gateway. Records are still taken and sent as before.
    Moving,
    /// Nodes have moved, or their time is over. Records that they sent before may still arrive.
    Quiet,
    /// Held records leave, and the gateway ends.
    Flushing,
}

/// A drain that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    stage: Stage,
    /// When the stage ends at the latest.
    until: Time,
    records: u64,
    /// The time since which no records have arrived.
    still_since: Time,
}

impl Leave {
    /// Begins a drain; `interval` is the heartbeat interval of the nodes, in nanoseconds.
    pub fn begin(now: Time, interval: u64) -> Self {
        let until = now.saturating_add(doubt_after(interval).min(MOVE_WITHIN));
        Self { stage: Stage::Moving, until, records: 0, still_since: now }
    }

    /// The present stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Advances the drain. `unheard` members have not yet confirmed that they heard of it; `records` of cargo have
    /// arrived so far. Returns the new stage if it has changed. Call it every few milliseconds.
    pub fn advance(&mut self, now: Time, unheard: u32, records: u64) -> Option<Stage> {
        if records != self.records {
            (self.records, self.still_since) = (records, now);
        }
        let is_over = now >= self.until;
        let is_still = now.saturating_sub(self.still_since) >= QUIET_FOR;
        self.stage = match self.stage {
            Stage::Moving if unheard == 0 || is_over => {
                // The wait for silence is counted from here: before, cargo was welcome.
                (self.until, self.still_since) = (now.saturating_add(QUIET_WITHIN), now);
                Stage::Quiet
            }
            Stage::Quiet if is_still || is_over => Stage::Flushing,
            Stage::Moving | Stage::Quiet | Stage::Flushing => return None,
        };
        Some(self.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_flushes_when_all_have_moved_and_nothing_comes_any_more() {
        let mut leave = Leave::begin(1_000, SECOND);
        assert_eq!(leave.advance(2_000, 3, 10), None);
        assert_eq!(leave.advance(SECOND, 0, 20), Some(Stage::Quiet));
        assert_eq!(leave.advance(SECOND + 30 * MILLISECOND, 0, 21), None);
        assert_eq!(leave.advance(SECOND + 79 * MILLISECOND, 0, 21), None);
        assert_eq!(leave.advance(SECOND + 80 * MILLISECOND, 0, 21), Some(Stage::Flushing));
        assert_eq!((leave.advance(SECOND * 9, 0, 30), leave.stage()), (None, Stage::Flushing));
    }

    #[test]
    fn who_does_not_move_and_goes_on_is_not_waited_for_for_ever() {
        for (interval, moving) in [(SECOND, SECOND * 5 / 2), (3600 * SECOND, 5 * SECOND)] {
            let mut leave = Leave::begin(0, interval);
            assert_eq!(leave.advance(moving - 1, 1, 1), None);
            assert_eq!(leave.advance(moving, 1, 2), Some(Stage::Quiet));
            let mut records = 2;
            let flushed = (0..).map(|step| moving + step * 10 * MILLISECOND).find(|&now| {
                records += 1;
                leave.advance(now, 1, records).is_some()
            });
            assert_eq!(flushed, Some(moving + QUIET_WITHIN));
        }
    }

    #[test]
    fn a_gateway_without_members_is_gone_soon() {
        let mut leave = Leave::begin(0, SECOND);
        assert_eq!(leave.advance(0, 0, 0), Some(Stage::Quiet));
        assert_eq!(leave.advance(QUIET_FOR, 0, 0), Some(Stage::Flushing));
    }
}
