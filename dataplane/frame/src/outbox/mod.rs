//! What a role sends: a queue per port, and the account of what happened to each datagram.
//!
//! A record counts as sent when the port's TX ring took its datagram, not before. Until then the outbox holds it; if
//! the ring is full, the lcore tries again.
//!
//! All memory is allocated when the outbox is made. Waiting datagrams are in frames, and there are no more of them than
//! the pool has.

use crate::control::ControlQueues;
use crate::{BURST, Class, Datagram, Frame, Pool, PortId, Precedence};
use std::collections::VecDeque;
use std::sync::Arc;

crate::counters! {
    /// What left of the cargo of one direction, and what waits.
    pub struct CargoCounters {
        /// Datagrams of cargo that a TX ring took.
        datagrams_out,
        /// Records of cargo that a TX ring took.
        records_out,
        /// Bytes of UDP payload of cargo that a TX ring took.
        bytes_out,
        /// Records of cargo that a port could not send at all (the port's own counters say why).
        records_dropped_tx: drop,
        /// Records of cargo to a slow destination, for which as many datagrams wait as may; dropped.
        records_dropped_slow: drop,
        /// Records of cargo that wait for room in a TX ring.
        records_queued: gauge,
        /// Datagrams of cargo that got the mark Congestion Experienced here, because many waited before them.
        ce_marked,
    }
}

crate::counters! {
    /// What left, by class: `link_*` is what the process made itself, `down_*` and `up_*` are cargo.
    pub struct OutboxCounters {
        /// Datagrams of link control that a TX ring took.
        link_datagrams_out,
        /// Records of link control that a TX ring took.
        link_records_out,
        /// Records of link control that a port could not send at all.
        link_records_dropped_tx: drop,
        /// Link control of registered nodes that was dropped because the registrar's mailbox was full; nodes try again.
        link_dropped_mailbox_full: drop,
        /// Link control of strangers that was dropped because their part of the registrar's mailbox was full.
        link_dropped_stranger: drop,
        /// Link control beyond the budget of a registered node that was dropped because the part for it was full.
        link_dropped_excess: drop;
        /// Cargo from masters to slaves.
        down: CargoCounters as "down_",
        /// Cargo from slaves to masters.
        up: CargoCounters as "up_",
    }
}

/// What happened to a datagram that left a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Failed,
    /// Its slow destination has the most waiting datagrams already.
    Beyond,
}

impl OutboxCounters {
    /// The counters of a class of cargo; link control has none of them.
    #[inline]
    fn cargo(&self, class: Class) -> Option<&CargoCounters> {
        match class {
            Class::Link => None,
            Class::Down => Some(&self.down),
            Class::Up => Some(&self.up),
        }
    }

    /// Marks cargo with Congestion Experienced; counts it unless it arrived so.
    #[cold]
    fn mark(&self, datagram: &mut Datagram) {
        if let Some(cargo) = self.cargo(datagram.class)
            && !std::mem::replace(&mut datagram.ce, true)
        {
            cargo.ce_marked.add(1);
        }
    }

    fn settle(&self, class: Class, records: u64, bytes: u64, fate: Fate) {
        match (self.cargo(class), fate) {
            (Some(cargo), fate) => cargo.settle(records, bytes, fate),
            (None, Fate::Taken) => {
                self.link_datagrams_out.add(1);
                self.link_records_out.add(records);
            }
            // Link control is never set aside, so that it is never beyond the limit of a slow destination.
            (None, Fate::Failed | Fate::Beyond) => self.link_records_dropped_tx.add(records),
        }
    }
}

impl CargoCounters {
    /// The sum of all records that left a queue and were not sent, for any reason.
    pub fn dropped(&self) -> u64 {
        self.records_dropped_tx.get() + self.records_dropped_slow.get()
    }

