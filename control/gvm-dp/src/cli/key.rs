//! `gvm-dp key`.

use clap::{Subcommand, ValueEnum};
use settings::IdRange;
use shell::number;
use std::path::PathBuf;

/// `gvm-dp key ...`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a new cluster key
    New {
        /// Write it to this new file (mode 0600) instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show a key's fingerprint, never the key; with a role and an id, that of the node's key; with --connect, that of
    /// the connect key
    Show {
        /// The key file
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// The node's role
        #[arg(long, requires = "id")]
        role: Option<NodeRole>,
        /// The node's id
        #[arg(long, requires = "role", value_parser = number::<u32>(..))]
        id: Option<u32>,
        /// The connect key
        #[arg(long, conflicts_with = "role")]
        connect: bool,
    },
    /// Derive the key of one node, those of several, or the connect key, from the cluster key
    Derive {
        /// File with the cluster key
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// The node's role
        #[arg(long, required_unless_present = "connect", requires = "id")]
        role: Option<NodeRole>,
        /// The node's id. For ids in a row, as 1-8, the file has a line for each: for a process with all these ids
        #[arg(long, requires = "role", value_name = "ID[-LAST]")]
        id: Option<IdRange>,
        /// The connect key, by which masters and slaves that lend memory know each other
        #[arg(long, conflicts_with_all = ["role", "id"])]
        connect: bool,
        /// Write it to this new file (mode 0600) instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Who has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NodeRole {
    /// Lends memory.
    Slave,
    /// Runs the virtual machine.
    Master,
}
