//! `gvm-bench NAME [--json FILE]`: see `perf/run.sh`.
#![forbid(unsafe_code)]

use bench::report::Report;
use bench::{aggregate, dpdk, forward, idle, jumbo, lcores, qp, rtt, scrape, tap, tradeoff};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Benchmarks that print a ratio against a baseline of the same run", version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// What one record costs in the gateway, on one lcore and memory ports
    Aggregate {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Only this many slaves, one record per datagram, no table
        #[arg(long)]
        slaves: Option<u32>,
        /// With --slaves: from the slaves to the master, and not the other way
        #[arg(long, requires = "slaves")]
        up: bool,
    },
    /// What one record costs from a device of DPDK to another, against dpdk-testpmd; needs DPDK
    Dpdk {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// Seconds of each measurement, of which a round has three
        #[arg(long, default_value_t = 0.5)]
        seconds: f64,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// What one record costs from NIC queue to NIC queue, against a forwarder that looks at nothing; needs root
    Forward {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// Seconds of each measurement, of which a round has four
        #[arg(long, default_value_t = 0.5)]
        seconds: f64,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// MTU 9000: packets saved at 64-byte payloads, and what a 4 KiB record costs against a plain copy of its bytes
    Jumbo {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Two lcores against one, on memory ports
    Lcores {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Seconds of each measurement, of which a round has three
        #[arg(long, default_value_t = 0.5)]
        seconds: f64,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// What an idle lcore costs in adaptive mode, and how long the first record after idleness takes
    Idle {
        /// Seconds of idleness
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Wake-ups of the gateway, and of the baseline
        #[arg(long, default_value_t = 2000)]
        wakes: usize,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// What READs and WRITEs of 4 KiB cost, requester and responder together, from memory to memory
    Qp {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Only this one, no table and no floor
        #[arg(long)]
        case: Option<qp::Case>,
    },
    /// One READ of 4 KiB at a time over AF_XDP on veth, against a bare ping-pong of the same bytes; needs root
    Rtt {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// MTU of the link: 9000 for a path MTU of 4096
        #[arg(long, default_value_t = 9000)]
        mtu: u16,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// What scraping and `gvm-dp stats` cost the poll loop
    Scrape {
        /// Rounds of three slices: at rest, with readings, at rest
        #[arg(long, default_value_t = 100)]
        rounds: usize,
        /// Milliseconds of a slice
        #[arg(long, default_value_t = 50)]
        slice: u64,
        /// Microseconds from one reading to the next
        #[arg(long, default_value_t = 1000)]
        every: u64,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// What a worn tap (gvm-dp capture) costs an lcore, on memory ports
    Tap {
        /// Rounds, of which the median counts
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// What a longer hold gives and what it costs, on a virtual clock
    Tradeoff {
        /// Also write the figures to this file
        #[arg(long)]
        json: Option<PathBuf>,
        /// Where the chart goes
        #[arg(long, default_value = "perf/out/tradeoff.svg")]
        svg: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().bench {
        Bench::Aggregate { rounds, json, slaves, up } => {
            let rows = match slaves {
                Some(slaves) => vec![aggregate::measure(slaves, 1, up, rounds)?],
                None => aggregate::table(rounds)?,
            };
            let shown = rows.iter().find(|row| row.slaves == 8_192 && row.records == 1).or(rows.first());
            let Some(row) = shown else { anyhow::bail!("nothing was measured") };
            let report = Report { name: "aggregate", value: row.ours, unit: "ns/record", ratio: row.ratio };
            let details = rows.iter().map(|row| {
                serde_json::json!({
                    "direction": if row.up { "up" } else { "down" }, "slaves": row.slaves, "records_per_datagram": row.records, "ns_per_record": row.ours,
                    "floor_ns_per_record": row.floor, "ratio": row.ratio, "full_flushes": row.full
                })
            });
            report.write(json.as_deref(), details.collect())?;
            report.print();
        }
        Bench::Dpdk { rounds, seconds, json } => {
            let boundary = dpdk::boundary(rounds)?;
            println!(
                "plugin boundary: {:.2} ns per record at bursts of 32 ({:.2} through the table, {:.2} in place)",
                boundary.cost(),
                boundary.table,
                boundary.inline
            );
            let rows = dpdk::table(rounds, Duration::try_from_secs_f64(seconds)?)?;
            let Some(row) = rows.last() else { anyhow::bail!("nothing was measured") };
            let report = Report { name: "dpdk", value: row.ours, unit: "Mrecords/CPU-s", ratio: row.ratio };
            let lines = rows.iter().map(|row| {
                serde_json::json!({
                    "slaves": row.slaves, "mrecords_per_cpu_second": row.ours,
                    "testpmd_mpackets_per_cpu_second": row.testpmd, "ratio": row.ratio, "records_per_datagram": row.merged
                })
            });
            let details = serde_json::json!({
                "lines": lines.collect::<Vec<_>>(), "boundary_ns_per_record": boundary.cost(),
                "boundary_table_ns": boundary.table, "boundary_inline_ns": boundary.inline
            });
            report.write(json.as_deref(), details)?;
            report.print();
        }
        Bench::Forward { rounds, seconds, json } => {
            let table = forward::table(rounds, Duration::try_from_secs_f64(seconds)?)?;
            let Some(row) = table.rows.first() else { anyhow::bail!("nothing was measured") };
            let unit = "Mrecords/CPU-s";
            let report = Report { name: "forward", value: row.ours, unit, ratio: row.ratio };
            let rows = table.rows.iter().map(|row| {
                serde_json::json!({
                    "load": row.load.name, "mrecords_per_cpu_second": row.ours, "bare_mrecords_per_cpu_second": row.bare,
                    "ratio": row.ratio, "least_ratio": row.ratios.0, "largest_ratio": row.ratios.1,
                    "records_per_datagram": row.records_per_datagram, "busy": row.busy, "lost_share": row.overflow,
                    "user_ns_per_record": row.user_ns.0, "bare_user_ns_per_record": row.user_ns.1, "repeated": row.repeated
                })
            });
            let latencies = table.latencies.iter().map(|latency| {
                serde_json::json!({
                    "way": latency.way.name, "least_us": latency.least, "p50_us": latency.p50, "p99_us": latency.p99
                })
            });
            report.write(json.as_deref(), rows.chain(latencies).collect())?;
            report.print();
        }
        Bench::Jumbo { rounds, json } => {
            let table = jumbo::table(rounds)?;
            let [row, _] = table.pages;
            let report = Report { name: "jumbo", value: row.ours, unit: "ns/4KiB-record", ratio: row.ratio };
            let pages = table.pages.map(|row| {
                serde_json::json!({
                    "slaves": row.slaves, "ns_per_record": row.ours, "copy_ns_per_record": row.copy, "ratio": row.ratio,
                    "records_per_datagram": row.records_per_datagram
                })
            });
            let details = serde_json::json!({
                "saved": table.saved, "records_per_datagram": table.records_per_datagram, "pages": pages
            });
            report.write(json.as_deref(), details)?;
            report.print();
        }
        Bench::Tap { rounds, json } => {
            let row = tap::measure(rounds)?;
            let report = Report { name: "tap", value: row.greedy, unit: "ns/record", ratio: row.greedy / row.bare };
            let details = serde_json::json!({
                "bare_ns_per_record": row.bare, "picky_ns_per_record": row.picky, "greedy_ns_per_record": row.greedy
            });
            report.write(json.as_deref(), details)?;
            report.print();
        }
        Bench::Lcores { rounds, seconds, json } => {
            let table = lcores::table(rounds, Duration::try_from_secs_f64(seconds)?)?;
            let (by_wall, by_cpu) =
                (lcores::middle(&table, |round| round.ratios().0), lcores::middle(&table, |round| round.ratios().1));
            println!("two lcores against one: {by_wall:.2} by the wall clock, {by_cpu:.2} by CPU time");
            let value = lcores::middle(&table, |round| round.two.cpu);
            let report = Report { name: "lcores", value, unit: "Mrecords/s-of-CPU-time", ratio: by_cpu };
            let rows = table.iter().map(|round| {
                serde_json::json!({
                    "one_mrecords_per_second": round.one.wall, "two_mrecords_per_second": round.two.wall,
                    "one_mrecords_per_cpu_second": round.one.cpu, "two_mrecords_per_cpu_second": round.two.cpu,
                    "ratio": round.ratios().0, "cpu_ratio": round.ratios().1
                })
            });
            report.write(json.as_deref(), rows.collect())?;
            report.print();
        }
        Bench::Idle { seconds, wakes, json } => {
            let row = idle::table(Duration::try_from_secs_f64(seconds)?, wakes)?;
            let value = row.gateway.at(0.99);
            let report = Report { name: "idle", value, unit: "us-p99", ratio: value / row.bare.at(0.99) };
            let rows = [("gateway", &row.gateway), ("ppoll", &row.bare)].map(|(name, figures)| {
                serde_json::json!({
                    "name": name, "idle_percent": figures.idle_percent, "cpu_us_per_wake": figures.cpu_us_per_wake,
                    "p50_us": figures.at(0.5),
                    "p99_us": figures.at(0.99), "most_us": figures.at(1.0)
                })
            });
            report.write(json.as_deref(), rows.into_iter().collect())?;
            report.print();
        }
        Bench::Qp { rounds, case: Some(case), .. } => {
            println!("{}: {:.1} ns", case.name(), qp::rounds(case, rounds)?);
        }
        Bench::Qp { rounds, json, case: None } => {
            let rows = qp::table(rounds)?;
            let Some(row) = rows.first() else { anyhow::bail!("nothing was measured") };
            let unit = "MREADs/CPU-s";
            let report = Report { name: "qp", value: row.rate(), unit, ratio: row.ratio };
            let details = rows.iter().map(|row| {
                serde_json::json!({
                    "case": row.case.name(), "million_per_cpu_second": row.rate(), "ns": row.request,
                    "requester_ns_per_packet": row.packet[0], "responder_ns_per_packet": row.packet[1],
                    "requester_packets": row.packets[0], "responder_packets": row.packets[1],
                    "floor_ns": row.floor, "copy_ns": row.copy, "ratio": row.ratio
                })
            });
            report.write(json.as_deref(), details.collect())?;
            report.print();
        }
        Bench::Rtt { rounds, mtu, json } => {
            let table = rtt::table(rounds, mtu)?;
            let us = |row: &rtt::Row, share: f64| row.latencies.at(share) as f64 / 1e3;
            let Some(read) = table.rows.first() else { anyhow::bail!("nothing was measured") };
            let report = Report { name: "rtt", value: us(read, 0.5), unit: "us-p50", ratio: table.ratio() };
            let rows = table.rows.iter().map(|row| {
                let histogram: Vec<_> = row.latencies.powers().collect();
                serde_json::json!({
                    "name": row.name, "mtu": table.mtus.0, "path_mtu": table.mtus.1, "least_us": us(row, 0.0),
                    "p50_us": us(row, 0.5), "p90_us": us(row, 0.9), "p99_us": us(row, 0.99), "p999_us": us(row, 0.999),
                    "histogram_ns": histogram
                })
            });
            report.write(json.as_deref(), rows.collect())?;
            report.print();
        }
        Bench::Scrape { rounds, slice, every, json } => {
            let table = scrape::table(rounds, Duration::from_millis(slice), Duration::from_micros(every))?;
            let (value, unit) = (table.ppm_at_1_hz(), "ppm-of-the-poll-loop-at-1-Hz");
            let report = Report { name: "scrape", value, unit, ratio: table.ratio };
            let details = serde_json::json!({
                "readings_per_second": table.hz, "ns_per_record_alone": table.alone, "ns_per_record_read": table.read,
                "ratio": table.ratio, "bytes_per_scrape": table.bytes, "reading_ns": table.reading_ns
            });
            report.write(json.as_deref(), details)?;
            report.print();
        }
        Bench::Tradeoff { json, svg } => {
            if let Some(folder) = svg.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let table = tradeoff::table(Some(&svg))?;
            let at = |hold| table.first().and_then(|(_, points)| points.iter().find(|point| point.hold_us == hold));
            let (Some(without), Some(with)) = (at(0), at(50)) else { anyhow::bail!("nothing was measured") };
            let (value, ratio) = (with.records_per_datagram, with.records_per_datagram / without.records_per_datagram);
            let report = Report { name: "tradeoff", value, unit: "records/datagram", ratio };
            let details = table.iter().flat_map(|(load, points)| {
                points.iter().map(|point| {
                    serde_json::json!({
                        "load": load.name, "hold_us": point.hold_us, "records_per_datagram": point.records_per_datagram,
                        "p50_us": point.p50_us, "p99_us": point.p99_us
                    })
                })
            });
            report.write(json.as_deref(), details.collect())?;
            report.print();
        }
    }
    Ok(())
}
