//! Limits repeated warnings: the first one is logged at once, later ones rarely, with a count of those that were not
//! logged.
//!
//! A warning that comes with every packet or heartbeat fills a log and hides all other warnings. Code that logs such a
//! warning asks a [`Repeats`] first, with a key that names the subject.

use crate::Time;
use crate::time::SECOND;
use std::fmt;

/// How long nothing is logged after the first, the second, and each further time, in nanoseconds.
const PAUSES: [Time; 3] = [60 * SECOND, 600 * SECOND, 3600 * SECOND];

/// If something has not happened for this long, it is logged at once when it happens again; in nanoseconds.
const FORGET: Time = 600 * SECOND;

/// How often the same thing happened without being logged, for printing behind the present message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct More(pub u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more like this since it was last said)"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Subject<K> {
    /// The subject; `None` is shared by all that found no room.
    key: Option<K>,
    heard: Time,
    said: Time,
    /// How often it was logged in this spell.
    times: usize,
    unsaid: u64,
}

impl<K> Subject<K> {
    const fn new(key: Option<K>) -> Self {
        Self { key, heard: 0, said: 0, times: 0, unsaid: 0 }
    }

    fn is_forgotten(&self, now: Time) -> bool {
        now.saturating_sub(self.heard) >= FORGET
    }

    fn hear(&mut self, now: Time) -> Option<More> {
        if self.is_forgotten(now) {
            self.times = 0;
        }
        self.heard = now;
        let pause = self.times.checked_sub(1).map_or(0, |said| PAUSES[said.min(PAUSES.len() - 1)]);
        if now.saturating_sub(self.said) < pause {
            self.unsaid += 1;
            return None;
        }
        self.said = now;
        self.times += 1;
        Some(More(std::mem::take(&mut self.unsaid)))
    }
}

/// See the module's documentation. All memory is allocated when it is made.
#[derive(Clone, Debug)]
pub struct Repeats<K> {
    subjects: Vec<Subject<K>>,
    room: usize,
    /// Strangers can cause many different things: all that find no room are one common subject.
    others: Subject<K>,
}

impl<K: PartialEq> Repeats<K> {
    /// Room for this many different things at a time.
    pub fn new(room: usize) -> Self {
        Self { subjects: Vec::with_capacity(room), room, others: Subject::new(None) }
    }

    /// Notes that it happened. If it is to be logged now, returns what to print behind the message: the first time at
    /// once, then after a minute, after ten minutes, and once an hour.
    pub fn hear(&mut self, now: Time, key: K) -> Option<More> {
        let known = self.subjects.iter().position(|subject| subject.key.as_ref() == Some(&key));
        let at = known.or_else(|| self.place(now, key));
        match at {
            Some(at) => self.subjects[at].hear(now),
            None => self.others.hear(now),
        }
    }

    /// Gives a new subject a place: an empty one, or that of a forgotten subject.
    fn place(&mut self, now: Time, key: K) -> Option<usize> {
        let subject = Subject::new(Some(key));
        if self.subjects.len() < self.room {
            self.subjects.push(subject);
            return Some(self.subjects.len() - 1);
        }
        let at = self.subjects.iter().position(|subject| subject.is_forgotten(now))?;
        self.subjects[at] = subject;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same event happens every second from `begin` to `end`. Returns the seconds at which it was logged, and the
    /// counts.
    fn every_second(repeats: &mut Repeats<u32>, key: u32, begin: u64, end: u64) -> Vec<(u64, u64)> {
        (begin..end).filter_map(|at| Some((at, repeats.hear(at * SECOND, key)?.0))).collect()
    }

    #[test]
    fn at_once_after_a_minute_after_ten_and_then_once_an_hour() {
        let mut repeats = Repeats::new(4);
        let said = every_second(&mut repeats, 7, 5, 9000);
        assert_eq!(said, [(5, 0), (65, 59), (665, 599), (4265, 3599), (7865, 3599)]);
    }

    #[test]
    fn what_was_forgotten_is_said_at_once() {
        let mut repeats = Repeats::new(4);
        assert_eq!(every_second(&mut repeats, 7, 0, 100), [(0, 0), (60, 59)]);
        // Ten minutes after the last event.
        assert_eq!(every_second(&mut repeats, 7, 699, 800), [(699, 39), (759, 59)]);
    }

    #[test]
    fn different_things_do_not_hide_each_other_and_a_crowd_is_one_thing() {
        let mut repeats = Repeats::new(2);
        let said: Vec<_> = (0..100).filter_map(|key| Some((key, repeats.hear(SECOND, key)?))).collect();
        assert_eq!(said, [(0, More(0)), (1, More(0)), (2, More(0))]);
        assert_eq!(repeats.hear(61 * SECOND, 50), Some(More(97)));
        assert_eq!(repeats.hear(61 * SECOND, 1), Some(More(0)));
        // The place of a forgotten subject is free again.
        assert_eq!((repeats.hear(1000 * SECOND, 51), repeats.hear(1000 * SECOND, 51)), (Some(More(0)), None));
    }

    #[test]
    fn the_count_is_behind_what_is_said() {
        assert_eq!(format!("x{}", More(0)), "x");
        assert_eq!(format!("x{}", More(3)), "x (3 more like this since it was last said)");
    }

    proptest! {
        /// Few messages are logged, whatever happens and however often. The counts include the events that were not
        /// logged.
        #[test]
        fn a_log_grows_slowly_and_loses_no_count(
            things in proptest::collection::vec((0u64..30 * SECOND, 0u32..6), 1..600),
            room in 0usize..5,
        ) {
            let (mut now, mut repeats, mut said) = (0, Repeats::new(room), 0);
            let mut counted = 0;
            for (pause, key) in &things {
                now += pause;
                if let Some(More(more)) = repeats.hear(now, *key) {
                    said += 1;
                    counted += 1 + more;
                }
            }
            let waiting: u64 = repeats.subjects.iter().chain([&repeats.others]).map(|subject| subject.unsaid).sum();
            // A place gets another subject only after ten minutes. The count that waited there is lost then.
            prop_assert!(counted + waiting <= things.len() as u64);
            if room >= 6 || now < FORGET {
                prop_assert_eq!(counted + waiting, things.len() as u64);
            }
            let minutes = now / PAUSES[0] + 1;
            prop_assert!(said <= minutes * (room as u64 + 1), "{said} in {minutes} minutes");
        }
    }
}
