//! `read4k`: READs of 4 KiB, 64 outstanding, against the same pages over TCP; pages per second of processor time of the
//! whole machine.
//!
//! Two ends in two namespaces that a veth joins, each on a core of its own. Ours wait adaptively. The baseline has one
//! thread at each end: requests of 8 bytes, answers of 4 KiB, `TCP_NODELAY`. It answers all requests that one call has
//! read by one call. The floor is the bare exchange of the packets of our READs over the same ports, with the bytes
//! copied and no transport ([`crate::remote::bare`]). All of a row take turns, in the same rounds.

use crate::qp::{self, Case};
use crate::ratios::{Ratios, median};
use crate::remote::bare::BarePair;
use crate::remote::cpu::{CpuMeter, CpuSpent};
use crate::remote::machine::{Link, Pair, PortKind, Reading, TcpPair};
use crate::remote::reader::{BULK, ReadOrder};
use crate::report::Report;
use anyhow::{Context as _, ensure};
use lcore::{Clock, RxMode};
use std::time::Duration;

/// Pages outstanding.
const DEPTH: u32 = 64;

/// Before the first slice counts: windows open, and caches fill.
const WARM_UP: Duration = Duration::from_millis(200);

/// What carries pages.
enum Carrier {
    Ours(Box<Pair>),
    Bare(Box<BarePair>),
    Tcp(TcpPair),
}

/// One line of the table.
struct Line {
    name: String,
    mtu: u16,
    carrier: Carrier,
    slices: Vec<PageSlice>,
}

/// Pages of a slice, and what they took.
#[derive(Clone, Copy, Debug)]
struct PageSlice {
    pages: u64,
    spent: CpuSpent,
}

impl PageSlice {
    /// Thousand pages per second of processor time of the machine.
    fn rate(&self) -> f64 {
        self.pages as f64 / self.spent.machine.max(1e-9) / 1e3
    }

    /// The same, of this process and the kernel's threads for softirqs alone.
    fn own_rate(&self) -> f64 {
        self.pages as f64 / self.spent.own.max(1e-9) / 1e3
    }

    /// Thousand pages per second.
    fn speed(&self) -> f64 {
        self.pages as f64 / self.spent.seconds / 1e3
    }

    /// Cores in use.
    fn cores(&self) -> f64 {
        self.spent.own / self.spent.seconds
    }
}

impl Line {
    fn ours(kind: PortKind, mtu: u16, clock: Clock) -> anyhow::Result<Self> {
        let name = match kind {
            PortKind::Xdp => format!("READ, AF_XDP, MTU {mtu}"),
            PortKind::Udp => format!("READ, udp:, MTU {mtu}"),
        };
        let pair = Pair::start(kind, Link::new(mtu, true)?, RxMode::Adaptive, clock).with_context(|| name.clone())?;
        Ok(Self { name, mtu, carrier: Carrier::Ours(Box::new(pair)), slices: Vec::new() })
    }

    fn bare(mtu: u16, clock: Clock) -> anyhow::Result<Self> {
        let name = format!("bare, AF_XDP, MTU {mtu}");
        let pair = BarePair::start(Link::new(mtu, true)?, DEPTH, clock).with_context(|| name.clone())?;
        Ok(Self { name, mtu, carrier: Carrier::Bare(Box::new(pair)), slices: Vec::new() })
    }

    fn tcp(mtu: u16, offloads: bool) -> anyhow::Result<Self> {
        let name = format!("TCP, MTU {mtu}, offloads {}", if offloads { "on" } else { "off" });
        let pair = TcpPair::start(Link::new(mtu, offloads)?, DEPTH).with_context(|| name.clone())?;
        Ok(Self { name, mtu, carrier: Carrier::Tcp(pair), slices: Vec::new() })
    }

    fn run(&mut self, length: Duration) -> anyhow::Result<PageSlice> {
        let meter = CpuMeter::start()?;
        let pages = match &mut self.carrier {
            Carrier::Ours(pair) => {
                let reads = pair.read(BULK, DEPTH, None)?;
                std::thread::sleep(length);
                pair.order(ReadOrder::Stop(BULK))?;
                reads.wait()?.pages
            }
            Carrier::Bare(pair) => {
                let done = pair.run(length)?;
                ensure!(done.repeated * 100 <= done.pages, "{} bare requests were lost", done.repeated);
                done.pages
            }
            Carrier::Tcp(pair) => pair.run(length)?,
        };
        let slice = PageSlice { pages, spent: meter.spent()? };
        ensure!(pages > 0, "no page came: {}", self.name);
        Ok(slice)
    }

    fn middle(&self, of: impl Fn(&PageSlice) -> f64) -> f64 {
        median(self.slices.iter().map(of).collect())
    }
}

/// Of the rounds: pages per second of processor time of one line, over those of another.
fn ratios(ours: &Line, baseline: &Line, of: impl Fn(&PageSlice) -> f64) -> Ratios {
    Ratios::of(ours.slices.iter().zip(&baseline.slices).map(|(ours, theirs)| of(ours) / of(theirs)).collect())
}

