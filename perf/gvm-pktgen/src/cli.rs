//! The command line.

use crate::check::Targets;
use crate::distribution::Distribution;
use crate::generator::Down;
use crate::size::Sizes;
use clap::{ArgGroup, Parser, ValueEnum};
use frame::time::SECOND;
use lcore::RxMode;
use port::spec::{MTUS, PortSpec};
use shell::complete::values;
use shell::number;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;

/// Generates records to slaves and checks every one that comes back.
///
/// Exit codes: 0 all well; 1 it could not run; 2 wrong options; 3 not registered, or slaves missing, in time; 4 content
/// errors; 5 loss (unless --allow-loss).
#[derive(Clone, Debug, Parser)]
#[command(name = "gvm-pktgen", version)]
#[command(group = ArgGroup::new("whom").required(true).args(["gateway", "direct", "man", "completion"]))]
#[command(group = ArgGroup::new("which").required(true).args(["slaves", "count", "man", "completion"]))]
pub struct Cli {
    /// A gateway to register with as a master (port 9999 if none is named). Repeat it for several: cargo of a shard
    /// goes to the first live one, in this order, that serves it
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = gateway)]
    pub gateway: Vec<SocketAddr>,
    /// A farm that answers any source, to measure without gateways
    #[arg(long, value_name = "ADDR:PORT")]
    pub direct: Option<SocketAddr>,
    /// As what to register
    #[arg(long, value_enum, default_value_t = RoleName::Master)]
    pub role: RoleName,
    /// The master's id
    #[arg(long, default_value_t = 1, value_parser = number::<u16>(..))]
    pub id: u16,
    /// The port to use: udp:ADDR:PORT (port 0: any), and behind it ,rate=BITS, the most that it sends in a second
    #[arg(long, default_value = "udp:0.0.0.0:0", add = values(&["udp:0.0.0.0:0", "udp:127.0.0.1:0"]))]
    pub port: PortSpec,

    /// The slaves to ask, by id
    #[arg(long, value_name = "FIRST-LAST", value_parser = slaves)]
    pub slaves: Option<Targets>,
    /// The slaves to ask: ids 0 to N-1
    #[arg(long, value_name = "N", value_parser = number::<NonZeroU32>(..))]
    pub count: Option<NonZeroU32>,
    /// How many of them gateways must have named before sending begins [default: all]
    #[arg(long, value_name = "N", value_parser = number::<u32>(..))]
    pub expect_members: Option<u32>,
    /// Seconds to wait for registration and members
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = number::<u32>(..))]
    pub timeout: u32,

    /// What to send
    #[arg(long, value_enum, default_value_t = DownName::Echo)]
    pub down: DownName,
    /// Bytes of payload of each record, or imix (7:4:1 of 64, 576, 1400), or page (4096, or 4 x 1024 where it does not
    /// fit)
    #[arg(long, default_value = "64", add = values(&["64", "576", "1400", "imix", "page"]))]
    pub size: Sizes,
    /// Which slave is next: uniform, zipf:S, sequential, or burst:K (K records to each in turn)
    #[arg(long, default_value = "sequential", add = values(&["uniform", "zipf:", "sequential", "burst:"]))]
    pub distribution: Distribution,
    /// Seed of the distribution
    #[arg(long, default_value_t = 1, value_parser = number::<u64>(..))]
    pub seed: u64,
    /// Records a second [default: flat out]
    #[arg(long, value_name = "PPS", value_parser = number::<NonZeroU64>(..))]
    pub rate: Option<NonZeroU64>,
    /// ECHOs that may be unanswered at once. Without it, flat out would only fill socket buffers until they overflow; a
    /// given --rate has none unless it is asked for [default: 4096 when flat out]
    #[arg(long, value_name = "N", value_parser = number::<NonZeroU64>(..))]
    pub window: Option<NonZeroU64>,
    /// A full window in which nothing is answered for this many seconds is given up as lost, and filled again. Answers
    /// that were only late then come in addition
    #[arg(long, value_name = "SECONDS", default_value_t = 0.1, value_parser = seconds)]
    pub window_timeout: f64,
    /// The most records in a datagram [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = number::<NonZeroU16>(..))]
    pub pack: Option<NonZeroU16>,
    /// How long to send, in seconds
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Stop after this many records
    #[arg(long, value_name = "N", value_parser = number::<u64>(..))]
    pub records: Option<u64>,
    /// Loss is no failure
    #[arg(long)]
    pub allow_loss: bool,

    /// Largest IP packet to offer gateways, or to send to a farm, in bytes
    #[arg(long, default_value_t = 1500, value_parser = number::<u16>(1280..=u64::from(*MTUS.end())))]
    pub mtu: u16,
    /// Bits of a slave id
    #[arg(long, default_value_t = 17, value_parser = number::<u8>(..))]
    pub slave_bits: u8,
    /// Bits of a slave id inside one gateway
    #[arg(long, default_value_t = 13, value_parser = number::<u8>(..))]
    pub gw_bits: u8,
    /// Seconds between heartbeats; the gateways' must be the same
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub heartbeat: f64,
    /// File with this master's own key (gvm-dp key derive), closed to other users. Twice while the cluster changes
    /// its key: the old one, then the new one
    #[arg(long = "key-file", value_name = "FILE")]
    pub key_files: Vec<PathBuf>,
    /// File with the cluster key, from which the master's own is derived. Twice while the cluster changes its key
    #[arg(long = "cluster-key-file", value_name = "FILE", conflicts_with = "key_files")]
    pub cluster_key_files: Vec<PathBuf>,

    /// The core to run on [default: any]
    #[arg(long, value_name = "CORE", value_parser = number::<usize>(..))]
    pub lcore: Option<usize>,
    /// How to wait: polling, or adaptive (sleeps when there is nothing to do)
    #[arg(long, default_value = "adaptive", add = values(&["adaptive", "polling"]))]
    pub rx_mode: RxMode,
    /// Frames to send from and receive into
    #[arg(long, default_value_t = 8192, value_parser = number::<u32>(..))]
    pub frames: u32,
    /// Write the result as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress lines
    #[arg(long, short)]
    pub quiet: bool,

    /// Write the manual page, gvm-pktgen.1, to this directory, and do nothing else
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub man: Option<PathBuf>,
    /// Print the completions of a shell, and do nothing else
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub completion: Option<shell::Shell>,
}

