//! A small master: registers at a gateway and sends ECHO, over a socket of its own.

use crate::harness::until;
use frame::{Peer, PortId, Time};
use link::{Node, NodeConfig};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use wire::link::NodeId;
use wire::record::{RecordHeader, req_id};
use wire::{MsgType, Scale, Walk};
use zerocopy::IntoBytes;

pub(crate) struct Master {
    id: u16,
    socket: UdpSocket,
    node: Node,
    config: NodeConfig,
    began: Instant,
    /// Requests that were answered, by their number.
    pub answered: Vec<u64>,
    /// Datagrams in which the answers came.
    pub datagrams: usize,
    /// Messages of leases that came.
    pub leases: Vec<Vec<u8>>,
}

impl Master {
    /// Registers at a gateway without a key.
    pub(crate) fn register(id: u16, gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(gateway).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let config = NodeConfig { fixed_port: true, max_ip_packet: 1280, ..NodeConfig::default() };
        let node = Node::new(NodeId::master(id), None, Peer::socket(PortId(0), gateway), &config, 0);
        let began = Instant::now();
        let (answered, leases) = (Vec::new(), Vec::new());
        let mut master = Self { id, socket, node, config, began, answered, datagrams: 0, leases };
        until("the master's registration", || {
            master.poll();
            master.node.is_registered().then_some(())
        });
        master
    }

    /// The time by its clock.
    pub(crate) fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }

    /// Sends what is due and takes one datagram, if one comes within some milliseconds.
    pub(crate) fn poll(&mut self) {
        let now = self.now();
        let mut buffer = [0; 2048];
        if let Some(len) = self.node.transmit(&self.config, now, &mut buffer) {
            self.socket.send(&buffer[..len]).unwrap();
        }
        let Ok(len) = self.socket.recv(&mut buffer) else { return };
        let from = *self.node.gateway();
        let answered = self.answered.len();
        for item in Walk::new(&buffer[..len], Scale::default()) {
            let (_, record) = item.unwrap();
            match record.header().msg_type() {
                MsgType::HEARTBEAT_ACK => drop(self.node.handle(&self.config, now, &from, &record)),
                MsgType::ECHO_REPLY => self.answered.push(record.header().req_id() & 0xffff_ffff_ffff),
                MsgType::CONNECT_REPLY | MsgType::DISCONNECT => self.leases.push(record.bytes().to_vec()),
                _ => {}
            }
        }
        self.datagrams += usize::from(self.answered.len() > answered);
    }

    /// Sends whatever bytes.
    pub(crate) fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).unwrap();
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Sends one datagram with an ECHO of 16 bytes to each of these slaves.
    pub(crate) fn echo(&self, slaves: &[u32], first: u64) {
        self.echo_with(slaves, first, 0);
    }

    /// The same, with these bits in the `is_frag` of each ECHO.
    pub(crate) fn echo_with(&self, slaves: &[u32], first: u64, is_frag: u8) {
        let mut datagram = Vec::new();
        for (number, &slave) in (first..).zip(slaves) {
            let header = RecordHeader::new(MsgType::ECHO, slave, req_id(self.id, number), 16).with_frag(is_frag);
            datagram.extend_from_slice(header.as_bytes());
            datagram.extend_from_slice(&[number as u8; 16]);
        }
        self.socket.send(&datagram).unwrap();
    }
}
