//! How much of its memory a slave may lend, while it runs: the decision, without any I/O.
//!
//! Two marks keep it from swinging. `keep_free` is what the host should have free. Nothing more is lent when that is
//! not left. What is lent is recalled only when half of it is not left any more, and then so much that all of it is
//! left again. More is lent again when there was room for some time.
//!
//! The kernel can have memory available that it gets only by work that makes programs wait (it writes dirty pages to
//! disk, or scans for pages that nobody uses). So when programs wait for memory, an eighth of what is lent is recalled,
//! again and again until they do not. A slave that keeps nothing free does not look at that: its host has no other
//! work.

use common::units::Size;
use frame::time::SECOND;
use frame::{Time, UNIT};
use std::fmt;

/// Bytes of a unit.
const UNIT_BYTES: u64 = UNIT as u64;

/// Programs wait for memory: this share of the last 10 seconds, in hundredths of a percent.
const PRESSED: u32 = 10_00;

/// Programs no longer wait for memory.
const RELIEVED: u32 = 1_00;

/// How long after a recall under pressure the next one begins. The kernel's average needs some time to follow.
const NEXT_CUT: Time = 5 * SECOND;

/// How long there must be room before more is lent.
const CALM: Time = 10 * SECOND;

/// The time in which masters give back what is recalled.
const WITHIN: Time = 20 * SECOND;

/// The same when hardly anything is left.
const WITHIN_AT_ONCE: Time = 5 * SECOND;

/// What was found at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What the host can still give, in bytes.
    pub available: u64,
    /// How much of the lent memory is taken from the host now, in bytes: pages that were written to.
    pub taken: u64,
    /// How long programs waited for memory, in hundredths of a percent, if the kernel says so.
    pub stalled: Option<u32>,
    /// Units that are leased, or not scrubbed yet.
    pub used: u32,
}

/// Why a limit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host has less left than it should: nothing more is lent.
    Short,
    /// It has less than half of that: units are recalled.
    Low,
    /// Programs wait for memory: units are recalled.
    Pressure,
    /// There is room again.
    Room,
}

/// A new limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The most units that may be lent.
    pub units: u32,
    /// The time for masters to give back the rest, in nanoseconds.
    pub within: Time,
    /// Why.
    pub cause: Cause,
    /// What was found.
    pub look: Look,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Look { available, stalled, used, .. } = self.look;
        let lent = |units: u32| Size(u64::from(units) * UNIT_BYTES);
        let limit = lent(self.units);
        let left = available >> 20;
        match self.cause {
            Cause::Low | Cause::Pressure => {
                let back = lent(used.saturating_sub(self.units));
                let within = self.within / SECOND;
                match self.cause {
                    Cause::Low => write!(f, "the host has {left} MiB left")?,
                    _ => {
                        let percent = f64::from(stalled.unwrap_or(0)) / 100.0;
                        write!(f, "programs waited for memory {percent:.1} % of the time")?;
                    }
                }
                write!(f, ": {back} recalled, to be given back within {within} s; {limit} are lent at most")
            }
            Cause::Short => write!(f, "the host has {left} MiB left: {limit} are lent at most"),
            Cause::Room => write!(f, "the host has {left} MiB left: {limit} may be lent"),
        }
    }
}

/// The limit of a process, and what it must remember.
#[derive(Clone, Debug)]
pub struct Limiter {
    units: u32,
    keep_free: u64,
    limit: u32,
    /// When a recall under pressure began last.
    cut: Option<Time>,
    /// Since when there is room for more.
    room: Option<Time>,
}

impl Limiter {
    /// A limiter for so many units of a host that keeps so many bytes free. Nothing is lent before the first look.
    pub fn new(units: u32, keep_free: u64) -> Self {
        Self { units, keep_free, limit: 0, cut: None, room: Some(0) }
    }

    /// The most units that may be lent now.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// From the next look on the host keeps so many bytes free. The person who says so does not wait for calm.
    pub fn set_keep_free(&mut self, bytes: u64) {
        self.keep_free = bytes;
        self.room = Some(0);
    }

