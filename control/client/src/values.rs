//! The values that shells offer for the flags of commands that ask a running process.

use clap_complete::engine::ArgValueCompleter;
use common::sockets;
use shell::complete::lookup;

/// Names of running processes of this user.
pub(crate) fn processes() -> ArgValueCompleter {
    let running = || sockets::trusted_directory().map(sockets::running).unwrap_or_default();
    lookup(move || running().into_iter().map(|(name, _)| name).collect())
}
