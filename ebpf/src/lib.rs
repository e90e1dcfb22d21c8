//! The XDP program, its loader and maps.
//!
//! The program runs for every packet of an interface. Packets for us go to AF_XDP sockets or on to the gateway of
//! another shard, invalid ones are dropped, and all others stay with the kernel. [`Verdict`] counts the decisions. The
//! program is C (`steer.bpf.c`), compiled by `build.rs` and carried in the binary. Offsets in a record and ports come
//! from `gvm-wire`, so that they are written once.

mod error;
pub mod generate;
mod interface;
mod layout;
mod loader;
mod local;
mod neighbor;
mod verdict;

pub use error::SteerError;
pub use layout::{MAX_ADDRESSES, MAX_NEIGHBORS, MAX_QUEUES, VLAN_WORDS};
pub use loader::{Config, Hook, Steer, UNTAGGED};
pub use neighbor::Neighbor;
pub use verdict::{Fate, Verdict};
