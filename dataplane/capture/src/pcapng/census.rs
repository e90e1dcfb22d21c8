//! Counts the blocks of a stream while it passes, whatever pieces it comes in.

use super::{BYTE_ORDER, PACKET, SECTION, STATISTICS, option};
use std::fmt;

/// The longest block that is accepted.
const LONGEST: usize = 1 << 20;

/// The stream is not pcapng of [`super::Writer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not a pcapng")
    }
}

impl std::error::Error for Broken {}

/// What the stream contained so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Packets.
    pub packets: u64,
    /// Packets without room, as the statistics say.
    pub dropped: u64,
    /// Packets that passed, as the statistics say.
    pub received: u64,
    /// Blocks of statistics.
    pub statistics: u64,
    /// A block that is not all here yet.
    partial: Vec<u8>,
    begun: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Census {
    /// Takes in the next piece of the stream.
    ///
    /// # Errors
    /// It is not pcapng; from there on nothing is counted.
    pub fn read(&mut self, piece: &[u8]) -> Result<(), Broken> {
        self.partial.extend_from_slice(piece);
        let bytes = std::mem::take(&mut self.partial);
        let mut rest = &bytes[..];
        while let Some(len) = u32_at(rest, 4) {
            let len = len as usize;
            if len < 12 || !len.is_multiple_of(4) || len > LONGEST {
                return Err(Broken);
            }
            let Some((block, after)) = rest.split_at_checked(len) else { break };
            self.block(block)?;
            rest = after;
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    /// Whether the stream ended at the end of a block.
    pub fn is_whole(&self) -> bool {
        self.begun && self.partial.is_empty()
    }

    fn block(&mut self, block: &[u8]) -> Result<(), Broken> {
        let len = block.len();
        if u32_at(block, len - 4) != u32_at(block, 4) {
            return Err(Broken);
        }
        match u32_at(block, 0) {
            Some(SECTION) if u32_at(block, 8) == Some(BYTE_ORDER) => self.begun = true,
            Some(SECTION) => return Err(Broken),
            _ if !self.begun => return Err(Broken),
            Some(PACKET) => self.packets += 1,
            Some(STATISTICS) => {
                self.statistics += 1;
                self.options(block.get(20..len - 4).ok_or(Broken)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn options(&mut self, mut options: &[u8]) {
        while let (Some(number), Some(len)) = (u16_at(options, 0), u16_at(options, 2)) {
            let len = usize::from(len);
            let value = options.get(4..4 + len).and_then(|value| <[u8; 8]>::try_from(value).ok());
            let value = value.map_or(0, u64::from_le_bytes);
            match number {
                option::END => return,
                option::STATISTICS_DROPPED => self.dropped += value,
                option::STATISTICS_RECEIVED => self.received += value,
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Interface, Statistics, Writer};
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn file(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.section("test", "", "");
        writer.interface(&Interface { name: "a", description: "", filter: "", snaplen: 65_535 });
        for bytes in packets {
            writer.packet(0, Duration::ZERO, true, [b"head", bytes], bytes.len() + 4);
        }
        let statistics = Statistics { received: 7, dropped: 3, ..Statistics::default() };
        writer.statistics(0, &statistics);
        writer.statistics(0, &statistics);
        out
    }

    proptest! {
        #[test]
        fn everything_is_counted_in_whatever_pieces(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            piece in 1usize..300,
        ) {
            let file = file(&packets);
            let mut census = Census::default();
            for piece in file.chunks(piece) {
                prop_assert_eq!(census.read(piece), Ok(()));
            }
            prop_assert!(census.is_whole());
            prop_assert_eq!((census.packets, census.statistics), (packets.len() as u64, 2));
            prop_assert_eq!((census.dropped, census.received), (6, 14));
        }

        /// The input is random bytes in random pieces. Without a section nothing is counted, and the stream is not
        /// whole.
        #[test]
        fn what_does_not_begin_with_a_section_counts_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            blocks in proptest::collection::vec((1u32..8, proptest::collection::vec(any::<[u8; 4]>(), 0..20)), 0..4),
            piece in 1usize..50,
        ) {
            let mut stream: Vec<u8> = blocks.iter().flat_map(|(kind, body)| block(*kind, &body.concat())).collect();
            stream.extend(&bytes);
            prop_assume!(u32_at(&stream, 0) != Some(SECTION));
            let mut census = Census::default();
            let broken = stream.chunks(piece).any(|piece| census.read(piece).is_err());
            prop_assert!(!census.is_whole());
            let Census { packets, dropped, received, statistics, .. } = census;
            prop_assert_eq!((packets, dropped, received, statistics), (0, 0, 0, 0));
            // The first whole block is refused.
            prop_assert!(broken || blocks.is_empty());
        }

        /// Garbage behind a good beginning is refused, kept as an incomplete block, or counted. It never counts as more
        /// packets than its bytes have room for.
        #[test]
        fn garbage_behind_a_good_beginning_changes_nothing_that_was_counted(
            bytes in proptest::collection::vec(any::<u8>(), 1..200),
        ) {
            let good = file(&[vec![1; 20]]);
            let mut census = Census::default();
            prop_assert_eq!(census.read(&good), Ok(()));
            let before = census.clone();
            let read = census.read(&bytes);
            // A block has 12 bytes at least: its kind, and twice its length.
            let more = (census.packets - before.packets) + (census.statistics - before.statistics);
            prop_assert!(more <= bytes.len() as u64 / 12);
            prop_assert!(more > 0 || (census.dropped, census.received) == (before.dropped, before.received));
            prop_assert!(read.is_err() || census.is_whole() || bytes.ends_with(&census.partial));
        }
    }

    /// A block of any kind.
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (12 + body.len() as u32).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    }

    /// Where the blocks of a good file begin, and how long they are.
    fn blocks(file: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        while let Some(len) = u32_at(file, found.last().map_or(0, |(begin, len)| begin + len) + 4) {
            found.push((found.last().map_or(0, |(begin, len)| begin + len), len as usize));
        }
        found
    }

    #[test]
    fn a_wrong_bit_is_noticed_where_blocks_are_told_apart_and_changes_no_count_elsewhere() {
        let good = file(&[vec![1; 20], vec![2; 33]]);
        let blocks = blocks(&good);
        assert_eq!(blocks.len(), 6, "a section, an interface, two packets, and statistics twice");
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut spoilt = good.clone();
            spoilt[at] ^= 1 << bit;
            let mut census = Census::default();
            let read = census.read(&spoilt);
            let (begin, len) = *blocks.iter().rfind(|(begin, _)| *begin <= at).unwrap();
            let inside = at - begin;
            let is_length = (4..8).contains(&inside) || inside >= len - 4;
            let is_section = begin == 0 && (inside < 4 || (8..12).contains(&inside));
            let counts = (census.packets, census.statistics);
            if is_length || is_section {
                assert!(read.is_err() || !census.is_whole(), "bit {bit} of byte {at}");
                assert!(census.packets <= 2 && census.statistics <= 2, "bit {bit} of byte {at}: {counts:?}");
            } else if inside < 4 {
                // A damaged type turns the block into one of another kind.
                assert!(counts.0.abs_diff(2) + counts.1.abs_diff(2) <= 2, "bit {bit} of byte {at}: {counts:?}");
            } else {
                assert_eq!((read, counts), (Ok(()), (2, 2)), "bit {bit} of byte {at}");
                assert!(census.is_whole());
            }
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_or_something_else_is_noticed() {
        let file = file(&[]);
        let mut census = Census::default();
        census.read(&file[..file.len() - 1]).unwrap();
        assert!(!census.is_whole() && !Census::default().is_whole());
        assert_eq!(Census::default().read(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Broken));
        assert_eq!(Census::default().read(&[1, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0]), Err(Broken), "no section");
    }
}
