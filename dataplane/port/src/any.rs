//! A port of any kind, so that one lcore can have sockets and NIC queues side by side.

use crate::dpdk::DpdkPort;
use crate::rate::{Limit, RatedPort};
use crate::udp::UdpPort;
use crate::xdp::XdpQueues;
use crate::{About, Port};
use frame::counter::CounterSet;
use frame::{Burst, Peer, PortId, Time, TxQueue};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A port whose kind was chosen at start. The kind is checked once per burst.
pub enum AnyPort {
    /// A socket of the kernel.
    Udp(Box<UdpPort>),
    /// NIC queues through AF_XDP.
    Xdp(Box<XdpQueues>),
    /// A queue pair of a device of DPDK.
    Dpdk(Box<DpdkPort>),
    /// One of these with a rate.
    Rated(Box<RatedPort<AnyPort>>),
}

impl AnyPort {
    /// The same port, which sends no more than a rate allows.
    #[must_use]
    pub fn limited(self, limit: Limit) -> Self {
        Self::Rated(Box::new(RatedPort::new(self, limit)))
    }
}

macro_rules! each {
    ($port:expr, $inner:ident => $call:expr) => {
        match $port {
            AnyPort::Udp($inner) => $call,
            AnyPort::Xdp($inner) => $call,
            AnyPort::Dpdk($inner) => $call,
            AnyPort::Rated($inner) => $call,
        }
    };
}

impl From<UdpPort> for AnyPort {
    fn from(port: UdpPort) -> Self {
        Self::Udp(Box::new(port))
    }
}

impl From<XdpQueues> for AnyPort {
    fn from(port: XdpQueues) -> Self {
        Self::Xdp(Box::new(port))
    }
}

impl From<DpdkPort> for AnyPort {
    fn from(port: DpdkPort) -> Self {
        Self::Dpdk(Box::new(port))
    }
}

impl Port for AnyPort {
    #[inline]
    fn id(&self) -> PortId {
        each!(self, port => port.id())
    }

    #[inline]
    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        each!(self, port => port.rx_burst(now, burst))
    }

    #[inline]
    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        each!(self, port => port.tx_burst(now, queue))
    }

    #[inline]
    fn housekeep(&mut self, now: Time) {
        each!(self, port => port.housekeep(now));
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        each!(self, port => port.poll_fd())
    }

    fn wants_writable(&self) -> bool {
        each!(self, port => port.wants_writable())
    }

    fn deadline(&self) -> Option<Time> {
        each!(self, port => port.deadline())
    }

    fn has_received(&self) -> bool {
        each!(self, port => port.has_received())
    }

    fn asks_the_kernel(&self) -> bool {
        each!(self, port => port.asks_the_kernel())
    }

    fn frames_held(&self) -> usize {
        each!(self, port => port.frames_held())
    }

    fn mtu(&self) -> u16 {
        each!(self, port => port.mtu())
    }

    fn rx_lost(&self) -> u64 {
        each!(self, port => port.rx_lost())
    }

    fn own_end(&self) -> Option<Peer> {
        each!(self, port => port.own_end())
    }

    fn describe(&self) -> String {
        each!(self, port => port.describe())
    }

    fn about(&self) -> Arc<dyn About> {
        each!(self, port => port.about())
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        each!(self, port => port.counters())
    }
}
