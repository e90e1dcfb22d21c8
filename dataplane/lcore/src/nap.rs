//! When an lcore on sockets stays away for a moment, and for how long.
//!
//! A look for packets on a socket is a system call, also one that finds nothing. An lcore that gets a packet every few
//! microseconds takes one with each call, never sleeps, and has a whole core busy. If it stays away for tens of
//! microseconds instead, the next call brings all that came in the meantime. Its role says how long that may be
//! ([`frame::Role::may_stay_away`]): for a gateway the hold, because records wait so long anyway.
//!
//! Two things are measured, since both differ between machines and times. *How much comes*: only if a nap will bring
//! several packets, it is worth its cost; a lone packet should find an lcore that sleeps on its descriptors. *How late
//! a timer wakes*: 2 us after its time on a bare machine, 20 us in some guests. A nap is shorter by that.

use frame::Time;

/// Packets that a nap must bring, as far as the last window says.
pub const SEVERAL: u64 = 4;

/// Packets that the next nap must bring once the lcore naps: less, so that it does not begin and end all the time.
pub const STILL_SEVERAL: u64 = 2;

/// A window, in which packets are counted, has the length of so many naps.
const WINDOW: u64 = 4;

/// The lateness of timers is known as a median: each nap moves it by this many nanoseconds.
const STEP: u64 = 250;

/// A nap is set to at least its longest time divided by this. If timers are later than that leaves room for, there are
/// no naps.
const SHORTEST: u64 = 4;

/// Decides about naps.
#[derive(Debug, Default)]
pub struct Naps {
    /// When the present window began.
    since: Time,
    /// Packets since then.
    received: u64,
    /// The last window had packets enough.
    worth: bool,
    /// How late timers wake, in nanoseconds.
    late: u64,
}

impl Naps {
    /// The length, in nanoseconds, to which a timer is set for a nap after a poll at `now` that received so many
    /// packets, if the lcore may stay away for `longest` nanoseconds. `None`: no nap.
    #[inline]
    pub fn length(&mut self, now: Time, received: usize, longest: u64) -> Option<u64> {
        self.received += received as u64;
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= WINDOW * longest {
            self.close(now, elapsed, longest);
        }
        let length = longest.saturating_sub(self.late);
        (self.worth && length >= longest / SHORTEST).then_some(length)
    }

    /// Ends a window.
    fn close(&mut self, now: Time, elapsed: u64, longest: u64) {
        let least = if self.worth { STILL_SEVERAL } else { SEVERAL };
        self.worth = u128::from(self.received) * u128::from(longest) >= u128::from(least) * u128::from(elapsed);
        (self.since, self.received) = (now, 0);
        if longest.saturating_sub(self.late) < longest / SHORTEST {
            // Timers may be better by now. Without naps nobody knows.
            self.late = self.late.saturating_sub(STEP);
        }
    }

