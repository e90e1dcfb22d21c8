//! The memory of a host as flags name it: how much it keeps free, and what lent memory is made of.

use clap::ValueEnum;
use common::units::Size;
use frame::Hugepages;
use std::fmt;
use std::str::FromStr;

/// The least and the most that `auto` keeps free, in bytes.
const KEEP_LEAST: u64 = 256 << 20;
const KEEP_MOST: u64 = 4 << 30;

/// How much memory the host keeps free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepFree {
    /// A sixteenth of its memory, from 256 MiB to 4 GiB.
    Auto,
    /// So many bytes.
    Bytes(u64),
}

impl KeepFree {
    /// The same in bytes, on a host with `total` bytes of memory.
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Auto => (total / 16).clamp(KEEP_LEAST, KEEP_MOST),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for KeepFree {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse::<Size>().map(|size| Self::Bytes(size.0)).map_err(|error| format!("{error}; or auto")),
        }
    }
}

impl fmt::Display for KeepFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => Size(*bytes).fmt(f),
        }
    }
}

/// What lent memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MemoryPages {
    /// Hugepages if enough are free, else ordinary pages.
    Auto,
    /// Hugepages.
    Huge,
    /// Ordinary pages.
    Ordinary,
}

impl fmt::Display for MemoryPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Huge => "huge",
            Self::Ordinary => "ordinary",
        })
    }
}

impl From<MemoryPages> for Hugepages {
    fn from(pages: MemoryPages) -> Self {
        match pages {
            MemoryPages::Auto => Self::Prefer,
            MemoryPages::Huge => Self::Require,
            MemoryPages::Ordinary => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_host_keeps_a_sixteenth_free_or_what_it_was_told() {
        for (total, kept) in [(GIB, 256 << 20), (24 * GIB, 3 * GIB / 2), (512 * GIB, 4 * GIB)] {
            assert_eq!(KeepFree::Auto.bytes(total), kept);
        }
        assert_eq!("2G".parse::<KeepFree>().map(|keep| keep.bytes(1)), Ok(2 * GIB));
        assert_eq!("auto".parse::<KeepFree>().unwrap().to_string(), "auto");
        assert_eq!("512M".parse::<KeepFree>().unwrap().to_string(), "512M");
        assert!("some".parse::<KeepFree>().unwrap_err().ends_with("or auto"));
    }
}
