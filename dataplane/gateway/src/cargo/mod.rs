//! Cargo: the code that runs for each record, in the order in which a burst passes it.
//!
//! | module | what |
//! |---|---|
//! | [`gateway`] | one lcore's gateway: a burst goes in, and the datagrams that are due come out |
//! | [`pass`] | walks a burst into a list of items with their destinations |
//! | [`route`] | where slaves and masters are; who may send what |
//! | [`share`] | how much of a contended port each slave may have |
//! | `budget` | which link control goes first |
//! | [`push`] | records for which somebody waits, and their budgets |
//! | `bucket` | budgets as token buckets |
//! | [`aggregate`] | the pointer array and its buffers |
//! | [`order`] | open buffers in opening order: which are due |
//! | [`flush`] | why a buffer leaves |
//! | [`mod@drop`] | why a record is dropped |
//! | [`direction`] | up and down |

pub mod aggregate;
mod bucket;
mod budget;
pub mod direction;
pub mod drop;
pub mod flush;
pub mod gateway;
pub mod order;
pub mod pass;
pub mod push;
pub mod route;
pub mod share;
