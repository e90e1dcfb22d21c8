//! Which nodes were told that the gateway is about to leave.

use frame::Time;

/// The progress of telling the nodes.
pub(super) struct Leaving {
    /// When to tell more nodes; `None` when all have heard.
    pub(super) due: Option<Time>,
    /// The next slave to tell.
    pub(super) cursor: u32,
}

impl Leaving {
    pub(super) fn new(now: Time) -> Self {
        Self { due: Some(now), cursor: 0 }
    }
}
