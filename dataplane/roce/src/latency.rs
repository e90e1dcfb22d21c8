//! Latencies in log-linear buckets: 32 steps in each power of two, so that a value is known to about 3 %.

const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS as usize;

/// A histogram of nanoseconds. Its memory is allocated at the start.
#[derive(Clone, Debug)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    most: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
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
    ((bucket % STEPS + STEPS) << shift) + ((1 << shift) - 1)
}

impl Latencies {
    /// An empty histogram.
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, most: 0 }
    }

    /// Counts a value.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if let Some(count) = self.buckets.get_mut(bucket(ns)) {
            *count += 1;
        }
        self.count += 1;
        self.most = self.most.max(ns);
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The quantile: the value that this share of all values (0 to 1) does not exceed. 0 if there are no values.
    pub fn at(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(at).min(self.most);
            }
        }
        0
    }

    /// How many values are at most this large, as far as buckets tell them apart.
    pub fn up_to(&self, ns: u64) -> u64 {
        self.buckets.iter().take(bucket(ns) + 1).sum()
    }

    /// For each power of two, the number of values that are at most this power and above the one before: from the first
    /// power with values to the last. The bound of the last is 2^63 at most.
    pub fn powers(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut of = [0u64; 64];
        for (at, count) in self.buckets.iter().enumerate() {
            let power = 64 - upper(at).leading_zeros().max(1);
            if let Some(place) = of.get_mut(power as usize) {
                *place += count;
            }
        }
        let first = of.iter().position(|count| *count > 0).unwrap_or(of.len());
        let last = of.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        (first..last).map(move |power| (1u64 << power, of.get(power).copied().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_known_to_three_per_cent() {
        let mut latencies = Latencies::new();
        assert_eq!((latencies.at(0.5), latencies.powers().count()), (0, 0));
        for ns in 1..=100_000 {
            latencies.record(ns);
        }
        assert_eq!([0, 10, 100_000, u64::MAX].map(|ns| latencies.up_to(ns)), [0, 10, 100_000, 100_000]);
        for (share, value) in [(0.5, 50_000f64), (0.99, 99_000.0), (0.0, 1.0)] {
            let known = latencies.at(share) as f64;
            assert!((known - value).abs() <= value * 0.032, "{share}: {known}");
        }
        assert_eq!((latencies.at(1.0), latencies.count()), (100_000, 100_000));
        let mut both = Latencies::new();
        both.record(200_000);
        both.merge(&latencies);
        assert_eq!((both.at(1.0), both.count(), both.at(0.5)), (200_000, 100_001, latencies.at(0.5)));
    }

    #[test]
    fn powers_have_every_value_once() {
        let mut latencies = Latencies::new();
        for ns in [0, 1, 20, 31, 32, 33, 1000, 1024, u64::MAX] {
            latencies.record(ns);
        }
        let powers: Vec<_> = latencies.powers().filter(|(_, count)| *count > 0).collect();
        assert_eq!(powers, [(1, 1), (2, 1), (32, 2), (64, 2), (1024, 1), (2048, 1), (1 << 63, 1)]);
        assert_eq!(latencies.powers().map(|(_, count)| count).sum::<u64>(), 9);
    }
}
