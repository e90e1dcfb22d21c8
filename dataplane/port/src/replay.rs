//! A port that receives the same packets again and again, and whose transmit side is a sink: for benchmarks.
//!
//! It stands for a NIC that is never the limit. Packets lie in the chunks of a pool of their own, written once; the port
//! hands the chunks out in turn, as a receive ring does, and takes them back when they are free. With more packets than
//! the cache holds, every one is read from memory. Transmitted frames stay in a ring, as a NIC holds them until they
//! are on the wire, and then go back to their pool.

use crate::Port;
use crate::headers::{self, Local, Reader, Verify};
use frame::counter::CounterSet;
use frame::{Burst, Frame, Pool, PortId, Time, TxQueue, pool};
use std::collections::VecDeque;
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

/// How many packets ahead of the one in hand the cache is asked for: a burst, so that they arrive while the role works.
const AHEAD: usize = 32;

/// How many lines of them: headers and a small record.
const LINES: usize = 3;

/// How many transmitted frames the sink keeps before the oldest goes back to its pool.
const TX_RING: usize = 512;

/// Bytes of Ethernet, IPv4 and UDP headers, without a tag.
const HEADERS: usize = wire::net::headers_len(false);
/// Where the UDP checksum stands.
const CHECKSUM_AT: usize = HEADERS - 2;

/// See the module's documentation.
pub struct ReplayPort {
    id: PortId,
    local: Local,
    reader: Reader,
    mtu: u16,
    input: Pool,
    /// Bytes of every packet.
    len: u16,
    /// Chunks in the order in which their packets will be handed out. As many places as chunks, rounded up to a power of
    /// two, so that the ring cannot overflow.
    ring: Vec<u32>,
    /// Packets handed out since the start; the next one stands at this place of the ring, modulo its size.
    head: usize,
    /// Packets put into the ring since the start.
    tail: usize,
    /// The headers that all packets have: a gateway that makes a received frame its buffer overwrites them, so they are
    /// written again, as the device would.
    headers: [u8; HEADERS],
    /// The UDP checksums of all packets, by their chunks.
    checksums: Vec<[u8; 2]>,
    tx: VecDeque<Frame>,
    burst: usize,
    counters: Arc<ReplayCounters>,
}

impl ReplayPort {
    /// A port that receives `packets` (whole Ethernet frames of one length, with the same headers but for the UDP checksum),
    /// each in a chunk of `input`, which must have exactly one chunk for each; `burst` of them at once. A port with no packets
    /// only sends.
    ///
    /// # Panics
    /// If `input` has another number of chunks, lengths differ, or a packet is shorter than its headers or longer than a
    /// chunk.
    pub fn new(id: PortId, local: Local, mtu: u16, input: Pool, packets: &[Vec<u8>], burst: usize) -> Self {
        assert!(packets.is_empty() || packets.len() == input.capacity() as usize, "one chunk for each packet");
        let mut headers = [0; HEADERS];
        let len = packets.first().map_or(0, Vec::len) as u16;
        let mut ring = Vec::with_capacity(input.capacity().next_power_of_two() as usize);
        let mut checksums = vec![[0; 2]; input.capacity() as usize];
        for packet in packets {
            headers.copy_from_slice(&packet[..HEADERS]);
            let mut frame = input.alloc_reserved().expect("a chunk for each packet");
            assert!(frame.append(packet), "a packet longer than a chunk");
            let (index, offset, its_len) = frame.into_index();
            assert_eq!((offset, its_len), (pool::fresh_offset(index), len), "packets of one length, in fresh frames");
            ring.push(index);
            checksums[index as usize] = [packet[CHECKSUM_AT], packet[CHECKSUM_AT + 1]];
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
            checksums,
            tx,
            burst,
            counters: Arc::default(),
        }
    }
}

/// A frame without the headers that it came with: it was sent since. `false` when it is not for this port even so.
#[cold]
#[inline(never)]
fn receive_again(
    reader: &mut Reader,
    headers: &[u8; HEADERS],
    checksum: [u8; 2],
    mut frame: Frame,
    burst: &mut Burst,
) -> bool {
    if let Some(head) = frame.data_mut().first_chunk_mut() {
        *head = *headers;
        [head[CHECKSUM_AT], head[CHECKSUM_AT + 1]] = checksum;
    }
    reader.receive_into(frame, burst).is_ok()
}

impl Port for ReplayPort {
    fn id(&self) -> PortId {
        self.id
    }

    // Once for each burst: what is called has registers of its own.
    #[inline(never)]
    fn rx_burst(&mut self, _now: Time, burst: &mut Burst) -> usize {
        let before = burst.len();
        let mask = self.ring.len() - 1;
        let most = self.burst.min(burst.room()).min(self.tail - self.head);
        let Self { input, ring, reader, headers, checksums, len, counters, .. } = self;
        let (ring, chunks, len) = (&ring[..], input.chunks(), *len);
        for number in self.head..self.head + most {
            if let Some(&ahead) = ring.get((number + AHEAD) & mask) {
                chunks.prefetch::<LINES>(ahead, pool::fresh_offset(ahead));
            }
            let Some(&index) = ring.get(number & mask) else { break };
            // SAFETY: between head and tail the ring holds numbers that `into_index` gave, each once: nobody else owns
            // the chunk; the range is the one that it gave.
            let frame = unsafe { chunks.frame(index, pool::fresh_offset(index), len) };
            if let Err(frame) = reader.usual_into(frame, burst)
                && !receive_again(
                    reader,
                    headers,
                    checksums.get(index as usize).copied().unwrap_or_default(),
                    frame,
                    burst,
                )
            {
                counters.rx_refused.add(1);
            }
        }
        self.head += most;
        let received = burst.len() - before;
        self.counters.rx_packets.add(received as u64);
        received
    }

    // Once for each burst: what is called has registers of its own.
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

    // Once for each burst: what is called has registers of its own.
    #[inline(never)]
    fn housekeep(&mut self, _now: Time) {
        if self.tail == 0 {
            return;
        }
        // Chunks that came back go to the end of the ring: their contents are still the packet. Twice, for the ring may end
        // in between.
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
