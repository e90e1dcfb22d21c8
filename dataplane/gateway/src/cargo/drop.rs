//! Why a record is dropped.

use crate::counters::DirectionCounters;
use crate::route::SlaveSource;
use frame::Counter;
use wire::BadReason;

/// The reason for which a record ends in the gateway; each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Fewer bytes than a header.
    Truncated,
    /// Wrong magic.
    BadMagic,
    /// Its `payload_len` points past the end of the datagram.
    BadLength,
    /// Its slave id is out of range of the scale.
    BadSlaveId,
    /// Another gateway serves its shard.
    ForeignShard,
    /// Another shard than that of the first record of its datagram.
    MixedShards,
    /// Link control in a datagram of cargo.
    MixedLink,
    /// Its slave or master is not registered.
    NoRoute,
    /// Its slave is not registered, and neither is its source as a master.
    UnregisteredSource,
    /// Its source is not where the slave or master that it names is registered.
    Spoofed,
    /// It is larger than the MTU of its route.
    TooLarge,
    /// No frame was free.
    NoFrame,
    /// It is beyond the fair share of its slave while the port is contended.
    FairShare,
    /// It waited for a slave or master when its route was removed.
    RouteRemoved,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Truncated,
        Self::BadMagic,
        Self::BadLength,
        Self::BadSlaveId,
        Self::ForeignShard,
        Self::MixedShards,
        Self::MixedLink,
        Self::NoRoute,
        Self::UnregisteredSource,
        Self::Spoofed,
        Self::TooLarge,
        Self::NoFrame,
        Self::FairShare,
        Self::RouteRemoved,
    ];

    /// The counter of this reason.
    #[inline]
    pub fn counter(self, counters: &DirectionCounters) -> &Counter {
        match self {
            Self::Truncated => &counters.dropped_truncated,
            Self::BadMagic => &counters.dropped_bad_magic,
            Self::BadLength => &counters.dropped_bad_length,
            Self::BadSlaveId => &counters.dropped_bad_slave_id,
            Self::ForeignShard => &counters.dropped_foreign_shard,
            Self::MixedShards => &counters.dropped_mixed_shards,
            Self::MixedLink => &counters.dropped_mixed_link,
            Self::NoRoute => &counters.dropped_no_route,
            Self::UnregisteredSource => &counters.dropped_unregistered_source,
            Self::Spoofed => &counters.dropped_spoofed,
            Self::TooLarge => &counters.dropped_too_large,
            Self::NoFrame => &counters.dropped_no_frame,
            Self::FairShare => &counters.dropped_fair_share,
            Self::RouteRemoved => &counters.dropped_route_removed,
        }
    }

    /// Its name: that of the counter without `dropped_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::BadMagic => "bad_magic",
            Self::BadLength => "bad_length",
            Self::BadSlaveId => "bad_slave_id",
            Self::ForeignShard => "foreign_shard",
            Self::MixedShards => "mixed_shards",
            Self::MixedLink => "mixed_link",
            Self::NoRoute => "no_route",
            Self::UnregisteredSource => "unregistered_source",
            Self::Spoofed => "spoofed",
            Self::TooLarge => "too_large",
            Self::NoFrame => "no_frame",
            Self::FairShare => "fair_share",
            Self::RouteRemoved => "route_removed",
        }
    }

    /// Why a slave's record from this source is dropped; `None` when it passes.
    #[inline]
    pub const fn of_source(source: SlaveSource) -> Option<Self> {
        match source {
            SlaveSource::Registered => None,
            SlaveSource::Elsewhere => Some(Self::Spoofed),
            SlaveSource::Unknown => Some(Self::UnregisteredSource),
        }
    }
}

impl From<BadReason> for DropReason {
    fn from(reason: BadReason) -> Self {
        match reason {
            BadReason::Truncated => Self::Truncated,
            BadReason::Magic => Self::BadMagic,
            BadReason::Length => Self::BadLength,
            BadReason::SlaveId => Self::BadSlaveId,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_counter_is_that_of_one_reason_and_has_its_name() {
        let counters = DirectionCounters::default();
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            reason.counter(&counters).add(1 << number);
        }
        let mut seen = Vec::new();
        counters.visit_drops(&mut |name, _, value| seen.push((name.to_owned(), value)));
        let named = |(number, reason): (usize, DropReason)| (format!("dropped_{}", reason.name()), 1 << number);
        let mut expected: Vec<(String, u64)> = DropReason::ALL.into_iter().enumerate().map(named).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }
}
