//! The socket on which a master takes applications.
//!
//! A thread of its own accepts connections, makes a channel for each, and passes on what applications ask for: extents,
//! and the way back. No request for bytes comes here: those go through the channel to the lcore. `docs/pages.md` has
//! the messages.
//!
//! | module | what |
//! |---|---|
//! | [`socket`] | the socket's file: who may connect, and whether another process has it |
//! | [`server`] | the thread |
//! | [`register`] | which applications there are, for readers |
//! | `running` | the thread while it runs: connections, and what applications ask for |
//! | `events` | what lcores tell, and what becomes of areas |
//! | `areas` | the areas: whose they are, and who has them |
//! | `holdings` | the extents of one application or area, in their order |
//! | `lcores` | the lcores of a master, as the server has them |
//! | `connection` | one application: what it may say, and when |
//! | `channel_memory` | the memory and the bells of a channel |
//! | `limits` | what applications may have |
//! | `transfer` | messages over sockets, without waiting |
#![forbid(unsafe_code)]

mod areas;
mod channel_memory;
mod connection;
mod events;
mod holdings;
mod lcores;
mod limits;
pub mod register;
mod running;
pub mod server;
pub mod socket;
mod transfer;

pub use lcores::LcoreEnds;
pub use limits::ApplicationLimits;
pub use register::{ApplicationEntry, Register};
pub use server::{ApplicationServer, MasterHandle, Stopper};
pub use socket::{ApplicationSocket, SocketError};
