//! How many bytes may be in flight, to one peer and in total.
//!
//! A window starts with the bytes that fit a short path, doubles each round trip until the first loss or mark, and then
//! grows by a packet per round trip. A loss halves it; a CE mark or a congestion notification takes a quarter. Each
//! happens at most once in a round trip. Bytes count in both directions: those of a WRITE on their way, and those that
//! a READ asked for.
//!
//! Where there are urgent queue pairs, they and the others share a window: each kind may always use an eighth of it.
//! Others leave that eighth to urgent ones, and urgent ones may use all. So a stream of bulk requests never fills what
//! an urgent request needs, and urgent requests never stop a stream.

use crate::moment::Moment;
use frame::Time;

/// The cost of a packet in addition to its payload: headers of all layers.
pub(crate) const PACKET_COST: u32 = 100;

/// The minimum: two packets of the largest path MTU.
pub(crate) const LEAST_WINDOW: u32 = 2 * (4096 + PACKET_COST);

/// The first window, before anything was measured.
const FIRST_WINDOW: u32 = 128 * 1024;

/// How much a grown window grows in one round trip.
const STEP: u32 = 4096;

/// Each kind of queue pair may always use this part of a window: 1 / `SHARE`.
const SHARE: u64 = 8;

/// A count of bytes: 32 bits for one peer, since there are many of them; 64 bits for all.
pub(crate) trait Bytes: Copy + Into<u64> {
    /// None.
    const ZERO: Self;

    /// So many, or the largest count.
    fn from_wide(bytes: u64) -> Self;
}

impl Bytes for u32 {
    const ZERO: Self = 0;

    #[inline]
    fn from_wide(bytes: u64) -> Self {
        Self::try_from(bytes).unwrap_or(Self::MAX)
    }
}

impl Bytes for u64 {
    const ZERO: Self = 0;

    #[inline]
    fn from_wide(bytes: u64) -> Self {
        bytes
    }
}

/// Bytes in flight to one peer, or to all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight<B> {
    all: B,
    /// Those of urgent queue pairs.
    urgent: B,
}

impl<B: Bytes> InFlight<B> {
    pub(crate) const NONE: Self = Self { all: B::ZERO, urgent: B::ZERO };

    /// All bytes in flight.
    #[inline]
    pub(crate) fn all(&self) -> u64 {
        self.all.into()
    }

    /// Whether a queue pair may have this many more bytes in flight, if the window has `limit` bytes. A message that is
    /// larger than its part of the window goes alone. `shares` says whether there are urgent queue pairs.
    #[inline]
    pub(crate) fn has_room(&self, limit: u64, shares: bool, is_urgent: bool, cost: u32) -> bool {
        let (all, cost) = (self.all(), u64::from(cost));
        if !shares {
            return all == 0 || all + cost <= limit;
        }
        let share = limit / SHARE;
        let urgent = self.urgent.into();
        let (own, most) = if is_urgent { (urgent, limit) } else { (all.saturating_sub(urgent), limit - share) };
        own == 0 || own + cost <= share || all + cost <= most
    }

