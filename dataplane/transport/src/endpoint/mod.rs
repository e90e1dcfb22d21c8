//! Many queue pairs: by number, the order in which they send, timers.

#[cfg(test)]
mod explore;
mod packets;
mod setup;
mod verbs;

use crate::completion::Completions;
use crate::config::{Config, PeerKind};
use crate::counters::TransportCounters;
use crate::memory::{Memory, Regions};
use crate::path::Path;
use crate::qp::{Context, Qp, Shared, Wait};
use crate::queue::{Classes, Links, Turns};
use crate::requester::Wqe;
use crate::responder::Replay;
use crate::slab::{NONE, Slab};
use crate::total::TotalWindow;
use crate::window::{InFlight, LEAST_WINDOW};
use crate::{Error, Local, Op, Qpn, Receive, Work};
use frame::time::MICROSECOND;
use frame::wheel::{self, Wheel};
use frame::{Table, TableError, Time};
use std::sync::Arc;
use wire::rc::IcrcSeed;

/// How late a timer may be, in nanoseconds.
const TICK: Time = 16 * MICROSECOND;

/// Bytes that an endpoint needs for an idle queue pair and for its path.
pub const BYTES_PER_IDLE_QP: usize = size_of::<Qp>() + size_of::<Path>() + wheel::BYTES_PER_NODE + 2 * size_of::<u32>();

/// A packet that came in, and what is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The peer that it came from, as its source address says.
    pub path: crate::PathId,
    /// Whether it was marked by a congested switch or gateway.
    pub ce: bool,
    /// What its ICRC covers before the BTH.
    pub seed: IcrcSeed,
    /// The packet, from its BTH to its ICRC.
    pub bytes: &'a [u8],
}

/// Queue pairs and memory regions of one lcore.
///
/// Bytes and `now` come in, bytes and a deadline go out. After each call that adds input ([`Endpoint::receive`],
/// [`Endpoint::post`], [`Endpoint::advance`]), [`Endpoint::transmit`] sends what is ready.
pub struct Endpoint<M> {
    qps: Table<Qp>,
    /// The first free place, or [`NONE`]; the next one is its sibling.
    free: u32,
    /// The bits of a number that give its place.
    mask: u32,
    paths: Table<Path>,
    shared: Shared<M>,
    ready: Turns,
    ready_links: Links,
    wait_links: Links,
    wheel: Wheel,
}

impl<M: Memory> Endpoint<M> {
    /// An endpoint without queue pairs. `now` is any time before all later ones.
    ///
    /// # Errors
    /// There is no memory for its tables.
    ///
    /// # Panics
    /// If it has more than 2^20 queue pairs.
    pub fn new(config: Config, now: Time) -> Result<Self, TableError> {
        assert!(config.queue_pairs <= 1 << 20, "at most 2^20 queue pairs");
        let places = config.queue_pairs;
        let blank_work = Work { id: 0, op: Op::Send, local: Local { key: 0, address: 0, len: 0 } };
        let blank_receive = Receive { id: 0, local: blank_work.local };
        let total_window = config.total_window.max(u64::from(LEAST_WINDOW));
        let path_window = config.path_window.max(LEAST_WINDOW);
        let config = Config { total_window, path_window, ..config };
        Ok(Self {
            qps: Table::new(places as usize, |place| Qp { sibling: free_after(place as u32, places), ..Qp::FREE })?,
            free: if places == 0 { NONE } else { 0 },
            mask: places.max(4).next_power_of_two() - 1,
            paths: Table::new(config.paths as usize, |_| Path::new(PeerKind::Own, config.path_window))?,
            shared: Shared {
                config,
                regions: Regions::new(config.regions),
                work: Slab::new(config.work, Wqe { work: blank_work, packets: 0 }),
                receives: Slab::new(config.receives, blank_receive),
                replays: Slab::new(config.replays, Replay::BLANK),
                completions: Completions::new(config.completions),
                counters: Arc::new(TransportCounters::default()),
                in_flight: InFlight::NONE,
                total: TotalWindow::new(&config),
                urgent_qps: 0,
                waiting: Classes::EMPTY,
                granted: 0,
                reads_wait: false,
                now,
                urgent_until: 0,
                promised: 0,
            },
            ready: Turns::EMPTY,
            ready_links: Links::new(places),
            wait_links: Links::new(places),
            wheel: Wheel::new(places, TICK, now),
        })
    }

    /// The counters, for others to read.
    pub fn counters(&self) -> &Arc<TransportCounters> {
        &self.shared.counters
    }

    /// The place of a queue pair.
    #[inline]
    fn place_of(&self, qpn: Qpn) -> Option<u32> {
        let place = qpn.0 & self.mask;
        let qp = self.qps.get(place as usize)?;
        (qp.number == qpn.0 && qpn.0 != 0).then_some(place)
    }

    fn find(&self, qpn: Qpn) -> Result<u32, Error> {
        self.place_of(qpn).ok_or(Error::NoSuchQp)
    }

