//! What a role sends: a queue per port, and the account of what became of each datagram.
//!
//! A record is counted out when the port's TX ring took its datagram, not before. Until then it is held here; a full
//! ring keeps it here and the lcore tries again.
//!
//! All memory is allocated when the outbox is made: what waits lies in frames, and there are no more of them than the pool
//! has.

use crate::{BURST, Class, Datagram, Frame, Pool, PortId};
use std::collections::VecDeque;
use std::sync::Arc;

crate::counters! {
    /// What left, by class: `link_*` is what the process made itself, `down_*` and `up_*` are cargo.
    pub struct OutboxCounters {
        /// Datagrams of link control that a TX ring took.
        link_datagrams_out,
        /// Downward datagrams that a TX ring took.
        down_datagrams_out,
        /// Upward datagrams that a TX ring took.
        up_datagrams_out,
        /// Records of link control that a TX ring took.
        link_records_out,
        /// Downward records that a TX ring took.
        down_records_out,
        /// Upward records that a TX ring took.
        up_records_out,
        /// Downward bytes of UDP payload that a TX ring took.
        down_bytes_out,
        /// Upward bytes of UDP payload that a TX ring took.
        up_bytes_out,
        /// Records of link control that a port could not send at all.
        link_records_dropped_tx,
        /// Downward records that a port could not send at all (the port's own counters say why).
        down_records_dropped_tx,
        /// Upward records that a port could not send at all (the port's own counters say why).
        up_records_dropped_tx,
        /// Downward records that wait for room in a TX ring (a gauge).
        down_records_queued,
        /// Upward records that wait for room in a TX ring (a gauge).
        up_records_queued,
        /// Link control for the registrar that was dropped because the mailbox was full; nodes try again.
        link_dropped_mailbox_full,
    }
}

/// What happened to a datagram that left a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Failed,
}

impl OutboxCounters {
    fn settle(&self, class: Class, records: u64, bytes: u64, fate: Fate) {
        let (datagrams_out, records_out, dropped) = match class {
            Class::Link => (&self.link_datagrams_out, &self.link_records_out, &self.link_records_dropped_tx),
            Class::Down => (&self.down_datagrams_out, &self.down_records_out, &self.down_records_dropped_tx),
            Class::Up => (&self.up_datagrams_out, &self.up_records_out, &self.up_records_dropped_tx),
        };
        match class {
            Class::Link => {}
            Class::Down => self.down_records_queued.add(records.wrapping_neg()),
            Class::Up => self.up_records_queued.add(records.wrapping_neg()),
        }
        match fate {
            Fate::Failed => dropped.add(records),
            Fate::Taken => {
                datagrams_out.add(1);
                records_out.add(records);
                match class {
                    Class::Link => {}
                    Class::Down => self.down_bytes_out.add(bytes),
                    Class::Up => self.up_bytes_out.add(bytes),
                }
            }
        }
    }
}

/// Datagrams that wait for one port. Link control leaves first; otherwise first in, first out.
pub struct TxQueue {
    link: VecDeque<Datagram>,
    cargo: VecDeque<Datagram>,
    counters: Arc<OutboxCounters>,
    /// How many were lent to this queue, and which of them failed: see [`TxQueue::lend`].
    lent: usize,
    failed: u64,
}

impl TxQueue {
    /// An empty queue with room for so many datagrams of link control, and as many of cargo.
    fn new(counters: Arc<OutboxCounters>, room: usize) -> Self {
        let (link, cargo) = (VecDeque::with_capacity(room), VecDeque::with_capacity(room));
        Self { link, cargo, counters, lent: 0, failed: 0 }
    }

    /// An empty queue on the same account, for [`TxQueue::lend`].
    pub fn sibling(&self) -> Self {
        Self::new(Arc::clone(&self.counters), BURST)
    }

    /// Begins at the start of its memory again if nothing waits. Once per poll, after sending: so only as much of the memory is
    /// used as is needed, and that stays in the cache.
    #[inline]
    pub fn rewind(&mut self) {
        if self.is_empty() {
            self.link.clear();
            self.cargo.clear();
        }
    }

