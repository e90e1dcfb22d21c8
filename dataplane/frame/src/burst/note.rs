//! What a burst notes of the bytes of a datagram, beside where they are.

use std::num::NonZeroU16;

/// What is known of the bytes of a received datagram: their sum, and whether they met congestion.
///
/// It is one word, so that both cost little for each record. The low 20 bits are a one's complement sum of the bytes as
/// [`crate::Datagram::sum`], but not folded to 16 bits: any number with the same remainder by 0xFFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note(u32);

impl Note {
    /// The bit of [`Note::marks`] for bytes that arrived with the mark Congestion Experienced.
    pub const CE: u16 = 1 << 15;
    /// The bit of [`Note::marks`] for bytes whose sum is not known.
    pub const UNSUMMED: u16 = 1 << 14;
    const SUM: u32 = (1 << 20) - 1;

    /// Bytes with this sum, which is more than 0 and has at most 20 bits.
    #[inline]
    pub const fn of(sum: u32, ce: bool) -> Self {
        debug_assert!(0 < sum && sum <= Self::SUM);
        Self(sum | (ce as u32) << 31)
    }

    /// Bytes whose sum is not known.
    #[inline]
    pub const fn unsummed(ce: bool) -> Self {
        Self((ce as u32) << 31 | (Self::UNSUMMED as u32) << 16)
    }

    /// The same sum less `part`, which must be smaller.
    #[inline]
    #[must_use]
    pub const fn less(self, part: u32) -> Self {
        debug_assert!(part < self.sum());
        Self(self.0 - part)
    }

    /// The same for some of the bytes: their sum is not known.
    #[inline]
    #[must_use]
    pub const fn of_part(self) -> Self {
        Self::unsummed(self.is_ce())
    }

    /// The sum, if it is known; otherwise 0.
    #[inline]
    pub const fn sum(self) -> u32 {
        self.0 & Self::SUM
    }

    /// [`Note::CE`] and [`Note::UNSUMMED`].
    #[inline]
    pub const fn marks(self) -> u16 {
        (self.0 >> 16) as u16 & (Self::CE | Self::UNSUMMED)
    }

    /// Whether the bytes arrived with the mark Congestion Experienced.
    #[inline]
    pub const fn is_ce(self) -> bool {
        self.marks() & Self::CE != 0
    }

    /// The sum, folded to 16 bits; `None` if it is not known.
    #[inline]
    pub const fn folded(self) -> Option<NonZeroU16> {
        let sum = (self.sum() >> 16) + (self.sum() & 0xffff);
        NonZeroU16::new(((sum >> 16) + (sum & 0xffff)) as u16)
    }

    /// The note of a datagram's `sum` and `ce`.
    #[inline]
    pub fn from_folded(sum: Option<NonZeroU16>, ce: bool) -> Self {
        sum.map_or(Self::unsummed(ce), |sum| Self::of(sum.get().into(), ce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_keeps_sum_and_marks_apart() {
        for ce in [false, true] {
            let all = Note::of(5 * 0xffff, ce);
            assert_eq!((all.sum(), all.is_ce(), all.marks() & Note::UNSUMMED), (5 * 0xffff, ce, 0));
            let less = all.less(4 * 0xffff + 0x1234);
            assert_eq!((less.folded().map(NonZeroU16::get), less.is_ce()), (Some(0xffff - 0x1234), ce));
            let part = all.of_part();
            assert_eq!((part.sum(), part.is_ce(), part.marks() & Note::UNSUMMED), (0, ce, Note::UNSUMMED));
            for sum in [None, NonZeroU16::new(1), NonZeroU16::new(0xffff)] {
                let note = Note::from_folded(sum, ce);
                assert_eq!((note.folded(), note.is_ce(), note.marks() & Note::UNSUMMED == 0), (sum, ce, sum.is_some()));
            }
        }
        assert_eq!(Note::of((1 << 20) - 1, false).folded().map(NonZeroU16::get), Some(0xf));
    }
}
