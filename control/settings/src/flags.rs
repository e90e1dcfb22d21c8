//! The flags of the roles. Each is also a setting of the configuration file, under its long name.

use super::values;
use crate::MetricsAddress;
use crate::domain::Domain;
use crate::id_range::IdRange;
use crate::listen::ListenAddress;
use crate::memory::{KeepFree, MemoryPages};
use crate::neighbor::NeighborSpec;
use crate::traffic::Traffic;
use clap::{Args, ValueEnum};
use common::units::{Duration, Size};
use host::log::LogFilter;
use host::privilege::seccomp;
use lcore::{CoreList, RxMode};
use port::spec::PortSpec;
use shell::number;
use std::fmt;
use std::path::PathBuf;

/// What every role takes.
#[derive(Args, Clone, Debug)]
pub struct ProcessArgs {
    /// Configuration file in TOML; its keys are the names of the flags. The command line overrides it [default:
    /// /etc/gvm-dp/gvm-dp.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Cores to run on, one lcore each, as DPDK's -l: 2-15 or 0,2,4-6 [default: not pinned; one lcore, or with xdp:
    /// ports one for each queue of the port with the fewest queues]
    #[arg(short = 'l', long, value_name = "CORES", add = values::cores())]
    pub lcores: Option<CoreList>,
    /// How lcores wait: polling (a busy core each) or adaptive (sleeps when idle)
    #[arg(long, default_value_t, value_name = "MODE", add = values::rx_modes())]
    pub rx_mode: RxMode,
    /// Name of this process and of its control socket [default: the role]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What happens when a running process makes a system call that it does not need: the process ends, or the call is
    /// only logged
    #[arg(long, default_value_t, value_name = "ON|LOG|OFF")]
    pub seccomp: seccomp::Mode,
    /// Restrict a running process to the files that it needs, where the kernel has Landlock
    #[arg(long, default_value = "on", value_name = "ON|OFF")]
    pub landlock: Switch,
    /// What is logged on stderr: error, warn, info, debug or trace, or levels for each target, such as info,lcore=debug
    #[arg(long, env = "RUST_LOG", hide_env_values = true, default_value = "info", value_name = "FILTER",
        add = values::log_levels())]
    pub log: LogFilter,
    /// Serve Prometheus metrics, /live and /ready on this TCP address [default: nowhere; port 9998]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub metrics: Option<MetricsAddress>,
}

/// What every role with ports takes.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// What every role takes.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Where datagrams come from and go to: udp:ADDR:PORT, xdp:IFACE (and behind it ,queues=N, ,mode=auto|zc|copy|skb
    /// or ,vlans=LIST), an interface, a PCI address, or dpdk:DEVICE,ip=ADDR/BITS. Behind each ,rate=10G: it sends at
    /// most so many bits in a second. Twice: the first faces the masters
    #[arg(short, long = "port", value_name = "PORT", add = values::ports())]
    pub ports: Vec<PortSpec>,
    /// Time between heartbeats; the same on gateways and nodes
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    pub heartbeat: Duration,
    /// Frames in each lcore's arena
    #[arg(long, default_value_t = 16_384, value_name = "N", value_parser = number::<u32>(..))]
    pub frames: u32,
    /// Largest IP packet to send or to take, in bytes [default: that of each port's interface; of a udp: port 1500]
    #[arg(long, value_name = "BYTES", value_parser = number::<u16>(..))]
    pub mtu: Option<u16>,
    /// Bits of a slave id
    #[arg(long, default_value_t = wire::Scale::default().slave_bits(), value_name = "BITS",
        value_parser = number::<u8>(..))]
    pub slave_bits: u8,
    /// Bits of a slave id inside one gateway
    #[arg(long, default_value_t = wire::Scale::default().gw_bits(), value_name = "BITS",
        value_parser = number::<u8>(..))]
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

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// The default of [`GatewayArgs::push_rate`], and its largest value.
pub const PUSH_RATES: (u32, u32) = (100_000, 1_000_000);

/// The default of [`GatewayArgs::max_masters`], and its largest value.
pub const MASTERS: (u16, u16) = (64, 1024);

