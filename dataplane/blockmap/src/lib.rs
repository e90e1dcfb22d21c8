//! Which blocks of a disk lie in which extents of remote memory.
//!
//! A disk is a row of *slots* of 2 MiB. A slot has an extent from the first write to it on (thin provisioning), until
//! all its blocks were trimmed. A *block* has 4 KiB, and is in one of three states:
//!
//! | state | a READ of it |
//! |---|---|
//! | absent: never written, trimmed, or written with zeros | is zeros, without a request to a slave |
//! | present | is what the extent has |
//! | lost: it was present in an extent that is lost | fails, until all of the block is written or trimmed |
//!
//! So what a fresh extent has does not matter: its bytes are never read before they were written. A write of a part of
//! an absent block writes the whole block, with zeros around the part (a *fill*). While a fill is under way, no other
//! write to its block is, because it would be overwritten with zeros.
//!
//! A map is kept in extents of its own by [`MapKeeper`], if the disk is to outlive its process.
//!
//! [`BlockMap`] decides, and does no I/O: its caller reads, writes, allocates and frees, and says how that ended.
#![forbid(unsafe_code)]

mod bits;
pub mod counters;
mod keep;
mod map;
mod moving;
mod slot;

pub use counters::{DiskCounters, DiskHistograms, DiskStats};
pub use keep::{KeepEvent, KeepWrite, KeptSlot, MapKeeper, MapReader, NoMap, RestoredMap};
pub use map::{BlockMap, Stretch, StretchKind};
pub use moving::CopyStep;
pub use slot::{Ending, MapEvent, MapRefusal, Placed, Want, WriteEnd, WriteKind, WriteStart};

/// Bytes of a block.
pub const BLOCK: u32 = 4096;

/// Bytes of an extent, and of a slot.
pub const EXTENT: u32 = 2 << 20;

/// Blocks of a slot.
const BLOCKS: u32 = EXTENT / BLOCK;
