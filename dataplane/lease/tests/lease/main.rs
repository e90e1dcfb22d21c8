//! Leases from both ends: how they are opened, kept, recalled and ended, and what is refused.
#![forbid(unsafe_code)]

mod common;
mod floods;
mod hostile;
mod keys;
mod life;
mod loans;
mod recall;
mod replays;
