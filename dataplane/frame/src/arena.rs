//! The memory of an arena: 2 MiB hugepages where the machine has them, else ordinary pages and a warning.
//!
//! One arena backs all ports of one lcore, so that a frame received on one port can leave on another. AF_XDP ports
//! register the same memory as their UMEM, which is why the arena owns its mapping: see "Arena" in
//! `docs/architecture.md`.

use std::io;
use std::ptr::NonNull;

/// Size of the hugepages that an arena asks for, in bytes.
pub const HUGEPAGE: usize = 2 << 20;

/// Whether an arena takes hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Hugepages if there are enough, else ordinary pages and a warning.
    #[default]
    Prefer,
    /// Hugepages or an error.
    Require,
    /// Ordinary pages, silently.
    Never,
}

/// What an arena's memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// 2 MiB pages of the kernel's hugepage pool.
    Hugepages,
    /// 4 KiB pages (the kernel may still merge them, if transparent hugepages are on).
    OrdinaryPages,
}

impl std::fmt::Display for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hugepages => "2 MiB hugepages",
            Self::OrdinaryPages => "ordinary pages",
        })
    }
}

/// Why there is no arena.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The kernel has no memory of the kind that was asked for.
    #[error(
        "cannot map an arena of {bytes} bytes on {backing}: {source}; {}",
        remedy(*.backing, *.bytes)
    )]
    Map {
        /// Size that was asked for.
        bytes: usize,
        /// Kind of pages that were asked for.
        backing: Backing,
        /// What the kernel said.
        source: io::Error,
    },
    /// The sizes do not make an arena.
    #[error(
        "an arena needs at least one chunk of 512 to 32768 bytes that is a multiple of 64, not {frames} of {chunk}"
    )]
    Shape {
        /// Number of chunks that were asked for.
        frames: u32,
        /// Bytes of each.
        chunk: u32,
    },
}

fn remedy(backing: Backing, bytes: usize) -> String {
    match backing {
        Backing::Hugepages => format!(
            "reserve hugepages with `echo {} > /proc/sys/vm/nr_hugepages`, or do without them (slower)",
            bytes.div_ceil(HUGEPAGE)
        ),
        Backing::OrdinaryPages => "free some memory, or ask for fewer frames".to_owned(),
    }
}

/// One contiguous mapping, page-aligned and zeroed, unmapped when dropped.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
}

// SAFETY: the arena only owns its mapping; it hands out the address and never dereferences it.
unsafe impl Send for Arena {}

impl Arena {
    /// Maps at least `bytes` bytes and touches every page, so that the hot path never faults.
    ///
    /// With [`Hugepages::Prefer`], a machine without (enough) hugepages gets ordinary pages; the reason is logged as a
    /// warning with its remedy.
    pub fn new(bytes: usize, hugepages: Hugepages) -> Result<Self, ArenaError> {
        if hugepages != Hugepages::Never {
            match Self::map(bytes, Backing::Hugepages) {
                Ok(arena) => return Ok(arena),
                Err(error) if hugepages == Hugepages::Require => return Err(error),
                Err(error) => tracing::warn!("{error}; using ordinary pages"),
            }
        }
        Self::map(bytes, Backing::OrdinaryPages)
    }

    fn map(bytes: usize, backing: Backing) -> Result<Self, ArenaError> {
        let len = bytes.next_multiple_of(HUGEPAGE);
        let huge = match backing {
            Backing::Hugepages => libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_POPULATE,
            Backing::OrdinaryPages => 0,
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let base = if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast::<u8>()) };
        let Some(base) = base else {
            return Err(ArenaError::Map { bytes: len, backing, source: io::Error::last_os_error() });
        };
        let arena = Self { base, len, backing };
        if backing == Backing::OrdinaryPages {
            // SAFETY: the range is the mapping just made; the advice changes no contents.
            unsafe { libc::madvise(address, len, libc::MADV_HUGEPAGE) };
            for offset in (0..len).step_by(4096) {
                // SAFETY: `offset < len`, inside the mapping, and nobody else knows it yet.
                unsafe { base.as_ptr().add(offset).write_volatile(0) };
            }
        }
        Ok(arena)
    }

    /// First byte of the mapping.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of the mapping, a multiple of 2 MiB.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: an arena has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the memory is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping made in `map`; frames keep their pool, and so the arena, alive.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_pages_always_work() {
        let arena = Arena::new(1, Hugepages::Never).unwrap();
        assert_eq!((arena.len(), arena.backing()), (HUGEPAGE, Backing::OrdinaryPages));
        assert_eq!(arena.base().as_ptr() as usize % 4096, 0);
    }

    #[test]
    fn missing_hugepages_are_explained() {
        // More hugepages than any machine has.
        let error = Arena::new(1 << 46, Hugepages::Require).unwrap_err().to_string();
        assert!(error.contains("reserve hugepages with `echo 33554432 > /proc/sys/vm/nr_hugepages`"), "{error}");
    }
}