    fn settle(&self, records: u64, bytes: u64, fate: Fate) {
        self.records_queued.add(records.wrapping_neg());
        match fate {
            Fate::Taken => {
                self.datagrams_out.add(1);
                self.records_out.add(records);
                self.bytes_out.add(bytes);
            }
            Fate::Failed => self.records_dropped_tx.add(records),
            Fate::Beyond => self.records_dropped_slow.add(records),
        }
    }
}

/// The slow queues of a port: one for each destination, or group of destinations, that the port found to be slow.
pub const SLOW_QUEUES: usize = 3;

/// The most datagrams that wait in a slow queue for one destination. Later ones are dropped: the waiting ones came
/// first, stay in order, and wait no longer than the slow link needs.
pub const SLOW_DATAGRAMS: usize = 64;

/// The most datagrams that wait in one slow queue, for all its destinations; fewer if the pool is small.
const SLOW_ROOM: usize = 4 * SLOW_DATAGRAMS;
/// One slow queue may have the pool's frames divided by this.
const SLOW_PART: usize = 16;

/// A datagram is marked with Congestion Experienced when more than its bound divided by this wait before it. So senders
/// that listen to the mark slow down long before anything is dropped.
const MARKED_PART: usize = 4;

/// Datagrams that wait for one port. Link control leaves first; otherwise first in, first out.
///
/// If a port has room for some destinations and not for others, it sets aside the datagrams for the others: see
/// [`TxQueue::set_aside`]. They then wait in a slow queue and delay nothing else.
pub struct TxQueue {
    link: VecDeque<Datagram>,
    cargo: VecDeque<Datagram>,
    slow: [VecDeque<Datagram>; SLOW_QUEUES],
    slow_room: usize,
    counters: Arc<OutboxCounters>,
    /// Whether more than [`TxQueue::most_unmarked`] datagrams of cargo were left when the port had taken what it could.
    pressed: bool,
    most_unmarked: usize,
    /// How many were lent to this queue, and which of them failed: see [`TxQueue::lend`].
    lent: usize,
    failed: u64,
}

impl TxQueue {
    /// An empty queue with room for `room` datagrams of link control, and as many of cargo.
    fn new(counters: Arc<OutboxCounters>, room: usize) -> Self {
        let (link, cargo) = (VecDeque::with_capacity(room), VecDeque::with_capacity(room));
        let slow_room = (room / SLOW_PART).clamp(1, SLOW_ROOM);
        let slow = std::array::from_fn(|_| VecDeque::with_capacity(slow_room));
        let most_unmarked = contended(room) / MARKED_PART;
        Self { link, cargo, slow, slow_room, counters, pressed: false, most_unmarked, lent: 0, failed: 0 }
    }

    /// An empty queue on the same account, for [`TxQueue::lend`].
    pub fn sibling(&self) -> Self {
        let slow = std::array::from_fn(|_| VecDeque::new());
        Self { slow, slow_room: self.slow_room, ..Self::new(Arc::clone(&self.counters), BURST) }
    }

    /// Ends a poll; called after sending. Notes whether too much is left: see [`Outbox::pass_on`]. Goes back to the
    /// start of its memory if nothing waits, so that only as much memory is used as is needed, and it stays in the
    /// cache.
    #[inline]
    pub fn rewind(&mut self) {
        self.pressed = self.cargo.len() > self.most_unmarked;
        if self.link.is_empty() && self.cargo.is_empty() {
            self.link.clear();
            self.cargo.clear();
        }
    }

    /// Moves up to [`BURST`] datagrams, in the order in which they should leave, to an empty sibling. So code that
    /// observes what a port sends knows which datagrams those were: the port gets the sibling, and
    /// [`TxQueue::take_back`] returns what the port leaves. The move counts nothing. The slow queues are lent whole,
    /// and are not included.
    pub fn lend(&mut self, to: &mut Self) {
        self.lend_while(to, false, |_| true);
    }

