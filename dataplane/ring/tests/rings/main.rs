//! Rings: what arrives, what a hostile other end can do, and all interleavings.
#![forbid(unsafe_code)]

mod bursts;
mod hostile;
mod interleavings;
