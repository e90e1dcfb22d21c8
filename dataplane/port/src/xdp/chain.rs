//! Packets in several descriptors, because they are larger than the kernel's chunks. A frame is always contiguous, so
//! the parts are joined in the first one's frame, which has room for the largest packet of the link.

use frame::Frame;

/// The result of adding a part.
#[derive(Debug)]
pub(super) enum Joined {
    /// More parts follow, or this is the rest of a lost packet.
    More,
    /// The whole packet.
    Whole(Frame),
    /// The packet is larger than a frame. It is lost, and its rest is skipped.
    TooLong,
}

/// A packet whose later parts are still to come.
#[derive(Debug, Default)]
pub(super) enum Chain {
    /// No packet.
    #[default]
    None,
    /// The parts that have come.
    Open(Frame),
    /// It is lost; its rest is to be skipped.
    Lost,
}

impl Chain {
    /// Whether the next descriptor belongs to a packet that has begun.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Frames that it holds.
    pub(super) fn frames_held(&self) -> usize {
        usize::from(matches!(self, Self::Open(_)))
    }

    /// Takes the next part; `None` for one that names no frame. `more` says that further parts follow.
    #[cold]
    pub(super) fn join(&mut self, part: Option<Frame>, more: bool) -> Joined {
        let begun = std::mem::take(self);
        let rest = if more { Self::Lost } else { Self::None };
        let (next, joined) = match (begun, part) {
            (Self::None, Some(first)) if more => (Self::Open(first), Joined::More),
            (Self::None, Some(only)) => (Self::None, Joined::Whole(only)),
            (Self::Open(mut frame), Some(part)) => match frame.append(part.data()) {
                true if more => (Self::Open(frame), Joined::More),
                true => (Self::None, Joined::Whole(frame)),
                false => (rest, Joined::TooLong),
            },
            (_, _) => (rest, Joined::More),
        };
        *self = next;
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Hugepages, Pool, PoolConfig};

    #[test]
    fn parts_become_one_frame_and_the_rest_of_what_is_lost_is_passed_over() {
        let config = PoolConfig { frames: 16, chunk: 8192, hugepages: Hugepages::Never, reserve: 0 };
        let pool = Pool::new(config).unwrap();
        let part = |byte: u8, len: usize| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&vec![byte; len]));
            Some(frame)
        };
        let mut chain = Chain::default();
        assert!(matches!(chain.join(part(1, 3840), true), Joined::More));
        assert_eq!((chain.is_open(), chain.frames_held(), pool.in_use()), (true, 1, 1));
        assert!(matches!(chain.join(part(2, 1000), true), Joined::More));
        let Joined::Whole(whole) = chain.join(part(3, 100), false) else { panic!("three parts are a packet") };
        assert_eq!((whole.len(), whole.data()[3840], whole.data()[4839], whole.data()[4840]), (4940, 2, 2, 3));
        drop(whole);
        // One packet is larger than a frame, and the second part of another names no frame.
        assert!(matches!(chain.join(part(1, 7000), true), Joined::More));
        assert!(matches!(chain.join(part(2, 7000), true), Joined::TooLong));
        assert!(matches!(chain.join(part(2, 7), true), Joined::More));
        assert!(matches!(chain.join(part(2, 7), false), Joined::More));
        assert!(!chain.is_open());
        assert!(matches!(chain.join(part(1, 10), true), Joined::More));
        assert!(matches!(chain.join(None, false), Joined::More));
        assert!(matches!(chain.join(None, true), Joined::More));
        assert!(matches!(chain.join(part(1, 10), false), Joined::More));
        let Joined::Whole(next) = chain.join(part(5, 10), false) else { panic!("the next packet is whole") };
        assert_eq!((next.data(), pool.in_use()), (&[5; 10][..], 1));
    }
}
