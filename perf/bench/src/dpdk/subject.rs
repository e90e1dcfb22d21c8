//! A gateway on two devices, on a pinned thread of its own that works when it is asked to.

use super::ring::{Forwarder, Ring, records_in};
use super::source::Source;
use crate::input::{GATEWAY, MASTER, MASTER_AT, SLAVE_SIDE, Shape, slave_at};
use crate::stopwatch::Stopwatch;
use anyhow::Context as _;
use frame::time::FOREVER;
use frame::{Hugepages, Peer, Pool, PoolConfig, PortId, Role, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use lcore::mailbox::mailbox_without_doorbell;
use lcore::{Clock, Lcore};
use link::{Route, RouteChange};
use port::dpdk::{Device, DeviceConfig, DpdkPort, Environment, smallest_chunk};
use port::headers::Local;
use port::host::{Host, HostConfig, Ipv4Net};
use port::vlans::Vlans;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::{Scale, ShardSet};

const MTU: u16 = 1500;
/// Entries of a ring: virtual devices have none.
const RING: u32 = 256;
/// Polls between two looks at the clock of the benchmark.
const POLLS: usize = 256;
/// Records of each slave before the clock starts. 16 fill a buffer, so that buffers are filled to all levels then.
const FILL: u64 = 32;
/// A gateway that has not received them after this time has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that works when it is asked to.
pub(super) struct Subject {
    ask: mpsc::Sender<Duration>,
    answers: mpsc::Receiver<f64>,
    thread: JoinHandle<anyhow::Result<f64>>,
}

impl Subject {
    /// Devices, a gateway with its slaves and a master registered, and a thread on this core.
    ///
    /// # Errors
    /// DPDK refuses something.
    pub(super) fn start(
        environment: &Environment,
        shape: &Shape,
        source: Source<'_>,
        core: usize,
    ) -> anyhow::Result<Self> {
        let (ask, asks) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (environment, shape) = (environment.clone(), *shape);
        let (input, ring) = match source {
            Source::File(file) => (format!("net_pcap_{},rx_pcap={},infinite_rx=1", shape.slaves, file.display()), None),
            Source::Ring(packets) => (format!("net_ring_{}", shape.slaves), Some(Ring::new(Arc::clone(packets)))),
        };
        // It takes everything, and sends nothing.
        let output = format!("net_null_{}_{},no-rx=1", source.name(), shape.slaves);
        let body = move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            work(&environment, &shape, [&input, &output], ring, &asks, &answer)
        };
        let thread = std::thread::Builder::new().name("subject".to_owned()).spawn(body)?;
        Ok(Self { ask, answers, thread })
    }

    /// Million records per CPU second, for a while.
    ///
    /// # Errors
    /// The thread has ended.
    pub(super) fn measure(&mut self, time: Duration) -> anyhow::Result<f64> {
        self.ask.send(time).ok().context("the gateway's thread has ended")?;
        self.answers.recv().context("the gateway's thread has ended")
    }

    /// Ends it. Returns how many records were in a datagram that left.
    ///
    /// # Errors
    /// A record or a frame is missing.
    pub(super) fn finish(self) -> anyhow::Result<f64> {
        drop(self.ask);
        self.thread.join().map_err(|_| anyhow::anyhow!("the gateway's thread panicked"))?
    }
}

fn open(environment: &Environment, devargs: &str, local: &Local, chunk: u32) -> anyhow::Result<(Device, Host)> {
    let name = devargs.split(',').next().unwrap_or(devargs).to_owned();
    let config =
        DeviceConfig { name, devargs: devargs.to_owned(), lcores: 1, own_ports: false, mtu: None, chunk, ring: RING };
    let device = Device::open(environment, config)?;
    let addresses = vec![Ipv4Net::new(local.ip, 8)?];
    let host = Host::new(HostConfig {
        name: devargs.to_owned(),
        mac: device.mac(),
        addresses,
        gateway: None,
        vlans: Vlans::UNTAGGED,
    })?;
    Ok((device, host))
}

