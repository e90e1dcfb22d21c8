//! `gvm-dp qp`: queue pairs over RoCEv2, for people and tests.

use super::values;
use crate::qp::exchange;
use clap::{Args, Subcommand, ValueEnum};
use common::units::{Duration, Size};
use lcore::{CoreList, RxMode};
use port::spec::PortSpec;
use shell::number;
use std::fmt;
use std::path::PathBuf;

/// `gvm-dp qp ...`.
#[derive(Debug, Subcommand)]
pub enum QpCommand {
    /// Lend a region of memory to whoever connects
    Serve(Box<QpServeArgs>),
    /// Read bytes of a peer's region
    Read(Box<QpReadArgs>),
    /// Write bytes into a peer's region
    Write(Box<QpWriteArgs>),
    /// Measure requests to a peer's region: rates and latencies
    Bench(Box<QpBenchArgs>),
}

/// Our own end.
#[derive(Args, Clone, Debug)]
pub struct QpOwnArgs {
    /// Where packets come from and go to: xdp:IFACE, an interface, or udp:ADDR with an address of this machine. RoCEv2
    /// has one UDP port, 4791
    #[arg(short, long, value_name = "PORT", value_parser = port, add = settings::values::ports())]
    pub port: PortSpec,
    /// The core to run on [default: not pinned]
    #[arg(short = 'l', long, value_name = "CORE", add = settings::values::cores())]
    pub lcores: Option<CoreList>,
    /// How the lcore waits: polling (a busy core) or adaptive (sleeps when idle)
    #[arg(long, default_value_t, value_name = "MODE", add = settings::values::rx_modes())]
    pub rx_mode: RxMode,
    /// The largest path MTU: 256, 512, 1024, 2048 or 4096 [default: the largest that the port can carry]
    #[arg(long, value_name = "BYTES", value_parser = path_mtu, add = values::path_mtus())]
    pub path_mtu: Option<u16>,
    /// Most READs and atomics that may be outstanding in each direction
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = number::<u16>(1..=128))]
    pub reads: u16,
    /// Frames in the lcore's arena
    #[arg(long, default_value_t = 4096, value_name = "N", value_parser = number::<u32>(..))]
    pub frames: u32,
    /// Our QP number; with --peers 64, the default, a multiple of 64 [default: random]
    #[arg(long, value_name = "QPN", value_parser = number_24)]
    pub own_qpn: Option<u32>,
    /// PSN of our first request [default: random]
    #[arg(long, value_name = "PSN", value_parser = number_24)]
    pub own_psn: Option<u32>,
}

/// The other end.
#[derive(Args, Clone, Debug)]
pub struct QpPeerArgs {
    /// Who: ADDR or ADDR:PORT of `gvm-dp qp serve --listen`; with --qpn, the IPv4 address of a peer that knows no such
    /// set-up
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub peer: String,
    /// QP number of a peer that is set up by hand
    #[arg(long, value_name = "QPN", value_parser = number_24, requires_all = ["psn", "rkey", "va", "region",
        "own_qpn", "own_psn"])]
    pub qpn: Option<u32>,
    /// PSN of the peer's first request
    #[arg(long, value_name = "PSN", value_parser = number_24, requires = "qpn")]
    pub psn: Option<u32>,
    /// Key of the peer's region; instead of the one that it says, too
    #[arg(long, value_name = "KEY", value_parser = number_32)]
    pub rkey: Option<u32>,
    /// Address of the first byte of the peer's region
    #[arg(long, value_name = "ADDR", value_parser = number_64, requires = "qpn")]
    pub va: Option<u64>,
    /// Length of the peer's region
    #[arg(long, value_name = "SIZE", requires = "qpn")]
    pub region: Option<Size>,
    /// How long nothing may come back before a request is sent again; the standard's values are 4.096us times powers of
    /// two, and the next of them holds
    #[arg(long, default_value = "67ms", value_name = "DURATION")]
    pub timeout: Duration,
    /// How many times a request is sent again before it fails
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = number::<u8>(0..=7))]
    pub retries: u8,
    /// How many times a request is sent again when the peer is not ready; 7 means without end
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = number::<u8>(0..=7))]
    pub rnr_retries: u8,
}

