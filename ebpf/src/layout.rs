//! The contents and sizes of the program's maps. `build.rs` writes the same numbers for C.

/// Receive queues of one interface that the program can steer to.
pub const MAX_QUEUES: u32 = 256;

/// IPv4 addresses of one interface to which the program accepts packets.
pub const MAX_ADDRESSES: usize = 8;

/// Words of the set of VLANs: a bit for each id.
pub const VLAN_WORDS: usize = 128;

/// Bits of the hash of an address. There are so many slots that a multiplier which gives each address its own slot is
/// found quickly.
pub(crate) const ADDRESS_BITS: u32 = 6;

/// Shards of other gateways that the program can deliver to.
pub const MAX_NEIGHBORS: u32 = 1024;

/// A number that no port has.
pub(crate) const NO_PORT: u32 = 0x1_0000;

/// The MAC in two words, the multiplier, the slots, and one word to fill the last 8 bytes.
pub(crate) const LOCAL_WORDS: usize = 3 + (1 << ADDRESS_BITS) + 1;

/// One slot more than the most neighbours: a changed neighbour is written completely before anything refers to it.
pub(crate) const NEIGHBOR_SLOTS: u32 = MAX_NEIGHBORS + 1;

/// Interface index, address, the first 12 bytes of a packet to the neighbour, and the address's part of a checksum.
pub(crate) const NEIGHBOR_WORDS: usize = 6;

/// No gateway is known to serve the shard.
pub(crate) const SHARD_NONE: u32 = 0;

/// We serve the shard.
pub(crate) const SHARD_MINE: u32 = 1;

/// The neighbour in slot 0 serves the shard; the others follow.
pub(crate) const SHARD_NEIGHBORS: u32 = 2;
