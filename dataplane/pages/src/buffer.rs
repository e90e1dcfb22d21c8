//! Buffers: pieces of the memory that is shared with the server.

use crate::error::PagesError;
use channel::ChannelLayout;
use frame::Shared;
use frame::shared::WORD;
use frame::stream::SharedPart;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers begin at a multiple of this many bytes, so that two of them share no cache line.
const LINE: u64 = 64;

/// What zeros are written from.
static ZEROS: [u8; 4096] = [0; 4096];

/// All buffers of a connection.
pub(crate) struct BufferArea {
    memory: Arc<Shared>,
    /// The first word of the buffers.
    start: usize,
    /// The free pieces: bytes by offset. No two of them touch.
    free: Mutex<BTreeMap<u64, u64>>,
}

impl fmt::Debug for BufferArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferArea({:?})", self.memory)
    }
}

impl BufferArea {
    pub(crate) fn new(memory: Arc<Shared>, layout: &ChannelLayout) -> Self {
        let free = Mutex::new(BTreeMap::from([(0, layout.buffers())]));
        Self { memory, start: layout.buffers_at() as usize / WORD, free }
    }

    fn free(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        // The map is whole after every step, whoever panicked.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of so many bytes, rounded up to whole words: the first piece that is large enough.
    pub(crate) fn allocate(self: &Arc<Self>, len: usize) -> Result<Buffer, PagesError> {
        let fail = || PagesError::NoBuffer(len);
        let len = len.max(1).checked_next_multiple_of(WORD).ok_or_else(fail)?;
        let whole = (len as u64).next_multiple_of(LINE);
        let mut free = self.free();
        let (&at, &bytes) = free.iter().find(|(_, bytes)| **bytes >= whole).ok_or_else(fail)?;
        free.remove(&at);
        if bytes > whole {
            free.insert(at + whole, bytes - whole);
        }
        drop(free);
        Ok(Buffer { area: Arc::clone(self), at, len })
    }

    fn give_back(&self, at: u64, len: usize) {
        let mut free = self.free();
        let (mut at, mut bytes) = (at, (len as u64).next_multiple_of(LINE));
        if let Some(next) = free.remove(&(at + bytes)) {
            bytes += next;
        }
        if let Some((&before, &size)) = free.range(..at).next_back()
            && before + size == at
        {
            (at, bytes) = (before, bytes + size);
        }
        free.insert(at, bytes);
    }
}

/// A piece of the memory that is shared with the server. It is free again when it is dropped.
///
/// Bytes are copied into it and out of it. The server could write to it at any time, so it is never borrowed as bytes.
pub struct Buffer {
    area: Arc<BufferArea>,
    /// Where it begins, in bytes from the begin of the buffers.
    at: u64,
    len: usize,
}

impl Buffer {
    /// Its bytes: a multiple of 8.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes. It always has some.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it begins, in bytes from the begin of the buffers.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn is_of(&self, area: &Arc<BufferArea>) -> bool {
        Arc::ptr_eq(&self.area, area)
    }

    /// Its words, which the server may change at any time. They are for bindings to other languages.
    pub fn words(&self) -> &[AtomicU64] {
        let start = self.area.start + self.at as usize / WORD;
        // Always inside: the area gave it out.
        self.area.memory.get(start..start + self.len / WORD).unwrap_or_default()
    }

