//! The simulated cluster on a virtual clock.
