//! The two ends of a ring.

use crate::word::{SharedWord, Words};
use std::sync::atomic::Ordering;

const TAIL: usize = 0;
const HEAD: usize = 8;
const ASLEEP: usize = 16;
const ENTRIES: usize = 24;

/// Words that a ring needs: a capacity of entries with so many words each.
pub const fn words_for(capacity: usize, entry: usize) -> usize {
    ENTRIES + capacity * entry
}

/// The other end broke the rules of the ring: nothing of it means anything any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end of a ring broke its rules: close it, and open another one")]
pub struct RingBroken;

/// A ring is not inside its memory, or has no entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ring of {capacity} entries does not fit into the memory that is shared: share more, or ask for fewer")]
pub struct TooSmall {
    /// The capacity that was asked for.
    pub capacity: usize,
}

/// What became of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// How many entries were posted, from the first on; the others found no room.
    pub count: usize,
    /// The poller sleeps: ring its bell now.
    pub ring: bool,
}

/// Where a ring lies: entries of `N` words.
#[derive(Debug)]
struct Place<M, const N: usize> {
    memory: M,
    start: usize,
    capacity: usize,
}

impl<M: Words, const N: usize> Place<M, N> {
    fn new(memory: M, start: usize, capacity: usize) -> Result<Self, TooSmall> {
        let end = capacity.checked_mul(N).and_then(|words| words.checked_add(ENTRIES)?.checked_add(start));
        let fits = capacity > 0 && N > 0 && end.is_some_and(|end| end <= memory.words().len());
        if fits { Ok(Self { memory, start, capacity }) } else { Err(TooSmall { capacity }) }
    }

    #[inline]
    fn word(&self, at: usize) -> Result<&M::Word, RingBroken> {
        // Always inside: `new` checked the last one, and memory keeps its length.
        self.memory.words().get(self.start + at).ok_or(RingBroken)
    }

    /// The words of the entry with this number.
    #[inline]
    fn entry(&self, number: u64) -> Result<&[M::Word], RingBroken> {
        // The remainder is below the capacity, which is a usize.
        let at = self.start + ENTRIES + (number % self.capacity as u64) as usize * N;
        self.memory.words().get(at..at + N).ok_or(RingBroken)
    }
}

/// The end that posts.
#[derive(Debug)]
pub struct Poster<M, const N: usize> {
    place: Place<M, N>,
    tail: u64,
    /// The newest that is known of the poller.
    head: u64,
}

impl<M: Words, const N: usize> Poster<M, N> {
    /// The poster of a ring that nobody has used yet, from the word `start` on. Its words are zero.
    ///
    /// # Errors
    /// [`TooSmall`].
    pub fn new(memory: M, start: usize, capacity: usize) -> Result<Self, TooSmall> {
        Ok(Self { place: Place::new(memory, start, capacity)?, tail: 0, head: 0 })
    }

    /// How many entries there is room for. The other end is looked at only if fewer than `wanted` are known of.
    ///
    /// # Errors
    /// [`RingBroken`].
    #[inline]
    pub fn room_for(&mut self, wanted: usize) -> Result<usize, RingBroken> {
        if self.room() < wanted {
            self.look()?;
        }
        Ok(self.room())
    }

    /// How many entries there is room for, as far as is known without another look.
    #[inline]
    fn room(&self) -> usize {
        self.place.capacity - (self.tail - self.head) as usize
    }

    /// Looks how far the poller is.
    #[inline]
    fn look(&mut self) -> Result<(), RingBroken> {
        let head = self.place.word(HEAD)?.load(Ordering::Acquire);
        if !(self.head..=self.tail).contains(&head) {
            return Err(RingBroken);
        }
        self.head = head;
        Ok(())
    }

    /// Posts as many entries of a burst as there is room for.
    ///
    /// # Errors
    /// [`RingBroken`].
    #[inline]
    pub fn post(&mut self, burst: &[[u64; N]]) -> Result<Posted, RingBroken> {
        let count = burst.len().min(self.room_for(burst.len())?);
        for entry in &burst[..count] {
            for (word, value) in self.place.entry(self.tail)?.iter().zip(entry) {
                word.store(*value, Ordering::Relaxed);
            }
            self.tail += 1;
        }
        if count == 0 {
            return Ok(Posted { count, ring: false });
        }
        self.place.word(TAIL)?.store(self.tail, Ordering::Release);
        M::Word::fence();
        let asleep = self.place.word(ASLEEP)?;
        let ring = asleep.load(Ordering::Relaxed) != 0;
        if ring {
            // One bell is enough, until the poller sleeps again.
            asleep.store(0, Ordering::Relaxed);
        }
        Ok(Posted { count, ring })
    }
}

/// The end that polls.
#[derive(Debug)]
pub struct Poller<M, const N: usize> {
    place: Place<M, N>,
    head: u64,
    /// The newest that is known of the poster.
    tail: u64,
}

impl<M: Words, const N: usize> Poller<M, N> {
    /// The poller of a ring that nobody has used yet, from the word `start` on. Its words are zero.
    ///
    /// # Errors
    /// [`TooSmall`].
    pub fn new(memory: M, start: usize, capacity: usize) -> Result<Self, TooSmall> {
        Ok(Self { place: Place::new(memory, start, capacity)?, head: 0, tail: 0 })
    }

    /// Looks how far the poster is.
    #[inline]
    fn look(&mut self) -> Result<(), RingBroken> {
        let tail = self.place.word(TAIL)?.load(Ordering::Acquire);
        let ahead = tail.checked_sub(self.head).ok_or(RingBroken)?;
        if tail < self.tail || ahead > self.place.capacity as u64 {
            return Err(RingBroken);
        }
        self.tail = tail;
        Ok(())
    }

    /// Copies entries out of the ring, each word once, and returns how many.
    ///
    /// # Errors
    /// [`RingBroken`].
    #[inline]
    pub fn poll(&mut self, burst: &mut [[u64; N]]) -> Result<usize, RingBroken> {
        if self.tail - self.head < burst.len() as u64 {
            self.look()?;
        }
        let count = burst.len().min((self.tail - self.head) as usize);
        for entry in &mut burst[..count] {
            for (value, word) in entry.iter_mut().zip(self.place.entry(self.head)?) {
                *value = word.load(Ordering::Relaxed);
            }
            self.head += 1;
        }
        if count > 0 {
            self.place.word(HEAD)?.store(self.head, Ordering::Release);
        }
        Ok(count)
    }

    /// Says that this end is about to sleep. If the answer is true, it may: whatever is posted from now on rings the
    /// bell. If it is false, there is something to poll.
    ///
    /// # Errors
    /// [`RingBroken`].
    pub fn sleep(&mut self) -> Result<bool, RingBroken> {
        self.place.word(ASLEEP)?.store(1, Ordering::Relaxed);
        M::Word::fence();
        self.look()?;
        let may = self.tail == self.head;
        if !may {
            self.wake()?;
        }
        Ok(may)
    }

    /// Says that this end is awake: the poster need not ring. A bell may still be on its way.
    ///
    /// # Errors
    /// [`RingBroken`].
    pub fn wake(&mut self) -> Result<(), RingBroken> {
        self.place.word(ASLEEP)?.store(0, Ordering::Relaxed);
        Ok(())
    }
}
