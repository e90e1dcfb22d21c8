//! The master role: memory of slaves, in extents that clients read and write.
//!
//! Sans-I/O: bytes and `now` come in, bytes and deadlines go out. A [`Master`] is polled as a [`frame::Role`]. It is
//! registered with its gateways and follows their MEMBERS. When a client wants extents, it borrows memory of slaves
//! ([`lease`]), over queue pairs ([`transport`]) in records ([`records`]). `docs/paging.md` is the design.
//!
//! | module | what |
//! |---|---|
//! | [`role`] | the master |
//! | [`config`] | its size and identity |
//! | [`event`] | commands of other threads, and events |
//! | [`request`] | READs and WRITEs of clients, and how they end |
//! | [`clients`] | what each client may have |
//! | [`serving`] | the master with the channels of its clients |
//! | [`counters`] | what it counts |
//! | `gates` | its gateways: heartbeats, MEMBERS |
//! | `roster` | the slaves that gateways name |
//! | `connection` | what it has of one slave |
//! | `units` | the units of one slave, and the extents in them |
//! | `extents` | all extents, by number |
//! | `allocation` | an allocation that is not done yet |
//! | `pending` | requests that are not complete or not polled |
#![forbid(unsafe_code)]

mod allocation;
pub mod clients;
pub mod config;
mod connection;
pub mod counters;
pub mod event;
mod extents;
mod gates;
mod pending;
pub mod request;
pub mod role;
mod roster;
pub mod serving;
mod units;

pub use clients::ClientQuota;
pub use config::{ADAPTIVE_QUEUE_TARGET, MASTER_GATEWAYS, MASTER_SLAVES, MasterConfig, MasterError};
pub use counters::{MasterCounters, MasterHistograms, MasterStats};
pub use event::{Allocate, AllocationRefusal, MOST_APART, MasterCommand, MasterEvent};
pub use request::{
    BufferKey, ClientId, EXTENT_LEN, ExtentId, Loss, PageCompletion, PageOp, PageRequest, PageStatus, Urgency,
};
pub use role::{Master, MasterBooks};
pub use serving::{
    Attachment, ChannelMemory, ClientBell, ClientTotals, MasterServer, ServingCommand, ServingEvent, channel_status,
};
