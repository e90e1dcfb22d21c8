//! Memory that a slave lends, in units of 64 MiB.
//!
//! Peers far away read and write it while a unit is lent, and another thread scrubs a unit that came back. So no
//! reference into it leaves this module: bytes are copied in and out, and a copy of bytes that change meanwhile has
//! some mixture of old and new ones.
//!
//! **It never ends the process.** On hugepages a page that the kernel cannot give when it is touched is a bus error,
//! which ends the process. Two rules prevent that:
//!
//! 1. All hugepages are taken when the memory is made. The kernel reserves pages of its pool for a mapping, but a
//!    cgroup's limit on hugepages counts only at the first touch. `MADV_POPULATE_WRITE` (Linux 5.14) makes that an
//!    error instead of a bus error. On an older kernel ordinary pages are used.
//! 2. They are never given back before the end. `MADV_DONTNEED` on private hugepages exists since Linux 5.18. Until
//!    Linux 6.9 it also gave up the reservation: another process could take the page, and the next touch was a bus
//!    error. Giving a page back would not help the host either: it stays in the pool. So a scrub writes zeros.
//!
//! Ordinary pages are taken when they are first written to, and a scrub gives them back to the host
//! (`MADV_DONTNEED`): the next access finds zeros. The kernel is asked for transparent hugepages.

use crate::arena::{Backing, HUGEPAGE, Hugepages, PAGE, remedy};
use crate::{copy, crc, numa, raw};
use std::fmt;
use std::io;
use std::ptr::NonNull;

/// Bytes of a unit: 64 MiB.
pub const UNIT: usize = 64 << 20;

/// Why there is no memory to be lent.
#[derive(Debug, thiserror::Error)]
pub enum UnitMemoryError {
    /// The kernel has no memory of the kind that was asked for.
    #[error("cannot map {units} units of 64 MiB on {backing}: {source}; {}", remedy_for(*.backing))]
    Map {
        /// Units that were asked for.
        units: u32,
        /// Kind of pages that were asked for.
        backing: Backing,
        /// The kernel's error.
        source: io::Error,
    },
    /// No unit was asked for.
    #[error("memory to be lent has at least one unit of 64 MiB")]
    Empty,
}

fn remedy_for(backing: Backing) -> String {
    match backing {
        Backing::Hugepages => remedy(),
        Backing::OrdinaryPages => "free some memory, or lend less".to_owned(),
    }
}

/// Units of memory, all zero at first. See the module's documentation.
///
/// Several threads may use it at the same time. Units are counted from 0, and offsets are bytes from the start of a
/// unit; no access goes from one unit into the next.
pub struct UnitMemory {
    base: NonNull<u8>,
    units: u32,
    backing: Backing,
}

// SAFETY: it owns its mapping, which belongs to no thread.
unsafe impl Send for UnitMemory {}
// SAFETY: no reference points into the mapping, and all accesses to it are those of `raw`, which other threads may make
// at the same time, or calls of the kernel.
unsafe impl Sync for UnitMemory {}

impl UnitMemory {
    /// Maps `units` units, if possible on the NUMA node `node`.
    ///
    /// With [`Hugepages::Prefer`], a machine without enough hugepages gives ordinary pages; the reason is logged as a
    /// warning with its remedy.
    ///
    /// # Errors
    /// The error is [`UnitMemoryError::Empty`] for no units. It is [`UnitMemoryError::Map`] when the kernel has no
    /// memory for it: no ordinary pages, or no hugepages with [`Hugepages::Require`].
    pub fn new(units: u32, hugepages: Hugepages, node: Option<u32>) -> Result<Self, UnitMemoryError> {
        if units == 0 {
            return Err(UnitMemoryError::Empty);
        }
        if hugepages != Hugepages::Never {
            match Self::map(units, Backing::Hugepages, node) {
                Ok(memory) => return Ok(memory),
                Err(error) if hugepages == Hugepages::Require => return Err(error),
                Err(error) => tracing::warn!("{error}; lending ordinary pages, which are slower"),
            }
        }
        Self::map(units, Backing::OrdinaryPages, node)
    }

