//! A port that receives the same packets again and again, and whose transmit side is a sink: for benchmarks.
//!
//! It stands for a NIC that is never the limit. Packets are in the chunks of a pool of their own, written once. The
//! port hands the chunks out in turn, as a receive ring does, and takes them back when they are free. With more packets
//! than the cache holds, every packet is read from memory. Transmitted frames stay in a ring, as a NIC holds them until
//! they are on the wire, and then go back to their pool.
//!
//! A role may send a received frame on, with other headers and with more data after its payload. Before such a chunk is
//! handed out again, it gets its own headers and its own length back. Nobody may write to its payload; after a
//! measurement, [`ReplayPort::spoilt`] tells whether somebody did.

use crate::Port;
use crate::ahead;
use crate::headers::{self, Local, Reader, Verify};
use frame::counter::CounterSet;
use frame::{Burst, Frame, Pool, PortId, Time, TxQueue, pool};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

frame::counters! {
    /// What a replay port counts.
    pub struct ReplayCounters {
        /// Packets handed out.
        rx_packets,
        /// Packets that were no datagram for this port: the input of the benchmark is wrong.
        rx_refused,
        /// Frames sent.
        tx_packets,
        /// Datagrams that could not be given headers.
        tx_unsendable,
    }
}

/// How many transmitted frames the sink keeps before the oldest goes back to its pool.
const TX_RING: usize = 512;

/// Bytes of Ethernet, IPv4 and UDP headers, without a tag.
const HEADERS: usize = wire::net::headers_len(false);

/// See the module's documentation.
pub struct ReplayPort {
    id: PortId,
    local: Local,
    reader: Reader,
    mtu: u16,
    input: Pool,
    /// Bytes of every packet.
    len: u16,
    /// Chunks in the order in which their packets will be handed out. As many places as chunks, rounded up to a power
    /// of two, so that the ring cannot overflow.
    ring: Vec<u32>,
    /// Packets handed out since the start; the next one is at this place of the ring, modulo its size.
    head: usize,
    /// Packets put into the ring since the start.
    tail: usize,
    /// The headers of each packet, by its chunk. A gateway that makes a received frame its buffer overwrites them, so
    /// the port writes them again, as the device would.
    headers: Vec<[u8; HEADERS]>,
    /// A hash of the payload of each packet, by its chunk.
    payloads: Vec<u64>,
    tx: VecDeque<Frame>,
    burst: usize,
    counters: Arc<ReplayCounters>,
}

impl ReplayPort {
    /// A port that receives `packets` (whole Ethernet frames of one length, each with headers of its own), each in a
    /// chunk of `input`, which must have exactly one chunk for each; `burst` of them at once. A port with no packets
    /// only sends.
    ///
    /// # Panics
    /// If `input` has another number of chunks, lengths differ, or a packet is shorter than its headers or longer than
    /// a chunk.
    pub fn new(id: PortId, local: Local, mtu: u16, input: Pool, packets: &[Vec<u8>], burst: usize) -> Self {
        assert!(packets.is_empty() || packets.len() == input.capacity() as usize, "one chunk for each packet");
        let len = packets.first().map_or(0, Vec::len) as u16;
        let mut ring = Vec::with_capacity(input.capacity().next_power_of_two() as usize);
        // Indexed by chunk number; the numbers have gaps where a chunk would lie in two hugepages.
        let mut headers = vec![[0; HEADERS]; input.slots() as usize];
        let mut payloads = vec![0; input.slots() as usize];
        for packet in packets {
            let (head, payload) = packet.split_first_chunk().expect("a packet with headers");
            let mut frame = input.alloc_reserved().expect("a chunk for each packet");
            assert!(frame.append(packet), "a packet longer than a chunk");
            let (index, offset, its_len) = frame.into_index();
            assert_eq!((offset, its_len), (pool::fresh_offset(index), len), "packets of one length, in fresh frames");
            ring.push(index);
            headers[index as usize] = *head;
            payloads[index as usize] = hash(payload);
        }
        let tail = ring.len();
        ring.resize(input.capacity().next_power_of_two() as usize, 0);
        let tx = VecDeque::with_capacity(TX_RING + 1);
        Self {
            id,
            local,
            reader: Reader::new(id, &local, Verify::Nic),
            mtu,
            input,
            len,
            ring,
            head: 0,
            tail,
            headers,
            payloads,
            tx,
            burst,
            counters: Arc::default(),
        }
    }