    /// Moves up to [`BURST`] datagrams, in the order in which they should leave, to an empty sibling. So whoever looks
    /// at what a port sends knows which those were: the port gets the sibling, and what it leaves comes back with
    /// [`TxQueue::take_back`]. Nothing is counted by the move.
    pub fn lend(&mut self, to: &mut Self) {
        while to.len() < BURST {
            match self.link.pop_front() {
                Some(datagram) => to.link.push_back(datagram),
                None => match self.cargo.pop_front() {
                    Some(datagram) => to.cargo.push_back(datagram),
                    None => break,
                },
            }
        }
        (to.lent, to.failed) = (to.len(), 0);
    }

    /// Takes back what is left of what was lent, to the front. Returns how many left the sibling, and which of those,
    /// counted from the first in bit 0, could not be sent at all.
    pub fn take_back(&mut self, from: &mut Self) -> (usize, u64) {
        let left = from.lent - from.len();
        while let Some(datagram) = from.link.pop_back() {
            self.link.push_front(datagram);
        }
        while let Some(datagram) = from.cargo.pop_back() {
            self.cargo.push_front(datagram);
        }
        (left, std::mem::take(&mut from.failed))
    }

    /// Datagrams that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.link.len() + self.cargo.len()
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.link.is_empty() && self.cargo.is_empty()
    }

    /// The datagrams in the order in which they should leave.
    pub fn iter(&self) -> impl Iterator<Item = &Datagram> {
        self.link.iter().chain(&self.cargo)
    }

    /// The datagrams in the order in which they should leave, to be made ready (headers) before they are taken.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Datagram> {
        self.link.iter_mut().chain(self.cargo.iter_mut())
    }

    /// The datagram that should leave next.
    #[inline]
    pub fn peek(&self) -> Option<&Datagram> {
        self.link.front().or_else(|| self.cargo.front())
    }

    #[inline]
    fn pop(&mut self, fate: Fate) -> Option<Datagram> {
        let datagram = match self.link.pop_front() {
            Some(datagram) => datagram,
            None => self.cargo.pop_front()?,
        };
        self.counters.settle(datagram.class, u64::from(datagram.records), datagram.frame.len() as u64, fate);
        Some(datagram)
    }

    /// The first datagram, for a ring that has room for it: it counts as sent. Its frame is now the caller's.
    ///
    /// Call it before headers are prepended: the bytes that count are the UDP payload's.
    #[inline]
    pub fn take(&mut self) -> Option<Datagram> {
        self.pop(Fate::Taken)
    }

    /// The first datagram, which the port cannot send at all (no route to it, larger than the device's MTU): its
    /// records count as dropped, and the port counts why.
    pub fn fail(&mut self) -> Option<Datagram> {
        // Only in a queue that was lent to is there a bit for it.
        let gone = self.lent.wrapping_sub(self.len());
        self.failed |= u32::try_from(gone).ok().and_then(|gone| 1u64.checked_shl(gone)).unwrap_or(0);
        self.pop(Fate::Failed)
    }
}

/// What a role may touch of the world: frames, a queue per port, and the way to the registrar.
pub struct Outbox {
    pool: Pool,
    queues: Vec<TxQueue>,
    control: VecDeque<Datagram>,
    counters: Arc<OutboxCounters>,
}

/// The most link control datagrams that wait for the registrar's mailbox in one lcore.
pub const CONTROL_BACKLOG: usize = 256;

impl Outbox {
    /// An outbox for ports `0 .. ports`.
    pub fn new(pool: Pool, ports: usize) -> Self {
        let counters = Arc::new(OutboxCounters::default());
        let room = pool.capacity() as usize;
        Self {
            pool,
            queues: (0..ports).map(|_| TxQueue::new(Arc::clone(&counters), room)).collect(),
            control: VecDeque::with_capacity(CONTROL_BACKLOG),
            counters,
        }
    }

    /// The frames of this lcore.
    #[inline]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The counters, to be read by others.
    pub fn counters(&self) -> &Arc<OutboxCounters> {
        &self.counters
    }

