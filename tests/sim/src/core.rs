//! One lcore with its memory ports, as the event loop sees it.

use crate::place::Place;
use crate::slow::SlowPort;
use frame::time::{FOREVER, MILLISECOND};
use frame::{Hugepages, Pool, PoolConfig, PortId, Role, Time};
use lcore::mailbox::{Sender, mailbox_without_doorbell};
use lcore::{ControlSender, Lcore};
use port::memory::{MemoryConfig, MemoryPort};

/// The longest sleep of an lcore, as in the poll loop of a thread.
pub const LONGEST_SLEEP: u64 = 100 * MILLISECOND;

/// Sizes of an lcore.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Frames of its arena.
    pub frames: u32,
    /// Bytes of each.
    pub chunk: u32,
    /// Largest IP packet of its ports, the first one first.
    pub mtus: [u16; 2],
    /// Frames in each RX ring.
    pub rx_ring: usize,
    /// Frames in each TX ring.
    pub tx_ring: usize,
    /// Places in its mailbox.
    pub mailbox: usize,
}

/// One lcore, and when it must be polled.
pub struct Core<R: Role> {
    /// The same object that a thread polls.
    pub lcore: Lcore<R, SlowPort>,
    /// The commands for its role.
    pub commands: Sender<R::Command>,
    /// When it will be polled next; earlier events in the queue are void.
    pub wake: Time,
    /// It stands still until then.
    pub stalled: Time,
    /// A NIC takes frames from its TX rings, one at a time.
    pub sending: bool,
    /// Frames arrived since the last poll.
    pub news: bool,
}

impl<R: Role> Core<R> {
    /// An lcore with a port in each of `places`, and the role that `make` makes of its frames.
    pub fn new(
        index: u16,
        places: &[Place],
        sizes: Sizes,
        registrar: Option<ControlSender>,
        make: impl FnOnce(&Pool) -> R,
    ) -> Self {
        let config = PoolConfig {
            frames: sizes.frames,
            chunk: sizes.chunk,
            hugepages: Hugepages::Never,
            ..PoolConfig::default()
        };
        let pool = Pool::new(config).expect("a small arena can be mapped");
        let ports = places.iter().map(|place| {
            let Sizes { mtus, rx_ring, tx_ring, .. } = sizes;
            let mtu = mtus[usize::from(place.port)];
            let config = MemoryConfig { local: place.local(), mtu, rx_ring, tx_ring };
            SlowPort::new(MemoryPort::new(PortId(place.port), config, pool.clone()))
        });
        let ports = ports.collect();
        let role = make(&pool);
        let (commands, mailbox) = mailbox_without_doorbell(sizes.mailbox);
        let lcore = Lcore::new(index, role, ports, pool, mailbox, registrar);
        Self { lcore, commands, wake: FOREVER, stalled: 0, sending: false, news: false }
    }

    /// Polls at a time. Returns what was done and the latest time of the next poll.
    pub fn poll(&mut self, now: Time) -> (lcore::Polled, Time) {
        let polled = self.lcore.poll_once(now);
        let next = if polled.is_empty() {
            let until = self.lcore.deadline().unwrap_or(FOREVER).min(now + LONGEST_SLEEP);
            let backlog: usize = (0..self.lcore.ports().len()).map(|id| self.backlog(id)).sum();
            // Link control waits for the registrar, or cargo for a slow destination: the lcore sleeps only shortly.
            let until = if self.lcore.outbox().frames() > backlog { until.min(now + 50_000) } else { until };
            until.max(now + 1_000)
        } else {
            now + 500
        };
        (polled, next)
    }

    /// Takes the next frame from the TX rings, and says from which port.
    pub fn collect(&mut self) -> Option<(u8, Vec<u8>)> {
        let ports = self.lcore.ports_mut().iter_mut().enumerate();
        ports.into_iter().find_map(|(id, port)| Some((id as u8, port.collect()?.data().to_vec())))
    }

    /// Datagrams that wait for a port's TX ring.
    pub fn backlog(&self, port: usize) -> usize {
        self.lcore.outbox().backlog(PortId(port as u8))
    }

    /// Whether every frame is back in the pool.
    pub fn is_whole(&self) -> bool {
        let pool = self.lcore.outbox().pool();
        pool.free() == pool.capacity()
    }
}
