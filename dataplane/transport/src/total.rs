//! The window of all paths: how many bytes may be in flight to and from all peers together.
//!
//! All answers to this end come over its own link, so the queue before that link grows when too much was asked for. No
//! single path sees enough of that: each has only a few bytes in flight. So all paths report here. What is known of a
//! path is its base, which is its shortest round trip; what a later round trip took longer is time in queues. If most
//! of the round trips of a period waited for longer than the target, the queue is one that they share, and the window
//! shrinks to what fits. A slave that is slow alone does not make it shrink: its round trips are a small part.
//!
//! Processors that are late delay all packets, too, and then a smaller window only means less. So delay has a least
//! window, and a wait that is long with so little in flight is subtracted from then on.
//!
//! Marks and losses count as well, by their part of the bytes: a switch with a short queue drops before round trips get
//! long, and a wire that loses a packet now and then is not congested.

use crate::config::Config;
use crate::counters::TransportCounters;
use crate::round_trip::RoundTrip;
use crate::window::PACKET_COST;
use frame::Time;
use frame::time::{MILLISECOND, SECOND};

/// The first window that follows what it sees.
const FIRST: u64 = 64 * 1024;

/// The least one: so many bytes keep a link busy while others are on their way.
const LEAST: u64 = 3 * PACKET;

/// How much the window grows in a period: the same for all masters, so that those who share a link get the same.
const STEP: u64 = 4096;

/// After so many periods in a row that were not congested, the window grows by an eighth of itself.
const CALM: u32 = 8;

/// Near the size at which packets were lost last, the window grows by a sixteenth of that. After so many periods that
/// size means nothing any more.
const FORGET: u32 = 32;

/// A period has at least so many round trips.
const SAMPLES: u32 = 8;

/// Losses and marks count if they are this part of the bytes of a period: 1 / `NOTABLE`.
const NOTABLE: u64 = 64;

/// Waits that are shorter may be those of a queue that others fill: if all took it for slack, all would make their
/// windows larger, and the queue longer.
const LEAST_SLACK: Time = MILLISECOND / 2;

/// The bytes that a loss stands for.
const PACKET: u64 = 4096 + PACKET_COST as u64;

/// The bytes that a congestion notification stands for. Peers send one at most in 50 us.
const NOTIFIED: u64 = 4 * PACKET;

/// Bases are learnt anew after this time, since ways change.
const ERA: Time = SECOND;

/// Drains that begin because round trips are long with the least window are at least so far apart.
const DRAINS_APART: Time = SECOND / 2;

/// While bases are learnt, the window is this part of itself: 1 / `DRAINED`.
const DRAINED: u64 = 4;

/// The longest time for which a window is small in order to learn.
const LONGEST_DRAIN: Time = 20 * MILLISECOND;

/// What came in since the window was last judged.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    /// Bytes that were acknowledged.
    acknowledged: u64,
    /// Round trips, and those that waited in queues for longer than the target.
    samples: u32,
    late: u32,
    /// The sum of what the late ones were over the target, in 1 / 1024 of the round trip.
    over: u32,
    /// Bytes that were marked, and that were lost.
    marked: u64,
    lost: u64,
    /// Somebody had to wait for room.
    is_limited: bool,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TotalWindow {
    size: u64,
    most: u64,
    /// Delay alone makes it no smaller: what is slow with so little in flight is more often a processor than a link.
    least_by_delay: u64,
    /// How long packets may wait in queues; 0: the size never changes.
    target: Time,
    period: Period,
    /// Periods without congestion.
    calm: u32,
    /// The size at which packets were lost last, and periods since then.
    ceiling: u64,
    without_loss: u32,
    /// The window doubles each round trip, until the first congestion.
    is_starting: bool,
    /// When it last shrank. What was sent before that says nothing of the present size.
    shrunk: Time,
    /// The window is small until then; 0: it is not.
    drain_until: Time,
    /// Drains in which bases were learnt.
    drains: u32,
    /// When the last drain began.
    drained: Time,
    /// Round trips that began in this drain, and how long they waited in all.
    drain_samples: u32,
    drain_waits: Time,
    /// This drain began with the least window.
    is_least: bool,
    /// When bases were learnt anew.
    learnt: Time,
    /// How long round trips wait although the window is the least one: that is no queue.
    slack: Time,
}

