//! `gvm-dp stats`: the rates of a running process with its totals; warnings first.

use super::Target;
use super::format::{bits, count, grouped, nanoseconds, percent, si, span};
use super::printer::{Goes, Printer};
use super::rates::{Event, Rates, warning};
use super::table::TextTable;
use crate::args::StatsArgs;
use api::stats::STATIC_ROUTES;
use api::stats::Stats;
use common::exit::Failure;
use common::output::print;
use common::plain;
use hyper::Method;
use hyper::body::Bytes;
use std::fmt::Write as _;
use std::time::Duration;

/// The default interval for rates and for --watch.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints JSON of a sample, or the rates between two samples, once or repeatedly.
///
/// # Errors
/// The error is [`Failure::Usage`] when an interval is given for a single look as JSON. Else it fails as
/// [`Target::find`], [`Target::request`] and [`Target::read`] do, or with [`Failure::Output`] when stdout does not take
/// the text.
pub fn run(args: &StatsArgs) -> Result<(), Failure> {
    if args.json && !args.watch && args.interval.is_some() {
        return Err(Failure::Usage(
            "--interval has no meaning with --json alone, which shows no rates: add --watch, or leave it out"
                .to_owned(),
        ));
    }
    let target = Target::find(&args.target)?;
    let interval = args.interval.map_or(INTERVAL, |interval| Duration::from_nanos(interval.0));
    if args.watch {
        return super::runtime()?.block_on(watch(&target, args, interval));
    }
    if args.json {
        return print(&json(&target.request(Method::GET, "/v1/stats")?)).map(drop);
    }
    let before = sample(&target)?;
    std::thread::sleep(interval);
    print(&text(&before, &sample(&target)?, args.all)).map(drop)
}

/// Prints sample after sample until a signal comes or the reader is gone.
async fn watch(target: &Target, args: &StatsArgs, interval: Duration) -> Result<(), Failure> {
    let mut printer = Printer::start()?;
    let mut before = None;
    loop {
        let look = target.fetch(Method::GET, "/v1/stats", Bytes::new());
        let Some(body) = printer.unless_ended(look).await else { return Ok(()) };
        let body = body?;
        let shown = if args.json {
            Some(json(&body))
        } else {
            let now: Stats = target.read(&body)?;
            let shown = before.as_ref().map(|before| text(before, &now, args.all) + "\n");
            before = Some(now);
            shown
        };
        if let Some(shown) = shown
            && printer.print(shown).await? != Goes::On
        {
            return Ok(());
        }
        if printer.unless_ended(tokio::time::sleep(interval)).await.is_none() {
            return Ok(());
        }
    }
}

/// A sample in one line.
fn json(body: &[u8]) -> String {
    plain::json(body) + "\n"
}

/// The report about two samples.
fn text(before: &Stats, now: &Stats, all: bool) -> String {
    let rates = Rates::new(Some(before), now);
    let mut text = report(now, &rates);
    if all {
        text.push_str(&everything(before, now, rates.seconds));
    }
    text
}

/// Takes one sample of a process.
pub(super) fn sample(target: &Target) -> Result<Stats, Failure> {
    target.read(&target.request(Method::GET, "/v1/stats")?)
}

/// A rate, or an empty text for zero, so that rates that are not zero are easy to see.
fn moving(rate: f64) -> String {
    if rate > 0.0 { si(rate) } else { "-".to_owned() }
}

fn optional(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or("-".to_owned(), text)
}

/// The report for people.
pub fn report(stats: &Stats, rates: &Rates) -> String {
    let mut text = header(stats, rates);
    if let Some(routes) = stats.settings.get(STATIC_ROUTES) {
        let _ = writeln!(text, "STATIC ROUTES: {routes}; nobody proves who it is");
    }
    for warning in warning::all(stats, rates) {
        let _ = writeln!(text, "{warning}");
    }
    let parts = [
        cargo(rates),
        events("dropped", &rates.drops),
        flushes(rates),
        events("farm", &rates.farm),
        lcores(rates),
        ports(rates),
        losses(rates),
        events("xdp verdict", &rates.verdicts),
        neighbours(stats),
        members(stats, rates),
        stats.lending.as_ref().map(super::lending::report).unwrap_or_default(),
        stats.serving.as_ref().map(super::applications::report).unwrap_or_default(),
        disk(stats, rates),
        events("refused", &rates.refused),
    ];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let _ = write!(text, "\n{part}");
    }
    text
}