    /// How many of the packets that wait to be handed out have a changed payload. A role that writes into received
    /// packets makes the rest of a benchmark measure other input.
    pub fn spoilt(&self) -> usize {
        let (chunks, mask) = (self.input.chunks(), self.ring.len().wrapping_sub(1));
        let waiting = (self.head..self.tail).filter_map(|number| self.ring.get(number & mask));
        let is_spoilt = |&&index: &&u32| {
            // SAFETY: between head and tail the ring holds numbers that `into_index` returned, each once: nobody else
            // owns the chunk; the range is the one that it returned. The frame is given up again below, so this stays
            // true.
            let frame = unsafe { chunks.frame(index, pool::fresh_offset(index), self.len) };
            let now = frame.data().get(HEADERS..).map(hash);
            let _ = frame.into_index();
            now != self.payloads.get(index as usize).copied()
        };
        waiting.filter(is_spoilt).count()
    }

    /// The packets that were sent last, whole Ethernet frames, the oldest first.
    pub fn sent(&self) -> impl Iterator<Item = &[u8]> {
        self.tx.iter().map(Frame::data)
    }
}

/// A hash of bytes, the same in every run.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Removes the known headers from a frame that may have been sent since it was received. `false` when it is still not
/// for this port.
#[cold]
#[inline(never)]
fn receive_again(reader: &mut Reader, headers: &[u8; HEADERS], mut frame: Frame, burst: &mut Burst) -> bool {
    if let Some(head) = frame.data_mut().first_chunk_mut() {
        *head = *headers;
    }
    reader.receive_into(frame, burst).is_ok()
}

impl Port for ReplayPort {
    fn id(&self) -> PortId {
        self.id
    }

    // Not inlined, once for each burst: a called function has its own registers.
    #[inline(never)]
    fn rx_burst(&mut self, _now: Time, burst: &mut Burst) -> usize {
        let before = burst.len();
        let mask = self.ring.len() - 1;
        let most = self.burst.min(burst.room()).min(self.tail - self.head);
        let Self { input, ring, reader, headers, len, counters, .. } = self;
        let (ring, chunks, len) = (&ring[..], input.chunks(), *len);
        let mut numbers = self.head..self.head + most;
        while !numbers.is_empty() {
            let mut reading = reader.reading(burst);
            let unusual = numbers.find_map(|number| {
                ahead::ask(|ahead| {
                    let &index = ring.get((number + ahead) & mask)?;
                    Some(chunks.address(index, pool::fresh_offset(index)))
                });
                let &index = ring.get(number & mask)?;
                // SAFETY: between head and tail the ring holds numbers that `into_index` returned, each once: nobody
                // else owns the chunk; the range is the one that it returned.
                let frame = unsafe { chunks.frame(index, pool::fresh_offset(index), len) };
                Some((index, reading.usual(frame).err()?))
            });
            if let Some((index, frame)) = unusual
                && !headers.get(index as usize).is_some_and(|own| receive_again(reader, own, frame, burst))
            {
                counters.rx_refused.add(1);
            }
        }
        self.head += most;
        let received = burst.len() - before;
        self.counters.rx_packets.add(received as u64);
        received
    }

    // Not inlined, once for each burst: a called function has its own registers.
    #[inline(never)]
    fn tx_burst(&mut self, _now: Time, queue: &mut TxQueue) -> usize {
        let mut sent = 0;
        while let Some(head) = queue.peek() {
            if headers::check_sendable(head, self.mtu).is_err() {
                queue.fail();
                self.counters.tx_unsendable.add(1);
                continue;
            }
            let Some(mut datagram) = queue.take() else { break };
            if headers::write(&mut datagram, &self.local).is_ok() {
                self.tx.push_back(datagram.frame);
                if self.tx.len() > TX_RING {
                    self.tx.pop_front();
                }
            }
            sent += 1;
        }
        self.counters.tx_packets.add(sent as u64);
        sent
    }

