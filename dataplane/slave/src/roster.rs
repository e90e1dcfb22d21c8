//! All slaves of a farm: the ids of all groups, numbered consecutively.

use crate::ids::Ids;
use wire::{Scale, SlaveId};

/// The ids of several groups; a slave's number is its number in its group, after all slaves of the groups before.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    scale: Scale,
    groups: Vec<(u32, Ids)>,
    len: u32,
}

impl Roster {
    /// The error is an id that is in two groups.
    pub(crate) fn new(scale: Scale, sets: Vec<Ids>) -> Result<Self, u32> {
        let mut roster = Self { scale, groups: Vec::with_capacity(sets.len()), len: 0 };
        for ids in sets {
            if let Some(twice) = ids.iter().find(|id| roster.index(id.get()).is_some()) {
                return Err(twice.get());
            }
            let base = roster.len;
            roster.len += ids.len();
            roster.groups.push((base, ids));
        }
        Ok(roster)
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The number of an id.
    #[inline]
    pub(crate) fn index(&self, id: u32) -> Option<u32> {
        self.groups.iter().find_map(|(base, ids)| ids.index(id).map(|local| base + local))
    }

    /// The group of a number, and the number in that group.
    #[inline]
    pub(crate) fn group(&self, index: u32) -> Option<(usize, u32)> {
        let at = self.groups.partition_point(|&(base, _)| base <= index).checked_sub(1)?;
        let (base, ids) = self.groups.get(at)?;
        let local = index - base;
        (local < ids.len()).then_some((at, local))
    }

    /// The id with this number.
    #[inline]
    pub(crate) fn id(&self, index: u32) -> Option<SlaveId> {
        let (group, local) = self.group(index)?;
        self.groups.get(group)?.1.id(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_numbered_one_after_the_other() {
        let scale = Scale::default();
        let sets = vec![Ids::range(scale, 100, 3).unwrap(), Ids::list(scale, &[7, 5]).unwrap()];
        let roster = Roster::new(scale, sets).unwrap();
        let expected = [(100, 0, 0), (101, 0, 1), (102, 0, 2), (5, 1, 0), (7, 1, 1)];
        for (index, (id, group, local)) in expected.into_iter().enumerate() {
            let index = index as u32;
            assert_eq!((roster.index(id), roster.group(index)), (Some(index), Some((group, local))));
            assert_eq!(roster.id(index).unwrap().get(), id);
        }
        assert_eq!((roster.len(), roster.id(5), roster.group(5), roster.index(6)), (5, None, None, None));
    }

    #[test]
    fn an_id_behind_two_gateways_is_named() {
        let scale = Scale::default();
        let sets = vec![Ids::range(scale, 0, 10).unwrap(), Ids::range(scale, 9, 10).unwrap()];
        assert_eq!(Roster::new(scale, sets).unwrap_err(), 9);
    }
}
