//! A gateway on a socket of the loopback, and around it a master that sends and a place that hears for all slaves.

use crate::input::MASTER;
use anyhow::{Context as _, ensure};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Time};
use gateway::{Gateway, GatewayCommand, GatewayConfig, GatewayCounters};
use lcore::Clock;
use link::{Route, RouteChange};
use port::Port as _;
use port::udp::{UdpOptions, UdpPort};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use wire::record::{HEADER_LEN, MsgType, RecordHeader, emit, req_id};
use wire::{Scale, ShardSet, Walk};

/// Bytes of payload of each record.
pub(super) const PAYLOAD: usize = 64;

/// The largest IP packet on every way, as on Ethernet.
const MTU: u16 = 1500;

/// The only port of each.
const PORT: PortId = PortId(0);

/// A socket of the loopback with any port.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A pool of this many frames.
pub(super) fn pool(frames: u32) -> anyhow::Result<Pool> {
    Ok(Pool::new(PoolConfig { frames, hugepages: Hugepages::Prefer, ..PoolConfig::default() })?)
}

/// A socket with these options.
pub(super) fn socket(pool: &Pool, options: UdpOptions) -> anyhow::Result<UdpPort> {
    Ok(UdpPort::open(PORT, ANY, pool.clone(), options)?)
}

/// Where the nodes of a gateway are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nodes {
    /// How many slaves there are.
    pub(super) slaves: u32,
    /// Where the master sends from.
    pub(super) master: SocketAddr,
    /// Where all slaves are.
    pub(super) farm: SocketAddr,
}

/// A gateway that knows these nodes.
pub(super) fn gateway(pool: &Pool, nodes: Nodes, hold: Time) -> anyhow::Result<Gateway> {
    let scale = Scale::default();
    let config = GatewayConfig { hold, ..GatewayConfig::new(ShardSet::all(scale)) };
    let mut gateway = Gateway::new(config, pool)?;
    let mut out = Outbox::new(pool.clone(), 1);
    let route = |address| Some(Route { peer: Peer::socket(PORT, address), mtu: MTU, fixed_port: false });
    use frame::Role as _;
    for id in 0..nodes.slaves {
        let id = scale.slave_id(id).context("an id in range")?;
        let route = route(nodes.farm);
        gateway.command(0, GatewayCommand::Route(RouteChange::Slave { id, route }), &mut out);
    }
    let route = route(nodes.master);
    gateway.command(0, GatewayCommand::Route(RouteChange::Master { id: MASTER, route }), &mut out);
    Ok(gateway)
}

/// A master: records of one each in a datagram, to slaves in turn, each with its number and the time of its departure.
pub(super) struct Master {
    port: UdpPort,
    out: Outbox,
    to: Peer,
    slaves: u32,
    /// Records made so far.
    made: u64,
}

impl Master {
    /// A master whose datagrams leave as trains, or one by one.
    pub(super) fn new(slaves: u32, trains: bool) -> anyhow::Result<Self> {
        let pool = pool(16_384)?;
        let port = socket(&pool, UdpOptions { segment: trains, ..UdpOptions::default() })?;
        Ok(Self { port, out: Outbox::new(pool, 1), to: Peer::socket(PORT, ANY), slaves, made: 0 })
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        self.port.local_addr()
    }

    /// From now on it sends there.
    pub(super) fn send_to(&mut self, gateway: SocketAddr) {
        self.to = Peer::socket(PORT, gateway);
    }

    /// Makes and sends this many records; returns how many left. A full send buffer delays the others.
    pub(super) fn send(&mut self, now: Time, records: u64) -> anyhow::Result<()> {
        let mut bytes = [0u8; HEADER_LEN + PAYLOAD];
        for _ in 0..records {
            let slave = (self.made % u64::from(self.slaves)) as u32;
            let mut payload = [0u8; PAYLOAD];
            payload[..8].copy_from_slice(&now.to_ne_bytes());
            payload[8..16].copy_from_slice(&(self.made / u64::from(self.slaves)).to_ne_bytes());
            payload[16..].fill(self.made as u8);
            let header = RecordHeader::new(MsgType::PATTERN, slave, req_id(MASTER, 0), PAYLOAD as u32);
            emit(&header, &payload, &mut bytes).context("room for a record")?;
            let mut frame = self.out.alloc().context("the master has no frame")?;
            ensure!(frame.append(&bytes), "a frame has room for a record");
            self.out.send(Datagram::new(frame, self.to, Class::Down, 1));
            self.made += 1;
        }
        self.flush(now)
    }

