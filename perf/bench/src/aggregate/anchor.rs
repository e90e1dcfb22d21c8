//! The quality of the bare loop as a baseline: compared with another program that does the same, and with the other
//! work of a gateway added.

use super::bare::{BareLoop, Extra};
use super::case::{Case, Warmth};
use crate::input;
use crate::ratios::{Ratios, median};
use crate::report::Report;
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Command;

const SLAVES: [u32; 3] = [64, 8_192, 131_072];

/// A report with the row of 8,192 slaves.
fn report(name: &'static str, rows: &[(Case, f64, Ratios)]) -> anyhow::Result<Report> {
    let row = rows.iter().find(|(case, ..)| case.slaves == 8_192).context("nothing was measured")?;
    let details = rows.iter().map(|(case, value, ratios)| {
        let Case { slaves, up, scattered, .. } = case;
        serde_json::json!({
            "slaves": slaves, "up": up, "scattered": scattered, "ns_per_record": value, "ratios": ratios.json()
        })
    });
    Ok(Report { name, value: row.1, unit: "ns/record", ratios: row.2, details: details.collect() })
}

/// Starts a bare loop, and fills its buffers.
fn start(case: &Case, extra: Extra) -> anyhow::Result<BareLoop> {
    let mut bare = BareLoop::new(case, &input::packets(&case.shape()), extra)?;
    bare.fill(case)?;
    Ok(bare)
}

/// Rounds that the other program measures in one turn.
const TURN: usize = 3;

/// One turn of the other program: the median of its rounds, in nanoseconds per record.
fn turn(program: &Path, case: &Case) -> anyhow::Result<f64> {
    let mut command = Command::new(program);
    command.args([case.slaves.to_string(), TURN.to_string()]);
    command.env("PK", case.shape().packets.to_string()).env_remove("SHUF");
    if case.scattered {
        command.env("SHUF", "1");
    }
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{} ended with {}: {text}", program.display(), output.status);
    let figure = text.split_once("median ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    figure.with_context(|| format!("{} printed no `median N`: {text}", program.display()))
}

/// The bare loop in turn with another program that does the same, downward, one record in a datagram. Rounds follow
/// each other without anything between them, in both: the other program takes nothing out of the caches.
///
/// # Errors
/// The program does not run, or prints no figure; the bare loop's books are wrong.
pub fn reference(program: &Path, rounds: Option<usize>) -> anyhow::Result<Report> {
    println!("aggregate: the bare loop in turn with {}; ns per record", program.display());
    println!("the input of cold rows; what the round before has left in the caches stays there, for both");
    println!("{} {:>9} {:>9} {:>7} {:>12}", Case::HEAD, "bare", "other", "ratio", "of rounds");
    let mut rows = Vec::new();
    for scattered in [false, true] {
        for slaves in SLAVES {
            let case = Case { slaves, records: 1, up: false, warmth: Warmth::Cold, scattered };
            let mut bare = start(&case, Extra::None)?;
            bare.leave_caches();
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..rounds.unwrap_or(9) {
                let turns = (0..TURN).map(|_| bare.run()).collect::<anyhow::Result<_>>()?;
                ours.push(median(turns));
                theirs.push(turn(program, &case)?);
            }
            bare.check()?;
            let ratios = Ratios::of(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
            let (bare, other) = (median(ours), median(theirs));
            println!("{case} {bare:>9.1} {other:>9.1} {:>7.2} {:>12}", ratios.median, ratios.range());
            rows.push((case, bare, ratios));
        }
    }
    report("aggregate-reference", &rows)
}

/// The cost for the bare loop of the other work of a gateway: each part alone, and all parts together.
///
/// # Errors
/// The bare loop's books are wrong.
pub fn extras(rounds: Option<usize>) -> anyhow::Result<Report> {
    println!("aggregate: the bare loop, and what it costs more with parts of a gateway; ns per record");
    print!("{} {:>9}", Case::HEAD, "bare");
    println!(" {:>7} {:>8} {:>7} {:>7} {:>7} {:>12}", "vlans", "budgets", "bounds", "all", "ratio", "of rounds");
    let mut rows = Vec::new();
    for up in [false, true] {
        for slaves in SLAVES {
            let case = Case { slaves, records: 1, up, warmth: Warmth::Cold, scattered: true };
            let kinds = [Extra::None, Extra::Vlans, Extra::Budgets, Extra::Bounds, Extra::Every];
            let mut loops = kinds.into_iter().map(|extra| start(&case, extra)).collect::<anyhow::Result<Vec<_>>>()?;
            let (mut bares, mut ratios) = (Vec::new(), Vec::new());
            let mut more: [Vec<f64>; 4] = Default::default();
            for _ in 0..rounds.unwrap_or(9) {
                let figures = loops.iter_mut().map(BareLoop::run).collect::<anyhow::Result<Vec<_>>>()?;
                let (bare, with) = (figures[0], &figures[1..]);
                bares.push(bare);
                more.iter_mut().zip(with).for_each(|(list, figure)| list.push(figure - bare));
                ratios.push(with[3] / bare);
            }
            loops.into_iter().try_for_each(|bare| bare.check().map(drop))?;
            let (bare, ratios) = (median(bares), Ratios::of(ratios));
            let [vlans, budgets, bounds, all] = more.map(median);
            print!("{case} {bare:>9.1} {vlans:>+7.1} {budgets:>+8.1} {bounds:>+7.1} {all:>+7.1}");
            println!(" {:>7.2} {:>12}", ratios.median, ratios.range());
            rows.push((case, bare + all, ratios));
        }
    }
    report("aggregate-extras", &rows)
}
