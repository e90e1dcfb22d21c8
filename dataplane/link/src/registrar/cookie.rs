//! The cookie: who can echo it receives datagrams at the address it speaks from.
//!
//! It is a MAC under the start secret over address, role and id, so nothing is stored for strangers, and a cookie of
//! another address, another node or another start of the gateway is worth nothing.

use frame::Peer;
use wire::link::NodeId;

/// The start secret.
pub(super) struct CookieSecret([u8; 32]);

impl CookieSecret {
    pub(super) const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The cookie of a node at an address; never zero, which means that a node has none.
    pub(super) fn cookie(&self, peer: &Peer, node: NodeId) -> u64 {
        let mut input = [0; 26];
        input[..16].copy_from_slice(&peer.ip_octets());
        input[16..18].copy_from_slice(&peer.udp_port.to_le_bytes());
        // VLAN ids have 12 bits.
        input[18..20].copy_from_slice(&peer.vlan.vid().unwrap_or(u16::MAX).to_le_bytes());
        input[20] = peer.port.0;
        input[21] = node.role as u8;
        input[22..].copy_from_slice(&node.id.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *blake3::keyed_hash(&self.0, &input).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{PortId, Vlan};

    #[test]
    fn a_cookie_is_of_one_secret_address_and_node() {
        let secret = CookieSecret::new([1; 32]);
        let peer = Peer::ipv4(PortId(0), [10, 0, 0, 1], 9999, Vlan::UNTAGGED, [0; 6]);
        let but = |change: fn(&mut Peer)| {
            let mut other = peer;
            change(&mut other);
            other
        };
        let node = NodeId::master(1);
        let cookie = secret.cookie(&peer, node);
        let moved = but(|peer| peer.mac = [9; 6]);
        assert_eq!(secret.cookie(&moved, node), cookie, "routers may move");
        let others = [
            CookieSecret::new([2; 32]).cookie(&peer, node),
            secret.cookie(&peer, NodeId::master(2)),
            secret.cookie(&peer, NodeId { role: wire::link::Role::Slave, id: 1 }),
            secret.cookie(&but(|peer| peer.udp_port = 1), node),
            secret.cookie(&but(|peer| peer.vlan = Vlan::tagged(0)), node),
            secret.cookie(&but(|peer| peer.port = PortId(1)), node),
            secret.cookie(&Peer::ipv4(PortId(0), [10, 0, 0, 2], 9999, Vlan::UNTAGGED, [0; 6]), node),
        ];
        assert!(others.iter().all(|&other| other != cookie));
    }
}
