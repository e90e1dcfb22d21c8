//! The result of a run, for people and as JSON.

use crate::counters::Counters;
use crate::histogram::Histogram;
use serde::Serialize;
use std::fmt;

/// What went down.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Records.
    pub records: u64,
    /// Datagrams that they were packed into.
    pub datagrams: u64,
    /// Bytes of their payload.
    pub payload_bytes: u64,
    /// Records a second, while sending.
    pub records_per_second: f64,
    /// Records in a datagram, on average.
    pub records_per_datagram: f64,
    /// Records that the port could not send at all.
    pub dropped_tx: u64,
}

/// What came up of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Records with the right content, each for the first time.
    pub ok: u64,
    /// Records that did not come.
    pub lost: u64,
    /// Records that came twice.
    pub duplicate: u64,
    /// Those among `ok` that came after later ones of their slave.
    pub reordered: u64,
    /// Those among `ok` that were 64 or more behind: they may have come twice.
    pub late: u64,
    /// Records whose bytes were wrong.
    pub corrupted: u64,
    /// The longest time between two records of one slave, in nanoseconds.
    pub longest_gap_ns: u64,
}

/// What came in, whatever it was.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// Answers and PATTERN records.
    pub records: u64,
    /// Datagrams that had any of them.
    pub datagrams: u64,
    /// Records in a datagram, on average.
    pub records_per_datagram: f64,
    /// Share of packets that aggregation saved on the way up: `1 - datagrams / records`, in percent.
    pub saved_percent: f64,
    /// Records from another address than those that were asked.
    pub refused_source: u64,
    /// Records that nobody asked for.
    pub unexpected: u64,
    /// Datagram remainders that are no records.
    pub bad: u64,
    /// Packets that were lost before the port saw them, as far as the device says.
    pub rx_lost: u64,
}

/// Round trips of ECHO, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The average.
    pub mean: u64,
    /// Half of the round trips took at most this long.
    pub p50: u64,
    /// 99 % took at most this long.
    pub p99: u64,
    /// 99.9 % took at most this long.
    #[serde(rename = "p99.9")]
    pub p99_9: u64,
    /// The longest.
    pub max: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How long records were sent, in seconds.
    pub seconds: f64,
    /// Slaves that were asked.
    pub slaves: u32,
    /// What went down.
    pub down: Sent,
    /// The answers; `lost` is what was sent and not answered.
    pub echo: Checked,
    /// What slaves sent on their own; `lost` is what later ones show to be missing.
    pub up: Checked,
    /// All that came in.
    pub received: Received,
    /// Round trips.
    pub latency_ns: Latency,
    /// Times that a shard's cargo took another gateway than before.
    pub shard_moves: u64,
    /// Unanswered ECHOs that were given up so that the window could move on.
    pub window_given_up: u64,
    /// CPU time of the generator's lcore, in seconds.
    pub cpu_seconds: f64,
}

/// What was wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All well.
    Ok,
    /// Records were corrupted, came twice, or belonged to nobody.
    Content,
    /// Records were lost.
    Loss,
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Report {
    /// Reads the counters of a run that is over. `echo` says whether ECHO was sent.
    pub fn new(counters: &Counters, latency: &Histogram, slaves: u32, echo: bool) -> Self {
        let seconds = counters.sending_ns.get() as f64 / 1e9;
        let sent = counters.sent_records.get();
        let (records, datagrams) = (counters.cargo_in(), counters.cargo_datagrams_in.get());
        let answers = counters.echo_ok.get() + counters.echo_reordered.get() + counters.echo_late.get();
        Self {
            seconds,
            slaves,
            down: Sent {
                records: sent,
                datagrams: counters.sent_datagrams.get(),
                payload_bytes: counters.sent_bytes.get(),
                records_per_second: if seconds > 0.0 { sent as f64 / seconds } else { 0.0 },
                records_per_datagram: ratio(sent, counters.sent_datagrams.get()),
                dropped_tx: 0,
            },
            echo: Checked {
                ok: answers,
                lost: if echo { sent.saturating_sub(counters.answered()) } else { 0 },
                duplicate: counters.echo_duplicate.get(),
                reordered: counters.echo_reordered.get(),
                late: counters.echo_late.get(),
                corrupted: counters.echo_corrupted.get(),
                longest_gap_ns: counters.echo_gap_ns.get(),
            },
            up: Checked {
                ok: counters.up_ok.get() + counters.up_reordered.get() + counters.up_late.get(),
                lost: counters.up_lost(),
                duplicate: counters.up_duplicate.get(),
                reordered: counters.up_reordered.get(),
                late: counters.up_late.get(),
                corrupted: counters.up_corrupted.get(),
                longest_gap_ns: counters.up_gap_ns.get(),
            },
            received: Received {
                records,
                datagrams,
                records_per_datagram: ratio(records, datagrams),
                saved_percent: if records == 0 { 0.0 } else { 100.0 * (1.0 - ratio(datagrams, records)) },
                refused_source: counters.refused_source.get(),
                unexpected: counters.dropped_unexpected.get(),
                bad: counters.dropped_bad.get(),
                rx_lost: 0,
            },
            latency_ns: Latency {
                count: latency.count(),
                mean: latency.mean(),
                p50: latency.quantile(0.5),
                p99: latency.quantile(0.99),
                p99_9: latency.quantile(0.999),
                max: latency.max(),
            },
            shard_moves: counters.shard_moves.get(),
            window_given_up: counters.window_given_up.get(),
            cpu_seconds: 0.0,
        }
    }

    /// Whether the run went well; content errors are worse than loss.
    pub fn verdict(&self) -> Verdict {
        let wrong = |checked: &Checked| checked.corrupted + checked.duplicate;
        if wrong(&self.echo) + wrong(&self.up) + self.received.bad > 0 {
            Verdict::Content
        } else if self.echo.lost + self.up.lost + self.down.dropped_tx > 0 {
            Verdict::Loss
        } else {
            Verdict::Ok
        }
    }
}

