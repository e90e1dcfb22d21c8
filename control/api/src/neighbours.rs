//! The neighbours of ports that have no kernel behind them, as `stats` shows them.

use serde::{Deserialize, Serialize};

/// A neighbour of a port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeighbourStats {
    /// Its IPv4 address.
    pub ip: String,
    /// Its Ethernet address, if it is known. For a duplicate: the address of the other host.
    pub mac: Option<String>,
    /// incomplete, reachable, stale, probing or failed. It is duplicate for another host that uses an address of the
    /// port.
    pub state: String,
    /// Seconds since it was last heard, or first asked for.
    pub heard_seconds: f64,
}
