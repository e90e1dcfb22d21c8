//! How many bytes may be in flight, to one peer and in total.
//!
//! A window starts with the bytes that fit a short path, doubles each round trip until the first loss or mark, and then
//! grows by a packet per round trip. A loss halves it; a CE mark or a congestion notification takes a quarter. Each
//! happens at most once in a round trip. Bytes count in both directions: those of a WRITE on their way, and those that
//! a READ asked for.

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

#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    size: u32,
    /// Below it a window doubles each round trip.
    threshold: u32,
    most: u32,
    pub(crate) in_flight: u32,
    /// Bytes acknowledged since it last grew.
    grown: u32,
    /// When it last shrank.
    shrunk: Moment<10>,
}

impl Window {
    pub(crate) fn new(most: u32) -> Self {
        let most = most.max(LEAST_WINDOW);
        Self { size: FIRST_WINDOW.min(most), threshold: most, most, in_flight: 0, grown: 0, shrunk: Moment::NONE }
    }

    /// Bytes that may be in flight now.
    #[cfg(test)]
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The most that one READ may ask for at once.
    #[inline]
    pub(crate) fn read_chunk(&self) -> u32 {
        self.most / 8
    }

    /// Whether this many more bytes may be sent. A packet larger than the window goes alone.
    #[inline]
    pub(crate) fn has_room(&self, cost: u32) -> bool {
        self.in_flight == 0 || self.in_flight.saturating_add(cost) <= self.size
    }

    #[inline]
    pub(crate) fn acknowledged(&mut self, bytes: u32) {
        if self.size >= self.most {
            return;
        }
        if self.size < self.threshold {
            self.size = self.size.saturating_add(bytes).min(self.most);
            return;
        }
        self.grown = self.grown.saturating_add(bytes);
        if self.grown >= self.size {
            self.grown = 0;
            self.size = self.size.saturating_add(STEP).min(self.most);
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
        let mut window = Window::new(1 << 20);
        window.acknowledged(FIRST_WINDOW);
        assert_eq!(window.size(), 2 * FIRST_WINDOW);
        window.lost(1_000_000, 100_000);
        window.lost(1_090_000, 100_000);
        assert_eq!(window.size(), FIRST_WINDOW);
        window.acknowledged(FIRST_WINDOW);
        assert_eq!(window.size(), FIRST_WINDOW + STEP);
        window.marked(1_110_000, 100_000);
        assert_eq!(window.size(), (FIRST_WINDOW + STEP) / 4 * 3);
        (0..100).for_each(|step| window.lost(2_000_000 + 110_000 * step, 100_000));
        assert_eq!(window.size(), LEAST_WINDOW);
        (0..100_000).for_each(|_| window.acknowledged(4096));
        assert_eq!(window.size(), 1 << 20);
    }

    #[test]
    fn what_is_larger_than_all_goes_alone() {
        let mut window = Window::new(0);
        assert_eq!(window.size(), LEAST_WINDOW);
        assert!(window.has_room(u32::MAX));
        window.in_flight = 1;
        assert!(window.has_room(LEAST_WINDOW - 1) && !window.has_room(LEAST_WINDOW) && !window.has_room(u32::MAX));
    }
}
