//! Which slave ids a farm has, and the dense numbering of them.

use wire::{Scale, SlaveId};

/// Consecutive ids, and the number of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    count: u32,
    base: u32,
}

/// A set of slave ids, numbered `0 .. len()` in ascending order.
///
/// Memory grows with the number of gaps between the ids, not with the number of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    scale: Scale,
    runs: Vec<Run>,
    len: u32,
}

/// Why some numbers are not a set of slave ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdsError {
    /// There are no ids.
    #[error("a farm has at least one slave id: name one, or a count of at least 1")]
    Empty,
    /// An id is out of range of the scale.
    #[error("slave id {id} does not exist: at this scale the slave ids are 0 to {}; lower the id or the \
        count", .slaves - 1)]
    OutOfRange {
        /// The id.
        id: u64,
        /// How many slave ids there are.
        slaves: u32,
    },
    /// An id is named twice.
    #[error("slave id {0} is named twice: each id registers once")]
    Twice(u32),
}

impl Ids {
    /// The ids `first .. first + count`.
    ///
    /// # Errors
    /// The error is [`IdsError::Empty`] when `count` is 0. It is [`IdsError::OutOfRange`] when the scale does not have
    /// the last of the ids.
    pub fn range(scale: Scale, first: u32, count: u32) -> Result<Self, IdsError> {
        if count == 0 {
            return Err(IdsError::Empty);
        }
        let last = u64::from(first) + u64::from(count) - 1;
        if last >= u64::from(scale.slaves()) {
            return Err(IdsError::OutOfRange { id: last, slaves: scale.slaves() });
        }
        Ok(Self { scale, runs: vec![Run { first, count, base: 0 }], len: count })
    }

    /// The ids of a list, in any order.
    ///
    /// # Errors
    /// The error is [`IdsError::Empty`] when the list is empty. It is [`IdsError::Twice`] when it names an id twice. It
    /// is [`IdsError::OutOfRange`] when the scale does not have an id.
    pub fn list(scale: Scale, ids: &[u32]) -> Result<Self, IdsError> {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        let mut set = Self { scale, runs: Vec::new(), len: 0 };
        for id in sorted {
            if id >= scale.slaves() {
                return Err(IdsError::OutOfRange { id: u64::from(id), slaves: scale.slaves() });
            }
            match set.runs.last_mut() {
                Some(run) if id < run.first + run.count => return Err(IdsError::Twice(id)),
                Some(run) if id == run.first + run.count => run.count += 1,
                _ => set.runs.push(Run { first: id, count: 1, base: set.len }),
            }
            set.len += 1;
        }
        if set.len == 0 { Err(IdsError::Empty) } else { Ok(set) }
    }

    /// The scale that the ids are valid for.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// How many ids there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Never true: a set has at least one id.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of an id, or `None` if it is not in this set.
    #[inline]
    pub fn index(&self, id: u32) -> Option<u32> {
        let at = match self.runs.len() {
            1 => 0,
            _ => self.runs.partition_point(|run| run.first <= id).checked_sub(1)?,
        };
        let run = self.runs.get(at)?;
        let offset = id.checked_sub(run.first)?;
        (offset < run.count).then_some(run.base + offset)
    }

    /// The id with this number.
    #[inline]
    pub fn id(&self, index: u32) -> Option<SlaveId> {
        let at = match self.runs.len() {
            1 => 0,
            _ => self.runs.partition_point(|run| run.base <= index).checked_sub(1)?,
        };
        let run = self.runs.get(at)?;
        let offset = index.checked_sub(run.base)?;
        if offset < run.count { self.scale.slave_id(run.first + offset) } else { None }
    }

    /// All ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SlaveId> + '_ {
        self.runs.iter().flat_map(|run| run.first..run.first + run.count).filter_map(|id| self.scale.slave_id(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_numbered_from_zero() {
        let ids = Ids::range(Scale::default(), 100, 3).unwrap();
        assert_eq!((ids.index(99), ids.index(100), ids.index(102), ids.index(103)), (None, Some(0), Some(2), None));
        assert_eq!((ids.id(2).unwrap().get(), ids.id(3)), (102, None));
    }

    #[test]
    fn what_is_no_set_is_explained() {
        let scale = Scale::default();
        assert_eq!(Ids::range(scale, 0, 0), Err(IdsError::Empty));
        assert_eq!(Ids::list(scale, &[]), Err(IdsError::Empty));
        assert_eq!(Ids::list(scale, &[3, 1, 3]), Err(IdsError::Twice(3)));
        assert!(Ids::range(scale, 0, 131_072).is_ok());
        let error = Ids::range(scale, 1, 131_072).unwrap_err().to_string();
        assert_eq!(
            error,
            "slave id 131072 does not exist: at this scale the slave ids are 0 to 131071; lower the id or the count"
        );
        assert!(Ids::range(scale, u32::MAX, u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn numbers_are_dense_and_reversible(ids in proptest::collection::btree_set(0u32..300, 1..100)) {
            let list: Vec<u32> = ids.iter().rev().copied().collect();
            let set = Ids::list(Scale::default(), &list).unwrap();
            prop_assert_eq!(set.iter().map(SlaveId::get).collect::<Vec<_>>(), ids.iter().copied().collect::<Vec<_>>());
            for id in 0..300 {
                let expected = ids.iter().position(|&other| other == id).map(|at| at as u32);
                prop_assert_eq!(set.index(id), expected);
            }
            for index in 0..set.len() {
                prop_assert_eq!(set.index(set.id(index).unwrap().get()), Some(index));
            }
            prop_assert_eq!(set.id(set.len()), None);
        }
    }
}
