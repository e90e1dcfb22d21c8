//! Heartbeats, MEMBERS, and the way of the cargo to each slave.

use super::Master;
use crate::event::MasterEvent;
use crate::request::Loss;
use crate::roster::SlaveNews;
use frame::time::FOREVER;
use frame::{Outbox, Peer, Time};
use link::NodeEvent;
use records::{Framing, PathEnds};
use transport::{Memory, PathId};
use wire::link::Member;
use wire::{MsgType, Record};

/// The ways of all slaves are looked at in pieces of this many.
const WAYS_AT_ONCE: usize = 64;

impl<M: Memory> Master<M> {
    /// Takes a HEARTBEAT_ACK or MEMBERS of a gateway.
    pub(super) fn take_link_control(&mut self, now: Time, (gateway, from): (usize, &Peer), record: &Record<'_>) {
        if record.header().msg_type() == MsgType::HEARTBEAT_ACK {
            if let Some(event) = self.gates.acknowledge(&self.node, now, (gateway, from), record, &self.counters) {
                self.tell_of_gateway(now, *from, event);
            }
            return;
        }
        let mut changed = std::mem::take(&mut self.changed);
        self.gates.members(now, (gateway, from), record, &self.counters, &mut changed);
        changed.drain(..).for_each(|member| self.member_changed(now, gateway, &member));
        self.changed = changed;
    }

    /// Sends heartbeats, and looks at the ways of slaves again.
    pub(super) fn advance_gates(&mut self, now: Time, out: &mut Outbox) {
        let (mut gone, mut told) = (Vec::new(), Vec::new());
        self.gates.advance(&self.node, now, &self.counters, out, &mut gone, |gateway, event| {
            told.push((gateway, event));
        });
        told.into_iter().for_each(|(gateway, event)| self.tell_of_gateway(now, gateway, event));
        gone.into_iter().for_each(|(gateway, member)| self.member_changed(now, gateway, &member));
        if now >= self.ways_at {
            self.look_at_ways(now);
        }
    }

    fn tell_of_gateway(&mut self, now: Time, gateway: Peer, event: NodeEvent) {
        if let Some(hold) = self.gates.hold() {
            self.endpoint.set_hold(hold);
        }
        // Cargo may take another gateway now.
        (self.ways_at, self.next_way) = (now, 0);
        self.tell(MasterEvent::Gateway(gateway, event));
    }

    fn member_changed(&mut self, now: Time, gateway: usize, member: &Member) {
        let news = self.roster.change(gateway, member);
        self.counters.slaves_known.set(self.roster.len() as u64);
        if let Some(path) = self.path_of(member.id) {
            match news {
                SlaveNews::Restarted => self.lose_slave(now, path, Loss::SlaveRestarted),
                SlaveNews::Gone => self.lose_slave(now, path, Loss::SlaveGone),
                SlaveNews::Nothing => {}
            }
            self.look_at_way(now, path);
        }
        if !self.allocations.is_empty() {
            self.place_at = now;
        }
    }

    fn look_at_ways(&mut self, now: Time) {
        let end = self.connections.len().min(self.next_way + WAYS_AT_ONCE);
        for path in self.next_way..end {
            self.look_at_way(now, path as u32);
        }
        let is_done = end == self.connections.len();
        self.next_way = if is_done { 0 } else { end };
        self.ways_at = if is_done { now + self.node.interval / 4 } else { now };
    }

    /// Chooses the gateway for the cargo to a slave. While no gateway is there, the last way stays: packets are sent
    /// again until one is.
    pub(super) fn look_at_way(&mut self, now: Time, path: u32) {
        let Self { gates, roster, connections, node, framing, counters, .. } = self;
        let Some(connection) = connections.get_mut(path as usize) else { return };
        let Some(known) = roster.get(connection.slave) else { return };
        let chosen = gates.choose(node, now, connection.gateway, |gateway| known.is_behind(gateway));
        let way = chosen.and_then(|at| Some((at, *gates.peer(at)?, gates.mtu(at, node)?)));
        let Some((gateway, peer, mtu)) = way else { return };
        let mtu = mtu.min(known.member.mtu);
        if connection.gateway.is_some_and(|was| was != gateway) {
            counters.master_gateway_moves.add(1);
        }
        (connection.gateway, connection.mtu) = (Some(gateway), mtu);
        let path = PathId(path);
        if !framing.has_route(path, &peer, mtu) {
            framing.set_route(path, PathEnds { slave: connection.slave, master: self.id }, peer, mtu);
        }
        let Some(session) = connection.session else { return };
        let fits = Framing::path_mtu(&peer, mtu);
        // A gateway that has started again, or has just registered somebody, allows small packets at first, and larger
        // ones when a probe got through. A session that was opened anew at once would keep the small ones.
        let patience = match fits {
            Some(fits) if fits > session.allowed => Some(2 * node.interval),
            Some(fits) if fits >= session.path_mtu => None,
            _ => Some(node.interval / 2),
        };
        match patience {
            None => connection.misfit_since = FOREVER,
            Some(_) if connection.misfit_since == FOREVER => connection.misfit_since = now,
            Some(patience) if now >= connection.misfit_since.saturating_add(patience) => {
                connection.is_broken = true;
                self.list(path.0);
            }
            Some(_) => {}
        }
    }
}
