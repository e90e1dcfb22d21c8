//! Receives bursts: datagrams straight into frames, and trains into frames that are cut up.
//!
//! A burst may have no room for all of a train. The rest then waits in the port for the next burst, and counts as
//! received only when it leaves.

use super::landed::Cut;
use super::train::Pieces;
use super::{UdpPort, is_about_earlier};
use crate::source::is_possible_on_socket;
use frame::{Burst, Class, Datagram, Frame, Note, Peer, Time};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// The most receive calls of one poll, so that dropped datagrams and pending errors cannot delay it.
const RX_CALLS: usize = 4;

impl UdpPort {
    /// [`crate::Port::rx_burst`].
    pub(super) fn receive(&mut self, now: Time, burst: &mut Burst) -> usize {
        let before = burst.len();
        self.deliver(burst);
        for _ in 0..RX_CALLS {
            if burst.room() == 0 || !self.landed.is_empty() {
                break;
            }
            let offered = self.refill(self.landed.wanted(burst.room()));
            if offered == 0 {
                self.counters.rx_no_frame.add(1);
                break;
            }
            // From the last one on, so that `pop` returns them in the order of their use.
            let frames = self.fill.iter_mut().rev().take(offered);
            match self.incoming.receive(self.socket.as_fd(), frames) {
                Ok(count) => {
                    self.landed.land(count);
                    self.deliver(burst);
                    if count < offered {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let counters = &self.counters;
                    if is_about_earlier(&error) { &counters.icmp_errors } else { &counters.rx_errors }.add(1);
                }
            }
        }
        self.settle_drops(now);
        burst.len() - before
    }

    /// Has up to `room` empty frames ready; returns how many there are. Nothing has landed in any of them.
    fn refill(&mut self, room: usize) -> usize {
        while self.fill.len() < room {
            match self.pool.alloc() {
                Some(frame) => self.fill.push(frame),
                None => break,
            }
        }
        self.fill.len().min(room)
    }

    /// Puts what has landed into the burst, as far as there is room and there are frames.
    fn deliver(&mut self, burst: &mut Burst) {
        while !self.landed.is_empty() && burst.room() > 0 {
            if self.landed.train.is_none() && !self.begin(burst) {
                continue;
            }
            if !self.cut(burst) {
                break;
            }
        }
    }

    /// Takes the next message. If it is a datagram, it is in the burst afterwards, or dropped. Returns whether it is a
    /// train, whose datagrams are still to be cut.
    #[inline]
    fn begin(&mut self, burst: &mut Burst) -> bool {
        let received = self.incoming.received(self.landed.next);
        if let Some(overflows) = received.overflows {
            self.drops.note_overflows(overflows);
        }
        let own = received.own.map_or(self.local, |ip| SocketAddr::new(ip, self.local.port()));
        let is_possible = is_possible_on_socket(received.source, own);
        let mut peer = Peer::socket(self.id, received.source);
        if is_possible {
            peer.local = self.number | self.number_of(received.own);
        }
        let (len, truncated, ce) = (received.len, received.truncated, received.ce);
        if let Some(each) = received.each.map(std::num::NonZeroUsize::get).filter(|each| *each < len) {
            let datagrams = len.div_ceil(each);
            self.landed.datagrams += datagrams;
            self.counters.rx_trains.add(1);
            if is_possible {
                self.landed.train = Some(Cut { at: 0, end: len, each, truncated, peer, ce });
                return true;
            }
            self.counters.rx_datagrams.add(datagrams as u64);
            self.counters.rx_bytes.add(len as u64);
            self.counters.rx_dropped_source.add(datagrams as u64);
            self.end_of_train();
            return false;
        }
        self.landed.datagrams += 1;
        self.landed.step();
        let Some(frame) = self.fill.pop() else {
            frame::never!("a message has landed in no frame");
            return false;
        };
        self.counters.rx_datagrams.add(1);
        self.counters.rx_bytes.add(len as u64);
        self.accept(frame, len, truncated, is_possible, peer, ce, burst);
        false
    }

    /// Puts a datagram that landed in `frame` into the burst, which has room, or drops it.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "all that the kernel said of one datagram")]
    fn accept(
        &self,
        mut frame: Frame,
        len: usize,
        truncated: bool,
        is_possible: bool,
        peer: Peer,
        ce: bool,
        burst: &mut Burst,
    ) {
        // What is longer than the tailroom is beyond the frame.
        if truncated || len > frame.tailroom() || !frame.set_range(frame.headroom(), len) {
            self.counters.rx_dropped_truncated.add(1);
        } else if !is_possible {
            self.counters.rx_dropped_source.add(1);
        } else {
            // Never full: the caller has seen that there is room.
            let _ = burst.push(Datagram { ce, ..Datagram::new(frame, peer, Class::Link, 0) });
        }
    }

    /// Cuts the train up, as far as the burst has room and the pool has frames. Returns whether all of it is cut.
    fn cut(&mut self, burst: &mut Burst) -> bool {
        let Self { landed, fill, incoming, pool, counters, .. } = self;
        let (waiting, beyond) = (landed.end - landed.next, incoming.beyond(landed.next));
        let Some(cut) = &mut landed.train else {
            frame::never!("no train is being cut");
            return false;
        };
        let from = cut.at;
        let (mut datagrams, mut sender) = (0, None);
        while cut.at < cut.end && burst.room() > 0 {
            let Some(mut frame) = pool.alloc().or_else(|| spare(fill, waiting)) else {
                counters.rx_no_frame.add(1);
                break;
            };
            let Some(landing) = fill.last_mut() else {
                frame::never!("a train has landed in no frame");
                return false;
            };
            let pieces = Pieces { first: landing.tail_mut(), beyond };
            let len = cut.each.min(cut.end - cut.at);
            let is_last = cut.at + len == cut.end;
            if cut.truncated && is_last || !pieces.append(cut.at, len, &mut frame) {
                counters.rx_dropped_truncated.add(1);
            } else if let Some(sender) = sender {
                burst.add(frame, sender, Note::unsummed(cut.ce));
            } else {
                // Never full: there is room.
                let _ = burst.push(Datagram { ce: cut.ce, ..Datagram::new(frame, cut.peer, Class::Link, 0) });
                sender = Some(burst.sender(burst.len() - 1));
            }
            cut.at += len;
            datagrams += 1;
        }
        counters.rx_datagrams.add(datagrams);
        counters.rx_bytes.add((cut.at - from) as u64);
        if cut.at < cut.end {
            return false;
        }
        self.end_of_train();
        true
    }

    /// The train is done with: the frame that it landed in is free.
    fn end_of_train(&mut self) {
        self.landed.train = None;
        self.landed.step();
        drop(self.fill.pop());
    }
}

/// A frame to receive into in which nothing has landed: `waiting` messages are in the last ones. The pool is empty.
#[cold]
fn spare(fill: &mut Vec<Frame>, waiting: usize) -> Option<Frame> {
    (fill.len() > waiting).then(|| fill.remove(0))
}
