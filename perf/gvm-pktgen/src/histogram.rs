//! Latencies, log-linear: 32 steps in each power of two, so that a value is known to about 3 %.
//!
//! Counted by one thread, read by others at any time.

use frame::Counter;

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS as usize;

/// A histogram of 64-bit values.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<Counter>,
    count: Counter,
    sum: Counter,
    max: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Counter::new()).collect(),
            count: Counter::new(),
            sum: Counter::new(),
            max: Counter::new(),
        }
    }
}

/// Below 32 a bucket for each value, then 32 for each power of two.
#[inline]
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    // `value >> shift` is from 32 to 63.
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let first = (bucket % STEPS + STEPS) << shift;
    first + ((1 << shift) - 1)
}

impl Histogram {
    /// Counts a value. Only one thread may.
    #[inline]
    pub fn note(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(bucket(value)) {
            bucket.add(1);
        }
        self.count.add(1);
        self.sum.add(value);
        self.max.raise(value);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.max.get()
    }

    /// The average, or 0 of nothing.
    pub fn mean(&self) -> u64 {
        self.sum.get().checked_div(self.count()).unwrap_or(0)
    }

    /// The value that a share of all (0.0 to 1.0) does not exceed, at most 3 % too large; 0 of nothing.
    pub fn quantile(&self, share: f64) -> u64 {
        let count = self.count();
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.get();
            if seen >= wanted {
                return upper(at).min(self.max());
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_known_values() {
        let histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.mean(), histogram.max()), (0, 0, 0));
        (1..=1000).for_each(|value| histogram.note(value * 1000));
        let within = |got: u64, exact: u64| got >= exact && got <= exact + exact / 32;
        for (share, exact) in [(0.5, 500_000), (0.99, 990_000), (0.999, 999_000)] {
            assert!(within(histogram.quantile(share), exact), "{}", histogram.quantile(share));
        }
        assert_eq!((histogram.quantile(1.0), histogram.mean()), (1_000_000, 500_500));
    }

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        for at in 1..BUCKETS {
            assert_eq!(bucket(upper(at - 1) + 1), at);
            assert_eq!(bucket(upper(at)), at);
        }
        assert_eq!((upper(BUCKETS - 1), bucket(u64::MAX)), (u64::MAX, BUCKETS - 1));
    }

    proptest! {
        #[test]
        fn quantiles_are_never_too_small_and_hardly_too_large(
            mut values in proptest::collection::vec(any::<u64>(), 1..300),
            share in 0.0f64..=1.0,
        ) {
            let histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.note(value));
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let got = histogram.quantile(share);
            prop_assert!(got >= exact && got - exact <= exact / 32, "{got} for {exact}");
        }
    }
}
