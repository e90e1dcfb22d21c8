//! The exposed metrics: every counter of every set, and the properties of the process.

use super::text::{Exposition, Labels, Type};
use super::{health, name};
use crate::board::Board;
use api::applications::ServingStats;
use api::lending::LendingStats;
use api::stats::InterfaceStats;
use frame::counter::{CounterSet, Kind};
use frame::histogram::HistogramSet;
use frame::time::SECOND;
use std::fmt;

/// Adds every counter of a set.
pub fn counters(text: &mut Exposition, set: &dyn CounterSet, labels: &Labels<'_>) {
    let of = set.name();
    set.visit(&mut |counter, help, value| {
        let kind = set.kind(counter);
        let name = name::of(of, counter, kind);
        let kind = if kind == Kind::Gauge { Type::Gauge } else { Type::Counter };
        let (value, help) = (in_base_units(counter, value), help.replace("Nanoseconds", "Seconds"));
        let help = help.replace("in nanoseconds", "in seconds");
        match name.member {
            None => text.sample(&name.family, kind, &help, labels, value),
            Some(member) => {
                let labels: Vec<(&str, &str)> = labels.iter().copied().chain([member]).collect();
                text.member(&name.family, kind, &help, &labels, value);
            }
        }
    });
}

/// Adds every histogram of a set.
pub fn histograms(text: &mut Exposition, set: &dyn HistogramSet, labels: &Labels<'_>) {
    let of = set.name();
    set.visit_histograms(&mut |histogram, help, snapshot| {
        let units = |value| in_base_units(histogram, value);
        let buckets = snapshot.buckets.iter().map(|bucket| (bucket.bound.map(units), bucket.count));
        let help = help.replace("Nanoseconds", "Seconds");
        text.histogram(&name::of_histogram(of, histogram), &help, labels, buckets, units(snapshot.sum));
    });
}

/// A value in the unit that Prometheus wants: times in seconds, others unchanged.
fn in_base_units(counter: &str, value: u64) -> Value {
    if name::is_time(counter) { Value::Seconds(value) } else { Value::Whole(value) }
}

/// A value of a sample.
#[derive(Clone, Copy)]
enum Value {
    Whole(u64),
    /// In nanoseconds; written as seconds, exactly.
    Seconds(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Seconds(ns) if ns % SECOND == 0 => (ns / SECOND).fmt(f),
            Self::Seconds(ns) => {
                let fraction = format!("{:09}", ns % SECOND);
                write!(f, "{}.{}", ns / SECOND, fraction.trim_end_matches('0'))
            }
        }
    }
}

/// The answer to a scrape.
pub fn all(board: &Board) -> String {
    let mut text = Exposition::default();
    process(&mut text, board);
    for lcore in board.lcores() {
        let view = &lcore.view;
        let index = view.index.to_string();
        let here = [("lcore", &*index)];
        let (core, cores) = (lcore.core().map_or_else(String::new, |core| core.to_string()), lcore.cores());
        let memory = view.backing.to_string();
        let labels = [("lcore", &*index), ("core", &*core), ("cores", &*cores), ("memory", &*memory)];
        text.sample(
            "gvm_dp_lcore_info",
            Type::Gauge,
            "An lcore: the core it is pinned to and the cores on which it may run now, and what its frames are made \
             of.",
            &labels,
            1,
        );
        let help = "CPU seconds of the lcore's thread.";
        text.sample("gvm_dp_lcore_cpu_seconds_total", Type::Counter, help, &here, lcore.cpu_seconds());
        let help = "1 while the watchdog sees that the lcore stands still.";
        text.sample("gvm_dp_lcore_standing", Type::Gauge, help, &here, u8::from(lcore.is_standing()));
        counters(&mut text, &*view.lcore, &here);
        counters(&mut text, &*view.pool, &here);
        counters(&mut text, &*view.stages, &here);
        counters(&mut text, &*view.outbox, &here);
        lcore.role.visit(&mut |direction, set| match direction {
            Some(direction) => counters(&mut text, set, &[("lcore", &*index), ("direction", direction)]),
            None => counters(&mut text, set, &here),
        });
        if let Some(set) = lcore.role.histograms() {
            histograms(&mut text, set, &here);
        }
        for port in &view.ports {
            let (id, mtu, description) = (port.id.0.to_string(), port.about.mtu().to_string(), port.about.describe());
            let labels = [("lcore", &*index), ("port", &*id), ("description", &*description), ("mtu", &*mtu)];
            text.sample("gvm_dp_port_info", Type::Gauge, "A port of an lcore: what it is.", &labels, 1);
            counters(&mut text, &*port.counters, &[("lcore", &*index), ("port", &*id)]);
        }
    }
    text.finish()
}