    /// The byte of the memory at which bytes of the buffer begin, if all of them are inside.
    fn place(&self, at: usize, len: usize) -> Result<u64, PagesError> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok((self.area.start * WORD) as u64 + self.at + at as u64),
            end => Err(PagesError::OutsideBuffer { at, end: end.unwrap_or(usize::MAX), len: self.len }),
        }
    }

    /// Copies bytes out of it, from the byte `at` on.
    ///
    /// # Errors
    /// [`PagesError::OutsideBuffer`]; nothing is copied then.
    pub fn read(&self, at: usize, out: &mut [u8]) -> Result<(), PagesError> {
        let place = self.place(at, out.len())?;
        // It cannot be: the buffer lies in the memory.
        let outside = PagesError::OutsideBuffer { at, end: at + out.len(), len: self.len };
        if self.area.memory.read_bytes(place, out) { Ok(()) } else { Err(outside) }
    }

    /// Copies bytes into it, from the byte `at` on.
    ///
    /// # Errors
    /// [`PagesError::OutsideBuffer`]; nothing is copied then.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), PagesError> {
        let place = self.place(at, bytes.len())?;
        let outside = PagesError::OutsideBuffer { at, end: at + bytes.len(), len: self.len };
        if self.area.memory.write_bytes(place, bytes) { Ok(()) } else { Err(outside) }
    }

    /// Makes bytes of it zero.
    ///
    /// # Errors
    /// [`PagesError::OutsideBuffer`]; nothing is changed then.
    pub fn write_zeros(&mut self, at: usize, len: usize) -> Result<(), PagesError> {
        self.place(at, len)?;
        let end = at + len;
        (at..end).step_by(ZEROS.len()).try_for_each(|at| self.write(at, &ZEROS[..ZEROS.len().min(end - at)]))
    }

    /// Bytes of it, to be sent with [`send`](crate::send) without a copy.
    ///
    /// # Errors
    /// [`PagesError::OutsideBuffer`].
    pub fn part(&self, at: usize, len: usize) -> Result<SharedPart<'_>, PagesError> {
        Ok(SharedPart::Memory { memory: &self.area.memory, at: self.place(at, len)?, len })
    }

    /// Receives from a socket without a copy, and does not wait: first `len` bytes from the byte `at` on, then
    /// `behind`. Returns how many bytes came; 0 at the end of the stream.
    ///
    /// # Errors
    /// The kernel's: [`io::ErrorKind::WouldBlock`] if nothing is there. [`io::ErrorKind::InvalidInput`] if the bytes
    /// are not in the buffer.
    pub fn receive(&mut self, socket: impl AsFd, at: usize, len: usize, behind: &mut [u8]) -> io::Result<usize> {
        let place = self.place(at, len).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.area.memory.receive(socket, place, len, behind)
    }

    /// A copy of all its bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.words().iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.area.give_back(self.at, self.len);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {:#x})", self.len, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Hugepages;
    use proptest::prelude::*;

    fn area() -> Arc<BufferArea> {
        let layout = ChannelLayout::new(2, 4096).unwrap();
        let memory = Arc::new(Shared::new(layout.bytes() as usize, Hugepages::Never).unwrap());
        Arc::new(BufferArea::new(memory, &layout))
    }

    #[test]
    fn what_is_dropped_is_free_again_in_one_piece() {
        let area = area();
        let buffers: Vec<_> = (0..4).map(|_| area.allocate(1000).unwrap()).collect();
        assert!(matches!(area.allocate(1), Err(PagesError::NoBuffer(1))));
        assert!(buffers.iter().all(|buffer| buffer.len() == 1000 && !buffer.is_empty()));
        let mut buffers = buffers;
        buffers.swap_remove(1);
        buffers.swap_remove(0);
        assert!(matches!(area.allocate(4096), Err(PagesError::NoBuffer(4096))));
        assert_eq!(area.allocate(2048).unwrap().at(), 0);
        drop(buffers);
        let all = area.allocate(4096).unwrap();
        assert_eq!((all.at(), all.len()), (0, 4096));
        assert!(area.allocate(usize::MAX).is_err());
    }

    #[test]
    fn nothing_outside_is_read_or_written() {
        let area = area();
        let mut buffer = area.allocate(13).unwrap();
        assert_eq!(buffer.len(), 16);
        for (at, len) in [(0, 17), (16, 1), (17, 0), (usize::MAX, 2)] {
            assert!(matches!(buffer.read(at, &mut vec![0; len]), Err(PagesError::OutsideBuffer { .. })));
            assert!(matches!(buffer.write(at, &vec![1; len]), Err(PagesError::OutsideBuffer { .. })));
        }
        assert!(matches!(buffer.write_zeros(9, 8), Err(PagesError::OutsideBuffer { .. })));
        assert!(matches!(buffer.part(9, 8), Err(PagesError::OutsideBuffer { .. })));
        assert!(buffer.read(16, &mut []).is_ok() && buffer.write(16, &[]).is_ok());
        assert_eq!(buffer.to_vec(), [0; 16]);
    }

    #[test]
    fn bytes_go_through_sockets() {
        let area = area();
        let (mut one, mut two) = (area.allocate(4096 - 64).unwrap(), area.allocate(16).unwrap());
        one.write(0, &[7; 4096 - 64]).unwrap();
        one.write_zeros(8, 4000).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let sent = crate::send(&ours, &[one.part(4000, 12).unwrap(), SharedPart::Bytes(b"end")]).unwrap();
        let mut behind = [0; 9];
        assert_eq!((sent, two.receive(&theirs, 4, 12, &mut behind).unwrap()), (15, 15));
        assert_eq!((&two.to_vec()[4..], &behind[..3]), (&[0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7][..], &b"end"[..]));
        assert_eq!(two.receive(&theirs, 4, 13, &mut []).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn bytes_go_where_they_belong(
            writes in proptest::collection::vec((0usize..100, proptest::collection::vec(any::<u8>(), 0..40)), 1..20),
            at in 0usize..104, len in 0usize..104) {
            let area = area();
            let (mut buffer, mut model) = (area.allocate(104).unwrap(), vec![0; 104]);
            let behind = area.allocate(64).unwrap();
            for (at, bytes) in writes {
                let is_inside = at + bytes.len() <= 104;
                prop_assert_eq!(buffer.write(at, &bytes).is_ok(), is_inside);
                if is_inside {
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            prop_assert_eq!(&buffer.to_vec(), &model);
            let mut out = vec![0; len.min(104 - at)];
            buffer.read(at, &mut out).unwrap();
            prop_assert_eq!(&out, &model[at..at + out.len()]);
            prop_assert_eq!(behind.to_vec(), [0; 64]);
        }

        /// Buffers do not overlap, and all is free in the end.
        #[test]
        fn buffers_do_not_overlap(acts in proptest::collection::vec((any::<bool>(), 1usize..900), 1..80)) {
            let area = area();
            let mut buffers: Vec<Buffer> = Vec::new();
            for (take, size) in acts {
                if take {
                    buffers.extend(area.allocate(size));
                } else if !buffers.is_empty() {
                    buffers.swap_remove(size % buffers.len());
                }
                let place = |buffer: &Buffer| (buffer.at, buffer.at + buffer.len as u64);
                let mut places: Vec<_> = buffers.iter().map(place).collect();
                places.sort_unstable();
                prop_assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0));
                prop_assert!(places.last().is_none_or(|last| last.1 <= 4096));
            }
            drop(buffers);
            prop_assert!(area.allocate(4096).is_ok());
        }
    }
}
