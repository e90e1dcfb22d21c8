//! The formats: as the document has them, for all values, from random bytes, and put together from parts.
//!
//! One program for all of them: each program is linked with everything below it.

mod blocks;
mod document;
mod fuzz_bodies;
mod properties;
mod reassembly;
