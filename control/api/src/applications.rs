//! What a master serves, in `GET /v1/stats`.

use serde::{Deserialize, Serialize};

/// The applications of a master, and their areas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingStats {
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// The applications, in the order in which they came.
    pub applications: Vec<ApplicationStats>,
    /// The areas, by name.
    pub areas: Vec<AreaStats>,
}

/// One connection of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationStats {
    /// The number of the connection: no other one of this master has had it.
    pub connection: u64,
    /// What the application calls itself.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The number of its user.
    pub user: u32,
    /// The area that its extents are in; null without one.
    pub area: Option<String>,
    /// The lcore that serves it, counted from 0.
    pub lcore: u64,
    /// Extents that it has, lost ones included.
    pub extents: u32,
    /// Extents that it may have.
    pub quota: u32,
    /// Requests that have ended.
    pub requests: u64,
    /// Those that did not end well.
    pub failures: u64,
    /// Bytes of extents that it has read.
    pub bytes_read: u64,
    /// Bytes of extents that it has written.
    pub bytes_written: u64,
}

/// One area.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaStats {
    /// Its name.
    pub name: String,
    /// The number of its user.
    pub user: u32,
    /// parked, in use or ending.
    pub state: String,
    /// Extents that it has, lost ones included.
    pub extents: u32,
    /// Those that are lost.
    pub lost: u32,
}