    /// As [`TxQueue::lend`], for as long as the next datagram may leave. With `is_crowded`, cargo is marked with
    /// Congestion Experienced.
    pub fn lend_while(&mut self, to: &mut Self, is_crowded: bool, mut may_leave: impl FnMut(&Datagram) -> bool) {
        std::mem::swap(&mut self.slow, &mut to.slow);
        while to.backlog() < BURST
            && let Some(head) = self.peek()
            && may_leave(head)
        {
            match self.link.pop_front() {
                Some(datagram) => to.link.push_back(datagram),
                None => {
                    let Some(mut datagram) = self.cargo.pop_front() else { break };
                    if is_crowded {
                        self.counters.mark(&mut datagram);
                    }
                    to.cargo.push_back(datagram);
                }
            }
        }
        (to.lent, to.failed) = (to.backlog(), 0);
    }

    /// Takes the rest of the lent datagrams back, to the front. Returns how many left the sibling or were set aside,
    /// and which of those could not be sent at all, counted from the first in bit 0.
    pub fn take_back(&mut self, from: &mut Self) -> (usize, u64) {
        std::mem::swap(&mut self.slow, &mut from.slow);
        let left = from.lent - from.backlog();
        while let Some(datagram) = from.link.pop_back() {
            self.link.push_front(datagram);
        }
        while let Some(datagram) = from.cargo.pop_back() {
            self.cargo.push_front(datagram);
        }
        let failed = std::mem::take(&mut from.failed);
        if failed > 0 {
            // Whoever lent datagrams to this queue wants to know, too.
            let gone = self.lent.wrapping_sub(self.backlog() + left);
            self.failed |= u32::try_from(gone).ok().and_then(|gone| failed.checked_shl(gone)).unwrap_or(0);
        }
        (left, failed)
    }

    /// Datagrams that wait, including those in the slow queues.
    #[inline]
    pub fn len(&self) -> usize {
        self.backlog() + self.slow.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Whether no datagram waits, also not in a slow queue.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.link.is_empty() && self.cargo.is_empty() && self.slow.iter().all(VecDeque::is_empty)
    }

    /// Datagrams that wait for the port itself, not for a slow destination.
    #[inline]
    pub fn backlog(&self) -> usize {
        self.link.len() + self.cargo.len()
    }

    /// Datagrams of cargo in the [`TxQueue::backlog`].
    #[inline]
    pub fn cargo(&self) -> usize {
        self.cargo.len()
    }

    /// The datagrams of the backlog, in the order in which they should leave.
    pub fn iter(&self) -> impl Iterator<Item = &Datagram> {
        self.link.iter().chain(&self.cargo)
    }