fn header(stats: &Stats, rates: &Rates) -> String {
    let Stats { name, role, version, pid, state, settings, .. } = stats;
    let lcores = count(stats.lcores.len() as u64, "lcore");
    let hold = settings.get("hold").map(|hold| format!(", hold {hold}")).unwrap_or_default();
    let uptime = span(stats.uptime_seconds);
    format!("{name}: {role} {version}, pid {pid}, {state} for {uptime}, {lcores}{hold}; over {}\n", span(rates.seconds))
}

fn cargo(rates: &Rates) -> String {
    let mut table = TextTable::new(
        &[
            "cargo",
            "records/s",
            "datagrams/s",
            "payload",
            "rec/dgram",
            "saved",
            "held",
            "records in all",
            "dropped in all",
        ],
        &[0],
    );
    for direction in &rates.directions {
        let total = &direction.total;
        let flow = |way: &str, flow: &super::rates::Flow, saved: String, held: u64, records: u64, dropped: u64| {
            vec![
                format!("{} {way}", direction.name),
                moving(flow.records),
                moving(flow.datagrams),
                if flow.bytes > 0.0 { bits(flow.bytes) } else { "-".to_owned() },
                optional(flow.per_datagram(), |share| format!("{share:.1}")),
                saved,
                if held > 0 { grouped(held) } else { String::new() },
                grouped(records),
                if dropped > 0 { grouped(dropped) } else { String::new() },
            ]
        };
        table.row(flow("in", &direction.came, String::new(), 0, total.records_in, 0));
        let saved = optional(direction.saved, percent);
        let dropped = total.dropped.values().sum();
        table.row(flow("out", &direction.left, saved, total.held, total.records_out, dropped));
    }
    table.text()
}

/// Events that happened at least once. Those that happen now come first.
fn events(title: &str, events: &[Event]) -> String {
    let mut table = TextTable::new(&[title, "/s", "in all"], &[0]);
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    for Event { what, rate, total } in events {
        table.row(vec![what.clone(), moving(*rate), grouped(*total)]);
    }
    table.text()
}

fn flushes(rates: &Rates) -> String {
    let all: f64 = rates.flushes.iter().map(|flush| flush.rate).sum();
    let mut table = TextTable::new(&["datagrams left", "/s", "share", "in all"], &[0]);
    let mut flushes: Vec<&Event> = rates.flushes.iter().filter(|flush| flush.total > 0).collect();
    flushes.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    for Event { what, rate, total } in flushes {
        let share = if all > 0.0 { percent(rate / all) } else { "-".to_owned() };
        table.row(vec![what.clone(), moving(*rate), share, grouped(*total)]);
    }
    let mut text = table.text();
    if let Some(hold) = &rates.hold {
        let (p50, p99, mean) = (nanoseconds(hold.p50), nanoseconds(hold.p99), nanoseconds(hold.mean));
        let _ = writeln!(text, "held for {p50} (p50), {p99} (p99), {mean} (mean)");
    }
    text
}

fn lcores(rates: &Rates) -> String {
    let headings = [
        "lcore",
        "core",
        "busy",
        "cpu",
        "records/s",
        "ns/record",
        "burst",
        "sleeps/s",
        "free frames",
        "memory",
        "stage",
    ];
    let mut table = TextTable::new(&headings, &[9, 10]);
    for lcore in &rates.lcores {
        table.row(vec![
            lcore.index.to_string(),
            lcore.core.clone().unwrap_or_else(|| "-".to_owned()),
            percent(lcore.busy),
            percent(lcore.cpu),
            moving(lcore.records),
            optional(lcore.ns_per_record, |ns| format!("{ns:.0}")),
            optional(lcore.burst, |burst| format!("{burst:.1}")),
            moving(lcore.sleeps),
            format!("{} of {}", grouped(lcore.frames_free), grouped(lcore.frames)),
            lcore.memory.clone(),
            lcore.stage.clone(),
        ]);
    }
    table.text()
}

