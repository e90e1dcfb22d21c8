//! What is read from a userfaultfd: messages of 32 bytes.
//!
//! | byte | what |
//! |---|---|
//! | 0 | 0x12 page fault, 0x13 fork, 0x14 remap, 0x15 remove, 0x16 unmap |
//! | 1 to 7 | reserved |
//! | 8 | fault: flags (64 bits: 1 write, 2 write-protected page, 4 minor); fork: descriptor (32); remap: from (64); remove, unmap: start (64) |
//! | 16 | fault: address (64); remap: to (64); remove, unmap: end (64) |
//! | 24 | fault: thread (32), with THREAD_ID; remap: len (64) |

/// Bytes of a message.
pub(crate) const MESSAGE: usize = 32;

/// Why a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// There is no page.
    Missing,
    /// The page is write-protected.
    WriteProtected,
    /// The page exists in the shared memory, and is not mapped.
    Minor,
}

/// A thread waits for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageFault {
    /// The address of the page; with `EXACT_ADDRESS` the one that was touched.
    pub address: u64,
    /// Why it waits.
    pub kind: FaultKind,
    /// It wants to write.
    pub is_write: bool,
    /// The thread, with `THREAD_ID`; else 0.
    pub thread: u32,
}

/// A message, before its descriptor has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Fault(PageFault),
    Fork(u32),
    Remap { from: u64, to: u64, len: u64 },
    Remove { start: u64, end: u64 },
    Unmap { start: u64, end: u64 },
    Unknown(u8),
}

/// Reads one message.
pub(crate) fn parse(bytes: &[u8; MESSAGE]) -> Message {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    let half = |at: usize| {
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[at..at + 4]);
        u32::from_ne_bytes(half)
    };
    match bytes[0] {
        0x12 => {
            let flags = word(8);
            let kind = match flags {
                _ if flags & 2 != 0 => FaultKind::WriteProtected,
                _ if flags & 4 != 0 => FaultKind::Minor,
                _ => FaultKind::Missing,
            };
            Message::Fault(PageFault { address: word(16), kind, is_write: flags & 1 != 0, thread: half(24) })
        }
        0x13 => Message::Fork(half(8)),
        0x14 => Message::Remap { from: word(8), to: word(16), len: word(24) },
        0x15 => Message::Remove { start: word(8), end: word(16) },
        0x16 => Message::Unmap { start: word(8), end: word(16) },
        other => Message::Unknown(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(event: u8, words: [u64; 3]) -> [u8; MESSAGE] {
        let mut bytes = [0; MESSAGE];
        bytes[0] = event;
        for (at, word) in words.into_iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn literal_messages_are_read() {
        let fault =
            |kind, is_write, thread| Message::Fault(PageFault { address: 0x7f00_1234_5000, kind, is_write, thread });
        let cases = [
            (0x12, [0, 0x7f00_1234_5000, 77], fault(FaultKind::Missing, false, 77)),
            (0x12, [1, 0x7f00_1234_5000, 0], fault(FaultKind::Missing, true, 0)),
            (0x12, [3, 0x7f00_1234_5000, 0], fault(FaultKind::WriteProtected, true, 0)),
            (0x12, [4, 0x7f00_1234_5000, 0], fault(FaultKind::Minor, false, 0)),
            (0x13, [9, 0, 0], Message::Fork(9)),
            (0x14, [1 << 12, 2 << 12, 3 << 12], Message::Remap { from: 1 << 12, to: 2 << 12, len: 3 << 12 }),
            (0x15, [1 << 12, 2 << 12, 0], Message::Remove { start: 1 << 12, end: 2 << 12 }),
            (0x16, [1 << 12, 2 << 12, 0], Message::Unmap { start: 1 << 12, end: 2 << 12 }),
            (0x99, [1, 2, 3], Message::Unknown(0x99)),
        ];
        for (event, words, expected) in cases {
            assert_eq!(parse(&bytes(event, words)), expected);
        }
    }

    /// The address is at byte 16, and the thread behind it, as the header has them.
    #[test]
    fn places_are_those_of_the_header() {
        let mut one = [0; MESSAGE];
        one[0] = 0x12;
        one[16] = 0x00;
        one[17] = 0x50;
        one[24] = 5;
        let expected = PageFault { address: 0x5000, kind: FaultKind::Missing, is_write: false, thread: 5 };
        assert_eq!(parse(&one), Message::Fault(expected));
    }
}
