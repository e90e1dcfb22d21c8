//! Why a buffer leaves.

use crate::counters::FlushCounters;
use frame::Counter;

/// The cause of a flush; each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The next record does not fit.
    Full,
    /// The oldest record reached its hold.
    Hold,
    /// Nothing was received on any queue for a quarter of the hold.
    Early,
    /// The pool runs low: the oldest buffers leave first.
    Room,
    /// A record too large to share goes out behind what waited, or the route's MTU shrank.
    Order,
    /// A record with PUSH came: see [`crate::push`].
    Push,
    /// The gateway drains.
    Drain,
}

impl Cause {
    /// Its name, as in the name of the counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Hold => "hold",
            Self::Early => "early",
            Self::Room => "room",
            Self::Order => "order",
            Self::Push => "push",
            Self::Drain => "drain",
        }
    }

    /// The counter of this cause.
    #[inline]
    pub fn counter(self, counters: &FlushCounters) -> &Counter {
        match self {
            Self::Full => &counters.flush_full,
            Self::Hold => &counters.flush_hold,
            Self::Early => &counters.flush_early,
            Self::Room => &counters.flush_room,
            Self::Order => &counters.flush_order,
            Self::Push => &counters.flush_push,
            Self::Drain => &counters.flush_drain,
        }
    }
}
