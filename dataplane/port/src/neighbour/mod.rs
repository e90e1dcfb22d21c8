//! Next hops of peers that were never heard: their Ethernet addresses, from the kernel's tables.
//!
//! A peer that was heard carries its next hop, so an answer needs no look-up. A datagram that a port sends first (a
//! slave's heartbeat to its gateway) needs the port's [`NextHops`]: those of this module on an interface of the kernel,
//! those of [`crate::host`] on a port without a kernel behind it. A [`Resolver`] is a thread beside the poll loops. It
//! asks the kernel for the route and the neighbour, has the kernel ask on the wire if necessary, and keeps the results
//! fresh. A poll loop has a [`Neighbours`], whose look-up calls the kernel only for an address that it sees for the
//! first time.
//!
//! | module | what |
//! |---|---|
//! | `known` | the known next hops, and the addresses that were asked for |
//! | `resolver` | the thread |

mod known;
mod resolver;

pub use crate::worker::ResolverError;
pub use known::{MAX_PEERS, Neighbours, NextHop, NextHops, resolve};
pub use resolver::Resolver;
