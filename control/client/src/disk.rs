//! A disk, in words: for `stats` and `top`.

use crate::format::{count, grouped, nanoseconds, si};
use crate::rates::{DiskRates, RequestRates};
use crate::table::TextTable;
use api::disk::ServedDisk;
use common::units::Size;

/// What it is and what it has, in parts of a line.
pub fn parts(disk: &ServedDisk) -> Vec<String> {
    let extents = |count: u64| Size(count.saturating_mul(disk.extent_bytes));
    let master = if disk.master_connected { "memory of the master at" } else { "NO MASTER at" };
    let mut parts = vec![
        format!("{} at {}", Size(disk.size_bytes), disk.listen),
        count(disk.connections, "connection"),
        format!("{} MiB written", grouped(disk.present_bytes >> 20)),
        format!("has {} of {}", extents(disk.extents), extents(disk.extents_allowed)),
    ];
    if disk.lost_bytes > 0 {
        parts.push(format!("{} KiB LOST", grouped(disk.lost_bytes >> 10)));
    }
    parts.push(format!("{master} {}", disk.master));
    parts.extend(disk.area.as_ref().map(|area| format!("area {area}")));
    parts
}

/// The cells of a kind of requests: kind, rate, latencies, bytes, total.
pub fn cells(request: &RequestRates) -> Vec<String> {
    let moving = |rate: f64| if rate > 0.0 { si(rate) } else { "-".to_owned() };
    let took = |of: fn(&crate::rates::Quantiles) -> f64| {
        request.took.as_ref().map_or("-".to_owned(), |took| nanoseconds(of(took)))
    };
    vec![
        request.kind.to_owned(),
        moving(request.rate),
        took(|took| took.p50),
        took(|took| took.p99),
        if request.bytes > 0.0 { format!("{}B/s", si(request.bytes)) } else { "-".to_owned() },
        grouped(request.total),
    ]
}

/// Requests that failed, in parts of a line. None if none did.
pub fn failures(rates: &DiskRates) -> Vec<String> {
    let failed = rates.failed.iter().filter(|(.., total)| *total > 0);
    failed.map(|(error, rate, total)| format!("{error} {} ({}/s)", grouped(*total), si(*rate))).collect()
}

/// A line, a table with a row for each kind of requests, and a line about those that failed.
pub fn report(disk: &ServedDisk, rates: &DiskRates) -> String {
    let mut text = format!("disk     {}\n", parts(disk).join(", "));
    let mut table = TextTable::new(&["requests", "/s", "p50", "p99", "bytes", "in all"], &[0]);
    rates.requests.iter().for_each(|request| table.row(cells(request)));
    text += &table.text();
    let failed = failures(rates);
    if !failed.is_empty() {
        text += &format!("failed   {}\n", failed.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::Quantiles;

    fn disk() -> ServedDisk {
        ServedDisk {
            size_bytes: 8 << 30,
            listen: "unix:/run/gvm-dp/disk.nbd".to_owned(),
            connections: 2,
            master: "/run/gvm-dp/master.pages".to_owned(),
            area: Some("disk-1".to_owned()),
            master_connected: true,
            extent_bytes: 2 << 20,
            extents: 640,
            extents_allowed: 8192,
            present_bytes: 1200 << 20,
            lost_bytes: 0,
        }
    }

    fn rates() -> DiskRates {
        let took = Quantiles { count: 9, mean: 40_000.0, p50: 38_000.0, p99: 250_000.0 };
        let request = |kind, rate: f64, took| RequestRates { kind, rate, bytes: rate * 4096.0, took, total: 1234 };
        DiskRates {
            requests: vec![request("READ", 50_000.0, Some(took)), request("WRITE", 0.0, None)],
            failed: vec![("EIO", 0.5, 3), ("ENOSPC", 0.0, 0)],
            pending: 4,
        }
    }

    #[test]
    fn it_says_what_it_has_and_how_long_requests_take() {
        assert_eq!(
            report(&disk(), &rates()),
            "disk     8G at unix:/run/gvm-dp/disk.nbd, 2 connections, 1,200 MiB written, has 1280M of 16G, memory of \
             the master at /run/gvm-dp/master.pages, area disk-1\n\
             requests     /s      p50       p99    bytes  in all\n\
             READ      50.0k  38.0 us  250.0 us  205MB/s   1,234\n\
             WRITE         -        -         -        -   1,234\n\
             failed   EIO 3 (0.5/s)\n"
        );
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let parts = parts(&ServedDisk { lost_bytes: 8 << 20, master_connected: false, ..disk() });
        assert!(parts.contains(&"8,192 KiB LOST".to_owned()), "{parts:?}");
        assert!(parts.contains(&"NO MASTER at /run/gvm-dp/master.pages".to_owned()), "{parts:?}");
        let none = DiskRates { failed: vec![("EIO", 0.0, 0)], ..rates() };
        assert!(failures(&none).is_empty());
    }
}
