//! `gvm-dp config`.

use clap::{Args, Subcommand};
use settings::flags::{DiskArgs, GatewayArgs, MasterArgs, SlaveArgs};
use std::path::PathBuf;

/// `gvm-dp config ...`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting, its value, and where that comes from
    Show(Box<ShowArgs>),
    /// Check a configuration file without starting anything
    Check {
        /// The file [default: /etc/gvm-dp/gvm-dp.toml]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print a commented configuration file with every setting
    Example,
}

/// `gvm-dp config show`: of a process that would be started with these flags, or of one that runs.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ShowArgs {
    /// As JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Of a running process; --name says which
    #[arg(long)]
    pub running: bool,
    /// The default role's flags.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The role.
    #[command(subcommand)]
    pub role: Option<ShowRole>,
}

/// Whose settings are shown.
#[derive(Debug, Subcommand)]
pub enum ShowRole {
    /// A gateway's (the default)
    Gateway(Box<GatewayArgs>),
    /// A slave's
    Slave(Box<SlaveArgs>),
    /// A master's
    Master(Box<MasterArgs>),
    /// A disk's
    Disk(Box<DiskArgs>),
}
