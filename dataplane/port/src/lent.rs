//! Which chunks of a pool a kernel or a device has, so that each comes back exactly once.

use frame::{Frame, Pool};

/// The chunks of a pool that the other side of one queue owns, one bit for each.
pub(crate) struct Lent {
    pool: Pool,
    bits: Box<[u64]>,
    count: usize,
    chunk: u32,
}

impl Lent {
    pub(crate) fn new(pool: Pool) -> Self {
        let words = (pool.slots() as usize).div_ceil(64);
        Self { bits: vec![0; words].into(), count: 0, chunk: pool.chunk(), pool }
    }

    /// How many chunks the other side has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The pool.
    #[inline]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether the other side has this chunk.
    pub(crate) fn has(&self, chunk: u32) -> bool {
        self.bits.get(chunk as usize / 64).is_some_and(|word| word & (1 << (chunk % 64)) != 0)
    }

    /// Notes that a chunk, which nobody else has, is given to the other side.
    #[inline]
    pub(crate) fn note(&mut self, chunk: u32) {
        if let Some(word) = self.bits.get_mut(chunk as usize / 64) {
            *word |= 1 << (chunk % 64);
            self.count += 1;
        }
    }

    /// Takes a frame back, with `len` bytes of data at `offset`; `None` if the other side does not have the chunk, or
    /// the range is not inside it. The numbers are as wide as kernels and devices write them.
    ///
    /// # Safety
    /// The other side gave the chunk back and no longer uses it.
    #[inline]
    pub(crate) unsafe fn take(&mut self, chunk: u64, offset: u64, len: u32) -> Option<Frame> {
        let (word, bit) = (self.bits.get_mut((chunk / 64) as usize)?, 1 << (chunk % 64));
        if *word & bit == 0 || offset.saturating_add(u64::from(len)) > u64::from(self.chunk) {
            return None;
        }
        *word &= !bit;
        self.count -= 1;
        // SAFETY: the bit says that the chunk was taken from this pool for the other side. The bit is cleared, so that
        // nobody takes the chunk twice. The caller guarantees that the other side no longer uses it. The range was
        // checked.
        Some(unsafe { self.pool.chunks().frame(chunk as u32, offset as u16, len as u16) })
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
        // SAFETY: there is no other side here: nobody but this test uses the chunks.
        let mut take =
            |chunk: u32, offset: u16, len: u16| unsafe { lent.take(chunk.into(), offset.into(), len.into()) };
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
