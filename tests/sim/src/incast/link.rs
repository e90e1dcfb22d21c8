//! A link: rate, delay, and a queue with an end.

use frame::Time;
use frame::time::SECOND;

/// Bytes that a datagram takes on the wire in addition to its own: UDP, IPv4 and Ethernet headers, checksum, preamble
/// and gap.
pub const FRAMING: u64 = 8 + 20 + 14 + 4 + 20;

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub struct LinkSpec {
    /// Its rate in Mbit/s.
    pub mbit: u64,
    /// The time that a bit is under way.
    pub delay: Time,
    /// Bytes that wait before it at most. What comes then is lost.
    pub queue: u64,
    /// With more bytes than this before it, a datagram is marked; `None` if the switch marks nothing.
    pub mark: Option<u64>,
}

/// One direction of a link, with its queue.
///
/// The queue needs no list: what waits leaves at the link's rate, so that the time until which the link is busy says
/// how much waits.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    spec: LinkSpec,
    busy_until: Time,
    /// Bytes that were taken, with their framing.
    pub carried: u64,
    /// Datagrams that were taken, lost and marked.
    pub taken: u64,
    /// Datagrams that were lost.
    pub lost: u64,
    /// Datagrams that were marked here.
    pub marked: u64,
    /// The most bytes that waited.
    pub longest: u64,
}

impl Link {
    /// An idle link.
    pub fn new(spec: LinkSpec) -> Self {
        Self { spec, busy_until: 0, carried: 0, taken: 0, lost: 0, marked: 0, longest: 0 }
    }

    /// What it is like.
    pub fn spec(&self) -> &LinkSpec {
        &self.spec
    }

    /// The time that so many bytes take.
    pub fn time_of(&self, bytes: u64) -> Time {
        (u128::from(bytes) * 8 * u128::from(SECOND) / (u128::from(self.spec.mbit) * 1_000_000)) as Time
    }

    /// Bytes that wait.
    pub fn waiting(&self, now: Time) -> u64 {
        let time = self.busy_until.saturating_sub(now);
        (u128::from(time) * u128::from(self.spec.mbit) * 1_000_000 / (8 * u128::from(SECOND))) as u64
    }

    /// When not more than so many bytes wait.
    pub fn has_room_at(&self, bytes: u64) -> Time {
        self.busy_until.saturating_sub(self.time_of(bytes))
    }

    /// Takes a datagram with so many bytes. Returns when it arrives at the other end, and whether it was marked; `None`
    /// if it is lost.
    pub fn take(&mut self, now: Time, bytes: usize) -> Option<(Time, bool)> {
        let (bytes, waiting) = (bytes as u64 + FRAMING, self.waiting(now));
        if waiting + bytes > self.spec.queue {
            self.lost += 1;
            return None;
        }
        self.longest = self.longest.max(waiting + bytes);
        self.busy_until = self.busy_until.max(now) + self.time_of(bytes);
        (self.carried, self.taken) = (self.carried + bytes, self.taken + 1);
        let marked = self.spec.mark.is_some_and(|mark| waiting > mark);
        self.marked += u64::from(marked);
        Some((self.busy_until + self.spec.delay, marked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_rate_a_delay_a_mark_and_an_end() {
        let mut link = Link::new(LinkSpec { mbit: 1000, delay: 500, queue: 3000, mark: Some(1500) });
        let bytes = 1000 - FRAMING as usize;
        // 1,000 bytes take 8 us at 1 Gbit/s.
        assert_eq!(link.take(0, bytes), Some((8_500, false)));
        assert_eq!(link.take(0, bytes), Some((16_500, false)));
        assert_eq!((link.waiting(0), link.waiting(4_000), link.has_room_at(1500)), (2000, 1500, 4_000));
        assert_eq!(link.take(0, bytes), Some((24_500, true)));
        assert_eq!(link.take(0, bytes), None);
        assert_eq!(link.take(30_000, bytes), Some((38_500, false)));
        assert_eq!((link.taken, link.lost, link.marked, link.carried, link.longest), (4, 1, 1, 4000, 3000));
    }
}
