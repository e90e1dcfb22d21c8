//! The names of counters in Prometheus.
//!
//! A name has three parts: the set's name without `Counters`, the counter's own name, and `_total` for counters that
//! only grow: `LcoreCounters::polls` is `gvm_dp_lcore_polls_total`. Some counters count one thing by reasons. They
//! share a family, and the rest of their name is a label: `DirectionCounters::dropped_no_route` is
//! `gvm_dp_direction_dropped_total{reason="no_route"}`.
//!
//! Prometheus wants base units: nanoseconds, `busy_ns`, are seconds there, `busy_seconds`.

use frame::counter::Kind;

/// The prefix of all names.
pub const PREFIX: &str = "gvm_dp";

/// Prefixes of names that make a family, and the label that the rest becomes.
const GROUPS: [(&str, &str); 8] = [
    ("dropped", "reason"),
    ("rx_dropped", "reason"),
    ("tx_dropped", "reason"),
    ("rx_lost", "reason"),
    ("refused", "reason"),
    ("rx_paused", "reason"),
    ("flush", "cause"),
    ("rx_bursts", "size"),
];

/// The name of one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricName<'a> {
    /// The name of its family.
    pub family: String,
    /// The label that distinguishes it in its family, and the value of the label.
    pub member: Option<(&'static str, &'a str)>,
}

/// The name of a set: `LcoreCounters` is `lcore`, `FlushHistograms` is `flush`.
pub fn set_name(type_name: &str) -> String {
    let name = type_name.strip_suffix("Counters").or_else(|| type_name.strip_suffix("Histograms")).unwrap_or(type_name);
    let mut text = String::with_capacity(name.len() + 2);
    for (at, c) in name.char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// The suffix of counters of nanoseconds.
const NANOSECONDS: &str = "_ns";

/// Whether a counter counts nanoseconds.
pub fn is_time(counter: &str) -> bool {
    counter.ends_with(NANOSECONDS)
}

/// The name of a histogram of the set with this type.
pub fn of_histogram(type_name: &str, histogram: &str) -> String {
    format!("{PREFIX}_{}_{}", set_name(type_name), in_base_units(histogram))
}

fn in_base_units(counter: &str) -> String {
    counter.strip_suffix(NANOSECONDS).map_or_else(|| counter.to_owned(), |what| format!("{what}_seconds"))
}

/// The name of a counter of the set with this type.
pub fn of<'a>(type_name: &str, counter: &'a str, kind: Kind) -> MetricName<'a> {
    let set = set_name(type_name);
    let total = if kind == Kind::Gauge { "" } else { "_total" };
    let group = GROUPS.iter().find_map(|(group, label)| {
        let rest = counter.strip_prefix(group)?.strip_prefix('_')?;
        Some((*group, *label, rest))
    });
    match group {
        // The set is about the flush causes itself.
        Some((group, label, rest)) if group == set => {
            MetricName { family: format!("{PREFIX}_{set}{total}"), member: Some((label, rest)) }
        }
        Some((group, label, rest)) => {
            MetricName { family: format!("{PREFIX}_{set}_{group}{total}"), member: Some((label, rest)) }
        }
        None => MetricName { family: format!("{PREFIX}_{set}_{}{total}", in_base_units(counter)), member: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_derived() {
        for (set, counter, kind, family, member) in [
            ("LcoreCounters", "polls", Kind::Counter, "gvm_dp_lcore_polls_total", None),
            ("PoolCounters", "frames_free", Kind::Gauge, "gvm_dp_pool_frames_free", None),
            ("LcoreCounters", "busy_ns", Kind::Counter, "gvm_dp_lcore_busy_seconds_total", None),
            ("UdpCounters", "rx_lost", Kind::Counter, "gvm_dp_udp_rx_lost_total", None),
            ("XdpCounters", "rx_lost_kernel", Kind::Counter, "gvm_dp_xdp_rx_lost_total", Some(("reason", "kernel"))),
            ("FlushCounters", "flush_hold", Kind::Counter, "gvm_dp_flush_total", Some(("cause", "hold"))),
            ("LcoreCounters", "rx_bursts_64", Kind::Counter, "gvm_dp_lcore_rx_bursts_total", Some(("size", "64"))),
            (
                "DirectionCounters",
                "dropped_no_route",
                Kind::Counter,
                "gvm_dp_direction_dropped_total",
                Some(("reason", "no_route")),
            ),
        ] {
            assert_eq!(of(set, counter, kind), MetricName { family: family.to_owned(), member }, "{counter}");
        }
        assert_eq!(of_histogram("FlushHistograms", "hold_ns"), "gvm_dp_flush_hold_seconds");
        assert_eq!(of_histogram("FlushHistograms", "records"), "gvm_dp_flush_records");
        assert!(is_time("busy_ns") && !is_time("columns"));
        assert_eq!((&*set_name("FlushHistograms"), &*set_name("TwoWordsCounters")), ("flush", "two_words"));
    }
}
