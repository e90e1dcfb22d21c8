//! `demand`: one READ of 4 KiB that somebody waits for.
//!
//! First *through a gateway* that holds records for 50 us and never flushes early, with PUSH on the READ. The baseline
//! is the same READ through a bare forwarder: the direct way and two bare forwards. Reader, relay and server are polled
//! in turn by one thread, so that nothing in the result is a wait for a scheduler. Then *beside a saturating stream* of
//! other READs to the same server, against the same READ alone: two lcores that poll, a core each.

use crate::ratios::Ratios;
use crate::remote::machine::{Chain, Link, Pair, PortKind, Reading};
use crate::remote::reader::{BULK, DEMAND, ReadOrder};
use crate::remote::relay::{RelayOrder, Relaying};
use crate::report::Report;
use crate::svg::{Chart, Curve, draw};
use frame::time::MICROSECOND;
use gateway::GatewayCommand;
use lcore::{Clock, RxMode};
use roce::Latencies;
use std::path::Path;

/// MTU of all links.
const MTU: u16 = 9000;

/// READs of a turn: those that have PUSH, and those that a hold delays.
const TURN: (u64, u64) = (2000, 200);
/// The same of a quick run.
const QUICK: (u64, u64) = (100, 20);

/// READs of the stream that are outstanding.
const STREAM: u32 = 128;

/// One way's READs.
struct WayRead {
    name: &'static str,
    all: Latencies,
}

impl WayRead {
    fn new(name: &'static str) -> Self {
        Self { name, all: Latencies::new() }
    }

    fn us(&self, share: f64) -> f64 {
        self.all.at(share) as f64 / 1e3
    }

    fn print(&self) {
        let [least, p50, p90, p99, p999] = [0.0, 0.5, 0.9, 0.99, 0.999].map(|share| self.us(share));
        println!("{:<46} {least:>8.1} {p50:>8.1} {p90:>8.1} {p99:>8.1} {p999:>8.1}", self.name);
    }

    fn json(&self) -> serde_json::Value {
        let histogram: Vec<_> = self.all.powers().collect();
        serde_json::json!({
            "way": self.name, "reads": self.all.count(), "least_us": self.us(0.0), "p50_us": self.us(0.5),
            "p99_us": self.us(0.99), "p999_us": self.us(0.999), "histogram_ns": histogram
        })
    }
}

/// Measures one way, keeps its latencies, and returns a quantile of this turn.
fn turn(way: &mut WayRead, share: f64, reads: impl FnOnce() -> anyhow::Result<Latencies>) -> anyhow::Result<f64> {
    let latencies = reads()?;
    way.all.merge(&latencies);
    Ok(latencies.at(share) as f64)
}

/// READs through a gateway, through a bare forwarder, and direct.
struct Through {
    ways: [WayRead; 4],
    /// p50 through the gateway, over that through the bare forwarder of the same round.
    ratios: Ratios,
}

fn through(rounds: usize, (reads, held): (u64, u64), clock: Clock) -> anyhow::Result<Through> {
    let (relayed, direct) = (Chain::start(true, MTU, 0, clock)?, Chain::start(false, MTU, 0, clock)?);
    relayed.relay(RelayOrder::Gateway(GatewayCommand::SetHold(50 * MICROSECOND)))?;
    relayed.relay(RelayOrder::Gateway(GatewayCommand::SetEarly(false)))?;
    let mut ways = [
        WayRead::new("direct"),
        WayRead::new("through a bare forwarder"),
        WayRead::new("through a gateway, hold 50 us, PUSH"),
        WayRead::new("through a gateway, hold 50 us, no PUSH"),
    ];
    let [alone, bare, pushed, without] = &mut ways;
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        relayed.pause(true);
        direct.pause(false);
        turn(alone, 0.5, || direct.one_by_one(DEMAND, reads))?;
        direct.pause(true);
        relayed.pause(false);
        let mut forwarded = |which| -> anyhow::Result<f64> {
            relayed.relay(RelayOrder::Use(which))?;
            let way = if which == Relaying::Bare { &mut *bare } else { &mut *pushed };
            turn(way, 0.5, || relayed.one_by_one(DEMAND, reads))
        };
        // Each comes first in every other round.
        let (ours, theirs) = if round % 2 == 0 {
            let theirs = forwarded(Relaying::Bare)?;
            (forwarded(Relaying::Gateway)?, theirs)
        } else {
            let ours = forwarded(Relaying::Gateway)?;
            let theirs = forwarded(Relaying::Bare)?;
            relayed.relay(RelayOrder::Use(Relaying::Gateway))?;
            (ours, theirs)
        };
        turn(without, 0.5, || relayed.one_by_one(BULK, held))?;
        if round > 0 {
            ratios.push(ours / theirs);
        }
    }
    Ok(Through { ways, ratios: Ratios::of(ratios) })
}

/// READs alone, and beside a stream.
struct Beside {
    ways: [WayRead; 2],
    /// p99 beside the stream, over that alone of the same round.
    ratios: Ratios,
    /// Thousand pages per second of the stream.
    stream: f64,
}

