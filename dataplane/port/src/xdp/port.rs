//! The port: descriptors become datagrams, datagrams become descriptors, headers are read and written in place.
//!
//! A queue outlives its interface. While the interface is down or has no carrier, datagrams to be sent are dropped and
//! counted, so that a gateway's other port goes on. Once the interface does not exist any more, the socket is closed
//! and its frames go back to the pool.

use crate::addresses::{AddressReaders, Addresses};
use crate::ahead;
use crate::claims::{Claims, LcorePorts};
use crate::headers::{self, Refused, Verify};
use crate::neighbour::Neighbours;
use crate::raw::{self, RawCounters as _};
use crate::watch::{Link, Seen};
use crate::worker::Bell;
use crate::xdp::about::XdpAbout;
use crate::xdp::chain::{Chain, Joined};
use crate::xdp::counters::XdpCounters;
use crate::xdp::kick::Kicks;
use crate::xdp::ledger::Ledger;
use crate::xdp::mode::{BoundMode, is_less};
use crate::xdp::socket::{Socket, split_drops};
use crate::xdp::{Interface, Umem, XdpConfig, XdpError};
use crate::{About, Port};
use frame::counter::CounterSet;
use frame::pool::payload_room;
use frame::time::MILLISECOND;
use frame::{Burst, Datagram, Peer, Pool, PortId, Time, TxQueue};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;

/// The most bytes of Ethernet header with a tag.
const ETHERNET: u32 = 18;
/// Where the kernel puts a received packet in a chunk.
const XDP_HEADROOM: u32 = 256;
/// How often the kernel's statistics and the interface's state are read.
const LOOK: Time = 10 * MILLISECOND;

/// The largest IP packet that a frame in a chunk of `chunk` bytes can carry in both directions: received at the
/// kernel's offset, or made here at our largest offset.
pub fn largest_packet(chunk: u32) -> u16 {
    let receive = chunk.saturating_sub(XDP_HEADROOM + ETHERNET);
    let send = payload_room(chunk) + u32::from(wire::IPV4_UDP_LEN);
    receive.min(send).min(u32::from(u16::MAX)) as u16
}

/// The same with zero-copy, where the NIC writes into the chunk itself.
///
/// Drivers give the NIC the length of a buffer in KiB, rounded down (igb, igc, ixgbe: `SRRCTL.BSIZEPKT` in their data
/// sheets), and the NIC cuts off the rest. So a chunk of 2048 bytes less its headroom is a buffer of 1 KiB.
pub fn largest_packet_zero_copy(chunk: u32) -> u16 {
    if chunk > 4096 {
        // A chain: the kernel's chunks are pages, and the packet continues in the next one.
        return largest_packet(chunk);
    }
    let receive = (chunk.saturating_sub(XDP_HEADROOM) & !1023).saturating_sub(ETHERNET);
    largest_packet(chunk).min(receive.min(u32::from(u16::MAX)) as u16)
}

/// The socket, and our frames that the kernel has through it.
struct Device {
    /// Declared before the ledger, so that it is closed first.
    socket: Socket,
    ledger: Ledger,
}

/// One queue of an interface.
pub struct XdpPort {
    id: PortId,
    config: XdpConfig,
    mtu: u16,
    mode: BoundMode,
    readers: AddressReaders,
    /// What the readers accept beside packets to the own UDP port.
    claims: Claims,
    /// `None` once the interface has vanished.
    device: Option<Device>,
    /// The descriptor to wait on once the interface has vanished: it never becomes readable.
    silence: Bell,
    /// The link of the interface at the last check.
    link: Link,
    /// The state of the interface, if somebody follows it.
    seen: Option<Arc<Seen>>,
    addresses: Addresses,
    neighbours: Option<Neighbours>,
    pool: Pool,
    /// Frames in the fill and RX rings.
    rx_frames: u32,
    /// A packet whose later parts are still to come.
    chain: Chain,
    /// Entries of the TX and completion rings in use: at least one for each frame there.
    tx_frames: u32,
    /// Datagrams that the kernel has not been shown yet.
    tx_unseen: u32,
    tx_full: bool,
    look_at: Time,
    kicks: Kicks,
    counters: Arc<XdpCounters>,
}

