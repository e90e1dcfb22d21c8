//! The size of the largest packet that is known to arrive from an address, whichever node behind it proved that.  A
//! farm announces thousands of ids from one socket: one padded heartbeat proves the path for all of them.

use frame::{Peer, PortId};
use std::collections::{HashMap, VecDeque};

/// The most addresses that are remembered; a new proof replaces the oldest one.
const PATHS: usize = 4096;

/// The key of a path: everything of a peer except the next hop's MAC, which may change.
type Address = ([u8; 16], u16, Option<u16>, PortId);

fn address(peer: &Peer) -> Address {
    (peer.ip_octets(), peer.udp_port, peer.vlan.vid(), peer.port)
}

/// See the module's documentation. All memory is allocated when it is made.
pub(super) struct Paths {
    proven: HashMap<Address, u16>,
    order: VecDeque<Address>,
}

impl Paths {
    pub(super) fn new() -> Self {
        Self { proven: HashMap::with_capacity(PATHS), order: VecDeque::with_capacity(PATHS) }
    }

    /// A packet of `mtu` bytes arrived from `peer`.
    pub(super) fn prove(&mut self, peer: &Peer, mtu: u16) {
        let address = address(peer);
        if let Some(proven) = self.proven.get_mut(&address) {
            *proven = mtu.max(*proven);
            return;
        }
        if self.order.len() >= PATHS
            && let Some(oldest) = self.order.pop_front()
        {
            self.proven.remove(&oldest);
        }
        self.order.push_back(address);
        self.proven.insert(address, mtu);
    }

    /// The largest packet that is known to have arrived from `peer`.
    pub(super) fn proven(&self, peer: &Peer) -> Option<u16> {
        self.proven.get(&address(peer)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Vlan;

    fn peer(number: u16) -> Peer {
        let [a, b] = number.to_be_bytes();
        Peer::ipv4(PortId(0), [10, 0, a, b], 9999, Vlan::UNTAGGED, [0; 6])
    }

    #[test]
    fn the_oldest_proof_gives_way() {
        let mut paths = Paths::new();
        for number in 0..=PATHS as u16 {
            paths.prove(&peer(number), 1500);
        }
        assert_eq!((paths.proven(&peer(0)), paths.proven(&peer(1))), (None, Some(1500)));
        assert_eq!((paths.proven.len(), paths.order.len()), (PATHS, PATHS));
    }

    #[test]
    fn a_smaller_packet_proves_nothing_new_and_a_next_hop_changes_nothing() {
        let mut paths = Paths::new();
        paths.prove(&peer(1), 1500);
        paths.prove(&peer(1), 1400);
        let (mut moved, mut other) = (peer(1), peer(1));
        moved.mac = [9; 6];
        other.udp_port = 1;
        assert_eq!((paths.proven(&moved), paths.proven(&other)), (Some(1500), None));
    }
}
