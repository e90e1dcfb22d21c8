//! Frames of a hugepage arena, peers, time, counters, and the poll loop's view of a role.
//!
//! This is the vocabulary that both wings share: the protocol wing (gateway, slave, ...) and the machine wing
//! (ports, lcores). A [`Frame`] is a buffer of one lcore's [`Pool`]; it goes back to the pool when it is dropped, so
//! that no path through the program can leak one.
//!
//! | module | what |
//! |---|---|
//! | [`arena`] | the memory: hugepages, or ordinary pages and a warning |
//! | [`pool`] | which chunks are free; high-water mark |
//! | [`burst`] | the datagrams that a port received at once |
//! | [`mod@frame`] | one owned chunk: headroom and at most one datagram |
//! | [`control`] | link control that waits for the registrar, and which goes first |
//! | [`copy`] | copies and prefetches of the hot path |
//! | [`crc`] | a copy and its CRC-32 in one pass |
//! | [`peer`] | the other end on a port |
//! | [`datagram`] | a frame with its peer |
//! | [`mod@never`] | checks for what cannot happen |
//! | [`outbox`] | what a role sends, and what happened to it |
//! | [`counter`] | plain counters that another thread may read |
//! | [`guarded`] | memory between guard pages, for lending |
//! | [`histogram`] | power-of-two buckets of such counters |
//! | [`repeats`] | limits how often a repeated warning is logged |
//! | [`role`] | the sans-I/O object that an lcore polls |
//! | [`secret`] | bytes in one place, overwritten when dropped |
//! | [`shared`] | memory that other processes write to |
//! | [`stream`] | such memory through sockets |
//! | [`table`] | large tables on large pages |
//! | [`time`] | nanoseconds, as arguments |
//! | [`units`] | memory that is lent in units of 64 MiB |
//! | [`wheel`] | which of many nodes are due |
#![deny(unsafe_op_in_unsafe_fn)]

pub mod arena;
pub mod burst;
pub mod control;
pub mod copy;
pub mod counter;
pub mod crc;
pub mod datagram;
pub mod frame;
pub mod guarded;
pub mod histogram;
pub mod never;
mod numa;
pub mod outbox;
pub mod peer;
pub mod pool;
mod raw;
pub mod repeats;
pub mod role;
pub mod secret;
pub mod shared;
mod stock;
pub mod stream;
pub mod table;
pub mod time;
pub mod units;
pub mod wheel;

pub use arena::{Arena, ArenaError, Backing, Hugepages, Placement};
pub use burst::{Burst, Note, Sender};
pub use control::Precedence;
pub use counter::Counter;
pub use datagram::{BURST, Class, Datagram, DatagramView, LARGE};
pub use frame::{Frame, FrameView};
pub use guarded::Guarded;
pub use histogram::Histogram;
pub use outbox::{Outbox, TxQueue};
pub use peer::{PackedOrigin, Peer, PortId, Vlan};
pub use pool::{Pool, PoolConfig};
pub use repeats::{More, Repeats};
pub use role::Role;
pub use secret::Secret;
pub use shared::{Shared, SharedError};
pub use table::{Table, TableError};
pub use time::Time;
pub use units::{UNIT, UnitMemory, UnitMemoryError};