impl XdpPort {
    /// Opens a socket on a queue. Packets arrive once the XDP program has [`Port::poll_fd`] in its map.
    ///
    /// With `mode` auto it uses zero-copy if the driver has it. A port that shares its UMEM has the mode of the first
    /// port.
    ///
    /// # Errors
    /// See [`XdpError`]: each names its remedy.
    pub fn open(id: PortId, config: XdpConfig, umem: &Rc<Umem>) -> Result<Self, XdpError> {
        let (pool, ifname, queue) = (umem.pool().clone(), &config.ifname, config.queue);
        if !config.ring.is_power_of_two() || !(64..=32_768).contains(&config.ring) {
            return Err(XdpError::Ring(config.ring));
        }
        if pool.free() < config.ring {
            return Err(XdpError::Frames { ifname: ifname.clone(), free: pool.free(), ring: config.ring });
        }
        let interface = Interface::find(ifname)?;
        let ledger = Ledger::new(umem, interface.index, queue)
            .map_err(|source| XdpError::os(ifname, "make an AF_XDP socket", source))?;
        let socket = Socket::new(umem, ifname, config.ring)?;
        let silence = Bell::new().map_err(|source| XdpError::os(ifname, "make an eventfd", source))?;
        let mtu = config.mtu.min(largest_packet(pool.chunk()));
        if mtu < config.mtu {
            tracing::warn!(
                "{ifname}: MTU {mtu}, not {}: frames of {} bytes hold no more; lower the link's MTU to it, or take \
                 larger frames",
                config.mtu,
                pool.chunk()
            );
        }
        let addresses = Addresses::fixed(config.local.mac, &[config.local.ip], config.local.udp_port);
        let mut port = Self {
            id,
            mtu,
            mode: BoundMode::Copy,
            device: Some(Device { socket, ledger }),
            silence,
            link: Link::Up,
            seen: None,
            readers: addresses.readers(id, Verify::Software, &config.vlans, &Claims::default()),
            claims: Claims::default(),
            addresses,
            neighbours: None,
            pool,
            rx_frames: 0,
            chain: Chain::default(),
            tx_frames: 0,
            tx_unseen: 0,
            tx_full: false,
            look_at: 0,
            kicks: Kicks::default(),
            counters: Arc::new(XdpCounters::default()),
            config,
        };
        // Before binding: drivers with zero-copy take their first buffers when the queue is bound.
        port.refill();
        let (ifname, mode) = (&port.config.ifname, port.config.mode);
        if let Some(Device { socket, ledger }) = &mut port.device {
            socket.bind(umem, &interface, queue, mode)?;
            ledger.bound();
            port.mode = socket.mode().map_err(|source| XdpError::os(ifname, "read its mode", source))?;
        }
        if is_less(mode, port.mode) {
            return Err(XdpError::NoZeroCopy { ifname: ifname.clone() });
        }
        port.counters.link_up.set(1);
        tracing::debug!(
            "xdp:{ifname} queue {queue}: a socket of port {}, {}, MTU {}, rings of {}, {} frames to receive into",
            id.0,
            port.mode,
            port.mtu,
            port.config.ring,
            port.rx_frames
        );
        Ok(port)
    }

    /// Sets where to find the Ethernet address of a peer that was never heard. Without it, such datagrams are dropped.
    pub fn set_neighbours(&mut self, neighbours: Neighbours) {
        self.neighbours = Some(neighbours);
    }

    /// From now on the port uses the addresses, the link and the MTU of its interface as it is followed, instead of
    /// those of [`XdpConfig`].
    pub fn follow(&mut self, seen: &Arc<Seen>) {
        self.addresses = seen.addresses(self.config.local.udp_port);
        self.renew_readers();
        self.seen = Some(Arc::clone(seen));
    }

    /// Receives RoCEv2, too, with [`Peer::ROCE`] in [`Peer::local`]; the XDP program must claim it as well.
    pub fn claim_roce(&mut self) {
        self.claims.roce = true;
        self.renew_readers();
    }

    /// Receives packets to the UDP ports of other lcores, too, with their number in [`Peer::lcore`]; the XDP program
    /// must take them as well. The own UDP port stands in [`XdpConfig::local`].
    pub fn claim_others(&mut self, ports: LcorePorts) {
        self.claims.lcores = Some(ports);
        self.renew_readers();
    }

    fn renew_readers(&mut self) {
        self.readers = self.addresses.readers(self.id, Verify::Software, &self.config.vlans, &self.claims);
    }

    /// Takes over changed addresses.
    #[inline]
    fn refresh_addresses(&mut self) {
        if self.addresses.refresh() {
            self.renew_readers();
        }
    }

    /// The mode that the kernel uses.
    pub fn mode(&self) -> BoundMode {
        self.mode
    }

