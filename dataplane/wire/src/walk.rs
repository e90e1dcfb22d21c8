//! The records of one datagram, in order, and the exact fault where they end early.

use crate::record::BadReason;
use crate::{Record, Scale, SlaveId};
use core::fmt;

/// A bad record: the reason, where it began, and how many bytes were dropped from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// What was wrong.
    pub reason: BadReason,
    /// Offset of the bad record in the datagram, in bytes.
    pub offset: usize,
    /// Bytes from there to the end of the datagram, all of which are dropped.
    pub remainder: usize,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.reason {
            BadReason::Truncated => "fewer bytes than a record header",
            BadReason::Magic => "wrong magic",
            BadReason::Length => "payload_len past the end of the datagram",
            BadReason::SlaveId => "slave id out of range",
        };
        write!(f, "{what} at byte {} ({} bytes dropped)", self.offset, self.remainder)
    }
}

/// Walks the records of one datagram; ends after the first bad one.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    rest: &'a [u8],
    offset: usize,
    scale: Scale,
}

impl<'a> Walk<'a> {
    /// Starts at the first byte of a datagram.
    #[inline]
    pub const fn new(datagram: &'a [u8], scale: Scale) -> Self {
        Self { rest: datagram, offset: 0, scale }
    }

    /// Offset of the next record in the datagram, in bytes.
    #[inline]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    #[cold]
    fn bad(&mut self, reason: BadReason) -> BadRecord {
        let bad = BadRecord { reason, offset: self.offset, remainder: self.rest.len() };
        self.offset += self.rest.len();
        self.rest = &[];
        bad
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(SlaveId, Record<'a>), BadRecord>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = match Record::first(self.rest) {
            Ok(record) => record,
            Err(reason) => return Some(Err(self.bad(reason))),
        };
        let Some(id) = self.scale.slave_id(record.header().slave_id()) else {
            return Some(Err(self.bad(BadReason::SlaveId)));
        };
        let len = record.bytes().len();
        self.offset += len;
        self.rest = self.rest.get(len..).unwrap_or(&[]);
        Some(Ok((id, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{HEADER_LEN, MsgType, RecordHeader, emit};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn datagram(records: &[(u32, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(id, len) in records {
            let at = out.len();
            out.resize(at + HEADER_LEN + len, 0xab);
            let header = RecordHeader::new(MsgType::OPAQUE, id, 1, len as u32);
            emit(&header, &alloc::vec![0xab; len], &mut out[at..]).unwrap();
        }
        out
    }

    #[test]
    fn records_before_a_bad_one_count() {
        let mut bytes = datagram(&[(1, 0), (2, 64), (131_072, 5)]);
        bytes.extend_from_slice(b"tail");
        let mut walk = Walk::new(&bytes, Scale::default());
        assert_eq!(walk.next().unwrap().unwrap().0.get(), 1);
        assert_eq!(walk.next().unwrap().unwrap().0.get(), 2);
        let at = 2 * HEADER_LEN + 64;
        let expected = BadRecord { reason: BadReason::SlaveId, offset: at, remainder: bytes.len() - at };
        assert_eq!(walk.next(), Some(Err(expected)));
        assert_eq!(walk.next(), None);
        assert_eq!(walk.offset(), bytes.len());
    }

    #[test]
    fn an_empty_datagram_has_no_records() {
        assert!(Walk::new(&[], Scale::default()).next().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            check_walk(&bytes);
        }

        #[test]
        fn mutated_datagrams_are_walked_to_their_end(
            records in proptest::collection::vec((0u32..200_000, 0usize..100), 0..20),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = datagram(&records);
            if !bytes.is_empty() {
                for (at, value) in flips {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
                bytes.truncate(cut.index(bytes.len()) + 1);
            }
            check_walk(&bytes);
        }

        #[test]
        fn what_was_emitted_is_walked(records in proptest::collection::vec((0u32..131_072, 0usize..100), 0..20)) {
            let bytes = datagram(&records);
            let seen: Vec<_> = Walk::new(&bytes, Scale::default())
                .map(|r| r.map(|(id, r)| (id.get(), r.payload().len())).unwrap())
                .collect();
            prop_assert_eq!(seen, records);
        }
    }

    fn check_walk(bytes: &[u8]) {
        let mut covered = 0;
        for item in Walk::new(bytes, Scale::default()) {
            match item {
                Ok((_, record)) => covered += record.bytes().len(),
                Err(bad) => {
                    assert_eq!(bad.offset, covered);
                    covered += bad.remainder;
                }
            }
        }
        assert_eq!(covered, bytes.len());
    }
}
