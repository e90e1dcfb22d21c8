//! Keys as text, and what distinguishes them: 64 hex digits, and a fingerprint that reveals nothing.

use crate::Key;
use crate::tag::HASH_STACK;
use core::fmt;
use zeroize::zeroize_stack;

/// Bytes of a key.
pub const KEY_LEN: usize = size_of::<Key>();

const FINGERPRINT_DOMAIN: &[u8] = b"gvm-dp key fingerprint 1\0";

/// Why a text is not a key. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Not 64 characters.
    Length(usize),
    /// A character that is not a hex digit, at this position (from 0).
    Digit(usize),
    /// 64 zeroes: a key that was never filled in.
    Zero,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "a key has 64 hex digits, this text has {len} characters"),
            Self::Digit(at) => write!(f, "a key has 64 hex digits, character {at} is none"),
            Self::Zero => f.write_str("a key of zeros is not a key"),
        }?;
        f.write_str(": make one with `gvm-dp key new`")
    }
}

impl core::error::Error for KeyError {}

/// Eight hex digits that distinguish keys and reveal nothing of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 4]);

impl Fingerprint {
    /// The fingerprint of a key.
    pub fn of(key: &Key) -> Self {
        let mut out = [0; KEY_LEN];
        hash(key, FINGERPRINT_DOMAIN, &mut out);
        let [a, b, c, d, ..] = out;
        Self([a, b, c, d])
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(&self.0, f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A keyed BLAKE3 hash that leaves nothing of its key in memory, and nothing of the result outside `out`.
pub fn hash(key: &Key, input: &[u8], out: &mut Key) {
    /// Not inlined, so that all of its stack is free again when it returns.
    #[inline(never)]
    fn hash(key: &Key, input: &[u8], out: &mut Key) {
        out.copy_from_slice(blake3::keyed_hash(key, input).as_bytes());
    }
    hash(key, input, out);
    zeroize_stack::<HASH_STACK>();
}

/// Reads 64 hex digits, without white space around them.
///
/// # Errors
/// The text is not a key. `key` may hold a part of it then.
pub fn parse(text: &str, key: &mut Key) -> Result<(), KeyError> {
    let digits = text.chars().count();
    if digits != 2 * KEY_LEN {
        return Err(KeyError::Length(digits));
    }
    for (at, digit) in text.chars().enumerate() {
        // The value is below 16, so the cast keeps it.
        let value = digit.to_digit(16).ok_or(KeyError::Digit(at))? as u8;
        key[at / 2] = key[at / 2] << 4 | value;
    }
    if *key == [0; KEY_LEN] { Err(KeyError::Zero) } else { Ok(()) }
}

/// Writes bytes as hex digits.
///
/// # Errors
/// Those of the formatter.
pub fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