/// The gateway's flags.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// What every role with ports takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The longest time that a record may wait for others; inf waits until a datagram is full
    #[arg(long, default_value = "50us", value_name = "DURATION")]
    pub hold: Duration,
    /// Send waiting records early when nothing arrives for a quarter of the hold
    #[arg(long, default_value = "on", value_name = "ON|OFF")]
    pub early: Switch,
    /// How many records with PUSH, for which somebody waits, each slave may have sent on at once in a second, on each
    /// lcore; a master has 16 times as many. Records beyond that wait as others do; 0 turns PUSH off
    #[arg(long, default_value_t = PUSH_RATES.0, value_name = "N",
        value_parser = number::<u32>(..=u64::from(PUSH_RATES.1)))]
    pub push_rate: u32,
    /// The most masters at a time, 1 to 1024. Each lcore of a master is one of them
    #[arg(long, default_value_t = MASTERS.0, value_name = "N", value_parser = number::<u16>(1..=u64::from(MASTERS.1)))]
    pub max_masters: u16,
    /// Shards to serve: all, or a list such as 0-3,5
    #[arg(long, default_value = "all", value_name = "SHARDS")]
    pub shards: String,
    /// The gateway of a shard that is not served here. Records of that shard that arrive on an xdp: port are forwarded
    /// to it. May be given several times
    #[arg(long = "neighbor", value_name = "SHARD=IFACE,ip=ADDR,mac=MAC")]
    pub neighbors: Vec<NeighborSpec>,
    /// File with the cluster key (gvm-dp key new). Give it twice while the cluster changes its key: the old key, then
    /// the new key
    #[arg(long = "key-file", value_name = "FILE")]
    pub key_files: Vec<PathBuf>,
    /// Also accept nodes with version 1 of link control, while they are being updated. An attacker can deceive such
    /// nodes with recorded answers
    #[arg(long)]
    pub accept_v1: bool,
    /// For tests: file with routes to generators that cannot register, in lines like `slave 0-63 10.0.2.2` and `master
    /// 1 10.0.1.2`. Not together with a key
    #[arg(long, value_name = "FILE")]
    pub static_routes: Option<PathBuf>,
}

/// A slave's flags.
#[derive(Args, Clone, Debug)]
pub struct SlaveArgs {
    /// What every role with ports takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// A gateway to register with: ADDR or ADDR:PORT. May be given several times, for gateways of the same shard:
    /// records go to the first one that answers, in the order given
    #[arg(long = "gateway", value_name = "ADDR[:PORT]")]
    pub gateways: Vec<String>,
    /// Slave id; of a farm, the first one
    #[arg(long, value_name = "ID", value_parser = number::<u32>(..))]
    pub id: Option<u32>,
    /// Number of slave ids of this process; the first is --id
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = number::<u32>(..))]
    pub count: u32,
    /// Memory that this process lends to masters, as 12G. It is divided evenly among the ids, in whole units of 64M; 0
    /// lends nothing
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub memory: Size,
    /// Memory that the host keeps free. When it has less, nothing more is lent, and what is lent is recalled. auto is a
    /// sixteenth of its memory, from 256M to 4G
    #[arg(long, default_value = "auto", value_name = "SIZE|auto")]
    pub keep_free: KeepFree,
    /// What lent memory is made of: huge (hugepages of 2 MiB), ordinary (pages that the host gets back when they are
    /// not lent), or auto: hugepages if enough are free
    #[arg(long, default_value = "auto", value_name = "auto|huge|ordinary")]
    pub memory_pages: MemoryPages,
    /// Most memory that one master gets of one id [default: all]
    #[arg(long, value_name = "SIZE")]
    pub quota: Option<Size>,
    /// How long masters may take to give memory back when this slave drains. It is lost for them then
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub drain_within: Duration,
    /// File with the connect key, by which masters and slaves know each other (gvm-dp key derive --connect). Give it
    /// twice while the cluster changes its key: the old key, then the new key. A farm with the cluster key derives it
    #[arg(long = "connect-key-file", value_name = "FILE")]
    pub connect_key_files: Vec<PathBuf>,
    /// Failure domain: ids of one domain fail together, and masters keep copies on several. auto is one for each host;
    /// 0 is one for each id
    #[arg(long, default_value = "auto", value_name = "N|auto")]
    pub domain: Domain,
    /// File with this slave's own key (gvm-dp key derive). Give it twice while the cluster changes its key: the old
    /// key, then the new key
    #[arg(long = "key-file", value_name = "FILE", conflicts_with = "cluster_key_files")]
    pub key_files: Vec<PathBuf>,
    /// File with the cluster key, from which a farm derives the key of each of its ids. Give it twice while the cluster
    /// changes its key
    #[arg(long = "cluster-key-file", value_name = "FILE")]
    pub cluster_key_files: Vec<PathBuf>,
    /// Send PATTERN records to a master: master=1,payload=64,rate=1000,burst=1,pack=1,records=N. Only master is
    /// required
    #[arg(long, value_name = "SPEC")]
    pub traffic: Option<Traffic>,
}

