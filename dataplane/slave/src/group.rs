//! The slaves behind one gateway: which of them are due. Their heartbeats share few datagrams.

use crate::counters::FarmCounters;
use crate::ids::Ids;
use crate::report::{EventSink, Reporter};
use crate::window::Window;
use frame::wheel::Wheel;
use frame::{Class, Datagram, Frame, Outbox, Peer, Time};
use link::{AckRefusal, Credential, Node, NodeConfig, NodeEvent, Standing};
use std::collections::VecDeque;
use wire::Record;
use wire::link::{Heartbeat, NodeId};

/// The most heartbeat datagrams that one poll makes.
const DATAGRAMS_PER_POLL: usize = 64;
/// The most nodes that one poll visits.
const NODES_PER_POLL: usize = 4096;
/// Slots of an interval.
const TICKS: u64 = 1024;
/// The padded heartbeats of all nodes are spread over at least this many intervals.
const PROBE_INTERVALS: u32 = 4;
/// The most padded heartbeats of one time slot: each is a datagram of full size.
const PROBES_PER_TICK: u32 = 16;
/// After this many intervals without any answer all nodes are asked whether they see the silence. A node sees it after
/// three.
const SILENT_INTERVALS: u64 = 2;

/// A datagram of heartbeats that is being filled.
struct Open {
    frame: Frame,
    records: u16,
    /// How many bytes the datagram may have.
    limit: usize,
}

/// Data that a group gets with every call.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) now: Time,
    pub(crate) counters: &'a FarmCounters,
    pub(crate) sink: &'a mut EventSink,
    /// For each slave, how many gateways have registered it.
    pub(crate) here: &'a mut [u8],
}

impl Context<'_> {
    /// Counts that a gateway has registered a slave, or no longer has.
    fn count_registered(&mut self, local: usize, was: bool, is: bool) {
        let Some(here) = self.here.get_mut(local).filter(|_| was != is) else { return };
        let before = *here;
        *here = if is { before + 1 } else { before.saturating_sub(1) };
        let (one, less) = (1, 1u64.wrapping_neg());
        self.counters.registrations.add(if is { one } else { less });
        match (before, *here) {
            (0, 1) => self.counters.registered.add(one),
            (1, 0) => self.counters.registered.add(less),
            _ => {}
        }
    }
}

/// Limits how many things happen in one time slot.
struct PerTick {
    most: u32,
    tick: u64,
    done: u32,
}

impl PerTick {
    fn new(most: u32) -> Self {
        Self { most, tick: 0, done: 0 }
    }

    /// Whether one more may happen.
    fn may(&self, tick: u64) -> bool {
        tick != self.tick || self.done < self.most
    }

    fn done(&mut self, tick: u64) {
        if tick != self.tick {
            (self.tick, self.done) = (tick, 0);
        }
        self.done += 1;
    }
}

/// The slaves behind one gateway.
pub(crate) struct Group {
    gateway: Peer,
    nodes: Vec<Node>,
    wheel: Wheel,
    open: Option<Open>,
    datagrams: usize,
    /// Window for heartbeats of unregistered nodes, which are due all at once. Heartbeats of registered nodes are due
    /// evenly, and must not be delayed by a slow gateway: they could lose their registration.
    window: Window,
    /// Unregistered nodes that are due and wait for the window; and which nodes these are.
    parked: VecDeque<u32>,
    is_parked: Vec<bool>,
    /// Limit for heartbeats of registered nodes: at most twice as many as are due evenly, also after this process was
    /// stopped.
    regular: PerTick,
    /// Used when all nodes together had no answer for two intervals: the next node to check, and when.
    sweep: usize,
    sweep_at: Time,
    probes: PerTick,
    reporter: Reporter,
}

impl Group {
    pub(crate) fn new(gateway: Peer, ids: &Ids, credential: &Credential, config: &NodeConfig, now: Time) -> Self {
        let node = |id| {
            let id = NodeId::slave(id);
            Node::new(id, credential.node_keys(id), gateway, config, now)
        };
        let per_tick = ids.len() / TICKS as u32;
        Self {
            gateway,
            nodes: ids.iter().map(node).collect(),
            wheel: Wheel::new(ids.len(), config.interval / TICKS, now),
            open: None,
            datagrams: 0,
            window: Window::new(now),
            parked: (0..ids.len()).collect(),
            is_parked: vec![true; ids.len() as usize],
            regular: PerTick::new(2 * per_tick + 64),
            sweep: 0,
            sweep_at: now.saturating_add(SILENT_INTERVALS * config.interval),
            probes: PerTick::new((per_tick / PROBE_INTERVALS).clamp(1, PROBES_PER_TICK)),
            reporter: Reporter::default(),
        }
    }

    pub(crate) fn gateway(&self) -> &Peer {
        &self.gateway
    }

    /// Replaces the keys of all slaves.
    pub(crate) fn set_credential(&mut self, credential: &Credential) {
        for node in &mut self.nodes {
            node.set_keys(credential.node_keys(node.id()));
        }
    }

