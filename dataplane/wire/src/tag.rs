//! The 16-byte tag at the head of every link control payload: keyed BLAKE3, cut to 16 bytes.
//!
//! The tag covers the whole record except the tag's own bytes: the 23 header bytes, then the payload from byte 16 on.
//! An all-zero tag means that the record is unsigned. Parsers do not check the tag: the receiver of a record selects
//! the key by role and id, and calls [`verify`].

use crate::HEADER_LEN;
use core::fmt;
use zeroize::zeroize_stack;

/// A key of a node: derived from the cluster key by role and id.
pub type Key = [u8; 32];

/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// The most bytes of stack that a keyed hash uses. Its key may remain there afterwards.
pub const HASH_STACK: usize = 8192;

/// Offset just after the tag in a record, in bytes: a tagged record is never shorter.
pub const TAG_END: usize = HEADER_LEN + TAG_LEN;

/// A tag as it stands in a record.
#[derive(Clone, Copy)]
pub struct Tag([u8; TAG_LEN]);

impl Tag {
    /// The tag of an unsigned record.
    pub const UNSIGNED: Self = Self([0; TAG_LEN]);

    /// The tag that stands in `record`, or `None` when the record is too short to hold one.
    #[inline]
    pub fn read(record: &[u8]) -> Option<Self> {
        record.get(HEADER_LEN..TAG_END)?.try_into().ok().map(Self)
    }

    /// The tag that `record` should have under `key`, or `None` when it is too short to hold one.
    ///
    /// `record` is exactly one record; the content of its tag field does not matter.
    pub fn compute(key: &Key, record: &[u8]) -> Option<Self> {
        let header = record.get(..HEADER_LEN)?;
        let rest = record.get(TAG_END..)?;
        let tag = compute(key, header, rest);
        // The hash left its key on the stack.
        zeroize_stack::<HASH_STACK>();
        Some(Self(tag))
    }

    /// The bytes.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; TAG_LEN] {
        &self.0
    }
}

/// Not inlined, so that all of its stack is free again when it returns.
#[inline(never)]
fn compute(key: &Key, header: &[u8], rest: &[u8]) -> [u8; TAG_LEN] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(header);
    hasher.update(rest);
    let mut tag = [0; TAG_LEN];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

impl PartialEq for Tag {
    /// Takes the same time wherever the tags differ.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        u128::from_ne_bytes(self.0) ^ u128::from_ne_bytes(other.0) == 0
    }
}

impl Eq for Tag {}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Writes the tag of `record`, which is exactly one record, into its tag field.
///
/// Returns whether it did: a record shorter than [`TAG_END`] has no tag field and is left as it is.
pub fn sign(key: &Key, record: &mut [u8]) -> bool {
    let Some(tag) = Tag::compute(key, record) else {
        return false;
    };
    let Some(field) = record.get_mut(HEADER_LEN..TAG_END) else {
        return false;
    };
    field.copy_from_slice(&tag.0);
    true
}

/// Whether the tag in `record`, which is exactly one record, is the one that `key` makes.
pub fn verify(key: &Key, record: &[u8]) -> bool {
    match (Tag::read(record), Tag::compute(key, record)) {
        (Some(found), Some(expected)) => found == expected,
        _ => false,
    }
}

/// Whether `record` has no signature: an all-zero tag, or no room for a tag.
#[inline]
pub fn is_unsigned(record: &[u8]) -> bool {
    Tag::read(record).is_none_or(|tag| tag == Tag::UNSIGNED)
}

#[cfg(test)]
mod tests {
    use super::*;

    // type 1, slave 17, 19 bytes: the tag under the key 00 01 .. 1f, as another program computed it, and "abc"
    const LITERAL: &[u8] = &[
        0x58, 0x4d, 0x56, 0x47, 0x01, 0x00, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x13, 0x00, 0x00, 0x00, 0x00, 0x7a, 0xcc, 0x99, 0x26, 0x1c, 0xa1, 0x6e, 0x00, 0xfc, 0xce, 0x19, 0xcd, 0x66,
        0x2c, 0xf9, 0xe9, 0x61, 0x62, 0x63,
    ];

    fn key() -> Key {
        core::array::from_fn(|i| i as u8)
    }

    #[test]
    fn a_literal_tag_is_made_and_verified() {
        assert!(verify(&key(), LITERAL));
        let mut record = LITERAL.to_vec();
        record[HEADER_LEN..TAG_END].fill(0);
        assert!(is_unsigned(&record) && !verify(&key(), &record));
        assert!(sign(&key(), &mut record));
        assert_eq!(record, LITERAL);
        assert!(!is_unsigned(&record));
    }

    #[test]
    fn every_byte_counts() {
        for at in 0..LITERAL.len() {
            let mut record = LITERAL.to_vec();
            record[at] ^= 0x10;
            assert!(!verify(&key(), &record), "byte {at} is not covered");
        }
        let mut other = key();
        other[31] ^= 1;
        assert!(!verify(&other, LITERAL));
        assert!(!verify(&key(), &LITERAL[..LITERAL.len() - 1]));
    }

    #[test]
    fn a_record_without_room_for_a_tag_is_unsigned() {
        let mut short = LITERAL[..TAG_END - 1].to_vec();
        assert!(!sign(&key(), &mut short));
        assert_eq!(short, &LITERAL[..TAG_END - 1]);
        assert!(!verify(&key(), &short) && is_unsigned(&short));
        assert!(sign(&key(), &mut LITERAL[..TAG_END].to_vec()));
    }
}
