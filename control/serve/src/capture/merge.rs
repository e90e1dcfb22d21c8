//! Merges the copies of several lcores in the order of their times.
//!
//! The copies of one lcore come in order, but late: during a poll an lcore hands over copies with the time at which the
//! poll began. So a copy waits a moment for older copies of the other lcores.

use frame::Time;
use frame::time::MILLISECOND;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// How long a copy waits for older ones, in nanoseconds: longer than nearly every poll takes.
const WAIT: u64 = 5 * MILLISECOND;

struct Waiting<T> {
    time: Time,
    order: u64,
    lcore: usize,
    copy: T,
}

impl<T> Waiting<T> {
    /// Oldest first; copies of equal times keep their order.
    fn key(&self) -> (Time, u64) {
        (self.time, self.order)
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// Copies that wait. They are in slots of their taps, so there are never more copies than slots. Room for that many is
/// allocated at the start.
pub(super) struct Merge<T> {
    waiting: BinaryHeap<Waiting<T>>,
    came: u64,
}

impl<T> Merge<T> {
    /// An empty merge with room for this many copies.
    pub(super) fn new(slots: usize) -> Self {
        Self { waiting: BinaryHeap::with_capacity(slots), came: 0 }
    }

    /// Adds a copy of an lcore.
    pub(super) fn add(&mut self, lcore: usize, time: Time, copy: T) {
        self.waiting.push(Waiting { time, order: self.came, lcore, copy });
        self.came += 1;
    }

    /// The oldest copy that has waited long enough, and its lcore.
    pub(super) fn next(&mut self, now: Time) -> Option<(usize, T)> {
        if self.waiting.peek()?.time.saturating_add(WAIT) > now {
            return None;
        }
        self.waiting.pop().map(|waiting| (waiting.lcore, waiting.copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_ones_of_another_lcore_are_waited_for() {
        let mut merge = Merge::new(5);
        for (lcore, time, copy) in [(0, 10, 'a'), (0, 30, 'c'), (0, 30, 'd'), (1, 20, 'b'), (1, 40, 'f')] {
            merge.add(lcore, time, copy);
        }
        assert_eq!(merge.next(9 + WAIT), None);
        let due: Vec<_> = std::iter::from_fn(|| merge.next(30 + WAIT)).collect();
        assert_eq!(due, [(0, 'a'), (1, 'b'), (0, 'c'), (0, 'd')]);
        merge.add(0, 35, 'e');
        assert_eq!(
            [merge.next(Time::MAX), merge.next(Time::MAX), merge.next(Time::MAX)],
            [Some((0, 'e')), Some((1, 'f')), None]
        );
    }
}
