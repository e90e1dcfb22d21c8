//! 24-bit packet sequence numbers. They wrap around: half of them are before any given one.

/// A packet sequence number. PSNs have no total order; [`Psn::since`] compares two that are less than 2^23 apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Psn(u32);

impl Psn {
    /// How many there are.
    pub const COUNT: u32 = 1 << 24;
    const MASK: u32 = Self::COUNT - 1;

    /// The number with the low 24 bits of `value`.
    #[inline]
    pub const fn new(value: u32) -> Self {
        Self(value & Self::MASK)
    }

    /// The number, below 2^24.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number `count` after this one.
    #[inline]
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self::new(self.0.wrapping_add(count))
    }

    /// The number `count` before this one.
    #[inline]
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self::new(self.0.wrapping_sub(count))
    }

    /// The next one.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// How far this number is after `other`: -2^23 to 2^23 - 1, negative if it is before it.
    #[inline]
    pub const fn since(self, other: Self) -> i32 {
        (self.0.wrapping_sub(other.0) << 8) as i32 >> 8
    }

    /// How many steps up lead from `other` to this number: 0 to 2^24 - 1.
    #[inline]
    pub const fn distance(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0) & Self::MASK
    }

    /// Whether this number is before `other`.
    #[inline]
    pub const fn is_before(self, other: Self) -> bool {
        self.since(other) < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn they_wrap() {
        let last = Psn::new(0x00ff_ffff);
        assert_eq!(last.next(), Psn::new(0));
        assert_eq!(Psn::new(0).minus(1), last);
        assert_eq!((Psn::new(0).since(last), last.since(Psn::new(0))), (1, -1));
        assert!(last.is_before(Psn::new(5)) && !Psn::new(5).is_before(last));
        assert!(!last.is_before(last));
        assert_eq!(Psn::new(2).distance(Psn::new(0x00ff_fffe)), 4);
        assert_eq!(Psn::new(0x1200_0003).get(), 3);
    }

    #[test]
    fn half_of_them_are_before_each() {
        let here = Psn::new(100);
        assert_eq!(here.plus(0x7f_ffff).since(here), 0x7f_ffff);
        assert_eq!(here.plus(0x80_0000).since(here), -0x80_0000);
    }

    proptest! {
        #[test]
        fn since_undoes_plus(start in 0u32..1 << 24, step in -0x80_0000i32..0x80_0000) {
            let start = Psn::new(start);
            let there = start.plus(step as u32);
            prop_assert_eq!(there.since(start), step);
            prop_assert_eq!(there.minus(step as u32), start);
            prop_assert_eq!(start.plus(there.distance(start)), there);
        }
    }
}