    /// A fresh frame for cargo.
    #[inline]
    pub fn alloc(&self) -> Option<Frame> {
        self.pool.alloc()
    }

    /// A fresh frame for link control, from the reserve if need be.
    pub fn alloc_link(&self) -> Option<Frame> {
        self.pool.alloc_reserved()
    }

    /// Queues a datagram on its peer's port; link control before cargo.
    ///
    /// A datagram for a port that does not exist counts as dropped on transmit.
    #[inline]
    pub fn send(&mut self, datagram: Datagram) {
        let records = u64::from(datagram.records);
        match datagram.class {
            Class::Link => {}
            Class::Down => self.counters.down_records_queued.add(records),
            Class::Up => self.counters.up_records_queued.add(records),
        }
        match self.queues.get_mut(datagram.peer.port.0 as usize) {
            None => self.counters.settle(datagram.class, records, 0, Fate::Failed),
            Some(queue) => {
                let queue = if datagram.class == Class::Link { &mut queue.link } else { &mut queue.cargo };
                debug_assert!(queue.len() < queue.capacity(), "every datagram has a frame of the pool");
                queue.push_back(datagram);
            }
        }
    }

    /// Hands a link control datagram to the registrar; when too many wait already, it is dropped and counted.
    pub fn control(&mut self, datagram: Datagram) {
        if self.control.len() >= CONTROL_BACKLOG {
            self.counters.link_dropped_mailbox_full.add(1);
        } else {
            self.control.push_back(datagram);
        }
    }

    /// The first link control datagram that waits for the registrar.
    pub fn next_control(&mut self) -> Option<Datagram> {
        self.control.pop_front()
    }

    /// Puts a link control datagram back in front: the mailbox was full.
    pub fn unget_control(&mut self, datagram: Datagram) {
        self.control.push_front(datagram);
    }

    /// The queue of a port.
    #[inline]
    pub fn queue(&mut self, port: PortId) -> Option<&mut TxQueue> {
        self.queues.get_mut(port.0 as usize)
    }

    /// Datagrams that wait for a port.
    #[inline]
    pub fn backlog(&self, port: PortId) -> usize {
        self.queues.get(port.0 as usize).map_or(0, TxQueue::len)
    }

