//! Slaves that lend memory: leases, queue pairs and units of a farm.
//!
//! Each slave id has a [`Lender`]. All of them share one endpoint and one memory. A message of a lease goes to the
//! lender of its slave, and a packet of a reliable connection to the queue pair that it names, by the path of its slave
//! and master. Answers leave through the gateway that the request came through, as answers to ECHO do.

mod memory;
mod sessions;
mod view;

pub use sessions::ScrubSink;
pub use view::{LeaseView, LendingView};

use frame::time::MILLISECOND;
use frame::wheel::Wheel;
use frame::{Class, Datagram, Frame, Outbox, Peer, TableError, Time, UnitMemory};
use lease::{ConnectKeys, Lender, LenderConfig, LenderCounters, Numbers};
use records::{Framing, Side};
use sessions::Sessions;
use std::sync::Arc;
use transport::{Config, Endpoint};
use wire::rc::PathMtu;
use wire::{MsgType, Record, Scale};

/// The most leases of a farm. Each has two queue pairs.
pub const MOST_LEASES: u32 = 1 << 19;

/// READs and atomic operations that a queue pair keeps for repetition, at most and at least.
const READ_DEPTHS: [u32; 2] = [4, 128];

/// READs and atomic operations that are kept for repetition in a farm, if each queue pair can have the least depth.
const REPLAYS: u32 = 1 << 15;

/// A lender that could not do what is due, or has something due at any time, is visited after this time.
const SOON: Time = MILLISECOND;

/// What a farm lends.
pub struct LendingConfig {
    /// The memory. The slaves divide it, in the order of their numbers.
    pub memory: Arc<UnitMemory>,
    /// Units of each slave id.
    pub units_per_slave: u32,
    /// The connect keys; without one nothing is signed or verified.
    pub keys: ConnectKeys,
    /// The most units of one lease.
    pub quota: u32,
    /// The most leases of each slave id, one for each master.
    pub leases: u16,
    /// How long masters have to give everything back when the farm drains, in nanoseconds.
    pub leave_within: Time,
    /// Random bytes that nobody else knows, and that no other start has: numbers of queue pairs, keys and cookies come
    /// from them.
    pub secret: [u8; 32],
    /// Takes the number of each unit that must be scrubbed. It must not block. When the unit is zero, the farm is told
    /// by [`FarmCommand::Scrubbed`](crate::FarmCommand::Scrubbed).
    pub scrub: ScrubSink,
}

/// Why a farm cannot lend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LendingError {
    /// The memory is smaller than what the slaves are to lend.
    #[error("{slaves} slaves with {each} units of 64 MiB each need more than the {units} units of the memory")]
    Memory {
        /// Slaves of the farm.
        slaves: u32,
        /// Units of each.
        each: u32,
        /// Units of the memory.
        units: u32,
    },
    /// A slave has no unit, or may have no lease.
    #[error("a slave that lends has at least one unit of 64 MiB and one lease")]
    Nothing,
    /// There are more leases than queue pairs.
    #[error("{0} leases are too many for one farm: at most {MOST_LEASES}; lower the leases of each slave")]
    Leases(u64),
    /// There is no memory for queue pairs and routes.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Where a record came from, and where its answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Where the answer goes.
    pub(crate) back: Peer,
    /// Bytes of the largest IP packet to there; `None` while the slave is not registered there.
    pub(crate) mtu: Option<u16>,
    /// Whether it came through a gateway of ours, which vouches for the master.
    pub(crate) is_vouched: bool,
    /// Whether the datagram was marked by a congested switch or gateway.
    pub(crate) ce: bool,
}

/// See the module's documentation.
pub(crate) struct Lending {
    sessions: Sessions,
    lenders: Box<[Lender]>,
    ids: Box<[u32]>,
    /// When each lender has something to do.
    wheel: Wheel,
    leave_within: Time,
    now: Time,
    view: Arc<LendingView>,
}

