//! A farm's own traffic: PATTERN records upward to a master, for measuring.

use crate::counters::FarmCounters;
use crate::pace::Pacer;
use crate::roster::Roster;
use frame::time::{MICROSECOND, MILLISECOND};
use frame::{Class, Datagram, Frame, Outbox, Peer, Time};
use std::num::{NonZeroU16, NonZeroU32};
use wire::record::{RecordHeader, req_id};
use wire::{HEADER_LEN, IPV4_UDP_LEN, MsgType, echo};

/// The most datagrams that one poll makes. If as many wait for a port, a poll makes none.
const PER_POLL: usize = 64;

/// How long delayed traffic (full port, empty pool) waits before it tries again.
const RETRY: u64 = 50 * MICROSECOND;
/// How long it waits if a whole round found no slave that can send.
const NOBODY: u64 = MILLISECOND;

/// The most slaves that one poll skips because they cannot send.
const SKIPS_PER_POLL: u32 = 1024;

/// What a farm sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficConfig {
    /// The master that it goes to.
    pub master: u16,
    /// Bytes of payload of each record, at least [`echo::MIN_LEN`].
    pub payload: u16,
    /// Records per second of the whole farm; `None` is as fast as the ports take them.
    pub rate: Option<u64>,
    /// Records of one slave in a row before the next slave's turn.
    pub burst: NonZeroU32,
    /// The most records that share a datagram; 1 is what slaves on separate machines send.
    pub pack: NonZeroU16,
    /// Stop after this many records; `None` never stops.
    pub records: Option<u64>,
}

/// Why traffic cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// The payload has no room for stamp and sequence.
    #[error("a payload of {0} bytes has no room for time and sequence: choose at least {min} \
        bytes", min = echo::MIN_LEN)]
    TooShort(u16),
    /// The record is larger than any datagram.
    #[error("a payload of {0} bytes is larger than any datagram: choose at most {MOST_PAYLOAD} bytes")]
    TooLong(u16),
}

/// Bytes of the largest payload that fits in the largest IPv4 packet.
pub const MOST_PAYLOAD: u16 = u16::MAX - IPV4_UDP_LEN - HEADER_LEN as u16;

impl TrafficConfig {
    /// Checks the sizes.
    ///
    /// # Errors
    /// The error is [`TrafficError::TooShort`] when the payload has no room for time and sequence. It is
    /// [`TrafficError::TooLong`] when it is above [`MOST_PAYLOAD`].
    pub fn check(&self) -> Result<(), TrafficError> {
        if usize::from(self.payload) < echo::MIN_LEN {
            return Err(TrafficError::TooShort(self.payload));
        }
        if self.payload > MOST_PAYLOAD { Err(TrafficError::TooLong(self.payload)) } else { Ok(()) }
    }
}

/// Where a slave's cargo goes: its gateway, and the largest IP packet towards it in bytes.
pub(crate) type Route = (Peer, u16);

/// A datagram that is being filled.
struct Open {
    frame: Frame,
    peer: Peer,
    records: u16,
    /// The smallest MTU of the slaves whose records are in it.
    mtu: u16,
}

impl Open {
    fn send(self, counters: &FarmCounters, out: &mut Outbox) {
        counters.traffic_datagrams.add(1);
        counters.traffic_records.add(u64::from(self.records));
        out.send(Datagram::new(self.frame, self.peer, Class::Up, self.records));
    }
}

/// The traffic of one farm; idle until it is started.
pub(crate) struct Traffic {
    /// The next sequence number of each slave. It continues when traffic is started again, because the stream is the
    /// same.
    sequences: Vec<u64>,
    /// The low 48 bits of the request id: the stream, which differs after each start of the process.
    stream: u64,
    config: Option<TrafficConfig>,
    pacer: Pacer,
    /// The slave whose turn it is, and how many records it has sent in this turn.
    turn: u32,
    sent_in_turn: u32,
    sent: u64,
    /// The earliest time of the next attempt: traffic was delayed.
    retry_at: Time,
}

