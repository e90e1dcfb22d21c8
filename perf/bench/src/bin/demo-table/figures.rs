//! The figures: all gateways together.

use crate::input::{self, Checked, Latency, Run};
use serde::Serialize;
use std::collections::BTreeMap;

/// One direction of cargo. `records_in = records_out + held + consumed + sum(records_dropped) + unaccounted`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Direction {
    pub records_in: u64,
    pub records_out: u64,
    pub held: u64,
    pub consumed: u64,
    pub records_dropped: BTreeMap<String, u64>,
    pub unaccounted: i64,
    pub datagrams_in: u64,
    pub datagrams_out: u64,
    /// `100 * (1 - datagrams_out / records_out)`.
    pub saved_percent: f64,
}

/// What the ends of the system found when they compared what arrived with what was sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Content {
    pub ok: u64,
    pub lost: u64,
    pub duplicate: u64,
    pub corrupted: u64,
}

/// A round trip, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RoundTrip {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
}

/// Round trips of ECHO at a low rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RoundTrips {
    pub with_gateway: RoundTrip,
    pub without_gateway: RoundTrip,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub slaves: u32,
    pub gateways: usize,
    pub hold: String,
    pub registered_after_ms: u64,
    pub seconds: f64,
    pub records_per_second_down: f64,
    pub directions: BTreeMap<String, Direction>,
    pub flush_causes: BTreeMap<String, u64>,
    pub forwarded_whole: u64,
    pub latency_ns: RoundTrips,
    pub cpu_seconds: f64,
    pub cpu_seconds_per_million_records: f64,
    /// ECHO and its answers, compared by the master.
    pub echo: Content,
    /// What slaves sent on their own, compared by the master.
    pub pattern: Content,
}

impl From<&Checked> for Content {
    fn from(checked: &Checked) -> Self {
        let Checked { ok, lost, duplicate, corrupted } = *checked;
        Self { ok, lost, duplicate, corrupted }
    }
}

impl From<Latency> for RoundTrip {
    fn from(Latency { count, p50, p99 }: Latency) -> Self {
        Self { count, p50, p99 }
    }
}

impl Direction {
    fn add(&mut self, of: &input::Direction) {
        self.records_in += of.records_in;
        self.records_out += of.records_out;
        self.held += of.held;
        self.consumed += of.consumed;
        self.unaccounted += of.unaccounted;
        self.datagrams_in += of.datagrams_in;
        self.datagrams_out += of.datagrams_out;
        for (reason, count) in &of.dropped {
            *self.records_dropped.entry(reason.clone()).or_default() += count;
        }
        if self.records_out > 0 {
            self.saved_percent = 100.0 * (1.0 - self.datagrams_out as f64 / self.records_out as f64);
        }
    }

    /// Records dropped, whatever the reason.
    pub(crate) fn dropped(&self) -> u64 {
        self.records_dropped.values().sum()
    }
}

impl Figures {
    /// Sums the gateways up.
    pub(crate) fn new(
        slaves: u32,
        registered_after_ms: u64,
        gateways: &[input::Gateway],
        load: &Run,
        through: &Run,
        direct: &Run,
    ) -> Self {
        let mut directions: BTreeMap<String, Direction> = BTreeMap::new();
        let mut flush_causes: BTreeMap<String, u64> = BTreeMap::new();
        let mut forwarded_whole = 0;
        for gateway in gateways {
            for (name, direction) in &gateway.directions {
                directions.entry(name.clone()).or_default().add(direction);
            }
            let flush = gateway.total.get("flush").into_iter().flatten();
            for (name, count) in flush {
                match name.strip_prefix("flush_") {
                    Some(cause) => *flush_causes.entry(cause.to_owned()).or_default() += count,
                    None if name == "forwarded_whole" => forwarded_whole += count,
                    None => {}
                }
            }
        }
        let cpu_seconds: f64 = gateways.iter().map(|gateway| gateway.cpu_seconds).sum();
        let records: u64 = directions.values().map(|direction| direction.records_in).sum();
        let hold = gateways.first().and_then(|gateway| gateway.settings.get("hold"));
        Self {
            slaves,
            gateways: gateways.len(),
            hold: hold.cloned().unwrap_or_default(),
            registered_after_ms,
            seconds: load.seconds,
            records_per_second_down: load.down.records_per_second,
            directions,
            flush_causes,
            forwarded_whole,
            latency_ns: RoundTrips {
                with_gateway: through.latency_ns.into(),
                without_gateway: direct.latency_ns.into(),
            },
            cpu_seconds,
            cpu_seconds_per_million_records: if records == 0 { 0.0 } else { cpu_seconds * 1e6 / records as f64 },
            echo: (&load.echo).into(),
            pattern: (&load.up).into(),
        }
    }

    /// Whether every record that came in is somewhere, none was changed, and none came twice. What a full socket buffer
    /// lost between the processes is reported, and is no fault.
    pub(crate) fn is_accounted_for(&self) -> bool {
        let content = [self.echo, self.pattern];
        let is_whole = content.iter().all(|content| content.corrupted + content.duplicate == 0);
        is_whole && self.directions.values().all(|direction| direction.unaccounted == 0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two gateways with the same counters, and runs.
    pub(crate) fn figures() -> Figures {
        let gateway = r#"{
            "cpu_seconds": 1.5, "settings": {"hold": "50us"}, "name": "gateway-0",
            "directions": {
                "down": {"records_in": 1000, "records_out": 990, "held": 4, "consumed": 0, "unaccounted": 0,
                         "dropped": {"no_route": 6, "spoofed": 0}, "datagrams_in": 1000, "datagrams_out": 66},
                "up": {"records_in": 500, "records_out": 500, "held": 0, "consumed": 0, "unaccounted": 0,
                       "dropped": {}, "datagrams_in": 500, "datagrams_out": 50}
            },
            "total": {"flush": {"flush_full": 60, "flush_hold": 6, "forwarded_whole": 3, "buffers_open": 1}}
        }"#;
        let run = r#"{
            "seconds": 2.0, "slaves": 10, "down": {"records": 2000, "records_per_second": 1000.0},
            "echo": {"ok": 2000, "lost": 0, "duplicate": 0, "corrupted": 0},
            "up": {"ok": 100, "lost": 1, "duplicate": 0, "corrupted": 0},
            "latency_ns": {"count": 9, "p50": 120000, "p99": 900000, "max": 5}
        }"#;
        let gateway: input::Gateway = serde_json::from_str(gateway).unwrap();
        let run: Run = serde_json::from_str(run).unwrap();
        Figures::new(10_000, 1200, &[gateway.clone(), gateway], &run, &run, &run)
    }

    #[test]
    fn gateways_are_summed_up() {
        let figures = figures();
        let down = &figures.directions["down"];
        assert_eq!((down.records_in, down.records_out, down.held, down.dropped()), (2000, 1980, 8, 12));
        assert!((down.saved_percent - 100.0 * (1.0 - 132.0 / 1980.0)).abs() < 1e-9);
        assert_eq!((figures.flush_causes["full"], figures.flush_causes.len(), figures.forwarded_whole), (120, 2, 6));
        assert!((figures.cpu_seconds_per_million_records - 1000.0).abs() < 1e-9);
        assert!(figures.is_accounted_for());
    }

    #[test]
    fn what_is_missing_or_wrong_is_noticed() {
        let mut missing = figures();
        missing.directions.get_mut("up").unwrap().unaccounted = 1;
        assert!(!missing.is_accounted_for());
        let mut wrong = figures();
        wrong.pattern.corrupted = 1;
        assert!(!wrong.is_accounted_for());
    }
}
