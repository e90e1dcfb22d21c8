//! One direction of the wire, with faults that follow from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// SplitMix64's mixer.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How many of a thousand packets have each fault. A packet has at most one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// It vanishes.
    pub lost: u64,
    /// It comes twice, the second time after a delay.
    pub doubled: u64,
    /// It comes after a delay, behind later ones.
    pub delayed: u64,
    /// The longest delay, nanoseconds.
    pub delay: u64,
}

impl Faults {
    /// A perfect wire.
    pub const NONE: Self = Self { lost: 0, doubled: 0, delayed: 0, delay: 0 };
}

/// Counts of the faults that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Packets that entered.
    pub packets: u64,
    /// Packets that vanished.
    pub lost: u64,
    /// Packets that came twice.
    pub doubled: u64,
    /// Packets that came late.
    pub delayed: u64,
}

impl Happened {
    /// The sum of two counts.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            delayed: self.delayed + other.delayed,
        }
    }
}

/// One direction: packets enter, and leave at their time.
pub struct Direction {
    state: u64,
    faults: Faults,
    /// Time, order of entry, and bytes of each packet.
    under_way: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    entered: u64,
    happened: Happened,
}

impl Direction {
    /// A perfect direction. Faults begin with [`Self::become_bad`].
    pub fn new() -> Self {
        Self { state: 0, faults: Faults::NONE, under_way: BinaryHeap::new(), entered: 0, happened: Happened::default() }
    }

    /// From now on has these faults, by this seed, and counts from zero.
    pub fn become_bad(&mut self, faults: Faults, seed: u64) {
        (self.faults, self.state, self.happened) = (faults, seed, Happened::default());
    }

    /// The faults since [`Self::become_bad`].
    pub fn happened(&self) -> Happened {
        self.happened
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// A packet enters. One that is not `subject` to faults always passes.
    pub fn enter(&mut self, now: u64, frame: &[u8], subject: bool) {
        let mut due = now;
        if subject {
            self.happened.packets += 1;
            let (dice, late) = (self.random() % 1000, now + self.random() % self.faults.delay.max(1));
            let Faults { lost, doubled, delayed, .. } = self.faults;
            if dice < lost {
                self.happened.lost += 1;
                return;
            } else if dice < lost + doubled {
                self.happened.doubled += 1;
                self.put(late, frame);
            } else if dice < lost + doubled + delayed {
                self.happened.delayed += 1;
                due = late;
            }
        }
        self.put(due, frame);
    }

    fn put(&mut self, due: u64, frame: &[u8]) {
        self.entered += 1;
        self.under_way.push(Reverse((due, self.entered, frame.to_vec())));
    }

    /// The next packet whose time has come.
    pub fn leave(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.deadline()? > now {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, frame))| frame)
    }

    /// When the next packet leaves.
    pub fn deadline(&self) -> Option<u64> {
        self.under_way.peek().map(|Reverse((due, ..))| *due)
    }
}

impl Default for Direction {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(direction: &mut Direction, packets: u8) -> Vec<u8> {
        for packet in 0..packets {
            direction.enter(u64::from(packet), &[packet], true);
        }
        std::iter::from_fn(|| direction.leave(u64::MAX)).map(|frame| frame[0]).collect()
    }

    #[test]
    fn a_perfect_direction_keeps_packets_and_their_order() {
        assert_eq!(through(&mut Direction::new(), 200), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_bad_one_does_what_it_counts_and_the_same_for_the_same_seed() {
        let faults = Faults { lost: 100, doubled: 100, delayed: 100, delay: 20 };
        let mut direction = Direction::new();
        direction.become_bad(faults, 3);
        let got = through(&mut direction, 200);
        let happened = direction.happened();
        assert!(happened.lost > 0 && happened.doubled > 0 && happened.delayed > 0, "{happened:?}");
        assert_eq!(got.len() as u64, happened.packets - happened.lost + happened.doubled);
        assert!(!got.is_sorted());
        let mut again = Direction::new();
        again.become_bad(faults, 3);
        assert_eq!(through(&mut again, 200), got);
        again.become_bad(faults, 4);
        assert_ne!(through(&mut again, 200), got);
    }

    #[test]
    fn what_is_no_subject_always_passes() {
        let mut direction = Direction::new();
        direction.become_bad(Faults { lost: 1000, ..Faults::NONE }, 1);
        direction.enter(0, b"arp", false);
        direction.enter(0, b"roce", true);
        assert_eq!((direction.leave(0), direction.leave(0)), (Some(b"arp".to_vec()), None));
    }
}
