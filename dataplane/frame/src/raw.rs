//! Copies from and to memory that another thread, another process or the kernel may change meanwhile.
//!
//! No Rust reference may point there: a `&[u8]` promises the compiler that the bytes stay as they are. On x86-64 these
//! copies are instructions that the compiler does not look into, so it assumes nothing of what they find. Elsewhere
//! each byte is a relaxed atomic access. Either way a copy of bytes that change meanwhile has some mixture of old and
//! new ones, and nothing worse happens.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod way {
    use std::arch::asm;
    use std::arch::x86_64::{__m128i, __m256i, __m512i};

    /// The largest vector of the processors for which this program is compiled.
    #[cfg(target_feature = "avx")]
    pub(super) type Vector = __m256i;
    /// The largest vector of the processors for which this program is compiled.
    #[cfg(not(target_feature = "avx"))]
    pub(super) type Vector = __m128i;

    macro_rules! access {
        ($load:ident, $store:ident: $value:ty, $register:ident, $modifier:literal, [$($feature:literal)?],
         $move:literal) => {
            /// # Safety
            /// So many bytes are readable at `from`, which needs no alignment.
            #[inline]
            $(#[target_feature(enable = $feature)])?
            pub(crate) unsafe fn $load(from: *const u8) -> $value {
                let value;
                // SAFETY: the caller's promise; a load changes nothing.
                unsafe {
                    asm!(concat!($move, " {", $modifier, "}, [{}]"), out($register) value, in(reg) from,
                         options(nostack, preserves_flags, readonly));
                }
                value
            }

            /// # Safety
            /// So many bytes are writable at `to`, which needs no alignment, and no reference points there.
            #[allow(dead_code)]
            #[inline]
            $(#[target_feature(enable = $feature)])?
            pub(crate) unsafe fn $store(to: *mut u8, value: $value) {
                // SAFETY: the caller's promise.
                unsafe {
                    asm!(concat!($move, " [{}], {", $modifier, "}"), in(reg) to, in($register) value,
                         options(nostack, preserves_flags));
                }
            }
        };
    }

    access!(load_1, store_1: u8, reg_byte, "", [], "mov");
    access!(load_8, store_8: u64, reg, ":r", [], "mov");
    // With the longer encoding a processor that has AVX does not wait for the upper halves of its registers.
    #[cfg(target_feature = "avx")]
    access!(load_16, store_16: __m128i, xmm_reg, "", [], "vmovdqu");
    #[cfg(not(target_feature = "avx"))]
    access!(load_16, store_16: __m128i, xmm_reg, "", [], "movdqu");
    access!(load_32, store_32: __m256i, ymm_reg, "", ["avx"], "vmovdqu");
    access!(load_64, store_64: __m512i, zmm_reg, "", ["avx512f"], "vmovdqu64");

    /// # Safety
    /// As for [`super::load`], of one vector.
    #[inline]
    pub(super) unsafe fn load_vector(from: *const u8) -> Vector {
        // SAFETY: the caller's promise; the program is compiled for processors that have the instruction.
        #[cfg(target_feature = "avx")]
        unsafe {
            load_32(from)
        }
        // SAFETY: the same.
        #[cfg(not(target_feature = "avx"))]
        unsafe {
            load_16(from)
        }
    }

    /// # Safety
    /// As for [`super::store`], of one vector.
    #[inline]
    pub(super) unsafe fn store_vector(to: *mut u8, value: Vector) {
        // SAFETY: the caller's promise; the program is compiled for processors that have the instruction.
        #[cfg(target_feature = "avx")]
        unsafe {
            store_32(to, value);
        }
        // SAFETY: the same.
        #[cfg(not(target_feature = "avx"))]
        unsafe {
            store_16(to, value);
        }
    }

    /// # Safety
    /// As for [`super::zero`].
    #[inline]
    pub(super) unsafe fn zero(to: *mut u8, len: usize) {
        // SAFETY: the caller's promise. The direction flag is clear, as always where Rust code runs.
        unsafe {
            asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") 0_u8,
                 options(nostack, preserves_flags));
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) use way::{load_16, load_32, load_64};

/// Calls `each` with the places of pieces of `size` bytes that cover `len` bytes, which are not fewer. The last piece
/// may overlap the one before.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn cover(len: usize, size: usize, mut each: impl FnMut(usize)) {
    let mut at = 0;
    while at + 4 * size <= len {
        // The compiler does not unroll a loop with instructions that it does not look into.
        (0..4).for_each(|piece| each(at + piece * size));
        at += 4 * size;
    }
    while at + size <= len {
        each(at);
        at += size;
    }
    if at < len {
        each(len - size);
    }
}

/// Fills `to` with the bytes from `from` on.
///
/// # Safety
/// So many bytes are readable at `from`, and none of them is in `to`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) unsafe fn load(from: *const u8, to: &mut [u8]) {
    let (to, len) = (to.as_mut_ptr(), to.len());
    // SAFETY: all pieces are inside of `len` bytes, which the caller vouches for, and `to` has as many.
    unsafe {
        match len {
            0 => {}
            1..8 => cover(len, 1, |at| to.add(at).write(way::load_1(from.add(at)))),
            8..32 => cover(len, 8, |at| to.add(at).cast::<u64>().write_unaligned(way::load_8(from.add(at)))),
            _ => cover(len, size_of::<way::Vector>(), |at| {
                to.add(at).cast::<way::Vector>().write_unaligned(way::load_vector(from.add(at)));
            }),
        }
    }
}

