//! The measured role and its baseline in one role, so that both have the same lcore, arena and ports.

use frame::{BURST, Burst, Class, Outbox, Peer, PortId, Role, Time};
use gateway::{Gateway, GatewayCommand};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an lcore rests after it has caught up: even at the lowest rate of any generator, its rings overflow in that
/// time.
const REST: Duration = Duration::from_millis(3);

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The gateway.
    Ours,
    /// The bare forwarder: it reads no packet, writes new headers in place and sends.
    Bare,
}

/// The commands of the benchmark to its role.
#[derive(Debug)]
pub enum Order {
    /// From now on this subject forwards.
    Use(Which),
    /// For the gateway.
    Gateway(GatewayCommand),
    /// From now on the lcore rests whenever it has caught up with its input, or never.
    ///
    /// One core of the kernel makes fewer packets than a gateway can merge. An lcore that rests until its rings have
    /// overflowed then works under full load, burst after full burst, for all of the processor time that it uses.
    Rest(bool),
}

/// A gateway, and a bare forwarder beside it.
pub struct Subject {
    gateway: Gateway,
    which: Which,
    /// Where all packets go.
    to: Peer,
    rests: bool,
    /// Datagrams of this poll.
    taken: usize,
    rested_ns: Arc<AtomicU64>,
}

impl Subject {
    /// A gateway that forwards by its routes, or a forwarder that sends all packets to one place.
    pub fn new(gateway: Gateway, to: Peer) -> Self {
        Self { gateway, which: Which::Ours, to, rests: false, taken: 0, rested_ns: Arc::default() }
    }

    /// Nanoseconds at rest, for other threads to read.
    pub fn rested_ns(&self) -> &Arc<AtomicU64> {
        &self.rested_ns
    }

    #[cold]
    fn rest(&self) {
        let began = Instant::now();
        std::thread::sleep(REST);
        self.rested_ns.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Role for Subject {
    type Command = Order;

    #[inline]
    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox) {
        self.taken += burst.len();
        match self.which {
            Which::Ours => self.gateway.receive(now, port, burst, out),
            Which::Bare => {
                for mut datagram in burst.drain() {
                    datagram.peer = self.to;
                    datagram.class = Class::Down;
                    datagram.records = 1;
                    out.send(datagram);
                }
            }
        }
    }

    #[inline]
    fn advance(&mut self, now: Time, out: &mut Outbox) {
        match self.which {
            Which::Ours => self.gateway.advance(now, out),
            Which::Bare => {}
        }
        if std::mem::take(&mut self.taken) < BURST && self.rests {
            self.rest();
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.which {
            Which::Ours => self.gateway.deadline(),
            Which::Bare => None,
        }
    }

    fn command(&mut self, now: Time, order: Order, out: &mut Outbox) {
        match order {
            Order::Use(which) => self.which = which,
            Order::Rest(rests) => self.rests = rests,
            Order::Gateway(command) => self.gateway.command(now, command, out),
        }
    }

    fn is_drained(&self) -> bool {
        self.gateway.is_drained()
    }

    fn frames_held(&self) -> usize {
        self.gateway.frames_held()
    }
}
