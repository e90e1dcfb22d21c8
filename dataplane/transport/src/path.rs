//! What is known about one peer: its kind, the round trip, the window.

use crate::config::{LEAST_TIMEOUT, PeerKind};
use crate::moment::Moment;
use crate::queue::List;
use crate::slab::NONE;
use crate::window::Window;
use frame::Time;

/// The round trip without queues: the shortest one that was measured since the last drain in which one was measured.
/// Ways change, so what is known is replaced in a drain, when queues are short.
///
/// Two bytes: 15 bits in units of 512 ns, and whether the number of that drain was odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Base(u16);

impl Base {
    const UNIT: u32 = 512;
    const MOST: u16 = 0x7fff;
    const ODD: u16 = 0x8000;
    const UNKNOWN: Self = Self(Self::MOST);

    #[inline]
    fn learn(&mut self, sample: u32, drain: Option<bool>) {
        let units = u16::try_from(sample / Self::UNIT).unwrap_or(Self::MOST).min(Self::MOST);
        let (known, odd) = (self.0 & Self::MOST, self.0 & Self::ODD);
        let present = drain.map_or(odd, |is_odd| u16::from(is_odd) * Self::ODD);
        self.0 = present | if present == odd { known.min(units) } else { units };
    }

    #[inline]
    fn get(self) -> Option<Time> {
        let units = self.0 & Self::MOST;
        (units != Self::MOST).then(|| u64::from(u32::from(units) * Self::UNIT))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) window: Window,
    /// Smoothed round trip and its deviation, in nanoseconds; 0 if nothing was measured.
    round_trip: u32,
    deviation: u32,
    /// The shortest round trip, see [`Base`].
    base: Base,
    /// When the last congestion notification was sent.
    pub(crate) notified: Moment<10>,
    /// Queue pairs that wait for room in the window.
    pub(crate) waiting: List,
    /// The first queue pair of this path, or [`NONE`].
    pub(crate) first: u32,
    pub(crate) kind: PeerKind,
    /// Whether a queue pair of this path is urgent.
    pub(crate) has_urgent: bool,
}

impl Path {
    pub(crate) fn new(kind: PeerKind, most: u32) -> Self {
        Self {
            window: Window::new(most),
            round_trip: 0,
            deviation: 0,
            base: Base::UNKNOWN,
            notified: Moment::NONE,
            waiting: List::EMPTY,
            first: NONE,
            kind,
            has_urgent: false,
        }
    }

    /// Takes in one measured round trip (RFC 6298). `drain` is what [`drain`](crate::total::TotalWindow::drain) says.
    pub(crate) fn measured(&mut self, sample: Time, drain: Option<bool>) {
        let sample = u32::try_from(sample).unwrap_or(u32::MAX).max(1);
        self.base.learn(sample, drain);
        self.smooth(sample);
    }

    /// Takes in how long an answer took at least, when nobody knows to which copy of the request it belongs.
    pub(crate) fn at_least(&mut self, time: Time) {
        self.smooth(u32::try_from(time).unwrap_or(u32::MAX).max(1));
    }

    fn smooth(&mut self, sample: u32) {
        if self.round_trip == 0 {
            (self.round_trip, self.deviation) = (sample, sample / 2);
            return;
        }
        let off = self.round_trip.abs_diff(sample);
        self.deviation = self.deviation - self.deviation / 4 + off / 4;
        self.round_trip = self.round_trip - self.round_trip / 8 + sample / 8;
    }

    /// The known round trip, in nanoseconds. A shrunk window waits this long.
    #[inline]
    pub(crate) fn round_trip(&self) -> Time {
        u64::from(self.round_trip)
    }

    /// The round trip without queues, in nanoseconds; `None` if it is not known, or longer than 16 ms.
    #[inline]
    pub(crate) fn base(&self) -> Option<Time> {
        self.base.get()
    }

    /// How long to wait for an own peer's answer.
    pub(crate) fn timeout(&self, hold: Time) -> Time {
        let measured = self.round_trip() + 4 * u64::from(self.deviation);
        (4 * hold + measured).max(LEAST_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::{MICROSECOND, MILLISECOND};

    #[test]
    fn a_timeout_is_never_below_four_holds_and_the_round_trip() {
        let mut path = Path::new(PeerKind::Own, 1 << 20);
        assert_eq!(path.timeout(50 * MICROSECOND), LEAST_TIMEOUT);
        assert_eq!(path.timeout(MILLISECOND), 4 * MILLISECOND);
        path.measured(3 * MILLISECOND, None);
        assert_eq!(path.timeout(MILLISECOND), 13 * MILLISECOND);
        (0..200).for_each(|_| path.measured(2 * MILLISECOND, None));
        let timeout = path.timeout(MILLISECOND);
        assert!((6 * MILLISECOND..6_100 * MICROSECOND).contains(&timeout), "{timeout}");
        path.measured(u64::MAX, None);
        assert!(path.timeout(MILLISECOND) > 400 * MILLISECOND);
    }
}
