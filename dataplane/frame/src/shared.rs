//! Memory that processes share: words that another process may change at any time.
//!
//! It is a memfd. One process makes it and sends the descriptor to another one, which adopts it. Nobody trusts the
//! other one:
//!
//! - The length is sealed. A process that could shorten the file would kill every other one at its next access.
//! - A process could also punch holes into the file. On hugepages an access to a hole kills the process if no hugepage
//!   is free. So when both have mapped the memory, the maker calls [`Shared::freeze`]: from then on nobody maps it for
//!   writing, and nobody makes holes; the mappings that exist can still be written to. The maker reads nothing before.
//! - A `&[u8]` or `&mut [u8]` over such memory would promise the compiler that nobody else writes there. So there are
//!   only atomic words, and copies of bytes (the module `raw`). A load gives a value that somebody wrote, and nothing
//!   follows from it for the next load. Copy what the other process wrote once ([`Shared::read`]), and check the copy.
//!
//! The rings of the crate `ring` lie in it, and the buffers of the crate `channel`.

use crate::arena::{Backing, HUGEPAGE, Hugepages, PAGE, remedy_for};
use crate::{copy, crc, raw};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a word.
pub const WORD: usize = size_of::<AtomicU64>();

/// Nobody changes the length.
const SIZE_SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Nobody maps it for writing any more, makes holes, or changes the seals.
const FREEZE_SEALS: libc::c_int = libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL;

/// Why memory cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The kernel does not give it.
    #[error("cannot share {bytes} bytes on {backing} between processes: {source}; {}", remedy_for(*.backing))]
    Memory {
        /// How much was asked for.
        bytes: usize,
        /// The kind of pages that were asked for.
        backing: Backing,
        /// The kernel's error.
        source: io::Error,
    },
    /// What another process gave is not memory that [`Shared::new`] made.
    #[error("memory that another process shares cannot be used: {0}")]
    Unusable(&'static str),
}

/// See the module's documentation.
pub struct Shared {
    words: NonNull<AtomicU64>,
    bytes: usize,
    backing: Backing,
    file: OwnedFd,
}

// SAFETY: it owns its mapping, which belongs to no thread.
unsafe impl Send for Shared {}
// SAFETY: a shared one gives out shared atomic words only.
unsafe impl Sync for Shared {}

impl Shared {
    /// Makes memory of at least this many zero bytes, in whole pages: 4 KiB, or 2 MiB on hugepages.
    ///
    /// With [`Hugepages::Prefer`], a machine without enough hugepages gives ordinary pages; the reason is logged as a
    /// warning.
    ///
    /// # Errors
    /// [`SharedError::Memory`].
    pub fn new(bytes: usize, hugepages: Hugepages) -> Result<Self, SharedError> {
        if hugepages != Hugepages::Never {
            match Self::make(bytes, Backing::Hugepages) {
                Ok(shared) => return Ok(shared),
                Err(error) if hugepages == Hugepages::Require => return Err(error),
                Err(error) => tracing::warn!("{error}; using ordinary pages"),
            }
        }
        Self::make(bytes, Backing::OrdinaryPages)
    }

    fn make(bytes: usize, backing: Backing) -> Result<Self, SharedError> {
        let (page, huge) = match backing {
            Backing::Hugepages => (HUGEPAGE, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB),
            Backing::OrdinaryPages => (PAGE, 0),
        };
        let fail = |source| SharedError::Memory { bytes, backing, source };
        let too_much = || fail(io::Error::from_raw_os_error(libc::ENOMEM));
        let bytes = bytes.max(1).checked_next_multiple_of(page).ok_or_else(too_much)?;
        let length = libc::off_t::try_from(bytes).map_err(|_| too_much())?;
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge;
        // SAFETY: the name is a C string; the call makes a descriptor and touches no memory of ours.
        let file = owned(unsafe { libc::memfd_create(c"gvm-shared".as_ptr(), flags) }).map_err(fail)?;
        // SAFETY: the call changes a file that nobody else has yet.
        done(unsafe { libc::ftruncate(file.as_raw_fd(), length) }).map_err(fail)?;
        seal(&file, SIZE_SEALS).map_err(fail)?;
        Self::map(file, bytes, backing).map_err(fail)
    }

