//! Masters, and how they learn the membership: MEMBERS.
//!
//! A master names in its heartbeats the generation that it has. The changes after that generation are a run at the end
//! of the order of changes. The run is sent in windows, and sent again from the generation that the master names, until
//! the master has all. A snapshot is the same run from its beginning; its first record tells the master to forget what
//! it knew.
//!
//! Changes that a master was not sent before leave without a limit. Changes that it was sent before and asks for again
//! are bounded for each master ([`Budget`]). So nobody can request the same snapshot again and again, and a master that
//! restarts can have it once more at once.

use super::Registrar;
use super::list::NIL;
use super::master::Master;
use super::presence::State;
use crate::{NodeKey, Sink, datagram_room};
use frame::Time;
use frame::time::MILLISECOND;
use wire::HEADER_LEN;
use wire::link::{Heartbeat, Member, Members, MembersBuilder, MembersHead, NodeId};

/// The most datagrams that a master is sent before it must answer.
const WINDOW: usize = 32;
/// How long changes are collected before a master is told of them.
const COLLECT: u64 = 20 * MILLISECOND;

impl Registrar {
    /// The place of a master, if it has one.
    pub(super) fn known_master(&self, id: u16) -> Option<usize> {
        self.masters.iter().position(|master| master.id == id)
    }

    /// The place of a master: its own, a new one, or that of the master that has been gone for the longest time.
    pub(super) fn master_at(&mut self, id: u16) -> Option<usize> {
        if let Some(at) = self.known_master(id) {
            return Some(at);
        }
        let base = self.table.first_after(0);
        if self.masters.len() < self.config.max_masters {
            self.masters.push(Master { base, ..Master::new(id) });
            return Some(self.masters.len() - 1);
        }
        let gone = self.masters.iter().enumerate().filter(|(_, master)| !master.presence.is_present());
        let (at, _) = gone.min_by_key(|(_, master)| master.presence.heard)?;
        self.forgotten.add(&self.masters[at]);
        self.masters[at] = Master { base, ..Master::new(id) };
        Some(at)
    }

    /// Notes which membership a master says it has, and sends the missing changes if its cookie is fresh.
    pub(super) fn membership_of(
        &mut self,
        at: usize,
        heartbeat: &Heartbeat,
        is_fresh: bool,
        now: Time,
        sink: &mut impl Sink,
    ) {
        let known =
            heartbeat.members_epoch == self.config.epoch && heartbeat.members_generation <= self.table.generation;
        let generation = if known { heartbeat.members_generation } else { 0 };
        let master = &mut self.masters[at];
        master.is_fresh = is_fresh;
        master.base = if generation >= master.acked {
            self.table.skip_to(master.base, generation)
        } else {
            self.table.first_after(generation)
        };
        master.acked = generation;
        master.sent = generation;
        if is_fresh && generation < self.table.generation {
            self.publish(at, now, sink);
        }
    }

    /// A slave changed: it gets the next generation.
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

    /// Sends the latest changes to each master that does not have to answer first.
    pub(super) fn publish_changes(&mut self, now: Time, sink: &mut impl Sink) {
        for at in 0..self.masters.len() {
            if self.publish_at(&self.masters[at]).is_some_and(|due| now >= due) {
                self.publish(at, now, sink);
            }
        }
    }

    /// When a master should be told of changes; `None` while it has them all or has to answer first.
    fn publish_at(&self, master: &Master) -> Option<Time> {
        let behind = master.presence.state == State::Here && master.acked < self.table.generation;
        (behind && master.is_fresh && master.sent <= master.acked).then(|| master.sent_at.saturating_add(COLLECT))
    }

    /// When the next master should be told of changes.
    pub(super) fn publish_deadline(&self) -> Option<Time> {
        self.masters.iter().filter_map(|master| self.publish_at(master)).min()
    }

    /// Sends a master at most one window of the changes after the generation that it has. The budget limits the changes
    /// that it was sent before.
    fn publish(&mut self, at: usize, now: Time, sink: &mut impl Sink) {
        let node = NodeId::master(self.masters[at].id);
        let key = self.key_of(&self.masters[at].presence).map(|key| key.node_key(node));
        let master = &mut self.masters[at];
        let peer = master.presence.peer;
        let room = datagram_room(&peer, master.presence.mtu()).min(self.members.len());
        let in_one = (room.saturating_sub(HEADER_LEN + Members::PAYLOAD_LEN) / Member::LEN).max(1) as u64;
        let snapshot = u64::from(self.table.changed_len).div_ceil(in_one).max(WINDOW as u64);
        let mut head = MembersHead {
            master: master.id,
            snapshot: master.acked == 0,
            challenge: master.presence.challenge,
            gateway_epoch: self.config.epoch,
            from_generation: master.acked,
            to_generation: master.acked,
        };
        let mut next = master.base;
        for _ in 0..WINDOW {
            let is_again = head.from_generation < master.told;
            if is_again && !master.again.take(now, self.config.interval, snapshot) {
                self.counters.members_withheld.add(1);
                break;
            }
            let out = &mut self.members[..room];
            let is_v1 = master.presence.v1;
            let builder = if is_v1 { MembersBuilder::version_1(head, out) } else { MembersBuilder::new(head, out) };
            let Some(mut builder) = builder else { break };
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
            master.told = master.told.max(head.to_generation);
            if next == NIL {
                break;
            }
        }
        master.sent = head.from_generation;
        master.sent_at = now;
    }
}
