//! `gvm-dp qp bench`: rates and latencies of requests to a peer's region.

use super::link::PeerLink;
use super::own::{LcoreFacts, Own, summary};
use super::told::until_told;
use crate::cli::{QpBenchArgs, QpOperation};
use common::exit::Failure;
use common::output::print;
use common::runtime::runtime;
use frame::counter::CounterSet;
use frame::time::FOREVER;
use roce::{Latencies, Load, Work};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The most bytes of one request.
const LARGEST: u64 = 1 << 20;

/// The quantiles that are printed.
const SHARES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// The widest bar of the histogram.
const BAR: u64 = 40;

/// Runs the benchmark.
///
/// # Errors
/// See [`Failure`]; also when a request does not complete.
pub fn run(args: &QpBenchArgs) -> Result<(), Failure> {
    let size = size(args)?;
    let own = Own::start(&args.own, None, 1)?;
    runtime()?.block_on(async {
        let bench = async {
            let link = PeerLink::open(&own, &args.peer).await?;
            link.part(0, u64::from(size))?;
            let load = Load {
                va: link.region.va,
                span: link.region.length,
                size,
                depth: args.depth,
                count: args.count.unwrap_or(u64::MAX),
                duration: if args.count.is_some() { FOREVER } else { args.duration.0 },
            };
            let work = match args.op {
                QpOperation::Read => Work::LoadRead(load),
                QpOperation::Write => Work::LoadWrite(load),
                QpOperation::FetchAdd => Work::LoadFetchAdd(load),
            };
            let outcome = link.work(&own, work).await?;
            let path_mtu = link.path_mtu;
            link.close(&own).await?;
            Ok((outcome, path_mtu))
        };
        let (outcome, path_mtu) = until_told(bench).await?;
        let seconds = (outcome.elapsed.max(1)) as f64 / 1e9;
        let requests = outcome.latencies.count();
        let text = if args.json {
            let shares = SHARES.map(|(name, share)| (name.to_owned(), json!(outcome.latencies.at(share))));
            let buckets: Vec<_> = outcome.latencies.powers().map(|(bound, count)| json!([bound, count])).collect();
            let report = json!({
                "operation": args.op.to_string(), "size": size, "depth": args.depth, "path_mtu": path_mtu,
                "requests": requests, "seconds": seconds, "requests_per_second": requests as f64 / seconds,
                "bytes_per_second": requests as f64 * f64::from(size) / seconds,
                "latency_ns": Map::from_iter(shares), "histogram_ns": buckets,
                "counters": counters(own.facts()),
            });
            format!("{report:#}\n")
        } else {
            format!(
                "{} {size} bytes, {} at a time, path MTU {path_mtu}: {requests} in {seconds:.3} s, {:.0} per second, \
                 {:.1} \
                 MB/s\n{}{}\n",
                args.op,
                args.depth,
                requests as f64 / seconds,
                requests as f64 * f64::from(size) / seconds / 1e6,
                histogram(&outcome.latencies),
                summary(own.facts())
            )
        };
        own.end().await?;
        print(&text).map(drop)
    })
}

fn size(args: &QpBenchArgs) -> Result<u32, Failure> {
    let size = if args.op == QpOperation::FetchAdd { 8 } else { args.size.0 };
    match u32::try_from(size) {
        Ok(size) if (1..=LARGEST).contains(&u64::from(size)) => Ok(size),
        _ => Err(Failure::Setting { name: "size", text: format!("{}: choose 1 to 1M", args.size) }),
    }
}

/// Latencies as text: quantiles, and a bar for each power of two.
fn histogram(latencies: &Latencies) -> String {
    let mut text = String::from("latency");
    for (name, share) in SHARES {
        // Writing to a string does not fail.
        let _ = write!(text, "  {name} {:.1} us", latencies.at(share) as f64 / 1e3);
    }
    text.push('\n');
    let most = latencies.powers().map(|(_, count)| count).max().unwrap_or(0).max(1);
    for (bound, count) in latencies.powers().filter(|(_, count)| *count > 0) {
        let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
        let _ = writeln!(text, "  up to {:>10.1} us {count:>10} {bar}", bound as f64 / 1e3);
    }
    text
}

/// Every counter, by the name of its set.
fn counters(facts: &LcoreFacts) -> Value {
    let set = |set: &dyn CounterSet| {
        let mut values = Map::new();
        set.visit(&mut |name, _, value| drop(values.insert(name.to_owned(), value.into())));
        values
    };
    json!({ "roce": set(&*facts.role), "transport": set(&*facts.transport) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_drawn() {
        let mut latencies = Latencies::new();
        for ns in (0..100).map(|i| 10_000 + i * 100) {
            latencies.record(ns);
        }
        let text = histogram(&latencies);
        assert!(text.starts_with("latency  p50 15.1 us") && text.contains("max 19.9 us"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().nth(1).unwrap().contains("up to       16.4 us"), "{text}");
        assert_eq!(histogram(&Latencies::new()).lines().count(), 1);
    }
}
