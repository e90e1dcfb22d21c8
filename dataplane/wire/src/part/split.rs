//! Where to cut a message.

use super::PREFIX_LEN;
use crate::record::{FRAG_LAST, FRAG_PART};

/// One record's piece of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the message the piece begins, in bytes.
    pub offset: u32,
    /// Bytes of the message in the piece.
    pub len: u32,
    /// The record's fragment bits: 0 when the piece is the whole message.
    pub is_frag: u8,
}

/// The pieces of a message, in order.
#[derive(Clone, Debug)]
pub struct Split {
    next: u32,
    total: u32,
    most: u32,
    done: bool,
}

/// Cuts a message of `message_len` bytes into records of at most `max_payload` bytes of payload.
///
/// A message that fits is one piece, whole. `None` when a message that does not fit leaves no room for data beside
/// a part's prefix, or has 4 GiB or more.
pub fn split(message_len: usize, max_payload: usize) -> Option<Split> {
    let total = u32::try_from(message_len).ok()?;
    let most = if message_len <= max_payload { total } else { max_payload.checked_sub(PREFIX_LEN)? as u32 };
    let done = false;
    (most != 0 || total == 0).then_some(Split { next: 0, total, most, done })
}

impl Iterator for Split {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.done {
            return None;
        }
        let (offset, len) = (self.next, self.most.min(self.total - self.next));
        self.next += len;
        self.done = self.next == self.total;
        let is_frag = match (len == self.total, self.done) {
            (true, _) => 0,
            (false, false) => FRAG_PART,
            (false, true) => FRAG_PART | FRAG_LAST,
        };
        Some(Piece { offset, len, is_frag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn pieces(message_len: usize, max_payload: usize) -> Option<Vec<(u32, u32, u8)>> {
        Some(split(message_len, max_payload)?.map(|p| (p.offset, p.len, p.is_frag)).collect())
    }

    #[test]
    fn a_message_that_fits_stays_whole() {
        assert_eq!(pieces(0, 0), Some(Vec::from([(0, 0, 0)])));
        assert_eq!(pieces(5, 5), Some(Vec::from([(0, 5, 0)])));
    }

    #[test]
    fn a_larger_one_is_cut_and_its_last_part_says_so() {
        assert_eq!(pieces(20, 16), Some(Vec::from([(0, 8, 1), (8, 8, 1), (16, 4, 3)])));
        assert_eq!(pieces(16, 12), Some(Vec::from([(0, 4, 1), (4, 4, 1), (8, 4, 1), (12, 4, 3)])));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert_eq!(pieces(9, 8), None);
        assert_eq!(pieces(9, 3), None);
        assert_eq!(pieces(1 << 32, 1400), None);
        assert_eq!(pieces(10, 9).map(|p| p.len()), Some(10));
    }
}
