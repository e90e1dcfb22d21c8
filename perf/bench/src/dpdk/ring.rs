//! Input that lies in a ring before the clock starts: then the driver only hands out pointers.
//!
//! A device of `net_ring` is a loop: it receives what it was sent. The benchmark writes packets into frames of the
//! lcore's own pool and sends them into the ring, which is not timed. Then it measures the polls in which the gateway
//! receives them. The packets were written a moment ago, so they are in the second-level cache.

use crate::stopwatch::Stopwatch;
use anyhow::Context as _;
use frame::Pool;
use gateway::Gateway;
use lcore::{Clock, Lcore};
use port::dpdk::DpdkPort;
use std::sync::Arc;
use std::time::Instant;

/// Packets in the ring when the clock starts: whole bursts, fewer than the 1,023 that a ring of the driver holds.
const FILL: usize = 15 * 64;
/// A ring that is not empty after this many polls has lost packets.
const MOST_POLLS: usize = 100_000;

/// The lcore that is measured.
pub(super) type Forwarder = Lcore<Gateway, DpdkPort>;

/// Records that the gateway has received.
pub(super) fn records_in(lcore: &Forwarder) -> u64 {
    lcore.role().counters().down.records_in.get()
}

/// Packets for the ring of a device.
pub(super) struct Ring {
    packets: Arc<Vec<Vec<u8>>>,
    /// The number of the next packet.
    next: usize,
}

impl Ring {
    /// These packets, one after the other, again and again.
    pub(super) fn new(packets: Arc<Vec<Vec<u8>>>) -> Self {
        Self { packets, next: 0 }
    }

    /// Fills and empties the ring of the lcore's first port until this time. Returns nanoseconds of CPU time of the
    /// polls alone.
    ///
    /// # Errors
    /// The ring does not take the packets, or the gateway does not receive all of them.
    pub(super) fn run(
        &mut self,
        lcore: &mut Forwarder,
        pool: &Pool,
        clock: Clock,
        until: Instant,
    ) -> anyhow::Result<f64> {
        let mut nanoseconds = 0.0;
        loop {
            self.fill(lcore, pool)?;
            let wanted = records_in(lcore) + FILL as u64;
            let mut polls = 0;
            let watch = Stopwatch::start();
            while records_in(lcore) < wanted {
                lcore.poll_once(clock.now());
                polls += 1;
                anyhow::ensure!(polls < MOST_POLLS, "the gateway did not receive all packets of the ring");
            }
            nanoseconds += watch.nanoseconds();
            if Instant::now() >= until {
                return Ok(nanoseconds);
            }
        }
    }

    /// Writes the next packets into frames, and sends those into the ring.
    fn fill(&mut self, lcore: &mut Forwarder, pool: &Pool) -> anyhow::Result<()> {
        let mut frames = Vec::with_capacity(FILL);
        for _ in 0..FILL {
            let packet = self.packets.get(self.next).context("there are packets")?;
            self.next = (self.next + 1) % self.packets.len();
            let mut frame = pool.alloc().context("the pool has a frame for each packet of the ring")?;
            anyhow::ensure!(frame.append(packet), "a packet is longer than a chunk");
            frames.push(frame);
        }
        let port = lcore.ports_mut().first_mut().context("the lcore has a port")?;
        while !frames.is_empty() {
            anyhow::ensure!(port.send_whole(&mut frames) > 0, "the ring takes no more packets");
        }
        Ok(())
    }
}
