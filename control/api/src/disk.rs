//! What a disk is and has, in `GET /v1/stats`.

use serde::{Deserialize, Serialize};

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedDisk {
    /// Bytes of the disk.
    pub size_bytes: u64,
    /// Where clients connect, as `--listen` names it.
    pub listen: String,
    /// Connections of clients.
    pub connections: u64,
    /// The socket of the master that has the memory.
    pub master: String,
    /// The area in which the disk outlives its process; null if it does not.
    #[serde(default)]
    pub area: Option<String>,
    /// Whether that master answers.
    pub master_connected: bool,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// Extents that the disk has.
    pub extents: u64,
    /// Extents that the master lets it have.
    pub extents_allowed: u64,
    /// Bytes of the disk that were written, and are in extents.
    pub present_bytes: u64,
    /// Bytes of the disk that are lost: READs of them fail.
    pub lost_bytes: u64,
}
