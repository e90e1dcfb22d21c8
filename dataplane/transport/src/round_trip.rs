//! What a measured round trip says of queues.

use frame::Time;

/// One measured round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    /// When it ended.
    pub(crate) now: Time,
    /// How long it took.
    pub(crate) took: Time,
    /// How long it would have taken without queues.
    pub(crate) base: Time,
    /// How long a gateway may have held the packets in order to merge them.
    pub(crate) hold: Time,
    /// How much longer round trips take anyway, with little in flight: processors that are late, for example.
    pub(crate) slack: Time,
}

impl RoundTrip {
    /// The time in queues, and whatever else made it longer than the base.
    #[inline]
    pub(crate) fn wait(&self) -> Time {
        self.took.saturating_sub(self.base + self.hold)
    }

    /// Whether the packets waited in queues for longer than they may: by which part of the round trip, in 1 / 1024.
    #[inline]
    pub(crate) fn over(&self, target: Time) -> Option<u32> {
        let usual = self.base + self.slack;
        let most = usual + self.hold + target.max(usual / 5);
        let over = self.took.checked_sub(most).filter(|over| *over > 0)?;
        Some(u32::try_from(over * 1024 / self.took).unwrap_or(1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_neither_base_nor_hold_nor_target() {
        let over = |took, hold| RoundTrip { now: 0, took, base: 100, hold, slack: 0 }.over(40);
        assert_eq!((over(140, 0), over(280, 0), over(280, 140), over(50, 0)), (None, Some(512), None, None));
        // A fifth of a long base is more than the target.
        assert_eq!(RoundTrip { now: 0, took: 1200, base: 1000, hold: 0, slack: 0 }.over(40), None);
        assert_eq!(RoundTrip { now: 0, took: 1200, base: 100, hold: 0, slack: 900 }.over(40), None);
    }
}
