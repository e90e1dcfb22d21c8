//! The datagrams that a port received at once, as arrays.
//!
//! Each pass over a burst reads a few bytes of every datagram. So these bytes stand side by side, 19 for each datagram,
//! and a [`Datagram`] is built only for one that is taken out. Many datagrams have the same sender: its [`Peer`] stands
//! in the burst once.

mod note;

pub use note::Note;

use crate::datagram::{BURST, Class, Datagram, DatagramView};
use crate::frame::FrameView;
use crate::stock::{Stock, put, put_all};
use crate::{Frame, Peer};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// At most [`BURST`] received datagrams; made once and filled many times.
///
/// Each has a number, its place in the burst, which stays the same when another is taken out.
pub struct Burst {
    len: usize,
    /// A bit for each datagram that was taken out.
    taken: u64,
    /// A bit for each datagram whose frame is not of the pool `home`, but of that in `pools`.
    elsewhere: u64,
    /// The pool of nearly all frames. It is known to exist only while a datagram is here whose frame is of it.
    home: NonNull<Stock>,
    stamp: u64,
    /// The first byte of each, and the number of its chunk. For a datagram that is here, both are of a frame that this
    /// burst owns.
    data: [NonNull<u8>; BURST],
    chunks: [u32; BURST],
    /// How long each is; 0 for one that is not here.
    lens: [u16; BURST],
    notes: [Note; BURST],
    senders: [Sender; BURST],
    peers: [Peer; BURST],
    pools: [NonNull<Stock>; BURST],
}

/// The sender of some datagrams of a burst: the number of the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender(u8);

impl Sender {
    /// The sender of no datagram.
    pub const NOBODY: Self = Self(u8::MAX);
}

/// The number of bursts that were made: each has stamps of its own.
static MADE: AtomicU64 = AtomicU64::new(1);

impl Burst {
    /// An empty burst.
    pub fn new() -> Self {
        Self {
            len: 0,
            taken: 0,
            elsewhere: 0,
            home: NonNull::dangling(),
            stamp: MADE.fetch_add(1, Ordering::Relaxed) << 40,
            data: [NonNull::dangling(); BURST],
            chunks: [0; BURST],
            lens: [0; BURST],
            notes: [Note::unsummed(false); BURST],
            senders: [Sender(0); BURST],
            peers: [Peer::NOBODY; BURST],
            pools: [NonNull::dangling(); BURST],
        }
    }

    /// Changes when the burst is emptied, and is never that of another burst. A [`Sender`] is valid as long as this
    /// stays the same.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// A sender for the datagram that will be added next, if it is not that of an earlier one, and the place for its
    /// peer. If a datagram of another sender is added instead, the result must not be used again.
    #[inline]
    pub fn meet(&mut self) -> (Sender, &mut Peer) {
        let number = self.len % BURST;
        (Sender(number as u8), &mut self.peers[number])
    }

    /// Adds a datagram. If the burst is full, the frame goes back to its pool: the caller must check for room first.
    #[inline(always)]
    pub fn add(&mut self, frame: Frame, sender: Sender, note: Note) {
        debug_assert!(usize::from(sender.0) < BURST, "a datagram has a sender");
        let at = self.len;
        if at >= BURST {
            return;
        }
        let (stock, chunk) = frame.place();
        if stock != self.home {
            self.arrives_from(stock);
        }
        self.data[at] = frame.first_byte();
        self.chunks[at] = chunk;
        self.lens[at] = frame.len() as u16;
        self.notes[at] = note;
        self.senders[at] = sender;
        self.len = at + 1;
        // From here on this burst owns the chunk.
        std::mem::forget(frame);
    }

    /// The next frame is not of the pool of the others.
    #[cold]
    fn arrives_from(&mut self, stock: NonNull<Stock>) {
        if self.len == 0 {
            self.home = stock;
            return;
        }
        self.elsewhere |= 1 << self.len;
        self.pools[self.len] = stock;
    }

    /// Adds a datagram; returns it when the burst is full.
    ///
    /// # Errors
    /// The datagram itself comes back when the burst is full.
    #[inline]
    pub fn push(&mut self, datagram: Datagram) -> Result<(), Datagram> {
        if self.room() == 0 {
            return Err(datagram);
        }
        let Datagram { frame, peer, ce, sum, .. } = datagram;
        let last = self.len.wrapping_sub(1);
        let sender = match self.senders.get(last) {
            Some(&sender) if self.peer(last).as_bytes() == peer.as_bytes() => sender,
            _ => {
                let (sender, place) = self.meet();
                *place = peer;
                sender
            }
        };
        self.add(frame, sender, Note::from_folded(sum, ce));
        Ok(())
    }

    /// How many more fit.
    #[inline]
    pub fn room(&self) -> usize {
        BURST - self.len
    }

    /// Number of datagrams, including those that were taken out.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a datagram with this number is here, and was not taken out.
    #[inline]
    fn has(&self, number: usize) -> bool {
        number < self.len && self.taken >> number & 1 == 0
    }

    /// The bytes of the datagram with this number; none if it is not here.
    #[inline]
    pub fn bytes(&self, number: usize) -> &[u8] {
        let (Some(data), Some(len)) = (self.data.get(number), self.lens.get(number)) else { return &[] };
        // SAFETY: with a length, this burst owns the chunk that the bytes are in, which is mapped and was zeroed, and
        // nobody writes to them while the burst is borrowed. Without a length, any address will do.
        unsafe { std::slice::from_raw_parts(data.as_ptr(), usize::from(*len)) }
    }

