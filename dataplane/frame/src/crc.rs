//! Copies bytes and computes their CRC-32 in one pass over the cache lines.
//!
//! The CRC is the one of zlib, Ethernet and InfiniBand's ICRC, which `crc32fast` computes, too. The method is that of
//! Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009). The bytes
//! are a polynomial over GF(2), cut into stripes of four vectors. A stripe is folded into the next one: it is
//! multiplied by x to the number of bits of a stripe, modulo the polynomial of the CRC, and added. At the end one
//! stripe is left, which has the same CRC as all bytes; `crc32fast` computes that one.

use crc32fast::Hasher;

/// Copies `from` to `to`, and returns the CRC of all bytes so far: `crc` is that of the bytes before `from`, or 0.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn copy(crc: u32, from: &[u8], to: &mut [u8]) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(copy) = x86::fastest::<false>(from.len()) {
        assert_eq!(from.len(), to.len(), "a copy has the length of its source");
        // SAFETY: the processor has the instructions of the function that is given here, and the lengths are equal.
        return unsafe { copy(crc, from.as_ptr(), to) };
    }
    copy_first(crc, from, to)
}

/// The same of bytes that others may change meanwhile; the CRC is that of the bytes in `to`.
///
/// # Safety
/// As for [`crate::raw::load`].
#[inline]
pub(crate) unsafe fn copy_raw(crc: u32, from: *const u8, to: &mut [u8]) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(copy) = x86::fastest::<true>(to.len()) {
        // SAFETY: the processor has the instructions of the function that is given here; the rest is the caller's
        // promise.
        return unsafe { copy(crc, from, to) };
    }
    // SAFETY: the caller's promise.
    unsafe { crate::raw::load(from, to) };
    add(crc, to)
}

/// The same in two passes: for few bytes, and for processors without the instructions.
fn copy_first(crc: u32, from: &[u8], to: &mut [u8]) -> u32 {
    to.copy_from_slice(from);
    add(crc, to)
}

