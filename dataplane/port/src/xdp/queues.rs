//! The queues of one interface that one lcore serves, as one port.
//!
//! With as many lcores as the interface has queues, each lcore has one queue, at no extra cost. With fewer lcores each
//! serves several: it receives from all in turn, and sends each flow on one, so that datagrams to one slave stay in
//! order.

use crate::xdp::{XdpError, XdpPort};
use crate::{About, Port};
use frame::counter::{CounterSet, Kind, Visitor};
use frame::{Burst, Peer, PortId, Time, TxQueue};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// One or more queues of an interface, polled by one lcore.
pub struct XdpQueues {
    first: XdpPort,
    others: Vec<XdpPort>,
    /// Readable when one of the queues is readable; only with several queues.
    any: Option<OwnedFd>,
    /// Where the next poll begins to receive, so that a busy queue does not starve the others.
    turn: usize,
}

impl XdpQueues {
    /// Makes one port of several queues of one interface, which have the same id.
    ///
    /// # Errors
    /// The kernel has no descriptor to wait on all of them.
    pub fn new(first: XdpPort, others: Vec<XdpPort>) -> Result<Self, XdpError> {
        let any = if others.is_empty() {
            None
        } else {
            let all = std::iter::once(&first).chain(&others);
            let any = epoll(all.filter_map(Port::poll_fd)).map_err(|source| XdpError::Os {
                ifname: first.queue().0.to_owned(),
                action: "wait for its queues",
                source,
            })?;
            Some(any)
        };
        Ok(Self { first, others, any, turn: 0 })
    }

    /// The queues.
    pub fn iter(&self) -> impl Iterator<Item = &XdpPort> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn queue(&mut self, index: usize) -> &mut XdpPort {
        match index.checked_sub(1).and_then(|index| self.others.get_mut(index)) {
            Some(port) => port,
            None => &mut self.first,
        }
    }
}

/// The queue on which a peer's datagrams leave: always the same one, and different ones for different lanes.
#[inline]
fn queue_of(peer: &Peer, queues: usize) -> usize {
    let [.., a, b, c, d] = peer.ip_octets();
    let flow =
        u32::from_ne_bytes([a, b, c, d]) ^ u32::from(peer.udp_port).rotate_left(16) ^ u32::from(peer.source_port);
    let hash = flow.wrapping_mul(0x9e37_79b1);
    ((u64::from(hash) * queues as u64) >> 32) as usize
}

/// A descriptor that is readable while any of these is.
fn epoll<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<OwnedFd> {
    // SAFETY: the call takes an integer only.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
    for fd in fds {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: a live event, which the kernel copies.
        let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(epoll)
}

impl Port for XdpQueues {
    fn id(&self) -> PortId {
        self.first.id()
    }

    #[inline]
    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        if self.others.is_empty() {
            return self.first.rx_burst(now, burst);
        }
        let queues = self.others.len() + 1;
        let mut added = 0;
        for i in 0..queues {
            if burst.room() == 0 {
                break;
            }
            added += self.queue((self.turn + i) % queues).rx_burst(now, burst);
        }
        self.turn = (self.turn + 1) % queues;
        added
    }

    #[inline]
    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        if self.others.is_empty() {
            return self.first.tx_burst(now, queue);
        }
        let queues = self.others.len() + 1;
        self.first.begin_tx();
        self.others.iter_mut().for_each(XdpPort::begin_tx);
        let mut left = 0;
        // In order over all queues: a full ring delays what is behind it for a moment, and nothing overtakes.
        while let Some(head) = queue.peek() {
            let index = queue_of(&head.peer, queues);
            if !self.queue(index).send_first(now, queue) {
                break;
            }
            left += 1;
        }
        self.first.end_tx();
        self.others.iter_mut().for_each(XdpPort::end_tx);
        left
    }

    #[inline]
    fn housekeep(&mut self, now: Time) {
        self.first.housekeep(now);
        self.others.iter_mut().for_each(|port| port.housekeep(now));
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.any {
            // It cannot be used to wait for room to send: it shows only that something can be received.
            Some(any) if !self.wants_writable() => Some(any.as_fd()),
            Some(_) => None,
            None => self.first.poll_fd(),
        }
    }

    fn wants_writable(&self) -> bool {
        self.iter().any(Port::wants_writable)
    }

    fn frames_held(&self) -> usize {
        self.iter().map(Port::frames_held).sum()
    }

    fn mtu(&self) -> u16 {
        self.first.mtu()
    }

    fn rx_lost(&self) -> u64 {
        self.iter().map(Port::rx_lost).sum()
    }

    fn own_end(&self) -> Option<Peer> {
        self.first.own_end()
    }

    fn describe(&self) -> String {
        self.about().describe()
    }

    fn about(&self) -> Arc<dyn About> {
        let queues: Vec<String> = self.iter().map(|port| port.queue().1.to_string()).collect();
        Arc::new(self.first.about_queues(queues.join("+")))
    }

    fn counters(&self) -> Arc<dyn CounterSet> {
        if self.others.is_empty() {
            return self.first.counters();
        }
        Arc::new(Sum(self.iter().map(Port::counters).collect()))
    }
}

/// Sets of the same counters, added up.
struct Sum(Vec<Arc<dyn CounterSet>>);

impl CounterSet for Sum {
    fn name(&self) -> &'static str {
        self.0.first().map_or("", |first| first.name())
    }

    fn visit(&self, visitor: &mut Visitor<'_>) {
        let mut sums: Vec<(String, &'static str, u64)> = Vec::new();
        for set in &self.0 {
            let mut at = 0;
            set.visit(&mut |name, help, value| {
                match sums.get_mut(at) {
                    Some(sum) => sum.2 += value,
                    None => sums.push((name.to_owned(), help, value)),
                }
                at += 1;
            });
        }
        for (name, help, value) in sums {
            visitor(&name, help, value);
        }
    }

    fn kind(&self, counter: &str) -> Kind {
        self.0.first().map_or(Kind::Counter, |first| first.kind(counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Vlan;

    #[test]
    fn a_flow_has_one_queue_and_flows_have_all() {
        let mut peer = Peer::ipv4(PortId(0), [10, 0, 0, 7], 9999, Vlan::UNTAGGED, [2; 6]);
        for queues in [1, 2, 3, 8] {
            let mut sent = vec![0; queues];
            for lane in 0..wire::LANES {
                peer.source_port = wire::lane_port(lane);
                let queue = queue_of(&peer, queues);
                sent[queue] += 1;
                peer.mac = [3; 6];
                assert_eq!(queue_of(&peer, queues), queue, "the way there is not part of a flow");
            }
            let fair = usize::from(wire::LANES) / queues;
            assert!(sent.iter().all(|&lanes| lanes > fair * 8 / 10), "{sent:?}");
        }
        // Masters, and slaves of one lane, by their addresses.
        let masters = (0..64).map(|i| queue_of(&Peer::ipv4(PortId(0), [10, 0, 0, i], 9999, Vlan::UNTAGGED, [2; 6]), 4));
        assert_eq!(masters.collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
}
