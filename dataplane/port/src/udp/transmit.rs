//! Sends bursts through the first socket, and datagrams for slow destinations through the separate ones.

use super::{UdpCounters, UdpPort, is_about_earlier};
use frame::outbox::SLOW_QUEUES;
use frame::{BURST, Class, Counter, Datagram, Peer, Time, TxQueue};
use std::io;
use std::os::fd::AsFd;

/// The most pending socket errors that one poll reads while it sends; the rest is left to the next poll.
const TX_ERRORS: usize = 16;

/// The result of a send call.
enum Sent {
    /// So many datagrams went out.
    Out(usize),
    /// The send buffer is full.
    Full,
    /// The error was about an earlier datagram: try once more.
    Again,
    /// The first datagram can never be sent.
    Never(io::Error),
}

fn sent(result: io::Result<usize>, counters: &UdpCounters) -> Sent {
    match result {
        Ok(count) => Sent::Out(count),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => Sent::Full,
        Err(error) if is_about_earlier(&error) => {
            counters.icmp_errors.add(1);
            Sent::Again
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Sent::Again,
        Err(error) => Sent::Never(error),
    }
}

/// How many datagrams wait for each separate socket.
fn waiting(queue: &TxQueue) -> [usize; SLOW_QUEUES] {
    std::array::from_fn(|number| queue.slow_len(number))
}

impl UdpPort {
    /// [`crate::Port::tx_burst`].
    pub(super) fn transmit(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        self.blocked = false;
        let left = if self.slow.has_members() {
            self.send_sorted(now, queue)
        } else {
            self.send_first(now, queue, usize::MAX)
        };
        let trains = self.outgoing.tally();
        self.counters.tx_trains.set(trains.sent);
        self.counters.tx_trains_refused.set(trains.refused);
        left
    }

    /// From time to time: destinations whose link keeps up return to the first socket.
    #[cold]
    pub(super) fn review(&mut self, now: Time) {
        self.slow.review(now, self.waiting);
        self.say_slow();
    }

    /// Sends up to `most` datagrams from the front of the queue through the first socket.
    fn send_first(&mut self, now: Time, queue: &mut TxQueue, most: usize) -> usize {
        let (mut left, mut errors) = (0, 0);
        while left < most && queue.backlog() > 0 {
            let (fd, ipv6, own) = (self.socket.as_fd(), self.local.is_ipv6(), self.own.as_deref());
            let result = self.outgoing.send(fd, ipv6, own, queue.iter_mut().take(most - left));
            match sent(result, &self.counters) {
                Sent::Out(count) => {
                    self.slow.note(queue.iter().take(count));
                    let mut bytes = 0;
                    for _ in 0..count {
                        let Some(datagram) = queue.take() else { break };
                        bytes += datagram.frame.len();
                    }
                    self.counters.tx_datagrams.add(count as u64);
                    self.counters.tx_bytes.add(bytes as u64);
                    left += count;
                    if self.slow.is_due(count, bytes) {
                        self.slow.look(now, self.socket.as_fd(), waiting(queue));
                        self.say_slow();
                        if self.slow.has_members() && most == usize::MAX {
                            // From here on, datagrams for separate destinations take another way.
                            return left + self.send_sorted(now, queue);
                        }
                    }
                }
                Sent::Full => {
                    self.counters.tx_full.add(1);
                    self.blocked = true;
                    self.slow.is_blocked(now, self.socket.as_fd(), waiting(queue));
                    self.say_slow();
                    left += self.send_urgent(now, queue);
                    break;
                }
                Sent::Again => {
                    errors += 1;
                    if errors == TX_ERRORS {
                        break;
                    }
                }
                Sent::Never(error) => {
                    self.drop_first(queue, &error);
                    left += 1;
                }
            }
        }
        left
    }

    /// Sends what it can while some destinations are separate: each datagram through the socket of its destination.
    #[cold]
    fn send_sorted(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        let mut left = 0;
        loop {
            let run = queue.iter().take(BURST).take_while(|datagram| self.socket_apart(datagram).is_none()).count();
            if run > 0 {
                let gone = self.send_first(now, queue, run);
                left += gone;
                if self.blocked || gone == 0 {
                    break;
                }
                continue;
            }
            let Some(at) = queue.peek().and_then(|head| self.socket_apart(head)) else { break };
            if !queue.set_aside(at) {
                // Dropped, and counted.
                left += 1;
            }
        }
        for at in 0..self.slow.sockets() {
            left += self.send_apart(now, at, queue);
        }
        self.waiting = waiting(queue);
        left
    }

    /// The separate socket through which a datagram leaves; `None` for the first one.
    fn socket_apart(&self, datagram: &Datagram) -> Option<usize> {
        if datagram.class == Class::Link || !self.may_leave_apart(&datagram.peer) {
            return None;
        }
        self.slow.socket_of(&datagram.peer)
    }

    /// Whether a separate socket can send to a peer. If it is bound to no address, the datagram must name its source,
    /// because the socket is connected from the loopback's address.
    fn may_leave_apart(&self, peer: &Peer) -> bool {
        self.own.as_ref().is_none_or(|own| own.get(peer.local & !Peer::ROCE).is_some())
    }

    /// Sends from a slow queue through its socket.
    fn send_apart(&mut self, now: Time, at: usize, queue: &mut TxQueue) -> usize {
        let (mut left, mut errors) = (0, 0);
        while queue.slow_len(at) > 0 && self.slow.may_try(now, at) {
            let Some(fd) = self.slow.fd(at) else { break };
            let (ipv6, own) = (self.local.is_ipv6(), self.own.as_deref());
            let result = self.outgoing.send(fd, ipv6, own, queue.slow_iter_mut(at));
            match sent(result, &self.counters) {
                Sent::Out(count) => {
                    for _ in 0..count {
                        let Some(datagram) = queue.take_slow(at) else { break };
                        self.counters.tx_datagrams.add(1);
                        self.counters.tx_bytes.add(datagram.frame.len() as u64);
                    }
                    self.slow.count(at, count);
                    left += count;
                }
                Sent::Full => {
                    self.counters.tx_slow_full.add(1);
                    self.slow.set_full(now, at);
                    break;
                }
                Sent::Again => {
                    errors += 1;
                    if errors == TX_ERRORS {
                        break;
                    }
                }
                Sent::Never(error) => {
                    self.count_refused(queue.slow_iter_mut(at).next().map(|datagram| &*datagram), &error);
                    drop(queue.fail_slow(at));
                    left += 1;
                }
            }
        }
        left
    }

    /// The first socket is full: link control at the front leaves through a separate one, so that it never waits behind
    /// cargo.
    #[cold]
    fn send_urgent(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        let mut left = 0;
        while let Some(at) = self.slow.roomy(now) {
            let may = |datagram: &&mut Datagram| datagram.class == Class::Link && self.may_leave_apart(&datagram.peer);
            let run = queue.iter_mut().take(BURST).take_while(may).count();
            let Some(fd) = self.slow.fd(at).filter(|_| run > 0) else { break };
            let (ipv6, own) = (self.local.is_ipv6(), self.own.as_deref());
            match self.outgoing.send(fd, ipv6, own, queue.iter_mut().take(run)) {
                Ok(count) => {
                    for _ in 0..count {
                        let Some(datagram) = queue.take() else { break };
                        self.counters.tx_datagrams.add(1);
                        self.counters.tx_bytes.add(datagram.frame.len() as u64);
                    }
                    left += count;
                }
                // Any error: the first socket reports it when it has room again.
                Err(_) => self.slow.set_full(now, at),
            }
        }
        left
    }

    #[cold]
    fn say_slow(&self) {
        let (now, found) = self.slow.counts();
        self.counters.tx_slow_destinations.set(now);
        self.counters.tx_slow_found.set(found);
    }

    /// Removes the first datagram of the queue, which can never be sent for this reason.
    pub(super) fn drop_first(&self, queue: &mut TxQueue, error: &io::Error) {
        self.count_refused(queue.peek(), error);
        drop(queue.fail());
    }

    /// Counts why a datagram can never be sent.
    fn count_refused(&self, datagram: Option<&Datagram>, error: &io::Error) {
        let counters = &self.counters;
        let chosen = |datagram: &Datagram| datagram.peer.local & !Peer::ROCE != 0 && datagram.peer.udp_port != 0;
        let has_source = self.own.is_some() && datagram.is_some_and(chosen);
        let reason: &Counter = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => &counters.tx_dropped_too_long,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EADDRNOTAVAIL) => {
                &counters.tx_dropped_unreachable
            }
            Some(libc::EPERM | libc::EACCES) => &counters.tx_dropped_not_permitted,
            Some(libc::EAFNOSUPPORT) => &counters.tx_dropped_family,
            // The kernel's error for an IPv6 source that is not one of its addresses; for IPv4 it reports that there is
            // no route.
            Some(libc::EINVAL) if has_source => &counters.tx_dropped_unreachable,
            _ => &counters.tx_dropped_other,
        };
        reason.add(1);
    }
}
