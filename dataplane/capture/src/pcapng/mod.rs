//! The part of pcapng that captures need: a section, its interfaces, packets with nanoseconds, statistics at the end.
//!
//! Little-endian. Blocks are appended to a buffer, from which they are streamed; [`Census`] reads them again.

mod census;

pub use census::{Broken, Census};

use std::time::Duration;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

/// Options of the blocks, by their number.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const SECTION_HARDWARE: u16 = 2;
    pub(super) const SECTION_OS: u16 = 3;
    pub(super) const SECTION_APPLICATION: u16 = 4;
    pub(super) const INTERFACE_NAME: u16 = 2;
    pub(super) const INTERFACE_DESCRIPTION: u16 = 3;
    pub(super) const INTERFACE_TIME_RESOLUTION: u16 = 9;
    pub(super) const INTERFACE_FILTER: u16 = 11;
    pub(super) const PACKET_FLAGS: u16 = 2;
    pub(super) const STATISTICS_START: u16 = 2;
    pub(super) const STATISTICS_END: u16 = 3;
    pub(super) const STATISTICS_RECEIVED: u16 = 4;
    pub(super) const STATISTICS_DROPPED: u16 = 5;
    pub(super) const STATISTICS_ACCEPTED: u16 = 6;
    pub(super) const STATISTICS_DELIVERED: u16 = 8;
}

/// One interface of a section.
#[derive(Clone, Debug)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// A description of it.
    pub description: &'a str,
    /// The filter, as text; empty without one.
    pub filter: &'a str,
    /// The most bytes of a packet.
    pub snaplen: u32,
}

/// The statistics of an interface at the end of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the capture began, since 1970.
    pub began: Duration,
    /// When it ended, since 1970.
    pub ended: Duration,
    /// Packets that passed.
    pub received: u64,
    /// Packets that the filter picked.
    pub accepted: u64,
    /// Packets that the filter picked and for which there was no room.
    pub dropped: u64,
    /// Packets that are in the file.
    pub delivered: u64,
}

/// Appends blocks to a buffer.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Begins a section: the program that wrote it, the hardware and the operating system.
    pub fn section(&mut self, application: &str, hardware: &str, os: &str) {
        self.block(SECTION, |block| {
            block.extend(BYTE_ORDER.to_le_bytes());
            // Version 1.0; the length of the section is not known.
            block.extend([1, 0, 0, 0]);
            block.extend(u64::MAX.to_le_bytes());
            text(block, option::SECTION_HARDWARE, hardware);
            text(block, option::SECTION_OS, os);
            text(block, option::SECTION_APPLICATION, application);
            options_end(block);
        });
    }

    /// Adds an interface; they are numbered from 0.
    pub fn interface(&mut self, interface: &Interface<'_>) {
        self.block(INTERFACE, |block| {
            block.extend(ETHERNET.to_le_bytes());
            block.extend([0; 2]);
            block.extend(interface.snaplen.to_le_bytes());
            text(block, option::INTERFACE_NAME, interface.name);
            text(block, option::INTERFACE_DESCRIPTION, interface.description);
            // Times are in units of 10^-9 seconds.
            value(block, option::INTERFACE_TIME_RESOLUTION, &[9]);
            if !interface.filter.is_empty() {
                // 0: the text of a filter.
                value(block, option::INTERFACE_FILTER, &[&[0], interface.filter.as_bytes()].concat());
            }
            options_end(block);
        });
    }

    /// Adds a packet: its captured bytes in two pieces, and its whole length.
    pub fn packet(&mut self, interface: u32, time: Duration, received: bool, pieces: [&[u8]; 2], len: usize) {
        let captured = pieces[0].len() + pieces[1].len();
        self.block(PACKET, |block| {
            block.extend(interface.to_le_bytes());
            self::time(block, time);
            block.extend((captured as u32).to_le_bytes());
            block.extend((len as u32).to_le_bytes());
            pieces.iter().for_each(|piece| block.extend_from_slice(piece));
            pad(block, captured);
            // The direction: 1 inbound, 2 outbound.
            let direction: u32 = if received { 1 } else { 2 };
            value(block, option::PACKET_FLAGS, &direction.to_le_bytes());
            options_end(block);
        });
    }

    /// Writes the statistics of an interface.
    pub fn statistics(&mut self, interface: u32, statistics: &Statistics) {
        self.block(STATISTICS, |block| {
            block.extend(interface.to_le_bytes());
            time(block, statistics.ended);
            for (number, moment) in
                [(option::STATISTICS_START, statistics.began), (option::STATISTICS_END, statistics.ended)]
            {
                let mut bytes = Vec::with_capacity(8);
                time(&mut bytes, moment);
                value(block, number, &bytes);
            }
            for (number, count) in [
                (option::STATISTICS_RECEIVED, statistics.received),
                (option::STATISTICS_DROPPED, statistics.dropped),
                (option::STATISTICS_ACCEPTED, statistics.accepted),
                (option::STATISTICS_DELIVERED, statistics.delivered),
            ] {
                value(block, number, &count.to_le_bytes());
            }
            options_end(block);
        });
    }

    /// A block's type and its length before and after its body, whose length is a multiple of four.
    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend(kind.to_le_bytes());
        self.out.extend([0; 4]);
        body(self.out);
        let len = ((self.out.len() - start + 4) as u32).to_le_bytes();
        self.out.extend(len);
        if let Some(place) = self.out.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&len);
        }
    }
}

