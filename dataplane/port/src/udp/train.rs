//! Trains: several datagrams with one sender and one receiver, all of one size but the last, which may be shorter.
//!
//! The kernel can hand a train over as one message (`UDP_GRO`, since Linux 5.0), and can take one as one message
//! (`UDP_SEGMENT`, since 4.18). Then most of its work is done once for a train and not for each datagram. A master's
//! stream is such a train, and so are the full datagrams that a gateway sends to a master or to a farm.
//!
//! A received train lies in the tailroom of its frame and, where that ends, in the memory beyond ([`Pieces`]). Each of
//! its datagrams is copied into a frame of its own: gateways keep frames, and may append to them.

use crate::sockopt;
use frame::{Datagram, Frame, Peer};
use std::io;
use std::os::fd::BorrowedFd;

/// The most bytes of a received train: an IP packet has at most 65,535 bytes.
pub(super) const LONGEST_TRAIN: usize = 65_536;

/// The most bytes of a train that is sent: less than any IP packet can carry.
const LONGEST_SENT: usize = 65_000;

/// How a socket handles trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trains {
    /// The kernel hands over trains.
    pub(super) receives: bool,
    /// The kernel takes trains.
    pub(super) sends: bool,
}

impl Trains {
    /// Has a socket receive trains if `receives`, and asks whether it can send them if `sends`, as far as the kernel
    /// can do either. A kernel that does not know the option would send a train as one datagram.
    pub(super) fn enable(fd: BorrowedFd<'_>, receives: bool, sends: bool) -> Self {
        let on: libc::c_int = 1;
        Self {
            receives: receives && sockopt::set(fd, libc::SOL_UDP, libc::UDP_GRO, on).is_ok(),
            sends: sends && sockopt::get::<libc::c_int>(fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok(),
        }
    }
}

/// The bytes of a received train: first those in its frame, then those beyond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces<'a> {
    pub(super) first: &'a [u8],
    pub(super) beyond: &'a [u8],
}

impl Pieces<'_> {
    /// Appends `len` bytes from `at` on to a frame; `false`, and nothing is written, if they are not there or the frame
    /// has no room for them.
    #[inline]
    #[must_use]
    pub(super) fn append(self, at: usize, len: usize, frame: &mut Frame) -> bool {
        let split = self.first.len();
        let (from, to) = (at.min(split), (at + len).min(split));
        let beyond = self.beyond.get(at.saturating_sub(split)..(at + len).saturating_sub(split));
        let (Some(first), Some(beyond)) = (self.first.get(from..to), beyond) else { return false };
        len <= frame.tailroom() && frame.append(first) && frame.append(beyond)
    }
}