impl Traffic {
    pub(crate) fn new(slaves: u32, stream: u64) -> Self {
        Self {
            sequences: vec![0; slaves as usize],
            stream,
            config: None,
            pacer: Pacer::new(Some(0), 0),
            turn: 0,
            sent_in_turn: 0,
            sent: 0,
            retry_at: 0,
        }
    }

    pub(crate) fn start(&mut self, now: Time, config: TrafficConfig) {
        self.pacer = Pacer::new(config.rate, now);
        (self.config, self.turn, self.sent_in_turn, self.sent, self.retry_at) = (Some(config), 0, 0, 0, 0);
    }

    pub(crate) fn stop(&mut self) {
        self.config = None;
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.config.and_then(|_| self.pacer.deadline()).map(|due| due.max(self.retry_at))
    }

    /// Sends what is due. `route` says where a slave's cargo goes, or `None` if it is not registered.
    pub(crate) fn advance(
        &mut self,
        now: Time,
        roster: &Roster,
        mut route: impl FnMut(u32) -> Option<Route>,
        counters: &FarmCounters,
        out: &mut Outbox,
    ) {
        let Some(config) = self.config.filter(|_| now >= self.retry_at) else { return };
        let most = PER_POLL as u32 * u32::from(config.pack.get());
        let mut due = u64::from(self.pacer.due(now, most));
        if let Some(records) = config.records {
            due = due.min(records.saturating_sub(self.sent));
        }
        let (mut open, mut done, mut skips): (Option<Open>, u32, u32) = (None, 0, 0);
        while u64::from(done) < due {
            let usable = route(self.turn).filter(|(peer, mtu)| fits(0, config.payload, peer, *mtu));
            let Some((peer, mtu)) = usable else {
                counters.traffic_skipped.add(1);
                self.next_turn(roster.len());
                skips += 1;
                if skips >= SKIPS_PER_POLL.min(roster.len()) { break } else { continue }
            };
            if out.backlog(peer.port) >= PER_POLL {
                break;
            }
            let full = |open: &Open| {
                open.peer != peer
                    || open.records >= config.pack.get()
                    || !fits(open.frame.len(), config.payload, &peer, open.mtu.min(mtu))
            };
            if let Some(open) = open.take_if(|open| full(open)) {
                open.send(counters, out);
            }
            let Some(target) = open.take().or_else(|| {
                let frame = out.alloc()?;
                Some(Open { frame, peer, records: 0, mtu })
            }) else {
                counters.traffic_no_frame.add(1);
                break;
            };
            match self.append(now, &config, roster, target) {
                Ok(filled) => open = Some(Open { mtu: filled.mtu.min(mtu), ..filled }),
                // The chunk is smaller than the MTU: its records are sent, and the next round begins a new one.
                Err(Some(filled)) => {
                    filled.send(counters, out);
                    continue;
                }
                Err(None) => {
                    counters.traffic_skipped.add(1);
                    self.next_turn(roster.len());
                    break;
                }
            }
            done += 1;
            self.sent_in_turn += 1;
            if self.sent_in_turn >= config.burst.get() {
                self.next_turn(roster.len());
            }
        }
        if let Some(open) = open {
            open.send(counters, out);
        }
        if u64::from(done) < due {
            self.retry_at = now.saturating_add(if done == 0 && skips > 0 { NOBODY } else { RETRY });
        }
        self.pacer.done(done);
        self.sent += u64::from(done);
        if config.records.is_some_and(|records| self.sent >= records) {
            self.stop();
        }
    }

    fn next_turn(&mut self, slaves: u32) {
        self.turn = if self.turn + 1 < slaves { self.turn + 1 } else { 0 };
        self.sent_in_turn = 0;
    }