fn work(
    environment: &Environment,
    shape: &Shape,
    [input, output]: [&str; 2],
    mut ring: Option<Ring>,
    asks: &mpsc::Receiver<Duration>,
    answer: &mpsc::Sender<f64>,
) -> anyhow::Result<f64> {
    // The driver keeps the whole file in frames; then a buffer for each slave, and what is on its way.
    let frames = shape.packets as u32 + shape.slaves + 8192;
    let chunk = smallest_chunk(MTU);
    let pool = Pool::new(PoolConfig { frames, chunk, hugepages: Hugepages::Prefer, reserve: 0 })?;
    let (from, from_host) = open(environment, input, &GATEWAY, chunk)?;
    let (to, to_host) = open(environment, output, &SLAVE_SIDE, chunk)?;
    let ports: Vec<DpdkPort> = vec![
        DpdkPort::open(PortId(0), 0, &from, &pool, &from_host)?,
        DpdkPort::open(PortId(1), 0, &to, &pool, &to_host)?,
    ];
    from.start()?;
    to.start()?;
    let gateway = gateway(shape, &pool);
    let (_sender, receiver) = mailbox_without_doorbell(16);
    let mut lcore: Forwarder = Lcore::new(0, gateway, ports, pool.clone(), receiver, None);
    let (clock, began) = (Clock::start(), Instant::now());
    while records_in(&lcore) < FILL * u64::from(shape.slaves) {
        anyhow::ensure!(began.elapsed() < PATIENCE, "the gateway does not receive what fills its buffers");
        match &mut ring {
            Some(ring) => {
                ring.run(&mut lcore, &pool, clock, Instant::now())?;
            }
            None => {
                lcore.poll_once(clock.now());
            }
        }
    }
    while let Ok(time) = asks.recv() {
        let until = Instant::now() + time;
        let before = records_in(&lcore);
        let nanoseconds = match &mut ring {
            Some(ring) => ring.run(&mut lcore, &pool, clock, until)?,
            None => {
                let watch = Stopwatch::start();
                while Instant::now() < until {
                    for _ in 0..POLLS {
                        lcore.poll_once(clock.now());
                    }
                }
                watch.nanoseconds()
            }
        };
        let records = records_in(&lcore) - before;
        let _ = answer.send(records as f64 * 1e3 / nanoseconds);
    }
    // Every record that came in has left or waits in a buffer, and every frame is in its place.
    let (counters, out) = (lcore.role().counters(), lcore.outbox().counters());
    let (came, held) = (counters.down.records_in.get(), counters.down.held.get());
    let (left, queued) = (out.down.records_out.get(), out.down.records_queued.get());
    anyhow::ensure!(came == left + held + queued, "{came} records came, {left} left, {held} and {queued} wait");
    let datagrams = out.down.datagrams_out.get();
    anyhow::ensure!(left > 0 && datagrams > 0, "nothing left");
    anyhow::ensure!(lcore.conservation().holds(), "frames are missing: {:?}", lcore.conservation());
    from.close()?;
    to.close()?;
    Ok(left as f64 / datagrams as f64)
}

/// A gateway that serves all shards, with the slaves and one master registered.
fn gateway(shape: &Shape, pool: &Pool) -> Gateway {
    let scale = Scale::default();
    let mut config = GatewayConfig::new(ShardSet::all(scale));
    config.hold = FOREVER;
    config.low_water = 0;
    let mut gateway = Gateway::new(config, pool).expect("memory");
    let mut out = frame::Outbox::new(pool.clone(), 2);
    let route = |port: u8, at: &Local| {
        let peer = Peer::ipv4(PortId(port), at.ip, at.udp_port, Vlan::UNTAGGED, at.mac);
        Some(Route { peer, mtu: MTU, fixed_port: false })
    };
    for id in 0..shape.slaves {
        if let Some(slave) = scale.slave_id(id) {
            let change = RouteChange::Slave { id: slave, route: route(1, &slave_at(id)) };
            gateway.command(0, GatewayCommand::Route(change), &mut out);
        }
    }
    let change = RouteChange::Master { id: MASTER, route: route(0, &MASTER_AT) };
    gateway.command(0, GatewayCommand::Route(change), &mut out);
    gateway
}
