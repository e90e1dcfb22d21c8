//! Masters, and what they are told: MEMBERS.
//!
//! A master names in its heartbeats the generation that it has. What changed after it is a run at the end of the order
//! of changes; it is sent in windows, and again from where the master says it is, until it has all. A snapshot is the
//! same run from its beginning, with a first record that says: forget what you knew.

use super::Registrar;
use super::list::NIL;
use super::presence::{Presence, State};
use crate::{NodeKey, Sink, datagram_room};
use frame::Time;
use frame::time::MILLISECOND;
use wire::link::{Heartbeat, MembersBuilder, MembersHead, NodeId};

/// The most datagrams that a master is sent before it must answer.
const WINDOW: usize = 32;
/// Changes are collected so long before a master is told of them.
const COLLECT: u64 = 20 * MILLISECOND;

/// One master.
pub(super) struct Master {
    pub(super) id: u16,
    pub(super) presence: Presence,
    /// The generation that it says it has; zero for none of this start.
    pub(super) acked: u64,
    /// The first slave that changed after `acked`, or `NIL`.
    base: u32,
    /// The generation up to which it was sent changes.
    sent: u64,
    sent_at: Time,
}

impl Master {
    fn new(id: u16) -> Self {
        Self { id, presence: Presence::never(), acked: 0, base: NIL, sent: 0, sent_at: 0 }
    }
}

impl Registrar {
    /// The place of a master: its own, a new one, or that of the master that is gone for the longest time.
    pub(super) fn master_at(&mut self, id: u16) -> Option<usize> {
        if let Some(at) = self.masters.iter().position(|master| master.id == id) {
            return Some(at);
        }
        let base = self.table.first_after(0);
        if self.masters.len() < self.config.max_masters {
            self.masters.push(Master { base, ..Master::new(id) });
            return Some(self.masters.len() - 1);
        }
        let gone = self.masters.iter().enumerate().filter(|(_, master)| !master.presence.is_present());
        let (at, _) = gone.min_by_key(|(_, master)| master.presence.heard)?;
        self.masters[at] = Master { base, ..Master::new(id) };
        Some(at)
    }

    /// Takes over which membership a master says it has, and sends what it lacks.
    pub(super) fn membership_of(&mut self, at: usize, heartbeat: &Heartbeat, now: Time, sink: &mut impl Sink) {
        let known =
            heartbeat.members_epoch == self.config.epoch && heartbeat.members_generation <= self.table.generation;
        let generation = if known { heartbeat.members_generation } else { 0 };
        let master = &mut self.masters[at];
        master.base = if generation >= master.acked {
            self.table.skip_to(master.base, generation)
        } else {
            self.table.first_after(generation)
        };
        master.acked = generation;
        master.sent = generation;
        if generation < self.table.generation {
            self.publish(at, now, sink);
        }
    }

    /// A slave changed: gives it the next generation.
    pub(super) fn note_change(&mut self, at: u32) {
        let next = self.table.changed(at);
        for master in &mut self.masters {
            if master.base == at {
                master.base = next;
            }
            if master.base == NIL {
                master.base = at;
            }
        }
    }

    /// Sends each master that waits for nothing what changed since.
    pub(super) fn publish_changes(&mut self, now: Time, sink: &mut impl Sink) {
        for at in 0..self.masters.len() {
            if self.publish_at(&self.masters[at]).is_some_and(|due| now >= due) {
                self.publish(at, now, sink);
            }
        }
    }

    /// When a master should be told of changes; `None` while it has them all, or still has to answer.
    fn publish_at(&self, master: &Master) -> Option<Time> {
        let behind = master.presence.state == State::Here && master.acked < self.table.generation;
        (behind && master.sent <= master.acked).then(|| master.sent_at.saturating_add(COLLECT))
    }

    /// When the next master should be told of changes.
    pub(super) fn publish_deadline(&self) -> Option<Time> {
        self.masters.iter().filter_map(|master| self.publish_at(master)).min()
    }

    /// Sends a master at most a window of what changed after the generation that it has.
    fn publish(&mut self, at: usize, now: Time, sink: &mut impl Sink) {
        let node = NodeId::master(self.masters[at].id);
        let key = self.key_of(&self.masters[at].presence).map(|key| key.node_key(node));
        let master = &mut self.masters[at];
        let peer = master.presence.peer;
        let room = datagram_room(&peer, master.presence.mtu()).min(self.members.len());
        let mut head = MembersHead {
            master: master.id,
            snapshot: master.acked == 0,
            gateway_epoch: self.config.epoch,
            from_generation: master.acked,
            to_generation: master.acked,
        };
        let mut next = master.base;
        for _ in 0..WINDOW {
            let Some(mut builder) = MembersBuilder::new(head, &mut self.members[..room]) else {
                break;
            };
            while next != NIL {
                let entry = self.table.get(next);
                let id = self.served.slave(next);
                if !id.is_some_and(|id| builder.push(&entry.member(id.get()))) {
                    break;
                }
                head.to_generation = entry.generation;
                next = self.table.next_change(next);
            }
            if next == NIL {
                head.to_generation = self.table.generation;
            }
            builder.set_to_generation(head.to_generation);
            let len = builder.finish(key.as_ref().map(NodeKey::as_bytes));
            sink.reply(&peer, &self.members[..len], 1);
            self.counters.members_out.add(1);
            head = MembersHead { snapshot: false, from_generation: head.to_generation, ..head };
            if next == NIL {
                break;
            }
        }
        master.sent = head.from_generation;
        master.sent_at = now;
    }
}
