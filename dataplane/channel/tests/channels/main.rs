//! Channels: what arrives, what a hostile client can do, and all interleavings.
#![forbid(unsafe_code)]

mod hostile;
mod interleavings;
mod pairs;