    /// The datagrams of the backlog in the order in which they should leave, so that headers can be written before they
    /// are taken.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Datagram> {
        self.link.iter_mut().chain(self.cargo.iter_mut())
    }

    /// The datagram of the backlog that should leave next.
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

    /// Takes the first datagram of the backlog for a ring that has room for it. It counts as sent, and the caller owns
    /// its frame.
    ///
    /// Call it before headers are prepended: the counted bytes are those of the UDP payload.
    #[inline]
    pub fn take(&mut self) -> Option<Datagram> {
        self.pop(Fate::Taken)
    }

    /// Takes the first datagram, which the port cannot send at all (no route to it, larger than the device's MTU). Its
    /// records count as dropped, and the port counts the reason.
    pub fn fail(&mut self) -> Option<Datagram> {
        self.note_failed();
        self.pop(Fate::Failed)
    }

    /// Notes that the first datagram will not be sent.
    fn note_failed(&mut self) {
        // Only a queue that datagrams were lent to has a bit for it.
        let gone = self.lent.wrapping_sub(self.backlog());
        self.failed |= u32::try_from(gone).ok().and_then(|gone| 1u64.checked_shl(gone)).unwrap_or(0);
    }

    /// Moves the first datagram, which is cargo for a slow destination, to the end of slow queue `number`. If the most
    /// allowed ([`SLOW_DATAGRAMS`]) wait for that destination, the datagram is dropped and counted instead, and the
    /// result is `false`. If more than a quarter of them wait, it is marked with Congestion Experienced. Link control
    /// is never set aside: the result is `false`, and it stays.
    pub fn set_aside(&mut self, number: usize) -> bool {
        if !self.link.is_empty() {
            return false;
        }
        let (Some(queue), Some(head)) = (self.slow.get(number), self.cargo.front()) else { return false };
        let same = |other: &&Datagram| other.peer.is_same_origin(&head.peer, true);
        let waiting = queue.iter().filter(same).count();
        if queue.len() >= self.slow_room || waiting >= SLOW_DATAGRAMS {
            self.note_failed();
            drop(self.pop(Fate::Beyond));
            return false;
        }
        if let (Some(mut datagram), Some(queue)) = (self.cargo.pop_front(), self.slow.get_mut(number)) {
            if waiting > SLOW_DATAGRAMS.min(self.slow_room) / MARKED_PART {
                self.counters.mark(&mut datagram);
            }
            queue.push_back(datagram);
        }
        true
    }

    /// Datagrams that wait in a slow queue.
    pub fn slow_len(&self, number: usize) -> usize {
        self.slow.get(number).map_or(0, VecDeque::len)
    }

    /// The datagrams of a slow queue in the order in which they should leave, so that headers can be written before
    /// they are taken.
    pub fn slow_iter_mut(&mut self, number: usize) -> impl Iterator<Item = &mut Datagram> {
        self.slow.get_mut(number).into_iter().flatten()
    }

    fn pop_slow(&mut self, number: usize, fate: Fate) -> Option<Datagram> {
        let datagram = self.slow.get_mut(number)?.pop_front()?;
        self.counters.settle(datagram.class, u64::from(datagram.records), datagram.frame.len() as u64, fate);
        Some(datagram)
    }

    /// Like [`TxQueue::take`], for the first datagram of a slow queue.
    pub fn take_slow(&mut self, number: usize) -> Option<Datagram> {
        self.pop_slow(number, Fate::Taken)
    }

    /// Like [`TxQueue::fail`], for the first datagram of a slow queue.
    pub fn fail_slow(&mut self, number: usize) -> Option<Datagram> {
        self.pop_slow(number, Fate::Failed)
    }
}

/// Datagrams of cargo that wait for a port before it counts as contended; fewer if the pool is small.
pub const CONTENDED: usize = 1024;

/// [`CONTENDED`] with a pool of so many frames.
fn contended(frames: usize) -> usize {
    CONTENDED.min(frames / 4)
}

/// How crowded a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowding {
    /// There is room for everybody.
    Free,
    /// More comes than the port sends: senders that have had their share are dropped.
    Contended,
    /// Nothing more is taken: it would use the frames that others need.
    Full,
}

/// All that a role may access: frames, a queue per port, and the way to the registrar.
pub struct Outbox {
    pool: Pool,
    queues: Vec<TxQueue>,
    control: ControlQueues,
    counters: Arc<OutboxCounters>,
    /// Datagrams of cargo beyond which a port is contended, or full.
    contended: usize,
    full: usize,
    /// Frames free for cargo below which a contended port is full.
    scarce: u32,
}

impl Outbox {
    /// An outbox for ports `0 .. ports`.
    pub fn new(pool: Pool, ports: usize) -> Self {
        let counters = Arc::new(OutboxCounters::default());
        let room = pool.capacity() as usize;
        Self {
            contended: contended(room),
            full: room / 2,
            scarce: (room as u32 / 4).min(512),
            pool,
            queues: (0..ports).map(|_| TxQueue::new(Arc::clone(&counters), room)).collect(),
            control: ControlQueues::new(room),
            counters,
        }
    }

    /// The pool of this lcore.
    #[inline]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The counters, for other threads to read.
    pub fn counters(&self) -> &Arc<OutboxCounters> {
        &self.counters
    }

