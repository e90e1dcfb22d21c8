//! Anonymous memory that is read and written by words, without references: for staging areas and for tests.

use crate::PAGE;
use crate::descriptor::{RegisterMode, Userfaultfd, Waking};
use crate::progress::Progress;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Private anonymous memory: pages of 4 KiB (no transparent hugepages), not reserved in advance. Zeros at first.
///
/// Threads may use it at the same time: each access is an atomic word. An access of a missing page that is registered
/// waits until the page is there.
#[derive(Debug)]
pub struct PrivateMemory {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: it owns its mapping, which belongs to no thread.
unsafe impl Send for PrivateMemory {}
// SAFETY: no reference points into the mapping but to atomic words, and those only while they are accessed.
unsafe impl Sync for PrivateMemory {}

impl PrivateMemory {
    /// Maps so many pages.
    ///
    /// # Errors
    /// What mmap(2) or madvise(2) says: too much, or nothing.
    pub fn new(pages: u64) -> io::Result<Self> {
        let len = pages * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no existing memory.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len as usize, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let mapping = if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast::<u8>()) };
        let base = mapping.ok_or_else(io::Error::last_os_error)?;
        let memory = Self { base, len };
        // SAFETY: the mapping just made; the advice changes no contents. A kernel without transparent hugepages says
        // EINVAL, and has none to avoid.
        if unsafe { libc::madvise(start, len as usize, libc::MADV_NOHUGEPAGE) } != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
        Ok(memory)
    }

    /// Its first address.
    pub fn address(&self) -> u64 {
        self.base.as_ptr().addr() as u64
    }

    /// The address of a page.
    pub fn page(&self, page: u64) -> u64 {
        self.address() + page * PAGE
    }

    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes; it always has some.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn word(&self, index: u64) -> &AtomicU64 {
        assert!(index < self.len / 8, "word {index} is not in the memory");
        // SAFETY: the word is inside of the mapping and aligned, and all accesses to it are atomic or the kernel's.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().add(index as usize)) }
    }

    /// Reads a word.
    ///
    /// # Panics
    /// When it is not in the memory.
    pub fn load(&self, index: u64) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    /// Writes a word.
    ///
    /// # Panics
    /// When it is not in the memory.
    pub fn store(&self, index: u64, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// Reads a page, word by word.
    ///
    /// # Panics
    /// When it is not in the memory.
    pub fn read_page(&self, page: u64, out: &mut [u8; PAGE as usize]) {
        let first = page * (PAGE / 8);
        for (bytes, index) in out.chunks_exact_mut(8).zip(first..) {
            bytes.copy_from_slice(&self.load(index).to_ne_bytes());
        }
    }

    /// Registers all of it. No reference points into such a memory, so that this is safe.
    ///
    /// # Errors
    /// As [`Userfaultfd::register`].
    pub fn register(&self, uffd: &Userfaultfd, mode: RegisterMode) -> io::Result<()> {
        // SAFETY: no reference points into the mapping but to atomic words.
        unsafe { uffd.register(self.address(), self.len, mode) }
    }

    /// Moves pages of it to another memory, which is registered with this userfaultfd.
    ///
    /// # Panics
    /// When the pages are not in the memories.
    pub fn move_to(&self, page: u64, to: &Self, place: u64, pages: u64, uffd: &Userfaultfd) -> Progress {
        assert!((page + pages) * PAGE <= self.len && (place + pages) * PAGE <= to.len, "pages are in the memories");
        // SAFETY: no reference points into such a memory but to atomic words, and the pages are inside of both.
        unsafe { uffd.move_pages(to.page(place), self.page(page), pages * PAGE, false, Waking::Wake) }
    }

    /// Drops pages (MADV_DONTNEED): the next access finds zeros, or waits, if they are registered.
    ///
    /// # Errors
    /// What madvise(2) says: the pages are locked, or not in the memory.
    pub fn drop_pages(&self, first: u64, pages: u64) -> io::Result<()> {
        if first.checked_add(pages).is_none_or(|end| end > self.len / PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let start = self.base.as_ptr().wrapping_add((first * PAGE) as usize);
        // SAFETY: the pages are inside of the mapping, and no reference points to them.
        let answer = unsafe { libc::madvise(start.cast(), (pages * PAGE) as usize, libc::MADV_DONTNEED) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for PrivateMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference points into it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_and_pages_dropped() {
        let memory = PrivateMemory::new(2).unwrap();
        assert_eq!((memory.len(), memory.is_empty(), memory.load(3)), (8192, false, 0));
        memory.store(3, 7);
        memory.store(512, 8);
        memory.drop_pages(0, 1).unwrap();
        assert_eq!((memory.load(3), memory.load(512)), (0, 8));
        assert!(memory.drop_pages(1, 2).is_err() && memory.drop_pages(u64::MAX, 2).is_err());
        assert!(PrivateMemory::new(0).is_err());
        let mut bytes = [0; PAGE as usize];
        memory.read_page(1, &mut bytes);
        assert_eq!(bytes[..9], [8, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
