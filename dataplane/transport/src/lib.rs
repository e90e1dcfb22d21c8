//! Reliable queue pairs: InfiniBand's reliable connection without I/O.
//!
//! An [`Endpoint`] owns queue pairs and memory regions. Packets come in as bytes, with the time and the peer that they
//! came from. Packets go out into a [`Sink`], directly into frames. Neither knows the framing: a packet is the same
//! inside a GVM record and as RoCEv2, and the caller supplies the bytes before it that its ICRC covers.
//! `docs/transport.md` lists the rules, and the tests that check them.
//!
//! | module | what |
//! |---|---|
//! | `endpoint` | queue pairs by number, the order in which they send, timers |
//! | [`config`] | sizes, attributes of queue pairs |
//! | [`work`] | work requests, receives, completions |
//! | [`memory`] | regions: keys, bounds, permissions |
//! | [`sink`] | the destination of packets |
//! | [`counters`] | the counters |
//! | `requester` | sends requests, takes answers, recovers from losses |
//! | `responder` | serves requests, answers duplicates |
//! | `round_trip` | what a round trip says of queues |
//! | `window` | bytes in flight |
//! | `total` | bytes in flight on all paths together |
#![forbid(unsafe_code)]

mod completion;
pub mod config;
pub mod counters;
mod endpoint;
mod error;
pub mod memory;
mod moment;
mod path;
mod qp;
mod queue;
mod requester;
mod responder;
mod round_trip;
pub mod sink;
mod slab;
mod total;
mod window;
pub mod work;

pub use config::{Config, PeerKind, ReadyToReceive, ReadyToSend};
pub use counters::TransportCounters;
pub use endpoint::{Arrival, BYTES_PER_IDLE_QP, Endpoint};
pub use error::Error;
pub use memory::{Access, Memory, MemoryError, Region};
pub use qp::State;
pub use sink::{Room, Sink};
pub use work::{Completion, CompletionKind, Local, Op, PathId, Qpn, Receive, Remote, Status, Work};
