//! Memory regions: a key, bounds, permissions, and the memory behind them.

use crate::Error;
use wire::rc::NakCode;

/// The memory behind a region. All accesses were checked against its bounds before.
///
/// Offsets are bytes from the region's start.
pub trait Memory {
    /// Its length in bytes; a region is never longer.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The bytes cannot be read. Then a remote READ ends in a remote operational error, and nothing of `out` is sent.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError>;

    /// The same for bytes of a packet: `crc` is the CRC of what comes before them, and the result that of both. The
    /// default reads the bytes, and then computes the CRC of what was read.
    ///
    /// # Errors
    /// As for [`Memory::read_at`].
    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        self.read_at(offset, out)?;
        Ok(wire::rc::icrc::extend(crc, out))
    }

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// The bytes cannot be written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError>;

    /// Prefetches bytes from `offset` on that will probably be read or written soon. The default does nothing. A range
    /// outside the memory is ignored.
    fn prefetch(&self, offset: u64, len: usize) {
        let _ = (offset, len);
    }

    /// Replaces the little-endian word at `offset`, a multiple of 8, by the result of `change`, and returns the old
    /// word. If others change the memory at the same time, this must be atomic.
    ///
    /// # Errors
    /// The word cannot be read or written.
    fn update(&mut self, offset: u64, change: &dyn Fn(u64) -> u64) -> Result<u64, MemoryError> {
        let mut word = [0; 8];
        self.read_at(offset, &mut word)?;
        let before = u64::from_le_bytes(word);
        self.write_at(offset, &change(before).to_le_bytes())?;
        Ok(before)
    }
}

/// Memory could not be read or written: the range is outside of it, or the memory is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory behind a region could not be accessed")]
pub struct MemoryError;

/// The bytes of a range, if it is inside.
fn range(offset: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(len)?)
}

/// Some of the bytes, if they exist.
#[inline]
fn bytes(all: &[u8], offset: u64, len: usize) -> Result<&[u8], MemoryError> {
    range(offset, len).and_then(|range| all.get(range)).ok_or(MemoryError)
}

impl Memory for [u8] {
    #[inline]
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        out.copy_from_slice(bytes(self, offset, out.len())?);
        Ok(())
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        Ok(frame::crc::copy(crc, bytes(self, offset, out.len())?, out))
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let to = range(offset, bytes.len()).and_then(|range| self.get_mut(range)).ok_or(MemoryError)?;
        to.copy_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        // All lines at once are many: the first-level cache would be busy with them, and nothing else could miss it.
        if let Ok(bytes) = bytes(self, offset, len) {
            frame::copy::prefetch_far_lines(bytes.as_ptr(), bytes.len().div_ceil(64));
        }
    }
}

impl Memory for Vec<u8> {
    #[inline]
    fn len(&self) -> u64 {
        Memory::len(self.as_slice())
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        self.as_slice().read_at(offset, out)
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        self.as_slice().read_with_crc(offset, crc, out)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.as_mut_slice().write_at(offset, bytes)
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        self.as_slice().prefetch(offset, len);
    }
}

impl Memory for frame::Guarded {
    #[inline]
    fn len(&self) -> u64 {
        Memory::len(&**self)
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read_at(offset, out)
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        (**self).read_with_crc(offset, crc, out)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        (**self).write_at(offset, bytes)
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        (**self).prefetch(offset, len);
    }
}

impl<T: Memory + ?Sized> Memory for Box<T> {
    #[inline]
    fn len(&self) -> u64 {
        (**self).len()
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read_at(offset, out)
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        (**self).read_with_crc(offset, crc, out)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        (**self).write_at(offset, bytes)
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        (**self).prefetch(offset, len);
    }

    #[inline]
    fn update(&mut self, offset: u64, change: &dyn Fn(u64) -> u64) -> Result<u64, MemoryError> {
        (**self).update(offset, change)
    }
}