    fn map(units: u32, backing: Backing, node: Option<u32>) -> Result<Self, UnitMemoryError> {
        let fail = |source| UnitMemoryError::Map { units, backing, source };
        let huge = match backing {
            Backing::Hugepages => libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
            Backing::OrdinaryPages => 0,
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge;
        let len = units as usize * UNIT;
        // Kernels before 6.7 begin a mapping of ordinary pages anywhere. With a hugepage more there is room to begin at
        // a multiple of its size.
        let mapped = if backing == Backing::Hugepages { len } else { len + HUGEPAGE };
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let mapping = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast::<u8>()) };
        let Some(mapping) = mapping else { return Err(fail(io::Error::last_os_error())) };
        let before = mapping.as_ptr().align_offset(HUGEPAGE).min(mapped - len);
        // SAFETY: `before + len <= mapped`, so both are inside the mapping or at its end, and what is unmapped is in it
        // and used by nobody.
        let base = unsafe {
            let (base, end) = (mapping.add(before), mapping.add(before + len));
            for (from, len) in [(mapping, before), (end, mapped - len - before)] {
                if len > 0 {
                    libc::munmap(from.as_ptr().cast(), len);
                }
            }
            base
        };
        let address = base.as_ptr().cast();
        // From here on it is unmapped if something fails.
        let memory = Self { base, units, backing };
        if backing == Backing::OrdinaryPages {
            // SAFETY: the range is the mapping just made; the advice changes no contents.
            unsafe { libc::madvise(address, len, libc::MADV_HUGEPAGE) };
        }
        // The bytes belong to others. A kernel that does not know the advice is no reason to lend nothing.
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        unsafe { libc::madvise(address, len, libc::MADV_DONTDUMP) };
        if let Some(node) = node
            && let Err(error) = numa::prefer(base, len, node)
        {
            tracing::warn!("lent memory cannot be put on NUMA node {node}: {error}; it lies where the kernel puts it");
        }
        if backing == Backing::Hugepages {
            // SAFETY: the range is the mapping just made; the kernel writes what a fresh page has: zeros.
            if unsafe { libc::madvise(address, len, libc::MADV_POPULATE_WRITE) } != 0 {
                return Err(fail(populate_error(io::Error::last_os_error())));
            }
        }
        Ok(memory)
    }

    /// How many units there are.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// What the memory is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// The address of `len` bytes of a unit, if all of them are inside of it.
    #[inline]
    fn place(&self, unit: u32, offset: usize, len: usize) -> Option<*mut u8> {
        let is_inside = unit < self.units && offset <= UNIT && len <= UNIT - offset;
        // SAFETY: the unit and the offset are inside the mapping, or right at its end for no bytes.
        is_inside.then(|| unsafe { self.base.as_ptr().add(unit as usize * UNIT + offset) })
    }

    /// Fills `out` with the bytes of a unit from `offset` on. `false` if they are not all inside the unit; `out` stays
    /// as it was then.
    #[inline]
    #[must_use]
    pub fn read(&self, unit: u32, offset: usize, out: &mut [u8]) -> bool {
        let Some(from) = self.place(unit, offset, out.len()) else { return false };
        // SAFETY: so many bytes are mapped there, and `out` is not among them: no reference points there.
        unsafe { raw::load(from, out) };
        true
    }

    /// The same, in one pass with the CRC-32 of the bytes that were read: `crc` is that of what comes before them, and
    /// the result that of both. `None` if they are not all inside the unit.
    #[inline]
    #[must_use]
    pub fn read_with_crc(&self, unit: u32, offset: usize, crc: u32, out: &mut [u8]) -> Option<u32> {
        let from = self.place(unit, offset, out.len())?;
        // SAFETY: as in `read`.
        Some(unsafe { crc::copy_raw(crc, from, out) })
    }

    /// Writes bytes into a unit from `offset` on. `false` if they do not all fit into the unit; nothing is written
    /// then.
    #[inline]
    #[must_use]
    pub fn write(&self, unit: u32, offset: usize, bytes: &[u8]) -> bool {
        let Some(to) = self.place(unit, offset, bytes.len()) else { return false };
        // SAFETY: so many bytes are mapped there, and no reference points there.
        unsafe { raw::store(bytes, to) };
        true
    }

    /// Prefetches bytes that will probably be read or written soon. A range outside of the unit is ignored.
    #[inline]
    pub fn prefetch(&self, unit: u32, offset: usize, len: usize) {
        // All lines at once are many: the first-level cache would be busy with them, and nothing else could miss it.
        if let Some(start) = self.place(unit, offset, len) {
            copy::prefetch_far_lines(start, len.div_ceil(64));
        }
    }

    /// Makes `len` bytes of a unit from `from` on zero. Whole ordinary pages go back to the host.
    ///
    /// One call takes as long as the kernel needs for so many bytes. Scrub a unit in pieces, outside of a poll loop.
    ///
    /// # Errors
    /// The error is [`io::ErrorKind::InvalidInput`]: the bytes are not all inside the unit. Nothing has changed then.
    pub fn scrub(&self, unit: u32, from: usize, len: usize) -> io::Result<()> {
        let start = self.place(unit, from, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // The whole pages inside: they begin at `first`, and end before `end`.
        let first = from.next_multiple_of(PAGE).min(from + len);
        let end = ((from + len) / PAGE * PAGE).max(first);
        // SAFETY: `from <= first <= end <= from + len`, and so many bytes are mapped at `start`.
        let [pages, last] = [first, end].map(|at| unsafe { start.add(at - from) });
        // SAFETY: the bytes are mapped, no reference points there, and the kernel replaces whole pages of a private
        // anonymous mapping by pages of zeros.
        unsafe {
            raw::zero(start, first - from);
            let is_given_back = self.backing == Backing::OrdinaryPages
                && (end == first || libc::madvise(pages.cast(), end - first, libc::MADV_DONTNEED) == 0);
            // The kernel refuses pages that are locked into memory.
            if !is_given_back {
                raw::zero(pages, end - first);
            }
            raw::zero(last, from + len - end);
        }
        Ok(())
    }
}

