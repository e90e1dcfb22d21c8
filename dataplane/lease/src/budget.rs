//! How many tags of strangers are verified: a flood of forged messages must not take the time of those who have
//! leases.

use frame::Time;
use frame::time::MILLISECOND;

/// One more may come in each of these times, in nanoseconds.
const EVERY: Time = MILLISECOND;

/// So many may come at once.
const BURST: u64 = 64;

/// A bucket of messages.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct StrangerBudget {
    /// When the bucket is full again.
    full_at: Time,
}

impl StrangerBudget {
    pub(crate) const fn new() -> Self {
        Self { full_at: 0 }
    }

    /// Takes one; false if there is none.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let full_at = self.full_at.max(now) + EVERY;
        let enough = full_at - now <= BURST * EVERY;
        if enough {
            self.full_at = full_at;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_one_in_each_millisecond() {
        let mut budget = StrangerBudget::new();
        let taken = |budget: &mut StrangerBudget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, 5), 64);
        assert_eq!(taken(&mut budget, 5 + EVERY - 1), 0);
        assert_eq!(taken(&mut budget, 5 + EVERY), 1);
        assert_eq!(taken(&mut budget, 5 + 11 * EVERY), 10);
        assert_eq!(taken(&mut budget, 5 + 1000 * EVERY), 64);
    }
}