/// What may be done with a region. Local reads are always allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Only local reads.
    pub const NONE: Self = Self(0);
    /// Receives, READ responses and answers of atomic operations may be put here.
    pub const LOCAL_WRITE: Self = Self(1);
    /// The peer may READ.
    pub const REMOTE_READ: Self = Self(2);
    /// The peer may WRITE.
    pub const REMOTE_WRITE: Self = Self(4);
    /// The peer may COMPARE&SWAP and FETCH&ADD.
    pub const REMOTE_ATOMIC: Self = Self(8);
    /// Everything.
    pub const ALL: Self = Self(15);

    /// The union of `self` and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is allowed.
    #[inline]
    pub const fn allows(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A memory region to be registered.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Region<M> {
    /// The virtual address of its first byte, as peers and work requests use it.
    pub base: u64,
    /// Bytes of it, at most those of the memory.
    pub len: u64,
    /// What may be done with it.
    pub access: Access,
    /// Its protection domain: only queue pairs of the same domain reach it.
    pub domain: u32,
    /// The memory.
    pub memory: M,
}

/// Why an access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No such key, another domain, out of bounds, not permitted.
    Access,
    /// The memory failed.
    Memory,
}

impl From<Refused> for NakCode {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Access => Self::RemoteAccess,
            Refused::Memory => Self::RemoteOperation,
        }
    }
}

impl From<MemoryError> for Refused {
    fn from(_: MemoryError) -> Self {
        Self::Memory
    }
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Slot<M> {
    key: u32,
    region: Option<Region<M>>,
}

/// All regions, by key. The low bits of a key are its place, all others are random.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Regions<M> {
    slots: Vec<Slot<M>>,
    mask: u32,
}

impl<M: Memory> Regions<M> {
    pub(crate) fn new(capacity: u32) -> Self {
        let mask = capacity.max(1).next_power_of_two() - 1;
        Self { slots: (0..capacity).map(|_| Slot { key: 0, region: None }).collect(), mask }
    }

    pub(crate) fn register(&mut self, random: u32, region: Region<M>) -> Result<u32, Error> {
        if region.len > region.memory.len() || region.base.checked_add(region.len).is_none() {
            return Err(Error::RegionBounds);
        }
        let place = self.slots.iter().position(|slot| slot.region.is_none()).ok_or(Error::NoRegion)?;
        let mut key = random & !self.mask | place as u32;
        let slot = self.slots.get_mut(place).ok_or(Error::NoRegion)?;
        if key == slot.key {
            // It must differ from the key that was valid here before.
            key ^= self.mask.wrapping_add(1);
        }
        *slot = Slot { key, region: Some(region) };
        Ok(key)
    }

    #[inline]
    fn slot(&self, key: u32) -> Option<&Slot<M>> {
        self.slots.get((key & self.mask) as usize).filter(|slot| slot.key == key)
    }

    #[inline]
    fn slot_mut(&mut self, key: u32) -> Option<&mut Slot<M>> {
        self.slots.get_mut((key & self.mask) as usize).filter(|slot| slot.key == key)
    }