/// The role that the generator registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// A master.
    Master,
}

/// The records that are sent downward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DownName {
    /// Each is answered, and measured.
    Echo,
    /// The slaves check it and count.
    Pattern,
    /// Only what comes up is checked.
    Nothing,
}

impl From<DownName> for Down {
    fn from(name: DownName) -> Self {
        match name {
            DownName::Echo => Self::Echo,
            DownName::Pattern => Self::Pattern,
            DownName::Nothing => Self::Nothing,
        }
    }
}

/// ECHOs in flight when flat out, if nothing else is said.
const WINDOW: u64 = 4096;

impl Cli {
    /// The slaves to ask.
    pub fn targets(&self) -> Targets {
        match (self.slaves, self.count) {
            (Some(slaves), _) => slaves,
            (None, count) => Targets { first: 0, count: count.map_or(1, NonZeroU32::get) },
        }
    }

    /// How many of them must be known.
    pub fn members(&self) -> u32 {
        self.expect_members.unwrap_or(self.targets().count)
    }

    /// ECHOs in flight.
    pub fn in_flight(&self) -> Option<u64> {
        match (self.window, self.rate) {
            (Some(window), _) => Some(window.get()),
            (None, None) => Some(WINDOW),
            (None, Some(_)) => None,
        }
    }

    /// How long to send, in nanoseconds.
    pub fn duration(&self) -> u64 {
        nanoseconds(self.seconds)
    }

    /// The time without an answer after which a full window is given up, in nanoseconds.
    pub fn window_timeout(&self) -> u64 {
        nanoseconds(self.window_timeout)
    }

    /// Time between heartbeats, in nanoseconds.
    pub fn interval(&self) -> u64 {
        nanoseconds(self.heartbeat)
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds, from 0.001 to 1000000".to_owned()),
    }
}

fn gateway(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, wire::GATEWAY_PORT)))
        .map_err(|_| "write an address, as in 10.0.0.2 or 127.0.0.1:9999".to_owned())
}

fn slaves(text: &str) -> Result<Targets, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
        (Ok(first), Ok(last)) if first <= last && last < u32::MAX => Ok(Targets { first, count: last - first + 1 }),
        _ => Err("write FIRST-LAST, as in 0-8191".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(std::iter::once("gvm-pktgen").chain(line.split_whitespace())).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_as_documented() {
        let cli = parse("--gateway 10.0.0.2 --gateway 127.0.0.1:7 --count 10").unwrap();
        assert_eq!(cli.gateway, ["10.0.0.2:9999".parse().unwrap(), "127.0.0.1:7".parse().unwrap()]);
        assert_eq!((cli.targets(), cli.members()), (Targets { first: 0, count: 10 }, 10));
        assert_eq!((cli.in_flight(), cli.rx_mode, cli.down), (Some(4096), RxMode::Adaptive, DownName::Echo));
        assert_eq!((cli.duration(), cli.interval(), cli.sizes()), (5 * SECOND, SECOND, Sizes::Fixed(64)));
    }

    impl Cli {
        fn sizes(&self) -> Sizes {
            self.size
        }
    }

    #[test]
    fn a_rate_has_no_window_unless_it_is_asked_for() {
        let with = |more: &str| parse(&format!("--direct 127.0.0.1:7 --slaves 8-15 {more}")).unwrap();
        assert_eq!(with("--rate 1000").in_flight(), None);
        assert_eq!(with("--rate 1000 --window 5").in_flight(), Some(5));
        assert_eq!(with("").targets(), Targets { first: 8, count: 8 });
        assert_eq!(with("--seconds 0.5").duration(), SECOND / 2);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for line in [
            "",
            "--gateway 10.0.0.2",
            "--count 1",
            "--gateway 10.0.0.2 --direct 10.0.0.3:1 --count 1",
            "--gateway 10.0.0.2 --count 1 --slaves 1-2",
            "--gateway 10.0.0.2 --slaves 2-1",
            "--gateway nowhere --count 1",
            "--gateway 10.0.0.2 --count 0",
            "--gateway 10.0.0.2 --count 1 --seconds 0",
            "--gateway 10.0.0.2 --count 1 --size 7",
            "--gateway 10.0.0.2 --count 1 --mtu 100",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
