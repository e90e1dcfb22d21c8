//! The XDP program, its loader and maps.
//!
//! The program runs for every packet of an interface: ours go to AF_XDP sockets or on to the gateway of another shard,
//! rubbish is dropped, all else stays with the kernel. What it decided is counted by [`Verdict`]. It is C
//! (`steer.bpf.c`), compiled by `build.rs` and carried in the binary. Offsets in a record and ports come from
//! `gvm-wire`, so that they are written once.

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
