//! The time between two samples, and how counters grew in it.

use std::collections::BTreeMap;

/// Counters by name.
pub type Counters = BTreeMap<String, u64>;

/// One counter of a set; zero if the set does not have it.
pub fn value(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

/// The time between two samples, and how counters grew in it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its length in seconds; above zero.
    pub seconds: f64,
}

impl Span {
    /// The growth of a counter per second. A counter that fell belongs to a new process, and began at zero.
    pub fn rate(self, before: u64, now: u64) -> f64 {
        now.checked_sub(before).unwrap_or(now) as f64 / self.seconds
    }

    /// The growth of a set's counter per second.
    pub fn of(self, before: Option<&Counters>, now: &Counters, name: &str) -> f64 {
        self.rate(before.map_or(0, |before| value(before, name)), value(now, name))
    }
}