impl Lending {
    pub(crate) fn new(
        config: LendingConfig,
        scale: Scale,
        epoch: u64,
        ids: Box<[u32]>,
        now: Time,
    ) -> Result<Self, LendingError> {
        let LendingConfig { memory, units_per_slave, keys, quota, leases, leave_within, secret, scrub } = config;
        // A scale has 2^20 slaves at most.
        let slaves = ids.len() as u32;
        if units_per_slave == 0 || leases == 0 {
            return Err(LendingError::Nothing);
        }
        let units = slaves
            .checked_mul(units_per_slave)
            .filter(|&units| units <= memory.units())
            .ok_or(LendingError::Memory { slaves, each: units_per_slave, units: memory.units() })?;
        let all = u64::from(slaves) * u64::from(leases);
        let paths = u32::try_from(all).ok().filter(|&paths| paths <= MOST_LEASES).ok_or(LendingError::Leases(all))?;
        let [least, most] = READ_DEPTHS;
        let read_depth = (REPLAYS / (2 * paths)).clamp(least, most);
        let endpoint = Endpoint::new(
            Config {
                queue_pairs: 2 * paths,
                paths,
                regions: paths,
                // A slave requests nothing.
                work: 1,
                receives: 1,
                completions: 1,
                queue_depth: 1,
                replays: 2 * paths * read_depth,
                ..Config::default()
            },
            now,
        )?;
        let framing = Framing::new(Side::Slave, scale, paths)?;
        let mut numbers = Numbers::new(&secret);
        let counters: Arc<LenderCounters> = Arc::default();
        let mut lender = |&slave: &u32| {
            let path_mtu = PathMtu::B256;
            let config =
                LenderConfig { slave, epoch, units: units_per_slave, leases, quota, path_mtu, keys: keys.clone() };
            Lender::sharing(config, numbers.bytes(), Arc::clone(&counters))
        };
        let lenders = ids.iter().map(&mut lender).collect();
        let all = (counters, Arc::clone(framing.counters()), Arc::clone(endpoint.counters()));
        let view = Arc::new(LendingView::new(all, ids.clone(), leases, units));
        // 128 at most.
        let size = (slaves, leases, units_per_slave, read_depth as u8);
        Ok(Self {
            sessions: Sessions::new(endpoint, framing, memory, numbers, scrub, size),
            lenders,
            ids,
            wheel: Wheel::new(slaves, MILLISECOND, now),
            leave_within,
            now,
            view,
        })
    }

    pub(crate) fn view(&self) -> &Arc<LendingView> {
        &self.view
    }

    /// Takes a packet of a reliable connection for the slave with this number.
    #[inline]
    pub(crate) fn packet(&mut self, now: Time, index: u32, way: &Way, record: &Record<'_>) {
        let path = self.sessions.path_to(index, record.header().master_id());
        let Sessions { endpoint, framing, .. } = &mut self.sessions;
        let is_from = |path| way.is_vouched || framing.is_from(path, &way.back, &[]);
        let Some(arrival) = framing.accept(path, way.ce, record, is_from) else { return };
        // The answer goes back where the request came from, unless that gateway drains or is silent.
        if way.is_vouched
            && let Some(mtu) = way.mtu
            && !framing.has_route(arrival.path, &way.back, mtu)
            && let Some(ends) = framing.ends(arrival.path)
        {
            framing.set_route(arrival.path, ends, way.back, mtu);
        }
        endpoint.receive(now, &arrival);
    }

    /// Takes a message of a lease for the slave with this number, and sends the answer. `false` if no frame is free, or
    /// the way back has no MTU yet: then nothing has happened, and the master repeats it.
    pub(crate) fn message(&mut self, now: Time, index: u32, way: &Way, record: &Record<'_>, out: &mut Outbox) -> bool {
        let Self { sessions, lenders, ids, .. } = self;
        let (Some(lender), Some(&slave)) = (lenders.get_mut(index as usize), ids.get(index as usize)) else {
            return false;
        };
        let (Some(mtu), Some(mut frame)) = (way.mtu, out.alloc()) else { return false };
        lender.set_path_mtu(Framing::path_mtu(&way.back, mtu).unwrap_or(PathMtu::B256));
        let resources = &mut sessions.of(now, index, slave, Some((way.back, mtu)));
        if let Some(len) = lender.receive(now, record, resources, frame.tail_mut()) {
            send(frame, len, way.back, out);
        }
        self.settle(now, index);
        true
    }

    /// After a change of a lender: when it has something to do next, and what others see of it.
    fn settle(&mut self, now: Time, index: u32) {
        let Some(lender) = self.lenders.get(index as usize) else { return };
        if let Some(deadline) = lender.deadline() {
            self.wheel.schedule(index, deadline.max(now));
        }
        self.view.update(index as usize, lender);
    }

    /// Does what is due, and sends what is ready. `route` says where a slave's cargo goes, and how large an IP packet
    /// may be there.
    pub(crate) fn advance(&mut self, now: Time, mut route: impl FnMut(u32) -> Option<(Peer, u16)>, out: &mut Outbox) {
        self.now = now;
        while let Some(index) = self.wheel.pop_due(now) {
            self.visit(now, index, &mut route, out);
        }
        let Sessions { endpoint, framing, .. } = &mut self.sessions;
        endpoint.advance(now);
        framing.transmit(now, endpoint, out);
    }

