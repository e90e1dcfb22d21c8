//! Many seeds of slaves that lend and masters that borrow.
//!
//! `GVM_SIM_LEASE_SEEDS=5000 cargo test -p gvm-sim --test sim leases` runs more of them.

use sim::leases::run_seed;
use std::collections::BTreeMap;

/// What must occur in 500 runs. If one is missing, the faults do not have the effect that they are for.
const MUST_HAVE_HAPPENED: [&str; 22] = [
    "another gateway",
    "ended: EPOCH",
    "ended: HELD",
    "ended: left",
    "ended: silence",
    "failed",
    "farm restart",
    "found",
    "gateway restart",
    "given_back",
    "limit",
    "lost",
    "master restart",
    "open",
    "opened",
    "pause",
    "read",
    "resume",
    "scrubbed",
    "silence",
    "stranger",
    "written",
];

fn seeds() -> u64 {
    std::env::var("GVM_SIM_LEASE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

#[test]
fn what_is_read_is_what_was_written_whatever_happens() {
    let threads = 2;
    let run = |first: u64| -> Result<BTreeMap<&'static str, u64>, String> {
        let mut all = BTreeMap::new();
        for seed in (first..seeds()).step_by(threads) {
            for (what, times) in run_seed(seed)? {
                *all.entry(what).or_insert(0) += times;
            }
        }
        Ok(all)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads as u64).map(|first| scope.spawn(move || run(first))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for result in results {
        for (what, times) in result.unwrap() {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{seen:#?}");
    if seeds() >= 500 {
        let missing: Vec<_> = MUST_HAVE_HAPPENED.iter().filter(|what| !seen.contains_key(**what)).collect();
        assert!(missing.is_empty(), "did not happen: {missing:?}");
    }
}
