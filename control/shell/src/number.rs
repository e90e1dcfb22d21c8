//! Whole numbers on a command line. A refusal names the range, not the limits of a machine type.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::ops::{Bound, RangeBounds};

/// A type that holds whole numbers.
pub trait WholeNumber: Copy + Send + Sync + 'static {
    /// The least one.
    const LEAST: u64;
    /// The largest one.
    const MOST: u64;

    /// A number in the type, if it fits.
    fn of(number: u64) -> Option<Self>;
}

macro_rules! whole {
    ($($kind:ty),*) => {$(
        impl WholeNumber for $kind {
            const LEAST: u64 = 0;
            const MOST: u64 = <$kind>::MAX as u64;

            fn of(number: u64) -> Option<Self> {
                number.try_into().ok()
            }
        }
    )*};
}

macro_rules! positive {
    ($($kind:ty),*) => {$(
        impl WholeNumber for $kind {
            const LEAST: u64 = 1;
            const MOST: u64 = <$kind>::MAX.get() as u64;

            fn of(number: u64) -> Option<Self> {
                number.try_into().ok().and_then(Self::new)
            }
        }
    )*};
}

whole!(u8, u16, u32, u64, usize);
positive!(NonZeroU16, NonZeroU32, NonZeroU64);

/// Reads a number of this range, as far as the type holds it. The error says what to write.
pub fn number<T: WholeNumber>(
    range: impl RangeBounds<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    let least = match range.start_bound() {
        Bound::Included(least) => *least,
        Bound::Excluded(below) => below.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let most = match range.end_bound() {
        Bound::Included(most) => *most,
        Bound::Excluded(above) => above.saturating_sub(1),
        Bound::Unbounded => u64::MAX,
    };
    let (least, most) = (least.max(T::LEAST), most.min(T::MOST));
    move |text| {
        let read = text.parse().ok().filter(|number| (least..=most).contains(number)).and_then(T::of);
        read.ok_or_else(|| match most {
            u64::MAX => format!("write a whole number, {least} or more"),
            _ => format!("write a whole number from {least} to {most}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_what_is_none_is_explained() {
        assert_eq!(number::<u16>(1..=1024)("64"), Ok(64));
        assert_eq!(number::<NonZeroU32>(..)("1"), Ok(NonZeroU32::MIN));
        assert_eq!(number::<u64>(1..)("18446744073709551615"), Ok(u64::MAX));
        for text in ["0", "1025", "x", "", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(number::<u16>(1..=1024)(text), Err("write a whole number from 1 to 1024".to_owned()), "{text}");
        }
        assert_eq!(number::<u64>(1..)("0"), Err("write a whole number, 1 or more".to_owned()));
        assert_eq!(number::<NonZeroU64>(..)("0"), Err("write a whole number, 1 or more".to_owned()));
        assert_eq!(number::<NonZeroU16>(..)("0"), Err("write a whole number from 1 to 65535".to_owned()));
        assert_eq!(number::<u8>(..7)("7"), Err("write a whole number from 0 to 6".to_owned()));
    }
}
