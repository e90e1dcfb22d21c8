//! The memory of one lease: which unit each of its indexes has.

use frame::{UNIT, UnitMemory};
use std::sync::Arc;
use transport::{Memory, MemoryError};
use wire::lease::UNIT_SHIFT;

/// An index without a unit.
const EMPTY: u32 = u32::MAX;

const _: () = assert!(UNIT == 1 << UNIT_SHIFT, "frame and wire mean the same unit");

/// The units of one session of a lease. The address of a byte is `index << 26 | offset`. An index without a unit is an
/// error, and never zeros: a master would take them for what it wrote.
pub(crate) struct LeaseMemory {
    memory: Arc<UnitMemory>,
    units: Box<[u32]>,
}

impl LeaseMemory {
    /// A memory with so many indexes, all without a unit.
    pub(crate) fn new(memory: Arc<UnitMemory>, indexes: usize) -> Self {
        Self { memory, units: vec![EMPTY; indexes].into() }
    }

    /// Puts a unit into an index, or takes out the one that is there.
    pub(crate) fn set(&mut self, index: u16, unit: Option<u32>) {
        match self.units.get_mut(usize::from(index)) {
            Some(place) => *place = unit.unwrap_or(EMPTY),
            None => frame::never!("a lease has a unit at an index that its region does not have"),
        }
    }

    /// The unit of the byte at `offset`, its place there, and how many of `len` bytes are in that unit.
    #[inline]
    fn piece(&self, offset: u64, len: usize) -> Result<(u32, usize, usize), MemoryError> {
        let index = usize::try_from(offset >> UNIT_SHIFT).map_err(|_| MemoryError)?;
        let unit = self.units.get(index).copied().filter(|&unit| unit != EMPTY).ok_or(MemoryError)?;
        // Below 2^26.
        let at = (offset & (UNIT as u64 - 1)) as usize;
        Ok((unit, at, len.min(UNIT - at)))
    }
}

/// An access to the memory succeeded, or did not.
fn done(is_done: bool) -> Result<(), MemoryError> {
    if is_done { Ok(()) } else { Err(MemoryError) }
}

impl Memory for LeaseMemory {
    fn len(&self) -> u64 {
        (self.units.len() as u64) << UNIT_SHIFT
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let (mut offset, mut rest) = (offset, out);
        while !rest.is_empty() {
            let (unit, at, len) = self.piece(offset, rest.len())?;
            let (here, after) = rest.split_at_mut(len);
            done(self.memory.read(unit, at, here))?;
            (offset, rest) = (offset + len as u64, after);
        }
        Ok(())
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        let (mut offset, mut crc, mut rest) = (offset, crc, out);
        while !rest.is_empty() {
            let (unit, at, len) = self.piece(offset, rest.len())?;
            let (here, after) = rest.split_at_mut(len);
            crc = self.memory.read_with_crc(unit, at, crc, here).ok_or(MemoryError)?;
            (offset, rest) = (offset + len as u64, after);
        }
        Ok(crc)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let (unit, at, len) = self.piece(offset, bytes.len())?;
        if len == bytes.len() {
            return done(self.memory.write(unit, at, bytes));
        }
        // A packet is shorter than a unit, so there are two pieces. Both units must be there before a byte is written.
        let (here, after) = bytes.split_at(len);
        let (next, start, rest) = self.piece(offset + len as u64, after.len())?;
        done(rest == after.len() && self.memory.write(unit, at, here) && self.memory.write(next, start, after))
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        if let Ok((unit, at, len)) = self.piece(offset, len) {
            self.memory.prefetch(unit, at, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Hugepages;

    const AT: u64 = UNIT as u64;

    /// Indexes 0 and 1 have the units 2 and 0, index 3 has unit 1, and index 2 none.
    fn memory() -> LeaseMemory {
        let units = Arc::new(UnitMemory::new(3, Hugepages::Never, None).unwrap());
        let mut memory = LeaseMemory::new(units, 4);
        memory.set(0, Some(2));
        memory.set(1, Some(0));
        memory.set(3, Some(1));
        memory
    }

    #[test]
    fn an_index_is_a_unit_and_an_access_may_cross_into_the_next() {
        let mut memory = memory();
        assert_eq!(memory.len(), 4 * AT);
        assert_eq!(memory.write_at(AT - 3, b"abcdef"), Ok(()));
        let mut out = [0; 8];
        assert_eq!(memory.read_at(AT - 4, &mut out), Ok(()));
        assert_eq!(&out, b"\0abcdef\0");
        assert_eq!(memory.read_with_crc(AT - 3, 0, &mut out[..6]), Ok(wire::rc::icrc::extend(0, b"abcdef")));
        let mut unit = [0; 3];
        assert!(memory.memory.read(2, UNIT - 3, &mut unit) && &unit == b"abc");
        assert!(memory.memory.read(0, 0, &mut unit) && &unit == b"def");
        memory.prefetch(AT - 3, 6);
    }

    #[test]
    fn an_empty_index_is_an_error_and_nothing_of_such_a_write_is_done() {
        let mut memory = memory();
        let mut out = [7; 8];
        for offset in [2 * AT, 2 * AT - 4, 3 * AT - 8, 4 * AT, 4 * AT - 4, u64::MAX - 8] {
            assert_eq!(memory.read_at(offset, &mut out), Err(MemoryError), "{offset}");
            assert_eq!(memory.read_with_crc(offset, 0, &mut out), Err(MemoryError), "{offset}");
            assert_eq!(memory.write_at(offset, b"12345678"), Err(MemoryError), "{offset}");
        }
        assert_eq!(memory.read_at(2 * AT - 4, &mut out[..4]), Ok(()));
        assert_eq!(out[..4], [0; 4], "the first half was not written");
        memory.prefetch(2 * AT, 4096);
        // A unit that is taken out is gone at once.
        assert_eq!(memory.read_at(0, &mut out), Ok(()));
        memory.set(0, None);
        assert_eq!(memory.read_at(0, &mut out), Err(MemoryError));
    }
}
