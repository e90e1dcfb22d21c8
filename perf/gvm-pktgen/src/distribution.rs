//! Which slave gets the next record.

use crate::random::Random;
use std::fmt;
use std::str::FromStr;

/// How records are distributed over slaves.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Distribution {
    /// Each slave as likely as any other, independently.
    Uniform,
    /// The slave of rank `r` (from 1, the first id is rank 1) with a likelihood of `1 / r^S`.
    Zipf(f64),
    /// One after the other, over and over.
    #[default]
    Sequential,
    /// One after the other, this many records to each at a time.
    Burst(u32),
}

/// A text that is no [`Distribution`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributionError(String);

impl fmt::Display for DistributionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no distribution: write uniform, zipf:S (S from 0 to 10, as in zipf:0.99), sequential, or burst:K \
             (K of at least 1, as in burst:32)",
            self.0
        )
    }
}

impl std::error::Error for DistributionError {}

impl FromStr for Distribution {
    type Err = DistributionError;

    fn from_str(text: &str) -> Result<Self, DistributionError> {
        let parsed = match text.split_once(':') {
            None if text == "uniform" => Some(Self::Uniform),
            None if text == "sequential" => Some(Self::Sequential),
            Some(("zipf", s)) => s.parse().ok().filter(|s| (0.0..=10.0).contains(s)).map(Self::Zipf),
            Some(("burst", k)) => k.parse().ok().filter(|&k| k > 0).map(Self::Burst),
            _ => None,
        };
        parsed.ok_or_else(|| DistributionError(text.to_owned()))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(s) => write!(f, "zipf:{s}"),
            Self::Sequential => f.write_str("sequential"),
            Self::Burst(k) => write!(f, "burst:{k}"),
        }
    }
}

/// Draws slaves `0 .. slaves`; constant time for each, whatever the distribution.
#[derive(Clone, Debug)]
pub struct Picker {
    slaves: u32,
    /// The slave of the present run, and how many records of it are left.
    current: u32,
    left: u32,
    draw: Draw,
}

#[derive(Clone, Debug)]
enum Draw {
    /// The next one, for this many records.
    Next(u32),
    Uniform(Random),
    Alias(Random, Vec<Alias>),
}

/// A column of Walker's alias table: its own slave with likelihood `keep`, else the other.
#[derive(Clone, Copy, Debug)]
struct Alias {
    keep: f64,
    other: u32,
}

impl Picker {
    /// A picker of one of `slaves` (at least 1) slaves.
    pub fn new(distribution: Distribution, slaves: u32, seed: u64) -> Self {
        let slaves = slaves.max(1);
        let draw = match distribution {
            Distribution::Uniform => Draw::Uniform(Random::new(seed)),
            Distribution::Zipf(s) => Draw::Alias(Random::new(seed), alias_table(slaves, s)),
            Distribution::Sequential => Draw::Next(1),
            Distribution::Burst(k) => Draw::Next(k.max(1)),
        };
        // The first call moves on to slave 0.
        Self { slaves, current: slaves - 1, left: 0, draw }
    }

    /// The next slave.
    #[inline]
    pub fn pick(&mut self) -> u32 {
        match &mut self.draw {
            Draw::Uniform(random) => random.below(self.slaves),
            Draw::Alias(random, table) => {
                let column = random.below(self.slaves);
                match table.get(column as usize) {
                    Some(alias) if random.fraction() >= alias.keep => alias.other,
                    _ => column,
                }
            }
            Draw::Next(run) => {
                if self.left == 0 {
                    self.current = if self.current + 1 < self.slaves { self.current + 1 } else { 0 };
                    self.left = *run;
                }
                self.left -= 1;
                self.current
            }
        }
    }
}

