//! One arena behind ports of every kind: AF_XDP on two interfaces with two queues each, a socket, and memory. A frame
//! that came in on one port leaves on another, in place. Every frame comes back.

use ebpf::{Config, Hook, Steer, SteerError, Verdict};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Vlan};
use netns::{End, Namespace, join, real_checksums};
use port::Port;
use port::headers::{self, Local, Verify};
use port::memory::{MemoryConfig, MemoryPort};
use port::spec::XdpMode;
use port::udp::{UdpOptions, UdpPort};
use port::xdp::{BoundMode, Interface, Umem, XdpConfig, XdpError, XdpPort};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};
use wire::{HEADER_LEN, MsgType, Record, RecordHeader, Scale, ShardSet};

const LEFT: PortId = PortId(0);
const RIGHT: PortId = PortId(1);
const SOCKET: PortId = PortId(2);
const MEMORY: PortId = PortId(3);

/// Descriptors of each ring, and frames that wait behind each socket.
const RING: u32 = 256;
const QUEUES: u32 = 2;

/// Datagrams at once, as many as the buffer of a plain socket certainly holds, and the number of repetitions, so that
/// the rings wrap around.
const COUNT: u32 = 40;
const ROUNDS: u32 = 15;

/// No step takes a second. A step that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two hosts with plain sockets, and between them the namespace of the ports.
struct World {
    a: Namespace,
    gateway: Namespace,
    b: Namespace,
}

impl World {
    fn new() -> Self {
        let world = Self { a: Namespace::new(), gateway: Namespace::new(), b: Namespace::new() };
        let a = End { namespace: &world.a, name: "a", address: "10.91.1.2/24" };
        let left = End { namespace: &world.gateway, name: "left", address: "10.91.1.1/24" };
        let right = End { namespace: &world.gateway, name: "right", address: "10.91.2.1/24" };
        let b = End { namespace: &world.b, name: "b", address: "10.91.2.2/24" };
        join(&a, &left, QUEUES);
        join(&b, &right, QUEUES);
        real_checksums(&a);
        real_checksums(&b);
        world
    }

    fn socket(namespace: &Namespace, address: &str) -> (UdpSocket, SocketAddr) {
        namespace.enter(|| {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let address = socket.local_addr().unwrap();
            (socket, address)
        })
    }
}

fn pool() -> Pool {
    // Hugepages if the machine has some: both kinds of memory are registered the same way.
    Pool::new(PoolConfig { frames: 4096, chunk: 2048, hugepages: Hugepages::Prefer, reserve: 64 }).unwrap()
}

fn config(ifname: &str, queue: u32) -> XdpConfig {
    XdpConfig { ring: RING, ..XdpConfig::of(&Interface::find(ifname).unwrap(), queue).unwrap() }
}

/// The program, for all slaves.
fn steer() -> Steer {
    Steer::load(&Config::new(&ShardSet::all(Scale::default()))).unwrap()
}

/// An interface with a socket on every queue and the program that feeds them.
struct Side {
    steer: Steer,
    ports: Vec<XdpPort>,
}

impl Side {
    fn open(id: PortId, ifname: &str, umem: &Rc<Umem>) -> Self {
        assert_eq!(Interface::find(ifname).unwrap().rx_queues, QUEUES);
        let mut steer = steer();
        steer.attach(ifname, Hook::Driver).unwrap();
        steer.set_addresses(&[Interface::find(ifname).unwrap().ipv4.unwrap().into()]).unwrap();
        let ports: Vec<_> = (0..QUEUES).map(|queue| XdpPort::open(id, config(ifname, queue), umem).unwrap()).collect();
        for (queue, port) in (0..).zip(&ports) {
            // veth has no zero-copy. The port reports the mode that it got, not the mode that was asked for.
            assert_eq!(port.mode(), BoundMode::Copy);
            assert!(port.describe().contains("copy mode, asked for auto"), "{}", port.describe());
            steer.set_socket(queue, port.poll_fd().unwrap()).unwrap();
        }
        Self { steer, ports }
    }

    fn held(&self) -> usize {
        self.ports.iter().map(Port::frames_held).sum()
    }