/// `gvm-dp qp serve`.
#[derive(Args, Clone, Debug)]
pub struct QpServeArgs {
    /// Our end.
    #[command(flatten)]
    pub own: QpOwnArgs,
    /// Where peers set up their queue pairs over TCP: ADDR or ADDR:PORT [default: the port's own address; port 9997]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub listen: Option<String>,
    /// Lend this much memory, zeros at first; on hugepages where enough are free
    #[arg(long, value_name = "SIZE", conflicts_with = "file")]
    pub memory: Option<Size>,
    /// Lend a copy of this file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// At the end, write what the region holds to this file
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Peers may only read
    #[arg(long)]
    pub read_only: bool,
    /// Most queue pairs at the same time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = number::<u16>(1..=1024))]
    pub peers: u16,
    /// A peer that is set up by hand, by its IPv4 address; what it must know is printed
    #[arg(long, value_name = "ADDR", requires_all = ["qpn", "psn", "own_qpn", "own_psn"])]
    pub peer: Option<std::net::Ipv4Addr>,
    /// Its QP number
    #[arg(long, value_name = "QPN", value_parser = number_24, requires = "peer")]
    pub qpn: Option<u32>,
    /// PSN of its first request
    #[arg(long, value_name = "PSN", value_parser = number_24, requires = "peer")]
    pub psn: Option<u32>,
}

/// `gvm-dp qp read`.
#[derive(Args, Clone, Debug)]
pub struct QpReadArgs {
    /// Our end.
    #[command(flatten)]
    pub own: QpOwnArgs,
    /// The other one.
    #[command(flatten)]
    pub peer: QpPeerArgs,
    /// Where in the region to begin
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub offset: Size,
    /// How many bytes [default: to the end of the region]
    #[arg(long, value_name = "SIZE")]
    pub length: Option<Size>,
    /// Where to write the bytes: a file, or - for the standard output
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub out: PathBuf,
    /// Compare the bytes with this file, and write nothing
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    pub verify: Option<PathBuf>,
}

/// `gvm-dp qp write`.
#[derive(Args, Clone, Debug)]
pub struct QpWriteArgs {
    /// Our end.
    #[command(flatten)]
    pub own: QpOwnArgs,
    /// The other one.
    #[command(flatten)]
    pub peer: QpPeerArgs,
    /// Where in the region to begin
    #[arg(long, default_value = "0", value_name = "SIZE")]
    pub offset: Size,
    /// The bytes to write: a file, or - for the standard input
    #[arg(short, long = "in", default_value = "-", value_name = "FILE")]
    pub input: PathBuf,
    /// Read it back and compare
    #[arg(long)]
    pub verify: bool,
}

/// What a benchmark asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QpOperation {
    /// RDMA READ.
    Read,
    /// RDMA WRITE.
    Write,
    /// FETCH&ADD of zero, which changes nothing.
    FetchAdd,
}

impl fmt::Display for QpOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::FetchAdd => "fetch-add",
        })
    }
}

/// `gvm-dp qp bench`.
#[derive(Args, Clone, Debug)]
pub struct QpBenchArgs {
    /// Our end.
    #[command(flatten)]
    pub own: QpOwnArgs,
    /// The other one.
    #[command(flatten)]
    pub peer: QpPeerArgs,
    /// What is asked for: read, write or fetch-add
    #[arg(long, default_value_t = QpOperation::Read, value_name = "OPERATION", hide_possible_values = true)]
    pub op: QpOperation,
    /// Bytes of each request
    #[arg(long, default_value = "4K", value_name = "SIZE")]
    pub size: Size,
    /// Requests under way at the same time
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = number::<u16>(1..=1024))]
    pub depth: u16,
    /// Stop after this time
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub duration: Duration,
    /// Stop after this many requests
    #[arg(short, long, value_name = "N", value_parser = number::<u64>(1..))]
    pub count: Option<u64>,
    /// Show the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// As for the roles, but `udp:ADDR` is enough.
fn port(text: &str) -> Result<PortSpec, String> {
    let (name, options) = text.split_at(text.find(',').unwrap_or(text.len()));
    let whole = match name.strip_prefix("udp:") {
        Some(address) if address.parse::<std::net::Ipv4Addr>().is_ok() => {
            format!("{name}:{}{options}", wire::ROCE_PORT)
        }
        _ => text.to_owned(),
    };
    whole.parse().map_err(|error: port::spec::SpecError| error.to_string())
}

fn path_mtu(text: &str) -> Result<u16, String> {
    exchange::path_mtu(text).ok_or_else(|| "write 256, 512, 1024, 2048 or 4096".to_owned())
}

fn number_24(text: &str) -> Result<u32, String> {
    exchange::number_24(text).ok_or_else(|| "write a number up to 16777215, as 17 or 0x00abcd".to_owned())
}

fn number_32(text: &str) -> Result<u32, String> {
    let number = exchange::number(text).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| "write a number up to 4294967295, as 17 or 0x01020304".to_owned())
}

fn number_64(text: &str) -> Result<u64, String> {
    exchange::number(text).ok_or_else(|| "write a number, as 65536 or 0x10000".to_owned())
}
