//! Memory between two guard pages: an access past its ends kills the process at once, instead of changing the memory
//! beside it. For memory that others may write to: regions that are lent.

use crate::arena::{ArenaError, Backing, HUGEPAGE, Hugepages, PAGE};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Zeroed bytes in a mapping of their own, with an inaccessible page before the first byte and one right after the
/// last.
pub struct Guarded {
    /// The mapping, guard pages included.
    mapping: NonNull<u8>,
    mapped: usize,
    /// First of the bytes.
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
}

// SAFETY: it owns its bytes, as a vector does; the mapping belongs to no thread.
unsafe impl Send for Guarded {}
// SAFETY: a shared one gives out shared bytes only.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// Maps `len` bytes. They end at a guard page. They also begin at one when `len` is a multiple of the size of a
    /// page (4 KiB, or 2 MiB on hugepages).
    ///
    /// With [`Hugepages::Prefer`], a machine without enough hugepages gives ordinary pages; the reason is logged as a
    /// warning.
    ///
    /// # Errors
    /// When there is no memory of the kind that was asked for.
    pub fn new(len: usize, hugepages: Hugepages) -> Result<Self, ArenaError> {
        if hugepages != Hugepages::Never {
            match Self::map(len, Backing::Hugepages) {
                Ok(guarded) => return Ok(guarded),
                Err(error) if hugepages == Hugepages::Require => return Err(error),
                Err(error) => tracing::warn!("{error}; using ordinary pages"),
            }
        }
        Self::map(len, Backing::OrdinaryPages)
    }

    fn map(len: usize, backing: Backing) -> Result<Self, ArenaError> {
        let (page, huge) = match backing {
            Backing::Hugepages => (HUGEPAGE, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB),
            Backing::OrdinaryPages => (PAGE, 0),
        };
        let fail = |source| ArenaError::Map { bytes: len, backing, source };
        let too_much = || fail(io::Error::from_raw_os_error(libc::ENOMEM));
        let inside = len.max(1).checked_next_multiple_of(page).ok_or_else(too_much)?;
        // One page more, so that the inside can begin at a multiple of the size of a page.
        let mapped = inside.checked_add(3 * page).ok_or_else(too_much)?;
        let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_NONE, none, -1, 0) };
        let mapping = if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast::<u8>()) };
        let Some(mapping) = mapping else { return Err(fail(io::Error::last_os_error())) };
        let before = page + mapping.as_ptr().align_offset(page).min(page);
        // SAFETY: at most two pages into a mapping of at least four.
        let start = unsafe { mapping.add(before) };
        // If something fails from here on, the mapping is unmapped.
        // SAFETY: `len <= inside`, so this is inside the mapping, too.
        let base = unsafe { start.add(inside - len) };
        let guarded = Self { mapping, mapped, base, len, backing };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | huge;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies in the mapping made above, which nobody else knows yet.
        let inner = unsafe { libc::mmap(start.as_ptr().cast(), inside, access, flags, -1, 0) };
        if inner == libc::MAP_FAILED {
            return Err(fail(io::Error::last_os_error()));
        }
        if backing == Backing::Hugepages {
            // Without this, a cgroup's limit on hugepages would be a bus error at the first touch.
            // SAFETY: the range is the mapping just made; the kernel writes what a fresh page has: zeros.
            if unsafe { libc::madvise(inner, inside, libc::MADV_POPULATE_WRITE) } != 0 {
                return Err(fail(io::Error::last_os_error()));
            }
        } else if inside >= HUGEPAGE {
            // SAFETY: the range is the mapping just made; the advice changes no contents.
            unsafe { libc::madvise(inner, inside, libc::MADV_HUGEPAGE) };
        }
        Ok(guarded)
    }

    /// What the memory is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }
}

impl Deref for Guarded {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped from the base on, zeroed at first, and nothing else refers to them.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl DerefMut for Guarded {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is the only way to them.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, and what was mapped into it; no reference outlives this.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapped) };
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({} bytes on {})", self.len, self.backing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the kernel allows access to an address.
    fn is_accessible(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let mut words = line.split_whitespace();
            let (range, access) = (words.next().unwrap(), words.next().unwrap());
            let (from, to) = range.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(from)..number(to)).contains(&address) && access.starts_with("rw")
        })
    }

    #[test]
    fn both_ends_lie_on_pages_that_nobody_may_touch() {
        for len in [PAGE, 3 * PAGE, 2 * HUGEPAGE] {
            let mut guarded = Guarded::new(len, Hugepages::Never).unwrap();
            let start = guarded.as_ptr() as usize;
            assert!(is_accessible(start) && is_accessible(start + len - 1));
            assert!(!is_accessible(start - 1) && !is_accessible(start + len), "{len}");
            assert!(guarded.iter().all(|&byte| byte == 0));
            guarded.fill(7);
            assert_eq!((guarded[0], guarded[len - 1], guarded.len()), (7, 7, len));
        }
    }

    #[test]
    fn an_odd_length_ends_on_the_guard_page() {
        let guarded = Guarded::new(100, Hugepages::Never).unwrap();
        let end = guarded.as_ptr() as usize + 100;
        assert!(end.is_multiple_of(PAGE) && !is_accessible(end) && is_accessible(end - 1));
        assert!(Guarded::new(0, Hugepages::Never).unwrap().is_empty());
    }

    #[test]
    fn what_there_is_no_memory_for_is_an_error() {
        for len in [usize::MAX, usize::MAX / 2] {
            assert!(Guarded::new(len, Hugepages::Never).is_err());
        }
        assert!(Guarded::new(1 << 46, Hugepages::Require).is_err());
    }

    #[test]
    fn without_hugepages_ordinary_ones_do() {
        let guarded = Guarded::new(HUGEPAGE, Hugepages::Prefer).unwrap();
        let start = guarded.as_ptr() as usize;
        assert!(!is_accessible(start - 1) && !is_accessible(start + HUGEPAGE), "{guarded:?}");
    }
}
