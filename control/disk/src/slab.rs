//! Values by numbers that are never given out twice.

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps a value, and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let Some((turn, slot)) = self.places.get_mut(place as usize) else { return u64::MAX };
        *turn = turn.wrapping_add(1);
        *slot = Some(value);
        u64::from(place) | u64::from(*turn) << 32
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (turn, slot) = self.places.get_mut(number as u32 as usize)?;
        slot.as_mut().filter(|_| *turn == (number >> 32) as u32)
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let (turn, slot) = self.places.get_mut(number as u32 as usize)?;
        let value = slot.take_if(|_| *turn == (number >> 32) as u32)?;
        self.free.push(number as u32);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The numbers of all values.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let here = self.places.iter().enumerate().filter(|(_, (_, slot))| slot.is_some());
        here.map(|(place, (turn, _))| place as u64 | u64::from(*turn) << 32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_out_once() {
        let mut slab = Slab::default();
        let (one, two) = (slab.insert("one"), slab.insert("two"));
        assert_eq!((slab.remove(one), slab.remove(one), slab.len()), (Some("one"), None, 1));
        let three = slab.insert("three");
        assert!(three != one && slab.get_mut(one).is_none());
        assert_eq!(slab.get_mut(three), Some(&mut "three"));
        assert_eq!(slab.numbers(), [three, two]);
    }
}
