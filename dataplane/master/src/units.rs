//! The units that one slave lends, and the extents in them.
//!
//! A unit belongs to the client that has its first extent, until no extent is left in it. So no client ever reads what
//! another one wrote: an empty unit that was used goes back to the slave, which scrubs it.

use crate::request::EXTENTS_PER_UNIT;
use wire::lease::UnitSet;

/// A unit that no client has had.
const NOBODY: u16 = u16::MAX;

/// A unit of a client that was removed. No client has this number as its place: see
/// [`Clients::new`](crate::clients::Clients::new).
const GONE: u16 = u16::MAX - 1;

/// One unit: 32 places for extents.
#[derive(Debug)]
struct Unit {
    /// Whose extents it has, or had: the place of a client.
    client: u16,
    /// Bit `i`: place `i` has an extent.
    used: u32,
    /// Which extents, by place.
    extents: [u32; EXTENTS_PER_UNIT as usize],
    /// It must go back to the slave.
    is_recalled: bool,
}

impl Unit {
    const FRESH: Self = Self { client: NOBODY, used: 0, extents: [0; EXTENTS_PER_UNIT as usize], is_recalled: false };

    fn extents(&self) -> impl Iterator<Item = u32> + '_ {
        self.extents.iter().enumerate().filter(|(slot, _)| self.used & 1 << slot != 0).map(|(_, extent)| *extent)
    }
}

/// The units of one slave, by index. Always `32 * held = free + used`.
#[derive(Debug, Default)]
pub(crate) struct Units {
    list: Vec<Option<Box<Unit>>>,
    held: u32,
    used: u32,
}

/// A place in a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) unit: u16,
    pub(crate) slot: u8,
}

impl Units {
    /// How many there are.
    pub(crate) fn held(&self) -> u32 {
        self.held
    }

    /// How many extents are in them.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Places without an extent.
    pub(crate) fn free(&self) -> u32 {
        self.held * EXTENTS_PER_UNIT - self.used
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (u16, &Unit)> + '_ {
        // A lease has 4,096 units at most.
        self.list.iter().enumerate().filter_map(|(index, unit)| Some((index as u16, unit.as_deref()?)))
    }

    fn unit_mut(&mut self, index: u16) -> Option<&mut Unit> {
        self.list.get_mut(usize::from(index))?.as_deref_mut()
    }

    /// The slave lends these units, too. Their bytes are zero.
    pub(crate) fn gain(&mut self, units: &UnitSet) {
        for index in units.iter() {
            let place = usize::from(index);
            if self.list.len() <= place {
                self.list.resize_with(place + 1, || None);
            }
            if let Some(unit @ None) = self.list.get_mut(place) {
                *unit = Some(Box::new(Unit::FRESH));
                self.held += 1;
            } else {
                frame::never!("a unit is gained that is held");
            }
        }
    }

    /// A unit is not the master's any more. `lost` gets its extents.
    pub(crate) fn lose(&mut self, index: u16, lost: impl FnMut(u32)) {
        let Some(unit) = self.list.get_mut(usize::from(index)).and_then(Option::take) else { return };
        (self.held, self.used) = (self.held - 1, self.used - unit.used.count_ones());
        unit.extents().for_each(lost);
    }

    /// All units are lost.
    pub(crate) fn lose_all(&mut self, mut lost: impl FnMut(u32)) {
        for index in 0..self.list.len() {
            self.lose(index as u16, &mut lost);
        }
    }

    /// A place for an extent of a client: in a unit of its own, or in one that nobody had.
    pub(crate) fn take(&mut self, client: u16, extent: u32) -> Option<Slot> {
        let fits = |unit: &Unit, of: u16| unit.client == of && !unit.is_recalled && unit.used != u32::MAX;
        let found = |of| self.iter().find(|(_, unit)| fits(unit, of)).map(|(index, _)| index);
        let index = found(client).or_else(|| found(NOBODY))?;
        let unit = self.unit_mut(index)?;
        let slot = unit.used.trailing_ones() as u8;
        unit.client = client;
        unit.used |= 1 << slot;
        if let Some(place) = unit.extents.get_mut(usize::from(slot)) {
            *place = extent;
        }
        self.used += 1;
        Some(Slot { unit: index, slot })
    }