    /// A queue pair that is connected, with its path.
    #[inline]
    fn context(&mut self, place: u32, now: Time) -> Option<Context<'_, M>> {
        let qp = self.qps.get_mut(place as usize)?;
        let path = self.paths.get_mut(qp.path as usize)?;
        self.shared.now = now;
        Some(Context { qp, path, shared: &mut self.shared, now })
    }

    /// Call this after a change of a queue pair: lists it if it has something to send, sets its timer, and wakes queue
    /// pairs that waited for room.
    #[inline]
    fn settle(&mut self, place: u32) {
        let Some(qp) = self.qps.get_mut(place as usize) else {
            return frame::never!("a list names a queue pair that does not exist");
        };
        if qp.is_ready() {
            self.ready.push(&mut self.ready_links, place, qp.is_urgent);
        }
        let timer = qp.timer;
        if timer < qp.scheduled {
            qp.scheduled = timer;
            self.wheel.schedule(place, timer);
        }
        let path = qp.path;
        if let Some(path) = self.paths.get_mut(path as usize) {
            while let Some(other) = self.wait_links.pop(&mut path.waiting) {
                if let Some(is_urgent) = wake(&mut self.qps, other) {
                    self.ready.push(&mut self.ready_links, other, is_urgent);
                }
            }
        }
        if !self.shared.waiting.is_empty() {
            self.wake_waiting();
        }
        self.shared.counters.bytes_in_flight.set(self.shared.in_flight.all());
    }

    /// Wakes some queue pairs that wait for room in the window of all paths: the urgent ones first, and the others when
    /// several of their requests can leave together.
    fn wake_waiting(&mut self) {
        let mut woken = 0;
        for is_urgent in [true, false] {
            let batch = if is_urgent { None } else { self.shared.batch() };
            let (most, room) = match batch {
                Some(batch) => (WAKE_AT_ONCE + WAKE_BATCH, batch),
                None => (WAKE_AT_ONCE, LEAST_WINDOW / 2),
            };
            if let Some(batch) = batch.filter(|batch| self.shared.has_room(is_urgent, *batch)) {
                self.shared.granted = batch.into();
            }
            while woken < most && self.shared.has_room(is_urgent, room) {
                let Some(other) = self.wait_links.pop(self.shared.waiting.of(is_urgent)) else { break };
                // A queue pair with nothing left to send gives its place to the next. The others go first: whoever has
                // just made this room would take it again.
                if let Some(is_urgent) = wake(&mut self.qps, other) {
                    self.ready.push_front(&mut self.ready_links, other, is_urgent);
                    woken += 1;
                }
            }
        }
    }

    /// Takes a queue pair out of the list in which it waits for room.
    fn stop_waiting(&mut self, place: u32) {
        let Some(qp) = self.qps.get_mut(place as usize) else { return };
        match (std::mem::replace(&mut qp.wait, Wait::Nothing), self.paths.get_mut(qp.path as usize)) {
            (Wait::PathWindow, Some(path)) => self.wait_links.remove(&mut path.waiting, place),
            (Wait::TotalWindow, _) => self.wait_links.remove(self.shared.waiting.of(qp.is_urgent), place),
            _ => {}
        }
    }
}

/// The next free place after one, when all are free.
fn free_after(place: u32, places: u32) -> u32 {
    if place + 1 < places { place + 1 } else { NONE }
}

/// How many queue pairs are woken at once when the window of all paths opens.
const WAKE_AT_ONCE: usize = 8;

/// So many more where they go on together.
const WAKE_BATCH: usize = 8;

/// A queue pair no longer waits for room. If it has something to send, returns whether it is urgent.
fn wake(qps: &mut [Qp], place: u32) -> Option<bool> {
    let Some(qp) = qps.get_mut(place as usize) else {
        frame::never!("a list names a queue pair that does not exist");
        return None;
    };
    qp.wait = Wait::Nothing;
    qp.is_ready().then_some(qp.is_urgent)
}

/// Takes a queue pair out of the list of its path.
fn leave_path(qps: &mut [Qp], paths: &mut [Path], place: u32) {
    let Some(&Qp { path, sibling, .. }) = qps.get(place as usize) else { return };
    let Some(first) = paths.get_mut(path as usize).map(|path| &mut path.first) else { return };
    if *first == place {
        *first = sibling;
        return;
    }
    let mut at = *first;
    while let Some(qp) = qps.get_mut(at as usize) {
        if qp.sibling == place {
            qp.sibling = sibling;
            return;
        }
        at = qp.sibling;
    }
    debug_assert!(at == NONE);
}

// A master holds up to 131,072 queue pairs.
const _: () = assert!(BYTES_PER_IDLE_QP <= 256);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_free_place_has_none_behind_it() {
        assert_eq!([0, 1, 2, 3].map(|place| free_after(place, 4)), [1, 2, 3, NONE]);
        assert_eq!(free_after(0, 1), NONE);
    }
}
