//! The XDP program: its verdicts, what it delivers to other gateways, and the program on real interfaces.
//!
//! One program for all of them: each program is linked with everything below it.

mod live;
mod neighbors;
mod support;
mod verdicts;