    /// The largest IP packet that frames hold in this mode, in bytes.
    fn largest(&self) -> u16 {
        match self.mode {
            BoundMode::ZeroCopy => largest_packet_zero_copy(self.pool.chunk()),
            BoundMode::Copy => largest_packet(self.pool.chunk()),
        }
    }

    /// The interface and the queue.
    pub fn queue(&self) -> (&str, u32) {
        (&self.config.ifname, self.config.queue)
    }

    /// Whether the kernel has chunk `index` of the pool.
    pub fn holds(&self, index: u32) -> bool {
        self.device.as_ref().is_some_and(|device| device.ledger.has(index))
    }

    /// Whether the interface has vanished.
    pub fn is_vanished(&self) -> bool {
        self.device.is_none()
    }

    /// Like [`Port::about`], with these queues instead of this one.
    pub(super) fn about_queues(&self, queues: String) -> XdpAbout {
        XdpAbout {
            id: self.id,
            config: self.config.clone(),
            queues,
            mode: self.mode,
            largest: self.largest(),
            seen: self.seen.clone(),
        }
    }

    /// Fills the fill ring from the pool.
    fn refill(&mut self) {
        let Some(Device { socket, ledger }) = &mut self.device else { return };
        if self.rx_frames == self.config.ring {
            return;
        }
        while self.rx_frames < self.config.ring && socket.fill.room() > 0 {
            let Some(frame) = self.pool.alloc() else {
                self.counters.rx_no_frame.add(1);
                break;
            };
            // There was room; the kernel chooses where in the chunk it puts the packet, or a part of it.
            let pushed = socket.fill.push(ledger.give_whole(frame));
            debug_assert!(pushed);
            self.rx_frames += 1;
        }
        socket.fill.publish();
        self.counters.rx_frames.set(u64::from(self.rx_frames));
    }

    /// Returns sent frames to the pool.
    fn reap(&mut self, now: Time) {
        let Some(Device { socket, ledger }) = &mut self.device else { return };
        let mut reaped = 0;
        while let Some(address) = socket.completion.pop() {
            // SAFETY: the kernel returned the address in the completion ring.
            match unsafe { ledger.take_sent(address) } {
                Ok(frame) => drop(frame),
                Err(()) => self.counters.tx_bad_descriptors.add(1),
            }
            reaped += 1;
        }
        if reaped > 0 {
            socket.completion.release();
            self.kicks.completed(now);
            self.tx_frames = self.tx_frames.saturating_sub(reaped);
            self.counters.tx_frames.set(u64::from(self.tx_frames));
        }
    }

    /// The counter of the reason why a datagram can never be sent, if there is one. Fills in a missing next hop.
    #[inline]
    fn refusal(&mut self, now: Time, datagram: &mut Datagram) -> Option<&frame::Counter> {
        let (is_up, mtu) = (self.link == Link::Up, self.mtu);
        let sendable = raw::sendable(datagram, is_up, &mut self.neighbours, &self.addresses, mtu, now);
        sendable.err().map(|reason| self.counters.unsent(reason))
    }

    /// Call it before the first [`XdpPort::send_first`] of a burst.
    #[inline]
    pub(super) fn begin_tx(&mut self) {
        self.refresh_addresses();
        self.tx_full = false;
    }

    /// Puts the first datagram of a queue into the TX ring, or drops and counts it. `false` when it stays: there is
    /// none, or the ring is full. The kernel sees it after [`XdpPort::end_tx`].
    #[inline]
    pub(super) fn send_first(&mut self, now: Time, queue: &mut TxQueue) -> bool {
        let Some(refusal) = queue.iter_mut().next().map(|datagram| self.refusal(now, datagram)) else { return false };
        if let Some(reason) = refusal {
            reason.add(1);
            drop(queue.fail());
            return true;
        }
        let Some(Device { socket, ledger }) = &mut self.device else { return false };
        let entries = if ledger.has_chains() { queue.peek().map_or(1, |head| entries(ledger, head)) } else { 1 };
        // The completion ring cannot hold more than are already on their way.
        if self.tx_frames + entries > self.config.ring || socket.tx.room() < entries {
            self.counters.tx_full.add(1);
            self.tx_full = true;
            return false;
        }
        let local = queue.peek().and_then(|datagram| self.addresses.get(datagram.peer.local));
        let Some((local, mut datagram)) = local.and_then(|local| Some((local, queue.take()?))) else {
            frame::never!("a datagram that can be sent has no address of ours");
            return false;
        };
        let len = datagram.frame.len();
        let written = headers::write(&mut datagram, local);
        debug_assert!(written.is_ok(), "checked by `refusal`");
        if entries == 1 {
            let (addr, len) = ledger.give(datagram.frame);
            let pushed = socket.tx.push(libc::xdp_desc { addr, len, options: 0 });
            debug_assert!(pushed);
        } else {
            ledger.give_chain(datagram.frame, |descriptor| {
                let pushed = socket.tx.push(descriptor);
                debug_assert!(pushed);
            });
            self.counters.tx_chained.add(1);
        }
        self.tx_frames += entries;
        self.tx_unseen += 1;
        self.counters.tx_bytes.add(len as u64);
        true
    }