    /// How many more extents of a client have a place, or can have one when empty units of others went back.
    pub(crate) fn room_for(&self, client: u16) -> u32 {
        let is_usable = |unit: &Unit| !unit.is_recalled && (unit.client == client || unit.used == 0);
        let usable = self.iter().filter(|(_, unit)| is_usable(unit));
        usable.map(|(_, unit)| unit.used.count_zeros()).sum()
    }

    /// The extent at a place.
    pub(crate) fn at(&self, at: Slot) -> Option<u32> {
        let unit = self.list.get(usize::from(at.unit))?.as_deref()?;
        let is_used = unit.used & 1 << at.slot != 0;
        unit.extents.get(usize::from(at.slot)).copied().filter(|_| is_used)
    }

    /// An extent leaves its place.
    pub(crate) fn give_back(&mut self, at: Slot) {
        let Some(unit) = self.unit_mut(at.unit) else {
            return frame::never!("an extent is in a unit that is not held");
        };
        if unit.used & 1 << at.slot == 0 {
            return frame::never!("an extent leaves a place that is free");
        }
        unit.used &= !(1 << at.slot);
        self.used -= 1;
    }

    /// The units that the slave is to get back: recalled ones without extents, and empty ones that a client had. `keep`
    /// says of which clients one empty unit is kept.
    pub(crate) fn surplus(&self, keep: impl Fn(u16) -> bool) -> UnitSet {
        let mut kept = Vec::new();
        let mut is_surplus = |unit: &Unit| {
            if unit.used != 0 || unit.client == NOBODY && !unit.is_recalled {
                return false;
            }
            let is_kept = !unit.is_recalled && keep(unit.client) && !kept.contains(&unit.client);
            if is_kept {
                kept.push(unit.client);
            }
            !is_kept
        };
        self.iter().filter(|(_, unit)| is_surplus(unit)).map(|(index, _)| index).collect()
    }

    /// A client was removed: its units go back to the slave, though another client gets its place meanwhile.
    pub(crate) fn forsake(&mut self, client: u16) {
        for unit in self.list.iter_mut().flatten().filter(|unit| unit.client == client) {
            if unit.used != 0 {
                frame::never!("a client was removed that has extents");
            }
            unit.client = GONE;
        }
    }

    /// Units that nobody had.
    pub(crate) fn fresh(&self) -> UnitSet {
        self.iter().filter(|(_, unit)| unit.client == NOBODY).map(|(index, _)| index).collect()
    }

    /// The slave wants so many units back. Empty ones are marked first; then those that the slave will take by force:
    /// the highest indexes. `news` gets the extents of units that were not recalled before. 0 takes the marks off.
    pub(crate) fn recall(&mut self, count: u32, mut news: impl FnMut(u32)) {
        let empty: Vec<u16> = self.iter().rev().filter(|(_, unit)| unit.used == 0).map(|(index, _)| index).collect();
        let full = self.iter().rev().filter(|(_, unit)| unit.used != 0).map(|(index, _)| index);
        let chosen: UnitSet = empty.into_iter().chain(full).take(count as usize).collect();
        for (index, unit) in self.list.iter_mut().enumerate() {
            let Some(unit) = unit else { continue };
            let was = std::mem::replace(&mut unit.is_recalled, chosen.contains(index as u16));
            if unit.is_recalled && !was {
                unit.extents().for_each(&mut news);
            }
        }
    }

    /// The indexes that are held.
    pub(crate) fn indexes(&self) -> UnitSet {
        self.iter().map(|(index, _)| index).collect()
    }