    /// Whether no datagram waits anywhere.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.queues.iter().all(TxQueue::is_empty)
    }

    /// Frames that wait anywhere: a term of the conservation equation.
    pub fn frames(&self) -> usize {
        self.control.len() + self.queues.iter().map(TxQueue::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hugepages, Peer, PoolConfig};

    fn outbox() -> Outbox {
        let config = PoolConfig { frames: 16, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        Outbox::new(Pool::new(config).unwrap(), 1)
    }

    fn datagram(out: &Outbox, port: u8, class: Class, records: u16) -> Datagram {
        let peer = Peer::socket(PortId(port), "127.0.0.1:1".parse().unwrap());
        let mut frame = out.alloc().unwrap();
        assert!(frame.append(b"12345"));
        Datagram::new(frame, peer, class, records)
    }

    #[test]
    fn link_control_leaves_before_cargo_and_all_is_accounted() {
        let mut out = outbox();
        out.send(datagram(&out, 0, Class::Down, 3));
        out.send(datagram(&out, 0, Class::Up, 4));
        out.send(datagram(&out, 0, Class::Link, 1));
        let counters = Arc::clone(out.counters());
        assert_eq!((counters.down_records_queued.get(), counters.up_records_queued.get()), (3, 4));
        let queue = out.queue(PortId(0)).unwrap();
        assert_eq!(queue.take().unwrap().class, Class::Link);
        assert_eq!(queue.take().unwrap().class, Class::Down);
        assert_eq!(queue.fail().unwrap().class, Class::Up);
        assert!(out.is_empty());
        assert_eq!((counters.down_records_out.get(), counters.down_bytes_out.get()), (3, 5));
        assert_eq!((counters.up_records_out.get(), counters.up_records_dropped_tx.get()), (0, 4));
        assert_eq!((counters.down_records_queued.get(), counters.up_records_queued.get()), (0, 0));
        assert_eq!(out.pool().in_use(), 0);
    }

    #[test]
    fn what_is_lent_leaves_in_the_same_order_or_comes_back() {
        let mut out = outbox();
        for (class, records) in [(Class::Down, 3), (Class::Up, 4), (Class::Link, 1), (Class::Down, 5), (Class::Link, 2)]
        {
            out.send(datagram(&out, 0, class, records));
        }
        let counters = Arc::clone(out.counters());
        let queue = out.queue(PortId(0)).unwrap();
        let mut lent = queue.sibling();
        queue.lend(&mut lent);
        let order = |queue: &TxQueue| queue.iter().map(|datagram| datagram.records).collect::<Vec<_>>();
        assert_eq!((order(&lent), queue.len()), (vec![1, 2, 3, 4, 5], 0));
        assert!(lent.take().is_some() && lent.fail().is_some() && lent.take().is_some());
        assert_eq!(queue.take_back(&mut lent), (3, 0b010));
        assert_eq!((order(queue), lent.len()), (vec![4, 5], 0));
        assert_eq!((counters.down_records_out.get(), counters.link_records_dropped_tx.get()), (3, 2));
        queue.lend(&mut lent);
        assert_eq!(queue.take_back(&mut lent), (0, 0));
        assert_eq!(order(queue), [4, 5]);
        assert!(queue.fail().is_some() && queue.take().is_some());
        assert_eq!(out.pool().in_use(), 0);
    }

    #[test]
    fn queues_never_grow_and_use_no_more_memory_than_they_need() {
        let config = PoolConfig { frames: 3000, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let mut out = Outbox::new(Pool::new(config).unwrap(), 2);
        let rooms = |out: &Outbox| -> Vec<_> {
            out.queues.iter().map(|queue| (queue.link.capacity(), queue.cargo.capacity())).collect()
        };
        let before = rooms(&out);
        // Every frame there is, of either kind, after some have gone by.
        for class in [Class::Link, Class::Down] {
            for waiting in [1000, 3000] {
                for _ in 0..waiting {
                    out.send(datagram(&out, 1, class, 1));
                }
                assert!(out.alloc().is_some() == (waiting < 3000) && out.frames() == waiting);
                let queue = out.queue(PortId(1)).unwrap();
                while queue.take().is_some() {}
            }
            out.queue(PortId(1)).unwrap().rewind();
        }
        assert_eq!(rooms(&out), before);
        // What comes next lies where the first one lay.
        let address = |queue: &TxQueue| queue.cargo.as_slices().0.as_ptr();
        out.send(datagram(&out, 1, Class::Down, 1));
        let first = address(out.queue(PortId(1)).unwrap());
        for _ in 0..3 {
            let queue = out.queue(PortId(1)).unwrap();
            queue.rewind();
            assert!(queue.take().is_some(), "what waits stays");
            queue.rewind();
            out.send(datagram(&out, 1, Class::Down, 1));
            assert_eq!(address(out.queue(PortId(1)).unwrap()), first);
        }
    }

    #[test]
    fn a_port_that_does_not_exist_costs_only_the_datagram() {
        let mut out = outbox();
        out.send(datagram(&out, 7, Class::Down, 2));
        assert_eq!(out.counters().down_records_dropped_tx.get(), 2);
        assert_eq!((out.counters().down_records_queued.get(), out.pool().in_use()), (0, 0));
    }

    #[test]
    fn the_way_to_the_registrar_is_bounded() {
        let mut out = outbox();
        for _ in 0..CONTROL_BACKLOG + 1 {
            let Some(frame) = out.alloc() else { break };
            let peer = Peer::socket(PortId(0), "127.0.0.1:1".parse().unwrap());
            out.control(Datagram::new(frame, peer, Class::Link, 1));
        }
        assert_eq!(out.frames(), 16);
        let first = out.next_control().unwrap();
        out.unget_control(first);
        assert_eq!(out.frames(), 16);
    }
}
