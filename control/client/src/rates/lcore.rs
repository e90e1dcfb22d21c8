//! What one lcore does.

use super::span::{Counters, Span, value};
use api::stats::{LcoreStats, Stats};

/// The work of one lcore between two samples.
#[derive(Clone, Debug)]
pub struct LcoreRates {
    /// Its number among the lcores.
    pub index: u16,
    /// The core that it is pinned to. If it should be pinned and is not: the cores on which it may run. Otherwise
    /// `None`.
    pub core: Option<String>,
    /// The stage of its poll.
    pub stage: String,
    /// Whether it stands still.
    pub standing: bool,
    /// Share of the time in polls that did work.
    pub busy: f64,
    /// Share of a core that its thread used.
    pub cpu: f64,
    /// Records received per second.
    pub records: f64,
    /// Nanoseconds in busy polls per received record; `None` if none were received.
    pub ns_per_record: Option<f64>,
    /// Datagrams per burst that was not empty.
    pub burst: Option<f64>,
    /// Sleeps per second.
    pub sleeps: f64,
    /// Polls without receiving, per second.
    pub paused: f64,
    /// Link control messages that waited or were lost because a mailbox was full, per second.
    pub delayed: f64,
    /// Packets lost before its ports saw them, per second.
    pub lost: f64,
    /// Frames that are free.
    pub frames_free: u64,
    /// The most frames that were in use at once.
    pub frames_most: u64,
    /// All frames.
    pub frames: u64,
    /// The memory that they use.
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
