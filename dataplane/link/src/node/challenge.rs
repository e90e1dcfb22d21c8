//! The challenge that a gateway must repeat to a node. So a recorded answer to another start of the node, or from
//! another gateway, does not count.

use frame::Peer;
use std::fmt;
use wire::link::NodeId;

/// The secret from which the challenges of a process's nodes are derived: random in each start.
#[derive(Clone, PartialEq, Eq)]
pub struct ChallengeSecret([u8; 32]);

impl ChallengeSecret {
    /// The secret with these bytes, which must be random.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The challenge of one node to one gateway. The challenges of other nodes do not reveal it.
    pub fn challenge(&self, node: NodeId, gateway: &Peer) -> u64 {
        let mut input = [0; 26];
        input[..16].copy_from_slice(&gateway.ip_octets());
        input[16..18].copy_from_slice(&gateway.udp_port.to_le_bytes());
        // VLAN ids have 12 bits.
        input[18..20].copy_from_slice(&gateway.vlan.vid().unwrap_or(u16::MAX).to_le_bytes());
        input[20] = gateway.port.0;
        input[21] = node.role as u8;
        input[22..].copy_from_slice(&node.id.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *blake3::keyed_hash(&self.0, &input).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for ChallengeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{PortId, Vlan};

    #[test]
    fn a_challenge_is_of_one_start_gateway_and_node() {
        let secret = ChallengeSecret::new([201; 32]);
        let gateway = Peer::ipv4(PortId(0), [10, 0, 0, 1], 9999, Vlan::UNTAGGED, [0; 6]);
        let but = |change: fn(&mut Peer)| {
            let mut other = gateway;
            change(&mut other);
            other
        };
        let node = NodeId::master(1);
        let challenge = secret.challenge(node, &gateway);
        assert_eq!(secret.challenge(node, &but(|peer| peer.mac = [9; 6])), challenge, "routers may move");
        let others = [
            ChallengeSecret::new([2; 32]).challenge(node, &gateway),
            secret.challenge(NodeId::master(2), &gateway),
            secret.challenge(NodeId { role: wire::link::Role::Slave, id: 1 }, &gateway),
            secret.challenge(node, &but(|peer| peer.udp_port = 1)),
            secret.challenge(node, &but(|peer| peer.vlan = Vlan::tagged(5))),
            secret.challenge(node, &but(|peer| peer.port = PortId(1))),
            secret.challenge(node, &Peer::ipv4(PortId(0), [10, 0, 0, 2], 9999, Vlan::UNTAGGED, [0; 6])),
        ];
        assert!(others.iter().all(|&other| other != challenge));
        assert!(!format!("{secret:?}").contains("201"));
    }
}
