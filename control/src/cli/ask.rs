//! The commands that ask a running process.

use clap::Args;

/// Which running process is meant.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// Its name; needed only where several run
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// `gvm-dp stats`.
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Again every second, with rates
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Everything, as JSON
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp routes`.
#[derive(Args, Clone, Debug)]
pub struct RoutesArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
