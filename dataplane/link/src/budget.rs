//! How often a node speaks at most.
//!
//! A gateway lets the heartbeats of a registered node go first as long as there are no more of them than this. The
//! schedule of [`Node`](crate::Node) stays below it, whatever a gateway answers: `tests/budget.rs` holds that.

use frame::time::MICROSECOND;

/// Between two prompt heartbeats of a master are 20 ms, and regular ones come besides.
const MASTER_EVERY: u64 = 12_500 * MICROSECOND;

/// How often a node speaks at most: a bucket of `burst` heartbeats, to which one more comes in each `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Nanoseconds in which one more heartbeat may be said.
    pub every: u64,
    /// Heartbeats that may be said at once.
    pub burst: u32,
}

impl Budget {
    /// What a slave says, given the heartbeat interval in nanoseconds: 4 in each interval, 8 at once.
    ///
    /// It says one in each interval. A new cookie, a drain, and each of up to four padded heartbeats cost one more.
    pub const fn slave(interval: u64) -> Self {
        Self { every: interval / 4, burst: 8 }
    }

    /// What a master says, given the heartbeat interval in nanoseconds: 80 a second, 16 at once.
    ///
    /// It also says promptly which membership it has, as often as that changes, but not more often than each 20 ms.
    pub const fn master(interval: u64) -> Self {
        let every = if interval / 4 < MASTER_EVERY { interval / 4 } else { MASTER_EVERY };
        Self { every, burst: 16 }
    }
}
