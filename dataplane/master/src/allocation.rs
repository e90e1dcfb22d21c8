//! An allocation that is not done yet.

use crate::request::ClientId;
use frame::Time;

/// Extents that a client waits for.
pub(crate) struct Allocation {
    pub(crate) client: ClientId,
    /// The tag of the command.
    pub(crate) tag: u64,
    /// Each in another failure domain.
    pub(crate) apart: bool,
    pub(crate) extents: Vec<u32>,
    /// When it fails.
    pub(crate) until: Time,
}

impl Allocation {
    /// Whether it waits for this extent, or has it.
    pub(crate) fn has(&self, extent: u32) -> bool {
        self.extents.contains(&extent)
    }
}
