//! The settings of an XDP port.

use super::error::XdpError;
use super::interface::Interface;
use crate::headers::Local;
use crate::spec::XdpMode;
use crate::vlans::Vlans;
use std::sync::Arc;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    /// Name of the interface, in the calling thread's network namespace.
    pub ifname: String,
    /// Its receive and transmit queue.
    pub queue: u32,
    /// How packets move.
    pub mode: XdpMode,
    /// The port's addresses, unless [`XdpPort::follow`](super::XdpPort::follow) provides others.
    pub local: Local,
    /// The largest IP packet of the link, in bytes, likewise.
    pub mtu: u16,
    /// The VLANs that it accepts packets from; the XDP program must have the same.
    pub vlans: Arc<Vlans>,
    /// Entries of each of the four rings, a power of two; as many frames wait to be received into.
    pub ring: u32,
}

impl XdpConfig {
    /// Defaults for a queue of an interface, with the interface's own addresses and MTU.
    ///
    /// # Errors
    /// The interface has no Ethernet headers, or no IPv4 address.
    pub fn of(interface: &Interface, queue: u32) -> Result<Self, XdpError> {
        interface.check_ethernet()?;
        Ok(Self {
            ifname: interface.name.clone(),
            queue,
            mode: XdpMode::Auto,
            local: Local {
                mac: interface.mac,
                ip: interface.ipv4.ok_or_else(|| XdpError::NoAddress(interface.name.clone()))?,
                udp_port: wire::GATEWAY_PORT,
            },
            mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX),
            vlans: Arc::default(),
            ring: 2048,
        })
    }
}
