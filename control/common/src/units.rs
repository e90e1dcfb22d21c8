//! Durations and sizes as people write them: `50us`, `1s`, `inf`; `12G`, `512M`.

use frame::time::{FOREVER, MICROSECOND, MILLISECOND, SECOND};
use std::fmt;
use std::str::FromStr;

/// A duration in nanoseconds; [`FOREVER`] is written `inf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub u64);

/// A size in bytes. `K`, `M`, `G`, `T` are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A text that is neither a duration nor a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("\"{0}\" is not a duration: write a number and ns, us, ms or s, as in 50us; or inf")]
    Duration(String),
    /// Not a size.
    #[error("\"{0}\" is not a size: write bytes, or a number and K, M, G or T, as in 12G")]
    Size(String),
}

const DURATIONS: [(&str, u64); 4] = [("s", SECOND), ("ms", MILLISECOND), ("us", MICROSECOND), ("ns", 1)];
const SIZES: [(&str, u64); 5] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];

/// A whole number and one of the units.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes the value in the largest unit that divides it.
fn write(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |&&(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(factor);
    let (unit, factor) = units.iter().find(fits).or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{unit}", value / factor)
}

impl FromStr for Duration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text == "inf" {
            return Ok(Self(FOREVER));
        }
        parse(text, &DURATIONS).map(Self).ok_or_else(|| UnitError::Duration(text.to_owned()))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == FOREVER { f.write_str("inf") } else { write(self.0, &DURATIONS, f) }
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZES).map(Self).ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self.0, &SIZES, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_and_sizes_are_read_as_written() {
        for (text, ns) in [("50us", 50_000), ("1s", SECOND), ("0ns", 0), ("3ms", 3_000_000), ("inf", FOREVER)] {
            assert_eq!(text.parse(), Ok(Duration(ns)));
            assert_eq!(Duration(ns).to_string(), text);
        }
        for (text, bytes) in [("12G", 12 << 30), ("512M", 512 << 20), ("4097", 4097), ("1T", 1 << 40), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_is_neither_is_explained() {
        for text in ["", "50", "us", "-1us", "1.5ms", "50 us", "99999999999999999s"] {
            assert!(text.parse::<Duration>().unwrap_err().to_string().contains("as in 50us"), "{text}");
        }
        for text in ["", "G", "12g", "-1", "1e9", "99999999999T"] {
            assert!(text.parse::<Size>().unwrap_err().to_string().contains("as in 12G"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_read_back(value in any::<u64>()) {
            prop_assert_eq!(Duration(value).to_string().parse(), Ok(Duration(value)));
            prop_assert_eq!(Size(value).to_string().parse(), Ok(Size(value)));
        }
    }
}
