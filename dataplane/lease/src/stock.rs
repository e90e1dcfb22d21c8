//! Which units of a slave are free, dirty or leased.

/// The state of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
enum Unit {
    /// Nobody has it, and its bytes are zero.
    Free,
    /// Nobody has it, and it has the bytes of the lease that had it.
    Dirty,
    /// It is in a lease.
    Leased,
}

/// All units of a slave. Always `units = free + dirty + leased`.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Stock {
    units: Box<[Unit]>,
    /// The free units; the last one is granted next. It never grows beyond the number of units.
    free: Vec<u32>,
    dirty: u32,
}

impl Stock {
    /// So many free units.
    pub(crate) fn new(units: u32) -> Self {
        Self { units: vec![Unit::Free; units as usize].into(), free: (0..units).rev().collect(), dirty: 0 }
    }

    pub(crate) fn units(&self) -> u32 {
        // As many as `new` got.
        self.units.len() as u32
    }

    pub(crate) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    pub(crate) fn dirty(&self) -> u32 {
        self.dirty
    }

    pub(crate) fn leased(&self) -> u32 {
        self.units() - self.free() - self.dirty
    }

    /// Takes a free unit for a lease.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let unit = self.free.pop()?;
        if let Some(state) = self.units.get_mut(unit as usize) {
            *state = Unit::Leased;
        }
        Some(unit)
    }

    /// A unit leaves its lease, and must be scrubbed.
    pub(crate) fn release(&mut self, unit: u32) {
        match self.units.get_mut(unit as usize) {
            Some(state @ Unit::Leased) => {
                *state = Unit::Dirty;
                self.dirty += 1;
            }
            _ => frame::never!("a unit is released that is in no lease"),
        }
    }

    /// A dirty unit was scrubbed. Returns whether it was dirty.
    pub(crate) fn scrubbed(&mut self, unit: u32) -> bool {
        let Some(state @ Unit::Dirty) = self.units.get_mut(unit as usize) else { return false };
        *state = Unit::Free;
        self.dirty -= 1;
        self.free.push(unit);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_scrubbed_between_two_leases() {
        let mut stock = Stock::new(2);
        assert_eq!((stock.take(), stock.take(), stock.take()), (Some(0), Some(1), None));
        stock.release(0);
        assert_eq!((stock.free(), stock.dirty(), stock.leased(), stock.take()), (0, 1, 1, None));
        assert!(stock.scrubbed(0) && !stock.scrubbed(0) && !stock.scrubbed(1) && !stock.scrubbed(9));
        assert_eq!((stock.free(), stock.dirty(), stock.leased(), stock.take()), (1, 0, 1, Some(0)));
    }

    #[test]
    #[should_panic(expected = "a unit is released that is in no lease")]
    fn a_unit_is_released_once() {
        let mut stock = Stock::new(1);
        let unit = stock.take().unwrap();
        stock.release(unit);
        stock.release(unit);
    }
}
