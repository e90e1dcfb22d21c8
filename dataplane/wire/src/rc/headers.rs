//! Extension headers of requests and atomic answers, big-endian.

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// RDMA Extended Transport Header: where a WRITE goes, or what a READ asks for.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | virtual address |
/// | 8 | 4 | rkey |
/// | 12 | 4 | length of the whole message |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Reth {
    address: U64,
    rkey: U32,
    len: U32,
}

impl Reth {
    /// A header with these values.
    #[inline]
    pub const fn new(address: u64, rkey: u32, len: u32) -> Self {
        Self { address: U64::new(address), rkey: U32::new(rkey), len: U32::new(len) }
    }

    /// The virtual address.
    #[inline]
    pub const fn address(&self) -> u64 {
        self.address.get()
    }

    /// The key of the memory region.
    #[inline]
    pub const fn rkey(&self) -> u32 {
        self.rkey.get()
    }

    /// Bytes of the whole message.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len.get()
    }

    /// Whether the message has no bytes.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Atomic Extended Transport Header.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | virtual address, a multiple of 8 |
/// | 8 | 4 | rkey |
/// | 12 | 8 | swap or add data |
/// | 20 | 8 | compare data; FETCH&ADD has none, and sends 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AtomicEth {
    address: U64,
    rkey: U32,
    swap_add: U64,
    compare: U64,
}

impl AtomicEth {
    /// A header with these values.
    #[inline]
    pub const fn new(address: u64, rkey: u32, swap_add: u64, compare: u64) -> Self {
        Self {
            address: U64::new(address),
            rkey: U32::new(rkey),
            swap_add: U64::new(swap_add),
            compare: U64::new(compare),
        }
    }

    /// The virtual address.
    #[inline]
    pub const fn address(&self) -> u64 {
        self.address.get()
    }

    /// The key of the memory region.
    #[inline]
    pub const fn rkey(&self) -> u32 {
        self.rkey.get()
    }

    /// The value that is swapped in, or added.
    #[inline]
    pub const fn swap_add(&self) -> u64 {
        self.swap_add.get()
    }

    /// The value that is compared with.
    #[inline]
    pub const fn compare(&self) -> u64 {
        self.compare.get()
    }
}

/// Atomic Acknowledge Extended Transport Header: the 8 bytes that were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AtomicAckEth(U64);

impl AtomicAckEth {
    /// A header with this value.
    #[inline]
    pub const fn new(original: u64) -> Self {
        Self(U64::new(original))
    }

    /// The value before the operation.
    #[inline]
    pub const fn original(&self) -> u64 {
        self.0.get()
    }
}

/// Immediate data: four bytes for the consumer, in the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ImmDt(U32);

impl ImmDt {
    /// Immediate data with this big-endian value.
    #[inline]
    pub const fn new(value: u32) -> Self {
        Self(U32::new(value))
    }

    /// The value, read as big-endian.
    #[inline]
    pub const fn value(&self) -> u32 {
        self.0.get()
    }
}

/// Invalidate Extended Transport Header: the rkey that the receiver is to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ieth(U32);

impl Ieth {
    /// A header with this key.
    #[inline]
    pub const fn new(rkey: u32) -> Self {
        Self(U32::new(rkey))
    }

    /// The key.
    #[inline]
    pub const fn rkey(&self) -> u32 {
        self.0.get()
    }
}

const _: () = assert!(size_of::<Reth>() == 16 && size_of::<AtomicEth>() == 28);
const _: () = assert!(size_of::<AtomicAckEth>() == 8 && size_of::<ImmDt>() == 4 && size_of::<Ieth>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_headers_are_made_and_read() {
        let reth = Reth::new(0x0102_0304_0506_0708, 0x1122_3344, 0x1000);
        assert_eq!(reth.as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44, 0, 0, 0x10, 0]);
        assert_eq!((reth.address(), reth.rkey(), reth.len()), (0x0102_0304_0506_0708, 0x1122_3344, 0x1000));
        assert!(!reth.is_empty() && Reth::new(0, 0, 0).is_empty());
        let atomic = AtomicEth::new(1, 2, 3, 4);
        let mut expected = [0; 28];
        (expected[7], expected[11], expected[19], expected[27]) = (1, 2, 3, 4);
        assert_eq!(atomic.as_bytes(), expected);
        assert_eq!((atomic.address(), atomic.rkey(), atomic.swap_add(), atomic.compare()), (1, 2, 3, 4));
        assert_eq!(AtomicAckEth::new(0x0a0b).as_bytes(), [0, 0, 0, 0, 0, 0, 0x0a, 0x0b]);
        assert_eq!(ImmDt::new(0x0a0b_0c0d).as_bytes(), [0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!((ImmDt::new(7).value(), Ieth::new(8).rkey(), AtomicAckEth::new(9).original()), (7, 8, 9));
    }
}
