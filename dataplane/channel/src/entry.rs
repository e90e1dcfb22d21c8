//! The words of a request and of a completion.
//!
//! | word | of a request |
//! |---|---|
//! | 0 | tag: the client's own, comes back in the completion |
//! | 1 | number of the extent |
//! | 2 | bits 0 to 31: offset in the extent; bits 32 to 63: length; both in bytes |
//! | 3 | bits 0 to 47: offset in the buffers, in bytes; bits 48 to 55: [`Transfer`]; bits 56 to 63: [`Lane`] |
//!
//! | word | of a completion |
//! |---|---|
//! | 0 | tag of the request |
//! | 1 | bits 0 to 31: [`ChannelStatus`]; bits 32 to 63: bytes that were transferred |

use crate::layout::{COMPLETION_WORDS, ChannelLayout, REQUEST_WORDS};
use crate::status::ChannelStatus;
use crate::{EXTENT, GRAIN};

/// Bits of an offset in the buffers.
const BUFFER_BITS: u32 = 48;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// From the extent into the buffer. Number 1.
    Read,
    /// From the buffer into the extent. Number 2.
    Write,
}

/// Which queue of a slave a request takes. The requests of one lane to one extent are done in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Lane {
    /// Somebody waits for it. Number 1.
    #[default]
    Demand,
    /// Nobody waits for this one: prefetch, write-back, copies. Number 2.
    Bulk,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRequest {
    /// Comes back in the completion; the server does not look at it.
    pub tag: u64,
    /// Which way bytes go.
    pub transfer: Transfer,
    /// How urgent it is.
    pub lane: Lane,
    /// The extent.
    pub extent: u64,
    /// Where in the extent, in bytes: a multiple of [`GRAIN`].
    pub offset: u32,
    /// How many bytes: a multiple of [`GRAIN`], at least one, and not beyond the end of the extent.
    pub len: u32,
    /// Where in the buffers, in bytes from their begin: a multiple of [`GRAIN`].
    pub buffer: u64,
}

impl ChannelRequest {
    /// A request that no server takes, to fill arrays with.
    pub const NONE: Self =
        Self { tag: 0, transfer: Transfer::Read, lane: Lane::Demand, extent: 0, offset: 0, len: 0, buffer: 0 };

    /// Its words. An offset in the buffers of 2^48 and more becomes one that no channel has.
    #[inline]
    pub const fn encode(&self) -> [u64; REQUEST_WORDS] {
        let transfer = match self.transfer {
            Transfer::Read => 1,
            Transfer::Write => 2,
        };
        let lane = match self.lane {
            Lane::Demand => 1,
            Lane::Bulk => 2,
        };
        let last = (1 << BUFFER_BITS) - 1;
        let buffer = if self.buffer > last { last } else { self.buffer };
        let range = self.offset as u64 | (self.len as u64) << 32;
        [self.tag, self.extent, range, buffer | transfer << BUFFER_BITS | lane << (BUFFER_BITS + 8)]
    }

    /// Reads and checks words that a client wrote: copies, which do not change any more.
    ///
    /// # Errors
    /// The status with which the request ends, if it asks for what no channel of this layout can do.
    #[inline]
    pub const fn decode(words: &[u64; REQUEST_WORDS], layout: &ChannelLayout) -> Result<Self, ChannelStatus> {
        let &[tag, extent, range, what] = words;
        let transfer = match (what >> BUFFER_BITS) & 0xff {
            1 => Transfer::Read,
            2 => Transfer::Write,
            _ => return Err(ChannelStatus::MALFORMED),
        };
        let lane = match what >> (BUFFER_BITS + 8) {
            1 => Lane::Demand,
            2 => Lane::Bulk,
            _ => return Err(ChannelStatus::MALFORMED),
        };
        let (offset, len) = (range as u32, (range >> 32) as u32);
        let buffer = what & ((1 << BUFFER_BITS) - 1);
        if !(offset | len | buffer as u32).is_multiple_of(GRAIN) {
            return Err(ChannelStatus::MALFORMED);
        }
        if len == 0 || len > EXTENT || offset > EXTENT - len {
            return Err(ChannelStatus::OUT_OF_RANGE);
        }
        if buffer > layout.buffers() || len as u64 > layout.buffers() - buffer {
            return Err(ChannelStatus::BAD_BUFFER);
        }
        Ok(Self { tag, transfer, lane, extent, offset, len, buffer })
    }
}

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelCompletion {
    /// The tag of the request.
    pub tag: u64,
    /// How it ended.
    pub status: ChannelStatus,
    /// Bytes that were transferred: all, or 0.
    pub len: u32,
}

