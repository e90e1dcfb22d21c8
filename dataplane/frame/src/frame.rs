//! One owned chunk of an arena: headroom, at most one datagram, tailroom. Always contiguous.

use crate::copy;
use crate::stock::{Stock, put};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

/// An owned buffer of a [`crate::Pool`]; goes back to it when dropped.
///
/// ```text
/// | headroom .......... | data ........ | tailroom ...... |
/// 0                     offset          offset + len      chunk, or the limit
/// ```
pub struct Frame {
    /// First byte of the data.
    data: NonNull<u8>,
    shared: NonNull<Stock>,
    index: u32,
    len: u16,
    /// Bytes that may be appended: up to the end of the chunk, or fewer after [`Frame::limit`]. An append needs nothing
    /// else, and so never reads the pool.
    tailroom: u16,
}

impl Frame {
    /// # Safety
    /// The caller owns the chunk `index` of the pool, and `data .. data + len + tailroom` is inside it.
    #[inline]
    pub(crate) unsafe fn from_parts(
        shared: NonNull<Stock>,
        index: u32,
        data: NonNull<u8>,
        len: u16,
        tailroom: u16,
    ) -> Self {
        Self { data, shared, index, len, tailroom }
    }

    /// The pool, and the number of the chunk in it.
    #[inline]
    pub(crate) fn place(&self) -> (NonNull<Stock>, u32) {
        (self.shared, self.index)
    }

    /// The first byte of the data.
    #[inline]
    pub(crate) fn first_byte(&self) -> NonNull<u8> {
        self.data
    }

    #[inline]
    fn stock(&self) -> &Stock {
        // SAFETY: a frame keeps its pool alive.
        unsafe { self.shared.as_ref() }
    }

    /// Bytes of the chunk.
    #[inline]
    fn chunk(&self) -> usize {
        self.stock().chunk as usize
    }

