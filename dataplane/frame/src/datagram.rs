//! A frame with its peer, and bursts of them.

use crate::stock::put_all;
use crate::{Frame, Peer};
use arrayvec::ArrayVec;
use core::num::NonZeroU16;

/// The most datagrams that are received or sent at once.
pub const BURST: usize = 64;

/// From this size in bytes on, payloads get special care: their sum is kept, and they are prefetched before a copy.
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
    /// known without reading the bytes. A port that verified the checksum of a [`LARGE`] payload knows it, and then a
    /// port that computes a checksum need not read the bytes. Code that changes the bytes sets it to `None`.
    pub sum: Option<NonZeroU16>,
}

impl Datagram {
    /// A datagram to be sent, without a CE mark.
    pub fn new(frame: Frame, peer: Peer, class: Class, records: u16) -> Self {
        Self { frame, peer, records, class, ce: false, sum: None }
    }
}

const _: () = assert!(size_of::<Option<Datagram>>() == 64);

/// At most [`BURST`] received datagrams; made once and filled many times.
///
/// Each has a number, its place in the burst, which stays the same when another is taken out.
#[derive(Debug, Default)]
pub struct Burst {
    datagrams: ArrayVec<Option<Datagram>, BURST>,
}

impl Burst {
    /// An empty burst.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a datagram; returns it when the burst is full.
    ///
    /// # Errors
    /// The datagram itself comes back when the burst is full.
    #[inline]
    pub fn push(&mut self, datagram: Datagram) -> Result<(), Datagram> {
        if self.datagrams.is_full() {
            return Err(datagram);
        }
        // SAFETY: there is room.
        unsafe { self.datagrams.push_unchecked(Some(datagram)) };
        Ok(())
    }

    /// The datagram that was added last, unless it was taken out.
    #[inline]
    pub fn last_mut(&mut self) -> Option<&mut Datagram> {
        self.datagrams.last_mut()?.as_mut()
    }

    /// How many more fit.
    #[inline]
    pub fn room(&self) -> usize {
        BURST - self.datagrams.len()
    }

    /// Number of datagrams, including those that were taken out.
    #[inline]
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The datagram with this number, unless it was taken out.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&Datagram> {
        self.datagrams.get(number)?.as_ref()
    }

    /// Takes the datagram with this number out. The others keep their numbers.
    #[inline]
    pub fn take(&mut self, number: usize) -> Option<Datagram> {
        self.datagrams.get_mut(number)?.take()
    }

    /// The datagrams with their numbers.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Datagram)> {
        self.datagrams.iter().enumerate().filter_map(|(number, datagram)| Some((number, datagram.as_ref()?)))
    }

    /// Takes all datagrams out, in order; those that the caller does not take go back to their pool.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Datagram> + '_ {
        self.datagrams.drain(..).flatten()
    }

    /// Returns all frames to their pool.
    #[inline]
    pub fn clear(&mut self) {
        let len = self.datagrams.len();
        // SAFETY: no length is smaller than zero. From here on only this function knows the elements.
        unsafe { self.datagrams.set_len(0) };
        // SAFETY: the elements that were there are still there.
        let datagrams = unsafe { std::slice::from_raw_parts(self.datagrams.as_ptr(), len) };
        // SAFETY: the frames are read here for the last time; they are forgotten, and their chunks go back once.
        unsafe { put_all(datagrams.iter().flatten().map(|datagram| datagram.frame.place())) };
    }
}
