//! One running role: its ports and lcores, built from settings, and the control thread that supervises them.
//!
//! | module | what |
//! |---|---|
//! | [`role`] | a gateway's process, and a slave's |
//! | [`supervise`] | a running process: signals, watchdog, drain |
//! | [`lend`] | memory that a slave lends |
//! | [`lease_secrets`] | the file with which a master that starts again resumes its leases |
//! | [`assemble`] | ports and lcores, from settings |
//! | [`ending`] | bounds for the end of a process |
#![forbid(unsafe_code)]

pub mod assemble;
pub mod ending;
pub mod lease_secrets;
pub mod lend;
pub mod role;
pub mod supervise;
