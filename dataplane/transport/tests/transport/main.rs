//! Queue pairs: packet scripts, two endpoints and a wire with faults, and packets of strangers.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod answers;
mod fuzz;
mod guard;
mod many;
mod pair;
mod scripts;
mod urgent;
