//! What the machine changed under a running process that it does not follow: for `stats`, for metrics and for `/ready`.

use serde::{Deserialize, Serialize};

/// A part of the machine that can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The receive queues of an interface.
    Queues,
    /// The MTU of an interface.
    Mtu,
    /// The core of an lcore.
    Core,
}

/// Something that is not as it was at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What changed.
    pub part: Part,
    /// Of which port, if of one.
    pub port: Option<u8>,
    /// Of which lcore, if of one.
    pub lcore: Option<u16>,
    /// Whether cargo is lost by it, so that the process is not ready.
    pub loses: bool,
    /// What it is, and the remedy.
    pub text: String,
}

impl Change {
    /// Whether both are about the same thing, however that is now.
    pub fn is_about(&self, other: &Self) -> bool {
        (self.part, self.port, self.lcore) == (other.part, other.port, other.lcore)
    }
}
