//! Guests of QEMU: as peers, with network cards of real kinds and the kernel's soft RoCE; and one that swaps.
//!
//! One program for all of them: each program is linked with everything below it.

mod nics;
mod rxe;
mod swap;
