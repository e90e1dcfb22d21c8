//! Destinations behind a slow link, and their separate sockets.
//!
//! The kernel charges bytes that a socket has sent, and that no device has taken yet, to the socket: `SO_SNDBUF` limits
//! the sum over all destinations. One destination behind a slow link with a deep queue can use all of it, and then
//! nothing leaves to anybody (`EAGAIN`). So a port has a few more sockets with the same address, each with a send
//! buffer of its own. They are unused until much waits in the first socket and the amount grows. Then the destination
//! that was sent the most in the meantime becomes a suspect: its datagrams leave through a separate socket. If that
//! socket stays empty, this destination was not the cause, and it returns to the first socket.
//!
//! The kernel reports by `SO_MEMINFO` how much of a socket waits. The port asks for it after a certain number of sent
//! bytes. Datagrams to one destination stay in order: all sockets lead into the same queues of the kernel.

use crate::sockopt;
use frame::outbox::SLOW_QUEUES;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{Datagram, Peer, Time};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

/// The kernel's own bytes around a packet, approximately: the waiting bytes include them.
const OVERHEAD: u64 = 768;
/// The send buffer divided by this may wait before the port notes the destinations.
const QUIET: u64 = 8;
/// If more than the send buffer divided by this waits, and it grows, a destination becomes a suspect.
const MUCH: u64 = 4;
/// The port asks how much waits after it has sent the send buffer divided by this.
const LOOKS: u64 = 32;
/// How long a suspect stays separate at least.
const TRIAL: Time = 20 * MILLISECOND;
/// A link is judged to keep up only after this many datagrams have left through its separate socket; they are more than
/// [`DRAINED`].
const EVIDENCE: u64 = 32;
/// Or after this time: then nearly nothing is sent to it.
const IDLE: Time = SECOND;
/// If a link keeps up, at most the send buffer of its separate socket divided by this waits there.
const DRAINED: u64 = 64;
/// How long a separate socket is not tried after its send buffer was full.
const RETRY: Time = 100 * MICROSECOND;
/// Places for noted destinations.
const PLACES: usize = 256;
/// The most separate destinations at a time.
const MOST: usize = 64;

/// The key of a destination: address and UDP port, without the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key([u8; 16], u16);

impl Key {
    fn of(peer: &Peer) -> Self {
        Self(peer.ip_octets(), peer.udp_port)
    }

    fn hash(self) -> usize {
        let [.., a, b, c, d] = self.0;
        let word = u32::from_ne_bytes([a, b, c, d]) ^ u32::from(self.1).rotate_left(16);
        (word.wrapping_mul(0x9e37_79b1) >> 16) as usize
    }
}

/// A destination, and how many bytes were sent to it since much waits.
#[derive(Clone, Copy, Debug)]
struct Sent {
    key: Key,
    bytes: u64,
    /// It was separate before, and was not the cause.
    cleared: bool,
}

const NOBODY: Sent = Sent { key: Key([0; 16], 0), bytes: 0, cleared: false };

/// A separate socket for some destinations.
struct Apart {
    socket: UdpSocket,
    sndbuf: u64,
    /// When the last destination came to it.
    since: Time,
    /// How much waited in it when the kernel was last asked.
    waits: u64,
    /// Datagrams that have left through it since then.
    sent: u64,
    /// Its send buffer was full at the last try: it is not tried again before this time.
    retry_at: Time,
}

impl Apart {
    /// Whether its link keeps up: enough was sent through it or time has passed, and nearly nothing of it waits.
    fn keeps_up(&self, now: Time) -> bool {
        let age = now.saturating_sub(self.since);
        self.waits < self.sndbuf / DRAINED && age >= TRIAL && (self.sent >= EVIDENCE || age >= IDLE)
    }
}

/// See the module's documentation.
pub(super) struct Slow {
    apart: Vec<Apart>,
    members: Vec<(Key, usize)>,
    /// How many members have each hash: most destinations are not members, and need only one check.
    hashes: Box<[u8; PLACES]>,
    sent: Box<[Sent; PLACES]>,
    sndbuf: u64,
    since_look: u64,
    /// How much waited in the first socket at the last check.
    waits: u64,
    contended: bool,
    /// How often a destination became a suspect.
    found: u64,
}

