//! `gvm-dp config`, `gvm-dp set` and `gvm-dp reload`.

use super::{GatewayArgs, NameArgs, SlaveArgs, values};
use clap::{Args, Subcommand};
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
}

/// `gvm-dp set`.
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    /// The setting; without it, all that can be set are listed
    #[arg(value_name = "SETTING", add = values::settings())]
    pub setting: Option<String>,
    /// Its value, as its flag takes it
    #[arg(value_name = "VALUE", allow_hyphen_values = true, requires = "setting", add = values::setting_values())]
    pub value: Option<String>,
    /// Back to what the configuration says
    #[arg(long, requires = "setting", conflicts_with = "value")]
    pub reset: bool,
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
