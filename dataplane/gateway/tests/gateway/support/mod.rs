//! One gateway between literal datagrams. The test controls every byte, every frame and every nanosecond.
#![allow(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod model;

use frame::counter::CounterSet;
use frame::{Burst, Class, Datagram, Frame, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use link::{Route, RouteChange};
use std::collections::BTreeMap;
use wire::net::checksum;
use wire::record::{FRAG_PUSH, emit, req_id};
use wire::{HEADER_LEN, IPV4_UDP_LEN, MsgType, RecordHeader, Scale, Shard, ShardSet, SlaveId};

/// The hold of [`config`].
pub(crate) const HOLD: Time = 40_000;
/// The lane to masters of [`config`].
pub(crate) const LANE: u16 = 700;
/// The first moment of every test.
pub(crate) const START: Time = 1_000_000_000;
/// The MTU of [`Rig::with_nodes`].
pub(crate) const MTU: u16 = 1500;
/// What [`MTU`] leaves for a datagram.
pub(crate) const LIMIT: usize = (MTU - IPV4_UDP_LEN) as usize;

/// 64 slaves in four shards of 16.
pub(crate) fn scale() -> Scale {
    Scale::new(6, 4).unwrap()
}

pub(crate) fn slave_id(id: u32) -> SlaveId {
    scale().slave_id(id).unwrap()
}

/// Shards 1 and 2: slaves 16 to 47. Early flush is off, and the pool never runs low.
pub(crate) fn config() -> GatewayConfig {
    let shards = ShardSet::new(scale(), &[Shard(1), Shard(2)]).unwrap();
    GatewayConfig { hold: HOLD, early: false, masters: 4, low_water: 0, lane: LANE, ..GatewayConfig::new(shards) }
}

pub(crate) fn pool(frames: u32) -> PoolConfig {
    PoolConfig { frames, chunk: 2048, hugepages: Hugepages::Never, reserve: 0 }
}

/// Where master `id` is: on port 0.
pub(crate) fn master(id: u16) -> Peer {
    Peer::ipv4(PortId(0), [10, 0, 0, id as u8], 9999, Vlan::UNTAGGED, [2, 0, 0, 0, 0, id as u8])
}

/// Where slave `id` is: on port 1.
pub(crate) fn slave(id: u32) -> Peer {
    Peer::ipv4(PortId(1), [10, 1, 0, id as u8], 49152, Vlan::UNTAGGED, [2, 1, 0, 0, 0, id as u8])
}

/// A copy of a peer, changed by `change`.
pub(crate) fn but(mut peer: Peer, change: impl FnOnce(&mut Peer)) -> Peer {
    change(&mut peer);
    peer
}

pub(crate) fn route(peer: Peer, mtu: u16) -> Route {
    Route { peer, mtu, fixed_port: false }
}

/// A record of any type; its payload depends on `number`.
pub(crate) fn record(kind: MsgType, slave: u32, master: u16, number: u64, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|at| (number as usize * 31 + at * 7) as u8).collect();
    let header = RecordHeader::new(kind, slave, req_id(master, number), len as u32);
    let mut bytes = vec![0; HEADER_LEN + len];
    emit(&header, &payload, &mut bytes).unwrap();
    bytes
}

/// A record of cargo between a slave and a master, `HEADER_LEN + len` bytes long.
pub(crate) fn cargo(slave: u32, master: u16, number: u64, len: usize) -> Vec<u8> {
    record(MsgType::OPAQUE, slave, master, number, len)
}

/// The same record with PUSH.
pub(crate) fn pushing(mut record: Vec<u8>) -> Vec<u8> {
    record[HEADER_LEN - 1] |= FRAG_PUSH;
    record
}

/// Records of cargo with the numbers `numbers`, back to back.
pub(crate) fn cargoes(slave: u32, master: u16, numbers: std::ops::Range<u64>, len: usize) -> Vec<u8> {
    numbers.flat_map(|number| cargo(slave, master, number, len)).collect()
}

/// A datagram that a port took for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub to: Peer,
    pub class: Class,
    pub records: u16,
    pub ce: bool,
    pub bytes: Vec<u8>,
    /// Number of the frame that it lay in.
    pub frame: u32,
    /// Whether the sum of its bytes is known.
    pub summed: bool,
}

/// Properties of a received datagram other than its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub ce: bool,
    /// Bytes of the chunk before the data.
    pub headroom: usize,
}

impl Default for Arrival {
    fn default() -> Self {
        // The headroom of XDP (256) and the largest headers of an IPv4 packet.
        Self { ce: false, headroom: 256 + 46 }
    }
}

