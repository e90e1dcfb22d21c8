//! Machines of version 1 of link control: their messages are rewritten on the wire in both directions.

#[path = "../../../dataplane/link/tests/link/common/old.rs"]
mod rewrite;

use crate::cluster::Cluster;
use crate::packet::{self, UdpFrame};
use crate::place::{Place, Who};
use frame::Vlan;
use link::{ChallengeSecret, ClusterKey};
use wire::link::NodeId;

impl Cluster {
    /// Whether a machine speaks version 1.
    pub(crate) fn is_old(&self, who: Who) -> bool {
        self.plan.node(who).is_some_and(|node| node.old)
    }

    /// Every other machine of version 1 is of version 2 when it starts again.
    pub(crate) fn update(&mut self, who: Who) {
        if self.is_old(who)
            && self.secrets.contains_key(&who)
            && self.rng.one_in(2)
            && let Some(node) = self.plan.node_mut(who)
        {
            node.old = false;
        }
    }

    fn key_of(&self, node: NodeId) -> Option<wire::Key> {
        self.plan.key.map(|key| *ClusterKey::from_bytes(key).node_key(node).as_bytes())
    }

    /// The form in which a machine of version 1 sends this frame.
    pub(crate) fn in_version_1(&self, frame: &[u8], read: &UdpFrame) -> Vec<u8> {
        let payload = rewrite::sent(packet::payload(frame, read), self.plan.scale, |node| self.key_of(node));
        packet::with_payload(read, &payload)
    }

    /// The form in which a machine of version 1 understands this frame.
    pub(crate) fn heard_by_version_1(&self, at: Place, frame: Vec<u8>) -> Vec<u8> {
        let (Some(read), Some(secret)) = (packet::read(&frame), self.secrets.get(&at.who)) else { return frame };
        let payload = packet::payload(&frame, &read);
        let (Some(from), false) = (Place::of(read.src_ip), packet::is_cargo(payload)) else { return frame };
        let vlan = self.plan.node(at.who).and_then(|node| node.vlan).map_or(Vlan::UNTAGGED, Vlan::tagged);
        let challenge = |node| ChallengeSecret::new(*secret).challenge(node, &from.peer(vlan));
        let payload = rewrite::heard(payload, self.plan.scale, challenge, |node| self.key_of(node));
        packet::with_payload(&read, &payload)
    }
}
