//! Many seeds of clusters with masters whose clients read and write pages of slaves.
//!
//! `GVM_SIM_PAGES_SEEDS=500 cargo test -p gvm-sim --test sim pages` runs more of them; `GVM_SIM_PAGES_SEED=7` runs one.

use sim::pages::run_seed;
use std::collections::BTreeMap;
use std::ops::Range;

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("GVM_SIM_PAGES_SEED").map(|seed| seed..seed + 1);
    one.unwrap_or_else(|| 0..number("GVM_SIM_PAGES_SEEDS").unwrap_or(20))
}

/// What must happen in 20 runs. If one is missing, the faults do not have the effect that they are for.
const MUST_HAVE_HAPPENED: [&str; 29] = [
    "a machine is cut off, or back",
    "all gateways are cut off",
    "allocated",
    "connects_out_again",
    "done",
    "failed",
    "farm starts again",
    "gateway starts again",
    "leases_expired",
    "leases_found",
    "leases_resumed",
    "lost",
    "master starts again",
    "master_gateway_moves",
    "memory is recalled",
    "rc_dropped_icrc",
    "parked",
    "program_evicted",
    "program_fetched",
    "program_paused",
    "program_relocated",
    "program_verified",
    "recalled",
    "requests_repeated",
    "resumed",
    "sessions_renewed",
    "timeouts",
    "units_taken",
    "verified",
];

#[test]
fn every_read_gives_what_was_written_or_an_error_and_all_memory_comes_back() {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in seeds() {
        match run_seed(seed) {
            Ok(outcome) => {
                outcome.counts.into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
            }
            Err(what) => failures.push(what),
        }
    }
    for (name, count) in &counts {
        println!("{name:<40} {count}");
    }
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    if seeds().count() >= 20 {
        for name in MUST_HAVE_HAPPENED {
            assert!(counts.get(name).is_some_and(|count| *count > 0), "it never happened: {name}");
        }
    }
}
