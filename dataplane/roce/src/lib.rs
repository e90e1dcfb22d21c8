//! The RoCEv2 role: queue pairs of `transport` on UDP 4791, a region that is lent to peers, and work that commands ask
//! for.
//!
//! It has no socket, thread, clock or random numbers: datagrams and `now` come in, datagrams and deadlines go out.
//!
//! | module | what |
//! |---|---|
//! | [`role`] | the role: packets to queue pairs, and back |
//! | `bytes` | the memory of regions |
//! | [`command`] | its commands and answers |
//! | [`mod@path`] | the path to a peer, and the ICRCs of packets in both directions |
//! | [`identification`] | the IPv4 identification that a socket does not show |
//! | `sender` | how the sender chooses it |
//! | [`work`] | work requests of a job, one after another |
//! | [`latency`] | a histogram |
//! | [`counters`] | its counters |
#![forbid(unsafe_code)]

mod bytes;
pub mod command;
pub mod counters;
pub mod identification;
pub mod latency;
pub mod path;
pub mod role;
mod sender;
pub mod work;

pub use command::{Answer, Failed, Job, Lent, Load, OpenError, Outcome, QpSpec, Remote, Retry, RoceCommand, Work};
pub use counters::RoceCounters;
pub use identification::Identification;
pub use latency::Latencies;
pub use path::RoceFraming;
pub use role::{LentRegion, Roce, RoceConfig};
