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
//! | `connection` | one application: what it may say, and when |
//! | `channel_memory` | the memory and the bells of a channel |
//! | `limits` | what applications may have |
//! | `transfer` | messages over sockets, without waiting |
#![forbid(unsafe_code)]

mod channel_memory;
mod connection;
mod limits;
pub mod register;
pub mod server;
pub mod socket;
mod transfer;

pub use limits::ApplicationLimits;
pub use register::{ApplicationEntry, Register};
pub use server::{ApplicationServer, LcoreEnds, MasterHandle, Stopper};
pub use socket::{ApplicationSocket, SocketError};