/// The properties of the process as a whole, and of its interfaces.
fn process(text: &mut Exposition, board: &Board) {
    let version = env!("CARGO_PKG_VERSION");
    let build = [("version", version), ("role", board.role), ("name", &*board.name)];
    text.sample("gvm_dp_build_info", Type::Gauge, "The process: version, role and name.", &build, 1);
    let settings = board.settings.all();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    text.sample("gvm_dp_settings_info", Type::Gauge, "What the process was told.", &settings, 1);
    let uptime = "Seconds since the process started.";
    text.sample("gvm_dp_uptime_seconds", Type::Gauge, uptime, &[], board.uptime_seconds());
    let draining = "1 while the process drains.";
    text.sample("gvm_dp_draining", Type::Gauge, draining, &[], u8::from(board.is_draining()));
    let live = "1 while no lcore stands still, as /live says it.";
    text.sample("gvm_dp_live", Type::Gauge, live, &[], u8::from(health::not_live(board).is_empty()));
    let ready = "1 while the process can take traffic, as /ready says it.";
    text.sample("gvm_dp_ready", Type::Gauge, ready, &[], u8::from(health::not_ready(board).is_empty()));
    for (name, direction) in board.directions() {
        let help = "Records that came in and are neither held, consumed, dropped nor sent: zero when nothing moves, \
            under load a small \
                    number of either sign.";
        let labels = [("direction", &*name)];
        text.sample("gvm_dp_records_unaccounted", Type::Gauge, help, &labels, direction.unaccounted);
    }
    counters(text, &board.control, &[]);
    if let Some(link) = &board.link {
        counters(text, &**link, &[]);
    }
    for nic in &board.interfaces {
        interface(text, &nic.stats());
    }
    if let Some(view) = &board.lending {
        lending(text, &view.stats(board.clock().now()));
    }
    if let Some(view) = &board.serving {
        serving(text, &view.stats());
    }
}

/// Adds the memory that a slave lends.
pub fn lending(text: &mut Exposition, lending: &LendingStats) {
    let bytes = |units: u64| units * lending.unit_bytes;
    let state = "Memory that a slave lends, by its state.";
    for (name, units) in [("free", lending.free), ("dirty", lending.dirty), ("leased", lending.leased)] {
        text.sample("gvm_dp_lent_memory_bytes", Type::Gauge, state, &[("state", name)], bytes(units));
    }
    let limit = "The most memory that may be lent now.";
    text.sample("gvm_dp_lent_memory_limit_bytes", Type::Gauge, limit, &[], bytes(lending.limit));
    let recalled = "Leased memory that is recalled and not given back yet.";
    text.sample("gvm_dp_lent_memory_recalled_bytes", Type::Gauge, recalled, &[], bytes(lending.recalled));
    if let (Some(available), Some(keep)) = (lending.host_available_bytes, lending.keep_free_bytes) {
        let help = "Memory that the host, or the cgroup of the process, has left.";
        text.sample("gvm_dp_host_available_bytes", Type::Gauge, help, &[], available);
        let help = "Memory that the host keeps free.";
        text.sample("gvm_dp_host_keep_free_bytes", Type::Gauge, help, &[], keep);
    }
    for lease in &lending.leases {
        let (id, master) = (lease.id.to_string(), lease.master.to_string());
        let help = "Memory that a master has of a slave id.";
        let labels = [("id", &*id), ("master", &*master)];
        text.sample("gvm_dp_lease_bytes", Type::Gauge, help, &labels, bytes(lease.units.into()));
    }
}

