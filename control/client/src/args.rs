//! The flags of the commands that ask a running process.

use crate::values;
use api::capture::Direction;
use clap::Args;
use common::units::Duration;
use frame::time::{MILLISECOND, SECOND};
use shell::number;
use std::path::PathBuf;

/// Which running process is meant.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// Name of the process; needed only when several run
    #[arg(long, value_name = "NAME", add = values::processes())]
    pub name: Option<String>,
}

/// `gvm-dp stats`.
#[derive(Args, Clone, Debug)]
pub struct StatsArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Repeat until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Time over which rates are measured, and time between the outputs of --watch [default: 1s]
    #[arg(short, long, value_name = "DURATION", value_parser = interval)]
    pub interval: Option<Duration>,
    /// Also show every counter that is not zero
    #[arg(short, long, conflicts_with = "json")]
    pub all: bool,
    /// Show every counter as JSON; with --watch, one line for each output
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Time between updates
    #[arg(short, long, default_value = "1s", value_name = "DURATION", value_parser = interval)]
    pub interval: Duration,
    /// Print one frame as text and exit, as also when the output is not a terminal
    #[arg(long)]
    pub once: bool,
}

/// The time between two outputs: long enough that something happens in it, short enough to wait for.
fn interval(text: &str) -> Result<Duration, String> {
    let interval: Duration = text.parse().map_err(|error| format!("{error}"))?;
    if (10 * MILLISECOND..=3600 * SECOND).contains(&interval.0) {
        Ok(interval)
    } else {
        Err("choose 10ms to 3600s".to_owned())
    }
}

/// `gvm-dp routes`.
#[derive(Args, Clone, Debug)]
pub struct RoutesArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Show it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp capture`.
#[derive(Args, Clone, Debug)]
pub struct CaptureArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Where to write: a file, or - for a pipe, as in: gvm-dp capture -w - | wireshark -k -i -
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    /// Which datagrams: slave 17, slave 0-99, type echo, req 0x2a, master 1, host ADDR, udp PORT, port N, link, cargo,
    /// bad, up, down, rx, tx, and these with and, or, not and parentheses
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Only this port of the process; the first is 0
    #[arg(short, long, value_name = "N", value_parser = number::<u8>(..))]
    pub port: Option<u8>,
    /// Only received datagrams, or only sent datagrams
    #[arg(long, default_value = "both", value_name = "rx|tx|both", hide_possible_values = true)]
    pub direction: Direction,
    /// Bytes of each datagram
    #[arg(short, long, default_value_t = 65_535, value_name = "BYTES", value_parser = number::<u32>(1..=65_535))]
    pub snaplen: u32,
    /// Stop after this many datagrams
    #[arg(short, long, value_name = "N", value_parser = number::<u64>(1..))]
    pub count: Option<u64>,
    /// Stop after this time, such as 500ms or 10s
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<Duration>,
}

/// `gvm-dp trace`.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// The slave whose records are traced
    #[arg(long, value_name = "ID", value_parser = number::<u32>(..))]
    pub slave: u32,
    /// Stop after this many records
    #[arg(short, long, default_value_t = 10, value_name = "N", value_parser = number::<u32>(1..=10_000))]
    pub count: u32,
    /// Stop after this time, such as 500ms or 10s
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<Duration>,
    /// A line of JSON for each record
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp set`.
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    /// The setting; without it, all that can be set are listed
    #[arg(value_name = "SETTING")]
    pub setting: Option<String>,
    /// Its value, as its flag takes it
    #[arg(value_name = "VALUE", allow_hyphen_values = true, requires = "setting")]
    pub value: Option<String>,
    /// Restore the value that the configuration has
    #[arg(long, requires = "setting", conflicts_with = "value")]
    pub reset: bool,
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Show it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `gvm-dp reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// Which process.
    #[command(flatten)]
    pub target: NameArgs,
    /// Show it as JSON
    #[arg(long)]
    pub json: bool,
}
