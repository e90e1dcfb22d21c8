//! Lcores with the two ends of the READs, in network namespaces of their own.

use crate::forward::input::pin;
use crate::remote::reader::{MASTER, PageLoad, PageLoadDone, PageReader, ReadOrder, SLAVE, ServedMemory};
use crate::remote::relay::{Relay, RelayOrder};
use crate::remote::tcp::{TcpClient, serve};
use crate::unavailable::needs_two_cores_and_namespaces;
use anyhow::{Context as _, ensure};
use ebpf::{Config, Hook, Steer};
use frame::{Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Vlan};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use lcore::mailbox::{Sender, mailbox};
use lcore::thread::{LcoreHandle, StartError, Starting, ThreadConfig, start};
use lcore::{Clock, Lcore, RxMode};
use link::{Route, RouteChange};
use netns::{End, Namespace, join};
use port::Port;
use port::headers::Local;
use port::udp::{UdpOptions, UdpPort};
use port::xdp::{Interface, Umem, XdpConfig, XdpPort, largest_packet};
use records::Framing;
use roce::Latencies;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::rc::PathMtu;
use wire::{GATEWAY_PORT, Scale, ShardSet};

/// The time after which a benchmark gives up.
const FOR_EVER: Duration = Duration::from_secs(120);

/// Interfaces of a link, and their addresses.
const NAMES: [&str; 2] = ["pa", "pb"];
const ADDRESSES: [&str; 2] = ["10.94.1.1/24", "10.94.1.2/24"];
/// Interfaces of a second link, between a relay and the serving end.
const FAR_NAMES: [&str; 2] = ["pc", "pd"];
const FAR_ADDRESSES: [&str; 2] = ["10.94.2.1/24", "10.94.2.2/24"];

/// Frames of an end.
const FRAMES: u32 = 4096;

/// How long the thread of a [`Chain`] sleeps between two turns while it is paused.
const REST: Duration = Duration::from_millis(5);

/// Where the baseline listens.
const TCP_PORT: u16 = 7000;

/// What packets go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// AF_XDP sockets.
    Xdp,
    /// Sockets of the kernel.
    Udp,
}

/// A veth link between two namespaces.
pub struct Link {
    namespaces: [Namespace; 2],
    mtu: u16,
}

/// Joins two namespaces, sets the MTU of both ends, and turns what the kernel would do for TCP on or off.
fn lay(ends: [&End<'_>; 2], mtu: u16, offloads: bool) {
    join(ends[0], ends[1], 1);
    for end in ends {
        end.namespace.ip(&format!("link set dev {} mtu {mtu}", end.name));
        if !offloads {
            end.namespace.exec(&format!("ethtool -K {} tx off sg off tso off gso off gro off", end.name));
        }
    }
}

impl Link {
    /// Makes two namespaces, and joins them.
    ///
    /// # Errors
    /// This machine or this user cannot.
    pub fn new(mtu: u16, offloads: bool) -> anyhow::Result<Self> {
        needs_two_cores_and_namespaces()?;
        let link = Self { namespaces: [Namespace::new(), Namespace::new()], mtu };
        let [a, b] = link.ends();
        lay([&a, &b], mtu, offloads);
        Ok(link)
    }

    /// The largest IP packet of both ends.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    pub(super) fn ends(&self) -> [End<'_>; 2] {
        let [a, b] = &self.namespaces;
        let end = |namespace, at: usize| End { namespace, name: NAMES[at], address: ADDRESSES[at] };
        [end(a, 0), end(b, 1)]
    }
}

/// An end's addresses.
pub(super) fn local(end: &End<'_>) -> anyhow::Result<Local> {
    let interface = end.namespace.enter(|| Interface::find(end.name))?;
    let ip = interface.ipv4.context("an address was given to it")?;
    Ok(Local { mac: interface.mac, ip, udp_port: GATEWAY_PORT })
}

/// The peer with these addresses behind a port.
pub(super) fn peer_at(kind: PortKind, port: PortId, at: &Local) -> Peer {
    match kind {
        PortKind::Xdp => Peer::ipv4(port, at.ip, at.udp_port, Vlan::UNTAGGED, at.mac),
        PortKind::Udp => Peer::socket(port, SocketAddr::from((at.ip, at.udp_port))),
    }
}