    /// Counts again what the sums say.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (held, used) =
            self.iter().fold((0, 0), |(held, used), (_, unit)| (held + 1, used + unit.used.count_ones()));
        let free: u32 = self.iter().map(|(_, unit)| unit.used.count_zeros()).sum();
        let (sums, counts) = ((self.held, self.used, self.free()), (held, used, free));
        if sums == counts {
            Ok(())
        } else {
            Err(format!("units held, used, free: {sums:?} in sums, {counts:?} in fact"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn set(indexes: impl IntoIterator<Item = u16>) -> UnitSet {
        indexes.into_iter().collect()
    }

    #[test]
    fn a_unit_has_extents_of_one_client_until_it_is_given_back() {
        let mut units = Units::default();
        units.gain(&set([0, 3]));
        let first = units.take(7, 100).unwrap();
        assert_eq!(first, Slot { unit: 0, slot: 0 });
        assert_eq!(units.take(8, 101), Some(Slot { unit: 3, slot: 0 }));
        assert_eq!((units.take(9, 102), units.free(), units.used()), (None, 62, 2));
        assert_eq!([7, 8, 9].map(|client| units.room_for(client)), [31, 31, 0]);
        units.give_back(first);
        assert_eq!([7, 8, 9].map(|client| units.room_for(client)), [32, 63, 32], "an empty unit can go back first");
        assert_eq!(units.take(9, 102), None, "client 9 must not read what client 7 wrote");
        assert_eq!(units.surplus(|_| false), set([0]));
        assert_eq!(units.surplus(|client| client == 7), set([]), "one empty unit of a client is kept");
        assert_eq!(units.take(7, 103), Some(Slot { unit: 0, slot: 0 }));
        units.check().unwrap();
    }

    #[test]
    fn a_recall_takes_empty_units_first_and_then_those_that_the_slave_would_take() {
        let mut units = Units::default();
        units.gain(&set(0..4));
        (0..32).for_each(|extent| assert_eq!(units.take(1, extent).unwrap().unit, 0));
        assert_eq!(units.take(1, 32).unwrap().unit, 1);
        assert_eq!(units.take(2, 33).unwrap().unit, 2);
        let mut news = Vec::new();
        units.recall(2, |extent| news.push(extent));
        assert_eq!((news.as_slice(), units.surplus(|_| true)), (&[33][..], set([3])));
        units.recall(2, |extent| panic!("extent {extent} is told twice"));
        assert_eq!(units.take(2, 34), None, "nothing is put into a unit that is recalled");
        units.lose(3, |_| panic!("it is empty"));
        units.give_back(Slot { unit: 2, slot: 0 });
        assert_eq!(units.surplus(|_| true), set([2]));
        units.recall(0, |_| panic!("no recall"));
        assert_eq!(units.surplus(|_| true), set([]));
    }

    #[test]
    fn what_a_removed_client_had_is_for_nobody() {
        let mut units = Units::default();
        units.gain(&set([0]));
        let slot = units.take(7, 100).unwrap();
        units.give_back(slot);
        units.forsake(7);
        assert_eq!(units.take(7, 101), None, "the next client of the place must not read what the last one wrote");
        assert_eq!((units.surplus(|client| client == 7), units.fresh(), units.room_for(7)), (set([0]), set([]), 32));
    }

    proptest! {
        /// Whatever comes and goes, every extent is in one place, no unit has two clients, and the sums are right.
        #[test]
        fn the_books_are_exact(steps in proptest::collection::vec((0u8..6, 0u16..6, 0u16..3), 1..400)) {
            let mut units = Units::default();
            let (mut places, mut next) = (BTreeMap::<u32, (Slot, u16)>::new(), 0);
            let mut owners = BTreeMap::<u16, u16>::new();
            for (what, index, client) in steps {
                match what {
                    0 => units.gain(&set([index]).without(&units.indexes())),
                    1 => units.lose(index, |extent| { places.remove(&extent); }),
                    2 | 3 => if let Some(slot) = units.take(client, next) {
                        prop_assert!(places.values().all(|(taken, _)| *taken != slot));
                        prop_assert!(places.values().all(|(taken, of)| taken.unit != slot.unit || *of == client));
                        places.insert(next, (slot, client));
                        next += 1;
                    },
                    4 => if let Some((&extent, &(slot, _))) = places.iter().nth(usize::from(index)) {
                        units.give_back(slot);
                        places.remove(&extent);
                    },
                    _ => units.recall(index.into(), |_| ()),
                }
                units.check().unwrap();
                prop_assert_eq!(units.used() as usize, places.len());
                owners.retain(|unit, _| units.indexes().contains(*unit));
                for (slot, client) in places.values() {
                    prop_assert_eq!(*owners.entry(slot.unit).or_insert(*client), *client);
                }
            }
        }
    }
}
