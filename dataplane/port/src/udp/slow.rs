//! Destinations behind a slow link, and the sockets that they have apart.
//!
//! The kernel accounts what a socket has sent, and no device has taken yet, to the socket: `SO_SNDBUF` bounds the sum
//! over all destinations. One destination behind a slow link with a deep queue takes all of it, and then nothing leaves
//! to anybody (`EAGAIN`). So a port has a few more sockets with the same address, each with a send buffer of its own.
//! Nothing uses them until much waits in the first one and it becomes more. Then the destination to which most was sent
//! meanwhile is accused: what is for it leaves through a socket apart. If that stays empty, it was not the one, and it
//! comes back.
//!
//! The kernel says by `SO_MEMINFO` how much of a socket waits; that is asked once in a while, by the bytes that were
//! sent. What is for one destination stays in order: all sockets lead into the same queues of the kernel.

use crate::sockopt;
use frame::outbox::SLOW_QUEUES;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use frame::{Datagram, Peer, Time};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes of the kernel's own around a packet, about: what waits is counted with them.
const OVERHEAD: u64 = 768;
/// Of the send buffer, the part that may wait without anybody looking for whom.
const QUIET: u64 = 8;
/// Of the send buffer, the part beyond which somebody is accused when it becomes more.
const MUCH: u64 = 4;
/// How often it is asked what waits: after such a part of the send buffer was sent.
const LOOKS: u64 = 32;
/// How long a destination that was accused stays apart at least.
const TRIAL: Time = 20 * MILLISECOND;
/// So many datagrams must have left through a socket apart before it says that its link keeps up; they are more than
/// [`DRAINED`].
const EVIDENCE: u64 = 32;
/// Or so much time has passed: nearly nothing is for it.
const IDLE: Time = SECOND;
/// Of its send buffer, what may wait in a socket apart whose link keeps up.
const DRAINED: u64 = 64;
/// How long a socket apart is left alone once its send buffer was full.
const RETRY: Time = 100 * MICROSECOND;
/// Places for destinations to which something was sent.
const PLACES: usize = 256;
/// The most destinations that are apart at once.
const MOST: usize = 64;

/// Who is meant: address and UDP port, whatever the way there.
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

/// To whom something was sent since much waits, and how many bytes.
#[derive(Clone, Copy, Debug)]
struct Sent {
    key: Key,
    bytes: u64,
    /// It was apart, and is not the one.
    cleared: bool,
}

const NOBODY: Sent = Sent { key: Key([0; 16], 0), bytes: 0, cleared: false };

/// A socket for destinations that are apart.
struct Apart {
    socket: UdpSocket,
    sndbuf: u64,
    /// When the last destination came to it.
    since: Time,
    /// What waited in it when it was last asked.
    waits: u64,
    /// Datagrams that left through it since.
    sent: u64,
    /// Its send buffer was full at the last try: it is not tried again before.
    retry_at: Time,
}

impl Apart {
    /// Whether its link keeps up: enough was sent through it, or time has passed, and nearly nothing of it waits.
    fn keeps_up(&self, now: Time) -> bool {
        let age = now.saturating_sub(self.since);
        self.waits < self.sndbuf / DRAINED && age >= TRIAL && (self.sent >= EVIDENCE || age >= IDLE)
    }
}

/// See the module's documentation.
pub(super) struct Slow {
    apart: Vec<Apart>,
    members: Vec<(Key, usize)>,
    /// How many members have such a hash: most destinations are none, and need one look.
    hashes: Box<[u8; PLACES]>,
    sent: Box<[Sent; PLACES]>,
    sndbuf: u64,
    since_look: u64,
    /// What waited in the first socket at the last look.
    waits: u64,
    contended: bool,
    /// How often somebody was accused.
    found: u64,
}

impl Slow {
    /// The sockets for destinations that are apart, beside a first one with this send buffer.
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

    /// Destinations that are apart now, and how often one was accused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.members.len() as u64, self.found)
    }

    /// Whether any destination is apart.
    #[inline]
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The socket of a destination that is apart.
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

    /// The send buffer of a socket is full: it is left alone for a moment.
    pub(super) fn set_full(&mut self, now: Time, at: usize) {
        if let Some(apart) = self.apart.get_mut(at) {
            apart.retry_at = now.saturating_add(RETRY);
        }
    }

    /// Counts datagrams that left through a socket apart.
    pub(super) fn count(&mut self, at: usize, datagrams: usize) {
        if let Some(apart) = self.apart.get_mut(at) {
            apart.sent += datagrams as u64;
        }
    }

    /// Whether a socket may be tried.
    pub(super) fn may_try(&self, now: Time, at: usize) -> bool {
        self.apart.get(at).is_some_and(|apart| now >= apart.retry_at)
    }

    /// Notes what the first socket is about to send, while it matters to whom.
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
                // Of several in one place, the one with most of the bytes keeps it.
                place.bytes -= bytes;
            }
        }
    }

    /// Counts what the first socket took. Whether it is time to look.
    #[inline]
    pub(super) fn is_due(&mut self, datagrams: usize, bytes: usize) -> bool {
        self.since_look += bytes as u64 + datagrams as u64 * OVERHEAD;
        self.since_look > self.sndbuf / LOOKS && !self.apart.is_empty()
    }

    /// Looks at what waits in the first socket, and accuses somebody where that is much and became more. `waiting`
    /// is how many datagrams wait for each socket apart.
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

    /// The first socket is full: somebody is accused whatever was known.
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
            // All were tried, and it still becomes more: from the beginning.
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

    /// A socket in which nothing much waits, for one more destination; whoever was there comes back.
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
        // Each has somebody who is slow: the last two share, so that one is free once it has drained.
        let newest = (0..).zip(&self.apart).max_by_key(|(_, apart)| apart.since).map(|(at, _)| at)?;
        let is_tried = self.apart.get(newest).is_some_and(|apart| now >= apart.since.saturating_add(TRIAL));
        let roomy = (0..).zip(&self.apart).filter(|(at, _)| *at != newest).min_by_key(|(_, apart)| apart.waits);
        let other = roomy.map(|(at, _)| at)?;
        if is_tried && waiting.get(newest).is_none_or(|waiting| *waiting == 0) {
            self.members.iter_mut().filter(|(_, at)| *at == newest).for_each(|(_, at)| *at = other);
        }
        None
    }

    /// Puts a destination apart, whatever waits for it.
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

    /// Whoever is at a socket comes back: nothing waits there.
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

    /// Asks what waits in the sockets apart.
    fn refresh(&mut self) {
        for apart in &mut self.apart {
            apart.waits = waits_in(apart.socket.as_fd()).unwrap_or(apart.waits);
        }
    }

    /// Once in a while, while somebody is apart: those whose link keeps up come back.
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

    /// A socket apart that has room, for link control that cannot wait.
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
