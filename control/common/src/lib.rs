//! What every command of gvm-dp uses: exit codes, output, signals, and the units in which people write values.
//!
//! | module | what |
//! |---|---|
//! | [`exit`] | exit codes, and the errors behind them |
//! | [`faults`] | several errors that are reported at once |
//! | [`place`] | the place of a fault in a text |
//! | [`output`] | the output of commands |
//! | [`plain`] | text from outside, made safe for a terminal |
//! | [`signal`] | requests by signals |
//! | [`runtime`] | the runtime of the control thread |
//! | [`sockets`] | where control sockets are, and which answers are trusted |
//! | [`address`] | addresses as people write them |
//! | [`units`] | durations and sizes as people write them |
#![forbid(unsafe_code)]

pub mod address;
pub mod exit;
pub mod faults;
pub mod output;
pub mod place;
pub mod plain;
pub mod runtime;
pub mod signal;
pub mod sockets;
pub mod units;
