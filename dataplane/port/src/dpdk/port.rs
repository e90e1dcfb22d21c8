//! The port: a queue pair of a device, polled by one lcore.
//!
//! The plugin returns received packets as chunks of our pool, and gets chunks to send and to receive into. Between
//! bursts the port keeps a small stock of chunks with the plugin, from which the driver takes. Sent chunks come back
//! into the same stock, and from there to the pool.

use super::DpdkError;
use super::device::Device;
use super::plugin::LoadedPlugin;
use super::watched::Watched;
use crate::Port;
use crate::addresses::{AddressReaders, Addresses};
use crate::ahead;
use crate::both::Both;
use crate::claims::Claims;
use crate::headers::{self, Fill, Verify};
use crate::host::{Host, HostCounters, HostQueue, Received};
use crate::lent::Lent;
use crate::raw::{self, RawCounters as _, raw_counters};
use crate::vlans::Vlans;
use frame::counter::CounterSet;
use frame::pool::Chunks;
use frame::time::MILLISECOND;
use frame::{Burst, Datagram, Frame, Peer, Pool, PortId, Time, TxQueue, Vlan};
use port_abi::{BURST, Exchange, Queue, QueueCounts};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

frame::counters! {
    /// What one queue of a DPDK device counts.
    pub struct DpdkCounters {
        /// Packets received.
        rx_packets,
        /// Bytes of UDP payload received.
        rx_bytes,
        /// Packets that were copied: their driver has memory of its own, or they came in several pieces.
        rx_copied,
        /// Packets whose headers are not those of a whole UDP datagram; dropped.
        rx_dropped_malformed: drop,
        /// Datagrams to another IP address or UDP port; dropped.
        rx_dropped_not_ours: drop,
        /// Datagrams with IP options; dropped.
        rx_dropped_ip_options: drop,
        /// Datagrams of a VLAN that the port does not take packets from; dropped.
        rx_dropped_vlan: drop,
        /// Datagrams from a source that no sender can have; dropped.
        rx_dropped_source: drop,
        /// Datagrams with a wrong UDP checksum; dropped.
        rx_dropped_checksum: drop,
        /// Datagrams whose UDP checksum the sender left to a NIC that is not there; dropped.
        rx_dropped_partial_checksum: drop,
        /// Packets longer than a frame; dropped.
        rx_dropped_too_long: drop,
        /// Packets that had to be copied when no frame was left; dropped.
        rx_dropped_no_frame: drop,
        /// Packets that the device dropped because nobody took them in time (of the whole device, at its first queue).
        rx_lost_missed,
        /// Times that the driver found no buffer for a packet (of the whole device, at its first queue).
        rx_lost_no_buffer,
        /// Packets that the device received with errors (of the whole device, at its first queue).
        rx_device_errors,
        /// Times that the driver asked for frames and there were too few.
        rx_starved,
        /// Frames of the plugin that it does not have; ignored.
        rx_bad_descriptors,
        /// Times that the pool had no frame for the driver.
        rx_no_frame,
        /// Datagrams that the device took.
        tx_packets,
        /// Bytes of UDP payload that the device took.
        tx_bytes,
        /// Datagrams larger than the link's MTU, or without room for headers before them; dropped.
        tx_dropped_too_long: drop,
        /// Datagrams to a peer whose next hop has no known Ethernet address (yet); dropped.
        tx_dropped_no_neighbour: drop,
        /// Datagrams dropped because the link was down.
        tx_dropped_link_down: drop,
        /// Datagrams dropped because the port had no IPv4 address.
        tx_dropped_no_address: drop,
        /// Datagrams to an IPv6 peer; dropped.
        tx_dropped_family: drop,
        /// Answers to ARP and ping, and questions, that found no room to leave; dropped.
        tx_dropped_host: drop,
        /// Packets that the device could not send (of the whole device, at its first queue).
        tx_device_errors,
        /// Times that the device took no more; the datagrams waited.
        tx_full,
        /// Times that the link went down.
        link_downs,
        /// 1 while the link is up.
        link_up: gauge,
        /// The link's speed in Mbit/s, 0 when it is unknown.
        link_mbits: gauge,
        /// Frames with the driver: to receive into, received, or to be sent.
        frames_lent: gauge,
        /// The most frames that were with the driver at once.
        frames_lent_max: gauge,
    }
}

raw_counters!(DpdkCounters);