/// Adds the applications that a master serves, and their areas.
pub fn serving(text: &mut Exposition, serving: &ServingStats) {
    for of in &serving.applications {
        let (connection, pid, user) = (of.connection.to_string(), of.pid.to_string(), of.user.to_string());
        let labels = [
            ("connection", &*connection),
            ("application", &*of.name),
            ("pid", &*pid),
            ("user", &*user),
            ("area", of.area.as_deref().unwrap_or("")),
        ];
        let help = "Memory of slaves that an application has.";
        let bytes = u64::from(of.extents) * serving.extent_bytes;
        text.sample("gvm_dp_application_memory_bytes", Type::Gauge, help, &labels, bytes);
        let all = [
            ("gvm_dp_application_requests_total", "Requests of an application that ended.", of.requests),
            ("gvm_dp_application_failures_total", "Requests of an application that failed.", of.failures),
            ("gvm_dp_application_read_bytes_total", "Bytes that an application read.", of.bytes_read),
            ("gvm_dp_application_written_bytes_total", "Bytes that an application wrote.", of.bytes_written),
        ];
        for (name, help, value) in all {
            text.sample(name, Type::Counter, help, &labels, value);
        }
    }
    for area in &serving.areas {
        let user = area.user.to_string();
        let labels = [("area", &*area.name), ("user", &*user)];
        let bytes = |extents: u32| u64::from(extents) * serving.extent_bytes;
        let help = "Memory of slaves that an area has, lost memory included.";
        text.sample("gvm_dp_area_memory_bytes", Type::Gauge, help, &labels, bytes(area.extents));
        let help = "Memory of an area that is lost.";
        text.sample("gvm_dp_area_lost_bytes", Type::Gauge, help, &labels, bytes(area.lost));
        let help = "1 while an application has the area.";
        text.sample("gvm_dp_area_in_use", Type::Gauge, help, &labels, u8::from(area.state == "in use"));
    }
}

/// Adds an interface whose queues are ports.
pub fn interface(text: &mut Exposition, interface: &InterfaceStats) {
    let (port, mtu) = (interface.port.to_string(), interface.mtu.to_string());
    let (queues, ring) = (interface.queues.to_string(), interface.ring.to_string());
    let (index, served) = (interface.index.to_string(), interface.queues_served.to_string());
    let labels = [
        ("port", &*port),
        ("interface", &*interface.name),
        ("index", &*index),
        ("link", &*interface.link),
        ("address", &*interface.address),
        ("mode", &*interface.mode),
        ("asked", &*interface.asked),
        ("mtu", &*mtu),
        ("queues", &*queues),
        ("queues_served", &*served),
        ("ring", &*ring),
    ];
    text.sample("gvm_dp_interface_info", Type::Gauge, "An interface whose queues are ports.", &labels, 1);
    for (verdict, packets) in &interface.verdicts {
        let help = "Packets by what the XDP program decided.";
        let labels = [("port", &*port), ("verdict", &**verdict)];
        text.sample("gvm_dp_xdp_verdicts_total", Type::Counter, help, &labels, packets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_to_the_nanosecond() {
        let text = |ns| in_base_units("busy_ns", ns).to_string();
        assert_eq!([0, 1, 1_500_000_000, 2_000_000_000].map(text), ["0", "0.000000001", "1.5", "2"]);
        assert_eq!(text(u64::MAX), "18446744073.709551615");
        assert_eq!(in_base_units("polls", 1_500_000_000).to_string(), "1500000000");
    }
}