impl ChannelCompletion {
    /// Its words.
    #[inline]
    pub const fn encode(&self) -> [u64; COMPLETION_WORDS] {
        [self.tag, self.status.number() as u64 | (self.len as u64) << 32]
    }

    /// Reads words that a server wrote. Any words are a completion.
    #[inline]
    pub const fn decode(words: &[u64; COMPLETION_WORDS]) -> Self {
        let &[tag, what] = words;
        Self { tag, status: ChannelStatus::from_number(what as u32), len: (what >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAYOUT: ChannelLayout = match ChannelLayout::new(64, 1 << 20) {
        Ok(layout) => layout,
        Err(_) => panic!(),
    };

    const READ: ChannelRequest = ChannelRequest {
        tag: 0x1122_3344_5566_7788,
        transfer: Transfer::Read,
        lane: Lane::Bulk,
        extent: 0x3_0000_0005,
        offset: 0x1000,
        len: 0x2000,
        buffer: 0x4_0000,
    };

    #[test]
    fn the_words_are_as_documented() {
        let words = [0x1122_3344_5566_7788, 0x3_0000_0005, 0x0000_2000_0000_1000, 0x0201_0000_0004_0000];
        assert_eq!((READ.encode(), ChannelRequest::decode(&words, &LAYOUT)), (words, Ok(READ)));
        let done = ChannelCompletion { tag: 7, status: ChannelStatus::NO_SUCH_EXTENT, len: 0 };
        assert_eq!((done.encode(), ChannelCompletion::decode(&[7, 8])), ([7, 8], done));
        let done = ChannelCompletion { tag: 7, status: ChannelStatus::DONE, len: 4096 };
        assert_eq!((done.encode(), ChannelCompletion::decode(&[7, 4096 << 32])), ([7, 4096 << 32], done));
    }

    #[test]
    fn what_no_channel_can_do_has_its_status() {
        let end = |request: ChannelRequest| ChannelRequest::decode(&request.encode(), &LAYOUT).err();
        for odd in [
            ChannelRequest { offset: 4, ..READ },
            ChannelRequest { len: 4095, ..READ },
            ChannelRequest { buffer: 1, ..READ },
        ] {
            assert_eq!(end(odd), Some(ChannelStatus::MALFORMED));
        }
        for (offset, len) in [(0, 0), (0, EXTENT + 8), (EXTENT, 8), (EXTENT - 8, 16), (u32::MAX - 7, 8), (8, EXTENT)] {
            assert_eq!(end(ChannelRequest { offset, len, ..READ }), Some(ChannelStatus::OUT_OF_RANGE));
        }
        for (buffer, len) in [(1 << 20, 8), ((1 << 20) - 8, 16), (8, 1 << 20), ((1 << 48) - 8, 8), (1 << 47, 8)] {
            assert_eq!(end(ChannelRequest { buffer, len, ..READ }), Some(ChannelStatus::BAD_BUFFER));
        }
        assert_eq!(end(ChannelRequest { buffer: (1 << 20) - 8, len: 8, ..READ }), None);
        assert!(end(ChannelRequest { buffer: 1 << 48, ..READ }).is_some());
        // An entry that nobody wrote asks for nothing.
        assert_eq!(ChannelRequest::decode(&[0; 4], &LAYOUT), Err(ChannelStatus::MALFORMED));
        for what in [0x0200, 0x0203, 0x0001, 0x0301, 0xff01] {
            assert_eq!(ChannelRequest::decode(&[0, 0, 8 << 32, what << 48], &LAYOUT), Err(ChannelStatus::MALFORMED));
        }
    }

    proptest! {
        /// Whatever a client writes: what is taken lies inside, and has the same words again.
        #[test]
        fn what_is_taken_lies_inside(words in any::<[u64; 4]>(), small in any::<[u16; 3]>(), tame in any::<bool>()) {
            let [offset, len, buffer] = small.map(|word| u64::from(word) << 3);
            let tamed = [words[0], words[1], offset | len << 32, buffer | (1 + words[3] % 3) << 48 | 1 << 56];
            let words = if tame { tamed } else { words };
            if let Ok(request) = ChannelRequest::decode(&words, &LAYOUT) {
                prop_assert!(request.len > 0 && u64::from(request.offset) + u64::from(request.len) <= EXTENT.into());
                prop_assert!(request.buffer + u64::from(request.len) <= LAYOUT.buffers());
                prop_assert_eq!(request.encode(), words);
            }
        }
    }
}