/// Nanoseconds as people read them.
pub fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { down, echo, up, received, latency_ns, .. } = self;
        writeln!(
            f,
            "down      {} records in {} datagrams ({:.2} each), {:.0} records/s for {:.2} s to {} slaves",
            down.records, down.datagrams, down.records_per_datagram, down.records_per_second, self.seconds, self.slaves
        )?;
        writeln!(
            f,
            "up        {} records in {} datagrams ({:.2} each, {:.1} % of packets saved)",
            received.records, received.datagrams, received.records_per_datagram, received.saved_percent
        )?;
        writeln!(
            f,
            "          {:>12} {:>10} {:>10} {:>10} {:>10}",
            "ok", "lost", "duplicate", "reordered", "corrupted"
        )?;
        for (name, checked) in [("echo", echo), ("pattern", up)] {
            let Checked { ok, lost, duplicate, reordered, corrupted, .. } = checked;
            writeln!(f, "{name:<9} {ok:>12} {lost:>10} {duplicate:>10} {reordered:>10} {corrupted:>10}")?;
        }
        let others = [
            ("could not be sent", down.dropped_tx),
            ("packets lost before the port", received.rx_lost),
            ("records from strangers", received.refused_source),
            ("unexpected records", received.unexpected),
            ("bad records", received.bad),
            ("given up by the window", self.window_given_up),
            ("times a shard took another gateway", self.shard_moves),
        ];
        for (name, count) in others.into_iter().filter(|&(_, count)| count > 0) {
            writeln!(f, "          {count} {name}")?;
        }
        if latency_ns.count > 0 {
            writeln!(
                f,
                "latency   p50 {}, p99 {}, p99.9 {}, max {}",
                duration(latency_ns.p50),
                duration(latency_ns.p99),
                duration(latency_ns.p99_9),
                duration(latency_ns.max)
            )?;
        }
        let million = (down.records + received.records) as f64 / 1e6;
        let each = if million > 0.0 { self.cpu_seconds / million } else { 0.0 };
        write!(f, "cpu       {:.2} s, {each:.2} s per million records", self.cpu_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Counters {
        let counters = Counters::default();
        counters.sent_records.add(100);
        counters.sent_datagrams.add(10);
        counters.sending_ns.set(2_000_000_000);
        counters.echo_ok.add(97);
        counters.echo_reordered.add(3);
        counters.cargo_datagrams_in.add(25);
        counters
    }

    #[test]
    fn a_good_run() {
        let report = Report::new(&counters(), &Histogram::default(), 7, true);
        assert_eq!((report.echo.ok, report.echo.lost, report.verdict()), (100, 0, Verdict::Ok));
        assert_eq!((report.down.records_per_second, report.received.saved_percent), (50.0, 75.0));
        let text = report.to_string();
        assert!(text.starts_with("down      100 records in 10 datagrams (10.00 each), 50 records/s"), "{text}");
        assert!(!text.contains("latency"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["echo"]["lost"].as_u64(), json["latency_ns"]["p99.9"].as_u64()), (Some(0), Some(0)));
    }

    #[test]
    fn content_weighs_more_than_loss() {
        let bad = counters();
        bad.sent_records.add(5);
        assert_eq!(Report::new(&bad, &Histogram::default(), 7, true).verdict(), Verdict::Loss);
        assert_eq!(Report::new(&bad, &Histogram::default(), 7, false).verdict(), Verdict::Ok);
        bad.echo_duplicate.add(1);
        assert_eq!(Report::new(&bad, &Histogram::default(), 7, true).verdict(), Verdict::Content);
        let up = counters();
        up.up_gap.add(2);
        up.up_reordered.add(1);
        assert_eq!(Report::new(&up, &Histogram::default(), 7, true).verdict(), Verdict::Loss);
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(
            [9_999, 10_000, 1_234_567, 12_345_678].map(duration),
            ["9999 ns", "10.0 us", "1234.6 us", "12.3 ms"]
        );
    }
}
