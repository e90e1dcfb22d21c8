//! Route changes, and where a registrar's output goes.

use crate::{Notice, RegistrarEvent};
use frame::{More, Peer};
use std::fmt;
use wire::SlaveId;

/// Where a node is and how large a packet it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its address.
    pub peer: Peer,
    /// Largest IP packet that was acknowledged for it, in bytes.
    pub mtu: u16,
    /// Its UDP port is part of its address: there is a socket or a NAT behind it.
    pub fixed_port: bool,
}

/// A route appeared, changed, or was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// The route of a slave.
    Slave {
        /// The slave.
        id: SlaveId,
        /// Its route from now on; `None` when it is gone.
        route: Option<Route>,
    },
    /// The route of a master.
    Master {
        /// The master.
        id: u16,
        /// Its route from now on; `None` when it is gone.
        route: Option<Route>,
    },
}

impl fmt::Display for RouteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = match self {
            Self::Slave { id, route } => {
                write!(f, "slave {id}")?;
                route
            }
            Self::Master { id, route } => {
                write!(f, "master {id}")?;
                route
            }
        };
        match route {
            Some(Route { peer, mtu, fixed_port }) => {
                let port = if *fixed_port { "its UDP port" } else { "any UDP port" };
                write!(f, " is reached at {peer}, MTU {mtu}, and sends from {port}")
            }
            None => f.write_str(" has no route any more"),
        }
    }
}

/// Where a registrar's output goes.
pub trait Sink {
    /// Sends a datagram of link control with this many records to a peer.
    fn reply(&mut self, to: &Peer, datagram: &[u8], records: u16);

    /// Tells every lcore of a changed route. The message must not get lost: the registrar sends it once.
    fn route(&mut self, change: RouteChange);

    /// Tells people: the first time at once, then rarely, with the number of repetitions that were not reported.
    /// Everything is counted as well.
    fn notice(&mut self, notice: Notice, more: More) {
        let _ = (notice, more);
    }

    /// Reports a step, for people who look for a fault.
    fn event(&mut self, event: RegistrarEvent) {
        let _ = event;
    }
}
