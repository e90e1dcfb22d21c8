//! The figures as a person reads them.

use crate::figures::{Content, Direction, Figures, RoundTrip};
use bench::report::grouped;
use std::fmt::Write as _;

/// The table.
pub(crate) fn of(figures: &Figures) -> String {
    let mut text = String::new();
    let nothing = Direction::default();
    let down = figures.directions.get("down").unwrap_or(&nothing);
    let up = figures.directions.get("up").unwrap_or(&nothing);
    let _ = writeln!(
        text,
        "{} slaves behind {} gateways, registered after {} ms; hold {}; {:.1} s under load, {} records/s downward",
        grouped(figures.slaves.into()),
        figures.gateways,
        figures.registered_after_ms,
        figures.hold,
        figures.seconds,
        grouped(figures.records_per_second_down as u64)
    );
    let _ = writeln!(text, "\n{:<36}{:>16}{:>16}", "", "down to slaves", "up to master");
    type Row = (&'static str, fn(&Direction) -> u64);
    let rows: [Row; 6] = [
        ("records in", |d| d.records_in),
        ("records out", |d| d.records_out),
        ("records held now", |d| d.held),
        ("records dropped", Direction::dropped),
        ("packets in", |d| d.datagrams_in),
        ("packets out", |d| d.datagrams_out),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<36}{:>16}{:>16}", grouped(value(down)), grouped(value(up)));
    }
    let each = |d: &Direction| if d.datagrams_out == 0 { 0.0 } else { d.records_out as f64 / d.datagrams_out as f64 };
    let _ = writeln!(text, "{:<36}{:>16.1}{:>16.1}", "records in a packet out", each(down), each(up));
    let _ = writeln!(text, "{:<36}{:>14.1} %{:>14.1} %", "packets saved", down.saved_percent, up.saved_percent);
    for (name, direction) in [("down", down), ("up", up)] {
        for (reason, count) in direction.records_dropped.iter().filter(|(_, count)| **count > 0) {
            let _ = writeln!(text, "dropped on the way {name}: {} ({reason})", grouped(*count));
        }
        if direction.unaccounted != 0 {
            let _ = writeln!(text, "NOT ACCOUNTED FOR on the way {name}: {} records", direction.unaccounted);
        }
    }
    let causes: Vec<String> = figures
        .flush_causes
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(cause, count)| format!("{cause} {}", grouped(*count)))
        .collect();
    let _ = writeln!(text, "\n{:<36}{}", "why packets left", causes.join(", "));
    let _ = writeln!(text, "{:<36}{}", "forwarded as they came, full", grouped(figures.forwarded_whole));
    content(&mut text, "echo: sent down, answered, compared", figures.echo);
    content(&mut text, "slaves' own records, compared", figures.pattern);
    let _ = writeln!(text, "\nround trip of a single record        median        99 %");
    round_trip(&mut text, "through a gateway", figures.latency_ns.with_gateway);
    round_trip(&mut text, "without a gateway", figures.latency_ns.without_gateway);
    let _ = writeln!(
        text,
        "\n{:<36}{:.2} s for a million records ({:.2} s in all, sockets' system calls included)",
        "CPU time of the gateways", figures.cpu_seconds_per_million_records, figures.cpu_seconds
    );
    text
}

fn content(text: &mut String, name: &str, content: Content) {
    let Content { ok, lost, duplicate, corrupted } = content;
    let _ = writeln!(
        text,
        "{name:<36}{} right, {} lost, {} twice, {} corrupted",
        grouped(ok),
        grouped(lost),
        grouped(duplicate),
        grouped(corrupted)
    );
}

fn round_trip(text: &mut String, name: &str, RoundTrip { p50, p99, .. }: RoundTrip) {
    let us = |ns: u64| format!("{:.0} us", ns as f64 / 1e3);
    let _ = writeln!(text, "  {name:<34}{:>8}{:>12}", us(p50), us(p99));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::figures;

    #[test]
    fn a_person_finds_what_matters() {
        let text = of(&figures());
        for part in [
            "10,000 slaves behind 2 gateways, registered after 1200 ms; hold 50us",
            "packets saved                                 93.3 %          90.0 %",
            "dropped on the way down: 12 (no_route)",
            "why packets left                    full 120, hold 12",
            "2,000 right, 0 lost, 0 twice, 0 corrupted",
            "through a gateway                   120 us      900 us",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("spoofed") && !text.contains("NOT ACCOUNTED"), "{text}");
    }

    #[test]
    fn what_is_missing_is_loud() {
        let mut figures = figures();
        figures.directions.get_mut("up").unwrap().unaccounted = -3;
        assert!(of(&figures).contains("NOT ACCOUNTED FOR on the way up: -3 records"));
    }
}