    /// What is known of the bytes of the datagram with this number.
    #[inline]
    pub fn note(&self, number: usize) -> Note {
        self.notes.get(number).copied().unwrap_or(Note::unsummed(false))
    }

    /// Bytes and note of the datagram with this number modulo [`BURST`]; no bytes if it is not here.
    #[inline(always)]
    pub fn part(&self, number: usize) -> (&[u8], Note) {
        let at = number % BURST;
        let (data, len, note) = (self.data[at], self.lens[at], self.notes[at]);
        // SAFETY: as in `bytes`.
        (unsafe { std::slice::from_raw_parts(data.as_ptr(), usize::from(len)) }, note)
    }

    /// The peer that sent the datagram with this number modulo [`BURST`]; any peer if it is not here.
    #[inline(always)]
    pub fn source(&self, number: usize) -> &Peer {
        &self.peers[usize::from(self.senders[number % BURST].0) % BURST]
    }

    /// The sender of the datagram with this number modulo [`BURST`]; any sender if it is not here.
    #[inline(always)]
    pub fn sender(&self, number: usize) -> Sender {
        self.senders[number % BURST]
    }

    /// Who sent the datagram with this number; nobody from [`BURST`] on.
    #[inline]
    pub fn peer(&self, number: usize) -> &Peer {
        if number < BURST { self.source(number) } else { const { &Peer::NOBODY } }
    }

    /// The datagram with this number, unless it was taken out.
    #[inline]
    pub fn get(&self, number: usize) -> Option<DatagramView<'_>> {
        if !self.has(number) {
            return None;
        }
        // SAFETY: the datagram is here, and stays as long as the burst is borrowed.
        let frame = unsafe { FrameView::new(self.frame(number)) };
        let note = self.note(number);
        Some(DatagramView { frame, peer: self.peer(number), class: Class::Link, ce: note.is_ce(), sum: note.folded() })
    }

    /// Takes the datagram with this number out. The others keep their numbers.
    #[inline]
    pub fn take(&mut self, number: usize) -> Option<Datagram> {
        if !self.has(number) {
            return None;
        }
        // SAFETY: the datagram is here, and is not from the next line on.
        let frame = unsafe { self.frame(number) };
        self.taken |= 1 << number;
        self.lens[number] = 0;
        let note = self.note(number);
        let datagram = Datagram::new(frame, *self.peer(number), Class::Link, 0);
        Some(Datagram { ce: note.is_ce(), sum: note.folded(), ..datagram })
    }

    /// The pool of the frame of a datagram that is here.
    #[inline]
    fn stock(&self, number: usize) -> NonNull<Stock> {
        if self.elsewhere >> number & 1 == 0 { self.home } else { self.pools[number] }
    }

    /// The frame of a datagram.
    ///
    /// # Safety
    /// The datagram is here. Either the result is not dropped, or the datagram is noted as taken.
    #[inline]
    unsafe fn frame(&self, number: usize) -> Frame {
        let (shared, chunk, data, len) =
            (self.stock(number), self.chunks[number], self.data[number], self.lens[number]);
        // SAFETY: this burst owns a frame of the pool, which keeps it alive.
        let stock = unsafe { shared.as_ref() };
        // A chunk has at most 32,768 bytes.
        let tailroom = (stock.chunk as usize - stock.offset(chunk, data) - usize::from(len)) as u16;
        // SAFETY: the parts are those of a frame that this burst owns, and its data ends before the chunk does.
        unsafe { Frame::from_parts(shared, chunk, data, len, tailroom) }
    }

    /// The datagrams with their numbers.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (usize, DatagramView<'_>)> {
        (0..self.len).filter_map(|number| Some((number, self.get(number)?)))
    }

    /// Takes all datagrams out, in order; those that the caller does not take go back to their pool.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Datagram> + '_ {
        let end = self.len;
        Drain { burst: self, numbers: 0..end }
    }

    /// Returns all frames to their pool.
    #[inline]
    pub fn clear(&mut self) {
        if self.len == 0 {
            return;
        }
        if self.taken | self.elsewhere == 0 {
            // SAFETY: all datagrams are here, and their frames are of this pool. From the next line on none is here.
            unsafe { put_all(self.home, &self.chunks[..self.len]) };
        } else {
            self.put_each();
        }
        self.lens = [0; BURST];
        (self.len, self.taken, self.elsewhere) = (0, 0, 0);
        self.stamp += 1;
    }

    /// Returns the frames of those datagrams that are still here to their pools.
    #[inline(never)]
    fn put_each(&mut self) {
        for number in (0..self.len).filter(|number| self.has(*number)) {
            // SAFETY: the datagram is here, and the caller forgets it.
            unsafe { put(self.stock(number), self.chunks[number]) };
        }
    }
}

/// See [`Burst::drain`].
struct Drain<'a> {
    burst: &'a mut Burst,
    numbers: std::ops::Range<usize>,
}

impl Iterator for Drain<'_> {
    type Item = Datagram;

    #[inline]
    fn next(&mut self) -> Option<Datagram> {
        let Self { burst, numbers } = self;
        numbers.find_map(|number| burst.take(number))
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.burst.clear();
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Burst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(number, datagram)| (number, datagram.frame.len()))).finish()
    }
}

#[cfg(test)]
mod tests;
