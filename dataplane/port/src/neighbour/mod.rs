//! Next hops of peers that were never heard: their Ethernet addresses, from the kernel's tables.
//!
//! A peer that was heard carries its next hop, so that answers ask nobody. What a port sends first (a slave's heartbeat
//! to its gateway) asks its [`NextHops`]: on an interface of the kernel this module's, on a port without a kernel behind it
//! [`crate::host`]'s. A [`Resolver`] is a thread beside the poll loops: it asks the kernel for the route and the
//! neighbour, has the kernel ask on the wire when it does not know, and keeps what was asked for fresh. A poll loop has a
//! [`Neighbours`], whose look-up calls the kernel only for an address that it sees for the first time.
//!
//! | module | what |
//! |---|---|
//! | `known` | what is known of next hops, and what was asked for |
//! | `resolver` | the thread |

mod known;
mod resolver;

pub use crate::worker::ResolverError;
pub use known::{MAX_PEERS, Neighbours, NextHop, NextHops, resolve};
pub use resolver::Resolver;
