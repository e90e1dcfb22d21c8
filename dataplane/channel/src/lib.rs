//! The channel between one application and the lcore that reads and writes remote memory for it.
//!
//! Two rings ([`ring`]) and buffers lie in memory that both processes have ([`frame::Shared`]). The application is the
//! *client*: it posts requests and polls completions. The lcore is the *server*. `docs/pages.md` describes all bytes,
//! and what a hostile client can do.
//!
//! | module | what |
//! |---|---|
//! | [`layout`] | where rings and buffers lie |
//! | [`entry`] | the words of a request and of a completion |
//! | [`status`] | how a request ended, by number and name |
//! | [`server`] | the lcore's end: it hands out checked requests, and takes completions |
//! | [`client`] | the application's end |
//! | [`message`] | the messages of the Unix socket: set-up, extents, notices |
//! | [`area`] | extents that have a name, and stay when the connection ends |
//! | `refused` | why a server does not do what was asked |
//!
//! Nothing here makes a system call: whoever uses it has the socket and the bells.
#![forbid(unsafe_code)]

pub mod area;
pub mod client;
pub mod entry;
pub mod layout;
pub mod message;
mod refused;
pub mod server;
pub mod status;

pub use area::{AreaInfo, AreaName, AreaState, AreaUse};
pub use client::ClientEnd;
pub use entry::{ChannelCompletion, ChannelRequest, Lane, Transfer};
pub use layout::{ChannelLayout, LayoutError};
pub use server::{ServerEnd, Taken};
pub use status::ChannelStatus;

/// Bytes of an extent, the piece in which remote memory is allocated.
pub const EXTENT: u32 = 1 << 21;

/// Offsets in extents, offsets in buffers and lengths are multiples of this many bytes, so that words are copied whole.
pub const GRAIN: u32 = 8;

/// The most entries that either end moves at once.
pub const MOST_AT_ONCE: usize = 64;

/// The other end broke the rules of the channel: nothing that comes from it means anything any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelBroken {
    /// A number of one of the rings is impossible.
    #[error("the other end of the channel broke the rules of its rings: close the channel, and open another one")]
    Ring,
    /// The client has more requests under way than there is room for completions.
    #[error("the client posted more requests than it may have under way: it must poll completions first")]
    TooManyRequests,
    /// The server completed more requests than it had taken.
    #[error("more requests were completed than posted: the server is at fault")]
    TooManyCompletions,
}

impl From<ring::RingBroken> for ChannelBroken {
    fn from(_: ring::RingBroken) -> Self {
        Self::Ring
    }
}
