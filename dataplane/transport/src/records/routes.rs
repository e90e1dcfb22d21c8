//! Which record belongs to which path, and where a path's packets go.

use crate::PathId;
use frame::Peer;
use wire::record::{RecordHeader, req_id};
use wire::{IPV4_UDP_LEN, IPV6_UDP_LEN, MsgType, Scale};

/// Which end of its connections this is. It gives the path numbers their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The master with this id; a [`PathId`] is a slave id.
    Master(u16),
    /// The slave with this id; a [`PathId`] is a master's id.
    Slave(u32),
}

impl End {
    /// The header of a record with a packet of `len` bytes.
    #[inline]
    pub(super) fn header(self, path: PathId, len: usize) -> RecordHeader {
        let (slave, master) = match self {
            Self::Master(master) => (path.0, master),
            Self::Slave(slave) => (slave, path.0 as u16),
        };
        RecordHeader::new(MsgType::RC, slave, req_id(master, 0), len as u32)
    }

    /// What all records of one datagram must have in common: on the way down, their shard.
    #[inline]
    pub(super) fn shard(self, path: PathId, scale: Scale) -> u32 {
        match self {
            Self::Master(_) => path.0 >> scale.gw_bits(),
            Self::Slave(_) => 0,
        }
    }

    /// The path of a received record; `None` if it is for another end.
    #[inline]
    pub(super) fn path(self, header: &RecordHeader) -> Option<PathId> {
        match self {
            Self::Master(master) => (header.master_id() == master).then_some(PathId(header.slave_id())),
            Self::Slave(slave) => (header.slave_id() == slave).then_some(PathId(header.master_id().into())),
        }
    }
}

/// The destination of the packets of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// A gateway, or the peer itself; [`Peer::NOBODY`] if there is none.
    pub(super) peer: Peer,
    /// The most bytes of a datagram.
    pub(super) datagram: u16,
}

impl Route {
    pub(super) const NONE: Self = Self { peer: Peer::NOBODY, datagram: 0 };

    pub(super) fn new(peer: Peer, mtu: u16) -> Self {
        let headers = if peer.ipv4_octets().is_some() { IPV4_UDP_LEN } else { IPV6_UDP_LEN };
        Self { peer, datagram: mtu.saturating_sub(headers) }
    }

    #[inline]
    pub(super) fn exists(&self) -> bool {
        self.datagram != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::PortId;

    #[test]
    fn a_datagram_has_what_the_headers_of_its_peer_leave() {
        for (address, room) in [("192.0.2.1:9999", 1472), ("[2001:db8::1]:9999", 1452)] {
            let peer = Peer::socket(PortId(0), address.parse().unwrap());
            assert_eq!(Route::new(peer, 1500).datagram, room, "{address}");
        }
    }
}
