//! Two lcores in two namespaces, joined by veth, that exchange READs or bare packets.

use crate::rtt::bare::{BYTES, Pinger, pong};
use crate::unavailable::needs_two_cores_and_namespaces;
use anyhow::Context as _;
use ebpf::{Config, Hook, Steer};
use frame::time::FOREVER;
use frame::{Burst, Guarded, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role, Time, Vlan};
use lcore::mailbox::{Sender, mailbox};
use lcore::thread::{LcoreHandle, StartError, Starting, ThreadConfig, start};
use lcore::{Clock, Lcore, RxMode};
use netns::{End, Namespace, join};
use port::Port as _;
use port::headers::Local;
use port::neighbour::Resolver;
use port::xdp::{Interface, Umem, XdpConfig, XdpPort, largest_packet};
use roce::{
    Answer, Job, Latencies, Lent, Load, QpSpec, Remote, Retry, Roce, RoceCommand, RoceConfig, RoceFraming, Work,
};
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::Duration;
use wire::ShardSet;
use wire::rc::PathMtu;
use wire::{IPV4_UDP_LEN, Scale};

/// The time after which a benchmark gives up.
const FOR_EVER: Duration = Duration::from_secs(60);

const NAMES: [&str; 2] = ["ra", "rb"];
const ADDRESSES: [&str; 2] = ["10.93.1.1/24", "10.93.1.2/24"];

/// Bytes of a READ request, from the BTH to the ICRC.
const REQUEST: usize = 12 + 16 + 4;

/// Numbers of the queue pairs.
const ASKER: u32 = 0x100;
const SERVER: u32 = 0x200;

/// The commands for an lcore.
pub enum Order {
    /// For the queue pairs.
    Roce(RoceCommand),
    /// Ping the other end this many times.
    Ping(u64, Answer<Latencies>),
    /// From now on answer pings, or serve queue pairs.
    Pong(bool),
}

/// One of the lcores' role: queue pairs, or the ping-pong.
pub struct Subject {
    roce: Roce,
    pinger: Option<Pinger>,
    pongs: bool,
    peer: Peer,
    /// Sizes of the packets of one answer.
    sizes: Vec<usize>,
}