impl Slow {
    /// The separate sockets beside a first one with this send buffer.
    pub(super) fn new(sockets: Vec<UdpSocket>, sndbuf: u64) -> Self {
        let apart = sockets.into_iter().take(SLOW_QUEUES).map(|socket| {
            let sndbuf = u64::from(super::socket::buffer_size(socket.as_fd(), libc::SO_SNDBUF));
            Apart { socket, sndbuf, since: 0, waits: 0, sent: 0, retry_at: 0 }
        });
        Self {
            apart: apart.collect(),
            members: Vec::with_capacity(MOST),
            hashes: Box::new([0; PLACES]),
            sent: Box::new([NOBODY; PLACES]),
            sndbuf,
            since_look: 0,
            waits: 0,
            contended: false,
            found: 0,
        }
    }

    /// How many sockets there are.
    pub(super) fn sockets(&self) -> usize {
        self.apart.len()
    }

    /// The number of separate destinations now, and how often a destination became a suspect.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.members.len() as u64, self.found)
    }

    /// Whether any destination is separate.
    #[inline]
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The socket of a separate destination.
    #[inline]
    pub(super) fn socket_of(&self, peer: &Peer) -> Option<usize> {
        let key = Key::of(peer);
        if self.hashes.get(key.hash() % PLACES).is_none_or(|count| *count == 0) {
            return None;
        }
        self.members.iter().find(|(member, _)| *member == key).map(|(_, at)| *at)
    }

    /// The socket with a number.
    pub(super) fn fd(&self, at: usize) -> Option<BorrowedFd<'_>> {
        self.apart.get(at).map(|apart| apart.socket.as_fd())
    }

    /// The send buffer of a socket is full: it is not tried for a moment.
    pub(super) fn set_full(&mut self, now: Time, at: usize) {
        if let Some(apart) = self.apart.get_mut(at) {
            apart.retry_at = now.saturating_add(RETRY);
        }
    }

    /// Counts datagrams that left through a separate socket.
    pub(super) fn count(&mut self, at: usize, datagrams: usize) {
        if let Some(apart) = self.apart.get_mut(at) {
            apart.sent += datagrams as u64;
        }
    }

    /// Whether a socket may be tried.
    pub(super) fn may_try(&self, now: Time, at: usize) -> bool {
        self.apart.get(at).is_some_and(|apart| now >= apart.retry_at)
    }

    /// Notes the destinations of what the first socket is about to send, while they matter.
    #[inline]
    pub(super) fn note<'a>(&mut self, datagrams: impl Iterator<Item = &'a Datagram>) {
        if !self.contended {
            return;
        }
        for datagram in datagrams {
            let key = Key::of(&datagram.peer);
            let Some(place) = self.sent.get_mut(key.hash() % PLACES) else { continue };
            let bytes = datagram.frame.len() as u64 + OVERHEAD;
            if place.key == key {
                place.bytes += bytes;
            } else if place.bytes < bytes {
                *place = Sent { key, bytes, cleared: false };
            } else {
                // If several destinations share a place, the one with most bytes keeps it.
                place.bytes -= bytes;
            }
        }
    }

    /// Counts what the first socket took. Returns whether a check is due.
    #[inline]
    pub(super) fn is_due(&mut self, datagrams: usize, bytes: usize) -> bool {
        self.since_look += bytes as u64 + datagrams as u64 * OVERHEAD;
        self.since_look > self.sndbuf / LOOKS && !self.apart.is_empty()
    }

    /// Checks how much waits in the first socket. If that is much and grows, a destination becomes a suspect. `waiting`
    /// is how many datagrams wait for each separate socket.
    #[cold]
    pub(super) fn look(&mut self, now: Time, first: BorrowedFd<'_>, waiting: [usize; SLOW_QUEUES]) {
        self.since_look = 0;
        let Some(waits) = waits_in(first) else { return };
        let before = std::mem::replace(&mut self.waits, waits);
        if waits < self.sndbuf / QUIET {
            if self.contended {
                self.contended = false;
                *self.sent = [NOBODY; PLACES];
            }
        } else if !self.contended {
            self.contended = true;
        } else if waits > before && waits > self.sndbuf / MUCH {
            self.accuse(now, waiting);
        }
    }

    /// The first socket is full: a destination becomes a suspect in any case.
    #[cold]
    pub(super) fn is_blocked(&mut self, now: Time, first: BorrowedFd<'_>, waiting: [usize; SLOW_QUEUES]) {
        if self.apart.is_empty() {
            return;
        }
        self.contended = true;
        self.waits = waits_in(first).unwrap_or(self.sndbuf);
        self.since_look = 0;
        self.accuse(now, waiting);
    }

    fn accuse(&mut self, now: Time, waiting: [usize; SLOW_QUEUES]) {
        let suspect = self.sent.iter().filter(|sent| !sent.cleared).max_by_key(|sent| sent.bytes);
        let Some(key) = suspect.filter(|sent| sent.bytes > 0).map(|sent| sent.key) else {
            // All were tried, and the amount still grows: start from the beginning.
            return self.sent.iter_mut().for_each(|sent| sent.cleared = false);
        };
        if self.members.len() == MOST || self.members.iter().any(|(member, _)| *member == key) {
            return;
        }
        self.refresh();
        let Some(at) = self.free_socket(now, waiting) else { return };
        self.found += 1;
        self.add(key, at);
        if let Some(apart) = self.apart.get_mut(at) {
            (apart.since, apart.sent) = (now, 0);
        }
        if let Some(place) = self.sent.get_mut(key.hash() % PLACES) {
            *place = NOBODY;
        }
    }

    /// A socket in which little waits, for one more destination; destinations that used it return to the first socket.
    fn free_socket(&mut self, now: Time, waiting: [usize; SLOW_QUEUES]) -> Option<usize> {
        let is_empty = |at: usize, apart: &Apart| {
            waiting.get(at).is_none_or(|waiting| *waiting == 0) && apart.waits < apart.sndbuf / QUIET
        };
        let unused = |at: usize| self.members.iter().all(|(_, socket)| *socket != at);
        let free = (0..).zip(&self.apart).find(|&(at, apart)| is_empty(at, apart) && unused(at));
        let cleared = || {
            let mut tried = (0..).zip(&self.apart);
            tried.find(|&(at, apart)| is_empty(at, apart) && apart.keeps_up(now))
        };
        if let Some((at, _)) = free.or_else(cleared) {
            self.acquit(at);
            return Some(at);
        }
        // Each has a slow destination: the last two share a socket, so that one is free once it has drained.
        let newest = (0..).zip(&self.apart).max_by_key(|(_, apart)| apart.since).map(|(at, _)| at)?;
        let is_tried = self.apart.get(newest).is_some_and(|apart| now >= apart.since.saturating_add(TRIAL));
        let roomy = (0..).zip(&self.apart).filter(|(at, _)| *at != newest).min_by_key(|(_, apart)| apart.waits);
        let other = roomy.map(|(at, _)| at)?;
        if is_tried && waiting.get(newest).is_none_or(|waiting| *waiting == 0) {
            self.members.iter_mut().filter(|(_, at)| *at == newest).for_each(|(_, at)| *at = other);
        }
        None
    }

    /// Separates a destination, whatever waits for it.
    #[cfg(test)]
    pub(super) fn put_apart(&mut self, peer: &Peer, at: usize) {
        self.add(Key::of(peer), at);
    }

    fn add(&mut self, key: Key, at: usize) {
        self.members.push((key, at));
        if let Some(count) = self.hashes.get_mut(key.hash() % PLACES) {
            *count += 1;
        }
    }

    /// The destinations of a socket return to the first one, because nothing waits there.
    fn acquit(&mut self, at: usize) {
        let Self { members, hashes, sent, .. } = self;
        members.retain(|(key, socket)| {
            if *socket != at {
                return true;
            }
            let place = key.hash() % PLACES;
            if let (Some(count), Some(sent)) = (hashes.get_mut(place), sent.get_mut(place)) {
                *count -= 1;
                *sent = Sent { key: *key, bytes: 0, cleared: true };
            }
            false
        });
    }

    /// Asks how much waits in the separate sockets.
    fn refresh(&mut self) {
        for apart in &mut self.apart {
            apart.waits = waits_in(apart.socket.as_fd()).unwrap_or(apart.waits);
        }
    }

    /// Called from time to time while a destination is separate: those whose link keeps up return to the first socket.
    #[cold]
    pub(super) fn review(&mut self, now: Time, waiting: [usize; SLOW_QUEUES]) {
        self.refresh();
        for at in 0..self.apart.len() {
            let Some(apart) = self.apart.get(at) else { continue };
            if waiting.get(at).is_none_or(|waiting| *waiting == 0) && apart.keeps_up(now) {
                self.acquit(at);
            }
        }
    }

    /// A separate socket that has room, for link control that cannot wait.
    pub(super) fn roomy(&self, now: Time) -> Option<usize> {
        self.apart.iter().position(|apart| now >= apart.retry_at)
    }
}

/// Bytes that were sent through a socket and that no device has taken yet.
fn waits_in(fd: BorrowedFd<'_>) -> Option<u64> {
    const SO_MEMINFO: i32 = 55;
    let info = sockopt::get::<sockopt::MemInfo>(fd, libc::SOL_SOCKET, SO_MEMINFO).ok()?;
    Some(u64::from(info.wmem_alloc()))
}
