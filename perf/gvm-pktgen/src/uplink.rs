//! One gateway from a master's view: the registration, and the slaves behind it.

use crate::counters::Counters;
use frame::{Class, Datagram, Outbox, Peer, Time};
use link::{
    AckRefusal, KeyRing, MemberTable, MembersRefusal, Node, NodeConfig, NodeEvent, NodeKey, ShardRanges, Standing,
};
use wire::link::{Member, NodeId};
use wire::{MsgType, Record};

/// A master's registration with one gateway.
pub struct Uplink {
    node: Node,
    table: MemberTable,
    /// The shards that the gateway said it serves when it registered us.
    shards: ShardRanges,
}

impl Uplink {
    /// A registration that is due at once.
    pub fn new(master: u16, keys: KeyRing<NodeKey>, gateway: Peer, config: &NodeConfig, now: Time) -> Self {
        Self {
            node: Node::new(NodeId::master(master), keys, gateway, config, now),
            table: MemberTable::new(config.scale, config.interval),
            shards: ShardRanges::default(),
        }
    }

    /// Where its datagrams go.
    pub fn gateway(&self) -> &Peer {
        self.node.gateway()
    }

    /// Whether the gateway has registered us.
    pub fn is_registered(&self) -> bool {
        self.node.is_registered()
    }

    /// The standing of the gateway with this master.
    pub fn standing(&self, config: &NodeConfig, now: Time) -> Standing {
        self.node.standing(config, now)
    }

    /// Largest IP packet that the gateway acknowledged, in bytes.
    pub fn mtu(&self) -> u16 {
        self.node.mtu()
    }

    /// The shards that the gateway serves; none before it has registered us.
    pub fn shards(&self) -> &ShardRanges {
        &self.shards
    }

    /// Whether a datagram from `from` may be the gateway's: it comes from where the gateway listens, or from a lane if
    /// the gateway said that it uses lanes.
    #[inline]
    pub fn is_source(&self, from: &Peer) -> bool {
        from.is_same_origin(self.node.gateway(), true) || self.node.is_lane(from)
    }

    /// Takes a record of link control; calls `changed` with each slave that has changed. Returns the event to report,
    /// and whether the routes may have changed.
    pub fn receive(
        &mut self,
        config: &NodeConfig,
        now: Time,
        from: &Peer,
        record: &Record<'_>,
        counters: &Counters,
        changed: impl FnMut(&Member),
    ) -> Option<NodeEvent> {
        if record.header().msg_type() == MsgType::MEMBERS {
            // Repeated or early records are normal for MEMBERS; the table asks again.
            if let Err(refusal) = self.table.receive(now, &mut self.node, from, record, changed) {
                counters.link_refused.add(1);
                counters.link_refused_challenge.add(u64::from(refusal == MembersRefusal::Challenge));
            }
            return None;
        }
        match self.node.handle(config, now, from, record) {
            Err(refusal) => {
                counters.link_refused.add(1);
                counters.link_refused_challenge.add(u64::from(refusal == AckRefusal::Challenge));
                None
            }
            Ok(event) => {
                if let Some(NodeEvent::Registered { shards, .. }) = &event {
                    self.shards = shards.clone();
                }
                event
            }
        }
    }

    /// Sends the heartbeats that are due.
    pub fn advance(
        &mut self,
        config: &NodeConfig,
        now: Time,
        changed: impl FnMut(&Member),
        out: &mut Outbox,
    ) -> Option<NodeEvent> {
        if self.node.is_due(now) {
            self.send(out, |node, room| node.transmit(config, now, room));
        }
        if self.node.wants_probe(config, now) {
            self.send(out, |node, room| node.transmit_probe(config, now, room));
        }
        self.table.advance(now, changed);
        self.node.poll_event(config, now)
    }

    /// When [`advance`](Self::advance) has something to do.
    pub fn deadline(&self, config: &NodeConfig) -> Time {
        self.node.deadline(config).min(self.table.deadline().unwrap_or(Time::MAX))
    }

    /// Without a free frame nothing is sent, and the next poll tries again.
    fn send(&mut self, out: &mut Outbox, write: impl FnOnce(&mut Node, &mut [u8]) -> Option<usize>) {
        let Some(mut frame) = out.alloc_link() else { return };
        if let Some(len) = write(&mut self.node, frame.tail_mut()) {
            let offset = frame.headroom();
            frame.set_range(offset, len);
            out.send(Datagram::new(frame, *self.node.gateway(), Class::Link, 1));
        }
    }
}
