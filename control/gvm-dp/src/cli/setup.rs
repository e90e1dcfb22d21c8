//! The commands that prepare a machine.

use clap::{Args, Subcommand};
use settings::flags::GatewayArgs;
use std::path::PathBuf;

/// `gvm-dp hugepages ...`.
#[derive(Debug, Subcommand)]
pub enum HugepagesCommand {
    /// Show how many hugepages a gateway with these settings needs, and how many are free
    Show(Box<GatewayArgs>),
    /// Reserve what is missing; needs root
    Reserve(Box<GatewayArgs>),
}

/// `gvm-dp man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Directory to write gvm-dp.1 and a page for each command to; it must exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `gvm-dp completion`.
#[derive(Args, Clone, Debug)]
pub struct CompletionArgs {
    /// The shell
    pub shell: shell::Shell,
}
