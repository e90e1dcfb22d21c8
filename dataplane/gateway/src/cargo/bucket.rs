//! Budgets as token buckets: one for each destination, in 4 bytes.

use crate::route::Destination;
use frame::{Table, TableError, Time};

/// How fast a bucket fills, and how much it holds, in ticks of its [`Buckets`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// The ticks in which the bucket gets one more.
    pub(super) every: u32,
    /// The ticks in which an empty bucket fills.
    pub(super) most: u32,
}

impl Rate {
    /// A bucket of `burst`, which gets one more in `every` nanoseconds. A tick has `tick` nanoseconds.
    pub(super) fn new(every: Time, burst: u32, tick: Time) -> Self {
        let every = u32::try_from((every / tick).max(1)).unwrap_or(u32::MAX / 64);
        Self { every, most: every.saturating_mul(burst) }
    }
}

/// The buckets of all destinations of one lcore; at the start all are full.
#[derive(Debug)]
pub(super) struct Buckets {
    /// The tick up to which each destination has spent its budget. Ticks are compared by distance, so they may wrap.
    spent: Table<u32>,
    /// The length of a tick in nanoseconds.
    tick: Time,
}

impl Buckets {
    /// Full buckets for this many destinations.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn new(destinations: u32, tick: Time) -> Result<Self, TableError> {
        Ok(Self { spent: Table::new(destinations as usize, |_| 0)?, tick })
    }

    /// Takes one from a destination's bucket. `false` when the bucket is empty. A destination that does not exist has
    /// none.
    pub(super) fn take(&mut self, now: Time, destination: Destination, rate: Rate) -> bool {
        let Rate { every, most } = rate;
        let now = (now / self.tick) as u32;
        let Some(spent) = self.spent.get_mut(destination as usize) else { return false };
        // A tick further ahead than any budget reaches is from before the last wrap.
        let ahead = spent.wrapping_sub(now);
        let ahead = if ahead > most { 0 } else { ahead };
        if most - ahead < every {
            return false;
        }
        *spent = now.wrapping_add(ahead + every);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The result is that of a bucket, to within one tick, also where the ticks wrap.
        #[test]
        fn it_is_a_bucket(
            first in prop_oneof![0u64..1000, 0xffff_ff00u64..0x1_0000_0100],
            steps in proptest::collection::vec(prop_oneof![0u64..20, 0u64..2000, Just(3_000_000u64)], 1..200),
        ) {
            let tick = 1000;
            let rate = Rate::new(16 * tick, 8, tick);
            let mut buckets = Buckets::new(1, tick).unwrap();
            // A destination that has spent nothing since the ticks wrapped may look as if it had just spent.
            buckets.spent[0] = first as u32;
            let (mut now, mut level) = (first, u64::from(rate.most));
            for step in steps {
                now += step;
                level = (level + step).min(u64::from(rate.most));
                let may = level >= u64::from(rate.every);
                prop_assert_eq!(buckets.take(now * tick, 0, rate), may);
                level -= if may { u64::from(rate.every) } else { 0 };
            }
            prop_assert!(!buckets.take(now * tick, 1, rate), "a destination that does not exist has none");
        }
    }
}
