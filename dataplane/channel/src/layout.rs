//! Where the rings and the buffers of a channel lie in its memory.
//!
//! The layout follows from two numbers, which the server tells the client over the socket. The memory itself does not
//! say them: either process could change it there at any time.

use frame::shared::WORD;
use ring::words_for;

/// Words of a request.
pub const REQUEST_WORDS: usize = 4;

/// Words of a completion.
pub const COMPLETION_WORDS: usize = 2;

/// The smallest number of requests that a channel can have under way.
pub const LEAST_CAPACITY: u32 = 2;

/// The largest.
pub const MOST_CAPACITY: u32 = 1 << 15;

/// The most bytes of buffers: 16 GiB.
pub const MOST_BUFFERS: u64 = 1 << 34;

/// Buffers begin and end at a multiple of this many bytes.
pub const BUFFER_UNIT: u64 = 4096;

/// A ring begins at a multiple of this many words: two cache lines, which processors fetch together.
const RING_UNIT: usize = 16;

/// Why a channel cannot have this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The number of requests is no power of two, or out of range.
    #[error("a channel cannot have {0} requests under way: choose a power of two from 2 to 32768")]
    Capacity(u32),
    /// The bytes of buffers are no whole pages, or too many.
    #[error("a channel cannot have {0} bytes of buffers: choose a multiple of 4096, from 4096 to 16 GiB")]
    Buffers(u64),
}

/// The layout of a channel's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLayout {
    capacity: u32,
    buffers: u64,
}

impl ChannelLayout {
    /// The layout of a channel with at most `capacity` requests under way (a power of two, [`LEAST_CAPACITY`] to
    /// [`MOST_CAPACITY`]) and so many bytes of buffers (a multiple of [`BUFFER_UNIT`], at most [`MOST_BUFFERS`]).
    ///
    /// # Errors
    /// [`LayoutError`].
    pub const fn new(capacity: u32, buffers: u64) -> Result<Self, LayoutError> {
        if !capacity.is_power_of_two() || capacity < LEAST_CAPACITY || capacity > MOST_CAPACITY {
            return Err(LayoutError::Capacity(capacity));
        }
        if buffers == 0 || buffers > MOST_BUFFERS || !buffers.is_multiple_of(BUFFER_UNIT) {
            return Err(LayoutError::Buffers(buffers));
        }
        Ok(Self { capacity, buffers })
    }

    /// The most requests under way; both rings have so many places.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of buffers.
    pub const fn buffers(&self) -> u64 {
        self.buffers
    }

    /// The first word of the ring of requests.
    pub const fn requests_at(&self) -> usize {
        0
    }

    /// The first word of the ring of completions.
    pub const fn completions_at(&self) -> usize {
        words_for(self.capacity as usize, REQUEST_WORDS).next_multiple_of(RING_UNIT)
    }

    /// The first byte of the buffers.
    pub const fn buffers_at(&self) -> u64 {
        let words = self.completions_at() + words_for(self.capacity as usize, COMPLETION_WORDS);
        ((words * WORD) as u64).next_multiple_of(BUFFER_UNIT)
    }

    /// Bytes of the memory. The memory that is shared may be longer, for example because of hugepages.
    pub const fn bytes(&self) -> u64 {
        self.buffers_at() + self.buffers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_follow_each_other() {
        let layout = ChannelLayout::new(64, 8192).unwrap();
        assert_eq!((layout.capacity(), layout.buffers(), layout.requests_at()), (64, 8192, 0));
        // 24 + 64 * 4 = 280 words, rounded up to 288; then 24 + 64 * 2 = 152 words.
        assert_eq!((layout.completions_at(), layout.buffers_at(), layout.bytes()), (288, 4096, 12_288));
        let least = ChannelLayout::new(2, 4096).unwrap();
        assert_eq!((least.completions_at(), least.buffers_at(), least.bytes()), (32, 4096, 8192));
        let most = ChannelLayout::new(MOST_CAPACITY, MOST_BUFFERS).unwrap();
        assert_eq!((most.completions_at(), most.buffers_at()), (131_104, 1_576_960));
    }

    #[test]
    fn what_no_channel_can_have_is_refused() {
        for capacity in [0, 1, 3, 65, 1 << 16, u32::MAX] {
            assert_eq!(ChannelLayout::new(capacity, 4096), Err(LayoutError::Capacity(capacity)));
        }
        for buffers in [0, 1, 4095, 4097, MOST_BUFFERS + 4096, u64::MAX] {
            assert_eq!(ChannelLayout::new(64, buffers), Err(LayoutError::Buffers(buffers)));
        }
    }
}