/// Frames for packets of this MTU.
pub(super) fn pool(mtu: u16) -> anyhow::Result<Pool> {
    let fits = |chunk: &u32| largest_packet(*chunk) >= mtu;
    let chunk = [2048, 4096, 8192, 16_384].into_iter().find(fits).context("an MTU that frames can have")?;
    Ok(Pool::new(PoolConfig { chunk, frames: FRAMES, hugepages: Hugepages::Prefer, ..PoolConfig::default() })?)
}

/// An AF_XDP port with the product's XDP program, which must live as long.
pub(super) fn open_xdp(id: PortId, ifname: &str, umem: &Rc<Umem>) -> anyhow::Result<(XdpPort, Steer)> {
    let interface = Interface::find(ifname)?;
    let shards = ShardSet::all(Scale::default());
    let mut steer = Steer::load(&Config { frags: umem.has_chains(), ..Config::new(&shards) })?;
    steer.attach(ifname, Hook::Driver)?;
    let config = XdpConfig { ring: 512, ..XdpConfig::of(&interface, 0)? };
    let port = XdpPort::open(id, config, umem)?;
    steer.set_socket(0, port.poll_fd().context("the port is open")?)?;
    let addresses: Vec<_> = interface.ipv4.map(Ipv4Addr::from).into_iter().collect();
    steer.set_addresses(&addresses)?;
    Ok((port, steer))
}

/// The path MTU of records in IP packets of `mtu` bytes to a peer.
fn path_mtu(peer: &Peer, mtu: u16) -> anyhow::Result<PathMtu> {
    Framing::path_mtu(peer, mtu).context("an MTU with room for a packet")
}

pub(super) fn cause(error: StartError<anyhow::Error>) -> anyhow::Error {
    match error {
        StartError::Build(error) => error,
        error => anyhow::anyhow!("{error}"),
    }
}

/// One end, running on an lcore of its own.
struct EndLcore {
    /// Its thread; first, so that it ends first.
    running: LcoreHandle,
    orders: Sender<ReadOrder>,
    served: ServedMemory,
    /// The XDP program, if it has one.
    _steer: Option<Steer>,
}

impl EndLcore {
    fn start(
        end: &End<'_>,
        which: records::End,
        (core, mode): (usize, RxMode),
        (kind, mtu): (PortKind, u16),
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let own = local(end)?;
        let ifname = end.name.to_owned();
        let (report, made) = mpsc::channel();
        let config = ThreadConfig { index: 0, core: Some(core), mode, clock };
        let prepare = move || -> anyhow::Result<_> {
            let reader = PageReader::new(which, mode, clock)?;
            let served = reader.served();
            let (sender, receiver) = mailbox(64)?;
            Ok((pool(mtu)?, reader, served, sender, receiver))
        };
        // A thread begins in the namespace of the one that starts it.
        let running = match kind {
            PortKind::Xdp => {
                let build = move || {
                    let (pool, reader, served, sender, receiver) = prepare()?;
                    let (port, steer) = open_xdp(PortId(0), &ifname, &Umem::new(&pool)?)?;
                    // Nobody waits for it when the benchmark was given up.
                    let _ = report.send((sender, served, Some(steer)));
                    Ok::<_, anyhow::Error>(Lcore::new(0, reader, vec![port], pool, receiver, None))
                };
                end.namespace.enter(|| start(config, build, || ()).and_then(Starting::wait).map_err(cause))?
            }
            PortKind::Udp => {
                let build = move || {
                    let (pool, reader, served, sender, receiver) = prepare()?;
                    let address = SocketAddr::from((own.ip, own.udp_port));
                    let port = UdpPort::open(PortId(0), address, pool.clone(), UdpOptions::default())?;
                    let _ = report.send((sender, served, None));
                    Ok::<_, anyhow::Error>(Lcore::new(0, reader, vec![port], pool, receiver, None))
                };
                end.namespace.enter(|| start(config, build, || ()).and_then(Starting::wait).map_err(cause))?
            }
        };
        let (orders, served, steer) = made.recv().context("the lcore was built")?;
        Ok(Self { running, orders, served, _steer: steer })
    }

    fn order(&self, order: ReadOrder) -> anyhow::Result<()> {
        ensure!(self.orders.try_send(order).is_ok(), "the lcore's mailbox is full");
        Ok(())
    }
}

/// READs that are under way.
pub struct UnderWay(mpsc::Receiver<PageLoadDone>);

