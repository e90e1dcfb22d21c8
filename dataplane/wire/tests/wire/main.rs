//! The formats: the blocks of the document, properties for all values, random bytes, and reassembly.
//!
//! One program for all of them: each program is linked with everything below it.

mod blocks;
mod document;
mod fuzz_bodies;
mod properties;
mod reassembly;
