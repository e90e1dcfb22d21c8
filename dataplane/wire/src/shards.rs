//! Which shards a gateway serves.

use crate::{Scale, Shard, SlaveId};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// A set of shards in range of a scale, and the dense numbering of their slaves.
///
/// Slaves of served shards are numbered `0 .. slaves()`, shard after shard, so that a table for them has no holes,
/// whichever shards a gateway serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSet {
    scale: Scale,
    /// For each shard the number of its first slave, or `NOT_SERVED`.
    first: Vec<u32>,
    served: Vec<Shard>,
}

const NOT_SERVED: u32 = u32::MAX;

/// Why a text is not a [`ShardSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardsError {
    /// Not a number, or a range that ends before it begins.
    Syntax,
    /// A shard that the scale does not have.
    OutOfRange {
        /// The shard.
        shard: u32,
        /// How many shards there are.
        shards: u32,
    },
    /// No shard.
    Empty,
}

impl fmt::Display for ShardsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("shards are written as a list of numbers and ranges, as in 0-3,5; or all"),
            Self::OutOfRange { shard, shards } => {
                write!(f, "shard {shard} does not exist: at this scale the shards are 0 to {}", shards - 1)
            }
            Self::Empty => f.write_str("a gateway serves at least one shard: name one, as in 0-3,5; or all"),
        }
    }
}

impl core::error::Error for ShardsError {}

impl ShardSet {
    /// Every shard of the scale.
    pub fn all(scale: Scale) -> Self {
        Self::build(scale, |_| true)
    }

    /// The given shards; refuses one that the scale does not have, or none.
    ///
    /// # Errors
    /// The error is [`ShardsError::OutOfRange`] when the scale does not have one of the shards. It is
    /// [`ShardsError::Empty`] when there is none.
    pub fn new(scale: Scale, shards: &[Shard]) -> Result<Self, ShardsError> {
        if let Some(&Shard(shard)) = shards.iter().find(|shard| shard.0 >= scale.shards()) {
            return Err(ShardsError::OutOfRange { shard, shards: scale.shards() });
        }
        if shards.is_empty() {
            return Err(ShardsError::Empty);
        }
        // One mark for each shard: looking up every shard in the list would take quadratic time at small gw-bits.
        let mut marks = vec![false; scale.shards() as usize];
        for shard in shards {
            if let Some(mark) = marks.get_mut(shard.0 as usize) {
                *mark = true;
            }
        }
        Ok(Self::build(scale, |shard| marks.get(shard.0 as usize).is_some_and(|&mark| mark)))
    }

