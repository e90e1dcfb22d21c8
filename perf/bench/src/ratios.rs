//! The ratio of ours to the baseline over the rounds of a benchmark: the median is the figure, and the range shows how
//! reliable it is.

use std::fmt;

/// The middle of some values, or not a number where there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Ratios of rounds that measured both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratios {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The largest.
    pub largest: f64,
    /// How many.
    pub rounds: usize,
}

impl Ratios {
    /// The median and the range of these ratios.
    pub fn of(ratios: Vec<f64>) -> Self {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let rounds = ratios.len();
        Self { median: median(ratios), least, largest, rounds }
    }

    /// One that no round changes: on a virtual clock.
    pub fn exact(ratio: f64) -> Self {
        Self { median: ratio, least: ratio, largest: ratio, rounds: 1 }
    }

    /// The least and the largest, for a column of a table.
    pub fn range(&self) -> String {
        format!("{:.2}-{:.2}", self.least, self.largest)
    }

    /// For a file.
    pub fn json(&self) -> serde_json::Value {
        let Self { median, least, largest, rounds } = self;
        serde_json::json!({ "median": median, "least": least, "largest": largest, "rounds": rounds })
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, largest, rounds } = self;
        let plural = if *rounds == 1 { "" } else { "s" };
        write!(f, "median {median:.3}, {least:.3} to {largest:.3} in {rounds} round{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_range() {
        let ratios = Ratios::of(vec![3.0, 1.5, 2.0, 9.25, 1.75]);
        assert_eq!(ratios, Ratios { median: 2.0, least: 1.5, largest: 9.25, rounds: 5 });
        assert_eq!(ratios.to_string(), "median 2.000, 1.500 to 9.250 in 5 rounds");
        assert_eq!((ratios.range().as_str(), Ratios::exact(1.0).rounds), ("1.50-9.25", 1));
        assert!(Ratios::of(Vec::new()).median.is_nan() && median(Vec::new()).is_nan());
    }
}
