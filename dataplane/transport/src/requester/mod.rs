//! The requester: sends work requests in order, and completes each of them once.
//!
//! Every packet of a request has a PSN, and a READ has one for each packet of its answer. `una` is the first PSN that
//! is not acknowledged, `next` the one to be sent next, `high` the one after the highest that was ever sent. To send
//! again means to set `next` back to `una`.

mod answer;
mod recover;
mod send;

use crate::moment::Moment;
use crate::slab::{Chain, NONE};
use crate::window::PACKET_COST;
use crate::{ReadyToSend, Work};
use wire::rc::{PathMtu, Psn};

/// A posted work request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wqe {
    pub(crate) work: Work,
    /// PSNs that it takes.
    pub(crate) packets: u32,
}

impl Wqe {
    /// Bytes that packets `from .. to` have in flight: payload in either direction, and headers.
    #[inline]
    pub(crate) fn cost(&self, mtu: PathMtu, from: u32, to: u32) -> u32 {
        let mtu = u64::from(mtu.bytes());
        let len = u64::from(self.work.local.len);
        let bytes = (u64::from(to) * mtu).min(len).saturating_sub((u64::from(from) * mtu).min(len));
        u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add((to - from).saturating_mul(PACKET_COST))
    }
}

/// Packets of one READ request. A long READ is split into several requests.
#[inline]
pub(crate) fn chunk_packets(read_chunk: u32, mtu: PathMtu) -> u32 {
    (read_chunk / mtu.bytes()).max(1)
}

/// The most PSNs that may be posted and not acknowledged: far less than half of all, so that no answer is ambiguous.
pub(crate) const MOST_PSNS: u32 = Psn::COUNT / 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Requester {
    /// When something was last acknowledged, or when the first packet was sent after all were acknowledged.
    progress: Moment<20>,
    /// When the packet whose round trip is being measured was sent.
    sample_at: Moment<0>,
    sample: Psn,
    una: Psn,
    next: Psn,
    high: Psn,
    /// The PSN of the next work request that is posted.
    posted: Psn,
    /// Posted work requests, the oldest first.
    pub(crate) queue: Chain,
    /// The work request of `next`, or [`NONE`] if all was sent.
    cursor: u32,
    /// Packets of that work request before `next`.
    sent: u32,
    /// Packets of the oldest work request before `una`.
    acked: u32,
    in_flight: u32,
    /// Outstanding READs and atomic operations.
    reads: u8,
    read_depth: u8,
    /// Packets since the last one that asked for an ACK.
    quiet: u8,
    /// Consecutive timeouts.
    backoff: u8,
    timeout: u8,
    retries: u8,
    retries_left: u8,
    rnr_retries: u8,
    rnr_left: u8,
    /// An RNR wait is in progress.
    rnr_wait: bool,
    /// An RNR NAK came since something was last acknowledged.
    not_ready: bool,
    /// Why `una` was sent again already: [`IMPLIED`] and [`SAID`]. Each reason counts once until `una` is acknowledged.
    again: u8,
}

/// An answer to a later packet showed that the answer to `una` is missing.
const IMPLIED: u8 = 1;

/// A NAK said that the peer did not receive `una`.
const SAID: u8 = 2;

/// No answer to `una` came in time, once. If one comes too soon after it was sent again, it was only late.
const LATE: u8 = 4;

impl Requester {
    pub(crate) const IDLE: Self = Self {
        progress: Moment::NONE,
        sample_at: Moment::NONE,
        sample: Psn::new(0),
        una: Psn::new(0),
        next: Psn::new(0),
        high: Psn::new(0),
        posted: Psn::new(0),
        queue: Chain::EMPTY,
        cursor: NONE,
        sent: 0,
        acked: 0,
        in_flight: 0,
        reads: 0,
        read_depth: 0,
        quiet: 0,
        backoff: 0,
        timeout: 0,
        retries: 0,
        retries_left: 0,
        rnr_retries: 0,
        rnr_left: 0,
        rnr_wait: false,
        not_ready: false,
        again: 0,
    };

    /// Ready to send, with nothing posted.
    pub(crate) fn start(attributes: &ReadyToSend) -> Self {
        let ReadyToSend { psn, read_depth, timeout, retries, rnr_retries } = *attributes;
        let (retries, rnr_retries) = (retries.min(7), rnr_retries.min(7));
        Self {
            una: psn,
            next: psn,
            high: psn,
            posted: psn,
            read_depth,
            timeout: timeout.min(31),
            retries,
            retries_left: retries,
            rnr_retries,
            rnr_left: rnr_retries,
            ..Self::IDLE
        }
    }

    pub(crate) fn read_depth(&self) -> u8 {
        self.read_depth
    }

    /// PSNs that are posted and not acknowledged.
    #[inline]
    pub(crate) fn pending_psns(&self) -> u32 {
        self.posted.distance(self.una)
    }

    /// Takes in a work request that was added at the end of the queue.
    #[inline]
    pub(crate) fn posted(&mut self, index: u32, packets: u32) {
        self.posted = self.posted.plus(packets);
        if self.cursor == NONE {
            (self.cursor, self.sent) = (index, 0);
        }
    }

    /// Whether there is something to send, if nothing else prevents it.
    #[inline]
    pub(crate) fn may_send(&self) -> bool {
        self.cursor != NONE && !self.rnr_wait
    }

    /// From now on nothing is sent.
    pub(crate) fn stop(&mut self) {
        self.cursor = NONE;
        self.sample_at = Moment::NONE;
        self.rnr_wait = false;
    }

    /// The state that determines the future, with `position` instead of places in the slab, and without times.
    #[cfg(test)]
    pub(crate) fn essence(&self, position: impl Fn(u32) -> u32) -> Self {
        let queue = Chain { head: 0, tail: 0, ..self.queue };
        let (progress, sample_at, sample) = (Moment::NONE, Moment::NONE, Psn::new(0));
        Self { progress, sample_at, sample, queue, cursor: position(self.cursor), backoff: 0, ..*self }
    }
}
