//! Which chunks of a pool the plugin has, so that each comes back exactly once.

use frame::{Frame, Pool};

/// The chunks of a pool that a queue of the plugin owns: a bit for each.
pub(super) struct Lent {
    pool: Pool,
    bits: Box<[u64]>,
    count: usize,
    chunk: u32,
}

impl Lent {
    pub(super) fn new(pool: Pool) -> Self {
        let words = (pool.capacity() as usize).div_ceil(64);
        Self { bits: vec![0; words].into(), count: 0, chunk: pool.chunk(), pool }
    }

    /// How many chunks the plugin has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The pool.
    #[inline]
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Notes that a chunk, which is nobody else's, is the plugin's now.
    #[inline]
    pub(super) fn note(&mut self, chunk: u32) {
        if let Some(word) = self.bits.get_mut(chunk as usize / 64) {
            *word |= 1 << (chunk % 64);
            self.count += 1;
        }
    }

    /// Takes a frame back; `None` if the plugin does not have the chunk, or the range is not inside it.
    ///
    /// # Safety
    /// The plugin gave the chunk back.
    #[inline]
    pub(super) unsafe fn take(&mut self, chunk: u32, offset: u16, len: u16) -> Option<Frame> {
        let (word, bit) = (self.bits.get_mut(chunk as usize / 64)?, 1 << (chunk % 64));
        if *word & bit == 0 || u32::from(offset) + u32::from(len) > self.chunk {
            return None;
        }
        *word &= !bit;
        self.count -= 1;
        // SAFETY: the bit says that the chunk was taken from this pool for the plugin, and it is cleared, so that nobody
        // takes it twice; the caller says that the plugin is done with it. The range was checked.
        Some(unsafe { self.pool.chunks().frame(chunk, offset, len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Hugepages, PoolConfig};

    #[test]
    fn a_chunk_comes_back_once_and_only_if_it_was_lent() {
        let config = PoolConfig { frames: 100, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let pool = Pool::new(config).unwrap();
        let mut lent = Lent::new(pool.clone());
        let mut chunks = [0; 70];
        assert_eq!(pool.take_free(&mut chunks), 70);
        chunks.iter().for_each(|chunk| lent.note(*chunk));
        let free = (0..100).find(|chunk| !chunks.contains(chunk)).unwrap();
        // SAFETY: there is no plugin here: nobody but this test uses the chunks.
        let mut take = |chunk, offset, len| unsafe { lent.take(chunk, offset, len) };
        assert!(take(free, 0, 0).is_none() && take(100, 0, 0).is_none() && take(u32::MAX, 0, 0).is_none());
        assert!(take(chunks[0], 2000, 49).is_none() && take(chunks[0], u16::MAX, u16::MAX).is_none());
        let frame = take(chunks[0], 2000, 48).unwrap();
        assert_eq!((frame.index(), frame.headroom(), frame.len()), (chunks[0], 2000, 48));
        assert!(take(chunks[0], 0, 0).is_none());
        drop(frame);
        for chunk in &chunks[1..] {
            drop(take(*chunk, 0, 0));
        }
        assert_eq!((lent.len(), pool.free()), (0, 100));
    }
}
