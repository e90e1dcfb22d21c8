//! The stock of free chunks of one pool: the state that its handles and its frames share.

use crate::arena::Arena;
use std::cell::Cell;
use std::ptr::NonNull;

/// State behind all handles of one pool and all of its frames.
pub(crate) struct Stock {
    pub(crate) base: NonNull<u8>,
    pub(crate) chunk: u32,
    pub(crate) reserve: u32,
    pub(crate) capacity: u32,
    pub(crate) slots: u32,
    pub(crate) handles: Cell<u32>,
    /// Free chunks: a stack, so that the chunk that is still in the cache goes out next. The first `top` entries are
    /// valid.
    pub(crate) free: Box<[Cell<u32>]>,
    pub(crate) top: Cell<u32>,
    pub(crate) low_water: Cell<u32>,
    pub(crate) arena: Arena,
}

impl Stock {
    /// Where in its chunk a byte is.
    #[inline]
    pub(crate) fn offset(&self, index: u32, byte: NonNull<u8>) -> usize {
        byte.addr().get() - self.base.addr().get() - index as usize * self.chunk as usize
    }
}

/// Returns a chunk; called by the frame that owned it.
///
/// # Safety
/// `shared` is the pool of the frame, and the frame that owned `index` is gone.
#[inline]
pub(crate) unsafe fn put(shared: NonNull<Stock>, index: u32) {
    // SAFETY: a frame keeps its pool alive.
    let pool = unsafe { shared.as_ref() };
    let top = pool.top.get();
    // There is a place for every chunk, and a chunk is put back once: the place exists.
    match pool.free.get(top as usize) {
        Some(place) => {
            place.set(index);
            pool.top.set(top + 1);
        }
        None => crate::never!("a chunk came back to a pool that has all of its chunks"),
    }
    if pool.handles.get() == 0 {
        // SAFETY: the frame is gone, and with it the last use of `shared` by its owner.
        unsafe { release(shared) };
    }
}

/// Returns the chunks of many frames of one pool.
///
/// # Safety
/// `shared` is the pool of the frames, and they are not used again: not even dropped.
#[inline]
pub(crate) unsafe fn put_all(shared: NonNull<Stock>, chunks: &[u32]) {
    // SAFETY: a frame keeps its pool alive.
    let pool = unsafe { shared.as_ref() };
    let top = pool.top.get() as usize;
    // There is a place for every chunk, and a chunk is put back once: the places exist.
    match pool.free.get(top..top + chunks.len()) {
        Some(places) => {
            places.iter().zip(chunks).for_each(|(place, chunk)| place.set(*chunk));
            pool.top.set((top + chunks.len()) as u32);
        }
        None => crate::never!("chunks came back to a pool that has all of its chunks"),
    }
    if pool.handles.get() == 0 {
        // SAFETY: the frames are gone, and with them the last use of `shared` by their owner.
        unsafe { release(shared) };
    }
}

/// Frees everything once neither handles nor frames are left.
///
/// # Safety
/// The caller does not use `shared` afterwards.
#[cold]
pub(crate) unsafe fn release(shared: NonNull<Stock>) {
    // SAFETY: alive until the box is taken back below, which happens once: when the last of handles and frames goes.
    let pool = unsafe { shared.as_ref() };
    if pool.handles.get() == 0 && pool.top.get() == pool.capacity {
        // SAFETY: made by `Box::leak` in `new`; no handle and no frame refers to it any more.
        drop(unsafe { Box::from_raw(shared.as_ptr()) });
    }
}
