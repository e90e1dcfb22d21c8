//! Time as an argument: nanoseconds since an epoch of the caller's choice, read once per poll, never backwards.

/// A moment, in nanoseconds.
pub type Time = u64;

/// One microsecond, in nanoseconds.
pub const MICROSECOND: u64 = 1_000;
/// One millisecond, in nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;
/// One second, in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// A hold or timeout that never ends.
pub const FOREVER: u64 = u64::MAX;