/// The stock of chunks from which the driver takes.
const STOCK: u32 = 192;
/// The most chunks in one exchange.
const HANDFUL: u32 = 64;
/// The interval at which the port reads the results of the device thread.
const LOOK: Time = 10 * MILLISECOND;
/// The most answers and questions that wait.
const REPLIES: usize = 64;

/// One queue pair of a device.
pub struct DpdkPort {
    id: PortId,
    number: u16,
    plugin: LoadedPlugin,
    queue: *mut Queue,
    lent: Lent,
    watched: Arc<Watched>,
    description: String,
    mtu: u16,
    fill: Fill,
    claims: Claims,
    addresses: Addresses,
    vlans: Arc<Vlans>,
    host: HostQueue,
    /// The readers of packets that the NIC verified, and those of others.
    verified: AddressReaders,
    unverified: AddressReaders,
    frames: [port_abi::Frame; BURST],
    /// Whole Ethernet frames that leave before datagrams.
    replies: Vec<Frame>,
    /// Chunks that wait in the plugin's stock, according to its last report.
    level: u32,
    tx_full: bool,
    up: bool,
    look_at: Time,
    counters: Arc<DpdkCounters>,
}

impl DpdkPort {
    /// Opens a queue pair of a device on the thread that will poll it, with its pool as memory.
    ///
    /// # Errors
    /// See [`DpdkError`]: each names its remedy.
    pub fn open(id: PortId, number: u16, device: &Device, pool: &Pool, host: &Host) -> Result<Self, DpdkError> {
        let opened = device.open_queue(id, number, pool)?;
        let mut lent = Lent::new(pool.clone());
        opened.given.iter().for_each(|chunk| lent.note(*chunk));
        let claims = Claims { roce: false, lcores: device.lcore_ports(number) };
        let addresses = host.addresses(claims.lcores.map_or(wire::GATEWAY_PORT, |ports| ports.udp_port()));
        let vlans = Arc::new(host.config().vlans.clone());
        let (rx, tx) = device.rings();
        let way = if device.copies() { "by copies, as its driver has memory of its own" } else { "in place" };
        let own = addresses.get(0).map_or_else(String::new, |local| {
            let [a, b, c, d] = local.ip;
            format!("{a}.{b}.{c}.{d}:{}, ", local.udp_port)
        });
        let description = format!(
            "dpdk:{} queue {number} ({} {way}, {own}MTU {}, rings of {rx} and {tx})",
            device.name(),
            device.driver(),
            device.mtu()
        );
        let mut port = Self {
            id,
            number,
            plugin: opened.plugin,
            queue: opened.queue,
            watched: Arc::clone(device.watched()),
            description,
            mtu: device.mtu(),
            fill: if device.fills_checksums() { Fill::Nic } else { Fill::Software },
            verified: addresses.readers(id, Verify::Nic, &vlans, &claims),
            unverified: addresses.readers(id, Verify::Software, &vlans, &claims),
            claims,
            addresses,
            vlans,
            host: host.queue(),
            frames: [port_abi::Frame::default(); BURST],
            replies: Vec::with_capacity(REPLIES),
            level: opened.given.len() as u32,
            tx_full: false,
            up: true,
            look_at: 0,
            counters: Arc::default(),
            lent,
        };
        port.counters.link_up.set(1);
        // The chunks that the driver still takes when it starts; a driver that needs more has taken them already.
        port.take_surplus(u32::from(rx) + STOCK);
        Ok(port)
    }

    /// From now on the port takes RoCEv2 beside its own UDP port: datagrams of [`Peer::ROCE`].
    pub fn claim_roce(&mut self) {
        self.claims.roce = true;
        self.verified = self.addresses.readers(self.id, Verify::Nic, &self.vlans, &self.claims);
        self.unverified = self.addresses.readers(self.id, Verify::Software, &self.vlans, &self.claims);
    }

    /// Whether the device is started and not closed.
    #[inline]
    fn is_running(&self) -> bool {
        self.watched.running.load(Ordering::Acquire)
    }

    /// The counter of the reason why a datagram can never be sent, if there is one. Fills in a missing next hop.
    #[inline]
    fn refusal(&mut self, now: Time, datagram: &mut Datagram) -> Option<&frame::Counter> {
        let (is_up, mtu) = (self.up, self.mtu);
        let sendable = raw::sendable(datagram, is_up, &mut self.host, &self.addresses, mtu, now);
        sendable.err().map(|reason| self.counters.unsent(reason))
    }

