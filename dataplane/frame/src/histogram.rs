//! Histograms of one lcore that other threads may read: power-of-two buckets, each a plain [`Counter`].
//!
//! One value costs a shift and two additions. That is acceptable for each datagram that leaves, but not for each
//! record.

use crate::Counter;

/// `BUCKETS` buckets with the inclusive upper bounds 2^`FIRST`, 2^(`FIRST`+1), ..., and a last one without a bound.
///
/// Written by one thread, like its counters. Readers see a recent value of each bucket; a value that is just being
/// added may be in the sum and not yet in its bucket.
#[derive(Debug)]
pub struct Histogram<const FIRST: u32, const BUCKETS: usize> {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl<const FIRST: u32, const BUCKETS: usize> Histogram<FIRST, BUCKETS> {
    const BOUNDED: () = assert!(BUCKETS >= 2 && FIRST as usize + BUCKETS <= 65, "bounds are 64-bit numbers");

    /// An empty histogram.
    pub const fn new() -> Self {
        let () = Self::BOUNDED;
        Self { buckets: [const { Counter::new() }; BUCKETS], sum: Counter::new() }
    }

    /// Adds one value. Only the owning thread may call it.
    #[inline]
    pub fn record(&self, value: u64) {
        // The smallest n with value <= 2^n.
        let power = 64 - value.saturating_sub(1).leading_zeros();
        let at = (power.saturating_sub(FIRST) as usize).min(BUCKETS - 1);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.add(1);
        }
        self.sum.add(value);
    }

    /// The present contents.
    pub fn snapshot(&self) -> Snapshot {
        let bound = |at: usize| if at + 1 < BUCKETS { Some(1 << (FIRST as usize + at)) } else { None };
        let buckets =
            self.buckets.iter().enumerate().map(|(at, count)| Bucket { bound: bound(at), count: count.get() });
        Snapshot { buckets: buckets.collect(), sum: self.sum.get() }
    }
}

impl<const FIRST: u32, const BUCKETS: usize> Default for Histogram<FIRST, BUCKETS> {
    fn default() -> Self {
        Self::new()
    }
}

/// One bucket of a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The largest value that counts here; `None` in the last bucket, which has no bound.
    pub bound: Option<u64>,
    /// Values in this bucket alone, not in those below it.
    pub count: u64,
}

/// The contents of a [`Histogram`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of their bounds; the last has none.
    pub buckets: Vec<Bucket>,
    /// Sum of all values.
    pub sum: u64,
}

impl Snapshot {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Adds the values of a histogram with the same bounds, such as that of another lcore. An empty one takes any
    /// bounds.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.extend(other.buckets.iter().map(|bucket| Bucket { count: 0, ..*bucket }));
        }
        debug_assert!(self.buckets.iter().map(|b| b.bound).eq(other.buckets.iter().map(|b| b.bound)));
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            mine.count += theirs.count;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Receives each histogram of a set: its name, what it counts, its buckets.
pub type HistogramVisitor<'a> = dyn FnMut(&'static str, &'static str, Snapshot) + 'a;

/// A set of histograms that can be read by name. Made by [`crate::histograms!`].
pub trait HistogramSet: Send + Sync {
    /// The name of the set's type.
    fn name(&self) -> &'static str;

    /// Visits every histogram in the order of its definition.
    fn visit_histograms(&self, visitor: &mut HistogramVisitor<'_>);
}

/// Defines a struct of [`Histogram`]s: names and descriptions are written once, as with [`crate::counters!`].
///
/// ```
/// use frame::histogram::{Histogram, HistogramSet};
/// frame::histograms! {
///     /// How large things are.
///     pub struct ThingHistograms {
///         /// Bytes of a thing: up to 64, 128, 256, and more.
///         thing_bytes: Histogram<6, 4>,
///     }
/// }
/// let histograms = ThingHistograms::default();
/// histograms.thing_bytes.record(65);
/// histograms.visit_histograms(&mut |name, help, snapshot| {
///     assert_eq!((name, help), ("thing_bytes", "Bytes of a thing: up to 64, 128, 256, and more."));
///     assert_eq!((snapshot.buckets[1].bound, snapshot.buckets[1].count, snapshot.sum), (Some(128), 1, 65));
/// });
/// ```
#[macro_export]
macro_rules! histograms {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl $crate::histogram::HistogramSet for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn visit_histograms(&self, visitor: &mut $crate::histogram::HistogramVisitor<'_>) {
                $(visitor(stringify!($field), concat!($($doc),+).trim_ascii(), self.$field.snapshot());)*
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts<const FIRST: u32, const BUCKETS: usize>(histogram: &Histogram<FIRST, BUCKETS>) -> Vec<u64> {
        histogram.snapshot().buckets.iter().map(|bucket| bucket.count).collect()
    }

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_takes_the_rest() {
        let histogram = Histogram::<2, 4>::new();
        let bounds: Vec<_> = histogram.snapshot().buckets.iter().map(|bucket| bucket.bound).collect();
        assert_eq!(bounds, [Some(4), Some(8), Some(16), None]);
        for value in [0, 1, 3, 4] {
            histogram.record(value);
        }
        assert_eq!(counts(&histogram), [4, 0, 0, 0]);
        for value in [5, 8, 9, 16, 17, 1 << 63] {
            histogram.record(value);
        }
        assert_eq!(counts(&histogram), [4, 2, 2, 2]);
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count(), snapshot.sum), (10, 63 + (1 << 63)));
    }

    #[test]
    fn every_value_has_a_bucket() {
        let histogram = Histogram::<0, 65>::new();
        for power in 0..64 {
            histogram.record(1 << power);
        }
        histogram.record(u64::MAX);
        assert_eq!(counts(&histogram), [1; 65]);
    }

    #[test]
    fn lcores_add_up() {
        let (one, two) = (Histogram::<0, 3>::new(), Histogram::<0, 3>::new());
        one.record(1);
        two.record(2);
        two.record(7);
        let mut sum = Snapshot::default();
        sum.merge(&one.snapshot());
        sum.merge(&two.snapshot());
        let counts: Vec<u64> = sum.buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!((counts, sum.sum), (vec![1, 1, 1], 10));
    }
}
