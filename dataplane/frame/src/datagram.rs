//! A frame with its peer.

use crate::frame::FrameView;
use crate::{Frame, Peer};
use core::num::NonZeroU16;

/// The most datagrams that are received or sent at once.
pub const BURST: usize = 64;

/// From this size in bytes on, payloads get special care: they are prefetched before a copy, or not copied at all.
pub const LARGE: usize = 1024;

/// The account on which a datagram leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Link control, made by this process itself. It leaves before cargo.
    Link = 0,
    /// Cargo from a master to slaves.
    Down = 1,
    /// Cargo from slaves to a master.
    Up = 2,
}

impl Class {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Link, Self::Down, Self::Up];

    /// The name in statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// One UDP payload in a frame, and the peer that it came from or goes to. One cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Datagram {
    /// The bytes: exactly the UDP payload.
    pub frame: Frame,
    /// Source on receive, destination on transmit.
    pub peer: Peer,
    /// Records in it: counted by the code that filled the frame; zero on receive.
    pub records: u16,
    /// On transmit: its account. Meaningless on receive.
    pub class: Class,
    /// Whether the datagram arrived, or is to leave, with ECN's Congestion Experienced mark.
    pub ce: bool,
    /// The one's complement sum of the bytes in 16 bits, in the machine's byte order with 0xFFFF for zero, if it is
    /// known without reading the bytes. A port that verified a checksum knows it, and then a port that computes one
    /// need not read the bytes. Code that changes the bytes sets it to `None`.
    pub sum: Option<NonZeroU16>,
}

impl Datagram {
    /// A datagram to be sent, without a CE mark.
    pub fn new(frame: Frame, peer: Peer, class: Class, records: u16) -> Self {
        Self { frame, peer, records, class, ce: false, sum: None }
    }
}

const _: () = assert!(size_of::<Option<Datagram>>() == 64);

/// A datagram to look at: one in a burst, or one that is to be sent.
#[derive(Debug)]
pub struct DatagramView<'a> {
    /// As [`Datagram::frame`].
    pub frame: FrameView<'a>,
    /// As [`Datagram::peer`].
    pub peer: &'a Peer,
    /// As [`Datagram::class`].
    pub class: Class,
    /// As [`Datagram::ce`].
    pub ce: bool,
    /// As [`Datagram::sum`].
    pub sum: Option<NonZeroU16>,
}

impl<'a> From<&'a Datagram> for DatagramView<'a> {
    #[inline]
    fn from(datagram: &'a Datagram) -> Self {
        let Datagram { frame, peer, class, ce, sum, .. } = datagram;
        Self { frame: frame.into(), peer, class: *class, ce: *ce, sum: *sum }
    }
}