    /// Takes memory that another process made by [`Shared::new`], with at most `most` bytes.
    ///
    /// # Errors
    /// [`SharedError::Unusable`] if it is anything else; [`SharedError::Memory`].
    pub fn adopt(file: OwnedFd, most: usize) -> Result<Self, SharedError> {
        let Ok(seals) = seals(&file) else {
            return Err(SharedError::Unusable("it is not a memfd"));
        };
        // From here on the length stays as it is.
        if seals & SIZE_SEALS != SIZE_SEALS {
            return Err(SharedError::Unusable("its length is not sealed, so its maker could kill this process"));
        }
        let file = File::from(file);
        let length = file.metadata().ok().and_then(|found| usize::try_from(found.len()).ok());
        let Some(bytes) = length.filter(|bytes| *bytes > 0 && bytes % PAGE == 0) else {
            return Err(SharedError::Unusable("its length is not one of whole pages"));
        };
        if bytes > most {
            return Err(SharedError::Unusable("it is longer than this process allows"));
        }
        let file = OwnedFd::from(file);
        let backing = if is_huge(&file) { Backing::Hugepages } else { Backing::OrdinaryPages };
        Self::map(file, bytes, backing).map_err(|source| SharedError::Memory { bytes, backing, source })
    }

    fn map(file: OwnedFd, bytes: usize, backing: Backing) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        let mapped = if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) };
        let words = mapped.ok_or_else(io::Error::last_os_error)?;
        Ok(Self { words, bytes, backing, file })
    }

    /// From now on nobody maps the memory for writing and nobody makes holes, and all of it is there. Mappings that
    /// exist stay as they are. The maker calls this when every other process has adopted the memory.
    ///
    /// # Errors
    /// [`SharedError::Memory`], also on Linux before 5.1. The memory must not be used then.
    pub fn freeze(&self) -> Result<(), SharedError> {
        let fail = |source| SharedError::Memory { bytes: self.bytes, backing: self.backing, source };
        seal(&self.file, FREEZE_SEALS).map_err(fail)?;
        // Somebody may have made holes before. Unlike an access, this fails with an error if there is no memory.
        // `make` and `adopt` checked that the length is an off_t.
        // SAFETY: the call fills holes of the file with zeros, and shortens nothing.
        done(unsafe { libc::fallocate(self.file.as_raw_fd(), 0, 0, self.bytes as libc::off_t) }).map_err(fail)
    }

    /// The descriptor, to be sent to another process.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What the memory is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Copies words from the word `at` on; `None` if they are not all inside. Each word is loaded once, in any order
    /// with respect to what others write: order it with a word that both sides load and store with acquire and
    /// release.
    #[inline]
    pub fn read(&self, at: usize, out: &mut [u64]) -> Option<()> {
        let words = self.get(at..at.checked_add(out.len())?)?;
        for (to, word) in out.iter_mut().zip(words) {
            *to = word.load(Ordering::Relaxed);
        }
        Some(())
    }

    /// Stores words from the word `at` on; `None` if they are not all inside, and nothing is stored then.
    #[inline]
    pub fn write(&self, at: usize, values: &[u64]) -> Option<()> {
        let words = self.get(at..at.checked_add(values.len())?)?;
        for (word, value) in words.iter().zip(values) {
            word.store(*value, Ordering::Relaxed);
        }
        Some(())
    }

    /// The address of `len` bytes from the byte `at` on, if all of them are inside.
    #[inline]
    pub(crate) fn place(&self, at: u64, len: usize) -> Option<*mut u8> {
        let at = usize::try_from(at).ok().filter(|at| *at <= self.bytes && len <= self.bytes - *at)?;
        // SAFETY: the byte is inside the mapping, or right at its end for no bytes.
        Some(unsafe { self.words.as_ptr().cast::<u8>().add(at) })
    }

    /// Fills `out` with the bytes from the byte `at` on. `false` if they are not all inside; `out` stays as it was
    /// then. Bytes that change meanwhile are some mixture of old and new ones.
    #[inline]
    #[must_use]
    pub fn read_bytes(&self, at: u64, out: &mut [u8]) -> bool {
        let Some(from) = self.place(at, out.len()) else { return false };
        // SAFETY: so many bytes are mapped there, and `out` is not among them: only atomic words point there.
        unsafe { raw::load(from, out) };
        true
    }

    /// The same, in one pass with the CRC-32 of the bytes that were read: `crc` is that of what comes before them, and
    /// the result that of both. `None` if they are not all inside.
    #[inline]
    #[must_use]
    pub fn read_bytes_with_crc(&self, at: u64, crc: u32, out: &mut [u8]) -> Option<u32> {
        let from = self.place(at, out.len())?;
        // SAFETY: as in `read_bytes`.
        Some(unsafe { crc::copy_raw(crc, from, out) })
    }

    /// Writes bytes from the byte `at` on. `false` if they do not all fit; nothing is written then.
    #[inline]
    #[must_use]
    pub fn write_bytes(&self, at: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.place(at, bytes.len()) else { return false };
        // SAFETY: so many bytes are mapped there, and only atomic words point there, whose contents may change at any
        // time.
        unsafe { raw::store(bytes, to) };
        true
    }

    /// Prefetches bytes that will probably be read or written soon. A range outside is ignored.
    #[inline]
    pub fn prefetch_bytes(&self, at: u64, len: usize) {
        // All lines at once are many: the first-level cache would be busy with them, and nothing else could miss it.
        if let Some(start) = self.place(at, len) {
            copy::prefetch_far_lines(start, len.div_ceil(64));
        }
    }
}