    /// Appends the next record of the slave whose turn it is. On `Err` nothing was appended; the frame is returned if
    /// it holds records.
    fn append(
        &mut self,
        now: Time,
        config: &TrafficConfig,
        roster: &Roster,
        mut open: Open,
    ) -> Result<Open, Option<Open>> {
        let (Some(id), Some(sequence)) = (roster.id(self.turn), self.sequences.get_mut(self.turn as usize)) else {
            return Err(Some(open).filter(|open| open.records > 0));
        };
        let request = req_id(config.master, self.stream);
        let header = RecordHeader::new(MsgType::PATTERN, id.get(), request, u32::from(config.payload));
        let stamped = echo::EchoHeader::new(now, *sequence);
        match echo::emit(&header, &stamped, open.frame.tail_mut()) {
            Some(len) => {
                let (offset, whole) = (open.frame.headroom(), open.frame.len() + len);
                // Inside the chunk: `len` bytes of the tailroom were just written.
                open.frame.set_range(offset, whole);
                open.records += 1;
                *sequence += 1;
                Ok(open)
            }
            None => Err(Some(open).filter(|open| open.records > 0)),
        }
    }
}

/// Whether a record with this payload fits after `len` bytes in a datagram of an IP packet of `mtu` bytes to this peer.
fn fits(len: usize, payload: u16, peer: &Peer, mtu: u16) -> bool {
    len + HEADER_LEN + usize::from(payload) <= link::datagram_room(peer, mtu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;
    use frame::time::SECOND;
    use frame::{Hugepages, Pool, PoolConfig, PortId};
    use wire::{Scale, Walk};

    fn config() -> TrafficConfig {
        TrafficConfig {
            master: 3,
            payload: 64,
            rate: Some(1_000),
            burst: NonZeroU32::MIN,
            pack: NonZeroU16::MIN,
            records: None,
        }
    }

    fn outbox(frames: u32) -> Outbox {
        let config = PoolConfig { frames, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        Outbox::new(Pool::new(config).unwrap(), 1)
    }

    fn roster(first: u32, count: u32) -> Roster {
        Roster::new(Scale::default(), vec![Ids::range(Scale::default(), first, count).unwrap()]).unwrap()
    }

    fn peer(port: u16) -> Peer {
        Peer::socket(PortId(0), ([127, 0, 0, 1], port).into())
    }

    /// The records of each datagram: slave and sequence, and the peer's UDP port.
    fn sent(out: &mut Outbox) -> Vec<(u16, Vec<(u32, u64)>)> {
        let mut datagrams = Vec::new();
        while let Some(datagram) = out.queue(PortId(0)).unwrap().take() {
            let records: Vec<_> = Walk::new(datagram.frame.data(), Scale::default())
                .map(|item| {
                    let (id, record) = item.unwrap();
                    assert_eq!((record.header().msg_type(), record.header().master_id()), (MsgType::PATTERN, 3));
                    (id.get(), echo::check(&record).unwrap().sequence())
                })
                .collect();
            assert_eq!((usize::from(datagram.records), datagram.class), (records.len(), Class::Up));
            datagrams.push((datagram.peer.udp_port, records));
        }
        datagrams
    }

    #[test]
    fn a_datagram_is_no_larger_than_its_peers_headers_leave_room_for() {
        for (address, headers) in [("192.0.2.1:9999", 28), ("[2001:db8::1]:9999", 48)] {
            let peer = Peer::socket(PortId(0), address.parse().unwrap());
            let most = 1500 - headers - HEADER_LEN as u16;
            assert!(fits(0, most, &peer, 1500) && !fits(0, most + 1, &peer, 1500) && !fits(1, most, &peer, 1500));
        }
    }

    #[test]
    fn bursts_go_round_and_sequences_grow_per_slave() {
        let ids = roster(5, 2);
        let (mut traffic, counters, mut out) = (Traffic::new(2, 9), FarmCounters::default(), outbox(64));
        traffic.start(0, TrafficConfig { burst: NonZeroU32::new(2).unwrap(), ..config() });
        assert_eq!(traffic.deadline(), Some(SECOND / 1_000));
        traffic.advance(5 * SECOND / 1_000, &ids, |_| Some((peer(1), 1280)), &counters, &mut out);
        let expected = [(5, 0), (5, 1), (6, 0), (6, 1), (5, 2)].map(|record| (1, vec![record]));
        assert_eq!(sent(&mut out), expected);
        assert_eq!((counters.traffic_records.get(), counters.traffic_datagrams.get()), (5, 5));
    }

    #[test]
    fn packed_records_share_a_datagram_of_one_gateway_up_to_its_mtu() {
        let ids = roster(0, 4);
        let (mut traffic, counters, mut out) = (Traffic::new(4, 0), FarmCounters::default(), outbox(64));
        let pack = NonZeroU16::new(100).unwrap();
        traffic.start(0, TrafficConfig { pack, rate: None, records: Some(8), ..config() });
        // Two records of 87 bytes fit in 28 + 174 bytes; slave 3 is behind another gateway, slave 2 is not registered.
        let route = |index| match index {
            2 => None,
            3 => Some((peer(2), 1280)),
            _ => Some((peer(1), 28 + 174)),
        };
        traffic.advance(0, &ids, route, &counters, &mut out);
        assert_eq!(
            sent(&mut out),
            [
                (1, vec![(0, 0), (1, 0)]),
                (2, vec![(3, 0)]),
                (1, vec![(0, 1), (1, 1)]),
                (2, vec![(3, 1)]),
                (1, vec![(0, 2), (1, 2)]),
            ]
        );
        assert_eq!((traffic.deadline(), counters.traffic_skipped.get()), (None, 2));
    }

    #[test]
    fn a_full_port_an_empty_pool_and_a_small_chunk_hold_traffic_back() {
        let ids = roster(0, 4);
        let flat_out = TrafficConfig { rate: None, ..config() };
        let (mut traffic, counters, mut out) = (Traffic::new(4, 0), FarmCounters::default(), outbox(128));
        traffic.start(0, flat_out);
        for now in (0..4).map(|step| step * RETRY) {
            traffic.advance(now, &ids, |_| Some((peer(1), 1280)), &counters, &mut out);
        }
        assert!(out.backlog(PortId(0)) <= PER_POLL + 1, "{}", out.backlog(PortId(0)));

        let (mut traffic, mut out) = (Traffic::new(4, 0), outbox(4));
        traffic.start(0, flat_out);
        traffic.advance(0, &ids, |_| Some((peer(1), 1280)), &counters, &mut out);
        assert_eq!((out.backlog(PortId(0)), counters.traffic_no_frame.get()), (4, 1));
        assert_eq!(traffic.deadline(), Some(RETRY));

        let (mut traffic, mut out) = (Traffic::new(4, 0), outbox(4));
        let skipped = counters.traffic_skipped.get();
        traffic.start(0, flat_out);
        traffic.advance(0, &ids, |_| None, &counters, &mut out);
        assert_eq!((counters.traffic_skipped.get() - skipped, traffic.deadline()), (4, Some(NOBODY)));

        let (mut traffic, mut out) = (Traffic::new(4, 0), outbox(4));
        traffic.start(0, TrafficConfig { payload: 4096, ..flat_out });
        traffic.advance(0, &ids, |_| Some((peer(1), 9000)), &counters, &mut out);
        assert_eq!((out.backlog(PortId(0)), out.pool().in_use()), (0, 0));
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_with_the_remedy() {
        assert_eq!(config().check(), Ok(()));
        let error = TrafficConfig { payload: 15, ..config() }.check().unwrap_err().to_string();
        assert!(error.ends_with("choose at least 16 bytes"), "{error}");
        let error = TrafficConfig { payload: u16::MAX, ..config() }.check().unwrap_err().to_string();
        assert!(error.ends_with("choose at most 65484 bytes"), "{error}");
    }
}