/// Vose's construction: columns with too little are filled up from those with too much.
fn alias_table(slaves: u32, s: f64) -> Vec<Alias> {
    let weights: Vec<f64> = (1..=slaves).map(|rank| f64::from(rank).powf(-s)).collect();
    let scale = f64::from(slaves) / weights.iter().sum::<f64>();
    let mut table: Vec<Alias> =
        (0..slaves).zip(&weights).map(|(own, weight)| Alias { keep: weight * scale, other: own }).collect();
    let (mut little, mut much): (Vec<u32>, Vec<u32>) = (0..slaves).partition(|&own| table[own as usize].keep < 1.0);
    while let (Some(&poor), Some(&rich)) = (little.last(), much.last()) {
        little.pop();
        table[poor as usize].other = rich;
        let given = 1.0 - table[poor as usize].keep;
        table[rich as usize].keep -= given;
        if table[rich as usize].keep < 1.0 {
            much.pop();
            little.push(rich);
        }
    }
    // Columns that are left over by rounding are full.
    little.into_iter().chain(much).for_each(|own| table[own as usize].keep = 1.0);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(distribution: Distribution, slaves: u32, draws: u32) -> Vec<u32> {
        let mut picker = Picker::new(distribution, slaves, 42);
        let mut counts = vec![0; slaves as usize];
        for _ in 0..draws {
            counts[picker.pick() as usize] += 1;
        }
        counts
    }

    #[test]
    fn texts_are_read_back() {
        for text in ["uniform", "zipf:0.99", "sequential", "burst:32"] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipf:-1", "zipf:NaN", "zipf:x", "burst:0", "burst:-3", "uniform:1", "pareto"] {
            let error = text.parse::<Distribution>().unwrap_err().to_string();
            assert!(error.contains("write uniform, zipf:S"), "{error}");
        }
    }

    #[test]
    fn bursts_stay_with_a_slave_and_go_round() {
        let mut picker = Picker::new(Distribution::Burst(3), 2, 0);
        let picked: Vec<_> = (0..8).map(|_| picker.pick()).collect();
        assert_eq!(picked, [0, 0, 0, 1, 1, 1, 0, 0]);
        assert_eq!(counts(Distribution::Sequential, 5, 10), [2; 5]);
    }

    #[test]
    fn uniform_is_even() {
        let counts = counts(Distribution::Uniform, 10, 100_000);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_falls_with_the_rank() {
        // Ranks 1 to 4 with 12/25, 6/25, 4/25, 3/25.
        let counts = counts(Distribution::Zipf(1.0), 4, 250_000);
        for (count, expected) in counts.iter().zip([120_000, 60_000, 40_000, 30_000]) {
            assert!(count.abs_diff(expected) < 2_000, "{count} for {expected}");
        }
    }

    proptest! {
        #[test]
        fn any_distribution_picks_only_slaves_there_are(slaves in 1u32..500, s in 0.0f64..3.0, k in 1u32..40) {
            for distribution in
                [Distribution::Uniform, Distribution::Zipf(s), Distribution::Sequential, Distribution::Burst(k)]
            {
                let mut picker = Picker::new(distribution, slaves, u64::from(k));
                for _ in 0..200 {
                    prop_assert!(picker.pick() < slaves);
                }
            }
        }

        #[test]
        fn an_alias_table_gives_each_slave_its_weight(slaves in 1u32..200, s in 0.0f64..3.0) {
            let table = alias_table(slaves, s);
            let mut got = vec![0.0; slaves as usize];
            for (own, alias) in table.iter().enumerate() {
                prop_assert!((0.0..=1.0).contains(&alias.keep));
                got[own] += alias.keep;
                got[alias.other as usize] += 1.0 - alias.keep;
            }
            let weights: Vec<f64> = (1..=slaves).map(|rank| f64::from(rank).powf(-s)).collect();
            let scale = f64::from(slaves) / weights.iter().sum::<f64>();
            for (got, weight) in got.iter().zip(weights) {
                prop_assert!((got - weight * scale).abs() < 1e-9 * f64::from(slaves));
            }
        }
    }
}
