//! Both ends of HEARTBEAT: which nodes are there, and where.
//!
//! Sans-I/O: no clock, no sockets, no threads, no randomness. Bytes and `now` come in; bytes, events and deadlines go
//! out. Secrets and epochs are arguments.
//!
//! | module | what |
//! |---|---|
//! | [`budget`] | the highest rate of a node's heartbeats |
//! | [`credential`] | the keys with which a node signs |
//! | [`key`] | the cluster key, and the keys of nodes that are derived from it |
//! | [`key_ring`] | two keys while the cluster changes its key |
//! | [`node`] | a node's announcement of itself to one gateway |
//! | [`standing`] | which of several gateways a node uses |
//! | [`member_table`] | what a master knows of one gateway's slaves |
//! | [`registrar`] | the gateway's end: cookies, membership, routes, MEMBERS |
//! | [`change`] | route changes, and where a registrar's output goes |
//! | [`notice`] | messages of a registrar to people |
//! | [`event`] | the steps of a registrar |
//! | [`shard_ranges`] | which shards a gateway serves, as it announces them |
#![forbid(unsafe_code)]

pub mod budget;
pub mod change;
pub mod counters;
pub mod credential;
pub mod event;
pub mod key;
pub mod key_ring;
pub mod member_table;
pub mod node;
pub mod notice;
pub mod registrar;
pub mod shard_ranges;
pub mod standing;

pub use change::{Route, RouteChange, Sink};
pub use counters::RegistrarCounters;
pub use credential::Credential;
pub use event::RegistrarEvent;
pub use key::{ClusterKey, Fingerprint, KeyError, NodeKey};
pub use key_ring::KeyRing;
pub use member_table::{MemberTable, MembersRefusal};
pub use node::{AckRefusal, ChallengeSecret, Node, NodeConfig, NodeEvent};
pub use notice::Notice;
pub use registrar::{Health, MasterView, MemberView, Registrar, RegistrarConfig, RegistrarError, Summary};
pub use shard_ranges::{ShardRanges, ShardRangesError};
pub use standing::Standing;

use frame::Peer;

/// Heartbeat intervals of silence after which a node is gone, or a gateway lost.
pub const SILENT_INTERVALS: u64 = 3;

/// The most memory that one slave can lend, in 4 KiB pages: 64 TiB, which is all that Linux addresses on x86-64 with
/// page tables of four levels. A larger claim is a mistake, or comes from a slave that wants to be chosen.
pub const MOST_PAGES: u64 = 1 << 34;

/// Bytes of UDP payload that fit into an IP packet of `mtu` bytes to `peer`.
pub fn datagram_room(peer: &Peer, mtu: u16) -> usize {
    usize::from(mtu.saturating_sub(ip_udp_len(peer)))
}

/// Bytes of IP and UDP header in a packet to `peer`.
fn ip_udp_len(peer: &Peer) -> u16 {
    if peer.ipv4_octets().is_some() { wire::IPV4_UDP_LEN } else { wire::IPV6_UDP_LEN }
}
