//! Which datagrams of an lcore a capture copies, and how they are written to a file.
//!
//! Bytes come in, bytes go out: no thread, socket or clock.
//!
//! | module | what |
//! |---|---|
//! | [`filter`] | `slave 17 and not type echo`: read, printed, compiled, evaluated for a datagram |
//! | [`packet`] | Ethernet, IP and UDP headers around a datagram that lost its own |
//! | [`pcapng`] | blocks of a capture file, written and counted |
#![forbid(unsafe_code)]

pub mod filter;
pub mod packet;
pub mod pcapng;

pub use filter::{Filter, FilterError, Seen};
