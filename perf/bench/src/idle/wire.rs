//! A memory port whose wire ends in another thread: it can be slept on, and says when it sent.

use crossbeam_queue::ArrayQueue;
use frame::counter::CounterSet;
use frame::{Burst, Pool, PortId, Time, TxQueue};
use lcore::Clock;
use port::Port;
use port::headers::{self, Local, Verify};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

frame::counters! {
    /// What the benchmark's wire carried.
    pub struct WireCounters {
        /// Frames that came in.
        rx_packets,
        /// Frames that went out.
        tx_packets,
    }
}

/// The other end of a port's wire.
pub(super) struct Wire {
    to_port: ArrayQueue<Vec<u8>>,
    readable: OwnedFd,
    sent_at: AtomicU64,
    sent: AtomicU64,
}

impl Wire {
    /// A wire with nothing on it.
    pub(super) fn new() -> anyhow::Result<Self> {
        let readable = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { to_port: ArrayQueue::new(64), readable, sent_at: AtomicU64::new(0), sent: AtomicU64::new(0) })
    }

    /// Delivers an Ethernet frame, as an interrupt does.
    pub(super) fn deliver(&self, packet: Vec<u8>) -> anyhow::Result<()> {
        self.to_port.push(packet).map_err(|_| anyhow::anyhow!("the wire is full: the lcore does not receive"))?;
        rustix::io::write(&self.readable, &1u64.to_ne_bytes())?;
        Ok(())
    }

    /// Frames sent so far, and when the last one was given to the port.
    pub(super) fn sent(&self) -> (u64, Time) {
        let sent = self.sent.load(Ordering::Acquire);
        (sent, self.sent_at.load(Ordering::Relaxed))
    }
}

/// The port's end.
pub(super) struct WirePort {
    id: PortId,
    local: Local,
    wire: Arc<Wire>,
    pool: Pool,
    clock: Clock,
    counters: Arc<WireCounters>,
}

impl WirePort {
    /// A port on this wire.
    pub(super) fn new(id: PortId, local: Local, wire: &Arc<Wire>, pool: &Pool, clock: Clock) -> Self {
        Self { id, local, wire: Arc::clone(wire), pool: pool.clone(), clock, counters: Arc::default() }
    }
}

impl Port for WirePort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx_burst(&mut self, _now: Time, burst: &mut Burst) -> usize {
        let before = burst.len();
        // The bell is silenced before the queue is emptied: what comes in between rings again.
        if !self.wire.to_port.is_empty() {
            let _ = rustix::io::read(&self.wire.readable, &mut [0u8; 8]);
        }
        while burst.room() > 0
            && let Some(packet) = self.wire.to_port.pop()
        {
            if let Some(mut frame) = self.pool.alloc()
                && frame.append(&packet)
                && let Ok(datagram) = headers::receive(frame, self.id, &self.local, Verify::Software)
                && burst.push(datagram).is_ok()
            {
                self.counters.rx_packets.add(1);
            }
        }
        burst.len() - before
    }

    fn tx_burst(&mut self, _now: Time, queue: &mut TxQueue) -> usize {
        let mut sent = 0;
        while let Some(mut datagram) = queue.take() {
            if headers::write(&mut datagram, &self.local).is_ok() {
                sent += 1;
            }
        }
        self.counters.tx_packets.add(sent as u64);
        self.wire.sent_at.store(self.clock.now(), Ordering::Relaxed);
        self.wire.sent.store(self.counters.tx_packets.get(), Ordering::Release);
        sent
    }

    fn housekeep(&mut self, _now: Time) {}

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wire.readable.as_fd())
    }

    fn wants_writable(&self) -> bool {
        false
    }

    fn frames_held(&self) -> usize {
        0
    }

    fn mtu(&self) -> u16 {
        1500
    }

    fn rx_lost(&self) -> u64 {
        0
    }

    fn describe(&self) -> String {
        "a wire of the benchmark".to_owned()
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        Arc::<WireCounters>::clone(&self.counters) as Arc<dyn CounterSet>
    }
}
