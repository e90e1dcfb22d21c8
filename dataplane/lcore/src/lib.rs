//! The poll loop: pinning, clock, waiting, mailboxes, watchdog.
//!
//! An [`Lcore`] is one role with its ports, its frames and its mailbox. [`Lcore::poll_once`] does all its work, and is
//! the same in a thread and in a simulator; [`thread`] adds pinning, the clock and sleep.
//!
//! | module | what |
//! |---|---|
//! | [`bells`] | a bell that other processes ring, too |
//! | [`cores`] | core lists as DPDK's `-l`, checked against the machine |
//! | [`clock`] | nanoseconds since the process began, read once per poll |
//! | [`mailbox`] | bounded queues into an lcore or out of it, with a doorbell |
//! | [`handover`] | what arrives on one lcore and is for another |
//! | [`together`] | roles that end together |
//! | [`mail`] | link control on its way to the registrar |
//! | [`poll`] | one poll: mailbox, receive, advance, transmit |
//! | [`counters`] | the counters of an lcore |
//! | [`tap`] | copies of datagrams for an observer |
//! | [`nap`] | when an lcore on sockets stays away for a moment, and for how long |
//! | [`wait`] | polling, or sleeping after a run of empty polls |
//! | [`thread`] | an lcore on a pinned thread of its own |
//! | [`watchdog`] | finds lcores that stand still, and where they stand |
#![forbid(unsafe_code)]

pub mod bells;
pub mod clock;
pub mod cores;
pub mod counters;
pub mod handover;
pub mod mail;
pub mod mailbox;
pub mod nap;
pub mod poll;
mod pulse;
mod sync;
pub mod tap;
pub mod thread;
pub mod together;
pub mod wait;
pub mod watchdog;

pub use clock::Clock;
pub use cores::CoreList;
pub use counters::{LcoreCounters, PoolCounters, StageSamples};
pub use mail::{ControlMail, ControlReceiver, ControlSender, control_mailbox};
pub use poll::{Conservation, Lcore, Polled};
pub use pulse::{Pulse, Stage};
pub use wait::RxMode;
