//! Link control on its way from an lcore to the registrar.
//!
//! Frames never leave their lcore, so the bytes are copied. The cost is negligible: a node sends once per second.
//!
//! There is a mailbox for each precedence: mail of registered nodes is read first, and mail of strangers or of nodes
//! beyond their budgets takes no room from it.

use crate::mailbox::{Bell, Receiver, Sender, bell_with_call, mailbox_with};
use frame::{Datagram, Peer, Precedence};
use std::sync::Arc;

/// Bytes that travel inside the mailbox itself. A longer datagram (a heartbeat padded to a jumbo MTU) gets memory of
/// its own; there are never more of these than the mailbox has places.
pub const INLINE: usize = 1536;

/// A datagram of link control that an lcore received.
pub struct ControlMail {
    /// The lcore that received it, counted from 0 in the order of the core list. An answer may leave through any lcore
    /// that has the peer's port; this one has it.
    pub lcore: u16,
    /// Who sent it.
    pub peer: Peer,
    /// Which mailbox it went through.
    pub precedence: Precedence,
    len: usize,
    inline: [u8; INLINE],
    large: Option<Box<[u8]>>,
}

impl ControlMail {
    /// Copies a datagram.
    pub fn new(lcore: u16, precedence: Precedence, datagram: &Datagram) -> Self {
        let (data, peer) = (datagram.frame.data(), datagram.peer);
        let mut mail = Self { lcore, peer, precedence, len: data.len(), inline: [0; INLINE], large: None };
        match mail.inline.get_mut(..data.len()) {
            Some(place) => place.copy_from_slice(data),
            None => mail.large = Some(data.into()),
        }
        mail
    }

    /// The datagram's bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.large {
            Some(bytes) => bytes,
            None => &self.inline[..self.len],
        }
    }
}

impl std::fmt::Debug for ControlMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlMail({} bytes of {} by lcore {})", self.bytes().len(), self.peer, self.lcore)
    }
}

/// Makes the way to the registrar: each lcore gets a clone of the sender. `ring` is as in
/// [`mailbox_with_call`](crate::mailbox::mailbox_with_call).
///
/// Registered nodes together have room for `capacity` datagrams (at least 1), strangers for as many, and nodes beyond
/// their budgets for an eighth of that.
pub fn control_mailbox(capacity: usize, ring: impl Fn() + Send + Sync + 'static) -> (ControlSender, ControlReceiver) {
    let bell: Arc<dyn Bell> = bell_with_call(ring);
    let room = |precedence| match precedence {
        Precedence::Member | Precedence::Stranger => capacity,
        Precedence::Excess => capacity / 8,
    };
    let ways = Precedence::ALL.map(|precedence| mailbox_with(room(precedence), Arc::clone(&bell)));
    let [(a, x), (b, y), (c, z)] = ways;
    (ControlSender([a, b, c]), ControlReceiver { mails: [x, y, z], excess_next: false })
}

/// The lcores' end of the way to the registrar.
#[derive(Clone)]
pub struct ControlSender([Sender<ControlMail>; 3]);

impl ControlSender {
    fn of(&self, precedence: Precedence) -> &Sender<ControlMail> {
        let [member, stranger, excess] = &self.0;
        match precedence {
            Precedence::Member => member,
            Precedence::Stranger => stranger,
            Precedence::Excess => excess,
        }
    }

    /// Whether a datagram of this precedence would find no room now.
    pub fn is_full(&self, precedence: Precedence) -> bool {
        self.of(precedence).is_full()
    }

    /// Whether the registrar is gone.
    pub fn is_closed(&self) -> bool {
        self.of(Precedence::Member).is_closed()
    }

    /// Puts a copy of a datagram into its mailbox. `false` when there is no room, or the registrar is gone.
    pub fn try_send(&self, lcore: u16, precedence: Precedence, datagram: &Datagram) -> bool {
        let sender = self.of(precedence);
        !sender.is_full() && sender.try_send(ControlMail::new(lcore, precedence, datagram)).is_ok()
    }
}

/// The registrar's end of the way from the lcores.
pub struct ControlReceiver {
    /// By precedence.
    mails: [Receiver<ControlMail>; 3],
    /// Whether excess is next: strangers and excess take turns, so that neither locks the other out.
    excess_next: bool,
}

