//! How large the next record is.

use std::fmt;
use std::str::FromStr;
use wire::echo;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// The largest payload that an IPv4 datagram has room for.
pub const MOST: usize = 65_535 - wire::IPV4_UDP_LEN as usize - wire::HEADER_LEN;

/// Payload sizes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All the same, in bytes.
    Fixed(usize),
    /// Seven of 64, four of 576, one of 1400 bytes in every twelve, mixed: the simple IMIX, with payloads instead of
    /// packets. A payload that does not fit the route is cut to the size that fits.
    Imix,
    /// The sizes of pages: 4096 bytes where they fit the route, otherwise four pieces of 1024 bytes to the same slave.
    Page,
}

/// A text that is no [`Sizes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizesError(String);

impl fmt::Display for SizesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a size: write bytes of payload ({} to {MOST}), imix, or page", self.0, echo::MIN_LEN)
    }
}

impl std::error::Error for SizesError {}

impl FromStr for Sizes {
    type Err = SizesError;

    fn from_str(text: &str) -> Result<Self, SizesError> {
        match text {
            "imix" => Ok(Self::Imix),
            "page" => Ok(Self::Page),
            _ => match text.parse() {
                Ok(bytes) if (echo::MIN_LEN..=MOST).contains(&bytes) => Ok(Self::Fixed(bytes)),
                _ => Err(SizesError(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => bytes.fmt(f),
            Self::Imix => f.write_str("imix"),
            Self::Page => f.write_str("page"),
        }
    }
}

/// Mixed so that neighbours differ; 7 : 4 : 1.
const IMIX: [usize; 12] = [64, 576, 64, 64, 576, 64, 1400, 64, 576, 64, 576, 64];

/// Deals sizes in turn.
#[derive(Clone, Debug)]
pub struct Dealer {
    sizes: Sizes,
    turn: usize,
}

impl Dealer {
    /// Deals these sizes.
    pub fn new(sizes: Sizes) -> Self {
        Self { sizes, turn: 0 }
    }

    /// The next records to one slave whose route has room for `most` bytes of payload: how large, and how many.
    ///
    /// `None` when a fixed size does not fit, or not even the shortest payload.
    #[inline]
    pub fn deal(&mut self, most: usize) -> Option<(usize, u32)> {
        if most < echo::MIN_LEN {
            return None;
        }
        match self.sizes {
            Sizes::Fixed(bytes) => (bytes <= most).then_some((bytes, 1)),
            Sizes::Page if most >= PAGE => Some((PAGE, 1)),
            Sizes::Page => Some((most.min(PAGE / 4), 4)),
            Sizes::Imix => {
                let bytes = IMIX.get(self.turn).copied().unwrap_or(64);
                self.turn = (self.turn + 1) % IMIX.len();
                Some((bytes.min(most), 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        for text in ["64", "imix", "page", "16"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for text in ["15", "", "-1", "65485", "pages"] {
            let error = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(error.ends_with("write bytes of payload (16 to 65484), imix, or page"), "{error}");
        }
    }

    #[test]
    fn the_mix_is_seven_to_four_to_one() {
        let mut dealer = Dealer::new(Sizes::Imix);
        let mut dealt: Vec<_> = (0..24).map(|_| dealer.deal(1449).unwrap().0).collect();
        dealt.sort_unstable();
        assert_eq!(dealt, [[64; 14].as_slice(), &[576; 8], &[1400; 2]].concat());
        let cut: Vec<_> = (0..12).map(|_| dealer.deal(1229).unwrap().0).filter(|&bytes| bytes > 576).collect();
        assert_eq!(cut, [1229]);
    }

    #[test]
    fn pages_are_cut_where_they_do_not_fit_and_fixed_sizes_never() {
        assert_eq!(Dealer::new(Sizes::Page).deal(8949), Some((4096, 1)));
        assert_eq!(Dealer::new(Sizes::Page).deal(1449), Some((1024, 4)));
        assert_eq!(Dealer::new(Sizes::Fixed(1400)).deal(1229), None);
        assert_eq!(Dealer::new(Sizes::Imix).deal(15), None);
    }
}
