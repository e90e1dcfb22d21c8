//! The size of an endpoint, and the attributes of queue pairs and paths.

use crate::{PathId, Qpn};
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use wire::rc::{PathMtu, Psn, RnrTimer};

/// The size of an endpoint. All memory is allocated at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queue pairs, at most 2^20.
    pub queue_pairs: u32,
    /// Peers: [`PathId`]s are below this.
    pub paths: u32,
    /// Memory regions.
    pub regions: u32,
    /// Work requests of all queue pairs that are posted and not complete.
    pub work: u32,
    /// Posted receives of all queue pairs.
    pub receives: u32,
    /// READs and atomic operations of peers that can be repeated, of all queue pairs: the sum of their depths.
    pub replays: u32,
    /// Completions that wait or are expected.
    pub completions: u32,
    /// The most work requests, and the most receives, of one queue pair.
    pub queue_depth: u32,
    /// The most bytes in flight to and from one peer. A single READ asks for at most an eighth of it at once,
    /// and at most 16 KiB.
    pub path_window: u32,
    /// The most bytes in flight to and from all peers together.
    pub total_window: u64,
    /// How long packets may wait in queues that all paths share, in nanoseconds; a fifth of a round trip without
    /// queues, if that is longer. The window of all paths starts small and follows what is measured, marked and lost.
    /// 0: it always has `total_window` bytes.
    pub queue_target: Time,
    /// Waits in queues make the window of all paths no smaller than this, in bytes; marks and losses do. With less in
    /// flight, processors that are late look like queues.
    pub queue_least: u64,
    /// The longest time that a record waits in a gateway, in nanoseconds. A packet may wait this long twice in each
    /// direction.
    pub hold: Time,
    /// How long an own peer may be silent before its queue pairs fail, in nanoseconds: at least 5 heartbeat intervals.
    pub give_up: Time,
}

impl Default for Config {
    /// A few queue pairs, as a slave or a tool needs.
    fn default() -> Self {
        Self {
            queue_pairs: 64,
            paths: 64,
            regions: 64,
            work: 4096,
            receives: 4096,
            replays: 4096,
            completions: 8192,
            queue_depth: 1024,
            path_window: 1 << 20,
            total_window: 16 << 20,
            queue_target: 0,
            queue_least: 64 << 10,
            hold: 50 * MICROSECOND,
            give_up: 5 * SECOND,
        }
    }
}

impl Config {
    /// The most bytes that one READ may ask for at once.
    #[inline]
    pub(crate) fn read_chunk(&self) -> u32 {
        (self.path_window / 8).min(READ_CHUNK)
    }
}

/// The kind of a peer. It decides how long we wait for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// One of our own peers behind a gateway: [`Config::give_up`] limits the time of retries, and a message may say
    /// that the peer is gone. The timeout is at least 4 holds plus the measured round trip.
    Own,
    /// A RoCEv2 peer: the standard's timeout and counts of retries apply.
    Roce,
}

/// Attributes on the way to RTR: what the responder needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyToReceive {
    /// The peer.
    pub path: PathId,
    /// The peer's queue pair.
    pub peer: Qpn,
    /// The PSN of its first request.
    pub psn: Psn,
    /// The path MTU of both directions.
    pub mtu: PathMtu,
    /// READs and atomic operations that it may have outstanding; 0 if it may not do any.
    pub read_depth: u8,
    /// How long the peer is told to wait if no receive is posted.
    pub rnr_timer: RnrTimer,
}

/// Attributes on the way to RTS: what the requester needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyToSend {
    /// The PSN of our first request.
    pub psn: Psn,
    /// READs and atomic operations that may be outstanding: 128 between our own, 16 towards `rdma_rxe`.
    pub read_depth: u8,
    /// For RoCE peers: the timeout is 4.096 us times 2 to this power; 0 means no timeout.
    pub timeout: u8,
    /// For RoCE peers: how often a request is sent again without progress, 0 to 7.
    pub retries: u8,
    /// For RoCE peers: how often an RNR NAK is waited out, 0 to 7; 7 means without end.
    pub rnr_retries: u8,
}

impl ReadyToSend {
    /// The usual values: timeout 14 (67 ms), 7 retries, RNR without end.
    pub const fn usual(psn: Psn, read_depth: u8) -> Self {
        Self { psn, read_depth, timeout: 14, retries: 7, rnr_retries: 7 }
    }
}

/// The shortest timeout towards own peers, in nanoseconds. A poll loop that was descheduled must not look like a loss.
pub(crate) const LEAST_TIMEOUT: Time = MILLISECOND;

/// At most one congestion notification to a peer in this time, in nanoseconds.
pub(crate) const CNP_INTERVAL: Time = 50 * MICROSECOND;

/// The most bytes that one READ asks for at once: a longer answer would fill a slow link on its own.
const READ_CHUNK: u32 = 16 << 10;

/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: u32 = 1 << 31;