impl ControlReceiver {
    /// The next datagram: of registered nodes while there is one, otherwise of strangers and of excess in turn.
    pub fn try_recv(&mut self) -> Option<ControlMail> {
        let [member, stranger, excess] = &mut self.mails;
        if let Some(mail) = member.try_recv() {
            return Some(mail);
        }
        let (first, second) = if self.excess_next { (excess, stranger) } else { (stranger, excess) };
        match first.try_recv() {
            Some(mail) => {
                self.excess_next = !self.excess_next;
                Some(mail)
            }
            None => second.try_recv(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.mails.iter().all(Receiver::is_empty)
    }

    /// Like [`Receiver::arm`]: from now on senders ring. Returns whether the receiver may sleep.
    #[must_use]
    pub fn arm(&mut self) -> bool {
        // All of them are armed, whatever the first one returns.
        let empty = self.mails.each_mut().map(Receiver::arm);
        empty.into_iter().all(|empty| empty)
    }

    /// Ends the effect of [`arm`](Self::arm).
    pub fn disarm(&mut self) {
        self.mails.iter_mut().for_each(Receiver::disarm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Hugepages, Pool, PoolConfig, PortId};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn bytes_of_any_length_arrive() {
        let config = PoolConfig { frames: 4, chunk: 16_384, hugepages: Hugepages::Never, reserve: 0 };
        let pool = Pool::new(config).unwrap();
        let peer = Peer::socket(PortId(3), "127.0.0.1:7".parse().unwrap());
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 9000] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&data));
            let mail = ControlMail::new(2, Precedence::Member, &Datagram::new(frame, peer, Class::Link, 1));
            assert_eq!((mail.bytes(), mail.peer, mail.lcore), (&data[..], peer, 2));
        }
    }

    /// A mailbox, and a function that puts a datagram of one byte into it.
    fn way(capacity: usize) -> (impl Fn(Precedence, u8) -> bool, ControlReceiver, Arc<AtomicUsize>) {
        let config = PoolConfig { frames: 256, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
        let pool = Pool::new(config).unwrap();
        let rings: Arc<AtomicUsize> = Arc::default();
        let rung = Arc::clone(&rings);
        let (sender, receiver) = control_mailbox(capacity, move || {
            rung.fetch_add(1, Ordering::Relaxed);
        });
        let put = move |precedence, byte: u8| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&[byte]));
            let peer = Peer::socket(PortId(0), "127.0.0.1:7".parse().unwrap());
            let has_room = !sender.is_full(precedence);
            let sent = sender.try_send(0, precedence, &Datagram::new(frame, peer, Class::Link, 1));
            assert_eq!(sent, has_room);
            sent
        };
        (put, receiver, rings)
    }

    #[test]
    fn members_are_read_first_and_the_others_in_turn() {
        let (put, mut receiver, _) = way(16);
        for byte in 0..3 {
            assert!(put(Precedence::Stranger, 10 + byte));
        }
        assert!(put(Precedence::Excess, 20) && put(Precedence::Excess, 21));
        assert!(put(Precedence::Member, 0) && put(Precedence::Member, 1));
        let mut read = || receiver.try_recv().map(|mail| mail.bytes()[0]);
        assert_eq!([read(), read(), read(), read()], [Some(0), Some(1), Some(10), Some(20)]);
        assert!(put(Precedence::Member, 2));
        assert_eq!([read(), read(), read(), read(), read()], [Some(2), Some(11), Some(21), Some(12), None]);
        // If only one precedence has mail, that mail does not wait for the other.
        for byte in 0..5 {
            assert!(put(Precedence::Stranger, byte));
        }
        assert!((0..5).all(|byte| read() == Some(byte)) && receiver.is_empty());
    }

    #[test]
    fn a_flood_takes_no_room_from_members() {
        let (put, mut receiver, _) = way(16);
        let room = Precedence::ALL.map(|precedence| (0..100).filter(|byte| put(precedence, *byte)).count());
        assert_eq!(room, [16, 16, 2]);
        let read = |receiver: &mut ControlReceiver| std::iter::from_fn(|| receiver.try_recv()).count();
        assert_eq!(read(&mut receiver), 34);
        let others = [Precedence::Excess, Precedence::Stranger];
        let taken: usize = others.map(|precedence| (0..100).filter(|byte| put(precedence, *byte)).count()).iter().sum();
        assert_eq!((taken, (0..16).filter(|byte| put(Precedence::Member, *byte)).count()), (18, 16));
        // Each precedence has at least one place.
        let (put, _receiver, _) = way(1);
        assert!(Precedence::ALL.into_iter().all(|precedence| put(precedence, 0) && !put(precedence, 0)));
    }

    #[test]
    fn whatever_comes_rings_a_receiver_that_sleeps() {
        for precedence in Precedence::ALL {
            let (put, mut receiver, rings) = way(16);
            assert!(put(precedence, 0));
            assert!(!receiver.arm(), "something waits");
            receiver.disarm();
            assert!(receiver.try_recv().is_some() && receiver.arm());
            assert_eq!(rings.load(Ordering::Relaxed), 0, "nobody slept");
            assert!(put(precedence, 1));
            assert_eq!(rings.load(Ordering::Relaxed), 1);
            receiver.disarm();
            assert!(put(precedence, 2));
            assert_eq!(rings.load(Ordering::Relaxed), 1, "nobody sleeps");
        }
    }
}
