//! Packets of reliable connections in records: the role of one end, and the framing by itself.
//!
//! One program for all of them: each program is linked with everything below it.
#![forbid(unsafe_code)]

mod framing;
mod role;
