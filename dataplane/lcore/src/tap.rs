//! A tap: copies of the datagrams that an lcore receives and sends, for an observer.
//!
//! Without a tap the cost is one check per poll and per burst. A tap in use copies into memory that was allocated and
//! touched before: empty slots go to the lcore, and full slots to the watcher, through two bounded lock-free queues. A
//! datagram that finds no empty slot is counted and passes without a copy: a tap never delays the loop.
//!
//! Datagrams to send are copied before the port takes them, because the device owns the frame afterwards. The copy is
//! handed over when the port has taken the datagram. So a datagram that waits for room in a TX ring, or cannot be sent
//! at all, is not among the copies.

use crossbeam_queue::ArrayQueue;
use frame::{BURST, Burst, Class, Counter, DatagramView, Peer, PortId, Time, TxQueue};
use port::Port;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which way a datagram went through its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Received.
    Rx,
    /// Sent.
    Tx,
}

/// Selects which datagrams are copied, after the selection by way and port. It runs on the lcore, once for each
/// datagram, and must keep the rules of the hot path.
pub type Wants = Box<dyn FnMut(&DatagramView<'_>, Way) -> bool + Send>;

/// What a tap copies, and how much room it has.
#[derive(Clone, Copy, Debug)]
pub struct TapConfig {
    /// Datagrams that may wait for the watcher.
    pub slots: usize,
    /// Bytes of each datagram that are copied.
    pub snaplen: usize,
    /// Whether received datagrams are copied.
    pub rx: bool,
    /// Whether sent datagrams are copied.
    pub tx: bool,
    /// Only this port; `None` is all.
    pub port: Option<PortId>,
}

/// A copy of one datagram.
#[derive(Debug)]
pub struct Copied {
    /// When the poll began in which it was received or sent.
    pub time: Time,
    /// Which way it went; its port is in the peer.
    pub way: Way,
    /// Where it came from or went to.
    pub peer: Peer,
    /// The account on which it left; `None` for received ones.
    pub class: Option<Class>,
    /// Whether it had ECN's Congestion Experienced mark.
    pub ce: bool,
    /// Its length; more than was copied if the copy was cut.
    pub len: usize,
    data: Vec<u8>,
}

impl Copied {
    fn empty(snaplen: usize) -> Box<Self> {
        let peer = Peer::socket(PortId(0), ([0; 4], 0).into());
        Box::new(Self { time: 0, way: Way::Rx, peer, class: None, ce: false, len: 0, data: vec![UNUSED; snaplen] })
    }

    fn fill(&mut self, now: Time, way: Way, datagram: &DatagramView<'_>) {
        let bytes = datagram.frame.data();
        let class = (way == Way::Tx).then_some(datagram.class);
        (self.time, self.way, self.peer, self.class) = (now, way, *datagram.peer, class);
        (self.ce, self.len) = (datagram.ce, bytes.len());
        // Never longer than the slot was made, so the slot never grows.
        let copied = self.copied();
        if let (Some(to), Some(from)) = (self.data.get_mut(..copied), bytes.get(..copied)) {
            to.copy_from_slice(from);
        }
    }

    fn copied(&self) -> usize {
        self.len.min(self.data.len())
    }

    /// The bytes: the UDP payload, or the first part of it.
    pub fn data(&self) -> &[u8] {
        self.data.get(..self.copied()).unwrap_or(&[])
    }
}

/// The value in a slot that was never filled.
///
/// It is not zero: an allocator has fresh pages that read as zero without being mapped, and would hand them out
/// untouched. The lcore would then get a page fault for each of them, and the process would grow until every slot was
/// used once.
const UNUSED: u8 = 0xa5;

/// What a tap saw on one port.
#[derive(Debug, Default)]
pub struct PortTally {
    /// Datagrams that passed, without the ways that are not copied.
    pub seen: Counter,
    /// How many of them were wanted.
    pub wanted: Counter,
    /// How many of the wanted ones found no empty slot.
    pub dropped: Counter,
}

/// The state that the lcore and the watcher share.
struct Shared {
    empty: ArrayQueue<Box<Copied>>,
    full: ArrayQueue<Box<Copied>>,
    ports: Box<[PortTally]>,
    /// The watcher is gone.
    unwatched: AtomicBool,
    /// The lcore's end is gone.
    ended: AtomicBool,
}

impl Shared {
    /// Copies the wanted part of a datagram, or returns why not.
    fn stage(&self, wants: &mut Wants, now: Time, way: Way, datagram: &DatagramView<'_>) -> Staged {
        if !wants(datagram, way) {
            return Staged::Unwanted;
        }
        match self.empty.pop() {
            Some(mut slot) => {
                slot.fill(now, way, datagram);
                Staged::Copied(slot)
            }
            None => Staged::NoRoom,
        }
    }

    /// Hands a copy to the watcher, and counts.
    fn hand_over(&self, staged: Staged, tally: &PortTally) {
        tally.seen.add(1);
        match staged {
            Staged::Unwanted => {}
            Staged::NoRoom => {
                tally.wanted.add(1);
                tally.dropped.add(1);
            }
            Staged::Copied(slot) => {
                tally.wanted.add(1);
                // There are as many places as slots.
                let _ = self.full.push(slot);
            }
        }
    }
}

/// Makes a tap for an lcore with `ports` ports: its end, and the watcher's.
pub fn tap(config: TapConfig, ports: usize, wants: Wants) -> (Tap, Watch) {
    let slots = config.slots.max(1);
    let shared = Arc::new(Shared {
        empty: ArrayQueue::new(slots),
        full: ArrayQueue::new(slots),
        ports: (0..ports).map(|_| PortTally::default()).collect(),
        unwatched: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    for _ in 0..slots {
        // There are as many places as slots.
        let _ = shared.empty.push(Copied::empty(config.snaplen));
    }
    (Tap { config, wants, shared: Arc::clone(&shared) }, Watch { shared })
}

/// What was copied of one datagram before the port was asked to send it.
enum Staged {
    Unwanted,
    Copied(Box<Copied>),
    NoRoom,
}

/// The lcore's end, to be put into its slot.
pub struct Tap {
    config: TapConfig,
    wants: Wants,
    shared: Arc<Shared>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
    }
}

/// A tap that an lcore is using.
pub(crate) struct ActiveTap {
    tap: Tap,
    /// The datagrams that the port is asked to send at a time.
    lent: Option<TxQueue>,
    /// One for each datagram in `lent`.
    staged: Vec<Staged>,
}

impl ActiveTap {
    pub(crate) fn new(tap: Tap) -> Self {
        Self { tap, lent: None, staged: Vec::with_capacity(BURST) }
    }

    fn is_on(&self, port: PortId) -> bool {
        self.tap.config.port.is_none_or(|only| only == port)
    }

    /// Whether nobody watches any more.
    pub(crate) fn is_unwatched(&self) -> bool {
        self.tap.shared.unwatched.load(Ordering::Relaxed)
    }

    /// A burst was received on a port.
    #[inline(never)]
    pub(crate) fn received(&mut self, now: Time, port: PortId, burst: &Burst) {
        if !self.tap.config.rx || !self.is_on(port) {
            return;
        }
        let Tap { wants, shared, .. } = &mut self.tap;
        let Some(tally) = shared.ports.get(usize::from(port.0)) else {
            return frame::never!("a tap does not know a port of its lcore");
        };
        for (_, datagram) in burst.iter() {
            shared.hand_over(shared.stage(wants, now, Way::Rx, &datagram), tally);
        }
    }

    /// Has a port send as much of its queue as it can, and copies what the port took.
    #[inline(never)]
    pub(crate) fn transmit<P: Port>(&mut self, now: Time, port: &mut P, queue: &mut TxQueue) -> usize {
        let id = port.id();
        if !self.tap.config.tx || !self.is_on(id) {
            return port.tx_burst(now, queue);
        }
        let mut lent = self.lent.take().unwrap_or_else(|| queue.sibling());
        let mut sent = 0;
        loop {
            queue.lend(&mut lent);
            for datagram in lent.iter() {
                let Tap { wants, shared, .. } = &mut self.tap;
                self.staged.push(shared.stage(wants, now, Way::Tx, &datagram.into()));
            }
            let all = lent.backlog();
            sent += port.tx_burst(now, &mut lent);
            let (left, failed) = queue.take_back(&mut lent);
            self.settle(id, left, failed);
            if left < all || queue.backlog() == 0 {
                break;
            }
        }
        self.lent = Some(lent);
        sent
    }

    /// The first `left` staged datagrams left the queue; those with a bit in `failed` were not sent.
    fn settle(&mut self, port: PortId, left: usize, failed: u64) {
        let Self { tap: Tap { shared, .. }, staged, .. } = self;
        let Some(tally) = shared.ports.get(usize::from(port.0)) else {
            staged.clear();
            return frame::never!("a tap does not know a port of its lcore");
        };
        for (number, staged) in staged.drain(..).enumerate() {
            if number < left && failed & (1 << number) == 0 {
                shared.hand_over(staged, tally);
            } else if let Staged::Copied(slot) = staged {
                // There are as many places as slots.
                let _ = shared.empty.push(slot);
            }
        }
    }
}

/// The watcher's end. When it is dropped, the lcore removes its tap at its next poll.
pub struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// The oldest copy that waits.
    pub fn take(&mut self) -> Option<Box<Copied>> {
        self.shared.full.pop()
    }

    /// Returns a slot, to be filled again.
    pub fn give_back(&mut self, slot: Box<Copied>) {
        // There are as many places as slots.
        let _ = self.shared.empty.push(slot);
    }

    /// The counts of the tap for each port.
    pub fn ports(&self) -> &[PortTally] {
        &self.shared.ports
    }

    /// Whether the lcore has removed its tap, or never took it.
    pub fn is_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.unwatched.store(true, Ordering::Relaxed);
    }
}

/// The place where an lcore finds its next tap.
#[derive(Default)]
pub struct TapSlot {
    is_full: AtomicBool,
    tap: Mutex<Option<Tap>>,
}

impl TapSlot {
    /// Puts a tap here; it replaces one that the lcore has not taken yet. The lcore takes it when the next poll begins,
    /// and it replaces the tap in use.
    pub fn put(&self, tap: Tap) {
        *self.tap.lock().unwrap_or_else(PoisonError::into_inner) = Some(tap);
        self.is_full.store(true, Ordering::Release);
    }

    /// The one check per poll.
    #[inline]
    pub(crate) fn has_tap(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    #[cold]
    pub(crate) fn take(&self) -> Option<Tap> {
        // Never waits: if the lock is held, a tap is about to be put here, and the next poll finds it.
        let mut tap = self.tap.try_lock().ok()?;
        self.is_full.store(false, Ordering::Relaxed);
        tap.take()
    }
}
