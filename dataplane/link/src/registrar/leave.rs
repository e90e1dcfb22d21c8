//! The gateway is about to leave: every member is told at once, and again until its heartbeat confirms it.
//!
//! The message is the answer to the last accepted heartbeat, sent once more with DRAINING in it. So nodes need not wait
//! for their next heartbeat, and no new record is needed. The answer to that next heartbeat repairs a loss.

use super::Registrar;
use super::leaving::Leaving;
use super::presence::{Presence, State};
use crate::{NodeKey, Sink};
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND};
use wire::link::{HeartbeatAck, NodeId};

/// The most datagrams of one call. The next call goes on later: a flood would take the frames that cargo needs.
const MOST_AT_ONCE: u32 = 32;
const PAUSE: u64 = 250 * MICROSECOND;

/// A node that has not confirmed is told again after this part of an interval, or after [`LEAST_PAUSE`].
const AGAIN_PART: u64 = 4;
/// With a shorter pause, nodes whose heartbeat is under way would be told twice.
const LEAST_PAUSE: u64 = 50 * MILLISECOND;

impl Registrar {
    /// Whether nodes are told that the gateway is about to leave.
    pub fn is_draining(&self) -> bool {
        self.leave.is_some()
    }

    /// Begins to tell nodes that the gateway is about to leave: from the next [`advance`](Self::advance) on, all at
    /// once.
    pub fn leave(&mut self, now: Time) {
        if self.leave.is_none() {
            self.leave = Some(Leaving::new(now));
        }
    }

    /// Slaves and masters that are here and have not confirmed that the gateway is about to leave. Suspects do not
    /// count.
    pub fn unheard(&self) -> u32 {
        let here = |presence: &Presence| presence.state == State::Here && !presence.left;
        let masters = self.masters.iter().filter(|master| here(&master.presence)).count();
        self.table.here_len - self.table.left_len + masters as u32
    }

    pub(super) fn leave_deadline(&self) -> Option<Time> {
        self.leave.as_ref().and_then(|leave| leave.due)
    }

    /// Tells members that the gateway is about to leave, if that is due.
    pub(super) fn tell_of_leaving(&mut self, now: Time, sink: &mut impl Sink) {
        let Some(leave) = &self.leave else { return };
        if leave.due.is_none_or(|due| now < due) {
            return;
        }
        let mut packer = std::mem::take(&mut self.packer);
        let (mut at, end) = (leave.cursor, self.served.slaves());
        let before = packer.datagrams;
        let mut to = None;
        while at < end && packer.datagrams.wrapping_sub(before) < MOST_AT_ONCE {
            let presence = self.table.get(at).presence;
            if presence.state == State::Here
                && !presence.left
                && let Some(id) = self.served.slave(at)
            {
                if to.is_some_and(|to| to != presence.peer)
                    && let Some(to) = to
                {
                    packer.flush(&to, sink);
                }
                to = Some(presence.peer);
                self.tell(now, NodeId::slave(id), &presence, &mut packer, sink);
            }
            at += 1;
        }
        if let Some(to) = to {
            packer.flush(&to, sink);
        }
        let is_over = at >= end;
        if is_over {
            for number in 0..self.masters.len() {
                let master = &self.masters[number];
                let (id, presence) = (master.id, master.presence);
                if presence.state == State::Here && !presence.left {
                    self.tell(now, NodeId::master(id), &presence, &mut packer, sink);
                    packer.flush(&presence.peer, sink);
                }
            }
        }
        self.packer = packer;
        let due = match is_over {
            false => Some(now + PAUSE),
            true => Some(now + (self.config.interval / AGAIN_PART).max(LEAST_PAUSE)),
        };
        let due = due.filter(|_| self.unheard() > 0);
        self.leave = Some(Leaving { due, cursor: if is_over { 0 } else { at } });
    }

    fn tell(&mut self, now: Time, node: NodeId, presence: &Presence, packer: &mut super::Packer, sink: &mut impl Sink) {
        let key = self.key_of(presence).map(|key| key.node_key(node));
        let ack = HeartbeatAck {
            node,
            draining: true,
            duplicate_id: false,
            registered: true,
            newer_key: presence.old_key,
            lanes: presence.peer.is_raw(),
            slave_bits: self.config.scale.slave_bits(),
            gw_bits: self.config.scale.gw_bits(),
            mtu: presence.mtu(),
            seq: presence.seq,
            challenge: presence.challenge,
            cookie: match presence.v1 {
                true => self.secret.version_1(&presence.peer, node),
                false => self.secret.issue(now, &presence.peer, node, presence.boot_epoch),
            },
            gateway_epoch: self.config.epoch,
            hold_ns: self.config.hold_ns,
            cookie_fault: None,
            ranges: self.config.shards.ranges().iter().copied().collect(),
        };
        packer.push(&presence.peer, presence.mtu(), &ack, presence.v1, key.as_ref().map(NodeKey::as_bytes), sink);
        self.counters.acks_out.add(1);
        self.counters.drain_acks_out.add(1);
    }
}