fn beside(rounds: usize, reads: u64, clock: Clock) -> anyhow::Result<Beside> {
    let pair = Pair::start(PortKind::Xdp, Link::new(MTU, true)?, RxMode::Polling, clock)?;
    let mut ways = [WayRead::new("alone"), WayRead::new("beside a stream of 128 READs")];
    let [alone, busy] = &mut ways;
    let (mut ratios, mut pages, mut seconds) = (Vec::new(), 0, 0.0);
    for round in 0..=rounds {
        let ours = turn(alone, 0.99, || pair.one_by_one(DEMAND, reads))?;
        let (stream, began) = (pair.read(BULK, STREAM, None)?, clock.now());
        let theirs = turn(busy, 0.99, || pair.one_by_one(DEMAND, reads))?;
        pair.order(ReadOrder::Stop(BULK))?;
        let done = stream.wait()?;
        if round > 0 {
            ratios.push(theirs / ours);
            pages += done.pages;
            seconds += (clock.now() - began) as f64 / 1e9;
        }
    }
    Ok(Beside { ways, ratios: Ratios::of(ratios), stream: pages as f64 / f64::max(seconds, 1e-9) / 1e3 })
}

/// Histograms of all ways: the share of the READs in each step of time.
fn histograms(charts: &[(&'static str, &[WayRead])]) -> String {
    // Four steps in each doubling, from 2 us to 1 ms.
    let bounds: Vec<f64> = (0..=36).map(|step| (2000.0 * 2_f64.powf(f64::from(step) / 4.0)).round() / 1e3).collect();
    let curve = |way: &WayRead| {
        let mut before = 0;
        let points = bounds.iter().map(|&us| {
            let until = way.all.up_to((us * 1e3) as u64);
            let share = 100.0 * (until - std::mem::replace(&mut before, until)) as f64;
            (us, share / way.all.count().max(1) as f64)
        });
        Curve { name: way.name, points: points.collect() }
    };
    let chart = |&(title, ways): &(&'static str, &[WayRead])| Chart {
        title,
        unit: "% of the READs",
        curves: ways.iter().map(curve).collect(),
    };
    draw("microseconds, up to", &bounds, &charts.iter().map(chart).collect::<Vec<_>>())
}

/// The benchmark; the histograms go to `svg`.
///
/// # Errors
/// AF_XDP cannot be had, a READ gives no page, or the chart cannot be written.
pub fn report(rounds: Option<usize>, svg: &Path, quick: bool) -> anyhow::Result<Report> {
    let (usual, reads) = if quick { (1, QUICK) } else { (15, TURN) };
    let (rounds, clock) = (rounds.unwrap_or(usual).max(1), Clock::start());
    let through = through(rounds, reads, clock)?;
    println!("demand: one READ of 4 KiB at a time, AF_XDP on veth, MTU {MTU}; microseconds");
    println!("{:<46} {:>8} {:>8} {:>8} {:>8} {:>8}", "one thread polls all", "least", "p50", "p90", "p99", "p99.9");
    through.ways.iter().for_each(WayRead::print);
    println!("p50 through the gateway with PUSH, over that through the bare forwarder: {}", through.ratios);
    let beside = beside(rounds, reads.0, clock)?;
    println!("{:<46} {:>8} {:>8} {:>8} {:>8} {:>8}", "two lcores that poll", "least", "p50", "p90", "p99", "p99.9");
    beside.ways.iter().for_each(WayRead::print);
    println!("p99 beside the stream, over that alone: {}", beside.ratios);
    println!("the stream: {:.1} thousand pages a second", beside.stream);
    if let Some(folder) = svg.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let charts = [("one READ, by the way", &through.ways[..]), ("one READ, two lcores", &beside.ways[..])];
    std::fs::write(svg, histograms(&charts))?;
    println!("chart: {}", svg.display());
    let mut details: Vec<_> = through.ways.iter().chain(&beside.ways).map(WayRead::json).collect();
    details.push(serde_json::json!({
        "name": "demand-beside-a-stream", "ratio": beside.ratios.median, "ratios": beside.ratios.json(),
        "stream_kpages_per_second": beside.stream
    }));
    let value = through.ways[2].us(0.5);
    println!("name=demand-beside value={:.3} unit=us-p99 ratio={:.3}", beside.ways[1].us(0.99), beside.ratios.median);
    Ok(Report { name: "demand", value, unit: "us-p50", ratios: through.ratios, details: details.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_every_way() {
        let mut way = WayRead::new("a way");
        (0..100).for_each(|_| way.all.record(7_000));
        let svg = histograms(&[("a chart", std::slice::from_ref(&way))]);
        assert!(svg.contains(">a way<") && svg.contains("a chart % of the READs"), "{svg}");
        // All READs are in one step, the others have none.
        assert_eq!(svg.matches("<polyline").count(), 1);
    }
}
