//! Rings of entries between processes: one end posts, the other polls, in bursts.
//!
//! A ring lies in memory that both processes write to ([`frame::Shared`]). While both are awake, neither takes a lock
//! or makes a system call. A process that finds nothing may sleep; then the other one is told to ring a bell, which is
//! the caller's (an eventfd).
//!
//! The crate `channel` makes of two rings what carries requests and completions between an application and the lcore
//! that has its queue pairs.
//!
//! # Layout
//!
//! | word | what | written by |
//! |---|---|---|
//! | 0 | `tail`: how many entries were posted | the poster |
//! | 8 | `head`: how many entries were polled | the poller |
//! | 16 | `asleep`: 1 while the poller sleeps, or is about to | both |
//! | 24 | entry 0, then entry 1, ... | the poster |
//!
//! Numbers only grow; entry `n` is in place `n % capacity`. Each written word has a cache line of its own.
//!
//! # Memory ordering
//!
//! - Entries are stored and loaded relaxed. `tail` is stored with release after them and loaded with acquire before
//!   them, so whoever sees a `tail` sees its entries. `head` is stored with release after the entries were loaded, and
//!   loaded with acquire before their places are used again.
//! - Sleeping: the poller stores `asleep`, fences, and looks at `tail` once more. The poster stores `tail`, fences, and
//!   looks at `asleep`. With both fences sequentially consistent at least one of them sees what the other one stored:
//!   either the poller does not sleep, or the poster rings.
//!
//! `tests/rings/interleavings.rs` tries by loom all interleavings with up to three preemptions, and that one of them
//! loses a bell without the fences.
//!
//! # A hostile other end
//!
//! Each end keeps its own number itself and never reads it back. A number of the other end that goes back, or further
//! than the capacity allows, is [`RingBroken`]: nothing of that ring means anything any more. Entries are copied once,
//! out of the shared memory; the caller checks the copy. Whoever lies about `asleep` harms only itself.
#![forbid(unsafe_code)]

mod ends;
mod word;

pub use ends::{Poller, Posted, Poster, RingBroken, TooSmall, words_for};
pub use word::{SharedWord, Words};
