//! `gvm-bench NAME [--json FILE] [--quick]`: see `perf/run.sh`.
#![forbid(unsafe_code)]

use bench::conditions::{Machine, Watch};
use bench::report::Report;
use bench::{
    aggregate, bulk, demand, disk, dpdk, failover, forward, idle, jumbo, lcores, lend, neighbours, pages, qp, read4k,
    ring, rtt, scrape, tap, tradeoff, udp, unavailable,
};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Benchmarks that print a ratio against a baseline of the same run", version)]
struct Cli {
    /// Also write the figures to this file
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A few seconds: the same code and the same checks of what went through, and figures that mean nothing
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// What one record costs in the gateway, on one lcore and memory ports
    Aggregate {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
        /// Only this many slaves, no table; the options below say the rest
        #[arg(long)]
        slaves: Option<u32>,
        /// Records in a datagram
        #[arg(long, requires = "slaves", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
        records: u16,
        /// From the slaves to the master, and not the other way
        #[arg(long, requires = "slaves")]
        up: bool,
        /// How much of the input is in the caches
        #[arg(long, requires = "slaves", default_value = "cold")]
        input: aggregate::Warmth,
        /// Hand chunks out one after the other, and not in random order
        #[arg(long, requires = "slaves")]
        in_order: bool,
        /// The bare loop in turn with another program of its kind (perf/run.sh compiles a source), and no gateway. The
        /// program is called with slaves and rounds; the environment has packets (PK), and SHUF=1 where chunks are in
        /// random order. It prints "median N"
        #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["slaves", "extras"])]
        reference: Option<PathBuf>,
        /// What parts of a gateway that are not work on records cost the bare loop, and no gateway
        #[arg(long, conflicts_with = "slaves")]
        extras: bool,
    },
    /// READs of 1,000 slaves: packets saved between a master and its gateway, on a virtual clock
    Bulk,
    /// One READ that somebody waits for: through a gateway, and beside a stream of others; needs root
    Demand {
        /// Rounds, of which the median counts [default: 15]
        #[arg(long)]
        rounds: Option<usize>,
        /// Where the histograms go [default: perf/out/demand.svg, and with --quick perf/out/demand-quick.svg]
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// READs of a disk of slaves' memory by fio, against nbdkit's memory at such a socket; needs root
    Disk {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
        /// Seconds of each measurement, of which a round has six [default: 2]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
    },
    /// What one record costs from a device of DPDK to another, against dpdk-testpmd; needs DPDK
    Dpdk {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
        /// Seconds of each measurement, of which a round has three [default: 0.5]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
    },
    /// What one record costs from NIC queue to NIC queue, against a forwarder that looks at nothing; needs root
    Forward {
        /// Rounds, of which the median counts [default: 15]
        #[arg(long)]
        rounds: Option<usize>,
        /// Seconds of each measurement, of which a round has four [default: 0.5]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
    },
    /// MTU 9000: packets saved at 64-byte payloads, and what a 4 KiB record costs against a plain copy of its bytes
    Jumbo {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
    },
    /// Two lcores against one, on memory ports
    Lcores {
        /// Rounds, of which the median counts [default: 7]
        #[arg(long)]
        rounds: Option<usize>,
        /// Seconds of each measurement, of which a round has three [default: 0.5]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
    },
    /// What an idle lcore costs in adaptive mode, and how long the first record after idleness takes
    Idle {
        /// Seconds of idleness [default: 5]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
        /// Wake-ups of the gateway, and of the baseline [default: 2000]
        #[arg(long)]
        wakes: Option<usize>,
    },
    /// Remote memory moved and verified between processes, while the gateway is killed and started again; needs root
    Pages {
        /// How much memory, as 10G or 256M [default: 10G]
        #[arg(long)]
        size: Option<String>,
        /// Requests under way [default: 64]
        #[arg(long)]
        depth: Option<u32>,
        /// Seconds of random reads at the end [default: 10]
        #[arg(long)]
        seconds: Option<u32>,
        /// Where gvm-dp is
        #[arg(long, value_name = "DIRECTORY")]
        binaries: PathBuf,
        /// The trial
        #[arg(long, value_name = "FILE", default_value = "perf/pages.sh")]
        script: PathBuf,
    },
    /// What READs and WRITEs of 4 KiB cost, requester and responder together, from memory to memory
    Qp {
        /// Rounds, of which the median counts [default: 15]
        #[arg(long)]
        rounds: Option<usize>,
        /// Only this one, no table and no floor
        #[arg(long)]
        case: Option<qp::Case>,
    },
    /// READs of 4 KiB over AF_XDP on veth against the same pages over TCP, per processor time; needs root
    Read4k {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
        /// Seconds of each measurement, of which a round has eight [default: 1]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
        /// MTU 9000 over AF_XDP and its baseline, and nothing beside them
        #[arg(long)]
        only: bool,
    },
    /// What a request costs through a channel between two processes and back, and how long a sleeping end takes to wake
    Ring {
        /// Rounds, of which the median counts [default: 31]
        #[arg(long)]
        rounds: Option<usize>,
        /// Wake-ups of the channel, and of the baseline [default: 2000]
        #[arg(long)]
        wakes: Option<usize>,
    },
    /// One READ of 4 KiB at a time over AF_XDP on veth, against a bare ping-pong of the same bytes; needs root
    Rtt {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
        /// MTU of the link: 9000 for a path MTU of 4096
        #[arg(long, default_value_t = 9000)]
        mtu: u16,
    },
    /// Two gateways of the same slaves: what a drain and a kill cost
    Failover {
        /// Trials, of which the median counts [default: 3]
        #[arg(long)]
        repeats: Option<usize>,
        /// Records a second down, and as many up
        #[arg(long, value_name = "PPS")]
        rate: Option<u64>,
        /// Slaves
        #[arg(long, value_name = "N")]
        slaves: Option<u32>,
        /// Where gvm-dp and gvm-pktgen are
        #[arg(long, value_name = "DIRECTORY")]
        binaries: PathBuf,
        /// The trial
        #[arg(long, value_name = "FILE", default_value = "perf/failover.sh")]
        script: PathBuf,
    },
    /// What an idle slave costs that lends memory, beside one that lends nothing
    Lend {
        /// How much it lends
        #[arg(long, default_value = "12G")]
        size: String,
        /// Seconds of idleness [default: 30]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
        /// Where gvm-dp is
        #[arg(long, value_name = "DIRECTORY")]
        binaries: PathBuf,
    },
    /// What bad neighbours cost honest slaves: one behind a slow link, and one that sends flat out
    Neighbours {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
    },
    /// What scraping and `gvm-dp stats` cost the poll loop
    Scrape {
        /// Rounds of three slices: at rest, with readings, at rest [default: 100]
        #[arg(long)]
        rounds: Option<usize>,
        /// Milliseconds of a slice
        #[arg(long, default_value_t = 50)]
        slice: u64,
        /// Microseconds from one reading to the next
        #[arg(long, default_value_t = 1000)]
        every: u64,
    },
    /// What a tap in use (gvm-dp capture) costs an lcore, on memory ports
    Tap {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
    },
    /// What a longer hold gives and what it costs, on a virtual clock
    Tradeoff {
        /// Where the chart goes [default: perf/out/tradeoff.svg, and with --quick perf/out/tradeoff-quick.svg]
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// A gateway on sockets: trains of datagrams against single ones, adaptive waiting against polling, losses
    Udp {
        /// Rounds, of which the median counts [default: 9]
        #[arg(long)]
        rounds: Option<usize>,
        /// Seconds of each measurement at a fixed rate, of which a round has four [default: 1]
        #[arg(long, value_parser = seconds)]
        seconds: Option<Duration>,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "a number of seconds, like 0.5".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// Where a chart goes.
fn chart(asked: Option<PathBuf>, name: &str, quick: bool) -> PathBuf {
    let suffix = if quick { "-quick" } else { "" };
    asked.unwrap_or_else(|| format!("perf/out/{name}{suffix}.svg").into())
}

impl Bench {
    const fn name(&self) -> &'static str {
        match self {
            Self::Aggregate { .. } => "aggregate",
            Self::Bulk => "bulk",
            Self::Demand { .. } => "demand",
            Self::Disk { .. } => "disk",
            Self::Dpdk { .. } => "dpdk",
            Self::Forward { .. } => "forward",
            Self::Jumbo { .. } => "jumbo",
            Self::Lcores { .. } => "lcores",
            Self::Idle { .. } => "idle",
            Self::Qp { .. } => "qp",
            Self::Read4k { .. } => "read4k",
            Self::Ring { .. } => "ring",
            Self::Rtt { .. } => "rtt",
            Self::Failover { .. } => "failover",
            Self::Lend { .. } => "lend",
            Self::Neighbours { .. } => "neighbours",
            Self::Pages { .. } => "pages",
            Self::Scrape { .. } => "scrape",
            Self::Tap { .. } => "tap",
            Self::Tradeoff { .. } => "tradeoff",
            Self::Udp { .. } => "udp",
        }
    }

    fn run(self, quick: bool) -> anyhow::Result<Report> {
        match self {
            Self::Aggregate { rounds, reference: Some(program), .. } => aggregate::reference(&program, rounds),
            Self::Aggregate { rounds, extras: true, .. } => aggregate::extras(rounds),
            Self::Aggregate { rounds, slaves, records, up, input: warmth, in_order, .. } => {
                let case =
                    |slaves| aggregate::Case { slaves, records: records.into(), up, warmth, scattered: !in_order };
                aggregate::report(rounds, slaves.map(case), quick)
            }
            Self::Bulk => bulk::report(quick),
            Self::Demand { rounds, svg } => demand::report(rounds, &chart(svg, "demand", quick), quick),
            Self::Disk { rounds, seconds } => disk::report(rounds, seconds, quick),
            Self::Dpdk { rounds, seconds } => dpdk::report(rounds, seconds, quick),
            Self::Forward { rounds, seconds } => forward::report(rounds, seconds, quick),
            Self::Jumbo { rounds } => jumbo::report(rounds, quick),
            Self::Lcores { rounds, seconds } => lcores::report(rounds, seconds, quick),
            Self::Idle { seconds, wakes } => idle::report(seconds, wakes, quick),
            Self::Qp { rounds, .. } => qp::report(rounds, quick),
            Self::Read4k { rounds, seconds, only } => read4k::report(rounds, seconds, only, quick),
            Self::Ring { rounds, wakes } => ring::report(rounds, wakes, quick),
            Self::Rtt { rounds, mtu } => rtt::report(rounds, mtu, quick),
            Self::Failover { repeats, rate, slaves, binaries, script } => {
                failover::report(repeats, &failover::Options { script, binaries, rate, slaves }, quick)
            }
            Self::Lend { size, seconds, binaries } => lend::report(&binaries, &size, seconds, quick),
            Self::Pages { size, depth, seconds, binaries, script } => {
                pages::report(&pages::PagesTrial { script, binaries, size, depth, seconds }, quick)
            }
            Self::Neighbours { rounds } => neighbours::report(rounds, quick),
            Self::Scrape { rounds, slice, every } => {
                scrape::report(rounds, Duration::from_millis(slice), Duration::from_micros(every), quick)
            }
            Self::Tap { rounds } => tap::report(rounds, quick),
            Self::Tradeoff { svg } => tradeoff::report(&chart(svg, "tradeoff", quick), quick),
            Self::Udp { rounds, seconds } => udp::report(rounds, seconds, quick),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let Cli { json, quick, bench } = Cli::parse();
    if let Bench::Qp { rounds, case: Some(case) } = bench {
        println!("{}: {:.1} ns", case.name(), qp::rounds(case, rounds.unwrap_or(15))?);
        return Ok(());
    }
    let (name, machine, watch) = (bench.name(), Machine::this(), Watch::begin()?);
    let report = match bench.run(quick) {
        Ok(report) => report,
        Err(error) => match unavailable::reason(&error) {
            Some(reason) if !unavailable::is_failure() => {
                println!("SKIPPED {name}: {reason}");
                return Ok(());
            }
            Some(reason) => anyhow::bail!("GVM_TESTS=require, but {name} cannot run here: {reason}"),
            None => return Err(error.context(name)),
        },
    };
    let conditions = watch.end()?;
    if let Some(json) = json {
        report.write(&json, &machine, &conditions, quick)?;
    }
    print!("{}", report.text(&machine, &conditions, quick));
    Ok(())
}