    /// What can be lent in all if the host keeps `reserve` bytes free.
    fn capacity(&self, look: &Look, reserve: u64) -> u32 {
        let bytes = look.available.saturating_add(look.taken).saturating_sub(reserve);
        u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).min(self.units)
    }

    /// Decides what follows from a look. `None` if the limit stays.
    pub fn decide(&mut self, now: Time, look: &Look) -> Option<Change> {
        let whole = self.capacity(look, self.keep_free);
        let edge = self.capacity(look, self.keep_free / 2);
        // Who keeps nothing free has lent all that the host can give: other programs may wait.
        let stalled = if self.keep_free == 0 { 0 } else { look.stalled.unwrap_or(0) };
        let is_pressed = stalled >= PRESSED;
        let used = look.used.min(self.units);
        // At the first look, and when a person says so, nobody waits for calm. A busy host always waits a little.
        let most_stalled = if self.room == Some(0) { PRESSED } else { RELIEVED };
        let has_room = whole > self.limit && stalled < most_stalled;
        if !has_room {
            self.room = None;
        }
        let may_cut = is_pressed && used > 0 && self.cut.is_none_or(|cut| now >= cut + NEXT_CUT);
        let (units, cause) = if used > edge {
            (whole, Cause::Low)
        } else if may_cut {
            self.cut = Some(now);
            (used.min(self.limit).saturating_sub(used.div_ceil(8)).min(whole), Cause::Pressure)
        } else if whole < self.limit {
            // What is lent stays, and nothing more is.
            (whole.max(used.min(self.limit)), Cause::Short)
        } else if has_room {
            let since = *self.room.get_or_insert(now);
            if since != 0 && now < since + CALM {
                return None;
            }
            (whole, Cause::Room)
        } else {
            return None;
        };
        // A recall that is under way asks for no more than before, unless more is missing.
        if units == self.limit || matches!(cause, Cause::Low | Cause::Pressure) && units > self.limit {
            return None;
        }
        self.limit = units;
        let is_last = look.available < self.keep_free / 8;
        let within = if is_last { WITHIN_AT_ONCE } else { WITHIN };
        Some(Change { units, within, cause, look: *look })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn look(available_units: u64, used: u32) -> Look {
        // All that is used is taken from the host.
        Look { available: available_units * UNIT_BYTES, taken: u64::from(used) * UNIT_BYTES, stalled: Some(0), used }
    }

    /// A limiter of 64 units on a host that keeps 16 units (1 GiB) free, which lends all.
    fn open() -> Limiter {
        let mut limiter = Limiter::new(64, GIB);
        let change = limiter.decide(SECOND, &look(200, 0)).unwrap();
        assert_eq!((change.units, change.cause), (64, Cause::Room));
        limiter
    }

    #[test]
    fn a_busy_host_lends_from_the_first_look_on_and_a_pressed_one_does_not() {
        let waits = |stalled| Look { stalled: Some(stalled), ..look(200, 0) };
        assert_eq!(Limiter::new(64, GIB).decide(SECOND, &waits(PRESSED - 1)).unwrap().units, 64);
        let mut pressed = Limiter::new(64, GIB);
        assert_eq!(pressed.decide(SECOND, &waits(PRESSED)), None);
        // From then on it waits for calm.
        assert_eq!(pressed.decide(2 * SECOND, &waits(RELIEVED)), None);
        assert_eq!(pressed.decide(3 * SECOND, &waits(0)), None);
        assert_eq!(pressed.decide(3 * SECOND + CALM, &waits(0)).unwrap().units, 64);
    }

    #[test]
    fn the_first_look_says_at_once_what_can_be_lent() {
        assert_eq!(Limiter::new(64, GIB).decide(SECOND, &look(200, 0)).unwrap().units, 64);
        assert_eq!(Limiter::new(64, GIB).decide(SECOND, &look(50, 0)).unwrap().units, 34);
        let mut none = Limiter::new(64, GIB);
        assert_eq!((none.decide(SECOND, &look(16, 0)), none.limit()), (None, 0));
    }

    #[test]
    fn between_the_marks_nothing_more_is_lent_and_nothing_is_recalled() {
        let mut limiter = open();
        // 40 are lent, and 12 units are left of the 16 that should be.
        let change = limiter.decide(2 * SECOND, &look(12, 40)).unwrap();
        assert_eq!((change.units, change.cause), (40, Cause::Short));
        for second in 3..30 {
            assert_eq!(limiter.decide(second * SECOND, &look(9 + second % 4, 40)), None);
        }
        assert_eq!(limiter.limit(), 40);
    }

    #[test]
    fn below_half_of_the_mark_so_much_is_recalled_that_all_of_it_is_left() {
        let mut limiter = open();
        let change = limiter.decide(2 * SECOND, &look(7, 40)).unwrap();
        // 7 + 40 units less the 16 that are kept free.
        assert_eq!((change.units, change.cause, change.within), (31, Cause::Low, WITHIN));
        assert_eq!(
            change.to_string(),
            "the host has 448 MiB left: 576M recalled, to be given back within 20 s; 1984M are lent at most"
        );
        // Masters give back, and the limit stays.
        for (second, used) in [(3, 40), (4, 36), (5, 31)] {
            assert_eq!(limiter.decide(second * SECOND, &look(47 - u64::from(used), used)), None);
        }
        // It goes on: the host needs still more, and hardly anything is left.
        let change = limiter.decide(6 * SECOND, &look(1, 31)).unwrap();
        assert_eq!((change.units, change.within), (16, WITHIN_AT_ONCE));
    }

    #[test]
    fn leased_memory_that_nobody_has_touched_counts_too() {
        let mut limiter = open();
        // All 64 are leased, and the host still has 30 units: 64 were promised.
        let change = limiter.decide(2 * SECOND, &Look { taken: 0, ..look(30, 64) }).unwrap();
        assert_eq!((change.units, change.cause), (14, Cause::Low));
    }

    #[test]
    fn more_is_lent_after_there_was_room_for_some_time() {
        let mut limiter = open();
        assert_eq!(limiter.decide(2 * SECOND, &look(7, 40)).unwrap().units, 31);
        assert_eq!(limiter.decide(3 * SECOND, &look(100, 31)), None);
        assert_eq!(limiter.decide(12 * SECOND, &look(100, 31)), None);
        // It was short in between: the time begins again.
        assert_eq!(limiter.decide(13 * SECOND, &look(16, 31)), None);
        assert_eq!(limiter.decide(14 * SECOND, &look(100, 31)), None);
        assert_eq!(limiter.decide(23 * SECOND, &look(100, 31)), None);
        let change = limiter.decide(24 * SECOND, &look(100, 31)).unwrap();
        assert_eq!((change.units, change.cause), (64, Cause::Room));
        assert_eq!(change.to_string(), "the host has 6400 MiB left: 4G may be lent");
    }

    #[test]
    fn programs_that_wait_get_an_eighth_again_and_again() {
        let mut limiter = open();
        let pressed = |used| Look { stalled: Some(1234), ..look(100, used) };
        let change = limiter.decide(2 * SECOND, &pressed(40)).unwrap();
        assert_eq!((change.units, change.cause), (35, Cause::Pressure));
        assert!(change.to_string().starts_with("programs waited for memory 12.3 % of the time: 320M recalled"));
        assert_eq!(limiter.decide(6 * SECOND, &pressed(38)), None);
        assert_eq!(limiter.decide(7 * SECOND, &pressed(35)).unwrap().units, 30);
        // The last units go one by one.
        for (second, used, left) in [(12, 8, 7), (17, 2, 1), (22, 1, 0)] {
            assert_eq!(limiter.decide(second * SECOND, &pressed(used)).unwrap().units, left);
        }
        // A kernel that says nothing of it has no pressure; a little of it allows no more than now.
        let some = Look { stalled: Some(RELIEVED), ..look(100, 0) };
        assert_eq!(limiter.decide(60 * SECOND, &some), None);
        let silent = Look { stalled: None, ..look(100, 0) };
        assert_eq!(limiter.decide(61 * SECOND, &silent), None);
        assert_eq!(limiter.decide(71 * SECOND, &silent).unwrap().units, 64);
    }

    #[test]
    fn who_keeps_nothing_free_lends_however_much_others_wait() {
        let pressed = |used| Look { stalled: Some(9999), ..look(100, used) };
        let mut limiter = Limiter::new(64, 0);
        assert_eq!(limiter.decide(SECOND, &pressed(0)).unwrap().units, 64);
        assert_eq!(limiter.decide(2 * SECOND, &pressed(40)), None);
    }

    #[test]
    fn a_person_who_changes_the_reserve_does_not_wait() {
        let mut limiter = open();
        limiter.set_keep_free(1000 * GIB);
        let change = limiter.decide(2 * SECOND, &look(100, 40)).unwrap();
        assert_eq!((change.units, change.cause, change.within), (0, Cause::Low, WITHIN_AT_ONCE));
        limiter.set_keep_free(GIB);
        assert_eq!(limiter.decide(3 * SECOND, &look(100, 40)).unwrap().units, 64);
    }

    proptest! {
        /// Whatever the host does: nothing is granted that would not leave the reserve; a recall leaves it; the limit
        /// does not swing while nothing changes.
        #[test]
        fn the_limit_never_allows_more_than_the_host_can_spare(
            units in 1u32..300,
            keep in 0u64..40,
            looks in prop::collection::vec((0u64..400, 0u32..300, 0u32..300, prop::option::of(0u32..3000)), 1..60),
        ) {
            let keep_free = keep * UNIT_BYTES;
            let mut limiter = Limiter::new(units, keep_free);
            let mut now = SECOND;
            for (available, used, taken, stalled) in looks {
                let used = used.min(units);
                let (available, taken) = (available * UNIT_BYTES, u64::from(taken.min(used)) * UNIT_BYTES);
                let look = Look { available, taken, stalled, used };
                let before = limiter.limit();
                let change = limiter.decide(now, &look);
                let limit = limiter.limit();
                prop_assert_eq!(change.map_or(before, |change| change.units), limit);
                prop_assert!(limit <= units && change.is_none_or(|change| change.units != before));
                let fits = |limit: u32, keep: u64| {
                    u64::from(limit) * UNIT_BYTES + keep <= available + taken || limit == 0
                };
                // What may be granted beyond what is used leaves the reserve.
                prop_assert!(limit <= used || fits(limit, keep_free), "{} of {}", limit, used);
                // What stays lent leaves half of it.
                prop_assert!(limit.min(used) == 0 || fits(limit.min(used), keep_free / 2));
                if let Some(Change { cause: Cause::Low, .. }) = change {
                    prop_assert!(fits(limit, keep_free) && limit < used);
                }
                // The same look again changes nothing at the same moment.
                prop_assert_eq!(limiter.decide(now, &look), None);
                now += SECOND;
            }
        }
    }
}