/// Whether the kernel may send the same datagrams one by one although it refuses them as a train: the device cannot
/// compute checksums, or IPsec is on the way. If they are larger than the path's MTU, each then has its own error.
pub(super) fn refuses_trains(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

/// A train in the making, for the next datagram to join.
pub(super) struct Train {
    peer: Peer,
    ce: bool,
    /// Bytes of each datagram but the last.
    each: u16,
    /// Bytes of all.
    len: usize,
}

impl Train {
    /// A train behind this datagram; none if it is empty.
    #[inline]
    pub(super) fn behind(datagram: &Datagram) -> Option<Self> {
        let len = datagram.frame.len();
        let each = u16::try_from(len).ok().filter(|each| *each > 0)?;
        Some(Self { peer: datagram.peer, ce: datagram.ce, each, len })
    }

    /// Bytes of each datagram but the last.
    #[inline]
    pub(super) fn each(&self) -> u16 {
        self.each
    }

    /// Takes one more datagram if it may join.
    #[inline]
    pub(super) fn takes(&mut self, datagram: &Datagram) -> bool {
        let len = datagram.frame.len();
        // After a shorter datagram the length is no multiple any more.
        let joins = len > 0
            && len <= usize::from(self.each)
            && self.len.is_multiple_of(self.each.into())
            && self.len + len <= LONGEST_SENT
            && datagram.ce == self.ce
            && datagram.peer.as_bytes() == self.peer.as_bytes();
        if joins {
            self.len += len;
        }
        joins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Hugepages, Pool, PoolConfig, PortId};
    use proptest::prelude::*;

    fn pool() -> Pool {
        Pool::new(PoolConfig { frames: 16, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
    }

    fn datagram(pool: &Pool, len: usize, to: &str) -> Datagram {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(&vec![7; len]));
        Datagram::new(frame, Peer::socket(PortId(0), to.parse().unwrap()), Class::Down, 1)
    }

    #[test]
    fn a_train_has_one_receiver_one_mark_and_one_size_but_for_the_last() {
        let pool = pool();
        let (here, there) = ("127.0.0.1:5", "127.0.0.1:6");
        let train = || Train::behind(&datagram(&pool, 100, here)).unwrap();
        assert_eq!(train().each(), 100);
        for (len, to, ce, local, joins) in [
            (100, here, false, 0, true),
            (99, here, false, 0, true),
            (1, here, false, 0, true),
            (101, here, false, 0, false),
            (0, here, false, 0, false),
            (100, there, false, 0, false),
            (100, here, true, 0, false),
            (100, here, false, 1, false),
        ] {
            let mut next = datagram(&pool, len, to);
            (next.ce, next.peer.local) = (ce, local);
            assert_eq!(train().takes(&next), joins, "{len} bytes to {to}, CE {ce}, from {local}");
        }
        // The shorter one is the last.
        let mut train = train();
        let takes: Vec<bool> =
            [100, 100, 40, 40, 100].map(|len| train.takes(&datagram(&pool, len, here))).into_iter().collect();
        assert_eq!(takes, [true, true, true, false, false]);
        assert!(Train::behind(&datagram(&pool, 0, here)).is_none(), "nothing can follow an empty datagram");
    }

    #[test]
    fn a_train_is_no_longer_than_a_packet() {
        let pool = pool();
        let mut train = Train::behind(&datagram(&pool, 1500, "127.0.0.1:5")).unwrap();
        let mut more = 0;
        while train.takes(&datagram(&pool, 1500, "127.0.0.1:5")) {
            more += 1;
        }
        assert_eq!(more, 65_000 / 1500 - 1);
    }

    #[test]
    fn errors_of_the_whole_train_are_not_errors_of_its_datagrams() {
        for (error, refuses) in [
            (libc::EIO, true),
            (libc::EINVAL, true),
            (libc::EMSGSIZE, true),
            (libc::EAGAIN, false),
            (libc::ECONNREFUSED, false),
            (libc::ENETUNREACH, false),
            (libc::EPERM, false),
        ] {
            assert_eq!(refuses_trains(&io::Error::from_raw_os_error(error)), refuses, "{error}");
        }
    }

    #[test]
    fn a_datagram_may_lie_in_both_pieces() {
        let pool = pool();
        let pieces = Pieces { first: b"abcde", beyond: b"fghij" };
        for (at, len, expected) in [
            (0, 3, &b"abc"[..]),
            (2, 3, b"cde"),
            (3, 3, b"def"),
            (4, 1, b"e"),
            (5, 3, b"fgh"),
            (7, 3, b"hij"),
            (10, 0, b""),
        ] {
            let mut frame = pool.alloc().unwrap();
            assert!(pieces.append(at, len, &mut frame));
            assert_eq!(frame.data(), expected);
        }
        let mut frame = pool.alloc().unwrap();
        assert!(!pieces.append(8, 3, &mut frame) && !pieces.append(11, 0, &mut frame) && frame.is_empty());
        let long = Pieces { first: &[1; 1000], beyond: &[2; 2000] };
        assert!(!long.append(500, 2048, &mut frame) && frame.is_empty(), "longer than a chunk");
    }

    proptest! {
        /// However the bytes are split, the datagrams are the bytes, in order.
        #[test]
        fn nothing_is_lost_or_mixed(
            bytes in proptest::collection::vec(any::<u8>(), 1..5000),
            split in any::<prop::sample::Index>(),
            each in 1usize..1800,
        ) {
            let pool = pool();
            let (first, beyond) = bytes.split_at(split.index(bytes.len() + 1));
            let mut got = Vec::new();
            for at in (0..bytes.len()).step_by(each) {
                let mut frame = pool.alloc().unwrap();
                let len = each.min(bytes.len() - at);
                let pieces = Pieces { first, beyond };
                prop_assert!(pieces.append(at, len, &mut frame));
                prop_assert_eq!(frame.len(), len);
                got.extend_from_slice(frame.data());
            }
            prop_assert_eq!(got, bytes);
        }
    }
}