    /// Gives the device the first `count` of the described `frames`; returns how many it took.
    #[inline]
    fn give(&mut self, count: usize) -> usize {
        // SAFETY: an open queue, polled by this thread; the frames are ours until the device takes them.
        usize::from(unsafe { (self.plugin.table.tx_burst)(self.queue, self.frames.as_ptr(), count as u16) })
    }

    /// Writes headers before the first datagrams of a queue, and describes them in `frames`. Returns how many there are
    /// before the first one that cannot be sent.
    #[inline]
    fn prepare(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        let mut ready = 0;
        for datagram in queue.iter_mut().take(BURST) {
            if self.refusal(now, datagram).is_some() {
                break;
            }
            let Some(local) = self.addresses.get(datagram.peer.local) else { break };
            let written = headers::write_for(datagram, local, self.fill);
            debug_assert!(written.is_ok(), "checked by `refusal`");
            let tagged = if datagram.peer.vlan.vid().is_some() { port_abi::TAGGED } else { 0 };
            let fills = self.fill == Fill::Nic && !datagram.peer.is_roce();
            let fill = if fills { port_abi::CHECKSUM_FILL } else { 0 };
            if let Some(place) = self.frames.get_mut(ready) {
                *place = describe(&datagram.frame, tagged | fill);
            }
            ready += 1;
        }
        ready
    }

    /// Sends whole Ethernet frames as they are, at most a burst. Takes those out of `frames` that the device took, and
    /// returns their number: 0 while the device is not started.
    ///
    /// The port itself sends its answers and questions this way. Tests and benchmarks use it with a device that returns
    /// what it is sent.
    pub fn send_whole(&mut self, frames: &mut Vec<Frame>) -> usize {
        if !self.is_running() {
            return 0;
        }
        let count = frames.len().min(BURST);
        for (place, frame) in self.frames.iter_mut().zip(frames.iter()) {
            *place = describe(frame, 0);
        }
        let sent = self.give(count);
        for frame in frames.drain(..sent.min(count)) {
            self.lent.note(frame.into_index().0);
        }
        sent
    }

    /// Sends answers and questions. Those that find no room are dropped: the other host will ask again.
    #[cold]
    fn send_replies(&mut self) {
        let mut replies = std::mem::take(&mut self.replies);
        self.send_whole(&mut replies);
        self.counters.tx_dropped_host.add(replies.len() as u64);
        replies.clear();
        self.replies = replies;
    }

    /// Handles a frame that is not a usual datagram for us: it becomes an answer of the host, is a datagram after all,
    /// or ends here.
    #[cold]
    fn unusual(&mut self, now: Time, mut frame: Frame, verified: bool, burst: &mut Burst) -> Option<usize> {
        match self.host.receive(now, &mut frame) {
            Received::Consumed => None,
            Received::Reply => {
                if self.replies.len() < REPLIES {
                    self.replies.push(frame);
                } else {
                    self.counters.tx_dropped_host.add(1);
                }
                None
            }
            Received::Datagram => {
                let readers = if verified { &mut self.verified } else { &mut self.unverified };
                match readers.receive_into(frame, &self.addresses, burst) {
                    Ok(len) => Some(len),
                    Err(refused) => {
                        self.counters.refused(&refused).add(1);
                        None
                    }
                }
            }
        }
    }

    /// Keeps the number of chunks in the plugin's stock steady.
    #[inline]
    fn restock(&mut self) {
        let mut chunks = [0; HANDFUL as usize];
        let missing = STOCK.saturating_sub(self.level).min(HANDFUL);
        let wanted = missing.min(self.lent.pool().spare());
        let given = match chunks.get_mut(..wanted as usize) {
            Some(chunks) if wanted > 0 => self.lent.pool().take_free(chunks) as u32,
            _ => 0,
        };
        if given < missing && self.level < STOCK / 2 {
            self.counters.rx_no_frame.add(1);
        }
        chunks.iter().take(given as usize).for_each(|chunk| self.lent.note(*chunk));
        if self.exchange(&mut chunks, given, STOCK + HANDFUL) == chunks.len() {
            self.take_surplus(STOCK);
        }
        self.counters.frames_lent.set(self.lent.len() as u64);
        self.counters.frames_lent_max.raise(self.lent.len() as u64);
    }