    #[inline]
    pub(crate) fn add(&mut self, is_urgent: bool, cost: u32) {
        self.all = B::from_wide(self.all() + u64::from(cost));
        if is_urgent {
            self.urgent = B::from_wide(self.urgent.into() + u64::from(cost));
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, is_urgent: bool, cost: u32) {
        self.all = B::from_wide(self.all().saturating_sub(cost.into()));
        if is_urgent {
            self.urgent = B::from_wide(self.urgent.into().saturating_sub(cost.into()));
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: u32,
    /// Below it a window doubles each round trip.
    threshold: u32,
    pub(crate) in_flight: InFlight<u32>,
    /// Bytes acknowledged since it last grew.
    grown: u32,
    /// When it last shrank.
    shrunk: Moment<10>,
}

impl Window {
    /// A window that grows to `most` bytes.
    pub(crate) fn new(most: u32) -> Self {
        let most = most.max(LEAST_WINDOW);
        Self {
            size: FIRST_WINDOW.min(most),
            threshold: most,
            in_flight: InFlight::NONE,
            grown: 0,
            shrunk: Moment::NONE,
        }
    }

    /// Bytes that may be in flight now.
    #[cfg(test)]
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Whether this many more bytes may be sent. A packet larger than the window goes alone.
    #[inline]
    pub(crate) fn has_room(&self, shares: bool, is_urgent: bool, cost: u32) -> bool {
        self.in_flight.has_room(self.size.into(), shares, is_urgent, cost)
    }

    /// Bytes were acknowledged. The window grows to `most` bytes.
    #[inline]
    pub(crate) fn acknowledged(&mut self, bytes: u32, most: u32) {
        if self.size >= most {
            return;
        }
        if self.size < self.threshold {
            self.size = self.size.saturating_add(bytes).min(most);
            return;
        }
        self.grown = self.grown.saturating_add(bytes);
        if self.grown >= self.size {
            self.grown = 0;
            self.size = self.size.saturating_add(STEP).min(most);
        }
    }

    /// A packet was lost.
    pub(crate) fn lost(&mut self, now: Time, round_trip: Time) {
        self.shrink(now, round_trip, 2);
    }

    /// A packet was marked.
    pub(crate) fn marked(&mut self, now: Time, round_trip: Time) {
        self.shrink(now, round_trip, 4);
    }

    /// Shrinks the window by a fraction: 1 / `part`.
    fn shrink(&mut self, now: Time, round_trip: Time, part: u32) {
        if !self.shrunk.is_none() && self.shrunk.until(now) < round_trip {
            return;
        }
        self.shrunk = Moment::at(now);
        self.size = (self.size - self.size / part).max(LEAST_WINDOW);
        self.threshold = self.size;
        self.grown = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_until_it_shrinks_and_then_steps() {
        let most = 1 << 20;
        let mut window = Window::new(most);
        window.acknowledged(FIRST_WINDOW, most);
        assert_eq!(window.size(), 2 * FIRST_WINDOW);
        window.lost(1_000_000, 100_000);
        window.lost(1_090_000, 100_000);
        assert_eq!(window.size(), FIRST_WINDOW);
        window.acknowledged(FIRST_WINDOW, most);
        assert_eq!(window.size(), FIRST_WINDOW + STEP);
        window.marked(1_110_000, 100_000);
        assert_eq!(window.size(), (FIRST_WINDOW + STEP) / 4 * 3);
        (0..100).for_each(|step| window.lost(2_000_000 + 110_000 * step, 100_000));
        assert_eq!(window.size(), LEAST_WINDOW);
        (0..100_000).for_each(|_| window.acknowledged(4096, most));
        assert_eq!(window.size(), 1 << 20);
    }

    #[test]
    fn what_is_larger_than_all_goes_alone() {
        let mut window = Window::new(0);
        assert_eq!(window.size(), LEAST_WINDOW);
        assert!(window.has_room(false, false, u32::MAX));
        window.in_flight.add(false, 1);
        assert!(window.has_room(false, false, LEAST_WINDOW - 1) && !window.has_room(false, false, LEAST_WINDOW));
        assert!(!window.has_room(false, false, u32::MAX));
    }

    #[test]
    fn an_eighth_is_kept_for_each_kind() {
        let mut flight: InFlight<u32> = InFlight::NONE;
        // Bulk fills seven eighths.
        flight.add(false, 700);
        assert!(!flight.has_room(800, true, false, 1) && flight.has_room(800, true, true, 100));
        flight.add(true, 100);
        assert!(!flight.has_room(800, true, true, 1));
        // Urgent requests may fill all, and then bulk has its eighth above that.
        let mut flight: InFlight<u32> = InFlight::NONE;
        flight.add(true, 800);
        assert!(!flight.has_room(800, true, true, 1) && flight.has_room(800, true, false, 5000));
        flight.add(false, 60);
        assert!(flight.has_room(800, true, false, 40) && !flight.has_room(800, true, false, 41));
        // A bulk request larger than the window went alone: an urgent one goes beside it.
        let mut flight: InFlight<u32> = InFlight::NONE;
        flight.add(false, 100_000);
        assert!(!flight.has_room(800, true, false, 1) && flight.has_room(800, true, true, 4496));
        // Without urgent queue pairs nothing is kept.
        let mut flight: InFlight<u32> = InFlight::NONE;
        flight.add(false, 700);
        assert!(flight.has_room(800, false, false, 100) && !flight.has_room(800, false, false, 101));
    }

    proptest::proptest! {
        /// Each kind gets its share, whatever the other one does; and the total is bounded.
        #[test]
        fn no_kind_takes_the_share_of_the_other(
            limit in 8_000u64..100_000,
            steps in proptest::collection::vec((proptest::prelude::any::<bool>(), 1u32..20_000, 0u8..4), 1..200),
        ) {
            let mut flight: InFlight<u32> = InFlight::NONE;
            let mut sent: [Vec<u32>; 2] = Default::default();
            for (is_urgent, cost, act) in steps {
                let kind = usize::from(is_urgent);
                if act == 0 {
                    if let Some(cost) = sent[kind].pop() {
                        flight.remove(is_urgent, cost);
                    }
                    continue;
                }
                let own: u64 = sent[kind].iter().map(|&cost| u64::from(cost)).sum();
                let room = flight.has_room(limit, true, is_urgent, cost);
                if own == 0 || own + u64::from(cost) <= limit / 8 {
                    proptest::prop_assert!(room);
                }
                if room {
                    flight.add(is_urgent, cost);
                    sent[kind].push(cost);
                }
                let bulk: u64 = sent[0].iter().map(|&cost| u64::from(cost)).sum();
                proptest::prop_assert!(flight.all() <= limit + limit / 8 + 2 * 20_000);
                proptest::prop_assert!(bulk <= (limit - limit / 8).max(20_000));
            }
            let all: u64 = sent.iter().flatten().map(|&cost| u64::from(cost)).sum();
            proptest::prop_assert_eq!(flight.all(), all);
        }
    }
}
