//! A port whose wire is memory, for the simulated cluster and for benchmarks.
//!
//! It carries whole Ethernet frames, so that headers and checksums are handled as on a NIC. The other side of the wire
//! puts frames in with [`MemoryPort::inject`] and takes them out with [`MemoryPort::collect`].

use crate::Port;
use crate::headers::{self, Local, Reader, Refused, Verify};
use crate::source::Filter;
use crate::vlans::Vlans;
use frame::counter::CounterSet;
use frame::{Burst, Datagram, Frame, Peer, Pool, PortId, Time, TxQueue, Vlan};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

frame::counters! {
    /// What a memory port received, sent and refused.
    pub struct MemoryCounters {
        /// Frames that were put into the receive ring.
        rx_packets,
        /// Frames lost because the receive ring was full or the pool was empty.
        rx_ring_full,
        /// Frames that were no UDP datagram over IPv4, or malformed.
        rx_malformed,
        /// Datagrams for another address or UDP port.
        rx_not_ours,
        /// Datagrams with a wrong UDP checksum.
        rx_bad_checksum,
        /// Datagrams from where nobody can be, or of VLAN 4095.
        rx_bad_source,
        /// Frames that were put into the transmit ring.
        tx_packets,
        /// Datagrams that could not be given headers.
        tx_unsendable,
    }
}

/// Size of a memory port's rings.
#[derive(Clone, Copy, Debug)]
pub struct MemoryConfig {
    /// Addresses it answers to.
    pub local: Local,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Frames that may wait to be received.
    pub rx_ring: usize,
    /// Frames that may wait to be collected.
    pub tx_ring: usize,
}

/// See the module's documentation.
pub struct MemoryPort {
    id: PortId,
    config: MemoryConfig,
    reader: Reader,
    pool: Pool,
    rx: VecDeque<Frame>,
    tx: VecDeque<Frame>,
    full: bool,
    counters: Arc<MemoryCounters>,
}

impl MemoryPort {
    /// A port with empty rings, whose frames are of `pool`.
    pub fn new(id: PortId, config: MemoryConfig, pool: Pool) -> Self {
        let (rx, tx) = (VecDeque::with_capacity(config.rx_ring), VecDeque::with_capacity(config.tx_ring));
        let reader = reader(id, &config.local);
        Self { id, config, reader, pool, rx, tx, full: false, counters: Arc::default() }
    }

    /// Receives RoCEv2, too.
    pub fn claim_roce(&mut self) {
        self.reader = reader(self.id, &self.config.local).claiming_roce();
    }

    /// The wire delivers an Ethernet frame. `false` when it was lost: ring full, pool empty, larger than a frame.
    pub fn inject(&mut self, bytes: &[u8]) -> bool {
        if self.rx.len() < self.config.rx_ring
            && let Some(mut frame) = self.pool.alloc()
            && frame.append(bytes)
        {
            self.rx.push_back(frame);
            self.counters.rx_packets.add(1);
            return true;
        }
        self.counters.rx_ring_full.add(1);
        false
    }

    /// The wire takes the next Ethernet frame that was sent.
    pub fn collect(&mut self) -> Option<Frame> {
        self.tx.pop_front()
    }

    /// Whether the transmit ring has room for one more.
    pub fn has_room(&self) -> bool {
        self.tx.len() < self.config.tx_ring
    }

    /// Whether a datagram can be sent at all; if not, it is counted.
    pub fn check(&self, datagram: &Datagram) -> bool {
        let sendable = headers::check_sendable(datagram, self.config.mtu).is_ok();
        self.counters.tx_unsendable.add(u64::from(!sendable));
        sendable
    }

    /// Puts a datagram that was checked into the transmit ring, which has room.
    pub fn put(&mut self, mut datagram: Datagram) {
        if headers::write(&mut datagram, &self.config.local).is_ok() {
            self.tx.push_back(datagram.frame);
            self.counters.tx_packets.add(1);
        }
    }

    /// Notes whether waiting datagrams found no room.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Addresses it answers to.
    pub fn local(&self) -> &Local {
        &self.config.local
    }

    fn count(&self, refused: Refused) {
        match refused {
            Refused::Malformed(_) | Refused::Options => self.counters.rx_malformed.add(1),
            Refused::NotOurs => self.counters.rx_not_ours.add(1),
            Refused::Vlan | Refused::Source => self.counters.rx_bad_source.add(1),
            Refused::Checksum | Refused::PartialChecksum => self.counters.rx_bad_checksum.add(1),
        }
    }
}

/// Accepts packets of any VLAN: simulated networks separate VLANs themselves.
fn reader(id: PortId, local: &Local) -> Reader {
    Reader::new(id, local, Verify::Software).filtering(&Filter::new(&Arc::new(Vlans::ANY), &[local.ip]))
}

impl Port for MemoryPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx_burst(&mut self, _now: Time, burst: &mut Burst) -> usize {
        let before = burst.len();
        while burst.room() > 0
            && let Some(frame) = self.rx.pop_front()
        {
            if let Err(refused) = self.reader.receive_into(frame, burst) {
                self.count(refused);
            }
        }
        burst.len() - before
    }

    fn tx_burst(&mut self, _now: Time, queue: &mut TxQueue) -> usize {
        let mut sent = 0;
        while self.has_room()
            && let Some(head) = queue.peek()
        {
            sent += 1;
            if !self.check(head) {
                queue.fail();
            } else if let Some(datagram) = queue.take() {
                self.put(datagram);
            }
        }
        self.full = queue.backlog() > 0;
        sent
    }

    fn housekeep(&mut self, _now: Time) {}

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn wants_writable(&self) -> bool {
        self.full
    }

    fn frames_held(&self) -> usize {
        self.rx.len() + self.tx.len()
    }

    fn mtu(&self) -> u16 {
        self.config.mtu
    }

    fn rx_lost(&self) -> u64 {
        self.counters.rx_ring_full.get()
    }

    fn own_end(&self) -> Option<Peer> {
        let Local { mac, ip, udp_port } = self.config.local;
        Some(Peer::ipv4(self.id, ip, udp_port, Vlan::UNTAGGED, mac))
    }

    fn describe(&self) -> String {
        let [a, b, c, d] = self.config.local.ip;
        format!("memory {a}.{b}.{c}.{d}:{} MTU {}", self.config.local.udp_port, self.config.mtu)
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::<MemoryCounters>::clone(&self.counters) as Arc<dyn CounterSet>
    }
}
