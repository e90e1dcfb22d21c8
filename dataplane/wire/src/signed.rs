//! Records whose payload begins with a tag and a version: link control, and the messages of leases.

use crate::HEADER_LEN;
use crate::record::{MsgType, Record, RecordHeader};
use crate::tag::{self, Key, TAG_LEN};
use zerocopy::{Immutable, IntoBytes};

/// Why a record is not one of the expected type and version.
pub(crate) enum Unexpected {
    /// It has another type, or is a part of a larger message.
    Layout,
    /// The payload ends before the version.
    TooShort,
    /// The major version is this one.
    Version(u8),
}

/// The payload of a whole record with this type and major version.
pub(crate) fn payload_of<'a>(record: &Record<'a>, msg_type: MsgType, major: u8) -> Result<&'a [u8], Unexpected> {
    let header = record.header();
    if header.msg_type() != msg_type || header.is_part() {
        return Err(Unexpected::Layout);
    }
    // The version decides how the rest is read, so it is checked before the length.
    match record.payload().get(TAG_LEN) {
        None => Err(Unexpected::TooShort),
        Some(&found) if found == major => Ok(record.payload()),
        Some(&found) => Err(Unexpected::Version(found)),
    }
}

/// Writes header, fields and `tail` as one record of `len` bytes, zeroes what remains, and signs it.
pub(crate) fn emit_record(
    header: RecordHeader,
    fields: &(impl IntoBytes + Immutable),
    tail: &[u8],
    key: Option<&Key>,
    out: &mut [u8],
) -> Option<usize> {
    let len = HEADER_LEN.checked_add(header.payload_len() as usize)?;
    let record = out.get_mut(..len)?;
    let mut rest = &mut *record;
    for part in [header.as_bytes(), fields.as_bytes(), tail] {
        let (head, after) = rest.split_at_mut_checked(part.len())?;
        head.copy_from_slice(part);
        rest = after;
    }
    rest.fill(0);
    if let Some(key) = key {
        tag::sign(key, record);
    }
    Some(len)
}
