//! Packets on the wire, as a packet socket sees them.

use crate::Namespace;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RawProtocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use wire::net::{UdpChecksum, parse_udp4, verify_udp4};
use wire::{MsgType, Record, echo};

/// Ethernet's number of IPv4, in network order as the kernel wants it.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;

/// The fields that distinguish one record of a generator from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Its type.
    pub msg_type: MsgType,
    /// The slave that it goes to or comes from.
    pub slave: u32,
    /// Its request id: the run that it belongs to.
    pub req_id: u64,
    /// Its number; `None` when its payload is not a generator's.
    pub sequence: Option<u64>,
}

/// A datagram of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// IPv4 address and UDP port of the sender.
    pub from: ([u8; 4], u16),
    /// IPv4 address and UDP port of the receiver.
    pub to: ([u8; 4], u16),
    /// Ethernet address of the sender.
    pub mac: [u8; 6],
    /// Ethernet address of the receiver.
    pub to_mac: [u8; 6],
    /// Whether it has a UDP checksum, and the right one.
    pub checksum: bool,
    /// Whether it is link control.
    pub link: bool,
    /// The slaves of its records.
    pub slaves: Vec<u32>,
    /// The same records, each with the fields that distinguish it.
    pub requests: Vec<Request>,
}

impl Heard {
    /// Reads a packet from its Ethernet header on. `None` if it is not a datagram of records, or its IP header is
    /// wrong.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let read = parse_udp4(packet).ok()?;
        let mut rest = packet.get(read.payload.clone())?;
        let link = Record::first(rest).ok()?.header().msg_type().is_link_control();
        let (mut slaves, mut requests) = (Vec::new(), Vec::new());
        while let Ok(record) = Record::first(rest) {
            let (header, sequence) = (record.header(), echo::check(&record).map(echo::EchoHeader::sequence));
            let (msg_type, slave, req_id) = (header.msg_type(), header.slave_id(), header.req_id());
            slaves.push(slave);
            requests.push(Request { msg_type, slave, req_id, sequence });
            rest = &rest[record.bytes().len()..];
        }
        let (from, to) = ((read.src_ip, read.src_port), (read.dst_ip, read.dst_port));
        let checksum = read.checksum != UdpChecksum::Zero && verify_udp4(packet, &read);
        Some(Self { from, to, mac: read.src_mac, to_mac: read.dst_mac, checksum, link, slaves, requests })
    }
}

/// A datagram of records, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The sender.
    pub from: SocketAddrV4,
    /// The receiver.
    pub to: SocketAddrV4,
    /// The records.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Reads a packet from its Ethernet header on. `None` if it is not a datagram of records.
    fn read(packet: &[u8]) -> Option<Self> {
        let read = parse_udp4(packet).ok()?;
        let payload = packet.get(read.payload.clone())?.to_vec();
        Record::first(&payload).ok()?;
        let end = |ip: [u8; 4], port| SocketAddrV4::new(ip.into(), port);
        Some(Self { from: end(read.src_ip, read.src_port), to: end(read.dst_ip, read.dst_port), payload })
    }
}

/// Receives, from its start on, every datagram of records that arrives in a namespace and that an XDP program leaves to
/// the kernel.
pub struct Sniffer {
    socket: OwnedFd,
}

impl Sniffer {
    /// Listens on all interfaces.
    ///
    /// # Panics
    /// Without CAP_NET_RAW.
    pub fn new(namespace: &Namespace) -> Self {
        let protocol = RawProtocol::new(ETH_P_IP).map(Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = namespace.enter(|| socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol));
        let socket = socket.expect("root may listen");
        // Nobody reads the socket while a test runs.
        set_socket_recv_buffer_size_force(&socket, 64 << 20).expect("root may have a large buffer");
        Self { socket }
    }

    /// The datagrams since the last call, as far as tests compare them.
    pub fn heard(&self) -> Vec<Heard> {
        self.packets(Heard::read)
    }

    /// The datagrams since the last call, whole.
    pub fn datagrams(&self) -> Vec<Datagram> {
        self.packets(Datagram::read)
    }

    fn packets<T>(&self, read: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
        let (mut heard, mut packet) = (Vec::new(), vec![0; 65_536]);
        while let Ok((len, _)) = recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
            heard.extend(packet.get(..len).and_then(&read));
        }
        heard
    }
}
