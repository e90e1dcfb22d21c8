//! Areas: extents that have a name, and stay when the connection ends.

use crate::refused::RefusedFor;
use std::fmt;

/// Bytes of the name of an area, at most.
pub const AREA_NAME: usize = 32;

/// The name of an area: 1 to 32 letters, digits, dots, dashes and underscores of ASCII. A dot or a dash is not the
/// first one: such names look like hidden files and flags.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AreaName(String);

impl AreaName {
    /// The name with this text.
    ///
    /// # Errors
    /// [`RefusedFor::AREA_NAME`]: no area can have it.
    pub fn new(text: &str) -> Result<Self, RefusedFor> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_name =
            (1..=AREA_NAME).contains(&text.len()) && text.bytes().all(is_fine) && !text.starts_with(['.', '-']);
        if is_name { Ok(Self(text.to_owned())) } else { Err(RefusedFor::AREA_NAME) }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AreaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client wants of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaUse {
    /// The area with the name, whether it is there already or not.
    Any,
    /// A new area. It must not be there yet.
    New,
    /// An area that is there.
    Existing,
}

impl AreaUse {
    /// Its number in HELLO. 0 is for clients without an area.
    pub const fn number(self) -> u32 {
        match self {
            Self::Any => 1,
            Self::New => 2,
            Self::Existing => 3,
        }
    }

    /// The use with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Any,
            2 => Self::New,
            3 => Self::Existing,
            _ => return None,
        })
    }
}

/// Whether somebody has an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaState {
    /// Nobody has it.
    Parked,
    /// A connection has it.
    InUse,
    /// Its connection has ended, and requests of that are under way.
    Ending,
}

impl AreaState {
    /// Its number in AREA_LIST.
    pub const fn number(self) -> u32 {
        match self {
            Self::Parked => 1,
            Self::InUse => 2,
            Self::Ending => 3,
        }
    }

    /// The state with this number.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Parked,
            2 => Self::InUse,
            3 => Self::Ending,
            _ => return None,
        })
    }

    /// What people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::InUse => "in use",
            Self::Ending => "ending",
        }
    }
}

impl fmt::Display for AreaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a server says about one area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaInfo {
    /// Its name.
    pub name: AreaName,
    /// The number of its user.
    pub user: u32,
    /// Whether somebody has it.
    pub state: AreaState,
    /// The process that has it; 0 if none has, or the server cannot tell.
    pub pid: u32,
    /// Extents of it, lost ones included.
    pub extents: u32,
    /// Those whose bytes are lost.
    pub lost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_no_name() {
        for text in ["a", "disk-1", "A.b_c", "0", &"x".repeat(32), "_"] {
            assert_eq!(AreaName::new(text).unwrap().as_str(), text);
        }
        let long = "x".repeat(33);
        for text in ["", "-a", ".a", "a b", "a/b", "\u{e9}", "a\n", "\x1b[2J", "a\0", &long] {
            assert_eq!(AreaName::new(text), Err(RefusedFor::AREA_NAME), "{text:?}");
        }
    }

    #[test]
    fn numbers_come_back() {
        for number in 0..8 {
            assert!(AreaUse::from_number(number).is_none_or(|found| found.number() == number));
            assert!(AreaState::from_number(number).is_none_or(|found| found.number() == number));
        }
        assert_eq!((AreaUse::from_number(0), AreaState::from_number(0)), (None, None));
    }
}
