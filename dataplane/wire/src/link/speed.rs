//! The speed of a node's link, in few steps. Masters use it when they choose the nodes that lend memory.

use core::fmt;

/// The least speed of each class from 1 on, in Mbit/s. Later versions append.
const LEAST: [u32; 13] =
    [0, 100, 1_000, 2_500, 5_000, 10_000, 25_000, 40_000, 50_000, 100_000, 200_000, 400_000, 800_000];

/// The class of a link's speed.
///
/// | class | link |
/// |---|---|
/// | 0 | unknown |
/// | 1 | below 100 Mbit/s |
/// | 2 | 100 Mbit/s or more |
/// | 3 | 1 Gbit/s |
/// | 4 | 2.5 Gbit/s |
/// | 5 | 5 Gbit/s |
/// | 6 | 10 Gbit/s |
/// | 7 | 25 Gbit/s |
/// | 8 | 40 Gbit/s |
/// | 9 | 50 Gbit/s |
/// | 10 | 100 Gbit/s |
/// | 11 | 200 Gbit/s |
/// | 12 | 400 Gbit/s |
/// | 13 | 800 Gbit/s or more |
///
/// A larger class is a faster link, also one that this version does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpeedClass(pub u8);

impl SpeedClass {
    /// The speed of the link is unknown.
    pub const UNKNOWN: Self = Self(0);

    /// The class of a link of this many Mbit/s; for 0 it is [`UNKNOWN`](Self::UNKNOWN).
    pub fn of_mbit(mbit: u32) -> Self {
        match mbit {
            0 => Self::UNKNOWN,
            // There are 13 classes.
            _ => Self(LEAST.iter().filter(|least| **least <= mbit).count() as u8),
        }
    }

    /// The least speed of a link of this class, in Mbit/s; `None` if it is not known.
    pub fn least_mbit(self) -> Option<u32> {
        LEAST.get(usize::from(self.0).checked_sub(1)?).copied()
    }
}

impl fmt::Display for SpeedClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.least_mbit()) {
            (0, _) => f.write_str("unknown"),
            (_, None) => write!(f, "class {}", self.0),
            (_, Some(0)) => f.write_str("below 100M"),
            (_, Some(mbit)) if mbit < 1_000 => write!(f, "{mbit}M"),
            (_, Some(mbit)) if mbit % 1_000 != 0 => write!(f, "{}.{}G", mbit / 1_000, mbit % 1_000 / 100),
            (_, Some(mbit)) => write!(f, "{}G", mbit / 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn each_speed_has_the_class_of_the_next_lower_step() {
        let speeds = [0, 1, 99, 100, 999, 1_000, 2_500, 10_000, 24_999, 25_000, 100_000, 800_000, u32::MAX];
        assert_eq!(speeds.map(|mbit| SpeedClass::of_mbit(mbit).0), [0, 1, 1, 2, 2, 3, 4, 6, 6, 7, 10, 13, 13]);
        for class in 1..=13 {
            let least = SpeedClass(class).least_mbit().unwrap();
            assert_eq!(SpeedClass::of_mbit(least.max(1)), SpeedClass(class));
        }
        assert_eq!((SpeedClass(0).least_mbit(), SpeedClass(14).least_mbit()), (None, None));
    }

    #[test]
    fn a_class_is_shown_by_its_least_speed() {
        let shown = [0, 1, 2, 3, 4, 6, 13, 14].map(|class| SpeedClass(class).to_string());
        assert_eq!(shown, ["unknown", "below 100M", "100M", "1G", "2.5G", "10G", "800G", "class 14"]);
    }
}