    /// Takes back all chunks of the stock above `keep`.
    #[cold]
    fn take_surplus(&mut self, keep: u32) {
        let mut chunks = [0; HANDFUL as usize];
        while self.exchange(&mut chunks, 0, keep) > 0 {}
    }

    /// Gives `given` chunks, and takes back those above `keep`, a handful at most. Returns how many came back.
    #[inline]
    fn exchange(&mut self, chunks: &mut [u32; HANDFUL as usize], given: u32, keep: u32) -> usize {
        let room = chunks.len() as u32;
        let mut exchange = Exchange { chunks: chunks.as_mut_ptr(), given, room, keep, level: 0 };
        // SAFETY: an open queue, polled by this thread; room for a handful of chunks.
        let back = unsafe { (self.plugin.table.exchange)(self.queue, &raw mut exchange) } as usize;
        self.level = exchange.level;
        for chunk in chunks.iter().take(back) {
            // SAFETY: the plugin gave the chunk back just now.
            match unsafe { self.lent.take((*chunk).into(), 0, 0) } {
                Some(frame) => drop(frame),
                None => self.counters.rx_bad_descriptors.add(1),
            }
        }
        back
    }

    /// Reads the results of the device thread.
    #[cold]
    fn look(&mut self) {
        let (watched, counters) = (&self.watched, &self.counters);
        let up = watched.up.load(Ordering::Relaxed);
        if self.up && !up {
            counters.link_downs.add(1);
        }
        self.up = up;
        counters.link_up.set(u64::from(up));
        counters.link_mbits.set(watched.mbits.load(Ordering::Relaxed));
        if self.number == 0 {
            counters.rx_lost_missed.set(watched.missed.load(Ordering::Relaxed));
            counters.rx_lost_no_buffer.set(watched.no_buffer.load(Ordering::Relaxed));
            counters.rx_device_errors.set(watched.rx_errors.load(Ordering::Relaxed));
            counters.tx_device_errors.set(watched.tx_errors.load(Ordering::Relaxed));
        }
        let mut counts = QueueCounts::default();
        // SAFETY: an open queue and a live structure.
        unsafe { (self.plugin.table.queue_counts)(self.queue, &raw mut counts) };
        counters.rx_copied.set(counts.copied);
        counters.rx_dropped_too_long.set(counts.too_long);
        counters.rx_dropped_no_frame.set(counts.no_chunk);
        counters.rx_starved.set(counts.starved);
        // SAFETY: an open queue, polled by this thread.
        unsafe { (self.plugin.table.tidy)(self.queue) };
    }

    /// Takes all chunks back after the device was closed.
    #[cold]
    fn reclaim(&mut self) {
        // SAFETY: the device is closed: nobody else uses the queue.
        unsafe { (self.plugin.table.flush)(self.queue, 1) };
        self.take_surplus(0);
        self.counters.frames_lent.set(self.lent.len() as u64);
    }
}

#[inline]
fn describe(frame: &Frame, flags: u32) -> port_abi::Frame {
    // A chunk has at most 32,768 bytes.
    port_abi::Frame { chunk: frame.index(), offset: frame.headroom() as u16, len: frame.len() as u16, flags }
}

