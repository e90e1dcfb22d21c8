//! Sources and sinks of datagrams: UDP sockets, NIC queues through AF_XDP, devices of DPDK, memory.
//!
//! A [`Port`] is polled by one lcore. It fills in the [`frame::Peer`] of received datagrams, and writes the L2 to L4
//! headers of sent ones in place, in the frame's headroom. No code above it handles headers.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod addresses;
mod ahead;
pub mod any;
pub mod around;
mod both;
pub mod claims;
pub mod dpdk;
pub mod headers;
pub mod host;
mod lock;
pub mod memory;
pub mod neighbour;
mod netlink;
pub mod rate;
mod raw;
pub mod replay;
pub mod source;
pub mod spec;
pub mod udp;
pub mod vlans;
pub mod watch;
pub mod xdp;

mod lent;
mod sockopt;
mod worker;

use frame::counter::CounterSet;
use frame::{Burst, Peer, PortId, Time, TxQueue};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// What other threads than its lcore may ask about a port: the values at the time of the call.
pub trait About: Send + Sync {
    /// As [`Port::describe`].
    fn describe(&self) -> String;

    /// As [`Port::mtu`].
    fn mtu(&self) -> u16;

    /// As [`Port::own_end`].
    fn own_end(&self) -> Option<Peer>;

    /// Whether packets can pass, according to the kernel; `None` if the kernel does not report it.
    fn link(&self) -> Option<watch::Link> {
        None
    }
}

/// Facts about a port that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As [`Port::describe`].
    pub description: String,
    /// As [`Port::mtu`].
    pub mtu: u16,
    /// As [`Port::own_end`].
    pub own_end: Option<Peer>,
}

impl About for Facts {
    fn describe(&self) -> String {
        self.description.clone()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn own_end(&self) -> Option<Peer> {
        self.own_end
    }
}

/// One queue of a NIC, one socket, or one end of a piece of memory, polled by one lcore.
pub trait Port {
    /// Which of the process's ports it is: goes into the peers of what it receives.
    fn id(&self) -> PortId;

    /// Receives until the burst is full or nothing waits; each datagram's data is exactly the UDP payload. Returns how
    /// many datagrams were added. Packets that are malformed or not for us are counted and dropped.
    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize;

    /// Sends from the front of the queue while the ring has room, in order. Returns how many datagrams left the queue.
    /// Datagrams that do not fit stay queued; those that can never be sent are taken with [`TxQueue::fail`] and counted
    /// by reason.
    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize;

    /// Takes back completed frames, refills rings, kicks the kernel: once per poll, after [`Port::tx_burst`].
    fn housekeep(&mut self, now: Time);

    /// The descriptor to wait on for received packets, if the port has one.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the port also waits for room to send (its ring was full at the last [`Port::tx_burst`]).
    fn wants_writable(&self) -> bool;

    /// When it must be polled at the latest, because it holds back what waits to be sent; `None` if it holds back
    /// nothing.
    fn deadline(&self) -> Option<Time> {
        None
    }

    /// Whether received datagrams wait inside the port, because a burst or the pool had no room for them. The
    /// descriptor says nothing of them.
    fn has_received(&self) -> bool {
        false
    }

    /// Whether every look for packets is a system call, also one that finds nothing. An lcore that has only such ports
    /// may stay away for a moment, so that the next look finds several packets.
    fn asks_the_kernel(&self) -> bool {
        false
    }

    /// Frames of the lcore's pool that the port or its device owns (fill, rx, tx and completion rings).
    fn frames_held(&self) -> usize;

    /// The largest IP packet the port can send, in bytes.
    fn mtu(&self) -> u16;

    /// Packets that were lost before the port saw them, if the device reports them (ring full, socket buffer full).
    fn rx_lost(&self) -> u64;

    /// Its own end as its peers see it: address, UDP port, and on raw ports the Ethernet address. `None` when it has
    /// none.
    fn own_end(&self) -> Option<Peer> {
        None
    }

    /// One line for start-up and `stats`: what it is and how it works (mode, queue, address).
    fn describe(&self) -> String;

    /// The same facts for other threads, as they change while the port is polled. If the port has no device that can
    /// change, they are the present facts.
    fn about(&self) -> Arc<dyn About> {
        Arc::new(Facts { description: self.describe(), mtu: self.mtu(), own_end: self.own_end() })
    }

    /// The port's counters, for other threads to read.
    fn counters(&self) -> Arc<dyn CounterSet>;
}
