//! The bytes of a map that is kept: `docs/disk.md` has them, too.

use crate::bits::Bits;
use crate::{BLOCK, EXTENT};

/// Bytes of a page, and of a head.
pub(super) const PAGE: usize = BLOCK as usize;

/// Slots of a page.
pub(super) const SLOTS: u32 = 28;

/// Pages of an extent: each has two places, and the first two blocks are for the head.
pub(super) const PAGES: u32 = EXTENT / BLOCK / 2 - 1;

/// What a page begins with, and a head.
const PAGE_MAGIC: &[u8; 8] = b"GVMPAGE1";
const HEAD_MAGIC: &[u8; 8] = b"GVMDISK1";

/// The version of both.
pub(super) const VERSION: u32 = 1;

/// Where the first slot stands in a page, and how long each is.
const FIRST: usize = 32;
const ENTRY: usize = 144;

/// Bits of a slot's flags.
const HAS_EXTENT: u32 = 1;
const IS_RESERVED: u32 = 2;

/// What is kept of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptSlot {
    pub(crate) extent: Option<u64>,
    pub(crate) present: Bits,
    pub(crate) lost: Bits,
    pub(crate) is_reserved: bool,
}

impl KeptSlot {
    /// The extent that the slot has, if any.
    pub const fn extent(&self) -> Option<u64> {
        self.extent
    }

    fn encode(&self, out: &mut [u8]) {
        let flags = if self.extent.is_some() { HAS_EXTENT } else { 0 } | if self.is_reserved { IS_RESERVED } else { 0 };
        put(out, 0, &self.extent.unwrap_or(0).to_le_bytes());
        put(out, 8, &flags.to_le_bytes());
        for (at, bits) in [(16, &self.present), (80, &self.lost)] {
            for (word, at) in bits.words().iter().zip((at..).step_by(8)) {
                put(out, at, &word.to_le_bytes());
            }
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        let flags = u32_at(bytes, 8);
        let bits = |at: usize| Bits::from_words(std::array::from_fn(|word| u64_at(bytes, at + 8 * word)));
        Self {
            extent: (flags & HAS_EXTENT != 0).then(|| u64_at(bytes, 0)),
            present: bits(16),
            lost: bits(80),
            is_reserved: flags & IS_RESERVED != 0,
        }
    }
}

/// The head of an extent of the map. It says that the extent counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The extent itself: what an earlier extent left in the same memory does not count.
    pub(super) extent: u64,
    /// The one with the larger number replaces others with the same index.
    pub(super) generation: u64,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Which extent of the map it is.
    pub(super) index: u32,
    /// The extent whose place it took, if any.
    pub(super) replaces: Option<u64>,
}

/// What stands where a head should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundHead {
    Good(Head),
    /// Of another version: this one.
    Version(u32),
    Nothing,
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The checksum of a page or a head: over all its bytes, without those from 12 to 15, where it stands itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..12).unwrap_or_default());
    hasher.update(bytes.get(16..PAGE).unwrap_or_default());
    hasher.finalize()
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    put(&mut bytes, 12, &sum.to_le_bytes());
    bytes
}

fn is_whole(bytes: &[u8], magic: &[u8; 8]) -> bool {
    bytes.len() >= PAGE && bytes.starts_with(magic) && u32_at(bytes, 12) == checksum(bytes)
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; PAGE];
        put(&mut out, 0, HEAD_MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 16, &self.extent.to_le_bytes());
        put(&mut out, 24, &self.generation.to_le_bytes());
        put(&mut out, 32, &self.size.to_le_bytes());
        put(&mut out, 40, &self.index.to_le_bytes());
        put(&mut out, 44, &u32::from(self.replaces.is_some()).to_le_bytes());
        put(&mut out, 48, &self.replaces.unwrap_or(0).to_le_bytes());
        sealed(out)
    }

    /// The head in the first block of this extent.
    pub(super) fn decode(bytes: &[u8], extent: u64) -> FoundHead {
        if !is_whole(bytes, HEAD_MAGIC) || u64_at(bytes, 16) != extent {
            return FoundHead::Nothing;
        }
        match u32_at(bytes, 8) {
            VERSION => FoundHead::Good(Self {
                extent,
                generation: u64_at(bytes, 24),
                size: u64_at(bytes, 32),
                index: u32_at(bytes, 40),
                replaces: (u32_at(bytes, 44) == 1).then(|| u64_at(bytes, 48)),
            }),
            other => FoundHead::Version(other),
        }
    }
}

/// A page: where it stands, and which of its versions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHead {
    pub(super) number: u32,
    pub(super) extent: u64,
    pub(super) sequence: u64,
}

impl PageHead {
    pub(super) fn encode(&self, slot: impl Fn(u32) -> Option<KeptSlot>) -> Vec<u8> {
        let mut out = vec![0; PAGE];
        put(&mut out, 0, PAGE_MAGIC);
        put(&mut out, 8, &self.number.to_le_bytes());
        put(&mut out, 16, &self.extent.to_le_bytes());
        put(&mut out, 24, &self.sequence.to_le_bytes());
        for at in 0..SLOTS {
            let place = FIRST + at as usize * ENTRY;
            if let (Some(kept), Some(place)) = (slot(self.number * SLOTS + at), out.get_mut(place..place + ENTRY)) {
                kept.encode(place);
            }
        }
        sealed(out)
    }