/// Stores bytes from `to` on.
///
/// # Safety
/// So many bytes are writable at `to`, no reference points there, and none of them is in `from`.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) unsafe fn store(from: &[u8], to: *mut u8) {
    let (from, len) = (from.as_ptr(), from.len());
    // SAFETY: all pieces are inside of `len` bytes, which `from` has and the caller vouches for.
    unsafe {
        match len {
            0 => {}
            1..8 => cover(len, 1, |at| way::store_1(to.add(at), from.add(at).read())),
            8..32 => cover(len, 8, |at| way::store_8(to.add(at), from.add(at).cast::<u64>().read_unaligned())),
            _ => cover(len, size_of::<way::Vector>(), |at| {
                way::store_vector(to.add(at), from.add(at).cast::<way::Vector>().read_unaligned());
            }),
        }
    }
}

/// Stores `len` zeros from `to` on.
///
/// # Safety
/// So many bytes are writable at `to`, and no reference points there.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub(crate) unsafe fn zero(to: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { way::zero(to, len) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod bytewise {
    use std::sync::atomic::{AtomicU8, Ordering};

    /// # Safety
    /// The byte is readable and writable, and no reference points there.
    unsafe fn byte<'a>(at: *const u8) -> &'a AtomicU8 {
        // SAFETY: the caller's promise; any byte is an atomic byte.
        unsafe { AtomicU8::from_ptr(at.cast_mut()) }
    }

    pub(crate) unsafe fn load(from: *const u8, to: &mut [u8]) {
        for (at, to) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *to = unsafe { byte(from.add(at)) }.load(Ordering::Relaxed);
        }
    }

    pub(crate) unsafe fn store(from: &[u8], to: *mut u8) {
        for (at, from) in from.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { byte(to.add(at)) }.store(*from, Ordering::Relaxed);
        }
    }

    pub(crate) unsafe fn zero(to: *mut u8, len: usize) {
        for at in 0..len {
            // SAFETY: the caller's promise.
            unsafe { byte(to.add(at)) }.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(crate) use bytewise::{load, store, zero};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_nothing_beside_it() {
        let bytes: Vec<u8> = (0..300_u32).map(|at| (at * 7 + 1) as u8).collect();
        for len in 0..=260 {
            for at in [0, 1, 31] {
                let mut to = vec![0xa5_u8; 300];
                // SAFETY: both have 300 bytes.
                unsafe { load(bytes.as_ptr().add(at), &mut to[at..at + len]) };
                assert!(to[at..at + len] == bytes[at..at + len], "{len} at {at}");
                assert!(to[..at].iter().chain(&to[at + len..]).all(|byte| *byte == 0xa5), "{len} at {at}");
                let mut to = vec![0xa5_u8; 300];
                // SAFETY: the same.
                unsafe { store(&bytes[at..at + len], to.as_mut_ptr().add(at)) };
                assert!(to[at..at + len] == bytes[at..at + len], "{len} at {at}");
                assert!(to[..at].iter().chain(&to[at + len..]).all(|byte| *byte == 0xa5), "{len} at {at}");
                // SAFETY: the same.
                unsafe { zero(to.as_mut_ptr().add(at), len) };
                assert!(to[at..at + len].iter().all(|byte| *byte == 0), "{len} at {at}");
                assert!(to[..at].iter().chain(&to[at + len..]).all(|byte| *byte == 0xa5), "{len} at {at}");
            }
        }
    }
}