impl UnderWay {
    /// Waits for their end.
    ///
    /// # Errors
    /// They do not end, or one gave no page, or another one.
    pub fn wait(self) -> anyhow::Result<PageLoadDone> {
        let done = self.0.recv_timeout(FOR_EVER).context("the READs do not end")?;
        match &done.fault {
            Some(fault) => anyhow::bail!("after {} READs: {fault}", done.pages),
            None => Ok(done),
        }
    }
}

/// An end that reads.
pub trait Reading {
    /// Gives the reading end an order.
    ///
    /// # Errors
    /// It does not take it.
    fn order(&self, order: ReadOrder) -> anyhow::Result<()>;

    /// Starts READs of one lane, `count` of them, or until [`ReadOrder::Stop`].
    ///
    /// # Errors
    /// The lcore does not take the order.
    fn read(&self, lane: usize, depth: u32, count: Option<u64>) -> anyhow::Result<UnderWay> {
        let (tell, told) = mpsc::channel();
        let answer = Box::new(move |done| drop(tell.send(done)));
        self.order(ReadOrder::Load(PageLoad { lane, depth, count, answer }))?;
        Ok(UnderWay(told))
    }

    /// Reads one page at a time, so many; returns how long each took.
    ///
    /// # Errors
    /// One gives no page.
    fn one_by_one(&self, lane: usize, count: u64) -> anyhow::Result<Latencies> {
        Ok(self.read(lane, 1, Some(count))?.wait()?.latencies)
    }
}

/// Two ends on a link, each on a core of its own.
pub struct Pair {
    reader: EndLcore,
    server: EndLcore,
    _link: Link,
}

impl Pair {
    /// Starts both, and connects them.
    ///
    /// # Errors
    /// AF_XDP or XDP cannot be had, or there is no memory.
    pub fn start(kind: PortKind, link: Link, mode: RxMode, clock: Clock) -> anyhow::Result<Self> {
        let mtu = link.mtu;
        let (reader, server) = {
            let [a, b] = link.ends();
            let peers = [peer_at(kind, PortId(0), &local(&b)?), peer_at(kind, PortId(0), &local(&a)?)];
            let reader = EndLcore::start(&a, records::End::Master(MASTER), (0, mode), (kind, mtu), clock)?;
            let server = EndLcore::start(&b, records::End::Slave(SLAVE), (1, mode), (kind, mtu), clock)?;
            let path_mtu = path_mtu(&peers[0], mtu)?;
            for ((end, other), peer) in [(&server, &reader), (&reader, &server)].into_iter().zip([peers[1], peers[0]]) {
                end.order(ReadOrder::Route(peer, mtu))?;
                end.order(ReadOrder::Connect(other.served, path_mtu))?;
            }
            (reader, server)
        };
        Ok(Self { reader, server, _link: link })
    }

    /// Whether both lcores still run.
    pub fn runs(&self) -> bool {
        !self.reader.running.is_finished() && !self.server.running.is_finished()
    }
}

impl Reading for Pair {
    fn order(&self, order: ReadOrder) -> anyhow::Result<()> {
        self.reader.order(order)
    }
}

/// Something that a loop polls.
trait Turn {
    fn turn(&mut self, clock: Clock);
}

impl<R: Role, P: Port> Turn for Lcore<R, P> {
    fn turn(&mut self, clock: Clock) {
        self.poll_once(clock.now());
    }
}

/// Two ends, and what stands between them, polled in turn by one thread: no time is a wait for a scheduler.
pub struct Chain {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    reader: Sender<ReadOrder>,
    relay: Option<Sender<RelayOrder>>,
    _namespaces: Vec<Namespace>,
}

/// What the thread of a [`Chain`] reports when it has built everything.
struct Built {
    reader: Sender<ReadOrder>,
    server: Sender<ReadOrder>,
    relay: Option<Sender<RelayOrder>>,
    served: [ServedMemory; 2],
}

