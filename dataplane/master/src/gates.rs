//! The gateways of a master: it is registered with each, and follows the MEMBERS of each.

use crate::counters::MasterCounters;
use frame::time::{FOREVER, MICROSECOND};
use frame::{Class, Datagram, Outbox, Peer, Time};
use link::standing::choose;
use link::{Credential, MemberTable, Node, NodeConfig, NodeEvent, Standing};
use wire::Record;
use wire::link::{Member, NodeId};

/// How soon link control that found no frame is tried again.
const RETRY: Time = 50 * MICROSECOND;

/// One gateway.
struct Gate {
    node: Node,
    table: MemberTable,
}

/// All gateways, in the order of preference.
pub(crate) struct Gates {
    list: Vec<Gate>,
    retry_at: Time,
}

impl Gates {
    pub(crate) fn new(master: u16, gateways: &[Peer], credential: &Credential, config: &NodeConfig, now: Time) -> Self {
        let id = NodeId::master(master);
        let gate = |gateway: &Peer| Gate {
            node: Node::new(id, credential.node_keys(id), *gateway, config, now),
            table: MemberTable::new(config.scale, config.interval),
        };
        Self { list: gateways.iter().map(gate).collect(), retry_at: 0 }
    }

    pub(crate) fn set_credential(&mut self, credential: &Credential) {
        for Gate { node, .. } in &mut self.list {
            node.set_keys(credential.node_keys(node.id()));
        }
    }

    /// The largest packet of the configuration changed.
    pub(crate) fn probe_again(&mut self, config: &NodeConfig) {
        self.list.iter_mut().for_each(|gate| gate.node.probe_again(config));
    }

    /// The gateway that a datagram came from: from where it listens, or from one of its lanes.
    pub(crate) fn source(&self, from: &Peer) -> Option<usize> {
        let is_from = |gate: &Gate| from.is_same_origin(gate.node.gateway(), true) || gate.node.is_lane(from);
        self.list.iter().position(is_from)
    }

    /// Where a gateway listens.
    pub(crate) fn peer(&self, gateway: usize) -> Option<&Peer> {
        Some(self.list.get(gateway)?.node.gateway())
    }

    /// The largest IP packet towards a gateway, in bytes; `None` while it has not registered the master.
    pub(crate) fn mtu(&self, gateway: usize, config: &NodeConfig) -> Option<u16> {
        let node = &self.list.get(gateway)?.node;
        node.is_registered().then(|| node.mtu().min(config.max_ip_packet))
    }

    /// The longest hold of the gateways that have registered the master, in nanoseconds.
    pub(crate) fn hold(&self) -> Option<Time> {
        let registered = self.list.iter().filter(|gate| gate.node.is_registered());
        registered.map(|gate| gate.node.hold_ns().into()).max()
    }

    /// The gateway through which cargo to a slave goes that these gateways name, given the one used before.
    pub(crate) fn choose(
        &self,
        config: &NodeConfig,
        now: Time,
        used: Option<usize>,
        is_behind: impl Fn(usize) -> bool + Clone,
    ) -> Option<usize> {
        let standings = self
            .list
            .iter()
            .enumerate()
            .map(|(at, gate)| if is_behind(at) { gate.node.standing(config, now) } else { Standing::Away });
        choose(now, config.interval, used, standings)
    }

    /// Takes a HEARTBEAT_ACK.
    pub(crate) fn acknowledge(
        &mut self,
        config: &NodeConfig,
        now: Time,
        (gateway, from): (usize, &Peer),
        record: &Record<'_>,
        counters: &MasterCounters,
    ) -> Option<NodeEvent> {
        match self.list.get_mut(gateway)?.node.handle(config, now, from, record) {
            Ok(event) => {
                counters.master_acks_accepted.add(1);
                event
            }
            Err(_) => {
                counters.master_acks_refused.add(1);
                None
            }
        }
    }

    /// Takes a MEMBERS record. `changed` gets the slaves that it changes.
    pub(crate) fn members(
        &mut self,
        now: Time,
        (gateway, from): (usize, &Peer),
        record: &Record<'_>,
        counters: &MasterCounters,
        changed: &mut Vec<Member>,
    ) {
        let Some(Gate { node, table }) = self.list.get_mut(gateway) else { return };
        match table.receive(now, node, from, record, |member| changed.push(*member)) {
            Ok(()) => counters.members_accepted.add(1),
            Err(_) => counters.members_refused.add(1),
        }
    }

    /// Sends the heartbeats that are due, and notices silence. `changed` gets the slaves that are gone, with the number
    /// of their gateway, and `told` what people should know.
    pub(crate) fn advance(
        &mut self,
        config: &NodeConfig,
        now: Time,
        counters: &MasterCounters,
        out: &mut Outbox,
        changed: &mut Vec<(usize, Member)>,
        mut told: impl FnMut(Peer, NodeEvent),
    ) {
        for (at, Gate { node, table }) in self.list.iter_mut().enumerate() {
            if let Some(event) = node.poll_event(config, now) {
                told(*node.gateway(), event);
            }
            table.advance(now, |member| changed.push((at, *member)));
            if now < self.retry_at {
                continue;
            }
            let is_due = node.is_due(now);
            if !is_due && !node.wants_probe(config, now) {
                continue;
            }
            let Some(mut frame) = out.alloc_link() else {
                counters.master_no_frame.add(1);
                self.retry_at = now + RETRY;
                continue;
            };
            let room = frame.tail_mut();
            let len = if is_due { node.transmit(config, now, room) } else { node.transmit_probe(config, now, room) };
            if let Some(len) = len {
                frame.set_range(frame.headroom(), len);
                out.send(Datagram::new(frame, *node.gateway(), Class::Link, 1));
                counters.master_heartbeats_out.add(1);
            }
        }
        let registered = self.list.iter().filter(|gate| gate.node.is_registered()).count();
        counters.gateways_registered.set(registered as u64);
    }

    pub(crate) fn deadline(&self, config: &NodeConfig) -> Time {
        let one =
            |gate: &Gate| gate.node.deadline(config).max(self.retry_at).min(gate.table.deadline().unwrap_or(FOREVER));
        self.list.iter().map(one).min().unwrap_or(FOREVER)
    }
}
