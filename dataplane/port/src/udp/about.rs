//! Facts about a socket: with the present MTU and link of the interface that has its address.

use crate::About;
use crate::watch::{Link, Seen};
use frame::{Peer, PortId};
use std::net::SocketAddr;
use std::sync::Arc;

/// The address of a socket, and its packet sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// The address that the socket is bound to.
    pub(super) local: SocketAddr,
    /// The MTU at the start, in bytes.
    pub(super) start: u16,
    /// The largest IP packet that frames hold, in bytes.
    pub(super) largest: u16,
    /// The largest IP packet that is requested, in bytes: the configured one, or Ethernet's.
    pub(super) asked: u16,
}

impl Range {
    /// The largest IP packet now: the MTU of the interface with the address. For a socket with the unspecified address
    /// it is the value from the start, if an interface can carry it.
    pub(super) fn mtu(&self, seen: Option<&Seen>) -> u16 {
        let now = seen.filter(|seen| seen.mtu() != 0).map(|seen| u16::try_from(seen.mtu()).unwrap_or(u16::MAX));
        let able = match now {
            Some(now) if self.local.ip().is_unspecified() => now.min(self.start),
            Some(now) => now,
            None => self.start,
        };
        able.min(self.largest)
    }
}

/// A socket, as others see it.
pub(super) struct UdpAbout {
    pub(super) id: PortId,
    pub(super) range: Range,
    /// Receive buffer, in bytes.
    pub(super) rcvbuf: u64,
    /// Send buffer, in bytes.
    pub(super) sndbuf: u64,
    /// The interface with its address, if somebody follows it.
    pub(super) seen: Option<Arc<Seen>>,
}

impl About for UdpAbout {
    fn describe(&self) -> String {
        format!(
            "udp:{} (kernel socket, MTU {}, receive buffer {} KiB, send buffer {} KiB)",
            self.range.local,
            self.mtu().min(self.range.asked),
            self.rcvbuf >> 10,
            self.sndbuf >> 10
        )
    }

    fn mtu(&self) -> u16 {
        self.range.mtu(self.seen.as_deref())
    }

    fn own_end(&self) -> Option<Peer> {
        Some(Peer::socket(self.id, self.range.local))
    }

    fn link(&self) -> Option<Link> {
        self.seen.as_ref().map(|seen| seen.link())
    }
}
