//! When the kernel must be woken for a TX ring.

use crate::xdp::BoundMode;
use frame::Time;
use frame::time::MILLISECOND;

/// How long a zero-copy driver may keep sent frames before it is asked for them.
const COMPLETE: Time = MILLISECOND;

/// What the kernel knows about a TX ring.
///
/// In copy mode the call itself sends. With zero-copy the NIC's interrupts complete sent frames. Some drivers wait
/// until they are asked for that: they are asked, but not at every poll.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kicks {
    /// Whether the ring has entries that the kernel was not told of yet.
    untold: bool,
    /// When the kernel is asked to complete sent frames, if it has not done so by then: only with zero-copy.
    complete_at: Time,
}

impl Kicks {
    /// The ring has new entries, or the kernel was told and did not look.
    pub(super) fn sent(&mut self) {
        self.untold = true;
    }

    /// Frames came back.
    pub(super) fn completed(&mut self, now: Time) {
        self.complete_at = now.saturating_add(COMPLETE);
    }

    /// Whether a kick is due, while the kernel has frames.
    pub(super) fn is_due(&self, mode: BoundMode, is_empty: impl FnOnce() -> bool, now: Time) -> bool {
        match mode {
            BoundMode::Copy => !is_empty(),
            BoundMode::ZeroCopy => self.untold || now >= self.complete_at,
        }
    }

    /// The kernel was told.
    pub(super) fn kicked(&mut self, now: Time) {
        self.untold = false;
        self.completed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of kicks in `polls` polls, a microsecond apart, after one datagram was sent. The ring is empty after
    /// `empty_after` polls.
    fn kicks(mode: BoundMode, polls: u64, empty_after: u64) -> u64 {
        let mut state = Kicks::default();
        state.completed(0);
        state.sent();
        let mut kicks = 0;
        for poll in 1..=polls {
            let now = poll * 1000;
            if state.is_due(mode, || poll > empty_after, now) {
                state.kicked(now);
                kicks += 1;
            }
        }
        kicks
    }

    #[test]
    fn zero_copy_is_told_once_and_reminded_each_millisecond() {
        assert_eq!(kicks(BoundMode::ZeroCopy, 900, 900), 1);
        assert_eq!(kicks(BoundMode::ZeroCopy, 5000, 5000), 5);
    }

    #[test]
    fn copy_mode_is_kicked_until_the_ring_is_empty() {
        assert_eq!(kicks(BoundMode::Copy, 5000, 3), 3);
    }

    #[test]
    fn a_kick_that_failed_comes_again_at_once() {
        let mut state = Kicks::default();
        state.kicked(1000);
        assert!(!state.is_due(BoundMode::ZeroCopy, || false, 2000));
        state.sent();
        assert!(state.is_due(BoundMode::ZeroCopy, || false, 2000));
    }
}
