//! The memory of regions.

use frame::Guarded;
use transport::{Memory, MemoryError};

/// The content of one of the endpoint's regions.
pub(crate) enum Bytes {
    /// A region that peers use.
    Lent(Guarded),
    /// A buffer that a job reads into or writes from.
    Own(Vec<u8>),
}

impl Bytes {
    #[inline]
    fn slice(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

impl Memory for Bytes {
    #[inline]
    fn len(&self) -> u64 {
        Memory::len(self.slice())
    }

    #[inline]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        self.slice().read_at(offset, out)
    }

    #[inline]
    fn read_with_crc(&self, offset: u64, crc: u32, out: &mut [u8]) -> Result<u32, MemoryError> {
        self.slice().read_with_crc(offset, crc, out)
    }

    #[inline]
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        match self {
            Self::Lent(memory) => memory.write_at(offset, bytes),
            Self::Own(memory) => memory.write_at(offset, bytes),
        }
    }

    #[inline]
    fn prefetch(&self, offset: u64, len: usize) {
        self.slice().prefetch(offset, len);
    }
}
