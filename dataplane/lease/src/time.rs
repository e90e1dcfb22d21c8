//! How long leases, cookies and repetitions last, in nanoseconds.

use frame::Time;
use frame::time::{MILLISECOND, SECOND};

/// A lease ends when it was not renewed for this long.
pub const LEASE: Time = 60 * SECOND;

/// A master renews its leases this often.
pub const RENEWAL: Time = 10 * SECOND;

/// A cookie holds this long.
pub const COOKIE: Time = 10 * SECOND;

/// What is not answered is repeated after this time, then after twice the time, and so on.
pub const FIRST_REPETITION: Time = 50 * MILLISECOND;

/// The longest time between two repetitions.
pub const LAST_REPETITION: Time = SECOND;

/// How often a slave repeats what it recalls.
pub const RECALL_REPETITION: Time = SECOND;

/// A whole number of milliseconds for the wire, rounded down.
pub(crate) fn wire_ms(time: Time) -> u32 {
    u32::try_from(time / MILLISECOND).unwrap_or(u32::MAX)
}
