//! Quantiles of a histogram of power-of-two buckets.

use api::stats::{Bucket, HistogramStats};

/// Statistics of a histogram's values. Inside a bucket the values are assumed to be spread evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// The number of values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them are at most this.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
}

impl Quantiles {
    /// Statistics of the values since an earlier sample; `None` if there were none.
    pub fn new(before: Option<&HistogramStats>, now: &HistogramStats) -> Option<Self> {
        let earlier = |at: usize| before.and_then(|before| before.buckets.get(at)).map_or(0, |bucket| bucket.count);
        let grown =
            |(at, bucket): (usize, &Bucket)| Bucket { count: bucket.count.saturating_sub(earlier(at)), ..*bucket };
        let buckets: Vec<Bucket> = now.buckets.iter().enumerate().map(grown).collect();
        let count: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        if count == 0 {
            return None;
        }
        let sum = now.sum.wrapping_sub(before.map_or(0, |before| before.sum));
        let (p50, p99) = (quantile(&buckets, count, 0.5), quantile(&buckets, count, 0.99));
        Some(Self { count, mean: sum as f64 / count as f64, p50, p99 })
    }
}

fn quantile(buckets: &[Bucket], count: u64, share: f64) -> f64 {
    let wanted = share * count as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for bucket in buckets {
        // The last bucket has no upper bound.
        let Some(bound) = bucket.bound else { return lower };
        let inside = bucket.count as f64;
        if below + inside >= wanted {
            return lower + (bound as f64 - lower) * ((wanted - below) / inside.max(1.0)).clamp(0.0, 1.0);
        }
        below += inside;
        lower = bound as f64;
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: [u64; 4], sum: u64) -> HistogramStats {
        let bounds = [Some(4), Some(8), Some(16), None];
        let buckets = bounds.into_iter().zip(counts).map(|(bound, count)| Bucket { bound, count });
        HistogramStats { buckets: buckets.collect(), sum }
    }

    #[test]
    fn quantiles_lie_in_their_buckets() {
        assert_eq!(Quantiles::new(None, &histogram([0; 4], 0)), None);
        assert_eq!(Quantiles::new(None, &HistogramStats::default()), None);
        let all = Quantiles::new(None, &histogram([50, 50, 0, 0], 600)).unwrap();
        assert_eq!((all.count, all.mean, all.p50), (100, 6.0, 4.0));
        assert!(all.p99 > 7.9 && all.p99 < 8.0, "{all:?}");
        let late = Quantiles::new(None, &histogram([1, 0, 0, 9], 900)).unwrap();
        assert_eq!((late.p50, late.p99), (16.0, 16.0));
    }

    #[test]
    fn only_what_came_since_counts() {
        let before = histogram([100, 0, 0, 0], 200);
        let now = Quantiles::new(Some(&before), &histogram([100, 0, 10, 0], 320)).unwrap();
        assert_eq!((now.count, now.mean, now.p50), (10, 12.0, 12.0));
        assert_eq!(Quantiles::new(Some(&before), &before), None);
    }
}
