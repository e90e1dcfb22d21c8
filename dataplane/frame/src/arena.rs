//! The memory of an arena: 2 MiB hugepages if the machine has them, otherwise ordinary pages and a warning.
//!
//! One arena backs all ports of one lcore, so that a frame received on one port can leave on another. AF_XDP ports
//! register the same memory as their UMEM, so the arena owns its mapping: see "Arena" in `docs/architecture.md`.

use crate::numa;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// Size of the hugepages that an arena asks for, in bytes.
pub const HUGEPAGE: usize = 2 << 20;

/// Size of an ordinary page, in bytes.
pub(crate) const PAGE: usize = 4096;

/// Whether an arena takes hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Hugepages if there are enough, otherwise ordinary pages and a warning.
    #[default]
    Prefer,
    /// Hugepages, or an error.
    Require,
    /// Ordinary pages, without a warning.
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

/// Why an arena cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The kernel has no memory of the kind that was asked for.
    #[error(
        "cannot map an arena of {bytes} bytes on {backing}: {source}; {}",
        remedy_for(*.backing)
    )]
    Map {
        /// Size that was asked for.
        bytes: usize,
        /// Kind of pages that were asked for.
        backing: Backing,
        /// The kernel's error.
        source: io::Error,
    },
    /// No address that devices can reach is free.
    #[error(
        "cannot map an arena of {bytes} bytes below address 2^{bits}, where a device behind this machine's IOMMU must \
         find \
         it: {source}; ask for fewer --frames or --lcores"
    )]
    Reach {
        /// The size that was asked for.
        bytes: usize,
        /// The bits of an address that the device can use.
        bits: u32,
        /// The kernel's error for the last address that was tried.
        source: io::Error,
    },
    /// The sizes do not fit an arena.
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

/// The remedy for missing hugepages, as the process set it.
static REMEDY: Mutex<Option<String>> = Mutex::new(None);

/// Sets the remedy for missing hugepages. Only the process knows what all of its arenas need together: if each remedy
/// named the need of one arena, following one would undo another.
pub fn set_remedy(text: String) {
    *REMEDY.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

/// The remedy for missing hugepages that [`set_remedy`] got last.
pub fn remedy() -> String {
    let said = REMEDY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    said.unwrap_or_else(|| "reserve hugepages for all arenas together, or do without them (slower)".to_owned())
}

pub(crate) fn remedy_for(backing: Backing) -> String {
    match backing {
        Backing::Hugepages => remedy(),
        Backing::OrdinaryPages => "free some memory, or ask for fewer frames".to_owned(),
    }
}

/// Where the memory of an arena should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Placement {
    /// The NUMA node; `None` is any.
    pub node: Option<u32>,
    /// How many bits of an address devices can use, if fewer than the addresses of a process have. The arena's
    /// addresses are then below 2 to this power. The IOMMUs of many desktop processors have 39.
    pub address_bits: Option<u32>,
}

/// Bits of the addresses that Linux gives to x86-64 processes by default.
const PROCESS_BITS: u32 = 47;