    /// The data.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: this frame alone owns the chunk, whose memory is mapped and was zeroed; the data is inside it.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len as usize) }
    }

    /// The data, for changing.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`, and `&mut self` is the only way to the bytes.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len as usize) }
    }

    /// First byte after the data.
    #[inline]
    fn tail(&self) -> *mut u8 {
        self.data.as_ptr().wrapping_add(usize::from(self.len))
    }

    /// Bytes of data.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no data.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes before the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.stock().offset(self.index, self.data)
    }

    /// Bytes that may be appended after the data.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.tailroom as usize
    }

    /// From now on the data may grow to at most `most` bytes, if the chunk has room for them.
    #[inline]
    pub fn limit(&mut self, most: usize) {
        let room = self.chunk() - self.headroom() - self.len();
        self.tailroom = most.saturating_sub(self.len()).min(room) as u16;
    }

    /// Number of the chunk in its pool.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Appends bytes; `false`, and nothing is written, when the tailroom is too small.
    #[inline]
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.tailroom() {
            return false;
        }
        // SAFETY: the destination is inside this frame's own chunk (checked above) and is not part of any reference;
        // `bytes` cannot overlap it, as no reference to a frame's tailroom exists.
        unsafe {
            copy::copy(bytes.as_ptr(), self.tail(), bytes.len());
        }
        self.len += bytes.len() as u16;
        self.tailroom -= bytes.len() as u16;
        true
    }

    /// Asks the cache for the place where the next `len` bytes go: two lines and the last.
    #[inline]
    pub fn prefetch_tail(&self, len: usize) {
        copy::prefetch_place(self.tail(), len);
    }

    /// Where the next bytes go: for asking the cache.
    #[inline]
    pub fn place_of_next(&self) -> *const u8 {
        self.tail()
    }

    /// Asks the second-level cache for the line before the data, where headers will be written.
    #[inline]
    pub fn prefetch_front_far(&self) {
        copy::prefetch_far(self.data.as_ptr().wrapping_sub(1));
    }

    /// Asks the cache for the first 128 bytes of the data: they will be parsed.
    #[inline]
    pub fn prefetch_head(&self) {
        copy::prefetch_lines(self.data.as_ptr(), 2);
    }

    /// Asks the cache for all data and for the line before it, because the frame will be sent.
    #[inline]
    pub fn prefetch_whole(&self) {
        copy::prefetch_lines(self.data.as_ptr().wrapping_sub(64), self.len() / 64 + 2);
    }

    /// Extends the data by `len` bytes at the front and returns them, or `None` when the headroom is too small.
    #[inline]
    pub fn prepend(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.headroom() {
            return None;
        }
        // SAFETY: the headroom before the data is part of this frame's own chunk.
        self.data = unsafe { self.data.sub(len) };
        self.len += len as u16;
        self.data_mut().get_mut(..len)
    }

    /// The `len` bytes before the data; `None` when the headroom is smaller. For a frame that a raw port received, the
    /// IP and UDP headers are still there.
    #[inline]
    pub fn before(&self, len: usize) -> Option<&[u8]> {
        if len > self.headroom() {
            return None;
        }
        // SAFETY: the headroom is part of this frame's own chunk, whose memory is mapped and was zeroed.
        Some(unsafe { std::slice::from_raw_parts(self.data.as_ptr().sub(len), len) })
    }

    /// Removes `len` bytes (at most all) from the front of the data.
    #[inline]
    pub fn trim_front(&mut self, len: usize) {
        let len = len.min(self.len());
        // SAFETY: at most to the end of the data, which is inside this frame's own chunk.
        self.data = unsafe { self.data.add(len) };
        self.len -= len as u16;
    }

    /// Reduces the data to its part `start .. start + len`, without headers and padding. Returns `false` and changes
    /// nothing when that part is not inside the data.
    #[inline]
    #[must_use]
    pub fn narrow(&mut self, start: usize, len: usize) -> bool {
        if start > self.len() || len > self.len() - start {
            return false;
        }
        // SAFETY: inside the data, which is inside this frame's own chunk.
        self.data = unsafe { self.data.add(start) };
        self.tailroom += self.len - (start + len) as u16;
        self.len = len as u16;
        true
    }

    /// Shortens the data to `len` bytes; changes nothing when the data is not longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        let len = self.len().min(len) as u16;
        self.tailroom += self.len - len;
        self.len = len;
    }

    /// Sets the data's range of the chunk to `offset .. offset + len`; `false` when that is not inside the chunk.
    ///
    /// Bytes that were not written since the arena was made are zero or from an earlier datagram.
    #[inline]
    pub fn set_range(&mut self, offset: usize, len: usize) -> bool {
        let chunk = self.chunk();
        if offset.saturating_add(len) > chunk {
            return false;
        }
        // SAFETY: back to the start of this frame's own chunk, and on to an offset that was checked to be inside it.
        self.data = unsafe { self.data.sub(self.headroom()).add(offset) };
        self.len = len as u16;
        self.tailroom = (chunk - offset - len) as u16;
        true
    }

    /// The whole tailroom, for a device or a caller to fill before [`Frame::set_range`].
    #[inline]
    pub fn tail_mut(&mut self) -> &mut [u8] {
        // SAFETY: inside this frame's own chunk; mapped memory that was zeroed; `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.tail(), self.tailroom()) }
    }

    /// Gives the chunk to a device: the frame ends without returning to the pool. [`crate::Pool::from_index`] takes it
    /// back. Returns the chunk's number, and offset and length of the data.
    #[inline]
    pub fn into_index(self) -> (u32, u16, u16) {
        let parts = (self.index, self.headroom() as u16, self.len);
        std::mem::forget(self);
        parts
    }
}

/// A frame to look at, which something else owns for `'a`.
#[derive(Debug)]
pub struct FrameView<'a> {
    /// Never dropped, as its owner drops it.
    frame: ManuallyDrop<Frame>,
    owner: PhantomData<&'a Frame>,
}

impl FrameView<'_> {
    /// # Safety
    /// The owner of the chunk neither changes nor drops it during the lifetime of the result.
    #[inline]
    pub(crate) unsafe fn new(frame: Frame) -> Self {
        Self { frame: ManuallyDrop::new(frame), owner: PhantomData }
    }
}

impl<'a> From<&'a Frame> for FrameView<'a> {
    #[inline]
    fn from(frame: &'a Frame) -> Self {
        let &Frame { data, shared, index, len, tailroom } = frame;
        // SAFETY: the owner is borrowed for the lifetime of the result.
        unsafe { Self::new(Frame { data, shared, index, len, tailroom }) }
    }
}

