//! Which frame an address in the UMEM belongs to: without a division, because this is computed for every packet.

/// The largest chunk that the kernel accepts, in bytes: a page.
const PAGE: u32 = 4096;

/// Whether packets come and go in several descriptors if frames have `chunk` bytes.
pub fn has_chains(chunk: u32) -> bool {
    chunk > PAGE
}

/// How the frames of a pool lie in the UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Bytes of a frame.
    chunk: u64,
    /// The binary logarithm of the size of a kernel chunk.
    shift: u32,
    /// 2^63 divided by the kernel's chunks in a frame, rounded up.
    reciprocal: u64,
}

impl Places {
    /// For frames of `chunk` bytes; `None` if the kernel does not support them.
    pub(super) fn of(chunk: u32) -> Option<Self> {
        let unit = chunk.min(PAGE);
        let fits = unit.is_power_of_two() && unit >= 2048 && chunk.is_multiple_of(unit) && chunk / unit <= 16;
        let reciprocal = (1u64 << 63).div_ceil(u64::from(chunk / unit.max(1)).max(1));
        fits.then_some(Self { chunk: u64::from(chunk), shift: unit.trailing_zeros(), reciprocal })
    }

    /// Bytes of a kernel chunk.
    #[inline]
    pub(super) fn unit(self) -> u32 {
        1 << self.shift
    }

    /// Whether a frame has several of them.
    #[inline]
    pub(super) fn has_chains(self) -> bool {
        self.chunk > u64::from(self.unit())
    }

    /// Where a frame begins.
    #[inline]
    pub(super) fn start(self, index: u32) -> u64 {
        u64::from(index) * self.chunk
    }

    /// The frame that has the byte at `address`, and the offset in it. If there is no frame, the result is a
    /// meaningless number.
    #[inline]
    pub(super) fn find(self, address: u64) -> (u64, u64) {
        // Exact for every address: rounding adds less than 16 for each unit, and there are fewer than 2^53 units.
        let index = ((u128::from(address >> self.shift) * u128::from(self.reciprocal)) >> 63) as u64;
        (index, address.wrapping_sub(index.wrapping_mul(self.chunk)))
    }

    /// The most bytes in one descriptor that begins at `address`: up to the end of the kernel chunk.
    #[inline]
    pub(super) fn room(self, address: u64) -> u32 {
        let unit = self.unit();
        unit - (address as u32 & (unit - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_takes_chunks_of_2048_bytes_and_pages() {
        let units = [2048, 4096, 8192, 12_288, 32_768].map(|chunk| Places::of(chunk).unwrap().unit());
        assert_eq!(units, [2048, 4096, 4096, 4096, 4096]);
        assert!([0, 64, 1024, 2112, 3072, 6144, 9280].into_iter().all(|chunk| Places::of(chunk).is_none()));
        let chains = [2048, 4096, 8192].map(|chunk| Places::of(chunk).unwrap().has_chains());
        assert_eq!(chains, [false, false, true]);
    }

    #[test]
    fn a_descriptor_ends_with_its_page() {
        let places = Places::of(12_288).unwrap();
        for (address, room) in [(0, 4096), (1, 4095), (4095, 1), (12_288 + 320, 3776), (8192, 4096)] {
            assert_eq!(places.room(address), room, "{address}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_found_as_a_division_finds_it(
            chunk in proptest::sample::select(vec![2048u32, 4096, 8192, 12_288, 16_384, 20_480, 24_576, 28_672,
                32_768]),
            index in prop_oneof![any::<u32>().prop_map(|index| index >> 4), 0..100_000u32],
            offset in any::<u32>(),
        ) {
            let places = Places::of(chunk).unwrap();
            let offset = u64::from(offset % chunk);
            prop_assert_eq!(places.find(places.start(index) + offset), (u64::from(index), offset));
        }

        #[test]
        fn no_address_is_too_large(address in any::<u64>()) {
            let (index, offset) = Places::of(12_288).unwrap().find(address);
            prop_assert!(address < 1 << 40 || index > 0 || offset > 0);
        }
    }
}