/// Says what the kernel means when it does not populate a mapping.
fn populate_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // It cannot give a page that it reserved: a limit of a cgroup.
        Some(libc::EFAULT) => io::Error::new(
            io::ErrorKind::OutOfMemory,
            "a cgroup's limit on hugepages (hugetlb.2MB.max) does not allow so many",
        ),
        Some(libc::EINVAL) => {
            io::Error::new(io::ErrorKind::Unsupported, "this kernel is too old to populate them (Linux 5.14)")
        }
        _ => error,
    }
}

impl Drop for UnitMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference points into it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.units as usize * UNIT) };
    }
}

impl fmt::Debug for UnitMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnitMemory({} units on {})", self.units, self.backing)
    }
}

const _: () = assert!(UNIT.is_multiple_of(HUGEPAGE) && size_of::<usize>() == 8, "a unit has whole hugepages");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn ordinary(units: u32) -> UnitMemory {
        UnitMemory::new(units, Hugepages::Never, None).unwrap()
    }

    fn bytes<const N: usize>(memory: &UnitMemory, unit: u32, offset: usize) -> [u8; N] {
        let mut out = [0xee; N];
        assert!(memory.read(unit, offset, &mut out));
        out
    }

    /// A line of the kernel's account of the mapping, in KiB.
    fn account(memory: &UnitMemory, what: &str) -> u64 {
        let begin = format!("{:x}-", memory.base.as_ptr() as usize);
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&begin));
        let line = lines.find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_the_other_units_stay_zero() {
        let memory = ordinary(3);
        assert_eq!((memory.units(), memory.backing()), (3, Backing::OrdinaryPages));
        assert!(memory.write(1, 0, b"first") && memory.write(1, UNIT - 4, b"last"));
        assert_eq!(&bytes::<7>(&memory, 1, 0), b"first\0\0");
        assert_eq!(&bytes::<6>(&memory, 1, UNIT - 6), b"\0\0last");
        // The neighbours of both ends.
        assert_eq!(bytes::<4096>(&memory, 0, UNIT - 4096), [0; 4096]);
        assert_eq!(bytes::<4096>(&memory, 2, 0), [0; 4096]);
        memory.prefetch(1, 0, 4096);
    }

    #[test]
    fn nothing_crosses_the_end_of_a_unit() {
        let memory = ordinary(2);
        for (unit, offset, len) in
            [(0, UNIT - 1, 2), (0, UNIT, 1), (1, UNIT - 3, 4), (2, 0, 1), (u32::MAX, 0, 1), (0, usize::MAX, 2)]
        {
            let mut out = vec![7; len];
            assert!(!memory.read(unit, offset, &mut out), "{unit} {offset}");
            assert_eq!(memory.read_with_crc(unit, offset, 0, &mut out), None);
            assert!(!memory.write(unit, offset, &out));
            assert_eq!(memory.scrub(unit, offset, len).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            memory.prefetch(unit, offset, len);
            assert!(out.iter().all(|byte| *byte == 7));
        }
        assert_eq!(bytes::<8>(&memory, 0, UNIT - 8), [0; 8]);
        assert_eq!(bytes::<8>(&memory, 1, UNIT - 8), [0; 8]);
        assert!(memory.read(1, UNIT, &mut []) && memory.write(1, UNIT, &[]) && memory.scrub(1, UNIT, 0).is_ok());
    }

    #[test]
    fn a_read_has_the_crc_of_what_it_read() {
        let memory = ordinary(1);
        let pattern: Vec<u8> = (0..9000_u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        assert!(memory.write(0, 100, &pattern));
        // The check value of this CRC, from the catalogue of CRCs.
        assert!(memory.write(0, 20_000, b"123456789"));
        assert_eq!(memory.read_with_crc(0, 20_000, 0, &mut [0; 9]), Some(0xcbf4_3926));
        for len in (0..700).chain([1023, 1024, 2048, 4095, 4096, 8999]) {
            let mut out = vec![0; len];
            let crc = memory.read_with_crc(0, 101, crc32fast::hash(&pattern[..1]), &mut out).unwrap();
            assert!(out == pattern[1..=len], "{len}");
            assert_eq!(crc, crc32fast::hash(&pattern[..=len]), "{len}");
        }
    }

    /// Ordinary pages are taken when they are written to, and a scrub gives them back.
    #[test]
    fn a_scrubbed_unit_is_zero_and_its_pages_are_the_hosts_again() {
        let memory = ordinary(2);
        assert_eq!(account(&memory, "Rss"), 0, "nobody has touched it");
        let page = [0xa5; PAGE];
        for unit in 0..2 {
            for offset in (0..UNIT).step_by(PAGE) {
                assert!(memory.write(unit, offset, &page));
            }
        }
        assert_eq!(account(&memory, "Rss"), (2 * UNIT as u64) >> 10);
        for from in (0..UNIT).step_by(HUGEPAGE) {
            memory.scrub(1, from, HUGEPAGE).unwrap();
        }
        assert_eq!(account(&memory, "Rss"), UNIT as u64 >> 10);
        for offset in (0..UNIT).step_by(PAGE) {
            assert_eq!(bytes::<PAGE>(&memory, 1, offset), [0; PAGE], "{offset}");
            assert_eq!(bytes::<PAGE>(&memory, 0, offset), page, "{offset}");
        }
    }

    #[test]
    fn a_scrub_of_odd_bytes_leaves_their_neighbours() {
        let memory = ordinary(1);
        let at = 5 * PAGE;
        for (from, len) in [
            (at + 1, 1),
            (at + 100, PAGE),
            (at, PAGE),
            (at - 1, PAGE + 2),
            (at + 7, 3 * PAGE),
            (at, 0),
            (at + PAGE - 1, 2),
            (at + 1, PAGE - 1),
        ] {
            assert!(memory.write(0, 0, &[0xa5; 12 * PAGE]));
            memory.scrub(0, from, len).unwrap();
            let found = bytes::<{ 12 * PAGE }>(&memory, 0, 0);
            let zero = |at: usize| (from..from + len).contains(&at);
            assert!(
                found.iter().enumerate().all(|(at, byte)| *byte == if zero(at) { 0 } else { 0xa5 }),
                "{from} {len}"
            );
        }
    }

    /// What the kernel does not give back, because it is locked into memory, is zero all the same.
    #[test]
    fn locked_pages_are_scrubbed_too() {
        let memory = ordinary(1);
        // SAFETY: the range is inside the mapping; the call changes no contents.
        let locked = unsafe { libc::mlock(memory.base.as_ptr().cast(), 4 * PAGE) };
        assert!(memory.write(0, 0, &[1; 8 * PAGE]));
        memory.scrub(0, 0, 8 * PAGE).unwrap();
        assert_eq!(bytes::<{ 8 * PAGE }>(&memory, 0, 0), [0; 8 * PAGE], "mlock: {locked}");
    }

    /// Enough hugepages for a unit are free on few machines. There a scrub keeps them, as they must not be taken away.
    #[test]
    fn hugepages_are_kept_and_zero_after_a_scrub_or_missing_with_the_reason() {
        match UnitMemory::new(1, Hugepages::Require, None) {
            Ok(memory) => {
                assert_eq!(memory.backing(), Backing::Hugepages);
                assert_eq!(account(&memory, "Private_Hugetlb"), UNIT as u64 >> 10);
                assert!(memory.write(0, HUGEPAGE - 2, b"abcd"));
                memory.scrub(0, 0, HUGEPAGE).unwrap();
                assert_eq!(&bytes::<4>(&memory, 0, HUGEPAGE - 2), b"\0\0cd");
                memory.scrub(0, HUGEPAGE, UNIT - HUGEPAGE).unwrap();
                assert_eq!(bytes::<4>(&memory, 0, HUGEPAGE - 2), [0; 4]);
                assert_eq!(account(&memory, "Private_Hugetlb"), UNIT as u64 >> 10);
            }
            Err(error) => assert!(error.to_string().contains("units of 64 MiB on 2 MiB hugepages"), "{error}"),
        }
        assert_eq!(UnitMemory::new(2, Hugepages::Prefer, Some(0)).unwrap().units(), 2);
    }

    #[test]
    fn what_there_is_no_memory_for_is_an_error() {
        assert!(matches!(UnitMemory::new(0, Hugepages::Never, None), Err(UnitMemoryError::Empty)));
        let error = UnitMemory::new(u32::MAX, Hugepages::Never, None).unwrap_err().to_string();
        assert!(error.contains("ordinary pages") && error.ends_with("free some memory, or lend less"), "{error}");
        for (number, text) in [(libc::EFAULT, "hugetlb.2MB.max"), (libc::EINVAL, "too old"), (libc::ENOMEM, "memory")] {
            let said = populate_error(io::Error::from_raw_os_error(number)).to_string();
            assert!(said.contains(text), "{said}");
        }
    }

    /// A thread reads while others write and scrub: it sees bytes that were written, or zeros.
    #[test]
    fn threads_share_it() {
        let memory = ordinary(1);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200_usize {
                    let byte = if round % 2 == 0 { 1 } else { 2 };
                    assert!(memory.write(0, 0, &[byte; 3 * PAGE]));
                    memory.scrub(0, PAGE / 2, 2 * PAGE).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let mut out = [0xee; 3 * PAGE];
                let crc = memory.read_with_crc(0, 0, 0, &mut out).unwrap();
                assert!(out.iter().all(|byte| *byte < 3));
                assert_eq!(crc, crc32fast::hash(&out), "the CRC is that of what was read");
            }
        });
    }

    proptest! {
        /// An access is either all inside its unit and has its effect there alone, or has none.
        #[test]
        fn accesses_are_inside_or_nothing(
            unit in 0u32..4,
            near_end in any::<bool>(),
            offset in 0usize..9000,
            len in 0usize..5000,
            byte in 1u8..,
        ) {
            let memory = ordinary(2);
            let offset = if near_end { UNIT - 4500 + offset } else { offset };
            let is_inside = unit < 2 && offset + len <= UNIT;
            prop_assert_eq!(memory.write(unit, offset, &vec![byte; len]), is_inside);
            let mut out = vec![0; len];
            prop_assert_eq!(memory.read(unit, offset, &mut out), is_inside);
            let expected = if is_inside { byte } else { 0 };
            prop_assert!(out.iter().all(|found| *found == expected));
            // All bytes around it, and those of the other unit.
            let from = offset.saturating_sub(64).min(UNIT - 8192);
            for other in 0..2 {
                let found = bytes::<8192>(&memory, other, from);
                for (at, found) in found.iter().enumerate() {
                    let written = is_inside && other == unit && (offset..offset + len).contains(&(from + at));
                    prop_assert_eq!(*found, if written { byte } else { 0 });
                }
            }
            prop_assert_eq!(memory.scrub(unit, offset, len).is_ok(), is_inside);
            for other in 0..2 {
                prop_assert_eq!(bytes::<8192>(&memory, other, from), [0; 8192]);
            }
        }
    }
}
