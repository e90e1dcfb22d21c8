//! The highest rate of a node's heartbeats.
//!
//! A gateway serves the heartbeats of a registered node first as long as they stay within this rate. The schedule of
//! [`Node`](crate::Node) stays below it, whatever a gateway answers: `tests/budget.rs` checks that.

use frame::time::MICROSECOND;

/// Prompt heartbeats of a master are 20 ms apart, and regular ones come in addition.
const MASTER_EVERY: u64 = 12_500 * MICROSECOND;

/// The highest rate of a node's heartbeats: a bucket of `burst` heartbeats, which gets one more in each `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Nanoseconds in which one more heartbeat may be sent.
    pub every: u64,
    /// Heartbeats that may be sent at once.
    pub burst: u32,
}

impl Budget {
    /// The budget of a slave, given the heartbeat interval in nanoseconds: 4 in each interval, 8 at once.
    ///
    /// A slave sends one in each interval. A new cookie, a drain, and each of up to four padded heartbeats cost one
    /// more.
    pub const fn slave(interval: u64) -> Self {
        Self { every: interval / 4, burst: 8 }
    }

    /// The budget of a master, given the heartbeat interval in nanoseconds: 80 a second, 16 at once.
    ///
    /// A master also reports its membership promptly whenever that changes, but not more often than every 20 ms.
    pub const fn master(interval: u64) -> Self {
        let every = if interval / 4 < MASTER_EVERY { interval / 4 } else { MASTER_EVERY };
        Self { every, burst: 16 }
    }
}
