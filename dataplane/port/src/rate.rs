//! A port that sends at most so many bits in a second: it is around any other port.
//!
//! If several lcores share the port, each sends at most an even part of the rate. What may not leave yet stays in the
//! queue of the outbox, where it has its bound, and where roles see it: they stop receiving, or choose what to drop. If
//! more waits than the rate sends in 2 ms, what leaves has the mark Congestion Experienced, so that senders that listen
//! slow down. What is received has no limit.

use crate::around::PortAround;
use crate::both::Both;
use crate::{About, Port};
use frame::counter::CounterSet;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{BURST, Datagram, Peer, Time, TxQueue};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How far a port may be ahead of its rate, so that it need not be polled for each datagram.
const AHEAD: Time = 200 * MICROSECOND;

/// If more waits than the rate sends in this time, what leaves is marked.
const MARK_TIME: Time = 2 * MILLISECOND;

/// Fewer datagrams than this are never too many.
const LEAST_MARK: u64 = 16;

/// Bytes of headers that count for each datagram: UDP, IPv4 and Ethernet, with checksum, preamble and gap.
const HEADERS: u64 = 8 + 20 + 14 + 4 + 20;

/// The usual size of a datagram with all headers, to count what waits.
const USUAL: u64 = 1538;

/// Bits in a second: `200M`, `1G`, `500K`; 64 Kbit/s to 1 Tbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate(u64);

/// A text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rate={0} is not a rate: write bits in a second from 64K to 1000G, like rate=200M or rate=1G")]
pub struct RateError(String);

impl Rate {
    /// 64 Kbit/s.
    pub const LEAST: Self = Self(64_000);
    /// 1 Tbit/s.
    pub const MOST: Self = Self(1_000_000_000_000);

    /// So many bits in a second; `None` below [`Rate::LEAST`] and above [`Rate::MOST`].
    pub const fn new(bits: u64) -> Option<Self> {
        if bits < Self::LEAST.0 || bits > Self::MOST.0 { None } else { Some(Self(bits)) }
    }

    /// Bits in a second.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The time that a datagram with so many bytes takes, its headers included.
    #[inline]
    pub fn time_of(self, bytes: usize) -> Time {
        let bits = (bytes as u64 + HEADERS) * 8;
        // Less than 2^24 bits times 10^9 fits.
        (bits * SECOND).div_ceil(self.0)
    }

