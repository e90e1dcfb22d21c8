//! The server's side of NBD (network block device): what a client and a server say to each other over a stream.
//!
//! The protocol is described by `doc/proto.md` of <https://github.com/NetworkBlockDevice/nbd>. This crate has the fixed
//! newstyle negotiation, simple and structured replies, and all requests of the document without its experimental
//! extensions. Bytes come in, bytes and meanings go out: there is no socket, no clock and no memory that grows with
//! what a client sends.
//!
//! | module | what |
//! |---|---|
//! | [`export`] | the disk that clients see: name, size, sizes of requests |
//! | [`negotiation`] | from the greeting to the first request |
//! | [`request`] | the head of a request, and what it asks for |
//! | [`reply`] | the bytes of replies |
//! | [`fault`] | why a connection cannot go on |
//!
//! All numbers are big-endian.
#![forbid(unsafe_code)]

mod bytes;
pub mod export;
pub mod fault;
pub mod negotiation;
mod option;
pub mod reply;
pub mod request;

pub use export::Export;
pub use fault::NbdFault;
pub use negotiation::{Negotiated, Negotiation, NegotiationStep};
pub use reply::NbdError;
pub use request::{NbdOperation, RequestHead};