/// The line of pages over TCP with this MTU, without offloads.
fn baseline_of(lines: &[Line], mtu: u16) -> anyhow::Result<&Line> {
    let is = |line: &&Line| line.mtu == mtu && matches!(line.carrier, Carrier::Tcp(_)) && line.name.ends_with("off");
    lines.iter().find(is).context("each MTU has a baseline")
}

/// The line of the bare exchange with the MTU of a line of ours over AF_XDP.
fn floor_of<'a>(lines: &'a [Line], line: &Line) -> Option<&'a Line> {
    let is_ours = matches!(line.carrier, Carrier::Ours(_)) && line.name.contains("AF_XDP");
    lines.iter().find(|floor| is_ours && floor.mtu == line.mtu && matches!(floor.carrier, Carrier::Bare(_)))
}

/// The benchmark; `length` is that of each slice. `only` leaves out all but the first line and its baseline.
///
/// # Errors
/// There are no namespaces or no AF_XDP here, or a page did not come, or another one.
pub fn report(rounds: Option<usize>, length: Option<Duration>, only: bool, quick: bool) -> anyhow::Result<Report> {
    let (usual, long) = if quick { (1, 100) } else { (9, 1000) };
    let (rounds, length) = (rounds.unwrap_or(usual).max(1), length.unwrap_or(Duration::from_millis(long)));
    let clock = Clock::start();
    let mut lines = vec![Line::ours(PortKind::Xdp, 9000, clock)?, Line::tcp(9000, false)?];
    if !only {
        lines.push(Line::bare(9000, clock)?);
        lines.push(Line::tcp(9000, true)?);
        lines.push(Line::ours(PortKind::Udp, 9000, clock)?);
        lines.push(Line::ours(PortKind::Xdp, 1500, clock)?);
        lines.push(Line::bare(1500, clock)?);
        lines.push(Line::tcp(1500, false)?);
        lines.push(Line::tcp(1500, true)?);
        lines.push(Line::ours(PortKind::Udp, 1500, clock)?);
    }
    for line in &mut lines {
        line.run(if quick { length } else { WARM_UP }).with_context(|| line.name.clone())?;
    }
    let mut memory = Vec::new();
    let mut ends = qp::Bench::new(Case::ReadRing)?;
    ends.run(false)?;
    for _ in 0..rounds {
        for line in &mut lines {
            let slice = line.run(length).with_context(|| line.name.clone())?;
            line.slices.push(slice);
        }
        memory.push(f64::from(qp::REQUESTS) * 1e6 / ends.run(false)?.all);
    }
    println!("read4k: pages of 4 KiB, {DEPTH} outstanding, two ends on a veth, a core each; k is thousand pages");
    println!(
        "{:<28} {:>10} {:>9} {:>8} {:>6} {:>16} {:>22}",
        "", "k/CPU-s", "k/own", "k/s", "cores", "to TCP", "the same, own time"
    );
    let mut details = Vec::new();
    for line in &lines {
        let baseline = baseline_of(&lines, line.mtu)?;
        let (all, own) = (ratios(line, baseline, PageSlice::rate), ratios(line, baseline, PageSlice::own_rate));
        println!(
            "{:<28} {:>10.1} {:>9.1} {:>8.1} {:>6.2} {:>5.2} {:>10} {:>11.2} {:>10}",
            line.name,
            line.middle(PageSlice::rate),
            line.middle(PageSlice::own_rate),
            line.middle(PageSlice::speed),
            line.middle(PageSlice::cores),
            all.median,
            all.range(),
            own.median,
            own.range()
        );
        details.push(serde_json::json!({
            "name": line.name, "mtu": line.mtu, "kpages_per_cpu_second": line.middle(PageSlice::rate),
            "kpages_per_own_cpu_second": line.middle(PageSlice::own_rate),
            "kpages_per_second": line.middle(PageSlice::speed),
            "cores": line.middle(PageSlice::cores), "ratios": all.json(), "own_ratios": own.json(),
            "of_floor": floor_of(&lines, line).map(|floor| ratios(line, floor, PageSlice::rate).json())
        }));
    }
    let memory = median(memory);
    println!("{:<28} {memory:>10.1} {memory:>9.1}   (both ends in turn, frames handed over)", "READ, memory to memory");
    details.push(serde_json::json!({ "name": "memory to memory", "kpages_per_cpu_second": memory }));
    println!("k/CPU-s: of the whole machine with interrupts; k/own: of this process and the kernel's softirq threads");
    println!("to TCP: to that of the same MTU without offloads. Every page was the one that was asked for");
    println!("bare: the packets of such READs over the same ports, the bytes copied, without a transport");
    for line in &lines {
        if let Some(floor) = floor_of(&lines, line) {
            let of = ratios(line, floor, PageSlice::rate);
            println!("{}: {:.2} {} of the bare exchange, k/CPU-s", line.name, of.median, of.range());
        }
    }
    let (ours, baseline) = (lines.first().context("a line")?, baseline_of(&lines, 9000)?);
    let (value, ratios) = (ours.middle(PageSlice::rate), ratios(ours, baseline, PageSlice::rate));
    Ok(Report { name: "read4k", value, unit: "kpages/CPU-s", ratios, details: details.into() })
}