impl Port for DpdkPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        if !self.is_running() {
            return 0;
        }
        let room = burst.room().min(BURST) as u16;
        // SAFETY: an open queue, polled by this thread; room for so many frames.
        let received = unsafe { (self.plugin.table.rx_burst)(self.queue, self.frames.as_mut_ptr(), room) };
        if received == 0 {
            return 0;
        }
        let frames = self.frames;
        let frames: &[port_abi::Frame] = frames.get(..usize::from(received)).unwrap_or(&frames);
        let address = |chunks: Chunks<'_>, at: usize| {
            frames.get(at).map(|described| chunks.address(described.chunk, described.offset).cast_const())
        };
        // Nothing was known of these packets before.
        ahead::ask_first(|at| address(self.lent.pool().chunks(), at));
        let (mut added, mut bytes) = (0, 0);
        for (at, described) in frames.iter().enumerate() {
            ahead::ask(|ahead| address(self.lent.pool().chunks(), at + ahead));
            // SAFETY: the plugin returned the chunk just now.
            let taken =
                unsafe { self.lent.take(described.chunk.into(), described.offset.into(), described.len.into()) };
            let Some(frame) = taken else {
                self.counters.rx_bad_descriptors.add(1);
                continue;
            };
            if described.flags & port_abi::CHECKSUM_BAD != 0 {
                let (wrong, partial) = (&self.counters.rx_dropped_checksum, &self.counters.rx_dropped_partial_checksum);
                if headers::is_partial(frame.data()) { partial } else { wrong }.add(1);
                continue;
            }
            let verified = described.flags & port_abi::CHECKSUM_GOOD != 0;
            let readers = if verified { &mut self.verified } else { &mut self.unverified };
            let len = match readers.usual_into(frame, burst) {
                Ok(len) => Some(len),
                Err(frame) => self.unusual(now, frame, verified, burst),
            };
            if let Some(len) = len {
                added += 1;
                bytes += len as u64;
            }
        }
        self.counters.rx_packets.add(u64::from(received));
        self.counters.rx_bytes.add(bytes);
        added
    }

    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        self.tx_full = false;
        if !self.is_running() {
            // Not started yet: the datagrams wait.
            return 0;
        }
        if !self.replies.is_empty() {
            self.send_replies();
        }
        let (mut left, mut packets, mut bytes) = (0, 0, 0);
        loop {
            let ready = self.prepare(now, queue);
            if ready == 0 {
                let Some(refusal) = queue.iter_mut().next().map(|datagram| self.refusal(now, datagram)) else { break };
                // The next hop became known between the two checks.
                let Some(reason) = refusal else { continue };
                reason.add(1);
                drop(queue.fail());
                left += 1;
                continue;
            }
            let sent = self.give(ready);
            for (at, datagram) in queue.iter_mut().take(ready).enumerate() {
                // The counted bytes are those of the payload; a datagram that stays gets new headers later.
                let head = wire::net::headers_len(datagram.peer.vlan.vid().is_some());
                datagram.frame.trim_front(head);
                if at < sent {
                    bytes += datagram.frame.len() as u64;
                }
            }
            for _ in 0..sent {
                // The device owns it now.
                if let Some(datagram) = queue.take() {
                    self.lent.note(datagram.frame.into_index().0);
                }
            }
            left += sent;
            packets += sent as u64;
            if sent < ready {
                self.counters.tx_full.add(1);
                self.tx_full = true;
                break;
            }
        }
        self.counters.tx_packets.add(packets);
        self.counters.tx_bytes.add(bytes);
        left
    }

    fn housekeep(&mut self, now: Time) {
        if !self.is_running() {
            if self.watched.closed.load(Ordering::Acquire) && self.lent.len() > 0 {
                self.reclaim();
            }
            return;
        }
        while self.replies.len() < REPLIES
            && let Some(question) = self.host.next_request(now)
        {
            // Allocated as for link control, before cargo has taken all frames.
            let frame = self.lent.pool().alloc_reserved();
            match frame.and_then(|mut frame| frame.append(&question).then_some(frame)) {
                Some(frame) => self.replies.push(frame),
                None => self.counters.tx_dropped_host.add(1),
            }
        }
        if !self.replies.is_empty() {
            self.send_replies();
        }
        self.restock();
        if now >= self.look_at {
            self.look_at = now.saturating_add(LOOK);
            self.look();
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn wants_writable(&self) -> bool {
        self.tx_full
    }

    fn frames_held(&self) -> usize {
        self.lent.len() + self.replies.len()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn rx_lost(&self) -> u64 {
        self.counters.rx_lost_missed.get() + self.counters.rx_lost_no_buffer.get()
    }

    fn own_end(&self) -> Option<Peer> {
        let local = self.addresses.get(0)?;
        Some(Peer::ipv4(self.id, local.ip, local.udp_port, Vlan::UNTAGGED, local.mac))
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        let (first, second) =
            (Arc::<DpdkCounters>::clone(&self.counters), Arc::<HostCounters>::clone(self.host.counters()));
        Arc::new(Both { first, second })
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        if self.watched.closed.load(Ordering::Acquire) {
            self.reclaim();
            if self.lent.len() == 0 {
                // SAFETY: the device is closed and nothing is lent: the queue is not used again.
                unsafe { (self.plugin.table.queue_close)(self.queue) };
                return;
            }
            tracing::error!(
                "{}: {} frames are lost: its driver did not give them back",
                self.description,
                self.lent.len()
            );
        }
        // Memory that a device may still write to is never reused: the frames stay lent, and so does the pool.
    }
}