fn ports(rates: &Rates) -> String {
    let headings =
        ["port", "lcore", "what", "rx/s", "tx/s", "lost/s", "tx full/s", "rx ring most", "tx ring", "link", "mode"];
    let mut table = TextTable::new(&headings, &[2, 9, 10]);
    for port in &rates.ports {
        let fill =
            |fill: Option<super::rates::port::RingFill>| fill.map(|fill| percent(fill.share)).unwrap_or_default();
        let link = if port.link == super::rates::port::PortLink::Unknown { "" } else { port.link.name() };
        let some = |rate: f64| if rate > 0.0 { si(rate) } else { String::new() };
        table.row(vec![
            port.id.to_string(),
            port.lcore.to_string(),
            port.name.clone(),
            moving(port.rx),
            moving(port.tx),
            some(port.rx_lost + port.tx_lost),
            some(port.tx_full),
            fill(port.rx_ring),
            fill(port.tx_ring),
            link.to_owned(),
            port.mode.clone(),
        ]);
    }
    table.text()
}

fn losses(rates: &Rates) -> String {
    let loss = |port: &super::rates::PortRates| {
        let name = format!("port {} lcore {}", port.id, port.lcore);
        let event = |(counter, rate, total): &(String, f64, u64)| Event {
            what: format!("{name} {counter}"),
            rate: *rate,
            total: *total,
        };
        port.losses.iter().map(event).collect::<Vec<_>>()
    };
    events("lost at ports", &rates.ports.iter().flat_map(loss).collect::<Vec<_>>())
}

/// The neighbours of ports that have no kernel to ask.
fn neighbours(stats: &Stats) -> String {
    let mut table = TextTable::new(&["neighbour", "port", "Ethernet address", "state", "heard"], &[0, 2, 3]);
    for device in &stats.devices {
        for neighbour in &device.neighbours {
            table.row(vec![
                neighbour.ip.clone(),
                device.port.to_string(),
                neighbour.mac.clone().unwrap_or_else(|| "-".to_owned()),
                neighbour.state.clone(),
                span(neighbour.heard_seconds),
            ]);
        }
    }
    table.text()
}

fn members(stats: &Stats, rates: &Rates) -> String {
    let Some(members) = &stats.membership else { return String::new() };
    let (here, ids) = (grouped(members.registered), grouped(members.ids));
    let Some(heartbeats) = rates.heartbeats else {
        return format!("members  {here} of {ids} ids registered\n");
    };
    let link = stats.total.get("link");
    let gone = link.map_or(0, |link| super::rates::value(link, "nodes_gone"));
    format!(
        "members  {here} of {ids} slaves here, {} suspect, {} gone so far, {}; generation {}; {} heartbeats/s\n",
        members.suspect,
        grouped(gone),
        count(members.masters, "master"),
        members.generation,
        si(heartbeats)
    )
}

fn disk(stats: &Stats, rates: &Rates) -> String {
    let both = stats.disk.as_ref().zip(rates.disk.as_ref());
    both.map(|(disk, rates)| super::disk::report(disk, rates)).unwrap_or_default()
}

/// Every counter that is not zero, by set, with its rate.
fn everything(before: &Stats, now: &Stats, seconds: f64) -> String {
    let span = super::rates::Span { seconds };
    let same = before.pid == now.pid;
    let mut text = String::new();
    let mut add = |title: String, earlier: Option<&super::rates::Counters>, counters: &super::rates::Counters| {
        let mut table = TextTable::new(&[&title, "/s", "in all"], &[0]);
        for (name, total) in counters.iter().filter(|(_, total)| **total > 0) {
            table.row(vec![format!("  {name}"), moving(span.of(earlier, counters, name)), grouped(*total)]);
        }
        let _ = write!(text, "\n{}", table.text());
    };
    for (set, counters) in &now.total {
        add(set.clone(), before.total.get(set).filter(|_| same), counters);
    }
    for lcore in &now.lcores {
        let earlier = before.lcores.iter().find(|earlier| same && earlier.index == lcore.index);
        for port in &lcore.ports {
            let earlier = earlier.and_then(|lcore| lcore.ports.iter().find(|earlier| earlier.id == port.id));
            let title = format!("port {} of lcore {}", port.id, lcore.index);
            add(title, earlier.map(|port| &port.counters), &port.counters);
        }
    }
    text
}
