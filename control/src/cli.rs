//! The command line.

use crate::neighbor::NeighborSpec;
use crate::traffic::Traffic;
use crate::units::{Duration, Size};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lcore::{CoreList, RxMode};
use port::spec::PortSpec;
use std::path::PathBuf;

/// gvm-dp: the dataplane of GiantVM Frontier-X. Without a command it is a gateway.
#[derive(Debug, Parser)]
#[command(name = "gvm-dp", version, args_conflicts_with_subcommands = true, after_help = crate::exit::HELP)]
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
    /// Show what a running process counts
    Stats(StatsArgs),
    /// Show who is registered at a running gateway
    Routes(RoutesArgs),
    /// Let a running process hand over all it holds, and end
    Drain(NameArgs),
    /// Make, show and derive keys
    #[command(subcommand)]
    Key(KeyCommand),
}

/// What every role takes.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Cores to run on, one lcore each, as DPDK's -l: 2-15 or 0,2,4-6 [default: not pinned; one,
    /// or with xdp: ports as many as the one with the fewest queues has]
    #[arg(short = 'l', long, value_name = "CORES")]
    pub lcores: Option<CoreList>,
    /// Where datagrams come from and go to: udp:ADDR:PORT, xdp:IFACE (and behind it
    /// ,queues=N or ,mode=auto|zc|copy|skb), an interface, or a PCI address. Twice: the first faces the masters
    #[arg(short, long = "port", value_name = "PORT")]
    pub ports: Vec<PortSpec>,
    /// How lcores wait: polling (a busy core each) or adaptive (sleeps when idle)
    #[arg(long, default_value_t, value_name = "MODE")]
    pub rx_mode: RxMode,
    /// Name of this process and of its control socket [default: the role]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Time between heartbeats; the same on gateways and nodes
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    pub heartbeat: Duration,
    /// Frames in each lcore's arena
    #[arg(long, default_value_t = 16_384, value_name = "N")]
    pub frames: u32,
    /// Largest IP packet to send or to take, in bytes
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    pub mtu: u16,
    /// Bits of a slave id
    #[arg(long, default_value_t = wire::Scale::default().slave_bits(), value_name = "BITS")]
    pub slave_bits: u8,
    /// Bits of a slave id inside one gateway
    #[arg(long, default_value_t = wire::Scale::default().gw_bits(), value_name = "BITS")]
    pub gw_bits: u8,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// The gateway's flags.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// What every role takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The longest time that a record may wait for others; inf waits until a datagram is full
    #[arg(long, default_value = "50us", value_name = "DURATION")]
    pub hold: Duration,
    /// Send early what waits when nothing arrives for a quarter of the hold
    #[arg(long, default_value = "on", value_name = "ON|OFF")]
    pub early: Switch,
    /// Shards to serve: all, or a list as 0-3,5
    #[arg(long, default_value = "all", value_name = "SHARDS")]
    pub shards: String,
    /// The gateway of a shard that is not served here: its cargo, arriving on an xdp: port, is sent on there. Repeat it
    #[arg(long = "neighbor", value_name = "SHARD=IFACE,ip=ADDR,mac=MAC")]
    pub neighbors: Vec<NeighborSpec>,
    /// File with the cluster key (gvm-dp key new)
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// A slave's flags.
#[derive(Args, Clone, Debug)]
pub struct SlaveArgs {
    /// What every role takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The gateway: ADDR or ADDR:PORT
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub gateway: String,
    /// Slave id; of a farm, the first one
    #[arg(long, value_name = "ID")]
    pub id: u32,
    /// How many ids, counted on from --id, this process is
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub count: u32,
    /// Memory that each id lends
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub memory: Size,
    /// File with this slave's own key (gvm-dp key derive)
    #[arg(long, value_name = "FILE", conflicts_with = "cluster_key_file")]
    pub key_file: Option<PathBuf>,
    /// File with the cluster key: a farm derives the key of each of its ids
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<PathBuf>,
    /// Send PATTERN records to a master: master=1,payload=64,rate=1000,burst=1,pack=1,records=N (all but master optional)
    #[arg(long, value_name = "SPEC")]
    pub traffic: Option<Traffic>,
}

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

/// `gvm-dp key ...`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a new cluster key
    New {
        /// Write it to this new file (mode 0600) instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show a key's fingerprint, never the key; with a role and an id, that of the node's key
    Show {
        /// The key file
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// The node's role
        #[arg(long, requires = "id")]
        role: Option<NodeRole>,
        /// The node's id
        #[arg(long, requires = "role")]
        id: Option<u32>,
    },
    /// Derive the key of one node from the cluster key
    Derive {
        /// File with the cluster key
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// The node's role
        #[arg(long)]
        role: NodeRole,
        /// The node's id
        #[arg(long)]
        id: u32,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
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
