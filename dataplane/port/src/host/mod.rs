//! The IPv4 host of a port without a kernel behind it: it does for neighbours and pings what the kernel does on other
//! ports.
//!
//! It answers ARP and ICMP echo for the port's addresses. It asks for neighbours, learns and forgets them. It knows the
//! gateway beyond its subnets, and detects another host with one of its addresses. It handles bytes and time and no
//! device.
//!
//! One [`Host`] is shared by all queues of the port. Each poll loop has a [`HostQueue`], which never waits for others:
//!
//! - a received frame that [`crate::headers::Reader::usual_into`] returns goes to [`HostQueue::receive`]. The result is
//!   one of three: it is a datagram after all, or has become an answer to be sent, or ends here;
//! - a datagram to a peer that was never heard gets its next hop by [`crate::neighbour::resolve`];
//! - once per poll, [`HostQueue::next_request`] gives further frames to be sent, until there are no more.
//!
//! An answer may come in on another queue than the one on which the question left: what is known is shared, and a queue
//! checks with one load whether there is something new.
//!
//! | module | what |
//! |---|---|
//! | `net` | an address with its subnet |
//! | `table` | neighbours: state machines in a bounded table |
//! | `claim` | duplicate addresses |
//! | `queue` | one poll loop's end |

mod claim;
mod net;
mod queue;
mod table;

#[cfg(test)]
mod tests;

pub use claim::Duplicate;
pub use net::{Ipv4Net, NetAddressError};
pub use queue::{HostCounters, HostQueue, Received};
pub use table::{MAX_NEIGHBOURS, State};

use crate::addresses::{Addresses, MAX_ADDRESSES};
use crate::source::is_host4;
use crate::vlans::Vlans;
use claim::Claims;
use frame::Time;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::Table;

type Ip4 = [u8; 4];
type Mac = [u8; 6];

/// The settings of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The name of the port in the log.
    pub name: String,
    /// The port's Ethernet address.
    pub mac: [u8; 6],
    /// Its addresses, 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<Ipv4Net>,
    /// The gateway for everything beyond its subnets.
    pub gateway: Option<[u8; 4]>,
    /// The VLANs that it receives; in other VLANs it does not exist.
    pub vlans: Vlans,
}

/// Why a host cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It has no address.
    #[error("{0} has no kernel behind it and needs an address: add ,ip=10.0.0.2/24 to it")]
    NoAddress(String),
    /// It has too many addresses.
    #[error("{name} has {count} addresses: give it at most {MAX_ADDRESSES}")]
    TooMany {
        /// The port.
        name: String,
        /// How many it has.
        count: usize,
    },
    /// It has one address twice.
    #[error("{name}: ip={address} is named twice")]
    Twice {
        /// The port.
        name: String,
        /// The address.
        address: Ipv4Addr,
    },
    /// The gateway cannot be reached.
    #[error(
        "{name}: gw={gateway} is not a neighbour: it must be another address in a subnet of the port's own ({})",
        texts(.addresses)
    )]
    Gateway {
        /// The port.
        name: String,
        /// The gateway.
        gateway: Ipv4Addr,
        /// The port's addresses.
        addresses: Vec<Ipv4Net>,
    },
}

fn texts(addresses: &[Ipv4Net]) -> String {
    addresses.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
}

impl HostConfig {
    /// Checks whether such a host is possible.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn check(&self) -> Result<(), HostError> {
        let Self { name, addresses, gateway, .. } = self;
        let name = || name.clone();
        if addresses.is_empty() {
            return Err(HostError::NoAddress(name()));
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(HostError::TooMany { name: name(), count: addresses.len() });
        }
        for (at, net) in addresses.iter().enumerate() {
            if addresses.iter().take(at).any(|other| other.address() == net.address()) {
                return Err(HostError::Twice { name: name(), address: net.address().into() });
            }
        }
        match gateway {
            Some(gateway) if !addresses.iter().any(|net| net.has(*gateway) && net.address() != *gateway) => {
                Err(HostError::Gateway { name: name(), gateway: (*gateway).into(), addresses: addresses.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The neighbour that carries datagrams to `ip`, and our address towards it; `None` when there is no way.
    fn route(&self, ip: Ip4) -> Option<(Ip4, Ip4)> {
        let towards = |hop: Ip4| Some((hop, self.addresses.iter().find(|net| net.has(hop))?.address()));
        if !is_host4(ip) || self.is_ours(ip) {
            return None;
        }
        towards(ip).or_else(|| towards(self.gateway?))
    }

    fn is_ours(&self, ip: Ip4) -> bool {
        self.addresses.iter().any(|net| net.address() == ip)
    }
}

/// A neighbour, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourView {
    /// Its address.
    pub ip: [u8; 4],
    /// Its Ethernet address, while it is known.
    pub mac: Option<[u8; 6]>,
    /// How sure the port is of that address.
    pub state: State,
    /// When it was last heard, by the lcores' clock; before that, when it was first asked for.
    pub heard: Time,
}

/// The state that all queues share and change.
struct Inner {
    table: Table,
    claims: Claims,
}

impl Inner {
    fn due(&self) -> Time {
        self.table.due().min(self.claims.due())
    }
}

struct Shared {
    config: HostConfig,
    /// Grows whenever poll loops should read the table again.
    generation: AtomicU64,
    /// When something is to be sent. A queue that reads an older value checks in vain, or checks again a poll later.
    due: AtomicU64,
    inner: Mutex<Inner>,
}

impl Shared {
    /// Called after each change of the table.
    fn publish(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.table.changed) {
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.due.store(inner.due(), Ordering::Relaxed);
    }
}

/// The host of one port.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

impl Host {
    /// A host without neighbours. Its queues claim its addresses as soon as they are polled.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        config.check()?;
        let claims = Claims::new(config.addresses.iter().map(|net| net.address()));
        let inner = Mutex::new(Inner { table: Table::default(), claims });
        let (generation, due) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { shared: Arc::new(Shared { config, generation, due, inner }) })
    }

    /// The end of one poll loop.
    pub fn queue(&self) -> HostQueue {
        HostQueue::new(Arc::clone(&self.shared))
    }

    /// Its settings.
    pub fn config(&self) -> &HostConfig {
        &self.shared.config
    }

    /// Its addresses, for a poll loop that answers at this UDP port.
    pub fn addresses(&self, udp_port: u16) -> Addresses {
        let HostConfig { mac, addresses, .. } = &self.shared.config;
        let addresses: Vec<_> = addresses.iter().map(|net| net.address()).collect();
        Addresses::fixed(*mac, &addresses, udp_port)
    }

    /// Its neighbours. Not for poll loops: the call waits for a lock.
    pub fn neighbours(&self) -> Vec<NeighbourView> {
        let view = |entry: &table::Entry| NeighbourView {
            ip: entry.ip,
            mac: entry.is_known().then_some(entry.mac),
            state: entry.state,
            heard: entry.heard,
        };
        self.lock().table.entries().iter().map(view).collect()
    }

    /// Other hosts that were heard with an address of this port. Not for poll loops.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        self.lock().claims.duplicates().collect()
    }

    /// The tables are valid even if their last owner panicked: each change is complete before it is visible.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