    /// A nap whose timer was set to `length` took `took` nanoseconds.
    pub fn woke(&mut self, length: u64, took: u64) {
        let late = took.saturating_sub(length);
        self.late = if late > self.late { self.late + STEP } else { self.late.saturating_sub(STEP) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::{MICROSECOND, MILLISECOND, SECOND};

    /// The longest nap.
    const LONGEST: u64 = 50 * MICROSECOND;

    /// An lcore on a machine with a clock that moves only here.
    #[derive(Default)]
    struct Machine {
        naps: Naps,
        now: Time,
        /// When the next packet comes, in picoseconds.
        next: u64,
        napped: u64,
        /// How many naps, and all times away.
        count: u64,
        away: Vec<u64>,
    }

    /// Nanoseconds of an empty poll, and of each packet.
    const LOOK: u64 = 300;
    const WORK: u64 = 700;

    impl Machine {
        /// Lets `rate` packets come each second, for `time`, while timers are `late`.
        fn run(&mut self, rate: u64, time: u64, late: u64) {
            self.next = self.next.max(self.now * 1000);
            (self.napped, self.count) = (0, 0);
            self.away.clear();
            let end = self.now + time;
            while self.now < end {
                let mut received = 0;
                while rate > 0 && self.next <= self.now * 1000 && received < frame::BURST {
                    received += 1;
                    self.next += 1_000_000_000_000 / rate;
                }
                self.now += LOOK + received as u64 * WORK;
                let nap = self.naps.length(self.now, received, LONGEST);
                if let Some(length) = nap
                    && received < frame::BURST
                {
                    let took = length + late;
                    self.naps.woke(length, took);
                    (self.now, self.napped, self.count) = (self.now + took, self.napped + took, self.count + 1);
                    self.away.push(took);
                }
            }
        }

        fn share_away(&self, time: u64) -> f64 {
            self.napped as f64 / time as f64
        }
    }

    #[test]
    fn packets_that_come_all_the_time_are_taken_together() {
        let mut machine = Machine::default();
        machine.run(300_000, SECOND, 2 * MICROSECOND);
        // A fifth of the time goes to packets and looks: the rest is spent away.
        assert!(machine.share_away(SECOND) > 0.7, "{}", machine.share_away(SECOND));
        assert!(machine.count < 22_000, "{} naps", machine.count);
    }

    #[test]
    fn few_packets_find_an_lcore_that_does_not_nap() {
        let mut machine = Machine::default();
        for rate in [0, 100, 10_000, 30_000] {
            machine.run(rate, 100 * MILLISECOND, 2 * MICROSECOND);
            assert_eq!(machine.count, 0, "{rate} packets a second");
        }
    }

    #[test]
    fn naps_begin_and_end_with_the_traffic() {
        let mut machine = Machine::default();
        machine.run(0, SECOND, 0);
        machine.run(300_000, 10 * MILLISECOND, 0);
        assert!(machine.count > 100, "{} naps", machine.count);
        machine.run(0, 10 * MILLISECOND, 0);
        assert!(machine.count <= WINDOW + 1, "{} naps of nothing", machine.count);
        // Fewer packets than begin naps keep them going.
        machine.run(300_000, 10 * MILLISECOND, 0);
        machine.run(60_000, 10 * MILLISECOND, 0);
        assert!(machine.count > 100, "{} naps", machine.count);
        machine.run(0, 10 * MILLISECOND, 0);
        machine.run(60_000, 10 * MILLISECOND, 0);
        assert_eq!(machine.count, 0);
    }

    #[test]
    fn a_nap_is_shorter_by_what_timers_are_late() {
        let mut machine = Machine::default();
        machine.run(300_000, 50 * MILLISECOND, 20 * MICROSECOND);
        let (last, half) = (machine.away.last().copied().unwrap(), machine.away.len() / 2);
        assert!(machine.away[half..].iter().all(|took| took.abs_diff(LONGEST) <= STEP), "{last}");
        // The same machine, now with better timers.
        machine.run(300_000, 50 * MILLISECOND, 3 * MICROSECOND);
        let half = machine.away.len() / 2;
        assert!(machine.away[half..].iter().all(|took| took.abs_diff(LONGEST) <= STEP));
    }

    #[test]
    fn timers_that_are_too_late_for_the_hold_end_naps_until_they_are_better() {
        let mut machine = Machine::default();
        machine.run(300_000, SECOND, 60 * MICROSECOND);
        // Now and then one nap shows whether that is still so.
        let over = machine.away.iter().filter(|took| **took > LONGEST + 30 * MICROSECOND).count();
        assert!(machine.share_away(SECOND) < 0.5 && over < 400, "{} {over}", machine.share_away(SECOND));
        machine.run(300_000, SECOND, 5 * MICROSECOND);
        assert!(machine.share_away(SECOND) > 0.6, "{}", machine.share_away(SECOND));
    }

    #[test]
    fn a_backlog_is_worked_off_before_the_next_nap() {
        let mut machine = Machine::default();
        // More than one burst comes in a nap.
        machine.run(1_300_000, 20 * MILLISECOND, 0);
        assert!(machine.count > 0 && machine.next.abs_diff(machine.now * 1000) < 200_000_000, "{}", machine.count);
    }
}