/// A gateway with its pool and outbox. Every step ends with [`Rig::check`].
pub(crate) struct Rig {
    pub pool: Pool,
    pub gateway: Gateway,
    pub out: Outbox,
    pub now: Time,
    /// Frames that are out of the pool, as those in a fill ring or a full TX ring.
    pub lent: Vec<Frame>,
    /// The lane of cargo to masters.
    lane: u16,
}

/// A peer without the source that we send from.
pub(crate) fn without_source(peer: Peer) -> Peer {
    but(peer, |peer| peer.source_port = 0)
}

/// The UDP port that a raw port should send from: that of the slave's lane, that of this lcore's lane, or the port's
/// own one for link control.
fn source_port(class: Class, bytes: &[u8], lane: u16) -> u16 {
    match class {
        Class::Link => 0,
        Class::Up => 49_152 + lane,
        Class::Down => 49_152 + (u32::from_le_bytes(bytes[6..10].try_into().unwrap()) & 1023) as u16,
    }
}

/// Values of all counters, by direction or owner and name.
pub(crate) type Counts = BTreeMap<String, u64>;

impl Rig {
    pub(crate) fn new(config: GatewayConfig, pool: PoolConfig) -> Self {
        let pool = Pool::new(pool).unwrap();
        Self {
            lane: config.lane,
            gateway: Gateway::new(config, &pool).unwrap(),
            out: Outbox::new(pool.clone(), 2),
            pool,
            now: START,
            lent: Vec::new(),
        }
    }

    /// Masters 1 and 2 and slaves 16 to 47, all with [`MTU`].
    pub(crate) fn with_nodes(config: GatewayConfig) -> Self {
        let mut rig = Self::new(config, pool(256));
        for id in 1..=2 {
            rig.set_master(id, Some(route(master(id), MTU)));
        }
        for id in 16..48 {
            rig.set_slave(id, Some(route(slave(id), MTU)));
        }
        rig
    }

    pub(crate) fn set_slave(&mut self, id: u32, route: Option<Route>) {
        self.command(GatewayCommand::Route(RouteChange::Slave { id: slave_id(id), route }));
    }

    pub(crate) fn set_master(&mut self, id: u16, route: Option<Route>) {
        self.command(GatewayCommand::Route(RouteChange::Master { id, route }));
    }

    pub(crate) fn command(&mut self, command: GatewayCommand) {
        self.gateway.command(self.now, command, &mut self.out);
        self.check();
    }

    /// Takes frames out of the pool until `left` are free.
    pub(crate) fn lend_all_but(&mut self, left: u32) {
        while self.pool.free() > left {
            self.lent.extend(self.pool.alloc_reserved());
        }
    }

    /// A received datagram; `None` when the pool has no frame for it.
    pub(crate) fn datagram(&self, from: Peer, bytes: &[u8], arrival: Arrival) -> Option<Datagram> {
        let mut frame = self.pool.alloc_reserved()?;
        assert!(frame.set_range(arrival.headroom, 0) && frame.append(bytes), "the datagram does not fit a chunk");
        // Some ports know the sum of the bytes and some do not. The gateway must work with both.
        let sum = (!bytes.len().is_multiple_of(3)).then(|| checksum::folded(checksum::sum(bytes)));
        Some(Datagram { ce: arrival.ce, sum, ..Datagram::new(frame, from, Class::Link, 0) })
    }

    /// Receives a burst as one port would hand it over.
    pub(crate) fn receive_burst(&mut self, burst: Vec<Datagram>) {
        let port = burst.first().map_or(PortId(0), |datagram| datagram.peer.port);
        let mut received = Burst::new();
        for datagram in burst {
            received.push(datagram).expect("a burst has at most 64 datagrams");
        }
        self.gateway.receive(self.now, port, &mut received, &mut self.out);
        assert!(received.is_empty(), "a burst is empty afterwards");
        self.check();
    }

    /// Receives the datagrams as one burst; returns the frames in which they came.
    pub(crate) fn receive(&mut self, datagrams: &[(Peer, &[u8])]) -> Vec<u32> {
        let burst: Vec<_> = datagrams
            .iter()
            .map(|(from, bytes)| self.datagram(*from, bytes, Arrival::default()).expect("the pool is large enough"))
            .collect();
        let frames = burst.iter().map(|datagram| datagram.frame.index()).collect();
        self.receive_burst(burst);
        frames
    }

    /// Receives one datagram; returns the frame in which it came.
    pub(crate) fn receive_one(&mut self, from: Peer, bytes: &[u8]) -> u32 {
        self.receive(&[(from, bytes)])[0]
    }

    /// Lets time pass, then does what one poll does.
    pub(crate) fn advance(&mut self, nanoseconds: Time) {
        self.now += nanoseconds;
        self.gateway.advance(self.now, &mut self.out);
        self.check();
    }

