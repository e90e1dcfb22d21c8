//! What arrives on one lcore and is for another.
//!
//! Each lcore of some processes has a UDP port of its own, and a NIC spreads packets over its queues without knowing
//! that. So a port says in the peer of a datagram ([`Peer::lcore`]) that it is for another lcore. [`HandOver`] takes
//! such datagrams out of each burst, and copies them into a ring of that lcore: frames never leave their lcore. It adds
//! what others put into its own ring to the bursts, so that the role sees no difference.
//!
//! The slots of a ring are made at the start. They go round through two bounded lock-free queues, as those of
//! [`crate::tap`] do. If a ring has no empty slot, the datagram is dropped and counted: an lcore never waits for
//! another one. An lcore that sleeps is woken through its mailbox ([`Announcer`]).

use crate::mailbox::Announcer;
use crossbeam_queue::ArrayQueue;
use frame::{BURST, Burst, Class, Datagram, Peer, Pool, Time};
use port::Port;
use port::around::PortAround;
use std::num::NonZeroU16;
use std::sync::Arc;

/// The most lcores that hand over to each other.
pub const MOST_LCORES: usize = 64;

/// The most datagrams out of the ring in one burst, so that both the ring and the port have their turn.
const AT_ONCE: usize = BURST / 2;

/// The value in a slot that was never filled. It is not zero, so that the memory is mapped: see [`crate::tap`].
const UNUSED: u8 = 0xa5;

frame::counters! {
    /// What arrived on one lcore and was for another.
    pub struct HandoverCounters {
        /// Datagrams for another lcore, which were handed to it.
        rx_other_lcore,
        /// Datagrams for another lcore whose ring was full; dropped.
        rx_dropped_other_lcore: drop,
        /// Datagrams that another lcore received and handed over to this one.
        rx_handed_over,
    }
}

/// The place of a datagram on its way.
struct Slot {
    peer: Peer,
    ce: bool,
    sum: Option<NonZeroU16>,
    len: usize,
    data: Vec<u8>,
}

impl Slot {
    fn new(room: usize) -> Box<Self> {
        Box::new(Self { peer: Peer::NOBODY, ce: false, sum: None, len: 0, data: vec![UNUSED; room] })
    }

    /// `false` if the datagram is longer than the slot.
    fn fill(&mut self, datagram: &Datagram) -> bool {
        let bytes = datagram.frame.data();
        let Some(room) = self.data.get_mut(..bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.len = bytes.len();
        (self.peer, self.ce, self.sum) = (datagram.peer, datagram.ce, datagram.sum);
        self.peer.lcore = 0;
        true
    }

    fn bytes(&self) -> &[u8] {
        self.data.get(..self.len).unwrap_or(&[])
    }
}

/// The ring of one lcore.
struct Ring {
    empty: ArrayQueue<Box<Slot>>,
    full: ArrayQueue<Box<Slot>>,
    announcer: Announcer,
}

impl Ring {
    fn new(slots: usize, room: usize, announcer: Announcer) -> Self {
        let empty = ArrayQueue::new(slots);
        // There is room for all of them.
        (0..slots).for_each(|_| drop(empty.push(Slot::new(room))));
        Self { empty, full: ArrayQueue::new(slots), announcer }
    }

    /// Copies a datagram into the ring; `false` if there is no room.
    fn put(&self, datagram: &Datagram) -> bool {
        let Some(mut slot) = self.empty.pop() else { return false };
        let fits = slot.fill(datagram);
        // There are as many places as slots.
        let _ = if fits { self.full.push(slot) } else { self.empty.push(slot) };
        fits
    }
}

/// One lcore's ends of all rings of a process.
#[derive(Clone)]
pub struct HandOverEnds {
    own: usize,
    rings: Arc<[Ring]>,
    counters: Arc<HandoverCounters>,
}

impl HandOverEnds {
    /// The ends of each lcore, in order. `lcores` are what wakes them, at most [`MOST_LCORES`]; each has a ring of
    /// `slots` datagrams of at most `room` bytes.
    pub fn new(lcores: Vec<Announcer>, slots: usize, room: usize) -> Vec<Self> {
        let rings: Arc<[Ring]> =
            lcores.into_iter().take(MOST_LCORES).map(|announcer| Ring::new(slots.max(1), room, announcer)).collect();
        (0..rings.len()).map(|own| Self { own, rings: Arc::clone(&rings), counters: Arc::default() }).collect()
    }

