//! Guests of QEMU as peers: network cards of real kinds, and the kernel's soft RoCE.
//!
//! One program for all of them: each program is linked with everything below it.

mod nics;
mod rxe;
