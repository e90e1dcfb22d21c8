//! The parts of other programs' reports that the demo shows.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Of `gvm-dp stats --json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gateway {
    pub cpu_seconds: f64,
    pub settings: BTreeMap<String, String>,
    pub directions: BTreeMap<String, Direction>,
    /// Counters by name, by the name of their set.
    pub total: BTreeMap<String, BTreeMap<String, u64>>,
}

/// One direction of a gateway.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Direction {
    pub records_in: u64,
    pub records_out: u64,
    pub held: u64,
    pub consumed: u64,
    pub dropped: BTreeMap<String, u64>,
    pub unaccounted: i64,
    pub datagrams_in: u64,
    pub datagrams_out: u64,
}

/// Of `gvm-pktgen --json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Run {
    pub seconds: f64,
    pub down: Sent,
    pub echo: Checked,
    pub up: Checked,
    pub latency_ns: Latency,
}

/// What went down.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sent {
    pub records_per_second: f64,
}

/// What came up of one kind.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Checked {
    pub ok: u64,
    pub lost: u64,
    pub duplicate: u64,
    pub corrupted: u64,
}

/// Round trips.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Latency {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
}
