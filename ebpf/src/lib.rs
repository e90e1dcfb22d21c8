//! The XDP program, its loader and maps.
//!
//! The program runs for every packet of an interface and gives ours to AF_XDP sockets; what it decided is counted by
//! [`Verdict`]. It is C (`steer.bpf.c`), compiled by `build.rs` and carried in the binary. Header offsets and ports come
//! from `gvm-wire`, so that they are written once.

mod loader;
mod verdict;

pub use loader::{Hook, Steer, SteerError};
pub use verdict::{MAX_QUEUES, Verdict};
