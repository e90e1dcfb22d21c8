//! Paging of one program: which of its pages are local, and which are in extents of remote memory.
//!
//! [`Pager`] decides, and does no I/O: it is told what happens ([`PagingEvent`]), and says what shall be done
//! ([`PagingAction`]). So every order of events can be tried (`tests/paging/explore.rs`), and a run can be repeated
//! from its seed (`tests/paging/seeds.rs`). Its driver has the userfaultfd, the staging area, and the requests to
//! extents.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | page | 4 KiB of the program's memory. Its key stays when mremap moves it |
//! | section | 480 pages, and the extents (one for each replica) with the 512 slots that these pages have |
//! | slot | 4 KiB of an extent |
//! | landing buffer | where a READ puts a page before it is copied to the program |
//! | staging area | where a page is moved when it leaves the program, until it is written |
//!
//! # Rules
//!
//! 1. A page is never zeros unless it was never written, or the program dropped it. A page of which no replica is left
//!    is *lost*: who touches it is paused.
//! 2. A write never goes to a slot with a page that is needed. An eviction writes into a spare slot of all replicas;
//!    then one store flips the entry; then the old slot is free. A slot is given out again only when every request to
//!    it has ended.
//! 3. What a READ brought has the hash that the directory has, or it is read from another replica.
//! 4. A fault never waits for an eviction while the reserve lasts, and prefetch does not take the reserve.
//! 5. Each page of a touched section is in one state ([`PageState`]), and the sums are exact after every event
//!    ([`Pager::check`]).
//! 6. Buffers of a request stay reserved until its end is told. An end that is told twice, or late, changes nothing.
//!
//! # Who places what
//!
//! The pager asks for extents and names those that the new ones must be apart from. The master decides at which slaves
//! they are: two random choices by free capacity, in different failure domains (`docs/paging.md`). So the pager knows
//! extents only, and slaves come and go without it.
#![forbid(unsafe_code)]

mod config;
mod event;
mod hash;
mod key;
mod machine;
mod numbers;
mod policy;
mod region;
mod section;
mod stats;
mod trend;
mod work;

pub use config::{PagingConfig, PagingConfigError};
pub use event::{FillEnd, MoveEnd, PagingAction, PagingEvent, ReadEnd, StoreEnd, Ticket, WriteSource};
pub use hash::{copy_with_hash, page_hash, zero_hash};
pub use key::PageKey;
pub use machine::Pager;
pub use policy::EvictionPolicy;
pub use section::PageState;
pub use stats::{PageBooks, PagingStats};

/// Pages of a section: 30 stripes of 64 KiB. The other 32 slots of its extent are spare.
pub const SECTION_PAGES: usize = 480;

/// Slots of an extent of 2 MiB.
pub const SLOTS: usize = 512;

/// The most replicas of a page.
pub const MAX_REPLICAS: usize = 3;

/// The most pages that move into the staging area at once.
pub const RUN: usize = 32;