/// Moves the calling thread into a namespace.
fn enter(name: &str) -> anyhow::Result<()> {
    let file = File::open(format!("/run/netns/{name}"))?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// An lcore with AF_XDP ports, its XDP programs, which must live as long, and its mailbox.
type XdpLcore<R, const PORTS: usize> = (Lcore<R, XdpPort>, [Steer; PORTS], Sender<<R as Role>::Command>);

/// An end with an AF_XDP port, in the namespace of the calling thread.
fn end_lcore(
    which: records::End,
    (ifname, mtu): (&str, u16),
    clock: Clock,
) -> anyhow::Result<(XdpLcore<PageReader, 1>, ServedMemory)> {
    let pool = pool(mtu)?;
    let (port, steer) = open_xdp(PortId(0), ifname, &Umem::new(&pool)?)?;
    let (sender, receiver) = mailbox(64)?;
    let reader = PageReader::new(which, RxMode::Polling, clock)?;
    let served = reader.served();
    Ok(((Lcore::new(0, reader, vec![port], pool, receiver, None), [steer], sender), served))
}

/// A gateway with an AF_XDP port to each side, in the namespace of the calling thread. It knows the master and the
/// slave.
fn relay_lcore(to: [Local; 2], mtu: u16) -> anyhow::Result<XdpLcore<Relay, 2>> {
    let [master, slave] = to;
    let pool = pool(mtu)?;
    let umem = Umem::new(&pool)?;
    let (up, up_steer) = open_xdp(PortId(0), NAMES[1], &umem)?;
    let (down, down_steer) = open_xdp(PortId(1), FAR_NAMES[0], &umem)?;
    let scale = Scale::default();
    let mut gateway = Gateway::new(GatewayConfig::new(ShardSet::all(scale)), &pool)?;
    let to_slave = peer_at(PortKind::Xdp, PortId(1), &slave);
    let to_master = peer_at(PortKind::Xdp, PortId(0), &master);
    let mut out = Outbox::new(pool.clone(), 2);
    let route = |peer| Some(Route { peer, mtu, fixed_port: false });
    let id = scale.slave_id(SLAVE).context("an id in range")?;
    gateway.command(0, GatewayCommand::Route(RouteChange::Slave { id, route: route(to_slave) }), &mut out);
    gateway.command(0, GatewayCommand::Route(RouteChange::Master { id: MASTER, route: route(to_master) }), &mut out);
    let (sender, receiver) = mailbox(64)?;
    let relay = Relay::new(gateway, [to_slave, to_master]);
    Ok((Lcore::new(0, relay, vec![up, down], pool, receiver, None), [up_steer, down_steer], sender))
}

impl Chain {
    /// Two ends on a link of AF_XDP ports; with `relayed`, on two links with a relay between them. `core` is that of
    /// the thread.
    ///
    /// # Errors
    /// AF_XDP or XDP cannot be had, or there is no memory.
    pub fn start(relayed: bool, mtu: u16, core: usize, clock: Clock) -> anyhow::Result<Self> {
        needs_two_cores_and_namespaces()?;
        let count = if relayed { 3 } else { 2 };
        let namespaces: Vec<_> = (0..count).map(|_| Namespace::new()).collect();
        let end = |at: usize, names: [&'static str; 2], addresses: [&'static str; 2], side: usize| {
            let namespace = namespaces.get(at).context("a namespace was made")?;
            Ok::<_, anyhow::Error>(End { namespace, name: names[side], address: addresses[side] })
        };
        let (a, b) = (end(0, NAMES, ADDRESSES, 0)?, end(1, NAMES, ADDRESSES, 1)?);
        lay([&a, &b], mtu, true);
        let far = if relayed {
            Some((end(1, FAR_NAMES, FAR_ADDRESSES, 0)?, end(2, FAR_NAMES, FAR_ADDRESSES, 1)?))
        } else {
            None
        };
        if let Some((c, d)) = &far {
            lay([c, d], mtu, true);
        }
        let (master, near) = (local(&a)?, local(&b)?);
        let (beyond, slave) = match &far {
            Some((c, d)) => (local(c)?, local(d)?),
            None => (master, near),
        };
        let names: Vec<String> = namespaces.iter().map(|namespace| namespace.name().to_owned()).collect();
        let server_at = if relayed { FAR_NAMES[1] } else { NAMES[1] };
        let (stop, paused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stopped, rests, (report, built)) = (Arc::clone(&stop), Arc::clone(&paused), mpsc::channel());
        let body = move || {
            pin(core)?;
            let place = |at: usize| enter(names.get(at).map_or("", |name| name));
            place(0)?;
            let ((mut reader, _first, to_reader), reads) =
                end_lcore(records::End::Master(MASTER), (NAMES[0], mtu), clock)?;
            let mut relay = None;
            if relayed {
                place(1)?;
                relay = Some(relay_lcore([master, slave], mtu)?);
            }
            place(names.len() - 1)?;
            let ((mut server, _last, to_server), serves) =
                end_lcore(records::End::Slave(SLAVE), (server_at, mtu), clock)?;
            let (mut between, _steers, to_relay) = match relay {
                Some((lcore, steers, sender)) => (Some(lcore), Some(steers), Some(sender)),
                None => (None, None, None),
            };
            let _ =
                report.send(Built { reader: to_reader, server: to_server, relay: to_relay, served: [reads, serves] });
            while !stopped.load(Ordering::Relaxed) {
                if rests.load(Ordering::Relaxed) {
                    std::thread::sleep(REST);
                }
                reader.turn(clock);
                if let Some(relay) = &mut between {
                    relay.turn(clock);
                }
                server.turn(clock);
                if let Some(relay) = &mut between {
                    relay.turn(clock);
                }
            }
            Ok(())
        };
        let thread = std::thread::spawn(body);
        let Ok(built) = built.recv() else {
            return match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => anyhow::bail!("the thread with both ends ended"),
            };
        };
        let Built { reader, server, relay, served: [reads, serves] } = built;
        let to_server = peer_at(PortKind::Xdp, PortId(0), &near);
        let to_reader = peer_at(PortKind::Xdp, PortId(0), &beyond);
        let path_mtu = path_mtu(&to_server, mtu)?;
        let orders = [(&server, to_reader, reads), (&reader, to_server, serves)];
        for (orders, peer, served) in orders {
            for order in [ReadOrder::Route(peer, mtu), ReadOrder::Connect(served, path_mtu)] {
                ensure!(orders.try_send(order).is_ok(), "the lcore's mailbox is full");
            }
        }
        Ok(Self { stop, paused, thread: Some(thread), reader, relay, _namespaces: namespaces })
    }

    /// From now on its thread sleeps most of the time, and leaves the core to others; or not.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        std::thread::sleep(2 * REST);
    }

    /// Gives the relay an order. What is sent afterwards finds it done.
    ///
    /// # Errors
    /// There is no relay, or it does not take the order.
    pub fn relay(&self, order: RelayOrder) -> anyhow::Result<()> {
        let relay = self.relay.as_ref().context("there is a relay")?;
        ensure!(relay.try_send(order).is_ok(), "the lcore's mailbox is full");
        // It is taken in the next turn.
        std::thread::sleep(2 * REST);
        Ok(())
    }
}

