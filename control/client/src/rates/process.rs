//! The work of one process between two samples.

use super::disk::DiskRates;
use super::lcore::LcoreRates;
use super::port::PortRates;
use super::quantile::Quantiles;
use super::span::{Span, value};
use api::stats::{Direction, HistogramStats, Stats};

/// Traffic of one direction, in or out, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Records.
    pub records: f64,
    /// Datagrams.
    pub datagrams: f64,
    /// Bytes of UDP payload.
    pub bytes: f64,
}

impl Flow {
    /// Records per datagram; `None` if there were none.
    pub fn per_datagram(&self) -> Option<f64> {
        (self.datagrams > 0.0).then(|| self.records / self.datagrams)
    }
}

/// One direction of a gateway's cargo.
#[derive(Clone, Debug)]
pub struct DirectionRates {
    /// down or up.
    pub name: String,
    /// What came in.
    pub came: Flow,
    /// Traffic that came in.
    pub left: Flow,
    /// Share of packets saved; `None` if no record left.
    pub saved: Option<f64>,
    /// Since the start.
    pub total: Direction,
}

/// An event: its rate per second, and its total since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub what: String,
    /// Per second.
    pub rate: f64,
    /// Since the start.
    pub total: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Seconds that the rates cover.
    pub seconds: f64,
    /// Whether the rates cover all the time since the start, because there is no earlier sample of this process.
    pub since_start: bool,
    /// Cargo of a gateway.
    pub directions: Vec<DirectionRates>,
    /// Records dropped, by direction and reason. Reasons without drops are left out.
    pub drops: Vec<Event>,
    /// Why buffers of a gateway left, by cause. All causes are listed.
    pub flushes: Vec<Event>,
    /// How long buffers were held, in nanoseconds.
    pub hold: Option<Quantiles>,
    /// How many records shared a datagram.
    pub sharing: Option<Quantiles>,
    /// Lcores.
    pub lcores: Vec<LcoreRates>,
    /// Ports of lcores.
    pub ports: Vec<PortRates>,
    /// Heartbeats that a gateway accepted per second.
    pub heartbeats: Option<f64>,
    /// Heartbeats refused, by reason. Reasons without refusals are left out.
    pub refused: Vec<Event>,
    /// Verdicts of XDP programs, by interface. Verdicts without packets are left out.
    pub verdicts: Vec<Event>,
    /// Counters of a farm that are not zero.
    pub farm: Vec<Event>,
    /// The requests of a disk's clients.
    pub disk: Option<DiskRates>,
}

impl Rates {
    /// Compares `now` with an earlier sample of the process with the same name.
    pub fn new(before: Option<&Stats>, now: &Stats) -> Self {
        let same = |before: &&Stats| before.pid == now.pid && before.uptime_seconds < now.uptime_seconds;
        let before = before.filter(same);
        let seconds = now.uptime_seconds - before.map_or(0.0, |before| before.uptime_seconds);
        let span = Span { seconds: seconds.max(1e-3) };
        let set = |stats: &Stats, name: &str| stats.total.get(name).cloned().unwrap_or_default();
        let earlier = |name: &str| before.map(|before| set(before, name)).unwrap_or_default();
        let events = |name: &str, wanted: &dyn Fn(&str) -> Option<String>| {
            let (before, now) = (earlier(name), set(now, name));
            let event = |(counter, total): (&String, &u64)| {
                let what = wanted(counter)?;
                Some(Event { what, rate: span.rate(value(&before, counter), *total), total: *total })
            };
            now.iter().filter_map(event).collect::<Vec<_>>()
        };
        let happened = |events: Vec<Event>| events.into_iter().filter(|event| event.total > 0).collect::<Vec<_>>();
        let is_gateway = !now.directions.is_empty();
        let causes = |counter: &str| match counter {
            "forwarded_whole" => Some("whole".to_owned()),
            _ => counter.strip_prefix("flush_").map(str::to_owned),
        };
        let quantiles = |name: &str| {
            let since = before.and_then(|before| before.histograms.get(name));
            Quantiles::new(since, now.histograms.get(name).unwrap_or(&HistogramStats::default()))
        };
        Self {
            seconds: span.seconds,
            since_start: before.is_none(),
            directions: directions(before, now, span),
            drops: drops(before, now, span),
            flushes: if is_gateway { events("flush", &causes) } else { Vec::new() },
            hold: quantiles("hold_ns"),
            sharing: quantiles("records_per_datagram"),
            lcores: LcoreRates::all(before, now, span),
            ports: PortRates::all(before, now, span),
            heartbeats: is_gateway.then(|| span.of(Some(&earlier("link")), &set(now, "link"), "heartbeats_accepted")),
            refused: happened(events("link", &|counter| counter.strip_prefix("refused_").map(str::to_owned))),
            verdicts: verdicts(before, now, span),
            farm: happened(events("farm", &|counter| Some(counter.to_owned()))),
            disk: DiskRates::of(before, now, span),
        }
    }
}

fn directions(before: Option<&Stats>, now: &Stats, span: Span) -> Vec<DirectionRates> {
    let rates = |(name, total): (&String, &Direction)| {
        let zero = Direction::default();
        let before = before.and_then(|before| before.directions.get(name)).unwrap_or(&zero);
        let came = Flow {
            records: span.rate(before.records_in, total.records_in),
            datagrams: span.rate(before.datagrams_in, total.datagrams_in),
            bytes: span.rate(before.bytes_in, total.bytes_in),
        };
        let left = Flow {
            records: span.rate(before.records_out, total.records_out),
            datagrams: span.rate(before.datagrams_out, total.datagrams_out),
            bytes: span.rate(before.bytes_out, total.bytes_out),
        };
        let saved = (left.records > 0.0).then(|| 1.0 - left.datagrams / left.records);
        DirectionRates { name: name.clone(), came, left, saved, total: total.clone() }
    };
    now.directions.iter().map(rates).collect()
}

fn drops(before: Option<&Stats>, now: &Stats, span: Span) -> Vec<Event> {
    let mut events = Vec::new();
    for (name, direction) in &now.directions {
        let earlier = before.and_then(|before| before.directions.get(name)).map(|direction| &direction.dropped);
        for (reason, total) in direction.dropped.iter().filter(|(_, total)| **total > 0) {
            let rate = span.of(earlier, &direction.dropped, reason);
            events.push(Event { what: format!("{name} {reason}"), rate, total: *total });
        }
    }
    events
}

fn verdicts(before: Option<&Stats>, now: &Stats, span: Span) -> Vec<Event> {
    let mut events = Vec::new();
    for interface in &now.interfaces {
        let earlier = before.and_then(|before| before.interfaces.iter().find(|earlier| earlier.port == interface.port));
        for (verdict, total) in interface.verdicts.iter().filter(|(_, total)| **total > 0) {
            let rate = span.of(earlier.map(|earlier| &earlier.verdicts), &interface.verdicts, verdict);
            events.push(Event { what: format!("{} {verdict}", interface.name), rate, total: *total });
        }
    }
    events
}
