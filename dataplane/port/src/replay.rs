//! A port that receives the same packets again and again, and whose transmit side is a sink: for benchmarks.
//!
//! It stands for a NIC that is never the limit. Packets lie in the chunks of a pool of their own, written once; the port
//! hands the chunks out in turn, as a receive ring does, and takes them back when they are free. With more packets than
//! the cache holds, every one is read from memory. Transmitted frames stay in a ring, as a NIC holds them until they
//! are on the wire, and then go back to their pool.

use crate::Port;
use crate::headers::{self, Local, Reader, Verify};
use frame::counter::CounterSet;
use frame::{Burst, Frame, Pool, PortId, Time, TxQueue};
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

/// How many transmitted frames the sink keeps before the oldest goes back to its pool.
const TX_RING: usize = 512;

/// Bytes of Ethernet, IPv4 and UDP headers, without a tag.
const HEADERS: usize = wire::net::headers_len(false);

/// Chunks that are taken back at once.
const TAKE_BACK: usize = 64;

/// See the module's documentation.
pub struct ReplayPort {
    id: PortId,
    local: Local,
    reader: Reader,
    mtu: u16,
    input: Pool,
    /// Where the packet of each chunk lies, by the chunk's number.
    packets: Vec<(u16, u16)>,
    /// Packets in the order in which they will be handed out: chunk, offset, length. As many places as chunks, rounded
    /// up to a power of two, so that the ring cannot overflow.
    ring: Vec<(u32, u16, u16)>,
    /// Packets handed out since the start; the next one stands at this place of the ring, modulo its size.
    head: usize,
    /// Packets put into the ring since the start.
    tail: usize,
    /// The headers that all packets have: a gateway that makes a received frame its buffer overwrites them, so they are
    /// written again, as the device would.
    headers: [u8; HEADERS],
    tx: VecDeque<Frame>,
    burst: usize,
    counters: Arc<ReplayCounters>,
}

impl ReplayPort {
    /// A port that receives `packets` (whole Ethernet frames with the same first 42 bytes), each in a chunk of `input`, which
    /// must have exactly one chunk for each; `burst` of them at once. A port with no packets only sends.
    ///
    /// # Panics
    /// If `input` has another number of chunks, or a packet is shorter than its headers or longer than a chunk.
    pub fn new(id: PortId, local: Local, mtu: u16, input: Pool, packets: &[Vec<u8>], burst: usize) -> Self {
        assert!(packets.is_empty() || packets.len() == input.capacity() as usize, "one chunk for each packet");
        let mut headers = [0; HEADERS];
        let mut places = vec![(0, 0); input.capacity() as usize];
        let mut ring = Vec::with_capacity(input.capacity().next_power_of_two() as usize);
        for packet in packets {
            headers.copy_from_slice(&packet[..HEADERS]);
            let mut frame = input.alloc_reserved().expect("a chunk for each packet");
            assert!(frame.append(packet), "a packet longer than a chunk");
            let (index, offset, len) = frame.into_index();
            places[index as usize] = (offset, len);
            ring.push((index, offset, len));
        }
        let tail = ring.len();
        ring.resize(ring.capacity(), (0, 0, 0));
        let tx = VecDeque::with_capacity(TX_RING + 1);
        Self {
            id,
            local,
            reader: Reader::new(id, &local, Verify::Nic),
            mtu,
            input,
            packets: places,
            ring,
            head: 0,
            tail,
            headers,
            tx,
            burst,
            counters: Arc::default(),
        }
    }

    /// Asks the cache for the rest of the next packets, after the first line. Not at once with the first: the core has
    /// few places for lines on their way.
    fn prefetch_rest(&self) {
        let mask = self.ring.len() - 1;
        for number in self.head..self.head + AHEAD {
            if let Some(&(index, at, len)) = self.ring.get(number & mask) {
                self.input.prefetch_rest(index, at, len);
            }
        }
    }

    /// A frame without the headers that it came with: it was sent since.
    #[cold]
    #[inline(never)]
    fn receive_again(&self, mut frame: Frame, burst: &mut Burst) {
        if let Some(head) = frame.data_mut().first_chunk_mut() {
            *head = self.headers;
        }
        if self.reader.receive_into(frame, burst).is_err() {
            self.counters.rx_refused.add(1);
        }
    }
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
        let reader = self.reader.clone();
        for number in self.head..self.head + most {
            if let Some(&(ahead, at, _)) = self.ring.get((number + AHEAD) & mask) {
                self.input.prefetch(ahead, at);
            }
            let Some(&(index, offset, len)) = self.ring.get(number & mask) else { break };
            // SAFETY: between head and tail the ring holds numbers that `into_index` gave, each once: nobody else owns
            // the chunk.
            let frame = unsafe { self.input.from_index(index, offset, len) };
            if let Err(frame) = reader.usual_into(frame, burst) {
                self.receive_again(frame, burst);
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
        // Chunks that came back go to the end of the ring: their contents are still the packet.
        let mask = self.ring.len() - 1;
        let mut chunks = [0; TAKE_BACK];
        loop {
            let taken = self.input.take_free(&mut chunks);
            for &index in chunks.iter().take(taken) {
                if let Some(&(offset, len)) = self.packets.get(index as usize)
                    && let Some(place) = self.ring.get_mut(self.tail & mask)
                {
                    *place = (index, offset, len);
                    self.tail += 1;
                }
            }
            if taken < TAKE_BACK {
                self.prefetch_rest();
                return;
            }
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
        format!("replay of {} packets", self.packets.len())
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::<ReplayCounters>::clone(&self.counters) as Arc<dyn CounterSet>
    }
}