    /// Lets one lender do what is due.
    fn visit(&mut self, now: Time, index: u32, route: &mut impl FnMut(u32) -> Option<(Peer, u16)>, out: &mut Outbox) {
        let Self { sessions, lenders, ids, .. } = self;
        let (Some(lender), Some(&slave)) = (lenders.get_mut(index as usize), ids.get(index as usize)) else {
            return frame::never!("a lender is due that the farm does not have");
        };
        lender.advance(now, &mut sessions.of(now, index, slave, None));
        if let Some((peer, _)) = route(index) {
            while let Some(mut frame) = out.alloc() {
                let Some(len) = lender.transmit(now, frame.tail_mut()) else { break };
                send(frame, len, peer, out);
            }
        }
        if let Some(deadline) = lender.deadline() {
            self.wheel.schedule(index, deadline.max(now + SOON));
        }
        self.view.update(index as usize, lender);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        // Packets that found no room are tried again at once.
        if self.sessions.endpoint.has_output() {
            return Some(self.now);
        }
        self.wheel.deadline().into_iter().chain(self.sessions.endpoint.deadline()).min()
    }

    /// From now on at most `units` units are lent. They are divided among the slaves by what they have lent, and what
    /// is left evenly. What is lent beyond that is recalled, and taken after `within`.
    pub(crate) fn set_limit(&mut self, now: Time, units: u32, within: Time) {
        let books: Vec<_> = self.lenders.iter().map(Lender::books).collect();
        let leased: Vec<u32> = books.iter().map(|books| books.leased).collect();
        let free: Vec<u32> = books.iter().map(|books| books.units - books.leased).collect();
        let all: u32 = leased.iter().sum();
        let kept = divide(units.min(all), &leased);
        let more = divide(units.saturating_sub(all), &free);
        for (index, (kept, more)) in (0..).zip(kept.zip(more)) {
            if let Some(lender) = self.lenders.get_mut(index as usize) {
                lender.set_limit(now, kept + more, within);
            }
            self.settle(now, index);
        }
        self.view.set_limit(units.min(self.view.units()));
    }

    /// Uses other connect keys from the next message on.
    pub(crate) fn set_keys(&mut self, keys: &ConnectKeys) {
        self.lenders.iter_mut().for_each(|lender| lender.set_keys(keys.clone()));
    }

    /// A unit was scrubbed.
    pub(crate) fn scrubbed(&mut self, now: Time, unit: u32) {
        let each = self.sessions.units_per_slave;
        let (index, unit) = (unit / each, unit % each);
        match self.lenders.get_mut(index as usize) {
            Some(lender) => lender.scrubbed(unit),
            None => return frame::never!("a unit was scrubbed that the farm does not lend"),
        }
        self.settle(now, index);
    }

    /// Stops lending: recalls everything.
    pub(crate) fn leave(&mut self, now: Time) {
        for index in 0..self.ids.len() {
            if let Some(lender) = self.lenders.get_mut(index) {
                lender.leave(now, self.leave_within);
            }
            // There are 2^20 at most.
            self.settle(now, index as u32);
        }
        self.view.set_limit(0);
    }

    /// Whether nothing is lent any more, and all is scrubbed and sent, after [`leave`](Self::leave).
    pub(crate) fn is_drained(&self) -> bool {
        !self.sessions.endpoint.has_output() && self.lenders.iter().all(Lender::is_drained)
    }
}

/// Divides `total` by weights: the parts have this sum, if it is not more than that of the weights, and no part is
/// larger than its weight.
fn divide(total: u32, weights: &[u32]) -> impl Iterator<Item = u32> + '_ {
    let all: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let total = u64::from(total).min(all);
    let (mut before, mut given) = (0, 0);
    weights.iter().map(move |&weight| {
        before += u64::from(weight);
        let until = (total * before).checked_div(all).unwrap_or(0);
        let part = until - given;
        given = until;
        // At most `weight`, which has 32 bits.
        part as u32
    })
}

fn send(mut frame: Frame, len: usize, peer: Peer, out: &mut Outbox) {
    let (start, whole) = (frame.headroom(), frame.len() + len);
    // Inside the chunk: `len` bytes of the tailroom were just written.
    frame.set_range(start, whole);
    out.send(Datagram::new(frame, peer, Class::Up, 1));
}

/// Whether records of a type are for the part of a farm that lends.
#[inline]
pub(crate) fn is_lending(msg_type: MsgType) -> bool {
    matches!(msg_type, MsgType::RC | MsgType::CONNECT | MsgType::DISCONNECT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_divided_by_what_is_lent() {
        assert_eq!(divide(5, &[4, 0, 4, 2]).collect::<Vec<_>>(), [2, 0, 2, 1]);
        assert_eq!(divide(0, &[3, 3]).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(divide(9, &[3, 3]).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(divide(7, &[0, 0]).collect::<Vec<_>>(), [0, 0]);
    }

    proptest! {
        #[test]
        fn parts_have_the_sum_and_none_is_more_than_there_is(
            total in 0u32..10_000,
            weights in proptest::collection::vec(0u32..4096, 1..40),
        ) {
            let parts: Vec<u32> = divide(total, &weights).collect();
            prop_assert_eq!(parts.iter().sum::<u32>(), total.min(weights.iter().sum()));
            prop_assert!(parts.iter().zip(&weights).all(|(part, weight)| part <= weight));
        }
    }
}