    /// Sends what waits for room in the send buffer.
    pub(super) fn flush(&mut self, now: Time) -> anyhow::Result<()> {
        let queue = self.out.queue(PORT).context("it has a port")?;
        self.port.tx_burst(now, queue);
        queue.rewind();
        let dropped = self.out.counters().down.dropped();
        ensure!(dropped == 0, "{dropped} records could not be sent to the gateway");
        Ok(())
    }

    /// Records that have left.
    pub(super) fn sent(&self) -> u64 {
        self.out.counters().down.records_out.get()
    }
}

/// The place of all slaves: hears, checks and counts what they get.
pub(super) struct Farm {
    port: UdpPort,
    burst: Burst,
    /// The number of the record that each slave expects.
    expected: Vec<u64>,
    /// Records that came.
    pub(super) records: u64,
    /// Datagrams that they came in.
    pub(super) datagrams: u64,
    /// Records that are missing between those that came.
    pub(super) missing: u64,
    /// How long each record took, in nanoseconds, if that is asked.
    pub(super) latencies: Option<Vec<u64>>,
}

impl Farm {
    /// So many slaves.
    pub(super) fn new(slaves: u32) -> anyhow::Result<Self> {
        Ok(Self {
            port: socket(&pool(16_384)?, UdpOptions::default())?,
            burst: Burst::new(),
            expected: vec![0; slaves as usize],
            records: 0,
            datagrams: 0,
            missing: 0,
            latencies: None,
        })
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        self.port.local_addr()
    }

    /// Takes a burst of what has come; returns the number of datagrams.
    pub(super) fn hear(&mut self, clock: Clock) -> anyhow::Result<usize> {
        let now = clock.now();
        let datagrams = self.port.rx_burst(now, &mut self.burst);
        self.datagrams += datagrams as u64;
        for (_, datagram) in self.burst.iter() {
            for record in Walk::new(datagram.frame.data(), Scale::default()) {
                let (_, record) = record.map_err(|bad| anyhow::anyhow!("a record that a slave got: {bad}"))?;
                let slave = record.header().slave_id();
                let expected = self.expected.get_mut(slave as usize).context("a slave that is asked")?;
                let word = |at: usize| {
                    record.payload().get(at..at + 8).and_then(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
                };
                let (Some(sent_at), Some(number)) = (word(0), word(8)) else { anyhow::bail!("a short record") };
                ensure!(number >= *expected, "slave {slave} expects record {expected}, and {number} came");
                let fill = (number * self.expected.len() as u64 + u64::from(slave)) as u8;
                ensure!(record.payload()[16..].iter().all(|byte| *byte == fill), "a record was changed");
                let expected = self.expected.get_mut(slave as usize).context("a slave that is asked")?;
                self.missing += number - *expected;
                *expected = number + 1;
                self.records += 1;
                if let Some(latencies) = &mut self.latencies {
                    latencies.push(now.saturating_sub(sent_at));
                }
            }
        }
        self.burst.clear();
        Ok(datagrams)
    }

    /// Datagrams that its socket had no room for, a train counted as one.
    pub(super) fn lost(&self) -> u64 {
        self.port.rx_lost()
    }
}

/// The records that the gateway got and did not send on; an error unless nothing waits.
pub(super) fn dropped(gateway: &GatewayCounters, out: &frame::outbox::OutboxCounters) -> anyhow::Result<u64> {
    let (came, left) = (gateway.down.records_in.get(), out.down.records_out.get());
    let (held, queued) = (gateway.down.held.get(), out.down.records_queued.get());
    ensure!(held == 0 && queued == 0, "{held} records are held, and {queued} wait");
    let mut named = out.down.dropped();
    gateway.down.visit_drops(&mut |_, _, count| named += count);
    ensure!(came == left + named, "{came} records came to the gateway, {left} left, {named} were dropped");
    Ok(named)
}

/// Shared counters of a gateway.
pub(super) type Counters = Arc<GatewayCounters>;