/// Why a window shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Congestion {
    Loss,
    Mark,
    Delay,
}

impl TotalWindow {
    pub(crate) fn new(config: &Config) -> Self {
        let (most, target) = (config.total_window, config.queue_target);
        Self {
            size: if target == 0 { most } else { FIRST.max(config.queue_least).min(most) },
            most,
            least_by_delay: config.queue_least.min(most),
            target,
            period: Period::default(),
            calm: 0,
            ceiling: u64::MAX,
            without_loss: 0,
            is_starting: true,
            shrunk: 0,
            drain_until: 0,
            drains: 0,
            drained: 0,
            drain_samples: 0,
            drain_waits: 0,
            is_least: false,
            learnt: 0,
            slack: 0,
        }
    }

    /// Bytes that may be in flight now.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        if self.drain_until == 0 { self.size } else { (self.size / DRAINED).max(LEAST.min(self.most)) }
    }

    /// How long round trips wait although little is in flight.
    #[inline]
    pub(crate) fn slack(&self) -> Time {
        self.slack
    }

    /// Somebody waits for room.
    #[inline]
    pub(crate) fn waited(&mut self) {
        self.period.is_limited = true;
    }

    /// Bytes were acknowledged.
    #[inline]
    pub(crate) fn acknowledged(&mut self, bytes: u32) {
        self.period.acknowledged += u64::from(bytes);
        if self.is_starting && self.period.is_limited && self.target > 0 {
            self.size = (self.size + u64::from(bytes / 2)).min(self.most);
        }
    }

    /// A packet was lost.
    pub(crate) fn lost(&mut self, now: Time, round_trip: Time, counters: &TransportCounters) {
        self.period.lost += PACKET;
        // So many that round trips may not be measured any more.
        if self.target > 0 && self.period.lost >= self.size / 2 {
            self.judge(now, round_trip, counters);
        }
    }

    /// A packet of so many bytes came with a mark.
    pub(crate) fn marked(&mut self, bytes: usize) {
        self.period.marked += bytes as u64;
    }

    /// A peer says that packets came with marks.
    pub(crate) fn notified(&mut self) {
        self.period.marked += NOTIFIED;
    }

    /// In a drain, whether its number is odd. The window is small then, so that queues are short, and paths learn how
    /// long a round trip is without them.
    #[inline]
    pub(crate) fn drain(&self, now: Time) -> Option<bool> {
        // With the least window the bases stay, to learn how much longer round trips are than those.
        let learns = self.drain_until > 0 && !self.is_least && now < self.drained + LONGEST_DRAIN;
        learns.then_some(self.drains % 2 == 1)
    }

    /// A round trip was measured. Judges the window at the end of a period.
    pub(crate) fn measured(&mut self, trip: &RoundTrip, counters: &TransportCounters) {
        let RoundTrip { now, took, .. } = *trip;
        if self.target == 0 {
            return;
        }
        if self.drain_until > 0 {
            return self.learn(trip);
        }
        if now.saturating_sub(took) < self.shrunk {
            return;
        }
        if self.period.is_limited && now.saturating_sub(self.learnt) >= ERA {
            self.learnt = now;
            return self.start_drain(now, took, false);
        }
        self.period.samples += 1;
        if let Some(over) = trip.over(self.target) {
            self.period.over = self.period.over.saturating_add(over);
            self.period.late += 1;
        }
        // A window that doubles is judged as soon as there are enough round trips.
        let is_over = if self.is_starting {
            self.period.samples >= SAMPLES
        } else {
            self.period.samples >= SAMPLES && self.period.acknowledged >= self.size
        };
        if is_over {
            self.judge(now, took, counters);
        }
    }

    /// A period has ended.
    fn judge(&mut self, now: Time, round_trip: Time, counters: &TransportCounters) {
        let period = std::mem::take(&mut self.period);
        let Period { acknowledged, samples, late, over, marked, lost, is_limited } = period;
        let (size, least) = (self.size, LEAST.min(self.most));
        self.without_loss = self.without_loss.saturating_add(1);
        if self.without_loss > FORGET {
            self.ceiling = u64::MAX;
        }
        let congestion = if lost * NOTABLE >= acknowledged {
            Some((Congestion::Loss, size / 4))
        } else if marked * NOTABLE >= acknowledged {
            Some((Congestion::Mark, size / 4 * marked.min(acknowledged) / acknowledged.max(1)))
        } else if late * 4 >= samples * 3 {
            let less = size * u64::from(over) / u64::from(late.max(1)) / 1024;
            Some((Congestion::Delay, less.min(size / 2).min(size.saturating_sub(self.least_by_delay))))
        } else {
            None
        };
        match congestion {
            Some((why, less)) => {
                self.size = (size - less).max(least);
                (self.calm, self.shrunk) = (0, now);
                if why == Congestion::Loss {
                    (self.ceiling, self.without_loss) = (size, 0);
                }
                match why {
                    Congestion::Loss => &counters.window_shrunk_loss,
                    Congestion::Mark => &counters.window_shrunk_mark,
                    Congestion::Delay => &counters.window_shrunk_delay,
                }
                .add(1);
                // If all round trips are long with the least window, the ways have become longer.
                let is_least = why == Congestion::Delay && self.size <= self.least_by_delay;
                let is_due = is_least && now.saturating_sub(self.drained) >= DRAINS_APART;
                if std::mem::take(&mut self.is_starting) || is_due {
                    self.start_drain(now, round_trip, self.size <= 2 * self.least_by_delay);
                }
            }
            None if !is_limited || self.is_starting => {}
            None => {
                self.calm = if late * 2 < samples { self.calm + 1 } else { 0 };
                let step = match self.calm {
                    _ if size >= self.ceiling - self.ceiling / 8 => STEP / 16,
                    CALM.. => (size / 8).max(STEP),
                    _ => STEP,
                };
                self.size = (size + step).min(self.most);
            }
        }
        counters.window_bytes.set(self.size);
    }

    /// A round trip was measured in a drain. The drain ends when its time is over and enough is known.
    fn learn(&mut self, trip: &RoundTrip) {
        if trip.now.saturating_sub(trip.took) >= self.drained {
            self.drain_samples += 1;
            self.drain_waits += trip.wait();
        }
        let has_ended = trip.now >= self.drain_until && self.drain_samples >= SAMPLES;
        if has_ended || trip.now >= self.drained + LONGEST_DRAIN {
            let wait = self.drain_waits / Time::from(self.drain_samples.max(1));
            self.slack = match self.is_least {
                true if wait >= LEAST_SLACK => wait,
                true => 0,
                false => self.slack / 2,
            };
            // How much fits is not known then.
            self.is_starting |= self.is_least && self.slack > 0;
            (self.drain_until, self.shrunk, self.period) = (0, trip.now, Period::default());
        }
    }

    /// For a while less is in flight, so that queues are empty, and it is learnt how long round trips are without them.
    fn start_drain(&mut self, now: Time, round_trip: Time, is_least: bool) {
        self.drain_until = now + (2 * round_trip).min(LONGEST_DRAIN);
        (self.drain_samples, self.drain_waits) = (0, 0);
        self.is_least = is_least;
        self.drained = now;
        self.drains = self.drains.wrapping_add(u32::from(!is_least));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::MICROSECOND;

    const TARGET: Time = 20 * MICROSECOND;
    const BASE: Time = 100 * MICROSECOND;

    fn window(target: Time) -> TotalWindow {
        TotalWindow::new(&Config {
            total_window: 1 << 20,
            queue_target: target,
            queue_least: 30_000,
            ..Config::default()
        })
    }

    /// A link: what is in flight beyond what it carries in a round trip waits.
    struct Link {
        now: Time,
        window: TotalWindow,
        counters: TransportCounters,
        /// Bytes that it carries in [`BASE`].
        carries: u64,
    }

    impl Link {
        fn new(target: Time, carries: u64) -> Self {
            Self { now: SECOND, window: window(target), counters: TransportCounters::default(), carries }
        }

        /// So many round trips in which all of the window is used, by many paths.
        fn run(&mut self, trips: u32) {
            for _ in 0..trips {
                self.trip(|_| false);
            }
        }

        /// One round trip; some packets are lost.
        fn trip(&mut self, is_lost: impl Fn(u64) -> bool) {
            let size = self.window.limit();
            let took = BASE.max(BASE * size / self.carries);
            let packets = size / PACKET;
            for number in 0..packets {
                self.window.waited();
                self.now += took / packets;
                if is_lost(number) {
                    self.window.lost(self.now, took, &self.counters);
                    continue;
                }
                self.window.acknowledged(PACKET as u32);
                let trip = RoundTrip { now: self.now, took, base: BASE, hold: 0, slack: self.window.slack() };
                self.window.measured(&trip, &self.counters);
            }
        }
    }

    #[test]
    fn it_fills_the_link_and_keeps_the_queue_short() {
        for carries in [20_000, 100_000, 400_000] {
            let mut link = Link::new(TARGET, carries);
            link.run(300);
            for _ in 0..200 {
                link.run(1);
                let size = link.window.size;
                // A quarter of the base is longer than the target.
                let most = (carries / 4 * 6).max(30_000);
                assert!(size >= carries / 5 * 4 && size <= most, "{size} of {carries}");
            }
            assert!(link.counters.window_shrunk_delay.get() > 0 && link.counters.window_shrunk_loss.get() == 0);
        }
    }

    #[test]
    fn one_slow_peer_does_not_make_it_small() {
        let mut link = Link::new(TARGET, 1 << 30);
        for number in 0..10_000 {
            link.now += 10 * MICROSECOND;
            link.window.waited();
            link.window.acknowledged(PACKET as u32);
            let took = if number % 3 == 0 { 50 * BASE } else { BASE };
            link.window.measured(
                &RoundTrip { now: link.now, took, base: BASE, hold: 0, slack: link.window.slack() },
                &link.counters,
            );
        }
        assert_eq!((link.window.limit(), link.counters.window_shrunk_delay.get()), (1 << 20, 0));
    }

    #[test]
    fn rare_losses_do_not_matter_and_many_do() {
        let mut link = Link::new(TARGET, 1 << 30);
        link.run(100);
        assert_eq!(link.window.limit(), 1 << 20);
        (0..50).for_each(|_| link.trip(|number| number == 100));
        assert_eq!(link.window.limit(), 1 << 20);
        link.trip(|number| number % 20 == 0);
        link.run(2);
        let size = link.window.limit();
        assert!(size <= (1 << 20) / 4 * 3 + 2 * STEP, "{size}");
        // Near the size at which packets were lost it grows slowly, and then forgets that size.
        link.run(4);
        assert!(link.window.limit() < size + 5 * STEP);
        link.run(200);
        assert_eq!(link.window.limit(), 1 << 20);
    }

    #[test]
    fn marks_make_it_smaller_by_their_part() {
        let mut link = Link::new(TARGET, 1 << 30);
        link.run(100);
        let marked = |link: &mut Link, every: u64| {
            let before = link.window.limit();
            for number in 0..before / PACKET {
                if number % every == 0 {
                    link.window.marked(PACKET as usize);
                }
            }
            link.run(1);
            before - link.window.limit()
        };
        let all = marked(&mut link, 1);
        link.run(100);
        let fourth = marked(&mut link, 4);
        assert!(all > (1 << 20) / 5 && fourth < all / 2, "{all} {fourth}");
        assert!(link.counters.window_shrunk_mark.get() == 2);
    }

    #[test]
    fn when_all_ways_become_longer_it_learns_that() {
        let mut link = Link::new(TARGET, 100_000);
        link.run(300);
        let mut path = crate::path::Path::new(crate::PeerKind::Own, 1 << 20);
        path.measured(BASE, None);
        // Each round trip takes three times as long from now on, whatever is in flight.
        for _ in 0..50_000 {
            link.now += 100 * MICROSECOND;
            link.window.waited();
            link.window.acknowledged(PACKET as u32);
            path.measured(3 * BASE, link.window.drain(link.now));
            let base = path.base().unwrap();
            link.window.measured(
                &RoundTrip { now: link.now, took: 3 * BASE, base, hold: 0, slack: link.window.slack() },
                &link.counters,
            );
        }
        assert!(path.base().unwrap() > 2 * BASE);
        assert!(link.window.limit() > 500_000);
    }

    #[test]
    fn without_a_target_it_never_changes() {
        let mut link = Link::new(0, 1000);
        link.run(100);
        (0..50).for_each(|_| link.trip(|number| number % 2 == 0));
        assert_eq!(link.window.limit(), 1 << 20);
    }
}