    // Not inlined, once for each burst: a called function has its own registers.
    #[inline(never)]
    fn housekeep(&mut self, _now: Time) {
        if self.tail == 0 {
            return;
        }
        // Returned chunks go to the end of the ring: their contents are still the packet. The loop runs twice, because
        // the ring may wrap in between.
        for _ in 0..2 {
            let at = self.tail & (self.ring.len() - 1);
            self.tail += self.ring.get_mut(at..).map_or(0, |places| self.input.take_free(places));
        }
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn wants_writable(&self) -> bool {
        false
    }

    fn frames_held(&self) -> usize {
        self.tail - self.head + self.tx.len()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn rx_lost(&self) -> u64 {
        0
    }

    fn describe(&self) -> String {
        format!("replay of {} packets", self.input.capacity())
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::<ReplayCounters>::clone(&self.counters) as Arc<dyn CounterSet>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Datagram, Hugepages, Peer, PoolConfig, Vlan};
    use wire::net::{UdpSpec, emit_udp4, udp_checksum};

    const HERE: Local = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    const FAR: Local = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
    const PACKETS: u8 = 8;

    fn pool(frames: u32) -> Pool {
        let config = PoolConfig { frames, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        Pool::new(config).unwrap()
    }

    fn sender(number: u8) -> Local {
        Local { mac: [2, 0, 0, 0, 1, number], ip: [198, 51, 100, number], udp_port: 7000 + u16::from(number) }
    }

    fn packet(number: u8) -> Vec<u8> {
        let (from, payload) = (sender(number), [number; 60]);
        let checksum = udp_checksum(from.ip, HERE.ip, from.udp_port, HERE.udp_port, &payload);
        let spec = UdpSpec {
            vlan: None,
            src_mac: from.mac,
            dst_mac: HERE.mac,
            src_ip: from.ip,
            dst_ip: HERE.ip,
            src_port: from.udp_port,
            dst_port: HERE.udp_port,
            ecn: 0,
            checksum,
        };
        let mut packet = vec![0; HEADERS];
        emit_udp4(&spec, payload.len(), &mut packet).unwrap();
        packet.extend(payload);
        packet
    }

    fn port() -> ReplayPort {
        let packets: Vec<_> = (0..PACKETS).map(packet).collect();
        ReplayPort::new(PortId(0), HERE, 1500, pool(PACKETS.into()), &packets, 4)
    }

    /// Receives one burst, in which each datagram must come from its own sender.
    fn receive(port: &mut ReplayPort, burst: &mut Burst) {
        port.rx_burst(0, burst);
        for (_, datagram) in burst.iter() {
            let number = datagram.frame.data()[0];
            let from = sender(number);
            let peer = Peer::ipv4(PortId(0), from.ip, from.udp_port, Vlan::UNTAGGED, from.mac);
            assert_eq!((*datagram.peer, datagram.frame.data()), (peer, &[number; 60][..]));
        }
    }

    /// On hugepages the chunk numbers have gaps: no chunk lies in two hugepages.
    #[test]
    fn every_packet_is_handed_out_beside_gaps_between_chunks() {
        let packets: Vec<_> = (0..2000).map(|number| packet((number % 250) as u8)).collect();
        let config = PoolConfig { frames: 2000, chunk: 2176, reserve: 0, ..PoolConfig::default() };
        let mut port = ReplayPort::new(PortId(0), HERE, 1500, Pool::new(config).unwrap(), &packets, 32);
        let mut burst = Burst::new();
        let mut received = 0;
        while received < 2 * packets.len() {
            receive(&mut port, &mut burst);
            assert!(!burst.is_empty(), "chunks come back");
            received += burst.len();
            drop(burst.drain());
            port.housekeep(0);
        }
        assert_eq!((port.counters.rx_refused.get(), port.spoilt()), (0, 0));
    }

    #[test]
    fn a_packet_that_was_sent_on_comes_back_as_its_own() {
        let (mut port, mut burst) = (port(), Burst::new());
        let mut out = frame::Outbox::new(pool(8), 1);
        let mut received = 0;
        while received < 10 * usize::from(PACKETS) {
            receive(&mut port, &mut burst);
            assert!(!burst.is_empty(), "chunks come back");
            received += burst.len();
            for (number, mut datagram) in burst.drain().enumerate() {
                // Every second frame becomes a buffer: more data after the payload, other headers before it.
                if number % 2 == 0 {
                    datagram.peer = Peer::ipv4(PortId(0), FAR.ip, FAR.udp_port, Vlan::UNTAGGED, FAR.mac);
                    datagram.class = Class::Up;
                    assert!(datagram.frame.append(&[0xee; 100]));
                    out.send(datagram);
                }
            }
            port.tx_burst(0, out.queue(PortId(0)).unwrap());
            // The device completes at once.
            port.tx.clear();
            port.housekeep(0);
        }
        assert_eq!((port.counters.rx_refused.get(), port.spoilt()), (0, 0));
    }

    #[test]
    fn a_role_that_writes_into_what_it_received_is_found_out() {
        let (mut port, mut burst) = (port(), Burst::new());
        port.rx_burst(0, &mut burst);
        for mut datagram in burst.drain().take(3) {
            datagram.frame.data_mut()[7] ^= 1;
        }
        port.housekeep(0);
        assert_eq!(port.spoilt(), 3);
    }

    #[test]
    fn what_was_sent_can_be_looked_at() {
        let mut port = ReplayPort::new(PortId(0), HERE, 1500, pool(8), &[], 4);
        let mut out = frame::Outbox::new(pool(8), 1);
        let mut frame = out.alloc().unwrap();
        assert!(frame.append(b"payload"));
        let peer = Peer::ipv4(PortId(0), FAR.ip, FAR.udp_port, Vlan::UNTAGGED, FAR.mac);
        out.send(Datagram::new(frame, peer, Class::Down, 1));
        assert_eq!(port.tx_burst(0, out.queue(PortId(0)).unwrap()), 1);
        let sent: Vec<_> = port.sent().collect();
        assert!(
            matches!(sent[..], [packet] if packet.len() == HEADERS + 7 && packet.ends_with(b"payload")),
            "{sent:?}"
        );
        assert_eq!(port.spoilt(), 0);
    }
}