    /// A fresh frame for cargo.
    #[inline]
    pub fn alloc(&self) -> Option<Frame> {
        self.pool.alloc()
    }

    /// A fresh frame for link control, from the reserve if necessary.
    pub fn alloc_link(&self) -> Option<Frame> {
        self.pool.alloc_reserved()
    }

    /// Queues a datagram on its peer's port, link control before cargo.
    ///
    /// A datagram for a port that does not exist counts as dropped on transmit.
    #[inline]
    pub fn send(&mut self, datagram: Datagram) {
        let records = u64::from(datagram.records);
        if let Some(cargo) = self.counters.cargo(datagram.class) {
            cargo.records_queued.add(records);
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

    /// Queues cargo of others as [`Outbox::send`] does. It is marked with Congestion Experienced if, at the end of the
    /// last poll, more than a quarter of the datagrams waited for its port that make the port contended: those wait
    /// longer than the port needs for what a poll brings.
    #[inline]
    pub fn pass_on(&mut self, mut datagram: Datagram) {
        if self.queues.get(usize::from(datagram.peer.port.0)).is_some_and(|queue| queue.pressed) {
            self.counters.mark(&mut datagram);
        }
        self.send(datagram);
    }

    /// Hands a link control datagram to the registrar. If too many wait already, it is dropped and counted.
    pub fn control(&mut self, precedence: Precedence, datagram: Datagram) {
        if !self.control.put(precedence, datagram) {
            let dropped = match precedence {
                Precedence::Member => &self.counters.link_dropped_mailbox_full,
                Precedence::Stranger => &self.counters.link_dropped_stranger,
                Precedence::Excess => &self.counters.link_dropped_excess,
            };
            dropped.add(1);
        }
    }

    /// Whether link control waits for the registrar.
    #[inline]
    pub fn has_control(&self) -> bool {
        self.control.len() > 0
    }

    /// The first link control datagram that waits for the registrar with this precedence.
    pub fn next_control(&mut self, precedence: Precedence) -> Option<Datagram> {
        self.control.take(precedence)
    }

    /// Puts a link control datagram back in front, because the mailbox was full.
    pub fn unget_control(&mut self, precedence: Precedence, datagram: Datagram) {
        self.control.untake(precedence, datagram);
    }

    /// The queue of a port.
    #[inline]
    pub fn queue(&mut self, port: PortId) -> Option<&mut TxQueue> {
        self.queues.get_mut(port.0 as usize)
    }

    /// Datagrams that wait for a port itself, not for a slow destination behind it.
    #[inline]
    pub fn backlog(&self, port: PortId) -> usize {
        self.queues.get(port.0 as usize).map_or(0, TxQueue::backlog)
    }

    /// All datagrams that wait for a port, including those for slow destinations.
    #[inline]
    pub fn waiting(&self, port: PortId) -> usize {
        self.queues.get(port.0 as usize).map_or(0, TxQueue::len)
    }

    /// Whether any port is contended or full. Called once per burst.
    #[inline]
    pub fn is_contended(&self) -> bool {
        self.queues.iter().any(|queue| queue.cargo.len() > self.contended)
    }

    /// How many ports there are: their numbers are those below it.
    pub fn ports(&self) -> usize {
        self.queues.len()
    }

    /// How crowded a port is.
    pub fn crowding(&self, port: PortId) -> Crowding {
        match self.queues.get(port.0 as usize).map_or(0, TxQueue::cargo) {
            waiting if waiting <= self.contended => Crowding::Free,
            waiting if waiting > self.full || self.pool.spare() < self.scarce => Crowding::Full,
            _ => Crowding::Contended,
        }
    }

    /// Whether no datagram waits anywhere.
    pub fn is_empty(&self) -> bool {
        !self.has_control() && self.queues.iter().all(TxQueue::is_empty)
    }

    /// Frames that wait anywhere: a term of the conservation equation.
    pub fn frames(&self) -> usize {
        self.control.len() + self.queues.iter().map(TxQueue::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