    /// Receives until `count` datagrams are there.
    fn receive(&mut self, count: usize) -> Vec<Datagram> {
        let (mut datagrams, mut burst, start) = (Vec::new(), Burst::new(), Instant::now());
        while datagrams.len() < count {
            assert!(start.elapsed() < PATIENCE, "{} of {count} arrived", datagrams.len());
            for port in &mut self.ports {
                port.rx_burst(0, &mut burst);
                datagrams.extend(burst.drain());
                port.housekeep(0);
            }
        }
        assert_eq!(datagrams.len(), count);
        datagrams
    }

    /// Polls until every frame that was sent has come back to the pool.
    fn settle(&mut self) {
        let start = Instant::now();
        while self.held() > (QUEUES * RING) as usize {
            assert!(start.elapsed() < PATIENCE, "{} frames are still on their way", self.held());
            self.ports.iter_mut().for_each(|port| port.housekeep(0));
        }
    }
}

fn payload(i: u32) -> Vec<u8> {
    // A record of odd or even length, up to a full packet. It has the number, and then bytes that depend on it.
    let len = (i as usize * 37) % (1472 - HEADER_LEN + 1);
    let body: Vec<u8> = (0..len).map(|at| (at as u32 * 31 + i * 7) as u8).collect();
    let mut bytes = vec![0; HEADER_LEN + len];
    let header = RecordHeader::new(MsgType(0x8000), i % 1024, u64::from(i), len as u32);
    assert_eq!(wire::record::emit(&header, &body, &mut bytes), Some(bytes.len()));
    bytes
}

fn number(payload: &[u8]) -> u32 {
    Record::first(payload).unwrap().header().req_id() as u32
}

/// Sends `payload(0..count)` from a plain socket to a side, and on from there to another plain socket.
#[expect(clippy::too_many_arguments, reason = "it is the seam's whole geography")]
fn cross(
    pool: &Pool,
    out: &mut Outbox,
    from: (&UdpSocket, SocketAddr),
    at: SocketAddr,
    inward: &mut Side,
    outward: &mut Side,
    to: (&UdpSocket, Peer),
    count: u32,
) {
    for i in 0..count {
        from.0.send_to(&payload(i), at).unwrap();
    }
    let datagrams = inward.receive(count as usize);
    let in_use = pool.in_use() as usize;
    assert_eq!(in_use, inward.held() + outward.held() + datagrams.len());
    let mut chunks = Vec::new();
    for mut datagram in datagrams {
        assert_eq!(datagram.frame.data(), payload(number(datagram.frame.data())));
        assert_eq!((datagram.peer.address(), datagram.peer.vlan), (from.1, Vlan::UNTAGGED));
        assert!(!datagram.ce);
        chunks.push(datagram.frame.index());
        datagram.peer = to.1;
        datagram.class = Class::Down;
        datagram.records = 1;
        out.send(datagram);
    }
    let port = &mut outward.ports[0];
    assert!(chunks.iter().all(|&chunk| !port.holds(chunk)));
    assert_eq!(port.tx_burst(0, out.queue(to.1.port).unwrap()), count as usize);
    // The same chunks in which the packets came are in the other interface's ring. None was taken from the pool or
    // given back.
    assert!(chunks.iter().all(|&chunk| port.holds(chunk)));
    assert_eq!(pool.in_use() as usize, in_use);
    assert_eq!(in_use, inward.held() + outward.held());
    outward.settle();
    let mut seen = vec![false; count as usize];
    let mut buffer = [0; 2048];
    for _ in 0..count {
        let (len, source) = to.0.recv_from(&mut buffer).unwrap();
        let i = number(&buffer[..len]);
        assert_eq!(buffer[..len], payload(i));
        assert!(source.port() == wire::GATEWAY_PORT && !std::mem::replace(&mut seen[i as usize], true));
    }
    assert_eq!(pool.in_use() as usize, inward.held() + outward.held());
}

