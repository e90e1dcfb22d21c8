//! Many seeds of two endpoints over a wire with faults.
//!
//! `GVM_SIM_QP_SEEDS=20000 cargo test -p gvm-sim --test sim qp` runs more of them.

use sim::qp::plan::{Mood, Plan};
use sim::qp::{Outcome, run_seed};
use std::collections::BTreeMap;

fn seeds() -> u64 {
    std::env::var("GVM_SIM_QP_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Events that must occur in 1,000 runs. If one is missing, the faults do not have the effect that they are for.
const MUST_HAVE_HAPPENED: [&str; 52] = [
    "CompareSwap RETRY_EXC_ERR",
    "CompareSwap SUCCESS",
    "FetchAdd REM_ACCESS_ERR",
    "FetchAdd REM_INV_REQ_ERR",
    "FetchAdd SUCCESS",
    "Read REM_ACCESS_ERR",
    "Read RETRY_EXC_ERR",
    "Read SUCCESS",
    "Read WR_FLUSH_ERR",
    "Receive LOC_LEN_ERR",
    "Receive SUCCESS",
    "Receive WR_FLUSH_ERR",
    "ReceiveWriteImm SUCCESS",
    "Send REM_INV_REQ_ERR",
    "Send RETRY_EXC_ERR",
    "Send RNR_RETRY_EXC_ERR",
    "Send SUCCESS",
    "Write REM_ACCESS_ERR",
    "Write RETRY_EXC_ERR",
    "Write RNR_RETRY_EXC_ERR",
    "Write SUCCESS",
    "Write WR_FLUSH_ERR",
    "cnps_in",
    "cnps_out",
    "duplicates_in",
    "naks_access_out",
    "naks_invalid_out",
    "naks_rnr_in",
    "naks_sequence_in",
    "rc_dropped_icrc",
    "rc_dropped_no_qp",
    "rc_dropped_opcode",
    "rc_dropped_pad",
    "rc_dropped_pkey",
    "rc_dropped_request_early",
    "rc_dropped_response_early",
    "rc_dropped_response_stale",
    "rc_dropped_short",
    "rc_dropped_state",
    "rc_dropped_version",
    "rc_dropped_wrong_path",
    "rewinds",
    "run.death",
    "run.told",
    "timeouts",
    "window_waits",
    "wire.corrupted",
    "wire.cut",
    "wire.duplicated",
    "wire.late",
    "wire.lost",
    "wire.truncated",
];

/// Runs the seeds on two threads. Each run uses one thread.
#[test]
fn every_seed_ends_with_the_right_bytes() {
    let seeds = seeds();
    let half = |first: u64| move || (first..seeds).step_by(2).map(|seed| run_seed(seed, false)).collect::<Vec<_>>();
    let other = std::thread::spawn(half(1));
    let mut outcomes = half(0)();
    outcomes.extend(other.join().expect("a run does not panic"));
    let failures: Vec<String> = outcomes.iter().filter_map(|o| Some(o.as_ref().err()?.to_string())).collect();
    assert!(failures.is_empty(), "{} of {seeds} seeds failed:\n{}", failures.len(), failures.join("\n"));
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in outcomes.iter().flatten().flat_map(|outcome| &outcome.counted) {
        *counted.entry(name).or_default() += count;
    }
    if seeds >= 1000 {
        let never = |name: &&&str| counted.get(**name).copied().unwrap_or(0) == 0;
        let missing: Vec<_> = MUST_HAVE_HAPPENED.iter().filter(never).collect();
        assert!(missing.is_empty(), "no seed came to {missing:?}");
    }
}

fn success(outcome: &Outcome) -> (u64, u64) {
    let requests = ["Send", "Write", "Read", "CompareSwap", "FetchAdd"];
    let of_requests =
        |name: &str| requests.iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(' ')));
    let all: u64 = outcome.counted.iter().filter(|(name, _)| of_requests(name)).map(|(_, count)| count).sum();
    let good: u64 = outcome
        .counted
        .iter()
        .filter(|(name, _)| of_requests(name) && name.ends_with(" SUCCESS"))
        .map(|(_, count)| count)
        .sum();
    (all, good)
}

#[test]
fn with_one_per_cent_loss_reordering_and_duplication_everything_completes() {
    let well = |plan: &Plan| plan.mood == Mood::Mild && plan.bad == 0 && plan.starved.is_none() && plan.death.is_none();
    let mut runs = 0;
    for seed in (0..300).filter(|&seed| well(&Plan::new(seed))) {
        let plan = Plan::new(seed);
        let outcome = run_seed(seed, false).unwrap_or_else(|failure| panic!("{failure}"));
        let asked = plan.connections as u64 * u64::from(plan.requests[0] + plan.requests[1]);
        assert_eq!(success(&outcome), (asked, asked), "seed {seed}");
        runs += 1;
    }
    assert!(runs > 50, "{runs} runs");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 8, 12] {
        let (first, again) = (run_seed(seed, false).unwrap(), run_seed(seed, false).unwrap());
        assert_eq!((first.at, &first.counted), (again.at, &again.counted));
    }
}

#[test]
fn a_failure_says_how_to_replay_it() {
    let failure = sim::qp::Failure { seed: 7, at: 1_500_000_000, what: "something is wrong".to_owned() };
    let text = failure.to_string();
    assert!(text.starts_with("seed 7 at 1.500000000 s: something is wrong"), "{text}");
    assert!(text.ends_with("cargo run -p gvm-sim -- --qp --seed 7 --trace"), "{text}");
}
