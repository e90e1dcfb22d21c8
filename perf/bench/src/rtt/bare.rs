//! The bare ping-pong: packets of given sizes, one exchange at a time, with nothing in them.

use frame::{Burst, Class, Datagram, Outbox, Peer, Time};
use roce::{Answer, Latencies};

/// Bytes of a READ.
pub const BYTES: u32 = 4096;

/// One end that asks.
pub struct Pinger {
    peer: Peer,
    ping: usize,
    /// Packets of an answer.
    pongs: usize,
    left: u64,
    missing: usize,
    sent: Time,
    latencies: Latencies,
    answer: Option<Answer<Latencies>>,
}

impl Pinger {
    /// Asks `count` times, with `ping` bytes, for answers of `pongs` packets.
    pub fn new(peer: Peer, ping: usize, pongs: usize, count: u64, answer: Answer<Latencies>) -> Self {
        let latencies = Latencies::new();
        Self { peer, ping, pongs, left: count, missing: 0, sent: 0, latencies, answer: Some(answer) }
    }

    /// Sends the next ping, unless an answer is missing; when none is left, reports the result to the caller.
    pub fn advance(&mut self, now: Time, out: &mut Outbox) {
        if self.missing > 0 {
            return;
        }
        if self.left == 0 {
            if let Some(answer) = self.answer.take() {
                answer(std::mem::take(&mut self.latencies));
            }
        } else if send(&self.peer, self.ping, out) {
            self.left -= 1;
            self.missing = self.pongs;
            self.sent = now;
        }
    }

    /// Takes packets of the answer.
    pub fn receive(&mut self, now: Time, burst: &mut Burst, out: &mut Outbox) {
        let came = burst.len();
        burst.clear();
        if self.missing == 0 {
            return;
        }
        self.missing = self.missing.saturating_sub(came);
        if self.missing == 0 {
            self.latencies.record(now.saturating_sub(self.sent));
            self.advance(now, out);
        }
    }
}

/// Answers each packet with packets of these sizes.
pub fn pong(burst: &mut Burst, sizes: &[usize], out: &mut Outbox) {
    for datagram in burst.drain() {
        let mut peer = datagram.peer;
        (peer.udp_port, peer.source_port) = (wire::ROCE_PORT, 0xc000);
        for size in sizes {
            send(&peer, *size, out);
        }
    }
}

fn send(peer: &Peer, len: usize, out: &mut Outbox) -> bool {
    let Some(mut frame) = out.alloc() else { return false };
    let at = frame.headroom();
    let fits = frame.set_range(at, len);
    if fits {
        out.send(Datagram::new(frame, *peer, Class::Up, 1));
    }
    fits
}
