//! The cookie: a node that can echo it receives datagrams at the address it sends from, and did so a short time ago.
//!
//! The cookie has the time at which it was issued, by the clock of this gateway, and a MAC. The MAC uses the start
//! secret and covers that time, the address, the role, the id, and the start of the node. So nothing is stored for
//! strangers. A cookie is invalid for another address, another node, another start of the node and another start of the
//! gateway. Only the gateway's own clock matters.

use frame::{Peer, Time};
use wire::link::{Cookie, NodeId};

/// The start secret.
pub(super) struct CookieSecret([u8; 32]);

impl CookieSecret {
    pub(super) const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// A cookie for one start of a node at an address.
    pub(super) fn issue(&self, now: Time, peer: &Peer, node: NodeId, boot_epoch: u64) -> Cookie {
        let mut cookie = [0; Cookie::LEN];
        let (time, mac) = cookie.split_at_mut(8);
        time.copy_from_slice(&now.to_le_bytes());
        mac.copy_from_slice(&self.mac(now, peer, node, boot_epoch).to_le_bytes());
        Cookie(cookie)
    }

    /// When a cookie was issued; `None` when it is not one for this start of this node at this address.
    pub(super) fn issued(&self, cookie: Cookie, peer: &Peer, node: NodeId, boot_epoch: u64) -> Option<Time> {
        if cookie.is_none() {
            return None;
        }
        let [a, b, c, d, e, f, g, h, mac @ ..] = cookie.0;
        let issued = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // Compared as integers, so that the time does not depend on the position of a difference.
        (self.mac(issued, peer, node, boot_epoch) == u64::from_le_bytes(mac)).then_some(issued)
    }

    fn mac(&self, issued: Time, peer: &Peer, node: NodeId, boot_epoch: u64) -> u64 {
        let mut input = [0; 42];
        input[..16].copy_from_slice(&peer.ip_octets());
        input[16..18].copy_from_slice(&peer.udp_port.to_le_bytes());
        // VLAN ids have 12 bits.
        input[18..20].copy_from_slice(&peer.vlan.vid().unwrap_or(u16::MAX).to_le_bytes());
        input[20] = peer.port.0;
        input[21] = node.role as u8;
        input[22..26].copy_from_slice(&node.id.to_le_bytes());
        input[26..34].copy_from_slice(&boot_epoch.to_le_bytes());
        input[34..].copy_from_slice(&issued.to_le_bytes());
        self.mac_of(&input)
    }

    /// Never zero, so that a cookie is never [`Cookie::NONE`].
    pub(super) fn mac_of(&self, input: &[u8]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::keyed_hash(&self.0, input).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{PortId, Vlan};
    use wire::link::Role;

    #[test]
    fn a_cookie_is_of_one_secret_address_node_and_start_of_it_and_says_when() {
        let secret = CookieSecret::new([1; 32]);
        let peer = Peer::ipv4(PortId(0), [10, 0, 0, 1], 9999, Vlan::UNTAGGED, [0; 6]);
        let but = |change: fn(&mut Peer)| {
            let mut other = peer;
            change(&mut other);
            other
        };
        let node = NodeId::master(1);
        let cookie = secret.issue(77, &peer, node, 5);
        assert_eq!(secret.issued(cookie, &peer, node, 5), Some(77));
        assert_eq!(secret.issued(cookie, &but(|peer| peer.mac = [9; 6]), node, 5), Some(77), "routers may move");
        assert_eq!(secret.issued(Cookie::NONE, &peer, node, 5), None);
        for bit in 0..8 * Cookie::LEN {
            let mut other = cookie;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secret.issued(other, &peer, node, 5), None, "bit {bit}");
        }
        let others = [
            CookieSecret::new([2; 32]).issued(cookie, &peer, node, 5),
            secret.issued(cookie, &peer, node, 6),
            secret.issued(cookie, &peer, NodeId::master(2), 5),
            secret.issued(cookie, &peer, NodeId { role: Role::Slave, id: 1 }, 5),
            secret.issued(cookie, &but(|peer| peer.udp_port = 1), node, 5),
            secret.issued(cookie, &but(|peer| peer.vlan = Vlan::tagged(0)), node, 5),
            secret.issued(cookie, &but(|peer| peer.port = PortId(1)), node, 5),
            secret.issued(cookie, &Peer::ipv4(PortId(0), [10, 0, 0, 2], 9999, Vlan::UNTAGGED, [0; 6]), node, 5),
        ];
        assert_eq!(others, [None; 8]);
    }
}
