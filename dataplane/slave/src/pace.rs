//! Limits a rate per second, without a timer for each event.

use frame::Time;
use frame::time::SECOND;

/// Events that were missed for longer than this are not made up for, so that no flood follows a stall.
const MEMORY: u64 = 10 * frame::time::MILLISECOND;

/// Says how many events are due; never more than the rate allows since the start.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    /// Events per second; `None` is as fast as possible.
    rate: Option<u64>,
    start: Time,
    done: u64,
}

impl Pacer {
    /// A pacer that starts now. A rate of 0 allows nothing.
    pub fn new(rate: Option<u64>, now: Time) -> Self {
        Self { rate, start: now, done: 0 }
    }

    /// How many events are due now, at most `most`.
    #[inline]
    pub fn due(&mut self, now: Time, most: u32) -> u32 {
        let Some(rate) = self.rate else { return most };
        let allowed = |since: u64| u128::from(since) * u128::from(rate) / u128::from(SECOND);
        let total = allowed(now.saturating_sub(self.start));
        let due = total.saturating_sub(u128::from(self.done));
        let memory = allowed(MEMORY).max(u128::from(most));
        if due > memory {
            self.done = u64::try_from(total - memory).unwrap_or(u64::MAX);
        }
        u32::try_from(due).unwrap_or(u32::MAX).min(most)
    }

    /// Notes that `count` events happened.
    #[inline]
    pub fn done(&mut self, count: u32) {
        self.done = self.done.saturating_add(u64::from(count));
    }

    /// When the next event is due; `None` if there will be none.
    pub fn deadline(&self) -> Option<Time> {
        match self.rate {
            None => Some(self.start),
            Some(0) => None,
            Some(rate) => {
                let after = (u128::from(self.done) + 1) * u128::from(SECOND);
                let after = u64::try_from(after.div_ceil(u128::from(rate))).unwrap_or(u64::MAX);
                Some(self.start.saturating_add(after))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::MILLISECOND;

    #[test]
    fn the_rate_is_kept_however_often_it_is_asked() {
        for step in [1_000, 33_333, 700_000, 5 * MILLISECOND] {
            let (mut pacer, mut now, mut sum) = (Pacer::new(Some(10_000), 7), 7, 0u32);
            while now < 7 + SECOND {
                now += step;
                let due = pacer.due(now, 64);
                pacer.done(due);
                sum += due;
            }
            assert!((9_990..=10_060).contains(&sum), "{sum} with steps of {step} ns");
        }
    }

    #[test]
    fn something_is_due_at_the_deadline_and_not_before() {
        let mut pacer = Pacer::new(Some(3), 1_000);
        for _ in 0..7 {
            let at = pacer.deadline().unwrap();
            assert_eq!((pacer.due(at - 1, 64), pacer.due(at, 64)), (0, 1));
            pacer.done(1);
        }
    }

    #[test]
    fn a_stall_is_not_followed_by_a_flood() {
        let mut pacer = Pacer::new(Some(1_000_000), 0);
        let mut sum = 0;
        loop {
            let due = pacer.due(3_600 * SECOND, 64);
            pacer.done(due);
            sum += due;
            if due == 0 {
                break;
            }
        }
        assert_eq!(sum, 10_000);
    }

    #[test]
    fn flat_out_and_standstill() {
        assert_eq!(Pacer::new(None, 5).due(5, 9), 9);
        let mut still = Pacer::new(Some(0), 0);
        assert_eq!((still.due(u64::MAX, 9), still.deadline()), (0, None));
    }
}