/// The distance between the addresses that are tried for an arena that devices must reach.
const STEP: usize = 1 << 30;

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
    ///
    /// # Errors
    /// The error is [`ArenaError::Map`] when the kernel has no memory for it: no ordinary pages, or no hugepages with
    /// [`Hugepages::Require`].
    pub fn new(bytes: usize, hugepages: Hugepages) -> Result<Self, ArenaError> {
        Self::placed(bytes, hugepages, Placement::default())
    }

    /// The same, at a chosen place. If a NUMA node does not have enough free pages, other nodes provide the rest; a
    /// sandbox may forbid the choice. Both are logged as a warning and are never an error. Addresses that devices
    /// cannot reach are an error.
    ///
    /// # Errors
    /// The error is [`ArenaError::Map`] when the kernel has no memory for it: no ordinary pages, or no hugepages with
    /// [`Hugepages::Require`]. It is [`ArenaError::Reach`] when no address below the limit of
    /// [`Placement::address_bits`] is free.
    pub fn placed(bytes: usize, hugepages: Hugepages, placement: Placement) -> Result<Self, ArenaError> {
        if hugepages != Hugepages::Never {
            match Self::map(bytes, Backing::Hugepages, placement) {
                Ok(arena) => return Ok(arena),
                Err(error) if hugepages == Hugepages::Require => return Err(error),
                Err(error) => tracing::warn!("{error}; using ordinary pages"),
            }
        }
        Self::map(bytes, Backing::OrdinaryPages, placement)
    }

    fn map(bytes: usize, backing: Backing, placement: Placement) -> Result<Self, ArenaError> {
        let len = bytes.next_multiple_of(HUGEPAGE);
        let arena = match placement.address_bits.filter(|bits| *bits < PROCESS_BITS) {
            Some(bits) => Self::map_below(len, backing, bits)?,
            None => Self::map_untouched(len, backing)?,
        };
        // The policy comes first: the kernel reads it when a page is touched.
        let refused = placement.node.and_then(|node| numa::prefer(arena.base, arena.len, node).err());
        arena.populate().map_err(|source| ArenaError::Map { bytes: arena.len, backing, source })?;
        if let Some(node) = placement.node {
            arena.check_node(node, refused);
        }
        Ok(arena)
    }

    /// Memory that its owner writes completely before use. It never comes from the hugepage pool, which is sized for
    /// frames.
    ///
    /// # Errors
    /// The kernel's, as a number.
    pub(crate) fn for_table(bytes: usize) -> Result<Self, i32> {
        let granule = if bytes < HUGEPAGE { PAGE } else { HUGEPAGE };
        let len = bytes.max(1).checked_next_multiple_of(granule).ok_or(libc::ENOMEM)?;
        Self::map_at(None, len, Backing::OrdinaryPages).map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))
    }

    /// Maps `len` bytes, a multiple of the size of a page, at an address of the kernel's choice.
    fn map_untouched(len: usize, backing: Backing) -> Result<Self, ArenaError> {
        Self::map_at(None, len, backing).map_err(|source| ArenaError::Map { bytes: len, backing, source })
    }

    /// Maps `len` bytes so that all their addresses are below 2 to the power of `bits`.
    ///
    /// Addresses in the upper half of the devices' range are tried in turn. The lower half is left to others: DPDK
    /// keeps its own memory there, and so does a program that is not position-independent.
    fn map_below(len: usize, backing: Backing, bits: u32) -> Result<Self, ArenaError> {
        let end = 1_usize << bits;
        let mut refused = io::Error::from_raw_os_error(libc::ENOMEM);
        for address in (end / 2..end.saturating_sub(len).saturating_add(1)).step_by(STEP) {
            match Self::map_at(NonZeroUsize::new(address), len, backing) {
                // A kernel before 4.17 treats the address as a hint.
                Ok(arena) if arena.base.as_ptr() as usize <= end - len => return Ok(arena),
                Ok(_) => refused = io::Error::from_raw_os_error(libc::EEXIST),
                // Another mapping is there already.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => refused = error,
                // Every address would fail in the same way: there is no memory.
                Err(source) => return Err(ArenaError::Map { bytes: len, backing, source }),
            }
        }
        Err(ArenaError::Reach { bytes: len, bits, source: refused })
    }

    /// Maps `len` bytes, a multiple of the size of a page. With an address, it maps there, if nothing is there yet.
    fn map_at(at: Option<NonZeroUsize>, len: usize, backing: Backing) -> io::Result<Self> {
        let huge = match backing {
            Backing::Hugepages => libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
            Backing::OrdinaryPages => 0,
        };
        let (hint, fixed) = match at {
            Some(at) => (std::ptr::without_provenance_mut(at.get()), libc::MAP_FIXED_NOREPLACE),
            None => (std::ptr::null_mut(), 0),
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge | fixed;
        // SAFETY: a fresh anonymous mapping, at an address of the kernel's choice or where nothing is: it touches no
        // existing memory.
        let address = unsafe { libc::mmap(hint, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let base = if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast::<u8>()) };
        let Some(base) = base else { return Err(io::Error::last_os_error()) };
        if backing == Backing::OrdinaryPages && len >= HUGEPAGE {
            // SAFETY: the range is the mapping just made; the advice changes no contents.
            unsafe { libc::madvise(address, len, libc::MADV_HUGEPAGE) };
        }
        Ok(Self { base, len, backing })
    }

    /// Touches every page. Returns an error where a touch would raise a bus error, as at a cgroup's limit on hugepages.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the range is the mapping; the kernel writes what a fresh page has: zeros.
        if unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_POPULATE_WRITE) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        // A kernel before 5.14 does not know the advice.
        for offset in (0..self.len).step_by(PAGE) {
            // SAFETY: `offset < len`, inside the mapping, and nobody else knows it yet.
            unsafe { self.base.as_ptr().add(offset).write_volatile(0) };
        }
        Ok(())
    }

    /// Logs a warning if the memory is not on the wanted node.
    fn check_node(&self, wanted: u32, refused: Option<io::Error>) {
        // The node fills from the front: the last page shows whether it had enough. The last byte is inside the
        // mapping, which is never empty.
        // SAFETY: `len` is at least 1, so the address is inside the mapping.
        let last = unsafe { self.base.add(self.len - 1) };
        match (numa::node_of(last), refused) {
            (Some(node), _) if node != wanted => {
                let folder = format!("/sys/devices/system/node/node{wanted}");
                tracing::warn!(
                    "an arena of {} bytes is on NUMA node {node} at its end, and its NIC on node {wanted}: {}",
                    self.len,
                    match self.backing {
                        Backing::Hugepages => remedy(),
                        Backing::OrdinaryPages => format!("free memory there ({folder}/meminfo)"),
                    }
                );
            }
            (None, Some(error)) => tracing::warn!(
                "the kernel does not let an arena choose NUMA node {wanted}: {error}; give CAP_SYS_NICE, or start \
                 gvm-dp \
                 with `numactl --preferred {wanted}`"
            ),
            _ => {}
        }
    }

    /// First byte of the mapping.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of the mapping, a multiple of 2 MiB (of 4 KiB for a small table).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: an arena has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The NUMA node of its first page, if the kernel reports it.
    pub fn node(&self) -> Option<u32> {
        numa::node_of(self.base)
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

    /// Required hugepages that are missing are an error. They are never replaced by ordinary pages.
    #[test]
    fn required_hugepages_are_hugepages_or_an_error() {
        let Ok(arena) = Arena::new(1, Hugepages::Require) else { return };
        assert_eq!(arena.backing(), Backing::Hugepages);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let begin = format!("{:x}-", arena.base().as_ptr() as usize);
        let mapping = maps.lines().skip_while(|line| !line.starts_with(&begin));
        let size = mapping.skip(1).find(|line| line.starts_with("KernelPageSize:")).unwrap();
        assert!(size.contains(" 2048 kB"), "{size}");
    }

    /// Every machine has node 0; a kernel without NUMA, or a sandbox, does not report it.
    #[test]
    fn an_arena_is_on_the_node_that_was_asked_for() {
        let arena = Arena::placed(1, Hugepages::Never, on(0)).unwrap();
        assert!(matches!(arena.node(), Some(0) | None), "{:?}", arena.node());
    }

    #[test]
    fn a_node_that_is_not_there_costs_no_arena() {
        for node in [1000, u32::MAX] {
            let arena = Arena::placed(1, Hugepages::Never, on(node)).unwrap();
            assert_eq!(arena.len(), HUGEPAGE);
        }
    }

    fn on(node: u32) -> Placement {
        Placement { node: Some(node), ..Placement::default() }
    }

    /// An IOMMU of 39 bits, as in desktop processors: DPDK maps the arena at the process's own addresses.
    #[test]
    fn devices_reach_every_address_of_an_arena() {
        let placement = Placement { address_bits: Some(39), ..Placement::default() };
        let arenas: Vec<_> = (0..4).map(|_| Arena::placed(3 * STEP / 2, Hugepages::Never, placement)).collect();
        let mut ranges: Vec<(usize, usize)> =
            arenas.iter().flatten().map(|arena| (arena.base().as_ptr() as usize, arena.len())).collect();
        assert_eq!(ranges.len(), 4, "{arenas:?}");
        assert!(ranges.iter().all(|(base, len)| base + len <= 1 << 39 && base.is_multiple_of(HUGEPAGE)), "{ranges:x?}");
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{ranges:x?}");
        // This is more bits than a process's addresses have, so it limits nothing.
        let wide = Placement { address_bits: Some(48), ..Placement::default() };
        assert!(Arena::placed(1, Hugepages::Never, wide).is_ok());
    }

    #[test]
    fn an_arena_that_devices_cannot_reach_is_refused_with_the_reason() {
        for bits in [12, 21] {
            let placement = Placement { address_bits: Some(bits), ..Placement::default() };
            let error = Arena::placed(2 * HUGEPAGE, Hugepages::Never, placement).unwrap_err().to_string();
            assert!(error.contains(&format!("below address 2^{bits}")) && error.contains("IOMMU"), "{error}");
        }
    }

    #[test]
    fn missing_hugepages_are_explained_as_the_process_says() {
        // More hugepages than any machine has.
        let complaint = || Arena::new(1 << 46, Hugepages::Require).unwrap_err().to_string();
        assert!(complaint().contains("reserve hugepages for all arenas together"), "{}", complaint());
        set_remedy("reserve 34 of them".to_owned());
        assert!(complaint().ends_with("reserve 34 of them"), "{}", complaint());
    }
}
