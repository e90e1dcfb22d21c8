//! How large an endpoint is, and the attributes of queue pairs and paths.

use crate::{PathId, Qpn};
use frame::Time;
use frame::time::{MICROSECOND, MILLISECOND, SECOND};
use wire::rc::{PathMtu, Psn, RnrTimer};

/// The size of an endpoint. All memory is taken at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queue pairs, at most 2^20.
    pub queue_pairs: u32,
    /// Peers: [`PathId`]s are below this.
    pub paths: u32,
    /// Memory regions.
    pub regions: u32,
    /// Work requests that are posted and not complete, of all queue pairs.
    pub work: u32,
    /// Posted receives of all queue pairs.
    pub receives: u32,
    /// READs and atomic operations of peers that can be repeated, of all queue pairs: the sum of their depths.
    pub replays: u32,
    /// Completions that wait or are owed.
    pub completions: u32,
    /// The most work requests, and the most receives, of one queue pair.
    pub queue_depth: u32,
    /// Bytes in flight to and from one peer, at most. A single READ asks for no more than an eighth of it at once.
    pub path_window: u32,
    /// Bytes in flight to and from all peers together, at most.
    pub total_window: u64,
    /// The longest time that a record waits in a gateway, in nanoseconds: each way may cost it twice.
    pub hold: Time,
    /// How long an own peer may be silent before its queue pairs fail, in nanoseconds: at least 5 heartbeat intervals.
    pub give_up: Time,
}

impl Default for Config {
    /// A few queue pairs: what a slave or a tool needs.
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
            hold: 50 * MICROSECOND,
            give_up: 5 * SECOND,
        }
    }
}

/// Who a peer is, which decides how long it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// One of ours behind a gateway: retries are bounded in time by [`Config::give_up`], and by being told that it is gone. The
    /// timeout is at least 4 holds and the measured round trip.
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
    /// How long it is told to wait when no receive is posted.
    pub rnr_timer: RnrTimer,
}

/// Attributes on the way to RTS: what the requester needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyToSend {
    /// The PSN of our first request.
    pub psn: Psn,
    /// READs and atomic operations that may be outstanding: 128 between our own, 16 towards `rdma_rxe`.
    pub read_depth: u8,
    /// RoCE peers: the timeout is 4.096 us times 2 to this power; 0 is never.
    pub timeout: u8,
    /// RoCE peers: how often a request is sent again without progress, 0 to 7.
    pub retries: u8,
    /// RoCE peers: how often an RNR NAK is waited out, 0 to 7; 7 is without end.
    pub rnr_retries: u8,
}

impl ReadyToSend {
    /// What is usual: timeout 14 (67 ms), 7 retries, RNR without end.
    pub const fn usual(psn: Psn, read_depth: u8) -> Self {
        Self { psn, read_depth, timeout: 14, retries: 7, rnr_retries: 7 }
    }
}

/// The shortest timeout towards own peers, in nanoseconds: a poll loop that is descheduled is not a loss.
pub(crate) const LEAST_TIMEOUT: Time = MILLISECOND;

/// At most one congestion notification to a peer in this time, in nanoseconds.
pub(crate) const CNP_INTERVAL: Time = 50 * MICROSECOND;

/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: u32 = 1 << 31;
