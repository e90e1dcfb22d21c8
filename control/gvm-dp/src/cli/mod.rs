//! The command line.

mod config;
mod key;
mod page;
mod qp;
mod setup;
mod values;

pub use config::*;
pub use key::*;
pub use page::*;
pub use qp::*;
pub use setup::*;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use client::args::{CaptureArgs, NameArgs, ReloadArgs, RoutesArgs, SetArgs, StatsArgs, TopArgs, TraceArgs};
use settings::flags::{DiskArgs, GatewayArgs, MasterArgs, SlaveArgs};

/// The dataplane of GiantVM Frontier-X. Without a command it is a gateway.
#[derive(Debug, Parser)]
#[command(name = "gvm-dp", version, args_conflicts_with_subcommands = true, after_help = common::exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The default role's flags.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What gvm-dp can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Aggregate records between masters and slaves (the default)
    Gateway(Box<GatewayArgs>),
    /// Lend memory: answer as one slave, or as a farm of them
    Slave(Box<SlaveArgs>),
    /// Read and write the memory of slaves for applications on this host
    Master(Box<MasterArgs>),
    /// Serve the memory of slaves as a block device (NBD): for QEMU, and as swap
    Disk(Box<DiskArgs>),
    /// Show what a running process does: rates, totals, warnings
    Stats(StatsArgs),
    /// Watch a running process live: lcores, ports, aggregation, members
    Top(TopArgs),
    /// Show who is registered at a running gateway
    Routes(RoutesArgs),
    /// Write what goes through a running process's ports to a file for Wireshark
    Capture(CaptureArgs),
    /// Show what happens to the next records of a slave in a running gateway
    Trace(TraceArgs),
    /// Make a running process send all that it holds, and end
    Drain(NameArgs),
    /// Show and check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Change a setting of a running process; alone, list what can be set
    Set(SetArgs),
    /// Make a running process read its configuration and key files again
    Reload(ReloadArgs),
    /// Make, show and derive keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Queue pairs over RoCEv2 by hand: lend memory, read and write a peer's, measure
    #[command(subcommand)]
    Qp(QpCommand),
    /// Remote memory by hand, through a master on this host
    #[command(subcommand)]
    Page(PageCommand),
    /// Show or reserve the hugepages that a gateway needs
    #[command(subcommand)]
    Hugepages(HugepagesCommand),
    /// Write the manual pages
    Man(ManArgs),
    /// Print the completions of a shell
    Completion(CompletionArgs),
}

/// The command line, with the values that shells offer. `client` knows no settings, so that theirs are added here.
pub fn command() -> clap::Command {
    let offer = |argument: clap::Arg, values: ArgValueCompleter| argument.add(values);
    Cli::command().mut_subcommand("set", |set| {
        let set = set.mut_arg("setting", |setting| offer(setting, values::settings()));
        set.mut_arg("value", |value| offer(value, values::setting_values()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::units::Duration;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn gateway_is_the_default_role() {
        let flags = ["--lcores", "2-15", "--port", "udp:127.0.0.1:9999", "--hold", "inf"];
        let short = Cli::parse_from(["gvm-dp"].iter().chain(&flags));
        assert!(short.command.is_none());
        let long = Cli::parse_from(["gvm-dp", "gateway"].iter().chain(&flags));
        let Some(Command::Gateway(long)) = long.command else { panic!("another command") };
        assert_eq!(format!("{:?}", short.gateway), format!("{long:?}"));
        assert_eq!(long.hold, Duration(frame::time::FOREVER));
    }
}
