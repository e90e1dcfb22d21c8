//! What a master serves, in words: for `stats` and `top`.

use crate::format::{count, grouped};
use crate::table::TextTable;
use api::applications::{ApplicationStats, ServingStats};
use common::units::Size;

/// So many extents, as `12G`.
fn size(serving: &ServingStats, extents: u32) -> Size {
    Size(u64::from(extents).saturating_mul(serving.extent_bytes))
}

/// How many there are and how much they have, in parts of a line.
pub fn parts(serving: &ServingStats) -> Vec<String> {
    let parked = serving.areas.iter().filter(|area| area.state != "in use");
    let kept: u32 = parked.clone().map(|area| area.extents).sum();
    let used: u32 = serving.applications.iter().map(|application| application.extents).sum();
    let mut parts = vec![
        format!("{} with {}", count(serving.applications.len() as u64, "application"), size(serving, used)),
        format!("{} that nobody uses with {}", count(parked.count() as u64, "area"), size(serving, kept)),
    ];
    let lost: u32 = serving.areas.iter().map(|area| area.lost).sum();
    if lost > 0 {
        parts.push(format!("{} of areas lost", size(serving, lost)));
    }
    parts
}

/// One application, in parts of a line.
pub fn application(serving: &ServingStats, of: &ApplicationStats) -> Vec<String> {
    let area = of.area.as_ref().map_or_else(String::new, |area| format!(" area {area}"));
    vec![
        format!("  {} (pid {}, user {}){area}", of.name, of.pid, of.user),
        size(serving, of.extents).to_string(),
        format!("{} requests", grouped(of.requests)),
        format!("{} failed", grouped(of.failures)),
        format!("{} MiB read", grouped(of.bytes_read >> 20)),
        format!("{} MiB written", grouped(of.bytes_written >> 20)),
    ]
}

/// A line, a table with a row for each application, and one with a row for each area.
pub fn report(serving: &ServingStats) -> String {
    let mut text = format!("serves   {}\n", parts(serving).join(", "));
    let headings =
        ["application", "pid", "user", "area", "memory", "requests", "failed", "MiB read", "MiB written", "lcore"];
    let mut table = TextTable::new(&headings, &[0, 3]);
    for of in &serving.applications {
        table.row(vec![
            of.name.clone(),
            of.pid.to_string(),
            of.user.to_string(),
            of.area.clone().unwrap_or_default(),
            size(serving, of.extents).to_string(),
            grouped(of.requests),
            grouped(of.failures),
            grouped(of.bytes_read >> 20),
            grouped(of.bytes_written >> 20),
            of.lcore.to_string(),
        ]);
    }
    text += &table.text();
    let mut table = TextTable::new(&["area", "user", "memory", "lost", "state"], &[0, 4]);
    for area in &serving.areas {
        table.row(vec![
            area.name.clone(),
            area.user.to_string(),
            size(serving, area.extents).to_string(),
            size(serving, area.lost).to_string(),
            area.state.clone(),
        ]);
    }
    text + &table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::applications::AreaStats;

    fn serving() -> ServingStats {
        let area = |name: &str, state: &str, lost| AreaStats {
            name: name.to_owned(),
            user: 1000,
            state: state.to_owned(),
            extents: 8,
            lost,
        };
        let application = ApplicationStats {
            connection: 7,
            name: "redis".to_owned(),
            pid: 4711,
            user: 1000,
            area: Some("disk-1".to_owned()),
            lcore: 1,
            extents: 8,
            quota: 100,
            requests: 12_345,
            failures: 6,
            bytes_read: 5 << 20,
            bytes_written: 3 << 20,
        };
        ServingStats {
            extent_bytes: 2 << 20,
            applications: vec![application],
            areas: vec![area("disk-1", "in use", 0), area("disk-2", "parked", 3)],
        }
    }

    #[test]
    fn a_report_names_each_application_and_each_area() {
        assert_eq!(
            report(&serving()),
            "serves   1 application with 16M, 1 area that nobody uses with 16M, 6M of areas lost\n\
             application   pid  user  area    memory  requests  failed  MiB read  MiB written  lcore\n\
             redis        4711  1000  disk-1     16M    12,345       6         5            3      1\n\
             area    user  memory  lost  state\n\
             disk-1  1000     16M     0  in use\n\
             disk-2  1000     16M    6M  parked\n"
        );
        let none = report(&ServingStats { extent_bytes: 2 << 20, ..ServingStats::default() });
        assert_eq!(none, "serves   0 applications with 0, 0 areas that nobody uses with 0\n");
    }
}
