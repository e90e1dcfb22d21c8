//! Which shards a gateway serves, in the form of a HEARTBEAT_ACK: at most 16 ranges.
//!
//! A gateway's tables are built from [`wire::ShardSet`]; this type is for announcing.

use arrayvec::ArrayVec;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use wire::link::{MAX_RANGES, ShardRange};
use wire::{Scale, Shard};

/// A set of shards in ascending, disjoint, maximal ranges. Its text form is like `0-3,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardRanges {
    ranges: ArrayVec<ShardRange, MAX_RANGES>,
}

/// Why something is not a set of shards.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShardRangesError {
    /// The text has another form.
    #[error("`{0}` is not a list of shards: write for example 0-3,7")]
    Syntax(String),
    /// A range ends before it begins.
    #[error("the shard range {0}-{1} ends before it begins: write {1}-{0}")]
    Backwards(u32, u32),
    /// More ranges than a HEARTBEAT_ACK can carry.
    #[error("the shards form more than {MAX_RANGES} ranges: give each gateway consecutive shards")]
    TooManyRanges,
}

impl ShardRanges {
    /// All shards of a scale.
    pub fn all(scale: Scale) -> Self {
        Self { ranges: [ShardRange { first: 0, last: scale.shards() - 1 }].into_iter().collect() }
    }

    /// The union of ranges, which may have any order and may overlap.
    ///
    /// # Errors
    /// The error is [`ShardRangesError::Backwards`] when a range ends before it begins. It is
    /// [`ShardRangesError::TooManyRanges`] when more than [`MAX_RANGES`] are left after those that touch are joined.
    pub fn from_ranges(ranges: impl IntoIterator<Item = ShardRange>) -> Result<Self, ShardRangesError> {
        let mut sorted: Vec<ShardRange> = ranges.into_iter().collect();
        sorted.sort_unstable_by_key(|range| range.first);
        let mut merged: ArrayVec<ShardRange, MAX_RANGES> = ArrayVec::new();
        for range in sorted {
            if range.last < range.first {
                return Err(ShardRangesError::Backwards(range.first, range.last));
            }
            match merged.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
                _ => merged.try_push(range).map_err(|_| ShardRangesError::TooManyRanges)?,
            }
        }
        Ok(Self { ranges: merged })
    }

    /// The set of these shards.
    ///
    /// # Errors
    /// The error is [`ShardRangesError::TooManyRanges`] when the shards form more than [`MAX_RANGES`] ranges.
    pub fn from_shards(shards: impl IntoIterator<Item = Shard>) -> Result<Self, ShardRangesError> {
        Self::from_ranges(shards.into_iter().map(|shard| ShardRange { first: shard.0, last: shard.0 }))
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[ShardRange] {
        &self.ranges
    }

    /// The shards, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Shard> + '_ {
        self.ranges.iter().flat_map(|range| (range.first..=range.last).map(Shard))
    }

    /// How many shards there are.
    pub fn len(&self) -> u32 {
        self.ranges.iter().map(|range| (range.last - range.first).saturating_add(1)).fold(0, u32::saturating_add)
    }

    /// Whether there is no shard.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The highest shard.
    pub fn last(&self) -> Option<Shard> {
        self.ranges.last().map(|range| Shard(range.last))
    }

    /// Whether `shard` is one of them.
    pub fn contains(&self, shard: Shard) -> bool {
        self.ranges.iter().any(|range| range.contains(shard))
    }
}

impl FromStr for ShardRanges {
    type Err = ShardRangesError;

    /// Reads shards and ranges with commas between them: `0-3,7`. (`all` needs a scale: see [`ShardRanges::all`].)
    fn from_str(text: &str) -> Result<Self, ShardRangesError> {
        let syntax = || ShardRangesError::Syntax(text.to_owned());
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| syntax());
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            ranges.push(ShardRange { first, last });
        }
        Self::from_ranges(ranges)
    }
}

impl fmt::Display for ShardRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (at, range) in self.ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if range.first == range.last {
                write!(f, "{comma}{}", range.first)?;
            } else {
                write!(f, "{comma}{}-{}", range.first, range.last)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_merged_and_written() {
        let set: ShardRanges = "7, 2-3,0-1,1".parse().unwrap();
        assert_eq!(set.to_string(), "0-3,7");
        assert_eq!((set.len(), set.last()), (5, Some(Shard(7))));
        assert_eq!(set.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2, 3, 7]);
        assert!(set.contains(Shard(7)) && !set.contains(Shard(4)));
        assert_eq!("3-1".parse::<ShardRanges>(), Err(ShardRangesError::Backwards(3, 1)));
        for bad in ["", "a", "1-", "1,,2", "-1"] {
            assert_eq!(bad.parse::<ShardRanges>(), Err(ShardRangesError::Syntax(bad.to_owned())));
        }
        let scattered: Vec<String> = (0..17).map(|n| (2 * n).to_string()).collect();
        assert_eq!(scattered.join(",").parse::<ShardRanges>(), Err(ShardRangesError::TooManyRanges));
    }

    #[test]
    fn all_shards_of_a_scale_are_one_range() {
        assert_eq!(ShardRanges::all(Scale::new(6, 2).unwrap()).len(), 16);
    }
}