impl Reading for Chain {
    fn order(&self, order: ReadOrder) -> anyhow::Result<()> {
        ensure!(self.reader.try_send(order).is_ok(), "the lcore's mailbox is full");
        Ok(())
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its result is known already, or nobody asks any more.
            let _ = thread.join();
        }
    }
}

/// The baseline: a client and a server of pages on a link, each on a core of its own.
pub struct TcpPair {
    client: Option<TcpClient>,
    server: Option<JoinHandle<anyhow::Result<()>>>,
    _link: Link,
}

impl TcpPair {
    /// Starts the server, and connects.
    ///
    /// # Errors
    /// The server cannot listen, or the client not connect.
    pub fn start(link: Link, depth: u32) -> anyhow::Result<Self> {
        let [a, b] = link.ends();
        let ip = local(&b)?.ip;
        let address = SocketAddr::from((ip, TCP_PORT));
        let listener = b.namespace.enter(|| TcpListener::bind(address)).context("the server of pages")?;
        let server = std::thread::spawn(move || {
            pin(1)?;
            serve(&listener)
        });
        let client = a.namespace.enter(|| TcpClient::connect(address, depth))?;
        Ok(Self { client: Some(client), server: Some(server), _link: link })
    }

    /// Fetches pages for a while; returns how many.
    ///
    /// # Errors
    /// The connection breaks, or a page is another one.
    pub fn run(&mut self, length: Duration) -> anyhow::Result<u64> {
        let client = self.client.as_mut().context("it runs")?;
        let body = move || {
            pin(0)?;
            let until = Instant::now() + length;
            client.run(|_| Instant::now() < until)
        };
        std::thread::scope(|scope| match scope.spawn(body).join() {
            Ok(pages) => pages,
            Err(_) => anyhow::bail!("the client of pages panicked"),
        })
    }
}

impl Drop for TcpPair {
    fn drop(&mut self) {
        self.client = None;
        if let Some(server) = self.server.take() {
            // It ends with the connection.
            let _ = server.join();
        }
    }
}
