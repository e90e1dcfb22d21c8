//! `aggregate`: the cost of one record in the gateway, on one lcore and memory ports.
//!
//! A whole poll is timed: receive burst, headers, walk, route and anti-spoofing, append, flush, headers with checksum,
//! transmit burst, frame return. The hold is infinite, so that every buffer leaves full.
//!
//! The baseline is the **bare loop** (`bare/`): a program of a few hundred lines that does the same logical work on the
//! same input, and has no abstraction, no second port and no option. A floor below both is a copy of the bytes alone.

mod anchor;
mod bare;
mod case;
mod subject;

pub use anchor::{extras, reference};
pub use case::{Case, Warmth};
pub use subject::{Bench, lcore};

use crate::caches::Eviction;
use crate::floor::Floor;
use crate::input;
use crate::ratios::{Ratios, median};
use crate::report::Report;
use anyhow::Context as _;
use bare::{BareLoop, Extra};
use case::ROOM;

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What was measured.
    pub case: Case,
    /// Nanoseconds per record in the gateway: the median of the rounds.
    pub ours: f64,
    /// The same in the bare loop.
    pub bare: f64,
    /// The same for the copy.
    pub floor: f64,
    /// `ours / bare`, of rounds that measured both.
    pub ratios: Ratios,
    /// Prefetch distance of the copy.
    pub distance: usize,
    /// Share of flushes with cause `full`.
    pub full: f64,
}

/// If the share of flushes with cause `full` is below this, the input is wrong.
const FULL: f64 = 0.99;

/// Measures one case, in turn with the bare loop and the copy. `fill` first fills buffers to all levels and touches
/// every page.
///
/// # Errors
/// The measured run did not happen: see [`Bench::check`] and `BareLoop::check`.
pub fn measure(case: Case, rounds: usize, fill: bool) -> anyhow::Result<Row> {
    let shape = case.shape();
    let input = input::packets(&shape);
    let mut bench = Bench::new(shape, &input, frame::BURST)?;
    let mut bare = BareLoop::new(&case, &input, Extra::None)?;
    let mut floor = Floor::new(&shape, &input, input::chunk(&input), usize::from(ROOM))?;
    if fill {
        (0..case.passes_to_fill()).for_each(|_| bench.warm());
        bare.fill(&case)?;
    }
    let (_, distance) = floor.best(case.records);
    let eviction = (case.warmth == Warmth::Cold).then(Eviction::default);
    let (mut ours, mut bares, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        match &eviction {
            Some(eviction) => eviction.evict(),
            None => bench.warm(),
        }
        let us = bench.run(case.round());
        let them = bare.run()?;
        match &eviction {
            Some(eviction) => eviction.evict(),
            None => drop(floor.run(case.records, distance)),
        }
        floors.push(floor.run(case.records, distance));
        ours.push(us);
        bares.push(them);
        ratios.push(us / them);
    }
    let full = bench.check()?.full_share();
    anyhow::ensure!(full >= FULL, "only {:.1} % of the buffers left because they were full", full * 100.0);
    bare.check()?;
    let (ours, bare, floor, ratios) = (median(ours), median(bares), median(floors), Ratios::of(ratios));
    Ok(Row { case, ours, bare, floor, ratios, distance, full })
}

/// All cases of the table, or the only one of a quick run.
fn cases(quick: bool) -> Vec<Case> {
    let first = Case { slaves: 8_192, records: 1, up: false, warmth: Warmth::Cold, scattered: false };
    if quick {
        return vec![first];
    }
    let mut cases = Vec::new();
    for (up, records) in [(false, 1), (false, 16), (true, 1), (true, 16)] {
        for (warmth, scattered) in
            [(Warmth::Cold, false), (Warmth::Cold, true), (Warmth::Nic, true), (Warmth::Small, true)]
        {
            cases.extend([64, 8_192, 131_072].map(|slaves| Case { slaves, records, up, warmth, scattered }));
        }
    }
    cases
}

/// Measures these cases, as text on standard output and as values. A quick run does not fill buffers first.
fn table(cases: &[Case], rounds: usize, quick: bool) -> anyhow::Result<Vec<Row>> {
    println!("aggregate: 64-byte payloads, MTU 1500, hold infinite, uniformly random slaves, one lcore; ns per record");
    println!(
        "{} {:>9} {:>7} {:>7} {:>12} {:>8} {:>9} {:>7}",
        Case::HEAD,
        "gateway",
        "bare",
        "ratio",
        "of rounds",
        "copy",
        "prefetch",
        "full"
    );
    let measured = cases.iter().map(|case| {
        let row = measure(*case, rounds, !quick).with_context(|| format!("{case:?}"))?;
        let Row { ours, bare, ratios, floor, distance, full, .. } = row;
        let (ratio, range, full) = (ratios.median, ratios.range(), full * 100.0);
        println!("{case} {ours:>9.1} {bare:>7.1} {ratio:>7.2} {range:>12} {floor:>8.1} {distance:>9} {full:>6.1}%");
        Ok(row)
    });
    measured.collect()
}

/// The benchmark; with a case, only this one.
///
/// # Errors
/// See [`measure`].
pub fn report(rounds: Option<usize>, case: Option<Case>, quick: bool) -> anyhow::Result<Report> {
    let rounds = rounds.unwrap_or(if quick { 4 } else { 9 });
    let rows = table(&case.map_or_else(|| cases(quick), |case| vec![case]), rounds, quick)?;
    let row = rows.iter().find(|row| row.case.is_first()).or(rows.first()).context("nothing was measured")?;
    let details = rows.iter().map(|row| {
        let Case { slaves, records, up, warmth, scattered } = row.case;
        serde_json::json!({
            "direction": if up { "up" } else { "down" }, "slaves": slaves, "records_per_datagram": records,
            "input": warmth.to_string(), "scattered": scattered, "ns_per_record": row.ours,
            "bare_ns_per_record": row.bare, "floor_ns_per_record": row.floor, "ratio": row.ratios.median,
            "ratios": row.ratios.json(), "full_flushes": row.full
        })
    });
    let details = details.collect();
    Ok(Report { name: "aggregate", value: row.ours, unit: "ns/record", ratios: row.ratios, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_goes_in_comes_out_both_ways() {
        for (records, up) in [(1, false), (16, false), (1, true), (16, true)] {
            for (warmth, scattered) in [(Warmth::Cold, false), (Warmth::Small, true)] {
                let row = measure(Case { slaves: 64, records, up, warmth, scattered }, 2, false).unwrap();
                assert!(row.ratios.rounds == 2 && row.full >= FULL, "{row:?}");
            }
        }
    }
}
