//! userfaultfd: a program hears of its own page faults, and brings the pages itself.
//!
//! The crate makes the kernel's calls callable and decides nothing. [`Userfaultfd`] has a method for each call. A call
//! that stops early says how far it came, and why: [`Progress`]. Events are plain values: [`FaultEvent`].
//!
//! Source of all numbers and layouts: `include/uapi/linux/userfaultfd.h` of Linux 6.18 and
//! `Documentation/admin-guide/mm/userfaultfd.rst`. MOVE exists since Linux 6.8.
//!
//! # What a user of this crate must know
//!
//! Each sentence has a test in `tests/uffd`, on the running kernel.
//!
//! - When the last descriptor of a userfaultfd is closed, its ranges are registered no more: threads that waited go on,
//!   and read **zeros**, as all later ones do. Somebody must hold a copy of the descriptor while a handler may die.
//! - A fault that was read is not read again. Who takes over from a handler wakes the whole range; threads whose pages
//!   are still missing fault again.
//! - Without `EVENT_FORK` the child of a fork reads zeros, without `EVENT_REMAP` whoever moved memory by mremap does.
//! - fork waits until its event was read, and glibc has locked its malloc meanwhile. A thread of the same process that
//!   reads events must not allocate until it has read that one, or both wait for ever.
//! - From the moment at which an event other than a page fault exists until the thread that caused it runs again, COPY,
//!   ZEROPAGE, MOVE and WRITEPROTECT do nothing and end with [`Obstacle::Again`]. Reading gives page faults before
//!   events. MOVE through another userfaultfd, which owns the destination, works meanwhile.
//! - MOVE refuses a page that somebody has pinned ([`Obstacle::Busy`]). In a run with such a page inside, it ends with
//!   [`Obstacle::Again`] and the bytes before it; the next call, which begins at that page, says `Busy`.
//! - After a fork, MOVE refuses each page until it was written to.
//! - vmsplice takes a plain reference, which MOVE does not see.

mod abi;
mod descriptor;
mod event;
mod features;
mod memory;
mod open;
mod progress;

pub use descriptor::{FaultEvent, RegisterMode, Userfaultfd, Waking};
pub use event::{FaultKind, PageFault};
pub use features::FeatureSet;
pub use memory::PrivateMemory;
pub use open::{OpenWay, UffdError};
pub use progress::{Obstacle, Progress};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