#[test]
fn one_arena_serves_two_interfaces_a_socket_and_memory() {
    if !netns::available() {
        return;
    }
    let world = World::new();
    let (a, a_address) = World::socket(&world.a, "10.91.1.2:0");
    let (b, b_address) = World::socket(&world.b, "10.91.2.2:9999");
    let mac = |namespace: &Namespace, name| namespace.enter(|| Interface::find(name).unwrap().mac);
    let (a_mac, b_mac) = (mac(&world.a, "a"), mac(&world.b, "b"));
    let raw = |port, address: SocketAddr, mac| {
        let Peer { udp_port, .. } = Peer::socket(port, address);
        Peer::ipv4(port, Peer::socket(port, address).ipv4_octets().unwrap(), udp_port, Vlan::UNTAGGED, mac)
    };
    world.gateway.enter(|| {
        let pool = pool();
        let umem = Umem::new(&pool).unwrap();
        let mut out = Outbox::new(pool.clone(), 4);
        let (mut left, mut right) = (Side::open(LEFT, "left", &umem), Side::open(RIGHT, "right", &umem));
        assert_eq!(pool.in_use(), 2 * QUEUES * RING);

        // In both directions, in total more than a ring holds.
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        for _ in 0..ROUNDS {
            let to = (&b, raw(RIGHT, b_address, b_mac));
            cross(&pool, &mut out, (&a, a_address), at("10.91.1.1:9999"), &mut left, &mut right, to, COUNT);
            let to = (&a, raw(LEFT, a_address, a_mac));
            cross(&pool, &mut out, (&b, b_address), at("10.91.2.1:9999"), &mut right, &mut left, to, COUNT);
        }
        for side in [&left, &right] {
            assert_eq!(side.steer.packets(Verdict::RedirectCargo).unwrap(), u64::from(ROUNDS * COUNT));
            assert_eq!(side.steer.packets(Verdict::DropNoSocket).unwrap(), 0);
            assert_eq!(side.ports.iter().map(Port::rx_lost).sum::<u64>(), 0);
        }

        // A socket of the same arena sends what an interface received.
        let mut socket = UdpPort::open(SOCKET, at("10.91.1.1:0"), pool.clone(), UdpOptions::default()).unwrap();
        a.send_to(&payload(7), at("10.91.1.1:9999")).unwrap();
        let mut datagram = left.receive(1).pop().unwrap();
        datagram.peer = Peer::socket(SOCKET, a_address);
        out.send(datagram);
        assert_eq!(socket.tx_burst(0, out.queue(SOCKET).unwrap()), 1);
        let mut buffer = [0; 2048];
        let (len, source) = a.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], source), (&payload(7)[..], socket.local_addr()));

        // In the other direction, a frame that the socket received leaves on an interface.
        a.send_to(&payload(8), socket.local_addr()).unwrap();
        let (mut burst, start) = (Burst::new(), Instant::now());
        while socket.rx_burst(0, &mut burst) == 0 {
            assert!(start.elapsed() < PATIENCE);
        }
        let mut datagram = burst.drain().next().unwrap();
        datagram.peer = raw(RIGHT, b_address, b_mac);
        out.send(datagram);
        assert_eq!(right.ports[1].tx_burst(0, out.queue(RIGHT).unwrap()), 1);
        right.settle();
        let (len, _) = b.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], payload(8));

        // The same with a memory port.
        let local = Local { mac: [2; 6], ip: [10, 91, 3, 1], udp_port: 9999 };
        let memory_config = MemoryConfig { local, mtu: 1500, rx_ring: 4, tx_ring: 4 };
        let mut memory = MemoryPort::new(MEMORY, memory_config, pool.clone());
        a.send_to(&payload(9), at("10.91.1.1:9999")).unwrap();
        let mut datagram = left.receive(1).pop().unwrap();
        let chunk = datagram.frame.index();
        let there = Local { mac: [4; 6], ip: [10, 91, 3, 2], udp_port: 5 };
        datagram.peer = Peer::ipv4(MEMORY, there.ip, there.udp_port, Vlan::tagged(5), there.mac);
        out.send(datagram);
        assert_eq!(memory.tx_burst(0, out.queue(MEMORY).unwrap()), 1);
        let collected = memory.collect().unwrap();
        let Datagram { frame, peer, .. } = headers::receive(collected, MEMORY, &there, Verify::Software).unwrap();
        assert_eq!((frame.index(), frame.data(), peer.vlan), (chunk, &payload(9)[..], Vlan::tagged(5)));

        let held = left.held() + right.held() + socket.frames_held() + memory.frames_held();
        assert_eq!(pool.in_use() as usize, held + 1);
        drop((left, right, socket, memory, frame, out, umem));
        assert_eq!(pool.free(), pool.capacity());
    });
}

