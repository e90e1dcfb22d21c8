//! Slow links: a port around a memory port, through which some destinations take a datagram only from time to time.
//!
//! It does for a memory port what a socket's port does for the kernel: it sets aside datagrams that find no room
//! because their destination is slow, and all others go on.

use crate::place::Place;
use frame::outbox::SLOW_QUEUES;
use frame::{Frame, Peer, Time, TxQueue};
use port::Port;
use port::around::PortAround;
use port::memory::MemoryPort;

/// A destination behind a slow link.
#[derive(Clone, Copy, Debug)]
pub struct SlowLink {
    /// Where it is.
    pub to: Place,
    /// Time that the link needs for a datagram, in nanoseconds.
    pub gap: Time,
}

/// See the module's documentation.
pub struct SlowPort {
    inner: MemoryPort,
    /// The destinations of the slow queues, their links, and when those are free again.
    links: Vec<(SlowLink, Time)>,
    /// They are as fast as the others again.
    healed: bool,
}

impl SlowPort {
    /// A port of which no destination is slow.
    pub fn new(inner: MemoryPort) -> Self {
        Self { inner, links: Vec::new(), healed: true }
    }

    /// These destinations are slow from now on, as many of them as there are slow queues.
    pub fn set_slow(&mut self, links: &[SlowLink]) {
        self.links = links.iter().take(SLOW_QUEUES).map(|link| (*link, 0)).collect();
        self.healed = false;
    }

    /// No destination is slow any more. Waiting datagrams leave first.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// As [`MemoryPort::inject`].
    pub fn inject(&mut self, bytes: &[u8]) -> bool {
        self.inner.inject(bytes)
    }

    /// As [`MemoryPort::collect`].
    pub fn collect(&mut self) -> Option<Frame> {
        self.inner.collect()
    }

    /// The slow queue of a destination that cannot take a datagram now, or for which others wait.
    fn waits(&self, now: Time, peer: &Peer, queue: &TxQueue) -> Option<usize> {
        let is_to = |link: &SlowLink| peer.ipv4_octets() == Some(link.to.ip());
        let at = self.links.iter().position(|(link, _)| is_to(link))?;
        let is_busy = !self.healed && self.links.get(at).is_some_and(|(_, free)| now < *free);
        (is_busy || queue.slow_len(at) > 0).then_some(at)
    }

    /// The link to a destination is busy for a while.
    fn begin(&mut self, now: Time, peer: &Peer) {
        let link = self.links.iter_mut().find(|(link, _)| peer.ipv4_octets() == Some(link.to.ip()));
        if let Some((link, free)) = link {
            *free = now + link.gap;
        }
    }

    /// Sends the first datagram of the slow queue `at`, or of the backlog; `false` when nothing left.
    fn send(&mut self, now: Time, queue: &mut TxQueue, at: Option<usize>) -> bool {
        if !self.inner.has_room() {
            return false;
        }
        let head = match at {
            Some(at) => queue.slow_iter_mut(at).next().map(|head| &*head),
            None => queue.peek(),
        };
        let Some(head) = head else { return false };
        let (peer, link) = (head.peer, head.class == frame::Class::Link);
        let is_sendable = self.inner.check(head);
        let taken = match (at, is_sendable) {
            (Some(at), true) => queue.take_slow(at),
            (Some(at), false) => queue.fail_slow(at),
            (None, true) => queue.take(),
            (None, false) => queue.fail(),
        };
        if let (Some(datagram), true) = (taken, is_sendable) {
            self.inner.put(datagram);
        }
        if !link {
            self.begin(now, &peer);
        }
        true
    }
}

impl PortAround for SlowPort {
    type Inner = MemoryPort;

    fn inner(&self) -> &MemoryPort {
        &self.inner
    }

    fn inner_mut(&mut self) -> &mut MemoryPort {
        &mut self.inner
    }

    fn tx_burst(&mut self, now: Time, queue: &mut TxQueue) -> usize {
        if self.links.is_empty() {
            return self.inner.tx_burst(now, queue);
        }
        let mut left = 0;
        for at in 0..self.links.len() {
            while (self.healed || self.links.get(at).is_some_and(|(_, free)| now >= *free))
                && self.send(now, queue, Some(at))
            {
                left += 1;
            }
        }
        while let Some(head) = queue.peek() {
            let is_link = head.class == frame::Class::Link;
            match self.waits(now, &head.peer, queue).filter(|_| !is_link) {
                Some(at) => left += usize::from(!queue.set_aside(at)),
                None if self.send(now, queue, None) => left += 1,
                None => break,
            }
        }
        self.inner.set_full(queue.backlog() > 0);
        left
    }
}