    /// Takes the datagrams that wait for a port, as a TX ring with room does.
    pub(crate) fn sent_on(&mut self, port: u8) -> Vec<Sent> {
        let queue = self.out.queue(PortId(port)).unwrap();
        let mut sent = Vec::new();
        while let Some(Datagram { frame, peer, records, class, ce, sum }) = queue.take() {
            if let Some(sum) = sum {
                assert_eq!(sum, checksum::folded(checksum::sum(frame.data())), "the sum of the bytes to {peer}");
            }
            assert_eq!(peer.source_port, source_port(class, frame.data(), self.lane), "{class:?} to {peer}");
            let to = without_source(peer);
            sent.push(Sent {
                to,
                class,
                records,
                ce,
                bytes: frame.data().to_vec(),
                frame: frame.index(),
                summed: sum.is_some(),
            });
        }
        self.check();
        sent
    }

    /// Takes the datagrams that wait for any port, those of port 0 first.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut sent = self.sent_on(0);
        sent.extend(self.sent_on(1));
        sent
    }

    /// As [`Rig::sent`], but only the destination and the bytes of each datagram.
    pub(crate) fn sent_bytes(&mut self) -> Vec<(Peer, Vec<u8>)> {
        self.sent().into_iter().map(|sent| (sent.to, sent.bytes)).collect()
    }

    /// All counters.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        let counters = self.gateway.counters();
        let sets: [(&str, &dyn CounterSet); 4] = [
            ("down", &counters.down),
            ("up", &counters.up),
            ("flush", &counters.flush),
            ("tx", &**self.out.counters()),
        ];
        for (owner, set) in sets {
            set.visit(&mut |name, _, value| {
                counts.insert(format!("{owner}.{name}"), value);
            });
        }
        counts
    }

    /// The counters that differ from `before`, and by how much. `buffers_open*` is left out: every burst changes it,
    /// and it is a gauge that the next advance sets.
    pub(crate) fn changed(&self, before: &Counts) -> Vec<(String, i64)> {
        let differs = |(name, now): (String, u64)| {
            let difference = now.wrapping_sub(before[&name]) as i64;
            (difference != 0 && !name.starts_with("flush.buffers_open")).then_some((name, difference))
        };
        self.counts().into_iter().filter_map(differs).collect()
    }

    /// Asserts that exactly these counters changed since `before`, by these amounts.
    #[track_caller]
    pub(crate) fn assert_changed(&self, before: &Counts, expected: &[(&str, i64)]) {
        let mut expected: Vec<_> = expected.iter().map(|&(name, by)| (name.to_owned(), by)).collect();
        expected.sort();
        assert_eq!(self.changed(before), expected);
    }

    /// Records that wait in aggregation buffers, downward and upward.
    pub(crate) fn held(&self) -> (u64, u64) {
        let counters = self.gateway.counters();
        (counters.down.held.get(), counters.up.held.get())
    }

    /// Checks the equation of each direction, and that of the frames. The caller must not hold a burst.
    #[track_caller]
    pub(crate) fn check(&self) {
        let (counters, tx) = (self.gateway.counters(), self.out.counters());
        let directions = [("down", &counters.down, &tx.down), ("up", &counters.up, &tx.up)];
        for (name, direction, left) in directions {
            let (records_in, held) = (direction.records_in.get(), direction.held.get());
            let (out, queued, failed) =
                (left.records_out.get(), left.records_queued.get(), left.records_dropped_tx.get());
            let dropped = direction.dropped();
            assert_eq!(
                u128::from(records_in),
                [out, held, queued, failed, dropped].into_iter().map(u128::from).sum::<u128>(),
                "{name}: {records_in} in; {out} out, {held} held, {queued} queued, {failed} failed, {dropped} dropped"
            );
        }
        let flush = &counters.flush;
        let causes = [&flush.flush_full, &flush.flush_hold, &flush.flush_early, &flush.flush_room];
        let causes = causes.into_iter().chain([&flush.flush_order, &flush.flush_push, &flush.flush_drain]);
        let left: u64 = causes.map(|counter| counter.get()).sum();
        let (holds, sizes) = (counters.left.hold_ns.snapshot(), counters.left.records_per_datagram.snapshot());
        assert_eq!((holds.count(), sizes.count()), (left, left + flush.forwarded_whole.get()), "histograms");
        let sent = [&tx.down, &tx.up].map(|left| [&left.records_out, &left.records_queued, &left.records_dropped_tx]);
        assert_eq!(
            sizes.sum,
            sent.into_iter().flatten().map(|counter| counter.get()).sum(),
            "every record left in a datagram"
        );
        let owned = self.gateway.frames_held() + self.out.frames() + self.lent.len();
        assert_eq!(self.pool.in_use() as usize, owned, "frames are conserved");
    }
}