    /// Datagrams of the usual size that leave in a time.
    fn datagrams_in(self, time: Time) -> u64 {
        (u128::from(self.0) * u128::from(time) / u128::from(SECOND) / u128::from(8 * USUAL)) as u64
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let units = [('K', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
        let with_unit = |(name, unit)| Some((text.strip_suffix(name)?, unit));
        let (digits, unit) = units.into_iter().find_map(with_unit).unwrap_or((text, 1));
        let is_number = !digits.is_empty() && digits.len() <= 13 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = digits.parse::<u64>().ok().filter(|_| is_number).and_then(|number| number.checked_mul(unit));
        bits.and_then(Self::new).ok_or_else(|| RateError(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K"), (1, "")];
        let (unit, name) = units.into_iter().find(|(unit, _)| self.0.is_multiple_of(*unit)).unwrap_or((1, ""));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// The rate of a port, and how many lcores share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    rate: Rate,
    lcores: u16,
    /// What each lcore may send.
    part: Rate,
}

impl Limit {
    /// A rate that `lcores` share evenly, each for itself; `None` if the part of one is no [`Rate`].
    pub fn new(rate: Rate, lcores: u16) -> Option<Self> {
        let lcores = lcores.max(1);
        Some(Self { rate, lcores, part: Rate::new(rate.0 / u64::from(lcores))? })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sends at most {}bit/s", self.rate)?;
        if self.lcores > 1 {
            write!(f, " on {} lcores together", self.lcores)?;
        }
        Ok(())
    }
}

frame::counters! {
    /// What a port with a rate (`rate=`) counts in addition to the counters of its kind.
    pub struct RateCounters {
        /// Datagrams that waited before they left, because the port had sent what its rate allows.
        tx_rate_delayed,
        /// Polls after which datagrams waited, because the port had sent what its rate allows.
        tx_rate_held,
    }
}

/// See the module's documentation.
pub struct RatedPort<P> {
    inner: P,
    limit: Limit,
    /// Until when the line would be busy with what was sent.
    busy_until: Time,
    /// More datagrams than this are too many.
    mark: u64,
    lent: Option<TxQueue>,
    /// Until then nothing leaves, though something waits.
    held_until: Option<Time>,
    /// Of the datagrams that wait, how many the rate has held back. They are the first.
    held: usize,
    counters: Arc<RateCounters>,
}

impl<P: Port> RatedPort<P> {
    /// A port that sends its part of so many bits in a second.
    pub fn new(inner: P, limit: Limit) -> Self {
        let mark = limit.part.datagrams_in(MARK_TIME).max(LEAST_MARK);
        Self { inner, limit, busy_until: 0, mark, lent: None, held_until: None, held: 0, counters: Arc::default() }
    }

    /// Sends some datagrams, at most those that the rate allows. Returns how many left the queue, and whether the port
    /// inside had room for all of them.
    fn send_some(&mut self, now: Time, queue: &mut TxQueue, lent: &mut TxQueue) -> (usize, bool) {
        let mut ends = [0; BURST];
        let (mut number, mut end) = (0, self.busy_until.max(now));
        let is_crowded = queue.cargo() as u64 > self.mark;
        let (rate, limit) = (self.limit.part, now + AHEAD);
        queue.lend_while(lent, is_crowded, |datagram: &Datagram| {
            if end > limit {
                return false;
            }
            end += rate.time_of(datagram.frame.len());
            if let Some(at) = ends.get_mut(number) {
                *at = end;
            }
            number += 1;
            true
        });
        // Also without datagrams: slow destinations wait in queues that are lent, too.
        let sent = self.inner.tx_burst(now, lent);
        let (left, _) = queue.take_back(lent);
        if let Some(&end) = left.checked_sub(1).and_then(|last| ends.get(last)) {
            self.busy_until = end;
        }
        (sent, left == number)
    }
}

impl<P: Port> PortAround for RatedPort<P> {
    type Inner = P;

    fn inner(&self) -> &P {
        &self.inner
    }

    fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        let mut lent = self.lent.take().unwrap_or_else(|| queue.sibling());
        let mut sent = 0;
        let has_room = loop {
            let (some, has_room) = self.send_some(now, queue, &mut lent);
            sent += some;
            if !has_room || queue.backlog() == 0 || self.busy_until > now + AHEAD {
                break has_room;
            }
        };
        self.lent = Some(lent);
        // Those that were held are in front.
        let delayed = self.held.min(sent);
        self.counters.tx_rate_delayed.add(delayed as u64);
        if has_room && queue.backlog() > 0 {
            self.held = queue.backlog();
            self.held_until = Some(self.busy_until.saturating_sub(AHEAD));
            self.counters.tx_rate_held.add(1);
        } else {
            self.held -= delayed;
            self.held_until = None;
        }
        sent
    }

    fn wants_writable(&self) -> bool {
        // Room in the port inside is of no use before the time has come.
        self.held_until.is_none() && self.inner.wants_writable()
    }

    fn deadline(&self) -> Option<Time> {
        self.held_until.or(self.inner.deadline())
    }

    fn describe(&self) -> String {
        format!("{}, {}", self.inner.describe(), self.limit)
    }

    fn about(&self) -> Arc<dyn About> {
        Arc::new(RatedAbout { inner: self.inner.about(), limit: self.limit })
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        let second = Arc::<RateCounters>::clone(&self.counters);
        Arc::new(Both { first: self.inner.counters(), second })
    }
}

/// Facts about the port inside, and the rate.
struct RatedAbout {
    inner: Arc<dyn About>,
    limit: Limit,
}

impl About for RatedAbout {
    fn describe(&self) -> String {
        format!("{}, {}", self.inner.describe(), self.limit)
    }

    fn mtu(&self) -> u16 {
        self.inner.mtu()
    }

    fn own_end(&self) -> Option<Peer> {
        self.inner.own_end()
    }

    fn link(&self) -> Option<crate::watch::Link> {
        self.inner.link()
    }
}

#[cfg(test)]
mod tests {
    // Not all of `super`: `Port` and `PortAround` have methods of the same name.
    use super::{AHEAD, HEADERS, Limit, Rate, RatedPort};
    use crate::Port;
    use crate::headers::Local;
    use crate::memory::{MemoryConfig, MemoryPort};
    use frame::counter::Kind;
    use frame::time::{MILLISECOND, SECOND};
    use frame::{Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Time, Vlan};
    use proptest::prelude::*;

    #[test]
    fn rates_read_and_write_themselves() {
        for text in ["64K", "200M", "1G", "1500K", "1000G", "123456"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("1000M".parse::<Rate>().unwrap().to_string(), "1G");
        for text in ["", "M", "63K", "1001G", "1.5G", "-1M", "1GG", "10m", "99999999999999G", "+1M"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("like rate=200M"), "{text}: {error}");
        }
        // 1,250 bytes with headers are 10,000 bits.
        assert_eq!("10M".parse::<Rate>().unwrap().time_of(1250 - HEADERS as usize), MILLISECOND);
    }

    /// An outbox, and a port with a rate whose line is memory.
    struct World {
        out: Outbox,
        port: RatedPort<MemoryPort>,
        now: Time,
        /// What left: when, and how many bits with headers.
        left: Vec<(Time, u64)>,
        marked: u64,
        next: u16,
        expected: u16,
    }

    impl World {
        fn new(rate: Rate, ring: usize) -> Self {
            let config = PoolConfig { frames: 512, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
            let pool = Pool::new(config).unwrap();
            let local = Local { mac: [2, 0, 0, 0, 0, 1], ip: [10, 0, 0, 1], udp_port: 7000 };
            let config = MemoryConfig { local, mtu: 1500, rx_ring: 16, tx_ring: ring };
            let limit = Limit::new(rate, 1).unwrap();
            let port = RatedPort::new(MemoryPort::new(PortId(0), config, pool.clone()), limit);
            Self { out: Outbox::new(pool, 1), port, now: SECOND, left: Vec::new(), marked: 0, next: 0, expected: 0 }
        }

        fn queue(&mut self, bytes: usize) {
            let Some(mut frame) = self.out.alloc() else { return };
            let mut data = vec![0; bytes];
            data[..2].copy_from_slice(&self.next.to_le_bytes());
            assert!(frame.append(&data));
            self.next += 1;
            let peer = Peer::ipv4(PortId(0), [10, 0, 0, 2], 9999, Vlan::UNTAGGED, [2, 0, 0, 0, 0, 2]);
            self.out.send(Datagram::new(frame, peer, Class::Up, 1));
        }

        fn poll(&mut self) {
            if let Some(queue) = self.out.queue(PortId(0))
                && !queue.is_empty()
            {
                self.port.tx_burst(self.now, queue);
                queue.rewind();
            }
            assert_eq!(self.out.pool().in_use() as usize, self.out.frames() + self.port.frames_held());
            while let Some(frame) = self.port.inner.collect() {
                let data = frame.data();
                let headers = 14 + 20 + 8;
                assert_eq!(u16::from_le_bytes([data[headers], data[headers + 1]]), self.expected, "in order");
                self.expected += 1;
                self.marked += u64::from(data[15] & 3 == 3);
                self.left.push((self.now, (data.len() - headers) as u64 * 8 + HEADERS * 8));
            }
        }
    }

    proptest! {
        /// No frame is lost, the order stays, and in no time more leaves than the rate allows. Polled when it asks for
        /// it, the port uses the rate.
        #[test]
        fn its_books_balance_and_the_rate_is_kept(
            mbit in 1u64..2_000,
            ring in prop_oneof![Just(1usize), Just(8), Just(256)],
            steps in proptest::collection::vec((0u64..300_000, 0usize..40, 2usize..1400), 1..40),
        ) {
            let rate = Rate::new(mbit * 1_000_000).unwrap();
            let mut world = World::new(rate, ring);
            for (wait, count, bytes) in steps {
                (0..count).for_each(|_| world.queue(bytes));
                world.poll();
                world.now += wait;
            }
            let (begin, waiting) = (world.now, world.out.frames() as u64);
            let mut polls = 0;
            while !world.out.is_empty() {
                world.poll();
                world.now = world.port.deadline().map_or(world.now + 1, |at| at.max(world.now + 1));
                polls += 1;
                prop_assert!(polls < 100_000);
            }
            world.poll();
            prop_assert_eq!((world.expected, world.out.pool().in_use()), (world.next, 0));
            prop_assert_eq!(world.out.counters().up.datagrams_out.get(), u64::from(world.next));
            prop_assert_eq!(world.out.counters().up.ce_marked.get(), world.marked);
            // What waited leaves at the rate; a ring of one datagram costs a nanosecond for each.
            let bits = waiting * (1400 + HEADERS) * 8;
            let most = AHEAD + bits * SECOND / (mbit * 1_000_000) + 2 * waiting + 10;
            prop_assert!(world.now - begin <= most, "{} of {most}", world.now - begin);
            for (number, (from, _)) in world.left.iter().enumerate() {
                let mut bits = 0;
                for (until, more) in &world.left[number..] {
                    bits += more;
                    let time = until - from + AHEAD + rate.time_of(1400);
                    let most = u128::from(time) * u128::from(mbit) / 1000 + 1;
                    prop_assert!(u128::from(bits) <= most, "{bits} bits in {time} ns");
                }
            }
        }
    }

    #[test]
    fn what_leaves_while_too_much_waits_is_marked() {
        let mut world = World::new("10M".parse().unwrap(), 256);
        (0..40).for_each(|_| world.queue(1000));
        while !world.out.is_empty() {
            world.poll();
            world.now = world.port.deadline().unwrap_or(world.now);
        }
        world.poll();
        // More than 16 wait until 24 have left; all that leave in one poll are judged together.
        assert!((23..=25).contains(&world.marked), "{}", world.marked);
        assert_eq!(world.port.deadline(), None);
        assert_eq!(world.port.describe(), "memory 10.0.0.1:7000 MTU 1500, sends at most 10Mbit/s");
        assert_eq!(world.port.about().describe(), world.port.describe());
    }

    fn counters(world: &World) -> (u64, u64) {
        let (mut delayed, mut held) = (0, 0);
        world.port.counters().visit(&mut |name, _, value| match name {
            "tx_rate_delayed" => delayed = value,
            "tx_rate_held" => held = value,
            _ => {}
        });
        (delayed, held)
    }

    #[test]
    fn each_datagram_that_waits_for_the_rate_counts_once() {
        let mut world = World::new("10M".parse().unwrap(), 256);
        // 1,066 bytes are 853 us at this rate. So one leaves at once, and each poll at the deadline sends one more.
        (0..5).for_each(|_| world.queue(1000));
        world.poll();
        assert_eq!((world.left.len(), counters(&world)), (1, (0, 1)));
        let mut polls = 1;
        while let Some(at) = world.port.deadline() {
            world.now = at;
            world.poll();
            polls += 1;
        }
        assert_eq!((polls, world.left.len(), counters(&world)), (5, 5, (4, 4)));
        // What comes later and leaves at once did not wait.
        world.now += SECOND;
        world.queue(1000);
        world.poll();
        assert_eq!((world.left.len(), counters(&world)), (6, (4, 4)));
        let set = world.port.counters();
        assert_eq!((set.name(), set.kind("tx_rate_held")), ("MemoryCounters", Kind::Counter));
    }

    #[test]
    fn a_full_ring_is_no_delay_by_the_rate() {
        let mut world = World::new("1G".parse().unwrap(), 2);
        (0..6).for_each(|_| world.queue(100));
        for left in [2, 4, 6] {
            world.poll();
            assert_eq!((world.left.len(), counters(&world), world.port.deadline()), (left, (0, 0), None));
        }
    }

    #[test]
    fn lcores_share_a_rate() {
        let rate: Rate = "1G".parse().unwrap();
        let limit = Limit::new(rate, 4).unwrap();
        assert_eq!(
            (limit.part.to_string(), limit.to_string()),
            ("250M".into(), "sends at most 1Gbit/s on 4 lcores together".into())
        );
        assert_eq!(Limit::new(rate, 0), Limit::new(rate, 1));
        assert_eq!(Limit::new("100K".parse().unwrap(), 2), None, "less than 64K for each");
    }
}