    /// Shows the kernel what [`XdpPort::send_first`] put into the TX ring.
    #[inline]
    pub(super) fn end_tx(&mut self) {
        let sent = std::mem::take(&mut self.tx_unseen);
        if sent > 0 {
            if let Some(Device { socket, .. }) = &mut self.device {
                socket.tx.publish();
            }
            self.kicks.sent();
            self.counters.tx_packets.add(u64::from(sent));
            self.counters.tx_frames.set(u64::from(self.tx_frames));
            self.counters.tx_frames_max.raise(u64::from(self.tx_frames));
        }
    }

    /// Wakes the kernel for the TX ring, if it must be told and there are new entries.
    fn kick(&mut self, now: Time) {
        let Some(Device { socket, .. }) = &mut self.device else { return };
        if self.kicks.is_due(self.mode, || socket.tx.is_empty(), now) && socket.tx.needs_wakeup() {
            self.kicks.kicked(now);
            self.counters.tx_kicks.add(1);
            if let Err(error) = socket.kick_tx() {
                self.kicks.sent();
                match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => {}
                    // The next check finds the reason.
                    Some(libc::ENETDOWN | libc::ENXIO) => self.look_at = 0,
                    _ => self.counters.tx_kick_errors.add(1),
                }
            }
        }
    }

    /// Reads the kernel's statistics and the state of the interface.
    #[cold]
    fn look(&mut self) {
        let Some(Device { socket, ledger }) = &self.device else { return };
        if let Ok(statistics) = socket.statistics() {
            let counters = &self.counters;
            let (lost, too_long) = split_drops(&statistics, ledger.has_chains());
            counters.rx_lost_kernel.set(lost);
            // If packets may come in pieces, those that are too long are counted when they are joined.
            counters.rx_dropped_too_long.raise(too_long);
            counters.rx_lost_ring_full.set(statistics.rx_ring_full);
            counters.rx_fill_empty.set(statistics.rx_fill_ring_empty_descs);
        }
        // The call checks the interface first, whatever waits. It does not check the carrier: without a carrier the
        // kernel takes the packets and drops them without an error.
        let link = match socket.kick_rx().err().and_then(|error| error.raw_os_error()) {
            Some(libc::ENXIO) => Link::Gone,
            Some(libc::ENETDOWN) => Link::Down,
            _ if self.seen.as_ref().is_some_and(|seen| seen.link() == Link::NoCarrier) => Link::NoCarrier,
            _ => Link::Up,
        };
        if let Some(seen) = &self.seen {
            let mtu = u16::try_from(seen.mtu()).unwrap_or(u16::MAX);
            self.mtu = mtu.min(self.largest());
        }
        if link != self.link {
            self.set_link(link);
        }
    }

    /// The link differs from that at the last check.
    fn set_link(&mut self, link: Link) {
        let (queue, was) = (self.config.queue, std::mem::replace(&mut self.link, link));
        let ifname = self.seen.as_ref().map_or_else(|| self.config.ifname.clone(), |seen| seen.name());
        self.counters.link_up.set(u64::from(link == Link::Up));
        match link {
            Link::Up => tracing::info!("xdp:{ifname} queue {queue}: the interface is up again"),
            Link::Down => {
                tracing::warn!("xdp:{ifname} queue {queue}: the interface is down; what should leave there is dropped");
            }
            Link::NoCarrier => tracing::warn!(
                "xdp:{ifname} queue {queue}: the interface has no carrier; what should leave there is dropped. Is the \
                 cable in, \
                 and the other end up? `ip link show dev {ifname}`"
            ),
            Link::Gone => {
                tracing::error!(
                    "xdp:{ifname} queue {queue}: the interface has vanished; its frames go back to the pool, and what \
                     should leave there is dropped. When the interface is back, restart gvm-dp"
                );
                self.counters.vanished.set(1);
                self.device = None;
                self.chain = Chain::default();
                (self.rx_frames, self.tx_frames) = (0, 0);
                self.counters.rx_frames.set(0);
                self.counters.tx_frames.set(0);
            }
        }
        if link != Link::Up {
            self.tx_full = false;
            // Once for each time that the link is lost.
            self.counters.link_downs.add(u64::from(was == Link::Up && link != Link::Gone));
        }
    }
}

