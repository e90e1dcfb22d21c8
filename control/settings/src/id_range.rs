//! One id, or ids in a row, as text: `17`, `1-8`.

use std::fmt;
use std::str::FromStr;

/// See the module's documentation. It has at least one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: u32,
    last: u32,
}

impl IdRange {
    /// So many ids from the first one on; `None` if that is none, or more than there are.
    pub fn new(first: u32, count: u32) -> Option<Self> {
        Some(Self { first, last: first.checked_add(count.checked_sub(1)?)? })
    }

    /// The first id.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The last id.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// How many ids there are.
    pub fn count(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// The ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        self.first..=self.last
    }
}

impl FromStr for IdRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            (Ok(_), Ok(_)) => Err(format!("{text} goes downwards: write the lower id first, as 1-8")),
            _ => Err(format!("\"{text}\" is no id: write a number, as 17, or ids in a row, as 1-8")),
        }
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count() {
            1 => self.first.fmt(f),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_they_are_read() {
        for (text, first, count) in [("0", 0, 1), ("1-8", 1, 8), ("17", 17, 1), ("4294967295", u32::MAX, 1)] {
            let range: IdRange = text.parse().unwrap();
            assert_eq!((range.first(), range.count(), range.to_string().as_str()), (first, count, text));
            assert_eq!(IdRange::new(first, count as u32), Some(range));
        }
        assert_eq!("5-5".parse::<IdRange>().unwrap().to_string(), "5");
        assert_eq!("1-8".parse::<IdRange>().unwrap().iter().collect::<Vec<_>>(), (1..9).collect::<Vec<_>>());
        for text in ["", "-", "1-", "-1", "a", "1-2-3", "1,2", "4294967296"] {
            assert!(text.parse::<IdRange>().unwrap_err().contains("as 1-8"), "{text}");
        }
        assert!("8-1".parse::<IdRange>().unwrap_err().contains("lower id first"));
        assert_eq!((IdRange::new(1, 0), IdRange::new(u32::MAX, 2)), (None, None));
    }
}
