//! Copies and prefetches of the hot path.

/// Copies `len` bytes. Records are short and of many lengths. Up to 128 bytes the copy stays inline, as a few copies of
/// a fixed size, the last of which overlaps the one before; a call of `memcpy` costs as much as such a copy.
///
/// # Safety
/// `from .. from + len` is readable, `to .. to + len` is writable, and they do not overlap.
#[inline]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    /// Copies `N` bytes at the start and `N` at the end of `len >= N` bytes.
    ///
    /// # Safety
    /// As for `copy`, and `N <= len`.
    #[inline]
    unsafe fn ends<const N: usize>(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: both ranges are inside `0 .. len`, as `N <= len`; arrays of bytes have no alignment.
        unsafe {
            let first = from.cast::<[u8; N]>().read();
            let last = from.add(len - N).cast::<[u8; N]>().read();
            to.cast::<[u8; N]>().write(first);
            to.add(len - N).cast::<[u8; N]>().write(last);
        }
    }
    // SAFETY: the caller's promise, and in each branch `N <= len`.
    unsafe {
        match len {
            64..=128 => ends::<64>(from, to, len),
            32..64 => ends::<32>(from, to, len),
            16..32 => ends::<16>(from, to, len),
            _ => std::ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

/// Asks the cache for a line that will be read soon. Any address is allowed: a prefetch never faults.
///
/// The line comes into the first-level cache. That cache waits for few lines at once, and a further request waits for
/// a free place: many lines from memory are asked for with [`prefetch_far`] first.
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

/// Asks the second-level cache for a line that will be needed later. Any address is allowed. That cache waits for many
/// lines at once.
#[inline]
pub fn prefetch_far<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it has no effect on memory and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks the cache for a line that will be written. Any address is allowed.
#[inline]
pub fn prefetch_write<T>(address: *const T) {
    prefetch_read(address);
}

/// Asks the cache for `lines` lines from an address on. Any address is allowed.
#[inline]
pub fn prefetch_lines(start: *const u8, lines: usize) {
    for line in 0..lines {
        prefetch_read(start.wrapping_add(line * 64));
    }
}

/// [`prefetch_far`] for `lines` lines from an address on.
#[inline]
pub fn prefetch_far_lines(start: *const u8, lines: usize) {
    for line in 0..lines {
        prefetch_far(start.wrapping_add(line * 64));
    }
}

/// Asks the cache for the place where a small record of `len` bytes goes: two lines and the last.
#[inline(always)]
pub fn prefetch_place(start: *const u8, len: usize) {
    prefetch_write(start);
    prefetch_write(start.wrapping_add(64));
    prefetch_write(start.wrapping_add(len));
}

/// [`prefetch_far`] for the same lines.
#[inline(always)]
pub fn prefetch_far_place(start: *const u8, len: usize) {
    prefetch_far(start);
    prefetch_far(start.wrapping_add(64));
    prefetch_far(start.wrapping_add(len));
}

/// Asks the second-level cache for all lines of some bytes.
#[inline]
pub fn prefetch_far_bytes(bytes: &[u8]) {
    prefetch_far_lines(bytes.as_ptr(), bytes.len().div_ceil(64));
}

/// [`prefetch_far`] for an element of a slice; an index out of range does nothing.
#[inline]
pub fn prefetch_far_element<T>(slice: &[T], index: usize) {
    prefetch_far(slice.as_ptr().wrapping_add(index));
}

/// Asks the cache for an element of a slice; an index out of range does nothing.
#[inline]
pub fn prefetch_element<T>(slice: &[T], index: usize) {
    prefetch_read(slice.as_ptr().wrapping_add(index));
}
