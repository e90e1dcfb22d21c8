//! A moment in four bytes, so that the memory of an idle queue pair is small.

use frame::Time;

/// A moment in units of 2^`SHIFT` nanoseconds. A moment that is longer ago than 2.1 seconds times 2^`SHIFT` looks like
/// now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment<const SHIFT: u32>(u32);

impl<const SHIFT: u32> Moment<SHIFT> {
    /// No moment.
    pub(crate) const NONE: Self = Self(0);

    #[inline]
    pub(crate) fn at(now: Time) -> Self {
        Self(((now >> SHIFT) as u32).max(1))
    }

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Nanoseconds from this moment to `now`, with an error of up to one unit.
    #[inline]
    pub(crate) fn until(self, now: Time) -> Time {
        let units = ((now >> SHIFT) as u32).wrapping_sub(self.0) as i32;
        u64::from(units.max(0).unsigned_abs()) << SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_known_until_it_wraps() {
        let moment = Moment::<10>::at(5_000_000_000_000);
        assert!(!moment.is_none() && Moment::<10>::NONE.is_none());
        assert!(moment.until(5_000_000_100_000).abs_diff(100_000) <= 1024);
        let late = u64::from(u32::MAX) << 10;
        assert!(Moment::<10>::at(late).until(late + 1_000_000).abs_diff(1_000_000) <= 1024);
        assert_eq!((Moment::<0>::at(7).until(9), Moment::<20>::at(7).until(9)), (2, 0));
    }
}
