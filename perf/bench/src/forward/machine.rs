//! The lcore under test: pinned, polling, with an AF_XDP port to each side and the product's XDP program on both.

use crate::forward::subject::{Order, Subject};
use crate::forward::world::{DOWN_PORT, SLAVE_SIDE, UP_PORT, World, address_of};
use crate::input::MASTER;
use anyhow::Context as _;
use ebpf::{Config, Hook, Steer};
use frame::{Hugepages, Peer, Pool, PoolConfig, PortId, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig, GatewayCounters};
use lcore::mailbox::{Sender, mailbox};
use lcore::thread::{LcoreHandle, StartError, Starting, ThreadConfig, start};
use lcore::{Clock, Lcore, RxMode};
use link::{Route, RouteChange};
use port::Port as _;
use port::headers::Local;
use port::xdp::{Interface, Umem, XdpConfig, XdpPort};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use wire::{Scale, ShardSet};

/// Slaves with a route; all are behind one address, as a farm is.
pub const SLAVES: u32 = 8_192;

const MTU: u16 = 1500;

/// The lcore, running, and what belongs to it.
pub struct Machine {
    /// Its thread; first, so that it ends first.
    pub running: LcoreHandle,
    /// Its mailbox.
    pub orders: Sender<Order>,
    /// The counters of the gateway.
    pub gateway: Arc<GatewayCounters>,
    /// Nanoseconds that it rested; see [`Order::Rest`].
    pub rested_ns: Arc<AtomicU64>,
    /// Other objects that the lcore's thread made: the XDP programs.
    _steers: [Steer; 2],
}

impl Machine {
    /// Starts the lcore on a core.
    ///
    /// # Errors
    /// AF_XDP or XDP cannot be had.
    pub fn start(world: &World, master: &Local, core: usize, clock: Clock) -> anyhow::Result<Self> {
        let (_, slaves) = address_of(&world.down, SLAVE_SIDE)?;
        let master = *master;
        let (report, made) = mpsc::channel();
        let build = move || {
            let scale = Scale::default();
            let shards = ShardSet::all(scale);
            let pool = Pool::new(PoolConfig { hugepages: Hugepages::Prefer, ..PoolConfig::default() })?;
            let umem = Umem::new(&pool)?;
            let (up, up_steer) = open(PortId(0), UP_PORT, &shards, &umem)?;
            let (down, down_steer) = open(PortId(1), DOWN_PORT, &shards, &umem)?;
            let mut gateway = Gateway::new(GatewayConfig::new(shards), &pool)?;
            let to = Peer::ipv4(PortId(1), slaves.ip, slaves.udp_port, Vlan::UNTAGGED, slaves.mac);
            let from = Peer::ipv4(PortId(0), master.ip, master.udp_port, Vlan::UNTAGGED, master.mac);
            let mut out = frame::Outbox::new(pool.clone(), 2);
            let route = |peer| Some(Route { peer, mtu: MTU, fixed_port: false });
            for id in (0..SLAVES).filter_map(|id| scale.slave_id(id)) {
                let change = RouteChange::Slave { id, route: route(to) };
                frame::Role::command(&mut gateway, 0, GatewayCommand::Route(change), &mut out);
            }
            let change = RouteChange::Master { id: MASTER, route: route(from) };
            frame::Role::command(&mut gateway, 0, GatewayCommand::Route(change), &mut out);
            let counters = Arc::clone(gateway.counters());
            let (sender, receiver) = mailbox(64)?;
            let subject = Subject::new(gateway, to);
            let rested_ns = Arc::clone(subject.rested_ns());
            // Nobody waits for it when the benchmark was given up.
            let _ = report.send((sender, counters, rested_ns, [up_steer, down_steer]));
            Ok::<_, anyhow::Error>(Lcore::new(0, subject, vec![up, down], pool, receiver, None))
        };
        let config = ThreadConfig { index: 0, core: Some(core), mode: RxMode::Polling, clock };
        // A thread begins in the namespace of the one that starts it.
        let running = world.gateway.enter(|| start(config, build, || ()).and_then(Starting::wait).map_err(cause))?;
        let (orders, gateway, rested_ns, steers) = made.recv().context("the lcore was built")?;
        Ok(Self { running, orders, gateway, rested_ns, _steers: steers })
    }

    /// Tells the role something, and waits until it has heard it.
    ///
    /// # Errors
    /// The lcore does not answer.
    pub fn order(&self, order: Order) -> anyhow::Result<()> {
        let taken = &self.running.view().lcore.commands;
        let before = taken.get();
        anyhow::ensure!(self.orders.try_send(order).is_ok(), "the lcore's mailbox is full");
        for _ in 0..10_000 {
            if taken.get() > before {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        anyhow::bail!("the lcore does not poll")
    }
}

fn cause(error: StartError<anyhow::Error>) -> anyhow::Error {
    match error {
        StartError::Build(error) => error,
        error => anyhow::anyhow!("{error}"),
    }
}

fn open(id: PortId, ifname: &str, shards: &ShardSet, umem: &Rc<Umem>) -> anyhow::Result<(XdpPort, Steer)> {
    let interface = Interface::find(ifname)?;
    let mut steer = Steer::load(&Config::new(shards))?;
    steer.attach(ifname, Hook::Driver)?;
    let port = XdpPort::open(id, XdpConfig::of(&interface, 0)?, umem)?;
    steer.set_socket(0, port.poll_fd().context("the port is open")?)?;
    let addresses: Vec<_> = interface.ipv4.map(Ipv4Addr::from).into_iter().collect();
    steer.set_addresses(&addresses)?;
    Ok((port, steer))
}