impl Role for Subject {
    type Command = Order;

    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox) {
        match &mut self.pinger {
            Some(pinger) => pinger.receive(now, burst, out),
            None if self.pongs => pong(burst, &self.sizes, out),
            None => self.roce.receive(now, port, burst, out),
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if !self.pongs && self.pinger.is_none() {
            self.roce.advance(now, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.roce.deadline()
    }

    fn command(&mut self, now: Time, command: Order, out: &mut Outbox) {
        match command {
            Order::Roce(command) => {
                self.pinger = None;
                self.roce.command(now, command, out);
            }
            Order::Ping(count, answer) => {
                let mut pinger = Pinger::new(self.peer, REQUEST, self.sizes.len(), count, answer);
                pinger.advance(now, out);
                self.pinger = Some(pinger);
            }
            Order::Pong(pongs) => self.pongs = pongs,
        }
    }

    fn is_drained(&self) -> bool {
        self.roce.is_drained()
    }

    fn frames_held(&self) -> usize {
        self.roce.frames_held()
    }
}

/// One lcore, and what belongs to it.
struct Machine {
    /// Its thread; first, so that it ends first.
    running: LcoreHandle,
    orders: Sender<Order>,
    lent: Option<roce::LentRegion>,
    /// Other objects that the lcore's thread made: the XDP program, and the look-up of next hops.
    _steer: Steer,
    _resolver: Resolver,
}

/// Both of them, with a queue pair between them.
pub struct Pair {
    asker: Machine,
    server: Machine,
    path_mtu: PathMtu,
    _namespaces: [Namespace; 2],
}

impl Pair {
    /// Starts both on a link with this MTU, on cores 0 and 1, and connects them.
    ///
    /// # Errors
    /// AF_XDP or XDP cannot be had.
    pub fn start(mtu: u16) -> anyhow::Result<Self> {
        needs_two_cores_and_namespaces()?;
        let namespaces = [Namespace::new(), Namespace::new()];
        let [a, b] = &namespaces;
        let ends = [a, b].into_iter().zip(NAMES).zip(ADDRESSES);
        let ends: Vec<_> = ends.map(|((namespace, name), address)| End { namespace, name, address }).collect();
        let [a, b] = &ends[..] else { anyhow::bail!("two ends") };
        join(a, b, 1);
        for end in [a, b] {
            end.namespace.ip(&format!("link set dev {} mtu {mtu}", end.name));
        }
        let room = usize::from(mtu.saturating_sub(IPV4_UDP_LEN));
        let path_mtu = PathMtu::fitting(room).context("an MTU with room for a packet")?;
        let clock = Clock::start();
        let [first, second] = [local(a)?, local(b)?];
        let asker = Machine::start(a, 0, (first, second), path_mtu, clock)?;
        let server = Machine::start(b, 1, (second, first), path_mtu, clock)?;
        let pair = Self { asker, server, path_mtu, _namespaces: namespaces };
        let retry = Retry::default();
        let make = |machine: &Machine, qpn: u32, other: u32, ip: [u8; 4]| -> anyhow::Result<()> {
            machine.ask(|answer| Order::Roce(RoceCommand::Create(Some(qpn), answer)))??;
            let remote = Remote { ip, qpn: other, psn: other, reads: 16 };
            let spec = QpSpec { qpn, psn: qpn, reads: 16, path_mtu, remote, retry };
            Ok(machine.ask(|answer| Order::Roce(RoceCommand::Connect(spec, answer)))??)
        };
        make(&pair.server, SERVER, ASKER, first.ip)?;
        make(&pair.asker, ASKER, SERVER, second.ip)?;
        Ok(pair)
    }

    /// The path MTU of the queue pair, in bytes.
    pub fn path_mtu(&self) -> u32 {
        self.path_mtu.bytes()
    }

    /// READs one after another.
    ///
    /// # Errors
    /// One did not complete.
    pub fn read(&self, count: u64) -> anyhow::Result<Latencies> {
        self.server.ask_nothing(Order::Pong(false))?;
        let lent = self.server.lent.context("the server lends a region")?;
        let load = Load { va: lent.va, span: lent.len, size: BYTES, depth: 1, count, duration: FOREVER };
        let job = Job { qpn: ASKER, rkey: lent.rkey, work: Work::LoadRead(load) };
        let done = self.asker.ask(|answer| Order::Roce(RoceCommand::Work(job, answer)))?;
        done.map(|outcome| outcome.latencies).map_err(|failed| anyhow::anyhow!("a READ failed: {failed}"))
    }

    /// Pings one after another.
    ///
    /// # Errors
    /// One did not come back.
    pub fn ping(&self, count: u64) -> anyhow::Result<Latencies> {
        self.server.ask_nothing(Order::Pong(true))?;
        self.asker.ask(|answer| Order::Ping(count, answer))
    }

    /// Ends both.
    ///
    /// # Errors
    /// One does not.
    pub fn end(self) -> anyhow::Result<()> {
        for machine in [&self.asker, &self.server] {
            machine.ask(|answer| Order::Roce(RoceCommand::End(answer)))?;
        }
        Ok(())
    }
}

impl Machine {
    fn start(
        end: &End<'_>,
        core: usize,
        (own, other): (Local, Local),
        path_mtu: PathMtu,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let ifname = end.name.to_owned();
        let (report, made) = mpsc::channel();
        let build = move || {
            let interface = Interface::find(&ifname)?;
            let fits = |chunk: &u32| u32::from(largest_packet(*chunk)) >= interface.mtu;
            let chunk = [2048, 4096, 8192, 16_384].into_iter().find(fits).context("an MTU that frames can have")?;
            let pool =
                Pool::new(PoolConfig { chunk, frames: 2048, hugepages: Hugepages::Prefer, ..PoolConfig::default() })?;
            let umem = Umem::new(&pool)?;
            let shards = ShardSet::all(Scale::default());
            let frags = umem.has_chains();
            let mut steer = Steer::load(&Config { claim_roce: true, frags, ..Config::new(&shards) })?;
            steer.attach(&ifname, Hook::Driver)?;
            let config = XdpConfig { ring: 512, ..XdpConfig::of(&interface, 0)? };
            let mut port = XdpPort::open(PortId(0), config, &umem)?;
            port.claim_roce();
            let resolver = Resolver::start(interface.index, || Ok(()))?;
            port.set_neighbours(resolver.neighbours());
            steer.set_socket(0, port.poll_fd().context("the port is open")?)?;
            steer.set_addresses(&[Ipv4Addr::from(own.ip)])?;
            let config = RoceConfig {
                port: PortId(0),
                ip: own.ip,
                framing: RoceFraming::Raw,
                path_mtu,
                rkey: 0x5a5a_5a5a,
                seed: 1,
                queue_pairs: 1,
                reads: 16,
            };
            let mut bytes = Guarded::new(1 << 20, Hugepages::Prefer)?;
            bytes.fill(0x5a);
            let lent = Lent { bytes, write: true, atomic: true };
            let roce = Roce::new(config, Some(lent))?;
            let lent = roce.region();
            let sizes = (0..path_mtu.packets(BYTES)).map(|_| 12 + 4 + path_mtu.bytes().min(BYTES) as usize + 4);
            let mut peer = Peer::ipv4(PortId(0), other.ip, wire::ROCE_PORT, Vlan::UNTAGGED, other.mac);
            (peer.local, peer.source_port) = (Peer::ROCE, 0xc000);
            let subject = Subject { roce, pinger: None, pongs: false, peer, sizes: sizes.collect() };
            let (sender, receiver) = mailbox(64)?;
            // Nobody waits for it when the benchmark was given up.
            let _ = report.send((sender, lent, steer, resolver));
            Ok::<_, anyhow::Error>(Lcore::new(0, subject, vec![port], pool, receiver, None))
        };
        let config = ThreadConfig { index: 0, core: Some(core), mode: RxMode::Polling, clock };
        // A thread begins in the namespace of the one that starts it.
        let running = end.namespace.enter(|| start(config, build, || ()).and_then(Starting::wait).map_err(cause))?;
        let (orders, lent, steer, resolver) = made.recv().context("the lcore was built")?;
        Ok(Self { running, orders, lent, _steer: steer, _resolver: resolver })
    }

    fn ask_nothing(&self, order: Order) -> anyhow::Result<()> {
        let taken = &self.running.view().lcore.commands;
        let before = taken.get();
        anyhow::ensure!(self.orders.try_send(order).is_ok(), "the lcore's mailbox is full");
        for _ in 0..10_000 {
            if taken.get() > before {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        anyhow::bail!("the lcore does not poll")
    }

    fn ask<T: Send + 'static>(&self, order: impl FnOnce(Answer<T>) -> Order) -> anyhow::Result<T> {
        let (tell, told) = mpsc::channel();
        let order = order(Box::new(move |value| drop(tell.send(value))));
        anyhow::ensure!(self.orders.try_send(order).is_ok(), "the lcore's mailbox is full");
        told.recv_timeout(FOR_EVER).context("the lcore does not answer")
    }
}

/// An end's addresses.
fn local(end: &End<'_>) -> anyhow::Result<Local> {
    let interface = end.namespace.enter(|| Interface::find(end.name))?;
    let ip = interface.ipv4.context("an address was given to it")?;
    Ok(Local { mac: interface.mac, ip, udp_port: wire::ROCE_PORT })
}

fn cause(error: StartError<anyhow::Error>) -> anyhow::Error {
    match error {
        StartError::Build(error) => error,
        error => anyhow::anyhow!("{error}"),
    }
}
