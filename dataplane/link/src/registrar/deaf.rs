//! When packets were lost: spells of time in which silence means nothing.
//!
//! Nobody knows when a lost packet would have come. It was lost between two looks: one that still saw the old count,
//! and one that saw a new count. That time is a spell. The clear silence of a node is its silence without the spells.
//!
//! Nothing is stored for a node. The spells of the recent past are kept, and the deaf time between two moments is the
//! difference of two sums. Clear silence grows with silence, so nodes fall due in the order in which they were heard.

use frame::Time;
use std::collections::VecDeque;

/// One spell, and the length of all spells before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spell {
    from: Time,
    to: Time,
    before: u64,
}

/// The spells of the recent past.
#[derive(Debug)]
pub(super) struct Deaf {
    spells: VecDeque<Spell>,
    /// A shorter time between two spells counts as deaf: this bounds the number of spells.
    gap: u64,
    /// How long a spell is remembered.
    keep: u64,
}

impl Deaf {
    /// No spell yet. Spells are remembered for `keep`, and there is room for one in each `gap` of that time.
    pub(super) fn new(keep: u64, gap: u64) -> Self {
        let gap = gap.max(1);
        let most = usize::try_from(keep / gap).unwrap_or(usize::MAX).min(1024) + 2;
        Self { spells: VecDeque::with_capacity(most), gap, keep }
    }

    /// Packets were lost between `from` and `to`. Returns how much of that time was not known before.
    pub(super) fn add(&mut self, from: Time, to: Time) -> u64 {
        while self.spells.front().is_some_and(|spell| spell.to < to.saturating_sub(self.keep))
            || self.spells.len() == self.spells.capacity()
        {
            self.spells.pop_front();
        }
        match self.spells.back_mut() {
            Some(last) if from <= last.to.saturating_add(self.gap) => {
                let more = to.saturating_sub(last.to);
                last.to += more;
                more
            }
            last => {
                let before = last.map_or(0, |last| last.before + (last.to - last.from));
                let to = to.max(from);
                self.spells.push_back(Spell { from, to, before });
                to - from
            }
        }
    }

    /// The length of all spells up to `time`.
    fn sum(&self, time: Time) -> u64 {
        let begun = self.spells.partition_point(|spell| spell.from < time);
        match begun.checked_sub(1).and_then(|at| self.spells.get(at)) {
            Some(spell) => spell.before + (time.min(spell.to) - spell.from),
            // Forgotten spells are earlier than every moment that anybody asks for.
            None => self.spells.front().map_or(0, |spell| spell.before),
        }
    }

    /// How much of the time between two moments was clear.
    pub(super) fn clear(&self, from: Time, to: Time) -> u64 {
        to.saturating_sub(from).saturating_sub(self.sum(to).saturating_sub(self.sum(from)))
    }

    /// The last moment such that this much time was clear from then up to `now`.
    pub(super) fn clear_since(&self, now: Time, clear: u64) -> Time {
        let (mut end, mut left) = (now, clear);
        for spell in self.spells.iter().rev() {
            let gap = end.saturating_sub(spell.to);
            if gap >= left {
                break;
            }
            left -= gap;
            end = end.min(spell.from);
        }
        end.saturating_sub(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spells_are_left_out_of_silence() {
        let mut deaf = Deaf::new(1000, 2);
        assert_eq!((deaf.clear(5, 25), deaf.clear_since(25, 20)), (20, 5));
        assert_eq!(deaf.add(10, 20), 10);
        assert_eq!((deaf.clear(5, 25), deaf.clear(12, 18), deaf.clear(15, 25), deaf.clear(0, 10)), (10, 0, 5, 10));
        assert_eq!((deaf.clear_since(25, 5), deaf.clear_since(25, 6), deaf.clear_since(15, 0)), (20, 9, 15));
        // Time that is known as deaf already does not count twice. A short time between two spells counts as deaf.
        assert_eq!((deaf.add(15, 20), deaf.add(22, 30)), (0, 10));
        assert_eq!((deaf.clear(0, 30), deaf.add(40, 50), deaf.clear(0, 60)), (10, 10, 30));
    }

    proptest! {
        /// The result equals a count of each moment, as long as the spells are remembered and few.
        #[test]
        fn sums_are_what_counting_says(
            looks in proptest::collection::vec((1u64..8, any::<bool>()), 1..300),
            times in proptest::collection::vec(0u64..1000, 8),
        ) {
            let (keep, gap) = (600, 4);
            let mut deaf = Deaf::new(keep, gap);
            let room = deaf.spells.capacity();
            let (mut now, mut moments, mut last) = (0, Vec::new(), None);
            for (step, lost) in looks {
                moments.resize((now + step) as usize, false);
                if lost {
                    let from = match last {
                        Some(to) if now <= to + gap => to,
                        _ => now,
                    };
                    moments[from as usize..].fill(true);
                    deaf.add(now, now + step);
                    last = Some(now + step);
                }
                now += step;
            }
            let clear = |from: u64,
                to: u64| moments[from as usize..to as usize].iter().filter(|deaf| !**deaf).count() as u64;
            for from in times.iter().map(|time| now.saturating_sub(time % (keep + 1))) {
                for to in [from, (from + now) / 2, now] {
                    prop_assert_eq!(deaf.clear(from, to), clear(from, to));
                }
                let silence = deaf.clear(from, now);
                let since = deaf.clear_since(now, silence);
                prop_assert!(since >= from && clear(since, now) == silence);
                prop_assert!(since == now || clear(since + 1, now) < silence);
            }
            prop_assert_eq!(deaf.spells.capacity(), room, "it never grows");
        }
    }
}
