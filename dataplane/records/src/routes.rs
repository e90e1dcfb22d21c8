//! The two ends of a path, and where its packets go.

use frame::Peer;
use wire::record::{FRAG_PUSH, RecordHeader, req_id};
use wire::{IPV4_UDP_LEN, IPV6_UDP_LEN, MsgType, Scale};

/// Which end of its paths a role is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Masters: what they send to slaves of one shard may share a datagram.
    Master,
    /// Slaves: all that they send through one gateway may share a datagram.
    Slave,
}

/// The two ends of a path. The header of each of its records names them, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEnds {
    /// The slave's id.
    pub slave: u32,
    /// The master's id.
    pub master: u16,
}

impl PathEnds {
    /// No ends: no scale has such a slave.
    const NONE: Self = Self { slave: u32::MAX, master: 0 };

    /// The ends that a record names.
    #[inline]
    pub const fn of(header: &RecordHeader) -> Self {
        Self { slave: header.slave_id(), master: header.master_id() }
    }

    /// The header of a record with a packet of `len` bytes, with or without PUSH.
    #[inline]
    pub(crate) fn header(self, len: usize, push: bool) -> RecordHeader {
        let header = RecordHeader::new(MsgType::RC, self.slave, req_id(self.master, 0), len as u32);
        header.with_frag(if push { FRAG_PUSH } else { 0 })
    }

    /// What all records of one datagram must have in common: on the way down, their shard.
    #[inline]
    pub(crate) fn shard(self, side: Side, scale: Scale) -> u32 {
        match side {
            Side::Master => self.slave >> scale.gw_bits(),
            Side::Slave => 0,
        }
    }
}

/// The destination of the packets of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// A gateway, or the peer itself; [`Peer::NOBODY`] if there is none.
    pub(crate) peer: Peer,
    pub(crate) ends: PathEnds,
    /// The most bytes of a datagram; 0 if there is no route.
    pub(crate) datagram: u16,
}

impl Route {
    pub(crate) const NONE: Self = Self { peer: Peer::NOBODY, ends: PathEnds::NONE, datagram: 0 };

    pub(crate) fn new(ends: PathEnds, peer: Peer, mtu: u16) -> Self {
        Self { peer, ends, datagram: datagram_of(&peer, mtu) }
    }

    #[inline]
    pub(crate) fn exists(&self) -> bool {
        self.datagram != 0
    }
}

/// The bytes of a datagram in an IP packet of `mtu` bytes to this peer.
#[inline]
pub(crate) fn datagram_of(peer: &Peer, mtu: u16) -> u16 {
    let headers = if peer.ipv4_octets().is_some() { IPV4_UDP_LEN } else { IPV6_UDP_LEN };
    mtu.saturating_sub(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::PortId;

    #[test]
    fn a_datagram_has_what_the_headers_of_its_peer_leave() {
        let ends = PathEnds { slave: 1, master: 2 };
        for (address, room) in [("192.0.2.1:9999", 1472), ("[2001:db8::1]:9999", 1452)] {
            let peer = Peer::socket(PortId(0), address.parse().unwrap());
            assert_eq!(Route::new(ends, peer, 1500).datagram, room, "{address}");
        }
    }
}
