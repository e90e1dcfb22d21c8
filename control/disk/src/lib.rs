//! A disk of remote memory: an NBD server whose blocks lie in extents of a master.
//!
//! One thread does everything: it accepts connections, reads requests, and reads and writes extents through the library
//! `pages`. Bytes of the disk go between sockets and the buffers of the channel without a copy. `docs/disk.md` says how
//! to use it.
//!
//! | module | what |
//! |---|---|
//! | [`socket`] | where it listens |
//! | `connection` | one client: negotiation, requests, replies |
//! | `input`, `output` | bytes that came, and parts that leave |
//! | `request` | requests, and the pieces into which they fall |
//! | `engine` | what requests do to the map of the disk, and to extents |
//! | `ending` | what a status means for the map |
//! | `master` | extents are asked for and freed |
//! | [`area`] | the disk in an area: what was there when the process started |
//! | `store` | keeps the map of the disk in an area |
//! | `pool` | the buffers of the channel |
//! | [`server`] | all connections, one turn at a time |
//! | [`running`] | the thread |
#![forbid(unsafe_code)]

pub mod area;
mod connection;
mod ending;
mod engine;
mod input;
mod master;
mod output;
mod pool;
mod request;
pub mod running;
pub mod server;
mod slab;
pub mod socket;
mod store;

pub use area::{DiskAreaError, DiskChannels, DiskConnector, KeptDisk};
pub use running::DiskLoop;
pub use server::{DiskCommand, DiskOptions, DiskServer};
pub use socket::{DiskSocket, DiskSocketError};
