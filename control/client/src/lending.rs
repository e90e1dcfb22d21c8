//! What a slave lends, in words: for `stats`, `top` and `drain`.

use crate::format::{count, grouped, span};
use crate::table::TextTable;
use api::lending::LendingStats;
use common::units::Size;

/// So many units, as `12G`.
fn size(lending: &LendingStats, units: u64) -> Size {
    Size(units.saturating_mul(lending.unit_bytes))
}

/// How much there is and who has it, in parts of a line.
pub fn parts(lending: &LendingStats) -> Vec<String> {
    let of = |units| size(lending, units);
    let mut parts = vec![
        format!("lends {} of {}", of(lending.leased), of(lending.units)),
        format!("{} at most now", of(lending.limit)),
        count(lending.leases.len() as u64, "lease"),
    ];
    if lending.recalled > 0 {
        parts.push(format!("{} recalled", of(lending.recalled)));
    }
    if lending.dirty > 0 {
        parts.push(format!("{} to be scrubbed", of(lending.dirty)));
    }
    if let (Some(left), Some(keep)) = (lending.host_available_bytes, lending.keep_free_bytes) {
        parts.push(format!("the host has {} MiB left and keeps {}", grouped(left >> 20), grouped(keep >> 20)));
    }
    parts.push(lending.pages.clone());
    parts
}

/// Why a drain waits; `None` if no master has memory.
pub fn waits(lending: &LendingStats) -> Option<String> {
    let left = lending.drain_seconds.filter(|_| lending.leased > 0)?;
    let (lent, leases) = (size(lending, lending.leased), count(lending.leases.len() as u64, "lease"));
    Some(format!("waits for masters to give back {lent} of {leases}, {} at most", span(left)))
}

/// A line, and a table with a row for each lease.
pub fn report(lending: &LendingStats) -> String {
    let mut text = format!("memory   {}\n", parts(lending).join(", "));
    if let Some(waits) = waits(lending) {
        text += &format!("drain    {waits}\n");
    }
    let mut table = TextTable::new(&["lease of master", "slave id", "memory", "units", "recalled"], &[]);
    for lease in &lending.leases {
        table.row(vec![
            lease.master.to_string(),
            lease.id.to_string(),
            size(lending, lease.units.into()).to_string(),
            lease.units.to_string(),
            lease.recalled.to_string(),
        ]);
    }
    text + &table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::lending::LeaseStats;

    fn lending() -> LendingStats {
        LendingStats {
            pages: "ordinary pages".to_owned(),
            unit_bytes: 64 << 20,
            units: 192,
            units_per_id: 192,
            limit: 160,
            free: 151,
            dirty: 1,
            leased: 40,
            recalled: 8,
            keep_free_bytes: Some(1536 << 20),
            host_available_bytes: Some(1_400 << 20),
            drain_seconds: None,
            leases: vec![LeaseStats { id: 17, master: 3, units: 40, recalled: 8 }],
        }
    }

    #[test]
    fn it_says_who_has_what() {
        assert_eq!(
            report(&lending()),
            "memory   lends 2560M of 12G, 10G at most now, 1 lease, 512M recalled, 64M to be scrubbed, the host has \
             1,400 MiB left and keeps 1,536, ordinary pages\n\
             lease of master  slave id  memory  units  recalled\n              3        17   2560M     40         8\n"
        );
        let idle = LendingStats { leased: 0, recalled: 0, dirty: 0, leases: Vec::new(), ..lending() };
        let idle = LendingStats { host_available_bytes: None, keep_free_bytes: None, ..idle };
        assert_eq!(report(&idle), "memory   lends 0 of 12G, 10G at most now, 0 leases, ordinary pages\n");
    }

    #[test]
    fn a_drain_waits_while_masters_have_memory() {
        assert_eq!(waits(&lending()), None);
        let drains = LendingStats { drain_seconds: Some(12.25), ..lending() };
        let text = "waits for masters to give back 2560M of 1 lease, 12.2 s at most";
        assert_eq!(waits(&drains).as_deref(), Some(text));
        assert!(report(&drains).contains(text));
        assert_eq!(waits(&LendingStats { leased: 0, ..drains }), None);
    }
}
