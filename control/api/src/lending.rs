//! What a slave lends, in `GET /v1/stats`.

use serde::{Deserialize, Serialize};

/// The memory that a slave process lends. Always: `units = free + dirty + leased`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LendingStats {
    /// What it is made of.
    pub pages: String,
    /// Bytes of a unit.
    pub unit_bytes: u64,
    /// Units of all ids.
    pub units: u64,
    /// Units of each id.
    pub units_per_id: u64,
    /// The most units that may be lent now.
    pub limit: u64,
    /// Units that nobody has, and that are zero.
    pub free: u64,
    /// Units that nobody has, and that must be scrubbed.
    pub dirty: u64,
    /// Units that masters have.
    pub leased: u64,
    /// Leased units that are recalled and not given back yet.
    pub recalled: u64,
    /// Bytes that the host keeps free; null on hugepages, which the host does not get back.
    pub keep_free_bytes: Option<u64>,
    /// Bytes that the host, or the cgroup of the process, has left; null on hugepages.
    pub host_available_bytes: Option<u64>,
    /// While it drains: how many seconds masters still have to give memory back.
    pub drain_seconds: Option<f64>,
    /// Who has how much of which id.
    pub leases: Vec<LeaseStats>,
}

/// What one master has of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStats {
    /// The slave id.
    pub id: u32,
    /// The master.
    pub master: u16,
    /// Units that it has.
    pub units: u32,
    /// How many of them are recalled.
    pub recalled: u32,
}