    /// The largest packet of the configuration changed: each slave proves it again, if that is needed.
    pub(crate) fn probe_again(&mut self, config: &NodeConfig) {
        self.nodes.iter_mut().for_each(|node| node.probe_again(config));
    }

    /// Whether cargo of the gateway for a slave may come from here, in addition to the address where it listens.
    pub(crate) fn is_lane(&self, local: u32, from: &Peer) -> bool {
        self.nodes.get(local as usize).is_some_and(|node| node.is_lane(from))
    }

    /// The state of the gateway for a slave.
    #[inline]
    pub(crate) fn standing(&self, config: &NodeConfig, now: Time, local: u32) -> Standing {
        self.nodes.get(local as usize).map_or(Standing::Away, |node| node.standing(config, now))
    }

    /// Reports an event of a slave.
    pub(crate) fn tell(&mut self, now: Time, config: &NodeConfig, local: u32, event: NodeEvent, sink: &mut EventSink) {
        let id = self.nodes.get(local as usize).map(|node| node.id().id);
        if let Some(slave) = id.and_then(|id| config.scale.slave_id(id)) {
            self.reporter.note(now, self.gateway, slave, event, sink);
        }
    }

    /// The largest IP packet towards the gateway for this slave's cargo, in bytes; `None` while it is not registered.
    #[inline]
    pub(crate) fn mtu(&self, local: u32) -> Option<u16> {
        self.nodes.get(local as usize).filter(|node| node.is_registered()).map(Node::mtu)
    }

    /// Takes a HEARTBEAT_ACK for a slave of this group.
    pub(crate) fn acknowledge(&mut self, context: &mut Context<'_>, local: u32, from: &Peer, record: &Record<'_>) {
        let Context { config, now, counters, .. } = *context;
        let Some(node) = self.nodes.get_mut(local as usize) else {
            return frame::never!("an answer is for a slave that the group does not have");
        };
        let (was, signs) = (node.is_registered(), node.signs());
        match node.handle(config, now, from, record) {
            Err(refusal) => {
                counters.acks_refused.add(1);
                counters.acks_refused_challenge.add(u64::from(refusal == AckRefusal::Challenge));
            }
            Ok(event) => {
                counters.acks_accepted.add(1);
                counters.keys_switched.add(u64::from(node.signs() != signs));
                if !was {
                    self.window.answered();
                }
                self.sweep_at = now.saturating_add(SILENT_INTERVALS * config.interval);
                context.count_registered(local as usize, was, node.is_registered());
                self.wheel.schedule(local, node.deadline(config));
                if let (Some(event), Some(slave)) = (event, config.scale.slave_id(node.id().id)) {
                    self.reporter.note(now, self.gateway, slave, event, context.sink);
                }
            }
        }
    }

    /// Sends what is due.
    pub(crate) fn advance(&mut self, context: &mut Context<'_>, out: &mut Outbox) {
        let now = context.now;
        self.window.advance(now);
        self.datagrams = 0;
        self.unpark(context, out);
        for _ in 0..NODES_PER_POLL {
            if self.datagrams >= DATAGRAMS_PER_POLL || !self.regular.may(now / self.wheel.tick()) {
                break;
            }
            let Some(local) = self.wheel.pop_due(now) else { break };
            if self.must_wait(local, now) {
                self.park(local);
            } else {
                let again = self.serve(context, local, out);
                self.wheel.schedule(local, again);
            }
        }
        self.flush(out);
        self.sweep(context);
        self.reporter.advance(now, self.gateway, context.sink);
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let tick = self.wheel.tick();
        // If this time slot has reached its limit, the next slot is soon enough.
        let regular = if self.regular.may(self.regular.tick) { 0 } else { (self.regular.tick + 1) * tick };
        let scheduled = self.wheel.deadline().map(|deadline| deadline.max(regular));
        let parked = match self.parked.is_empty() {
            true => None,
            false if self.window.is_full() => Some(self.window.deadline()),
            false => Some(0),
        };
        scheduled.into_iter().chain(parked).chain(self.reporter.deadline()).chain([self.sweep_at]).min()
    }

    /// Whether a node has to wait for the window.
    fn must_wait(&self, local: u32, now: Time) -> bool {
        let node = self.nodes.get(local as usize);
        self.window.is_full() && node.is_some_and(|node| !node.is_registered() && node.is_due(now))
    }

    fn park(&mut self, local: u32) {
        if let Some(is_parked) = self.is_parked.get_mut(local as usize)
            && !std::mem::replace(is_parked, true)
        {
            self.parked.push_back(local);
        }
    }

    /// Serves the waiting nodes, longest wait first, as far as the window allows.
    fn unpark(&mut self, context: &mut Context<'_>, out: &mut Outbox) {
        while !self.window.is_full() && self.datagrams < DATAGRAMS_PER_POLL {
            let Some(local) = self.parked.pop_front() else { return };
            if let Some(is_parked) = self.is_parked.get_mut(local as usize) {
                *is_parked = false;
            }
            let again = self.serve(context, local, out);
            self.wheel.schedule(local, again);
        }
    }

