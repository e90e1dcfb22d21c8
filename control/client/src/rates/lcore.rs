//! What one lcore does.

use super::span::{Counters, Span, value};
use api::stats::{LcoreStats, Stats};

/// One lcore between two looks.
#[derive(Clone, Debug)]
pub struct LcoreRates {
    /// Its place among the lcores.
    pub index: u16,
    /// The core it is pinned to; if it should be and is not, the cores on which it may run; else nothing.
    pub core: Option<String>,
    /// Where in its poll it was.
    pub stage: String,
    /// Whether it stands still.
    pub standing: bool,
    /// Share of the time in polls that did something.
    pub busy: f64,
    /// Share of a core that its thread used.
    pub cpu: f64,
    /// Records that came in, in a second.
    pub records: f64,
    /// Nanoseconds in busy polls for each of them; nothing when none came.
    pub ns_per_record: Option<f64>,
    /// Datagrams in a burst that was not empty.
    pub burst: Option<f64>,
    /// Times it slept, in a second.
    pub sleeps: f64,
    /// Polls without receiving, in a second.
    pub paused: f64,
    /// Link control that waited or was lost for a full mailbox, in a second.
    pub delayed: f64,
    /// Packets lost before its ports saw them, in a second.
    pub lost: f64,
    /// Frames that are free.
    pub frames_free: u64,
    /// The most frames that were in use at once.
    pub frames_most: u64,
    /// Frames in all.
    pub frames: u64,
    /// What they are made of.
    pub memory: String,
}

impl LcoreRates {
    pub(super) fn all(before: Option<&Stats>, now: &Stats, span: Span) -> Vec<Self> {
        let find = |index: u16| before.and_then(|before| before.lcores.iter().find(|lcore| lcore.index == index));
        now.lcores.iter().map(|lcore| Self::new(find(lcore.index), lcore, span)).collect()
    }

    fn new(before: Option<&LcoreStats>, now: &LcoreStats, span: Span) -> Self {
        let none = Counters::new();
        let counters = |name: &str| now.sets.get(name).unwrap_or(&none);
        let rate = |set: &str, name: &str| span.of(before.and_then(|before| before.sets.get(set)), counters(set), name);
        let busy_ns = rate("lcore", "busy_ns");
        let records = ["down", "up", "farm"].iter().map(|set| rate(set, "records_in")).sum();
        let bursts: f64 = counters("lcore")
            .keys()
            .filter(|name| name.starts_with("rx_bursts_"))
            .map(|name| rate("lcore", name))
            .sum();
        let pool = |name: &str| value(counters("pool"), name);
        let cpu = now.cpu_seconds - before.map_or(0.0, |before| before.cpu_seconds);
        Self {
            index: now.index,
            core: now.core.map(|core| core.to_string()).or_else(|| now.asked_core.map(|_| now.cores.clone())),
            stage: now.stage.clone(),
            standing: now.standing,
            busy: busy_ns / 1e9,
            cpu: cpu.max(0.0) / span.seconds,
            records,
            ns_per_record: (records > 0.0).then(|| busy_ns / records),
            burst: (bursts > 0.0).then(|| rate("lcore", "rx_datagrams") / bursts),
            sleeps: rate("lcore", "sleeps"),
            paused: rate("lcore", "rx_paused_backlog") + rate("lcore", "rx_paused_pool"),
            delayed: rate("lcore", "control_delayed") + rate("outbox", "link_dropped_mailbox_full"),
            lost: rate("lcore", "rx_lost"),
            frames_free: pool("frames_free"),
            frames_most: pool("frames_high_water"),
            frames: pool("frames_capacity"),
            memory: now.memory.clone(),
        }
    }
}
