//! The requests of a disk's clients between two samples.

use super::quantile::Quantiles;
use super::span::{Span, value};
use api::stats::Stats;

/// Requests of one kind.
#[derive(Clone, Debug)]
pub struct RequestRates {
    /// READ, WRITE or others.
    pub kind: &'static str,
    /// Per second.
    pub rate: f64,
    /// Bytes per second.
    pub bytes: f64,
    /// How long they took, in nanoseconds; `None` if none ended.
    pub took: Option<Quantiles>,
    /// Since the start.
    pub total: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct DiskRates {
    /// READs, WRITEs, and all others.
    pub requests: Vec<RequestRates>,
    /// Requests that failed, by error: per second, and since the start.
    pub failed: Vec<(&'static str, f64, u64)>,
    /// Requests under way.
    pub pending: u64,
}

/// The kinds: the counters of their requests and of their bytes, and their histogram.
const KINDS: [(&str, &[&str], &[&str], &str); 3] = [
    ("READ", &["reads"], &["disk_bytes_read"], "disk_read_ns"),
    ("WRITE", &["writes"], &["disk_bytes_written"], "disk_write_ns"),
    ("others", &["writes_of_zeros", "trims", "other_requests"], &[], "disk_other_ns"),
];

/// Errors, and their counters.
const FAILED: [(&str, &str); 3] =
    [("EIO", "requests_failed_io"), ("ENOSPC", "requests_failed_no_space"), ("refused", "requests_refused")];

impl DiskRates {
    /// Of a disk; `None` of any other process.
    pub(super) fn of(before: Option<&Stats>, now: &Stats, span: Span) -> Option<Self> {
        now.disk.as_ref()?;
        let set = now.total.get("disk")?;
        let earlier = before.and_then(|before| before.total.get("disk"));
        let sum = |names: &[&str]| names.iter().map(|name| span.of(earlier, set, name)).sum();
        let request = |(kind, counters, bytes, histogram): &(&'static str, &[&str], &[&str], &str)| {
            let since = before.and_then(|before| before.histograms.get(*histogram));
            let took = now.histograms.get(*histogram).cloned().unwrap_or_default();
            RequestRates {
                kind,
                rate: sum(counters),
                bytes: sum(bytes),
                took: Quantiles::new(since, &took),
                total: counters.iter().map(|name| value(set, name)).sum(),
            }
        };
        let failed = FAILED.iter().map(|(error, name)| (*error, span.of(earlier, set, name), value(set, name)));
        Some(Self {
            requests: KINDS.iter().map(request).collect(),
            failed: failed.collect(),
            pending: value(set, "requests_pending"),
        })
    }

    /// Requests of all kinds per second.
    pub fn rate(&self) -> f64 {
        self.requests.iter().map(|request| request.rate).sum()
    }
}