impl Deref for Shared {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: so many bytes are mapped, at the start of a page, until `self` is dropped; the length is sealed. Any
        // bytes are atomic words, and whatever other processes do, this one only loads and stores whole words.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.bytes / WORD) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference outlives this.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.bytes) };
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} bytes on {})", self.bytes, self.backing)
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seal(file: &OwnedFd, seals: libc::c_int) -> io::Result<()> {
    // SAFETY: the call changes the seals of a file, and no memory.
    done(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })
}

fn seals(file: &OwnedFd) -> io::Result<libc::c_int> {
    // SAFETY: the call reads the seals of a file.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 { Err(io::Error::last_os_error()) } else { Ok(seals) }
}

/// Whether a memfd is on hugepages: its file system says their size.
fn is_huge(file: &OwnedFd) -> bool {
    // SAFETY: all zeros is a valid statfs, and the kernel fills it.
    let mut found = unsafe { std::mem::zeroed::<libc::statfs>() };
    // SAFETY: the descriptor is open, and `found` is writable.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &mut found) };
    result == 0 && found.f_bsize as usize >= HUGEPAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const PUNCH: libc::c_int = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

    fn two() -> (Shared, Shared) {
        let made = Shared::new(3 * PAGE, Hugepages::Never).unwrap();
        let adopted = Shared::adopt(made.file().try_clone_to_owned().unwrap(), 3 * PAGE).unwrap();
        (made, adopted)
    }

    fn error(result: libc::c_int) -> Option<i32> {
        done(result).err().and_then(|error| error.raw_os_error())
    }

    fn punch(shared: &Shared, at: libc::off_t) -> Option<i32> {
        // SAFETY: the call changes the contents of a file, and not its length.
        error(unsafe { libc::fallocate(shared.file().as_raw_fd(), PUNCH, at, PAGE as libc::off_t) })
    }

    #[test]
    fn what_one_writes_the_other_reads() {
        let (made, adopted) = two();
        assert_eq!((made.len(), adopted.len()), (3 * PAGE / WORD, 3 * PAGE / WORD));
        assert!(made.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        made.write(5, &[7, 8, 9]).unwrap();
        let mut out = [0; 4];
        adopted.read(4, &mut out).unwrap();
        assert_eq!(out, [0, 7, 8, 9]);
        adopted[6].store(1, Ordering::Release);
        assert_eq!(made[6].load(Ordering::Acquire), 1);
    }

    #[test]
    fn nothing_outside_is_read_or_written() {
        let (made, _) = two();
        let end = made.len();
        for at in [end - 1, end, usize::MAX] {
            assert_eq!(made.read(at, &mut [0; 2]), None);
            assert_eq!(made.write(at, &[1; 2]), None);
        }
        assert_eq!(made[end - 1].load(Ordering::Relaxed), 0);
        assert_eq!(made.read(end, &mut []), Some(()));
    }

    #[test]
    fn bytes_are_copied_at_any_place_and_never_outside() {
        let (made, adopted) = two();
        let bytes: Vec<u8> = (0..200).collect();
        assert!(made.write_bytes(13, &bytes));
        let mut out = vec![0xee; 202];
        assert!(adopted.read_bytes(12, &mut out));
        assert_eq!((out[0], &out[1..201], out[201]), (0, &bytes[..], 0));
        let mut out = vec![0; 200];
        assert_eq!(adopted.read_bytes_with_crc(13, 0, &mut out), Some(crc32fast::hash(&bytes)));
        assert_eq!(out, bytes);
        let end = 3 * PAGE as u64;
        assert!(made.write_bytes(end - 2, b"ab") && made.write_bytes(end, b"") && made.read_bytes(end, &mut []));
        for (at, len) in [(end - 1, 2), (end, 1), (end + 1, 0), (u64::MAX, 1), (u64::MAX, 0)] {
            let mut out = vec![7; len];
            assert!(!made.write_bytes(at, &out) && !made.read_bytes(at, &mut out), "{at} {len}");
            assert_eq!(made.read_bytes_with_crc(at, 0, &mut out), None);
            made.prefetch_bytes(at, len);
            assert!(out.iter().all(|byte| *byte == 7));
        }
        made.prefetch_bytes(0, 4096);
        let mut last = [0; 2];
        assert!(adopted.read_bytes(end - 2, &mut last));
        assert_eq!(&last, b"ab");
    }

    #[test]
    fn another_process_writes_into_it_until_it_is_frozen() {
        let (made, _) = two();
        let path = format!("/proc/{}/fd/{}", std::process::id(), made.file().as_raw_fd());
        let write = || {
            let script = format!("printf abcdefgh | dd of={path} bs=8 seek=2 conv=notrunc status=none");
            Command::new("sh").args(["-c", &script]).output().unwrap().status.success()
        };
        assert!(write());
        assert_eq!(made[2].load(Ordering::Relaxed), u64::from_ne_bytes(*b"abcdefgh"));
        made.freeze().unwrap();
        made[2].store(1, Ordering::Relaxed);
        assert!(!write());
        assert_eq!(made[2].load(Ordering::Relaxed), 1);
    }

    #[test]
    fn nobody_changes_its_length() {
        let (made, adopted) = two();
        for length in [0, PAGE as libc::off_t, 4 * PAGE as libc::off_t] {
            // SAFETY: the call changes a file's length or fails. This test expects the failure.
            let result = unsafe { libc::ftruncate(adopted.file().as_raw_fd(), length) };
            assert_eq!(error(result), Some(libc::EPERM));
        }
        made.write(3 * PAGE / WORD - 1, &[1]).unwrap();
    }

    #[test]
    fn once_frozen_nobody_makes_holes_or_writable_mappings() {
        let (made, adopted) = two();
        made.write(0, &[1]).unwrap();
        made.write(PAGE / WORD, &[2]).unwrap();
        // Holes are possible before the memory is frozen; `freeze` fills them.
        assert_eq!(punch(&adopted, 0), None);
        made.freeze().unwrap();
        assert_eq!((made[0].load(Ordering::Relaxed), made[PAGE / WORD].load(Ordering::Relaxed)), (0, 2));
        assert_eq!(punch(&adopted, PAGE as libc::off_t), Some(libc::EPERM));
        // SAFETY: the call makes a hole in a mapping of shared words or fails. This test expects the failure.
        let result = unsafe { libc::madvise(adopted.words.as_ptr().cast(), PAGE, libc::MADV_REMOVE) };
        assert_eq!(error(result), Some(libc::EPERM));
        let again = Shared::adopt(made.file().try_clone_to_owned().unwrap(), 3 * PAGE);
        assert!(matches!(again, Err(SharedError::Memory { .. })), "{again:?}");
        // A process that mapped the memory earlier can still write.
        adopted.write(0, &[3]).unwrap();
        assert_eq!(made[0].load(Ordering::Relaxed), 3);
        // A second `freeze` is an error.
        assert!(made.freeze().is_err());
    }

    #[test]
    fn what_is_no_shared_memory_is_refused_by_name() {
        let why = |file: OwnedFd, most| match Shared::adopt(file, most) {
            Err(SharedError::Unusable(why)) => why,
            other => panic!("{other:?}"),
        };
        let memfd = |flags| {
            // SAFETY: the call makes a descriptor.
            File::from(owned(unsafe { libc::memfd_create(c"test".as_ptr(), flags) }).unwrap())
        };
        let null = File::open("/dev/null").unwrap();
        assert_eq!(why(null.into(), PAGE), "it is not a memfd");
        let open = memfd(libc::MFD_ALLOW_SEALING);
        open.set_len(PAGE as u64).unwrap();
        assert!(why(open.into(), PAGE).starts_with("its length is not sealed"));
        for length in [0, 1, PAGE as u64 + 8] {
            let odd = memfd(libc::MFD_ALLOW_SEALING);
            odd.set_len(length).unwrap();
            let odd = OwnedFd::from(odd);
            seal(&odd, SIZE_SEALS).unwrap();
            assert_eq!(why(odd, 9 * PAGE), "its length is not one of whole pages");
        }
        let (made, _) = two();
        let long = made.file().try_clone_to_owned().unwrap();
        assert_eq!(why(long, 3 * PAGE - 1), "it is longer than this process allows");
    }

    #[test]
    fn hugepages_are_used_if_there_are_some_and_said_if_not() {
        match Shared::new(1, Hugepages::Require) {
            Ok(made) => {
                assert_eq!((made.backing(), made.len()), (Backing::Hugepages, HUGEPAGE / WORD));
                let adopted = Shared::adopt(made.file().try_clone_to_owned().unwrap(), HUGEPAGE).unwrap();
                assert_eq!(adopted.backing(), Backing::Hugepages);
                made.freeze().unwrap();
                assert_eq!(punch(&adopted, 0), Some(libc::EPERM));
            }
            Err(error) => assert!(error.to_string().contains("on 2 MiB hugepages"), "{error}"),
        }
        let made = Shared::new(1, Hugepages::Prefer).unwrap();
        assert!(made.len() * WORD == PAGE || made.backing() == Backing::Hugepages);
        assert!(Shared::new(usize::MAX, Hugepages::Never).is_err());
    }
}