    /// What this lcore counts.
    pub fn counters(&self) -> &Arc<HandoverCounters> {
        &self.counters
    }

    fn ring(&self) -> Option<&Ring> {
        self.rings.get(self.own)
    }

    /// Takes what is for other lcores out of a burst, and hands it over.
    #[cold]
    fn give(&self, burst: &mut Burst, from: usize) {
        let mut told = 0_u64;
        for number in from..burst.len() {
            let Some(to) = usize::from(burst.peer(number).lcore).checked_sub(1) else { continue };
            // The frame goes back to its pool at the end of this turn.
            let Some(datagram) = burst.take(number) else { continue };
            if self.rings.get(to).is_some_and(|ring| ring.put(&datagram)) {
                self.counters.rx_other_lcore.add(1);
                told |= 1 << to;
            } else {
                self.counters.rx_dropped_other_lcore.add(1);
            }
        }
        for (_, ring) in self.rings.iter().enumerate().filter(|(to, _)| told >> to & 1 == 1) {
            ring.announcer.announce();
        }
    }

    /// Adds what others handed over to a burst. What finds no frame stays in the ring.
    #[cold]
    fn take(&self, pool: &Pool, burst: &mut Burst) {
        let Some(ring) = self.ring() else { return };
        for _ in 0..AT_ONCE.min(burst.room()) {
            if ring.full.is_empty() {
                return;
            }
            let Some(mut frame) = pool.alloc() else { return };
            let Some(slot) = ring.full.pop() else { return };
            if frame.append(slot.bytes()) {
                let datagram = Datagram::new(frame, slot.peer, Class::Link, 0);
                // There is room: see above.
                let _ = burst.push(Datagram { ce: slot.ce, sum: slot.sum, ..datagram });
                self.counters.rx_handed_over.add(1);
            } else {
                self.counters.rx_dropped_other_lcore.add(1);
            }
            let _ = ring.empty.push(slot);
        }
    }

    /// Whether something is in the own ring.
    #[inline]
    fn has_some(&self) -> bool {
        self.ring().is_some_and(|ring| !ring.full.is_empty())
    }
}

/// A port of an lcore that hands over what is for others, and receives what others hand over.
pub struct HandOver<P> {
    port: P,
    pool: Pool,
    /// `None` if there is no other lcore.
    ends: Option<HandOverEnds>,
}

impl<P: Port> HandOver<P> {
    /// The port of an lcore with this pool.
    pub fn new(port: P, pool: &Pool, ends: Option<HandOverEnds>) -> Self {
        Self { port, pool: pool.clone(), ends }
    }
}

impl<P: Port> PortAround for HandOver<P> {
    type Inner = P;

    fn inner(&self) -> &P {
        &self.port
    }

    fn inner_mut(&mut self) -> &mut P {
        &mut self.port
    }

    #[inline]
    fn rx_burst(&mut self, now: Time, burst: &mut Burst) -> usize {
        let Self { port, pool, ends } = self;
        let Some(ends) = ends else { return port.rx_burst(now, burst) };
        let before = burst.len();
        if ends.has_some() {
            ends.take(pool, burst);
        }
        let own = burst.len();
        if port.rx_burst(now, burst) > 0 && (own..burst.len()).any(|number| burst.source(number).lcore != 0) {
            ends.give(burst, own);
        }
        burst.len() - before
    }

    fn has_received(&self) -> bool {
        self.port.has_received() || self.ends.as_ref().is_some_and(HandOverEnds::has_some)
    }
}