/// A time in nanoseconds: the high half first, each half little-endian.
fn time(block: &mut Vec<u8>, time: Duration) {
    let nanoseconds = time.as_nanos() as u64;
    block.extend(((nanoseconds >> 32) as u32).to_le_bytes());
    block.extend((nanoseconds as u32).to_le_bytes());
}

fn pad(block: &mut Vec<u8>, len: usize) {
    block.extend(std::iter::repeat_n(0, len.next_multiple_of(4) - len));
}

fn value(block: &mut Vec<u8>, number: u16, bytes: &[u8]) {
    let len = bytes.len().min(usize::from(u16::MAX));
    block.extend(number.to_le_bytes());
    block.extend((len as u16).to_le_bytes());
    block.extend_from_slice(bytes.get(..len).unwrap_or(&[]));
    pad(block, len);
}

fn text(block: &mut Vec<u8>, number: u16, text: &str) {
    value(block, number, text.as_bytes());
}

fn options_end(block: &mut Vec<u8>) {
    value(block, option::END, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        out
    }

    #[test]
    fn a_section_is_these_bytes() {
        let expected = [
            &[0x0a, 0x0d, 0x0d, 0x0a, 52, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..],
            &[0xff; 8],
            &[2, 0, 1, 0, b'h', 0, 0, 0],
            &[3, 0, 0, 0],
            &[4, 0, 3, 0, b'a', b'p', b'p', 0],
            &[0; 4],
            &[52, 0, 0, 0],
        ]
        .concat();
        assert_eq!(written(|writer| writer.section("app", "h", "")), expected);
    }

    #[test]
    fn an_interface_is_these_bytes() {
        let interface = Interface { name: "p0", description: "d", filter: "up", snaplen: 300 };
        let expected = [
            &[1, 0, 0, 0, 56, 0, 0, 0, 1, 0, 0, 0, 0x2c, 1, 0, 0][..],
            &[2, 0, 2, 0, b'p', b'0', 0, 0],
            &[3, 0, 1, 0, b'd', 0, 0, 0],
            &[9, 0, 1, 0, 9, 0, 0, 0],
            &[11, 0, 3, 0, 0, b'u', b'p', 0],
            &[0; 4],
            &[56, 0, 0, 0],
        ]
        .concat();
        assert_eq!(written(|writer| writer.interface(&interface)), expected);
    }

    #[test]
    fn a_packet_is_these_bytes() {
        let time = Duration::from_nanos(0x0102_0304_0506_0708);
        for (received, direction) in [(true, 1), (false, 2)] {
            let expected = [
                &[6, 0, 0, 0, 52, 0, 0, 0, 3, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 5, 0, 0, 0, 200, 0, 0, 0][..],
                b"hdata\0\0\0",
                &[2, 0, 4, 0, direction, 0, 0, 0],
                &[0; 4],
                &[52, 0, 0, 0],
            ]
            .concat();
            assert_eq!(written(|writer| writer.packet(3, time, received, [b"h", b"data"], 200)), expected);
        }
    }

    #[test]
    fn statistics_are_these_bytes() {
        let second = Duration::from_nanos(1 << 32 | 5);
        let (received, accepted, dropped, delivered) = (9, 8, 7, 1);
        let statistics = Statistics { began: Duration::ZERO, ended: second, received, accepted, dropped, delivered };
        let count = |number: u8, count: u8| [number, 0, 8, 0, count, 0, 0, 0, 0, 0, 0, 0];
        let expected = [
            &[5, 0, 0, 0, 100, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0][..],
            &[2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[3, 0, 8, 0, 1, 0, 0, 0, 5, 0, 0, 0],
            &count(4, 9),
            &count(5, 7),
            &count(6, 8),
            &count(8, 1),
            &[0; 4],
            &[100, 0, 0, 0],
        ]
        .concat();
        assert_eq!(written(|writer| writer.statistics(2, &statistics)), expected);
    }
}
