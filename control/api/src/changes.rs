//! Changes of the machine that a running process does not follow: for `stats`, for metrics and for `/ready`.

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
    /// The port that it concerns, if any.
    pub port: Option<u8>,
    /// The lcore that it concerns, if any.
    pub lcore: Option<u16>,
    /// Whether cargo is lost because of it. Then the process is not ready.
    pub loses: bool,
    /// What it is, and the remedy.
    pub text: String,
}

impl Change {
    /// Whether both are about the same thing, whatever its state is.
    pub fn is_about(&self, other: &Self) -> bool {
        (self.part, self.port, self.lcore) == (other.part, other.port, other.lcore)
    }
}
