//! Leases: memory that slaves lend to masters, in units of 64 MiB.
//!
//! Sans-I/O: bytes and `now` come in; bytes, events and deadlines go out. Memory and queue pairs are somebody else's:
//! a [`Lender`] tells [`Resources`] what to do with them. Secrets and epochs are arguments. `docs/paging.md` is the
//! design, and `docs/wire-format.md` has the bytes. The crate `slave` has the role that lends, and
//! `master` the one that borrows.
//!
//! | module | what |
//! |---|---|
//! | [`key`] | connect keys, and the locks of secrets |
//! | [`lender`] | the slave's end: all leases of one slave id |
//! | [`loan`] | the master's end of one lease |
//! | [`counters`] | what both ends count |
//! | [`numbers`] | random numbers out of one secret |
//! | [`secrets`] | secrets with which a later start of a master resumes its leases |
//! | [`time`] | how long leases, cookies and repetitions last |
//! | `budget` | how many tags of strangers are verified |
//! | `cookie` | the cookie of a slave |
//! | `stock` | which units are free, dirty or leased |
#![forbid(unsafe_code)]

mod budget;
mod cookie;
pub mod counters;
#[cfg(test)]
mod explore;
pub mod key;
pub mod lender;
pub mod loan;
pub mod numbers;
pub mod secrets;
mod stock;
pub mod time;

pub use counters::{LenderCounters, LoanCounters};
pub use key::{ConnectKey, ConnectKeys, lock_of};
pub use lender::{Books, HeldLease, Lender, LenderConfig, OpenedSession, Opening, Resources};
pub use loan::{Loan, LoanConfig, LoanEnd, LoanEvent, Proposal};
pub use numbers::Numbers;
pub use secrets::LeaseSecrets;