/// A master's flags.
#[derive(Args, Clone, Debug)]
pub struct MasterArgs {
    /// What every role with ports takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// A gateway to register with: ADDR or ADDR:PORT. Give every gateway of the cluster, of all shards
    #[arg(long = "gateway", value_name = "ADDR[:PORT]")]
    pub gateways: Vec<String>,
    /// Master id; no two masters of a cluster have the same. Ids in a row, as 1-8, give the process as many lcores:
    /// each has an id, and a UDP port: that of --port and the ones after it
    #[arg(long, value_name = "ID[-LAST]")]
    pub id: Option<IdRange>,
    /// Unix socket on which applications ask for memory [default: NAME.pages beside the control sockets]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Group whose members may use the socket [default: only this user and root]
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// File from which this master, when it starts again, knows the secrets of its leases, so that slaves lend to it at
    /// once instead of after a minute. It is made if it does not exist; each master needs one of its own [default:
    /// NAME.leases in $STATE_DIRECTORY, as systemd sets it; else none]
    #[arg(long, value_name = "FILE")]
    pub lease_secrets: Option<PathBuf>,
    /// The most memory of slaves that one application may have
    #[arg(long, default_value = "1T", value_name = "SIZE")]
    pub quota: Size,
    /// The most applications at once, and areas that none has
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = number::<u16>(..))]
    pub clients: u16,
    /// The most memory of this host that one application may share with the master: its rings and its buffers
    #[arg(long, default_value = "256M", value_name = "SIZE")]
    pub client_memory: Size,
    /// File with this master's own key, or with those of all its ids (gvm-dp key derive --role master). Give it twice
    /// while the cluster changes its key: the old key, then the new key
    #[arg(long = "key-file", value_name = "FILE", conflicts_with = "cluster_key_files")]
    pub key_files: Vec<PathBuf>,
    /// File with the cluster key, from which the master derives its own key. Give it twice while the cluster changes
    /// its key
    #[arg(long = "cluster-key-file", value_name = "FILE")]
    pub cluster_key_files: Vec<PathBuf>,
    /// File with the connect key, by which masters and slaves know each other (gvm-dp key derive --connect). Give it
    /// twice while the cluster changes its key: the old key, then the new key. A master with the cluster key derives it
    #[arg(long = "connect-key-file", value_name = "FILE")]
    pub connect_key_files: Vec<PathBuf>,
}

/// A disk's flags.
#[derive(Args, Clone, Debug)]
pub struct DiskArgs {
    /// What every role takes.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Bytes of the disk, as 8G: a multiple of 4K. Slaves lend memory for what is written, and not before
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// Where NBD clients connect: unix:PATH, or tcp:ADDR:PORT. Whoever reaches a TCP address may read and write the
    /// disk
    #[arg(long, value_name = "unix:PATH|tcp:ADDR[:PORT]")]
    pub listen: Option<ListenAddress>,
    /// Group whose members may use the Unix socket of --listen [default: only this user and root]
    #[arg(long, value_name = "GROUP")]
    pub listen_group: Option<String>,
    /// The socket of the master [default: master.pages beside the control sockets]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Area of the master in which the disk outlives this process: another process with this name and this --size goes
    /// on with it. Its map is in the area NAME.map [default: none, so that the disk ends with its process]
    #[arg(long, value_name = "NAME")]
    pub area: Option<String>,
    /// Memory for bytes on their way, which is shared with the master. Requests wait when it is used up
    #[arg(long, default_value = "64M", value_name = "SIZE")]
    pub buffers: Size,
    /// The most connections of clients at once
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = number::<u16>(..))]
    pub connections: u16,
}
