//! The commands of the role, and its answers.

use crate::latency::Latencies;
use frame::{Guarded, Time};
use std::fmt;
use transport::Status;
use wire::rc::PathMtu;

/// Delivers an answer: called once, on the lcore's thread.
pub type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// Memory that peers may use.
#[derive(Debug)]
pub struct Lent {
    /// Its content. Peers may always read it.
    pub bytes: Guarded,
    /// Whether they may write.
    pub write: bool,
    /// Whether they may COMPARE&SWAP and FETCH&ADD.
    pub atomic: bool,
}

/// The other end of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its IPv4 address.
    pub ip: [u8; 4],
    /// Its QP number.
    pub qpn: u32,
    /// PSN of its first request.
    pub psn: u32,
    /// READs and atomics that it answers at the same time.
    pub reads: u16,
}

/// How long a requester retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How long a request waits for an answer before it is sent again, in nanoseconds.
    pub timeout: Time,
    /// How often it is sent again before it fails, 0 to 7.
    pub retries: u8,
    /// How often it is sent again to a responder that is not ready; 7 means without end.
    pub rnr_retries: u8,
}

impl Default for Retry {
    /// InfiniBand's common defaults: 67 ms, 7 retries, without end for a responder that is not ready.
    fn default() -> Self {
        Self { timeout: 67_108_864, retries: 7, rnr_retries: 7 }
    }
}

/// A queue pair to be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QpSpec {
    /// Its number, 24 bits.
    pub qpn: u32,
    /// PSN of its first request.
    pub psn: u32,
    /// READs and atomics that it answers at the same time.
    pub reads: u16,
    /// The path MTU that both ends agreed on.
    pub path_mtu: PathMtu,
    /// The other end.
    pub remote: Remote,
    /// How long it retries.
    pub retry: Retry,
}

/// Why a queue pair was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The maximum number of queue pairs exists.
    #[error("all {0} queue pairs are in use: end one, or allow more")]
    Full(u32),
    /// The low bits of the number are those of another place.
    #[error(
        "QP number {wanted:#08x} cannot be had now, its low bits are a place among our queue pairs: take {next:#08x}"
    )]
    Number {
        /// The requested number.
        wanted: u32,
        /// A number with the same high bits that is available.
        next: u32,
    },
    /// The request is not possible.
    #[error("this queue pair cannot be: {0}")]
    Refused(transport::Error),
}

/// Requests of one kind that are repeated, to measure them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Address of the peer's region.
    pub va: u64,
    /// Bytes of it: requests use one place after another.
    pub span: u64,
    /// Bytes of a request.
    pub size: u32,
    /// Requests under way at the same time.
    pub depth: u16,
    /// End after this many requests.
    pub count: u64,
    /// End after this time, in nanoseconds.
    pub duration: Time,
}

/// Work for a queue pair.
#[derive(Debug)]
pub enum Work {
    /// Reads bytes of the peer's region.
    Read {
        /// Where they begin.
        va: u64,
        /// How many.
        len: u32,
        /// Bytes of one request.
        message: u32,
    },
    /// Writes bytes into the peer's region.
    Write {
        /// Where they begin.
        va: u64,
        /// The bytes; the outcome returns them.
        bytes: Vec<u8>,
        /// Bytes of one request.
        message: u32,
    },
    /// READs.
    LoadRead(Load),
    /// WRITEs.
    LoadWrite(Load),
    /// FETCH&ADDs of zero.
    LoadFetchAdd(Load),
}

/// Work for one queue pair, to one region of its peer. A queue pair does one job at a time.
#[derive(Debug)]
pub struct Job {
    /// Our QP number.
    pub qpn: u32,
    /// The key of the peer's region.
    pub rkey: u32,
    /// What to do.
    pub work: Work,
}

/// The result of a job.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was read or written.
    pub bytes: Vec<u8>,
    /// How long each request took.
    pub latencies: Latencies,
    /// From the first request to the last answer, in nanoseconds.
    pub elapsed: Time,
}

/// A work request did not complete, and neither did those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub status: Status,
    /// Requests of the job that were complete before it.
    pub complete: u64,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} requests", self.status, self.complete)
    }
}

/// The commands that the role takes.
pub enum RoceCommand {
    /// Make a queue pair with this number, or with a random one. The answer is its number.
    Create(Option<u32>, Answer<Result<u32, OpenError>>),
    /// Connect a queue pair that was made. Then it is ready to receive and to send.
    Connect(QpSpec, Answer<Result<(), OpenError>>),
    /// Forget a queue pair, by its number.
    Close(u32, Answer<()>),
    /// Do some work.
    Work(Job, Answer<Result<Outcome, Failed>>),
    /// End: the answer is the lent memory. Then the role is drained.
    End(Answer<Option<Guarded>>),
}

impl fmt::Debug for RoceCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(wanted, _) => write!(f, "Create({wanted:?})"),
            Self::Connect(spec, _) => write!(f, "Connect({spec:?})"),
            Self::Close(qpn, _) => write!(f, "Close({qpn:#x})"),
            Self::Work(job, _) => write!(f, "Work(QP {:#x})", job.qpn),
            Self::End(_) => f.write_str("End"),
        }
    }
}