impl Deref for FrameView<'_> {
    type Target = Frame;

    #[inline]
    fn deref(&self) -> &Frame {
        &self.frame
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this frame owned the chunk and is gone after this.
        unsafe { put(self.shared, self.index) };
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} @{}+{})", self.index, self.headroom(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Hugepages, Pool, PoolConfig};
    use proptest::prelude::*;

    fn pool() -> Pool {
        Pool::new(PoolConfig { frames: 16, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
    }

    #[test]
    fn headers_go_before_the_data() {
        let pool = pool();
        let mut frame = pool.alloc().unwrap();
        assert!(frame.is_empty());
        assert!(frame.append(b"payload") && !frame.is_empty());
        frame.prepend(3).unwrap().copy_from_slice(b"hdr");
        assert_eq!(frame.data(), b"hdrpayload");
        frame.trim_front(3);
        assert_eq!((frame.data(), frame.before(3)), (&b"payload"[..], Some(&b"hdr"[..])));
        assert!(frame.before(frame.headroom() + 1).is_none());
        assert!(frame.prepend(5000).is_none());
    }

    #[test]
    fn a_frame_never_grows_past_its_chunk() {
        let pool = pool();
        let mut frame = pool.alloc().unwrap();
        let room = frame.tailroom();
        assert!(frame.append(&vec![7; room]));
        assert!(!frame.append(b"x"));
        assert_eq!((frame.len(), frame.tailroom()), (room, 0));
        assert!(!frame.set_range(2048, 1) && !frame.set_range(usize::MAX, 2));
    }

    #[test]
    fn only_a_part_of_the_data_can_be_kept() {
        let pool = pool();
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"0123456789"));
        assert!(!frame.narrow(4, 7) && !frame.narrow(usize::MAX, 2));
        assert!(frame.narrow(4, 3));
        assert_eq!((frame.data(), frame.headroom() > 128), (&b"456"[..], true));
    }

    #[test]
    fn head_data_and_tail_are_the_chunk_whatever_is_done() {
        let pool = pool();
        let mut frame = pool.alloc().unwrap();
        let whole = |frame: &crate::Frame| frame.headroom() + frame.len() + frame.tailroom();
        assert!(frame.append(&[1; 100]) && frame.narrow(10, 80) && frame.prepend(5).is_some());
        assert_eq!((whole(&frame), frame.len()), (2048, 85));
        frame.trim_front(1);
        frame.truncate(50);
        assert_eq!((whole(&frame), frame.tail_mut().len()), (2048, frame.tailroom()));
        assert!(frame.set_range(300, 7));
        assert_eq!((whole(&frame), frame.headroom(), frame.len()), (2048, 300, 7));
        let (index, offset, len) = frame.into_index();
        assert_eq!((offset, len), (300, 7));
        // SAFETY: the chunk was given away just now, and the range lies inside it.
        let frame = unsafe { pool.from_index(index, offset, len) };
        assert_eq!((whole(&frame), frame.headroom(), frame.len()), (2048, 300, 7));
    }

    #[test]
    fn each_change_moves_the_ends_of_the_data_by_what_it_says() {
        let pool = pool();
        let mut frame = pool.alloc().unwrap();
        let ends = |frame: &crate::Frame| (frame.headroom(), frame.len(), frame.tailroom());
        let (head, _, tail) = ends(&frame);
        assert!(frame.append(&[1; 100]));
        assert_eq!(ends(&frame), (head, 100, tail - 100));
        assert!(frame.narrow(10, 80));
        assert_eq!(ends(&frame), (head + 10, 80, tail - 90));
        assert!(frame.narrow(0, 80) && frame.prepend(5).is_some());
        assert_eq!(ends(&frame), (head + 5, 85, tail - 90));
        frame.trim_front(3);
        assert_eq!(ends(&frame), (head + 8, 82, tail - 90));
        frame.truncate(50);
        assert_eq!(ends(&frame), (head + 8, 50, tail - 58));
        frame.truncate(60);
        assert_eq!(ends(&frame), (head + 8, 50, tail - 58), "no longer than it was");
        assert!(!frame.narrow(51, 0) && !frame.narrow(1, 50) && frame.narrow(50, 0));
        assert_eq!(ends(&frame), (head + 58, 0, tail - 58));
    }

    proptest! {
        #[test]
        fn appends_concatenate(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300),
            0..8)) {
            let pool = pool();
            let mut frame = pool.alloc().unwrap();
            let mut expected = Vec::new();
            for part in &parts {
                if frame.append(part) {
                    expected.extend_from_slice(part);
                }
            }
            prop_assert_eq!(frame.data(), &expected[..]);
        }
    }
}
