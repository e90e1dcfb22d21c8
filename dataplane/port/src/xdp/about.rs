//! Facts about queues of an interface: with the present name, addresses and MTU of the interface.

use crate::About;
use crate::watch::{Link, Seen};
use crate::xdp::{BoundMode, XdpConfig};
use frame::{Peer, PortId, Vlan};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Queues of an interface, as others see them.
pub(super) struct XdpAbout {
    pub(super) id: PortId,
    /// The settings of the first of them.
    pub(super) config: XdpConfig,
    /// Their numbers.
    pub(super) queues: String,
    pub(super) mode: BoundMode,
    /// The largest IP packet that frames hold, in bytes.
    pub(super) largest: u16,
    /// The state of the interface, if somebody follows it.
    pub(super) seen: Option<Arc<Seen>>,
}

impl XdpAbout {
    /// The Ethernet address and the first IPv4 address; without an IPv4 address, that of the start.
    fn ends(&self) -> ([u8; 6], [u8; 4]) {
        let start = &self.config.local;
        self.seen.as_ref().map_or((start.mac, start.ip), |seen| {
            let table = seen.table();
            (table.mac(), table.ipv4().next().unwrap_or(start.ip))
        })
    }
}

impl About for XdpAbout {
    fn describe(&self) -> String {
        let XdpConfig { mode: asked, local, ring, .. } = &self.config;
        let name = self.seen.as_ref().map_or_else(|| self.config.ifname.clone(), |seen| seen.name());
        format!(
            "xdp:{name} queue {} ({}, asked for {asked}; {}:{}, MTU {}, rings of {ring})",
            self.queues,
            self.mode,
            Ipv4Addr::from(self.ends().1),
            local.udp_port,
            self.mtu(),
        )
    }

    fn mtu(&self) -> u16 {
        let seen = self.seen.as_ref().map(|seen| u16::try_from(seen.mtu()).unwrap_or(u16::MAX));
        seen.unwrap_or(self.config.mtu).min(self.largest)
    }

    fn own_end(&self) -> Option<Peer> {
        let (mac, ip) = self.ends();
        Some(Peer::ipv4(self.id, ip, self.config.local.udp_port, Vlan::UNTAGGED, mac))
    }

    fn link(&self) -> Option<Link> {
        self.seen.as_ref().map(|seen| seen.link())
    }
}