    /// Reads `0-3,5` or `all`.
    ///
    /// # Errors
    /// The error is [`ShardsError::Syntax`] when an item is neither a number nor a range, or a range ends before it
    /// begins. It is [`ShardsError::OutOfRange`] when the scale does not have one of the shards.
    pub fn parse(scale: Scale, text: &str) -> Result<Self, ShardsError> {
        if text.trim() == "all" {
            return Ok(Self::all(scale));
        }
        let mut shards = Vec::new();
        for item in text.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let number = |text: &str| text.trim().parse::<u32>().map_err(|_| ShardsError::Syntax);
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(ShardsError::Syntax);
            }
            if last >= scale.shards() {
                return Err(ShardsError::OutOfRange { shard: last, shards: scale.shards() });
            }
            shards.extend((first..=last).map(Shard));
        }
        Self::new(scale, &shards)
    }

    fn build(scale: Scale, serves: impl Fn(Shard) -> bool) -> Self {
        let mut first = Vec::with_capacity(scale.shards() as usize);
        let mut served = Vec::new();
        for shard in (0..scale.shards()).map(Shard) {
            if serves(shard) {
                first.push(served.len() as u32 * scale.slaves_per_gateway());
                served.push(shard);
            } else {
                first.push(NOT_SERVED);
            }
        }
        Self { scale, first, served }
    }

    /// The scale.
    #[inline]
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// How many slave ids the served shards have.
    pub fn slaves(&self) -> u32 {
        self.served.len() as u32 * self.scale.slaves_per_gateway()
    }

    /// The served shards, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Shard> + '_ {
        self.served.iter().copied()
    }

    /// Whether a shard is served.
    pub fn contains(&self, shard: Shard) -> bool {
        self.first.get(shard.0 as usize).is_some_and(|&first| first != NOT_SERVED)
    }

    /// The dense number of a slave, `0 .. slaves()`, or `None` when its shard is not served.
    #[inline]
    pub fn index(&self, id: SlaveId) -> Option<u32> {
        match self.first.get(self.scale.shard(id).0 as usize) {
            Some(&first) if first != NOT_SERVED => Some(first + self.scale.index_in_shard(id)),
            _ => None,
        }
    }

    /// The dense number of the slave with the id that stands in a record header; `None` when it is out of range, or
    /// its shard is not served.
    #[inline]
    pub fn index_of(&self, id: u32) -> Option<u32> {
        // An id out of range has a shard out of range: one lookup answers both questions.
        match self.first.get((id >> self.scale.gw_bits()) as usize) {
            Some(&first) if first != NOT_SERVED => Some(first + (id & (self.scale.slaves_per_gateway() - 1))),
            _ => None,
        }
    }

    /// The slave with a dense number.
    pub fn slave(&self, index: u32) -> Option<SlaveId> {
        let per = self.scale.slaves_per_gateway();
        let shard = self.served.get((index / per) as usize)?;
        self.scale.slave_id(shard.0 * per + index % per)
    }

    /// The served shards as inclusive ranges, ascending.
    pub fn ranges(&self) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for shard in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == shard.0 => *last = shard.0,
                _ => ranges.push((shard.0, shard.0)),
            }
        }
        ranges
    }
}

impl fmt::Display for ShardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn numbers_are_dense_and_reversible() {
        let set = ShardSet::parse(Scale::default(), "15,2-3").unwrap();
        assert_eq!((set.slaves(), set.to_string()), (3 * 8_192, "2-3,15".to_string()));
        for index in [0, 8_191, 8_192, 24_575] {
            assert_eq!(set.index(set.slave(index).unwrap()), Some(index));
        }
        assert_eq!(set.slave(24_576), None);
        for id in [0, 2 * 8_192, 4 * 8_192 - 1, 4 * 8_192, 131_071, 131_072, u32::MAX] {
            assert_eq!(set.index_of(id), Scale::default().slave_id(id).and_then(|id| set.index(id)));
        }
        assert_eq!(set.index(Scale::default().slave_id(0).unwrap()), None);
        assert!(set.contains(Shard(15)) && !set.contains(Shard(14)) && !set.contains(Shard(99)));
    }

    #[test]
    fn places_have_no_gaps_and_lead_back() {
        let scale = Scale::new(6, 2).unwrap();
        let set = ShardSet::parse(scale, "1,4-5").unwrap();
        let ids: Vec<u32> = (0..12).map(|at| set.slave(at).unwrap().get()).collect();
        assert_eq!(ids, [4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
        assert_eq!(set.slave(12), None);
        for id in 0..64 {
            let id = scale.slave_id(id).unwrap();
            let expected = ids.iter().position(|&other| other == id.get()).map(|at| at as u32);
            assert_eq!(set.index(id), expected);
        }
    }

    #[test]
    fn bad_lists_are_explained() {
        let scale = Scale::default();
        for text in ["", "x", "3-1", "1-", "1,,2"] {
            assert_eq!(ShardSet::parse(scale, text), Err(ShardsError::Syntax), "{text}");
        }
        let error = ShardSet::parse(scale, "16").unwrap_err().to_string();
        assert_eq!(error, "shard 16 does not exist: at this scale the shards are 0 to 15");
        assert_eq!(ShardSet::new(scale, &[]), Err(ShardsError::Empty));
        assert_eq!(ShardSet::all(scale).slaves(), 131_072);
    }
}
