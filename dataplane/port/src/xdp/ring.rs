//! The four rings that an AF_XDP socket shares with the kernel: one producer, one consumer, no locks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

/// An entry of a ring: plain integers, for which any bytes are valid.
pub(super) trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for libc::xdp_desc {}

/// The memory of one ring, laid out as the kernel said.
struct Ring<T> {
    map: NonNull<libc::c_void>,
    map_len: usize,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
}

impl<T: Entry> Ring<T> {
    /// Maps the ring of `size` entries (a power of two) that the socket has at `page_offset`.
    fn map(socket: BorrowedFd<'_>, page_offset: i64, layout: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        assert!(size.is_power_of_two());
        let map_len = layout.desc as usize + size as usize * size_of::<T>();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let map = unsafe { libc::mmap(null_mut(), map_len, protection, flags, socket.as_raw_fd(), page_offset) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map).ok_or_else(|| io::Error::other("the kernel mapped a ring at address 0"))?;
        // SAFETY: the kernel gave these offsets for a mapping of this length, aligned for what lies there.
        unsafe {
            Ok(Self {
                map,
                map_len,
                producer: map.byte_add(layout.producer as usize).cast(),
                consumer: map.byte_add(layout.consumer as usize).cast(),
                flags: map.byte_add(layout.flags as usize).cast(),
                entries: map.byte_add(layout.desc as usize).cast(),
                mask: size - 1,
            })
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping, which lives as long as `self`; the kernel too uses it as an atomic integer.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as in `producer`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn entry(&self, position: u32) -> *mut T {
        // SAFETY: the masked position is below the ring's size, so the entry is inside the mapping.
        unsafe { self.entries.as_ptr().add((position & self.mask) as usize) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; no reference into it outlives `self`.
        unsafe { libc::munmap(self.map.as_ptr(), self.map_len) };
    }
}

/// Our end of a ring that the kernel reads: fill, TX.
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// Next position to write; [`Producer::publish`] publishes the entries before it.
    head: u32,
    /// The kernel's position, as last seen.
    tail: u32,
}

impl<T: Entry> Producer<T> {
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        page_offset: i64,
        layout: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        let ring = Ring::map(socket, page_offset, layout, size)?;
        let (head, tail) = (ring.producer().load(Ordering::Relaxed), ring.consumer().load(Ordering::Acquire));
        Ok(Self { ring, head, tail })
    }

    /// How many entries can be pushed now.
    #[inline]
    pub(super) fn room(&mut self) -> u32 {
        // Acquire: the kernel has read an entry before it moves its position; only then may the entry be written again.
        self.tail = self.ring.consumer().load(Ordering::Acquire);
        self.ring.mask + 1 - self.head.wrapping_sub(self.tail)
    }

    /// Whether the kernel has read all that was published.
    #[inline]
    pub(super) fn is_empty(&mut self) -> bool {
        self.room() == self.ring.mask + 1
    }

    /// Writes an entry, which is invisible before [`Producer::publish`]; `false` when the ring is full.
    #[inline]
    #[must_use]
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.head.wrapping_sub(self.tail) > self.ring.mask && self.room() == 0 {
            return false;
        }
        // SAFETY: the position is not the kernel's: it is at most the ring's size ahead of what the kernel has read.
        unsafe { self.ring.entry(self.head).write(entry) };
        self.head = self.head.wrapping_add(1);
        true
    }

    /// Shows all pushed entries to the kernel.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: the entries are written before the kernel sees the position behind them.
        self.ring.producer().store(self.head, Ordering::Release);
    }

    /// Whether the kernel sleeps until a system call wakes it.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// Our end of a ring that the kernel writes: RX, completion.
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// Next position to read.
    tail: u32,
    /// The kernel's position, as last seen.
    head: u32,
}

impl<T: Entry> Consumer<T> {
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        page_offset: i64,
        layout: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        let ring = Ring::map(socket, page_offset, layout, size)?;
        let (tail, head) = (ring.consumer().load(Ordering::Relaxed), ring.producer().load(Ordering::Acquire));
        Ok(Self { ring, tail, head })
    }

    /// The next entry; it belongs to the ring until [`Consumer::release`].
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.tail == self.head {
            // Acquire: the kernel wrote the entries before it moved its position.
            self.head = self.ring.producer().load(Ordering::Acquire);
            if self.tail == self.head {
                return None;
            }
        }
        // SAFETY: the position is before the kernel's, so the entry is written; it is not released, so it stays.
        let entry = unsafe { self.ring.entry(self.tail).read() };
        self.tail = self.tail.wrapping_add(1);
        Some(entry)
    }

    /// Entries that were seen and not yet popped.
    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// The entry that [`Consumer::pop`] returns after `ahead` others, within the kernel's last seen position.
    #[inline]
    pub(super) fn ahead(&self, ahead: u32) -> Option<T> {
        if self.head.wrapping_sub(self.tail) <= ahead {
            return None;
        }
        // SAFETY: as in `pop`.
        Some(unsafe { self.ring.entry(self.tail.wrapping_add(ahead)).read() })
    }

    /// Gives all popped entries back to the kernel, to be written again.
    #[inline]
    pub(super) fn release(&mut self) {
        // Release: the entries were read before the kernel sees that it may write them.
        self.ring.consumer().store(self.tail, Ordering::Release);
    }
}