/// The CRC of the bytes before, and these.
fn add(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use crate::raw;
    use crc32fast::Hasher;
    use std::arch::x86_64::*;
    use std::convert::identity;

    /// As [`super::copy`], of at least one stripe, and of as many bytes as the last argument has.
    ///
    /// # Safety
    /// The processor has the instructions. So many bytes are readable, and nobody changes them meanwhile; the functions
    /// with `RAW` allow that.
    pub(super) type Copy = unsafe fn(u32, *const u8, &mut [u8]) -> u32;

    /// The fastest way for this many bytes on this processor, if it is faster than two passes. With `RAW`, others may
    /// change the bytes meanwhile.
    #[inline]
    pub(super) fn fastest<const RAW: bool>(len: usize) -> Option<Copy> {
        match len {
            512.. if wide::is_there() => Some(wide::copy::<RAW>),
            256.. if middle::is_there() => Some(middle::copy::<RAW>),
            128.. if narrow::is_there() => Some(narrow::copy::<RAW>),
            _ => None,
        }
    }

    /// x to this power, modulo the polynomial of the CRC, as a factor for the processor's multiplication. The lowest
    /// bit stands for the highest power here, and the product of two such numbers is one bit too low. So a factor is
    /// stored one bit higher.
    const fn power(exponent: u32) -> i64 {
        let mut rest = 1_u32 << 31;
        let mut at = 0;
        while at < exponent {
            rest = rest >> 1 ^ if rest & 1 == 1 { 0xedb8_8320 } else { 0 };
            at += 1;
        }
        (rest as i64) << 1
    }

    /// The copy with stripes of four vectors of one size.
    macro_rules! copy_by {
        ($(#[$doc:meta])* $name:ident: $stripe:literal bytes, $vector:ty, [$($feature:tt),+],
         $load:ident, $multiply:ident, $xor:ident, $widen:path, $repeat:path) => {
            $(#[$doc])*
            pub(super) mod $name {
                use super::*;

                type Bytes = [u8; $stripe];
                type Stripe = [$vector; 4];

                /// Whether this processor has the instructions.
                #[inline]
                pub(in super::super) fn is_there() -> bool {
                    $(is_x86_feature_detected!($feature))&&+
                }

                /// # Safety
                /// As for [`Copy`].
                pub(in super::super) unsafe fn copy<const RAW: bool>(crc: u32, from: *const u8, to: &mut [u8]) -> u32 {
                    let (to, to_rest) = to.as_chunks_mut();
                    // SAFETY: the caller's promise.
                    let folded = unsafe { fold::<RAW>(crc, from.cast(), to) };
                    // The register of the CRC went into the first stripe, and is 0 here.
                    let mut hasher = Hasher::new_with_initial(!0);
                    hasher.update(&folded);
                    if !to_rest.is_empty() {
                        // SAFETY: `from` has as many bytes as both parts of `to`.
                        unsafe {
                            let from = from.add(to.as_flattened().len());
                            if RAW {
                                raw::load(from, to_rest);
                            } else {
                                std::ptr::copy_nonoverlapping(from, to_rest.as_mut_ptr(), to_rest.len());
                            }
                        }
                        hasher.update(to_rest);
                    }
                    hasher.finalize()
                }

                /// Copies a stripe.
                ///
                /// # Safety
                /// It is readable; without `RAW` nobody changes it.
                #[inline]
                #[target_feature($(enable = $feature),+)]
                unsafe fn step<const RAW: bool>(from: *const Bytes, to: &mut Bytes) -> Stripe {
                    // SAFETY: the caller's promise. A vector and bytes may have any bits, and the compiler compares the
                    // sizes.
                    unsafe {
                        if RAW {
                            let vectors = from.cast::<$vector>();
                            let load = |at| raw::$load(vectors.add(at).cast());
                            let stripe = [load(0), load(1), load(2), load(3)];
                            *to = std::mem::transmute::<Stripe, Bytes>(stripe);
                            stripe
                        } else {
                            *to = *from;
                            std::mem::transmute::<Bytes, Stripe>(*from)
                        }
                    }
                }

                /// Copies stripes, and folds them into one.
                ///
                /// # Safety
                /// There is at least one, and as many stripes are readable at `from`; without `RAW` nobody changes
                /// them.
                #[target_feature($(enable = $feature),+)]
                unsafe fn fold<const RAW: bool>(crc: u32, from: *const Bytes, to: &mut [Bytes]) -> Bytes {
                    const BITS: u32 = $stripe * 8;
                    let Some((first_to, to)) = to.split_first_mut() else { unreachable!("there is a stripe") };
                    let factors = $repeat(_mm_set_epi64x(const { power(BITS - 32) }, const { power(BITS + 32) }));
                    // SAFETY: the caller's promise.
                    let mut folded = unsafe { step::<RAW>(from, first_to) };
                    folded[0] = $xor(folded[0], $widen(_mm_cvtsi32_si128(!crc as i32)));
                    for (at, to) in to.iter_mut().enumerate() {
                        // SAFETY: the same; this is the stripe after the first one.
                        let next = unsafe { step::<RAW>(from.add(at + 1), to) };
                        for (folded, next) in folded.iter_mut().zip(next) {
                            let low = $multiply::<0x00>(*folded, factors);
                            let high = $multiply::<0x11>(*folded, factors);
                            *folded = $xor($xor(low, high), next);
                        }
                    }
                    // SAFETY: bytes may have any bits, and the compiler compares the sizes.
                    unsafe { std::mem::transmute::<Stripe, Bytes>(folded) }
                }
            }
        };
    }

    copy_by!(
        /// Processors since 2010.
        narrow: 64 bytes, __m128i, ["pclmulqdq", "sse2"],
        load_16, _mm_clmulepi64_si128, _mm_xor_si128, identity, identity
    );
    copy_by!(
        /// Intel since 2019, AMD since 2020.
        middle: 128 bytes, __m256i, ["pclmulqdq", "vpclmulqdq", "avx2"],
        load_32, _mm256_clmulepi64_epi128, _mm256_xor_si256, _mm256_zextsi128_si256, _mm256_broadcastsi128_si256
    );
    copy_by!(
        /// Intel since 2019 where AVX-512 is on, AMD since 2022.
        wide: 256 bytes, __m512i, ["pclmulqdq", "vpclmulqdq", "avx512f"],
        load_64, _mm512_clmulepi64_epi128, _mm512_xor_si512, _mm512_zextsi128_si512, _mm512_broadcast_i32x4
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Guarded, Hugepages};
    use proptest::prelude::*;

    /// A way to copy, and the least number of bytes that it accepts.
    struct Way {
        name: &'static str,
        least: usize,
        copy: unsafe fn(u32, *const u8, &mut [u8]) -> u32,
    }

    impl Way {
        fn copy(&self, crc: u32, from: &[u8], to: &mut [u8]) -> u32 {
            assert!(from.len() >= self.least && from.len() == to.len());
            // SAFETY: `ways` has only what this processor can do, and the lengths are equal.
            unsafe { (self.copy)(crc, from.as_ptr(), to) }
        }
    }

    /// All ways that this processor has.
    fn ways() -> Vec<Way> {
        unsafe fn any(crc: u32, from: *const u8, to: &mut [u8]) -> u32 {
            // SAFETY: the caller has as many bytes as `to`.
            copy(crc, unsafe { std::slice::from_raw_parts(from, to.len()) }, to)
        }
        unsafe fn two_passes(crc: u32, from: *const u8, to: &mut [u8]) -> u32 {
            // SAFETY: the caller has as many bytes as `to`.
            copy_first(crc, unsafe { std::slice::from_raw_parts(from, to.len()) }, to)
        }
        let mut ways = vec![
            Way { name: "any", least: 0, copy: any },
            Way { name: "raw", least: 0, copy: copy_raw },
            Way { name: "two passes", least: 0, copy: two_passes },
        ];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use x86::{middle, narrow, wide};
            let all = [
                (narrow::is_there(), Way { name: "narrow", least: 64, copy: narrow::copy::<false> }),
                (narrow::is_there(), Way { name: "narrow, raw", least: 64, copy: narrow::copy::<true> }),
                (middle::is_there(), Way { name: "middle", least: 128, copy: middle::copy::<false> }),
                (middle::is_there(), Way { name: "middle, raw", least: 128, copy: middle::copy::<true> }),
                (wide::is_there(), Way { name: "wide", least: 256, copy: wide::copy::<false> }),
                (wide::is_there(), Way { name: "wide, raw", least: 256, copy: wide::copy::<true> }),
            ];
            ways.extend(all.into_iter().filter_map(|(is_there, way)| is_there.then_some(way)));
        }
        ways
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
    }

    fn expected(crc: u32, bytes: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(crc);
        hasher.update(bytes);
        hasher.finalize()
    }

    /// The largest length that is tried. Miri is slow and has none of the instructions, so it tries fewer lengths.
    const MOST: usize = if cfg!(miri) { 300 } else { 9000 };

    #[test]
    fn every_length_is_copied_and_has_its_crc() {
        let bytes = pattern(MOST);
        for way @ Way { name, least, .. } in &ways() {
            for len in *least..=MOST {
                let mut to = vec![0xa5; len + 1];
                let crc = way.copy(0, &bytes[..len], &mut to[..len]);
                assert_eq!(crc, crc32fast::hash(&bytes[..len]), "{name}, {len} bytes");
                assert!(to[..len] == bytes[..len] && to[len] == 0xa5, "{name}, {len} bytes");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "it maps memory")]
    fn nothing_is_touched_outside_of_the_bytes() {
        for len in [64, 65, 127, 255, 256, 1023, 1024, 4095, 4096] {
            // Both buffers end at a page that nobody may touch.
            let [mut from, mut to] = [0, 1].map(|_| Guarded::new(len, Hugepages::Never).unwrap());
            from.copy_from_slice(&pattern(len));
            for way @ Way { name, .. } in ways().iter().filter(|way| way.least <= len) {
                to.fill(0);
                assert_eq!(way.copy(7, &from, &mut to), expected(7, &from), "{name}, {len} bytes");
                assert!(to[..] == from[..], "{name}, {len} bytes");
            }
        }
    }

    #[test]
    #[should_panic = "length"]
    fn a_copy_has_the_length_of_its_source() {
        copy(0, &[0; 4096], &mut [0; 4095]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 512 }, ..ProptestConfig::default() })]

        /// Any bytes at any alignment, after any CRC, in one piece or in two.
        #[test]
        fn any_split_gives_the_same_crc(
            seed in any::<u64>(),
            crc in any::<u32>(),
            len in 0..=MOST,
            split in any::<prop::sample::Index>(),
            (from_at, to_at) in (0usize..64, 0usize..64),
        ) {
            let mut state = seed | 1;
            let bytes: Vec<u8> = (0..from_at + len).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            }).collect();
            let from = &bytes[from_at..];
            let (first, second) = from.split_at(split.index(len + 1));
            for way @ Way { name, least, .. } in &ways() {
                let mut to = vec![0xa5; to_at + len + 64];
                let place = &mut to[to_at..to_at + len];
                let end = if first.len() >= *least && second.len() >= *least {
                    let (one, other) = place.split_at_mut(first.len());
                    way.copy(way.copy(crc, first, one), second, other)
                } else if len >= *least {
                    way.copy(crc, from, place)
                } else {
                    continue;
                };
                prop_assert_eq!(end, expected(crc, from), "{}", name);
                prop_assert!(to[to_at..to_at + len] == *from, "{}", name);
                prop_assert!(to[..to_at].iter().chain(&to[to_at + len..]).all(|byte| *byte == 0xa5), "{}", name);
            }
        }
    }
}
