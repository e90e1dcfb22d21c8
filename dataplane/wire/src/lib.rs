//! The formats of gvm-dp: GVM records and what they carry, and the network headers around them.
//!
//! `no_std`, no I/O, no clock, no `unsafe`: bytes come in, checked views go out. The exact layouts, with
//! whole datagrams in hex, stand in `docs/wire-format.md`; the tests of this crate read that file.
//!
//! | module | what |
//! |---|---|
//! | [`scale`] | how many slaves, how many behind one gateway; slave ids, shards, lanes |
//! | [`shards`] | the shards that one gateway serves |
//! | [`record`] | the 23-byte record header: view and emit |
//! | [`walk`] | the records of one datagram, and its exact fault |
//! | [`part`] | parts of a larger message, bounded reassembly |
//! | [`key`] | keys as text, and their fingerprints |
//! | [`tag`] | the keyed 16-byte tag of link control |
//! | [`link`] | HEARTBEAT, HEARTBEAT_ACK, MEMBERS |
//! | [`lease`] | CONNECT, CONNECT_REPLY, DISCONNECT: memory that slaves lend to masters |
//! | [`echo`] | ECHO and the test pattern that generators check |
//! | [`rc`] | packets of reliable connections: InfiniBand's transport headers, and the ICRC |
//! | [`net`] | Ethernet, ARP, IPv4, ICMP echo, UDP, checksums |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod echo;
pub mod key;
pub mod lease;
pub mod link;
pub mod net;
pub mod part;
pub mod rc;
pub mod record;
pub mod scale;
pub mod shards;
mod signed;
pub mod tag;
pub mod walk;

pub use record::{BadReason, HEADER_LEN, MAGIC, MsgType, Record, RecordHeader};
pub use scale::{Scale, ScaleError, Shard, SlaveId};
pub use shards::{ShardSet, ShardsError};
pub use tag::Key;
pub use walk::{BadRecord, Walk};

/// The UDP port on which gateways listen.
pub const GATEWAY_PORT: u16 = 9999;

pub use rc::ROCE_PORT;

/// Raw ports send from `LANE_PORT_BASE + lane`, so that RSS spreads lanes over queues.
pub const LANE_PORT_BASE: u16 = 49152;

/// How many lanes there are.
pub const LANES: u16 = 1024;

/// The UDP port that raw ports send a lane's cargo from.
#[inline]
pub const fn lane_port(lane: u16) -> u16 {
    LANE_PORT_BASE + lane % LANES
}

/// Whether a UDP port is one that raw ports send cargo from.
#[inline]
pub const fn is_lane_port(port: u16) -> bool {
    port >= LANE_PORT_BASE && port - LANE_PORT_BASE < LANES
}

/// The smallest IP packet that every host must take, in bytes: no MTU is below it (RFC 791, section 3.2).
pub const MIN_MTU: u16 = 576;

/// Largest IP packet to a node whose larger claim was not yet acknowledged, in bytes.
pub const UNPROVEN_MTU: u16 = 1280;

/// Bytes of an IPv4 header without options and a UDP header: an MTU minus this is the room for a datagram.
pub const IPV4_UDP_LEN: u16 = 28;

/// The same for an IPv6 header without extensions.
pub const IPV6_UDP_LEN: u16 = 48;