    pub(crate) fn get(&self, key: u32) -> Option<&Region<M>> {
        self.slot(key)?.region.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut Region<M>> {
        self.slot_mut(key)?.region.as_mut()
    }

    pub(crate) fn deregister(&mut self, key: u32) -> Option<Region<M>> {
        self.slot_mut(key)?.region.take()
    }

    /// The offset of a range in its region, if the whole range exists and is permitted.
    #[inline]
    fn offset(region: &Region<M>, place: Place, len: u64, access: Access) -> Result<u64, Refused> {
        let offset = place.address.wrapping_sub(region.base);
        let inside = place.address >= region.base && offset <= region.len && len <= region.len - offset;
        if inside && region.domain == place.domain && region.access.allows(access) {
            Ok(offset)
        } else {
            Err(Refused::Access)
        }
    }

    /// Whether a range exists and is permitted.
    #[inline]
    pub(crate) fn check(&self, place: Place, len: u32, access: Access) -> Result<(), Refused> {
        let region = self.get(place.key).ok_or(Refused::Access)?;
        Self::offset(region, place, u64::from(len), access).map(|_| ())
    }

    /// Reads the payload of a packet, as [`Memory::read_with_crc`] does.
    #[inline]
    pub(crate) fn read(&self, place: Place, access: Access, crc: u32, out: &mut [u8]) -> Result<u32, Refused> {
        let region = self.get(place.key).ok_or(Refused::Access)?;
        let offset = Self::offset(region, place, out.len() as u64, access)?;
        Ok(region.memory.read_with_crc(offset, crc, out)?)
    }

    /// Prefetches a range that will probably be accessed soon. A range that does not exist or belongs to another domain
    /// is ignored.
    #[inline]
    pub(crate) fn prefetch(&self, place: Place, len: u32) {
        if let Some(region) = self.get(place.key)
            && let Ok(offset) = Self::offset(region, place, u64::from(len), Access::NONE)
        {
            region.memory.prefetch(offset, len as usize);
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, place: Place, access: Access, bytes: &[u8]) -> Result<(), Refused> {
        let region = self.get_mut(place.key).ok_or(Refused::Access)?;
        let offset = Self::offset(region, place, bytes.len() as u64, access)?;
        Ok(region.memory.write_at(offset, bytes)?)
    }

    pub(crate) fn update(&mut self, place: Place, change: &dyn Fn(u64) -> u64) -> Result<u64, Refused> {
        let region = self.get_mut(place.key).ok_or(Refused::Access)?;
        let offset = Self::offset(region, place, 8, Access::REMOTE_ATOMIC)?;
        Ok(region.memory.update(offset, change)?)
    }
}

/// Where an access begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) key: u32,
    pub(crate) domain: u32,
    pub(crate) address: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(base: u64, len: u64, access: Access) -> Region<Vec<u8>> {
        Region { base, len, access, domain: 7, memory: (0..len as u8).collect() }
    }

    #[test]
    fn only_what_is_inside_and_permitted_is_reached() {
        let mut regions = Regions::new(3);
        let key = regions.register(0xdead_beef, region(0x1000, 16, Access::REMOTE_READ)).unwrap();
        let at = |address| Place { key, domain: 7, address };
        let read = |regions: &Regions<Vec<u8>>, place, len: usize| {
            let mut out = vec![0; len];
            let crc = regions.read(place, Access::REMOTE_READ, 7, &mut out)?;
            assert_eq!(crc, wire::rc::icrc::extend(7, &out));
            Ok(out)
        };
        assert_eq!(read(&regions, at(0x1004), 3), Ok(vec![4, 5, 6]));
        assert_eq!(read(&regions, at(0x1010), 0), Ok(vec![]));
        for (address, len) in [(0xfff, 1), (0xfff, 2), (0x100f, 2), (0x1011, 0), (u64::MAX, 1), (u64::MAX, 17), (0, 0)]
        {
            assert_eq!(read(&regions, at(address), len), Err(Refused::Access), "{address:#x} + {len}");
        }
        assert_eq!(read(&regions, Place { domain: 8, ..at(0x1000) }, 1), Err(Refused::Access));
        for wrong in [key ^ 1, key ^ 0x8000_0000, 0] {
            assert_eq!(read(&regions, Place { key: wrong, ..at(0x1000) }, 1), Err(Refused::Access));
        }
        assert_eq!(regions.write(at(0x1000), Access::REMOTE_WRITE, b"x"), Err(Refused::Access));
        assert_eq!(regions.update(at(0x1000), &|x| x), Err(Refused::Access));
        assert!(regions.deregister(key).is_some() && regions.deregister(key).is_none());
        assert_eq!(read(&regions, at(0x1004), 3), Err(Refused::Access));
        let again = regions.register(0xdead_beef, region(0x1000, 16, Access::ALL)).unwrap();
        assert_ne!(again, key);
        assert_eq!(regions.update(Place { key: again, ..at(0x1008) }, &|x| x + 1), Ok(0x0f0e_0d0c_0b0a_0908));
        assert_eq!(read(&regions, Place { key: again, ..at(0x1008) }, 2), Ok(vec![9, 9]));
    }

    #[test]
    fn a_region_that_cannot_be_is_refused() {
        let mut regions = Regions::new(1);
        let wide = Region { len: 17, ..region(0, 16, Access::NONE) };
        assert_eq!(regions.register(0, wide), Err(Error::RegionBounds));
        assert_eq!(regions.register(0, region(u64::MAX - 3, 16, Access::NONE)), Err(Error::RegionBounds));
        assert!(regions.register(0, region(0, 16, Access::NONE)).is_ok());
        assert_eq!(regions.register(0, region(0, 16, Access::NONE)), Err(Error::NoRegion));
    }
}