#[test]
fn frames_come_back_when_ports_close_in_any_order_or_the_interface_vanishes() {
    if !netns::available() {
        return;
    }
    let world = World::new();
    let (a, a_address) = World::socket(&world.a, "10.91.1.2:0");
    world.gateway.enter(|| {
        let pool = pool();
        let umem = Umem::new(&pool).unwrap();
        let to: SocketAddr = "10.91.1.1:9999".parse().unwrap();
        // The first socket registered the memory. The sockets that share it go on without the first one.
        let left = Side::open(LEFT, "left", &umem);
        let right = Side::open(RIGHT, "right", &umem);
        drop(left);
        assert_eq!(pool.in_use(), QUEUES * RING);
        // Its queues can be opened again at once, and share the memory with the other sockets.
        let mut left = Side::open(LEFT, "left", &umem);
        drop(right);
        for i in 0..10 {
            a.send_to(&payload(i), to).unwrap();
        }
        let datagrams = left.receive(10);
        assert_eq!(datagrams[0].peer.address(), a_address);
        assert_eq!(pool.in_use() as usize, left.held() + datagrams.len());
        // There are packets in its rings that nobody took, and one that waits to be sent.
        for i in 0..10 {
            a.send_to(&payload(i), to).unwrap();
        }
        let mut out = Outbox::new(pool.clone(), 1);
        out.send(datagrams.into_iter().next().unwrap());
        assert_eq!(left.ports[0].tx_burst(0, out.queue(LEFT).unwrap()), 1);
        world.gateway.ip("link delete left");
        left.ports.iter_mut().for_each(|port| port.housekeep(0));
        assert_eq!(pool.in_use() as usize, left.held());
        drop(left);
        assert_eq!(pool.free(), pool.capacity());
    });
}

#[test]
fn what_cannot_be_opened_says_why_and_keeps_no_frame() {
    if !netns::available() {
        return;
    }
    let world = World::new();
    world.gateway.enter(|| {
        let pool = pool();
        let umem = Umem::new(&pool).unwrap();
        let error = |config| XdpPort::open(LEFT, config, &umem).map(|port| port.describe()).unwrap_err();
        let zero_copy = XdpConfig { mode: XdpMode::ZeroCopy, ..config("left", 0) };
        assert!(matches!(error(zero_copy), XdpError::NoZeroCopy { .. }));
        assert!(matches!(error(config("left", QUEUES)), XdpError::NoQueue { .. }));
        let ring = XdpConfig { ring: 8192, ..config("left", 0) };
        assert!(matches!(error(ring), XdpError::Frames { ring: 8192, .. }));
        let open = XdpPort::open(LEFT, config("left", 0), &umem).unwrap();
        assert!(matches!(error(config("left", 0)), XdpError::Busy { .. }));
        let other = Umem::new(&pool).unwrap();
        let busy = XdpPort::open(LEFT, config("left", 0), &other).map(|port| port.describe()).unwrap_err();
        assert!(matches!(busy, XdpError::Busy { .. }), "{busy}");
        drop(open);
        assert_eq!(pool.free(), pool.capacity());

        let (mut first, mut second) = (steer(), steer());
        first.attach("left", Hook::Driver).unwrap();
        assert!(matches!(second.attach("left", Hook::Driver), Err(SteerError::Busy(_))));
        assert!(matches!(first.attach("right", Hook::Driver), Err(SteerError::Attached(_))));
        drop(first);
        second.attach("left", Hook::Generic).unwrap();
        drop(second);
        assert!(!world.gateway.ip("link show dev left").contains("xdp"));
        world.gateway.ip("link set dev left mtu 9000");
        world.a.ip("link set dev a mtu 9000");
        let error = steer().attach("left", Hook::Driver).unwrap_err();
        assert!(matches!(error, SteerError::Mtu(_)), "{error}");
    });
}
