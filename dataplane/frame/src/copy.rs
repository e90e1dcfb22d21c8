//! Copies and prefetches of the hot path.

/// Copies `len` bytes. Records are short and of many lengths: this stays inline and branches a few times, where a call
/// of `memcpy` costs as much as the copy.
///
/// # Safety
/// `from .. from + len` is readable, `to .. to + len` is writable, and they do not overlap.
#[inline]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if (16..=256).contains(&len) {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};
        let mut at = 0;
        while at + 16 <= len {
            // SAFETY: `at + 16 <= len`, inside both ranges; SSE2 is part of x86-64.
            unsafe { _mm_storeu_si128(to.add(at).cast::<__m128i>(), _mm_loadu_si128(from.add(at).cast::<__m128i>())) };
            at += 16;
        }
        // SAFETY: the last 16 bytes of both ranges, as `len >= 16`; what was copied already is copied again.
        unsafe {
            let last = len - 16;
            _mm_storeu_si128(to.add(last).cast::<__m128i>(), _mm_loadu_si128(from.add(last).cast::<__m128i>()));
        }
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
}

/// Asks the cache for a line that will be read. Any address is allowed: a prefetch never faults.
#[inline]
pub fn prefetch_read<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it has no effect on memory and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks the cache for a line that will be written. Any address is allowed.
#[inline]
pub fn prefetch_write<T>(address: *const T) {
    prefetch_read(address);
}

/// Asks the cache for an element of a slice; out of range does nothing.
#[inline]
pub fn prefetch_element<T>(slice: &[T], index: usize) {
    prefetch_read(slice.as_ptr().wrapping_add(index));
}
