//! What `GET /v1/routes` answers.

use serde::{Deserialize, Serialize};

/// Who is registered, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Routes {
    /// The membership generation.
    pub generation: u64,
    /// The masters that are here.
    pub masters: Vec<MasterRoute>,
    /// The slaves that are here or suspect, by id.
    pub slaves: Vec<SlaveRoute>,
    /// Routes from --static-routes. They hold whichever nodes register.
    #[serde(default, rename = "static")]
    pub fixed: Vec<StaticRoute>,
}

/// The way to nodes that need not register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// slave or master.
    pub role: String,
    /// The first id.
    pub first: u32,
    /// The last id.
    pub last: u32,
    /// IP address and UDP port. If each node has its own address: those of the first.
    pub address: String,
    /// Whether each node has its own address, counted up with the ids.
    pub counts: bool,
    /// The gateway's port that leads to them.
    pub port: u8,
    /// Their VLAN id, if they are tagged.
    pub vlan: Option<u16>,
    /// Largest IP packet to them, in bytes, if it differs from the port's.
    pub mtu: Option<u16>,
}

/// The way to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Way {
    /// IP address and UDP port.
    pub address: String,
    /// The gateway's port that leads to it.
    pub port: u8,
    /// Its VLAN id, if it is tagged.
    pub vlan: Option<u16>,
    /// Largest IP packet that was acknowledged, in bytes.
    pub mtu: u16,
    /// Whether its UDP port is part of its address.
    pub fixed_port: bool,
    /// Seconds since its last heartbeat.
    pub silent_seconds: f64,
}

/// A master.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MasterRoute {
    /// Its id.
    pub id: u16,
    /// The membership generation that it has.
    pub generation: u64,
    /// Where it is.
    #[serde(flatten)]
    pub way: Way,
}

/// A slave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SlaveRoute {
    /// Its id.
    pub id: u32,
    /// here or suspect.
    pub state: String,
    /// Memory that it lends, in 4 KiB pages.
    pub pages_total: u64,
    /// The part of its memory that nobody has leased, in 4 KiB pages.
    pub pages_free: u64,
    /// Virtual CPUs that it can run.
    pub vcpus: u16,
    /// Its failure domain; 0 means a domain of its own.
    #[serde(default)]
    pub domain: u32,
    /// The class of its link's speed; 0 is unknown.
    #[serde(default)]
    pub speed_class: u8,
    /// Where it is.
    #[serde(flatten)]
    pub way: Way,
}
