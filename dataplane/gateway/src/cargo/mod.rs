//! Cargo: what runs for each record, in the order in which a burst goes through it.
//!
//! | module | what |
//! |---|---|
//! | [`gateway`] | one lcore's gateway: a burst goes in, what is due comes out |
//! | [`pass`] | a burst, walked into a list of what goes where |
//! | [`route`] | where slaves and masters are; who may send what |
//! | [`share`] | who may have how much of a port that is contended |
//! | `budget` | which link control goes first |
//! | [`aggregate`] | the pointer array and its buffers |
//! | [`order`] | open buffers in opening order: which are due |
//! | [`flush`] | why a buffer leaves |
//! | [`mod@drop`] | why a record is dropped |
//! | [`direction`] | up and down |

pub mod aggregate;
mod budget;
pub mod direction;
pub mod drop;
pub mod flush;
pub mod gateway;
pub mod order;
pub mod pass;
pub mod route;
pub mod share;
