//! How a node handles a HEARTBEAT_ACK.

use super::{AckRefusal, COOKIE_GAP, Flags, Node, NodeConfig, NodeEvent, most_probes};
use crate::ShardRanges;
use frame::{Peer, Time};
use wire::link::{CookieFault, HeartbeatAck, LinkError, Role};
use wire::{Record, UNPROVEN_MTU, tag};

impl Node {
    /// Takes a HEARTBEAT_ACK that came from `from`, and reports what it means.
    ///
    /// # Errors
    /// The error is [`AckRefusal::Malformed`] when the record is no HEARTBEAT_ACK, or its scale is none. The other
    /// kinds say which check it failed: address, source, tag, challenge or sequence. A refused record does not count as
    /// heard.
    pub fn handle(
        &mut self,
        config: &NodeConfig,
        now: Time,
        from: &Peer,
        record: &Record<'_>,
    ) -> Result<Option<NodeEvent>, AckRefusal> {
        let ack = HeartbeatAck::parse(record)?;
        if ack.node != self.id {
            return Err(AckRefusal::OtherNode);
        }
        // Link control leaves from the address where the gateway listens, with any port.
        if !from.is_same_origin(&self.gateway, true) {
            return Err(AckRefusal::OtherSource);
        }
        if !self.keys.is_empty() {
            if tag::is_unsigned(record.bytes()) {
                return Err(AckRefusal::Unsigned);
            }
            if self.keys.signer(record.bytes()).is_none() {
                return Err(AckRefusal::Forged);
            }
        }
        if ack.challenge != self.challenge {
            self.heard_old_answer();
            return Err(AckRefusal::Challenge);
        }
        if ack.seq != self.seq || self.seq == 0 {
            return Err(AckRefusal::Sequence);
        }
        let theirs = ack.scale().map_err(|_| AckRefusal::Malformed(LinkError::Layout))?;
        let was_doubted = now >= self.doubt_at(config);
        self.heard = now;
        self.unanswered = 0;
        if ack.newer_key && self.keys.len() > 1 {
            self.signs = 1;
        }
        self.flags.set(Flags::SAID_NO_ANSWER, false);
        self.flags.set(Flags::OLD_ANSWER, false);
        let was_forgotten = self.flags.has(Flags::FORGOTTEN);
        self.flags.set(Flags::FORGOTTEN, !ack.registered);
        self.flags.set(Flags::LANES, ack.lanes);
        self.cookie = ack.cookie;
        if !ack.registered && ack.cookie_fault.is_some() {
            self.prompt = self.prompt.min(now.max(self.prompted + COOKIE_GAP));
        }
        if theirs != config.scale {
            self.flags.set(Flags::REGISTERED, false);
            let event = NodeEvent::ScaleMismatch { ours: config.scale, theirs };
            return Ok(self.flags.first(Flags::SAID_SCALE).then_some(event));
        }
        if !ack.registered {
            return Ok(self.not_registered(config, &ack, was_forgotten));
        }
        self.hold_ns = ack.hold_ns;
        let was = self.is_registered() && self.gateway_epoch == ack.gateway_epoch;
        let drains = ack.draining && self.flags.first(Flags::DRAINING);
        if drains {
            self.say_left(now);
        } else if !ack.draining && (self.flags.has(Flags::DRAINING) || was_doubted || !was) {
            self.flags.set(Flags::DRAINING, false);
            self.since = now;
        }
        let smaller = ack.mtu < self.mtu;
        self.gateway_epoch = ack.gateway_epoch;
        self.mtu = ack.mtu;
        self.flags.set(Flags::REGISTERED, true);
        const SAID: [u16; 5] =
            [Flags::SAID_DUPLICATE, Flags::SAID_SCALE, Flags::SAID_FOREIGN, Flags::SAID_REFUSED, Flags::SAID_COOKIE];
        SAID.into_iter().for_each(|said| self.flags.set(said, false));
        if !was || smaller {
            self.probes = 0;
            self.flags.set(Flags::PROBING, config.max_ip_packet > UNPROVEN_MTU.max(ack.mtu));
        }
        if !was {
            return Ok(Some(NodeEvent::Registered {
                hold_ns: ack.hold_ns,
                mtu: ack.mtu,
                scale: theirs,
                gateway_epoch: ack.gateway_epoch,
                shards: ShardRanges::from_ranges(ack.ranges).unwrap_or_default(),
                first_time: self.flags.first(Flags::EVER_REGISTERED),
            }));
        }
        if drains {
            return Ok(Some(NodeEvent::Draining));
        }
        Ok(self.probe_result(config, ack.mtu))
    }

    /// An answer that does not register the node: finds the reason.
    fn not_registered(&mut self, config: &NodeConfig, ack: &HeartbeatAck, was_forgotten: bool) -> Option<NodeEvent> {
        if ack.duplicate_id {
            self.flags.set(Flags::REGISTERED, false);
            return self.flags.first(Flags::SAID_DUPLICATE).then_some(NodeEvent::Duplicate);
        }
        if let Some(fault) = ack.cookie_fault {
            // The next heartbeat decides: it carries the cookie that has just come. A gateway that restarted does not
            // know earlier cookies. There is a fault only if it refuses a cookie of its own.
            let is_fault = self.flags.has(Flags::COOKIE_SENT) && (fault != CookieFault::Unknown || was_forgotten);
            return (is_fault && self.flags.first(Flags::SAID_COOKIE)).then_some(NodeEvent::CookieRefused { fault });
        }
        self.flags.set(Flags::REGISTERED, false);
        if self.id.role == Role::Slave && !ack.ranges.is_empty() {
            let shard = config.scale.shard(config.scale.slave_id(self.id.id)?);
            if !ack.serves(shard) {
                let shards = ShardRanges::from_ranges(ack.ranges.iter().copied()).unwrap_or_default();
                let event = NodeEvent::ForeignShard { shard, shards };
                return self.flags.first(Flags::SAID_FOREIGN).then_some(event);
            }
        }
        self.flags.first(Flags::SAID_REFUSED).then_some(NodeEvent::Refused)
    }

    /// Judges an ACK of a registered node while larger packets are being tried.
    fn probe_result(&mut self, config: &NodeConfig, mtu: u16) -> Option<NodeEvent> {
        if !self.flags.has(Flags::PROBING) {
            return None;
        }
        let claimed = config.max_ip_packet;
        if mtu >= claimed {
            self.flags.set(Flags::PROBING, false);
            return Some(NodeEvent::MtuProven { mtu });
        }
        let all_tried = self.probes >= most_probes(config);
        if all_tried || self.flags.has(Flags::LAST_PADDED) {
            self.flags.set(Flags::PROBING, false);
            return Some(NodeEvent::MtuReduced { claimed, acknowledged: mtu });
        }
        None
    }
}