/// How many descriptors a datagram needs, with its headers.
fn entries(ledger: &Ledger, datagram: &Datagram) -> u32 {
    let headers = wire::net::headers_len(datagram.peer.vlan.vid().is_some());
    let start = datagram.frame.headroom().saturating_sub(headers);
    ledger.descriptors(start, datagram.frame.len() + headers)
}

/// Counts a packet that is not for us.
#[cold]
fn count_refused(refused: Refused, counters: &XdpCounters) {
    counters.refused(&refused).add(1);
}

impl Port for XdpPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx_burst(&mut self, _now: Time, burst: &mut Burst) -> usize {
        self.refresh_addresses();
        let Some(Device { socket, ledger }) = &mut self.device else { return 0 };
        let (mut added, mut taken, mut bytes, mut parts) = (0, 0, 0, 0);
        while burst.room() > 0 {
            let Some(descriptor) = socket.rx.pop() else { break };
            taken += 1;
            // One packet has been popped: the next is zero ahead in the ring.
            ahead::ask(|ahead| socket.rx.ahead(ahead as u32 - 1).map(|descriptor| ledger.address(descriptor.addr)));
            // SAFETY: the kernel returned the descriptor in the RX ring.
            let mut frame = unsafe { ledger.take(descriptor.addr, descriptor.len) };
            if frame.is_none() {
                self.counters.rx_bad_descriptors.add(1);
            }
            let more = descriptor.options & libc::XDP_PKT_CONTD != 0;
            if more || self.chain.is_open() {
                parts += u32::from(more);
                frame = match self.chain.join(frame, more) {
                    Joined::Whole(whole) => {
                        self.counters.rx_joined.add(1);
                        Some(whole)
                    }
                    Joined::TooLong => {
                        self.counters.rx_dropped_too_long.add(1);
                        None
                    }
                    Joined::More => None,
                };
            }
            let Some(frame) = frame else { continue };
            let result = self.readers.usual_into(frame, burst);
            match result.or_else(|frame| self.readers.receive_into(frame, &self.addresses, burst)) {
                Ok(len) => {
                    added += 1;
                    bytes += len as u64;
                }
                Err(refused) => count_refused(refused, &self.counters),
            }
        }
        if taken > 0 {
            socket.rx.release();
            self.counters.rx_ring_max.raise(u64::from(taken + socket.rx.waiting()));
            self.rx_frames = self.rx_frames.saturating_sub(taken);
            // A packet has as many descriptors as it has parts.
            self.counters.rx_packets.add(u64::from(taken - parts));
            self.counters.rx_bytes.add(bytes);
        }
        added
    }

    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        let mut left = 0;
        self.begin_tx();
        while self.send_first(now, queue) {
            left += 1;
        }
        self.end_tx();
        left
    }

    fn housekeep(&mut self, now: Time) {
        if self.tx_frames > 0 {
            self.kick(now);
            self.reap(now);
        }
        self.refill();
        if let Some(Device { socket, .. }) = &self.device
            && socket.fill.needs_wakeup()
        {
            // It fails only when the interface is down or gone; then nothing arrives either.
            let _ = socket.kick_rx();
        }
        if now >= self.look_at {
            self.look_at = now.saturating_add(LOOK);
            self.look();
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.device.as_ref().map_or(self.silence.as_fd(), |device| device.socket.as_fd()))
    }

    fn wants_writable(&self) -> bool {
        self.tx_full
    }

    fn frames_held(&self) -> usize {
        self.device.as_ref().map_or(0, |device| device.ledger.len()) + self.chain.frames_held()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn rx_lost(&self) -> u64 {
        self.counters.rx_lost_kernel.get() + self.counters.rx_lost_ring_full.get()
    }

    fn own_end(&self) -> Option<Peer> {
        self.about().own_end()
    }

    fn describe(&self) -> String {
        self.about().describe()
    }

    fn about(&self) -> Arc<dyn About> {
        Arc::new(self.about_queues(self.config.queue.to_string()))
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::clone(&self.counters) as Arc<dyn CounterSet>
    }
}