    /// Lets one node do what is due; returns when it must be checked again.
    fn serve(&mut self, context: &mut Context<'_>, local: u32, out: &mut Outbox) -> Time {
        let &mut Context { config, now, counters, .. } = context;
        let soon = now + self.wheel.tick();
        let due = self.nodes.get(local as usize).is_some_and(|node| node.is_due(now));
        if due && !self.heartbeat(context, local, out) {
            counters.heartbeats_no_frame.add(1);
            return soon;
        }
        self.poll_event(context, local as usize);
        let Some(node) = self.nodes.get(local as usize) else {
            frame::never!("a slave is due that the group does not have");
            return Time::MAX;
        };
        // Not right after a heartbeat that still waits for its datagram to fill: it would overtake that heartbeat.
        if !due && node.wants_probe(config, now) {
            let tick = now / self.wheel.tick();
            if !self.probes.may(tick) {
                // At different times, so that the others do not come back together; but soon, because heartbeats wait
                // together with them.
                let ticks = 1 + u64::from(local.wrapping_mul(0x9E37_79B9) >> 24);
                return now + ticks * self.wheel.tick();
            }
            self.probes.done(tick);
            self.probe(context, local, out);
        }
        self.nodes.get(local as usize).map_or(Time::MAX, |node| node.deadline(config).max(soon))
    }

    /// Makes the nodes of a silent gateway check for silence, all within an interval, also those that wait for the
    /// window.
    fn sweep(&mut self, context: &mut Context<'_>) {
        if context.now < self.sweep_at {
            return;
        }
        for _ in 0..self.nodes.len() / TICKS as usize + 1 {
            self.poll_event(context, self.sweep);
            self.sweep = if self.sweep + 1 < self.nodes.len() { self.sweep + 1 } else { 0 };
        }
        self.sweep_at = context.now + self.wheel.tick();
    }

    /// Lets a node check for events that depend on time alone.
    fn poll_event(&mut self, context: &mut Context<'_>, local: usize) {
        let &mut Context { config, now, .. } = context;
        let Some(node) = self.nodes.get_mut(local) else { return };
        let was = node.is_registered();
        if let (Some(event), Some(slave)) = (node.poll_event(config, now), config.scale.slave_id(node.id().id)) {
            context.count_registered(local, was, node.is_registered());
            self.reporter.note(now, self.gateway, slave, event, context.sink);
        }
    }

    /// Appends a node's heartbeat to the open datagram, or to a new one. `false` if there is no frame.
    fn heartbeat(&mut self, context: &Context<'_>, local: u32, out: &mut Outbox) -> bool {
        let &Context { config, now, counters, .. } = context;
        let Some(node) = self.nodes.get_mut(local as usize) else { return false };
        // A node that takes less than the 1280 bytes that need no proof does not send more either.
        let limit = link::datagram_room(&self.gateway, node.mtu().min(config.max_ip_packet));
        let full = |open: &Open| open.frame.len() + Heartbeat::RECORD_LEN > open.limit.min(limit);
        if self.open.as_ref().is_some_and(full) {
            self.flush(out);
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => match out.alloc_link() {
                // The chunk may be smaller than the MTU.
                Some(frame) => none.insert(Open { records: 0, limit: limit.min(frame.tailroom()), frame }),
                None => return false,
            },
        };
        open.limit = open.limit.min(limit);
        let Some(node) = self.nodes.get_mut(local as usize) else { return false };
        let signs = node.signs();
        let Some(len) = node.transmit(config, now, open.frame.tail_mut()) else { return false };
        counters.keys_switched.add(u64::from(node.signs() != signs));
        extend(&mut open.frame, len);
        open.records += 1;
        counters.heartbeats_out.add(1);
        if node.is_registered() {
            self.regular.done(now / self.wheel.tick());
        } else {
            self.window.sent();
        }
        true
    }

    /// Sends a node's padded heartbeat, alone in its datagram. Without a frame, this counts as an attempt.
    fn probe(&mut self, context: &Context<'_>, local: u32, out: &mut Outbox) {
        let &Context { config, now, counters, .. } = context;
        let Some(node) = self.nodes.get_mut(local as usize) else { return };
        let Some(mut frame) = out.alloc_link() else {
            counters.heartbeats_no_frame.add(1);
            node.transmit_probe(config, now, &mut []);
            return;
        };
        if let Some(len) = node.transmit_probe(config, now, frame.tail_mut()) {
            extend(&mut frame, len);
            // The open datagram may hold an earlier heartbeat of this node, which must not arrive later.
            self.flush(out);
            out.send(Datagram::new(frame, self.gateway, Class::Link, 1));
            self.datagrams += 1;
            counters.heartbeats_out.add(1);
        }
    }

    fn flush(&mut self, out: &mut Outbox) {
        if let Some(open) = self.open.take()
            && open.records > 0
        {
            out.send(Datagram::new(open.frame, self.gateway, Class::Link, open.records));
            self.datagrams += 1;
        }
    }
}

/// Adds the first `len` bytes of the tailroom to the data.
fn extend(frame: &mut Frame, len: usize) {
    let (offset, whole) = (frame.headroom(), frame.len() + len);
    frame.set_range(offset, whole);
}