    /// The sequence of a page, if this number of this extent stands here.
    pub(super) fn decode(bytes: &[u8], number: u32, extent: u64) -> Option<u64> {
        let is_it = is_whole(bytes, PAGE_MAGIC) && u32_at(bytes, 8) == number && u64_at(bytes, 16) == extent;
        is_it.then(|| u64_at(bytes, 24))
    }

    /// The slots of a page with something in them.
    pub(super) fn slots(bytes: &[u8], number: u32) -> impl Iterator<Item = (u32, KeptSlot)> {
        (0..SLOTS).filter_map(move |at| {
            let place = FIRST + at as usize * ENTRY;
            let kept = KeptSlot::decode(bytes.get(place..place + ENTRY)?);
            (kept != KeptSlot::default()).then_some((number * SLOTS + at, kept))
        })
    }
}

/// The byte of an extent of the map at which a page of this place in it stands, with this sequence.
pub(super) fn place_of(page: u32, sequence: u64) -> u32 {
    (2 + 2 * (page % PAGES) + (sequence % 2) as u32) * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept() -> impl Strategy<Value = Option<KeptSlot>> {
        let bits = || proptest::array::uniform8(any::<u64>()).prop_map(Bits::from_words);
        let slot = (any::<Option<u64>>(), bits(), bits(), any::<bool>());
        proptest::option::of(slot.prop_map(|(extent, present, lost, is_reserved)| KeptSlot {
            extent,
            present,
            lost,
            is_reserved,
        }))
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let head = Head { extent: 0x0102, generation: 3, size: 1 << 33, index: 7, replaces: Some(9) }.encode();
        assert_eq!((head.len(), &head[..12]), (4096, &b"GVMDISK1\x01\0\0\0"[..]));
        assert_eq!(
            (&head[16..18], head[24], &head[32..40], head[40]),
            (&[2, 1][..], 3, &(1u64 << 33).to_le_bytes()[..], 7)
        );
        assert_eq!((head[44], head[48]), (1, 9));
        assert!(head[49..].iter().all(|byte| *byte == 0));
        let mut present = Bits::default();
        present.set(9..11);
        let slot = KeptSlot { extent: Some(0x33), present, lost: Bits::default(), is_reserved: true };
        let page = PageHead { number: 2, extent: 5, sequence: 9 }.encode(|slot_of| (slot_of == 57).then_some(slot));
        assert_eq!((&page[..9], page[16], page[24]), (&b"GVMPAGE1\x02"[..], 5, 9));
        // Slot 57 is the second one of page 2.
        let entry = &page[32 + 144..32 + 288];
        assert_eq!((entry[0], entry[8], &entry[16..18]), (0x33, 3, &[0, 0b110][..]));
        assert!(entry[18..].iter().all(|byte| *byte == 0) && page[32 + 288..].iter().all(|byte| *byte == 0));
        assert_eq!((place_of(0, 4), place_of(0, 5), place_of(256, 0)), (8192, 12288, 16384));
        assert_eq!(place_of(254, 1) + 4096, EXTENT);
    }

    proptest! {
        #[test]
        fn what_was_kept_comes_back(
            slots in proptest::collection::vec(kept(), 28), number in 0u32..1000, extent: u64, sequence: u64) {
            let head = PageHead { number, extent, sequence };
            let page = head.encode(|slot| slots.get((slot - number * SLOTS) as usize).copied().flatten());
            prop_assert_eq!(PageHead::decode(&page, number, extent), Some(sequence));
            prop_assert_eq!(PageHead::decode(&page, number + 1, extent), None);
            prop_assert_eq!(PageHead::decode(&page, number, !extent), None);
            let back: Vec<_> = PageHead::slots(&page, number).collect();
            let expected: Vec<_> = (number * SLOTS..).zip(slots).filter_map(|(at, slot)| {
                Some((at, slot.filter(|slot| *slot != KeptSlot::default())?))
            }).collect();
            prop_assert_eq!(back, expected);
        }

        /// A page that was torn, or any other bytes, count for nothing.
        #[test]
        fn other_bytes_count_for_nothing(
            at in 0usize..4096, flip in 1u8.., bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut page = PageHead { number: 1, extent: 2, sequence: 3 }.encode(|_| None);
            page[at] ^= flip;
            prop_assert_eq!(PageHead::decode(&page, 1, 2), None);
            let mut head = Head { extent: 2, generation: 1, size: 4096, index: 0, replaces: None }.encode();
            head[at] ^= flip;
            prop_assert_eq!(Head::decode(&head, 2), FoundHead::Nothing);
            prop_assert_eq!(Head::decode(&bytes, 2), FoundHead::Nothing);
            prop_assert_eq!(PageHead::decode(&bytes, 1, 2), None);
        }
    }

    #[test]
    fn another_version_is_told_apart() {
        let mut head = Head { extent: 2, generation: 1, size: 4096, index: 0, replaces: None }.encode();
        head[8] = 9;
        assert_eq!(Head::decode(&sealed(head), 2), FoundHead::Version(9));
    }
}
