//! Many seeds with faults: the ledger and the gateways' own equations hold in every one.
//!
//! `GVM_SIM_SEEDS=5000 cargo test -p gvm-sim` runs more of them.

use std::collections::BTreeMap;

fn seeds() -> u64 {
    std::env::var("GVM_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// Events that must occur in 500 clusters. If one is missing, the faults do not have the effect that they are for.
const MUST_HAVE_HAPPENED: [&str; 73] = [
    "down.dropped_bad_length",
    "down.dropped_bad_magic",
    "down.dropped_bad_slave_id",
    "down.dropped_fair_share",
    "down.dropped_foreign_shard",
    "down.dropped_mixed_link",
    "down.dropped_mixed_shards",
    "down.dropped_no_frame",
    "down.dropped_no_route",
    "down.dropped_route_removed",
    "down.dropped_too_large",
    "down.dropped_truncated",
    "down.push_ignored",
    "down_ce_marked",
    "down_records_dropped_slow",
    "up.dropped_bad_magic",
    "up.dropped_fair_share",
    "up.dropped_no_route",
    "up.dropped_spoofed",
    "up.dropped_unregistered_source",
    "up.push_ignored",
    "farm.acks_refused_challenge",
    "farm.answers_elsewhere",
    "farm.gateway_moves",
    "farm.keys_switched",
    "flood.losses",
    "flood.master",
    "flood.masters",
    "flood.slave",
    "flood.strangers",
    "flush_drain",
    "flush_early",
    "flush_full",
    "flush_hold",
    "flush_order",
    "flush_push",
    "flush_room",
    "forwarded_whole",
    "lcore.control_delayed",
    "lcore.rx_paused_pool",
    "link.cookies_expired",
    "link.deaf_spells",
    "link.drain_acks_out",
    "link.heartbeats_challenged",
    "link.heartbeats_v1",
    "link.mass_silences",
    "link.nodes_gone",
    "link.refused_bad_record",
    "link.refused_downgrade",
    "link.refused_duplicate",
    "link.refused_foreign_shard",
    "link.refused_forged",
    "link.refused_malformed",
    "link.refused_master_port",
    "link.refused_other_boot",
    "link.refused_replayed",
    "link.refused_unexpected",
    "link.refused_unsigned",
    "link.refused_version",
    "link_dropped_excess",
    "link_dropped_stranger",
    "link_excess_in",
    "link_strangers_in",
    "master.refused_challenge",
    "master.shard_moves",
    "master.told_gone",
    "master.told_suspect",
    "port.rx_bad_checksum",
    "port.rx_ring_full",
    "trial.cut",
    "trial.drain",
    "trial.kill",
    "trial.rotation",
];

/// Runs the seeds on two threads. Each run uses one thread.
#[test]
fn every_seed_balances() {
    let seeds = seeds();
    let half =
        |first: u64| move || (first..seeds).step_by(2).map(|seed| sim::run_seed(seed, false)).collect::<Vec<_>>();
    let other = std::thread::spawn(half(1));
    let mut outcomes = half(0)();
    outcomes.extend(other.join().expect("a run does not panic"));
    let failures: Vec<String> = outcomes.iter().filter_map(|o| Some(o.as_ref().err()?.to_string())).collect();
    assert!(failures.is_empty(), "{} of {seeds} seeds failed:\n{}", failures.len(), failures.join("\n"));
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in outcomes.iter().flatten() {
        assert!(outcome.answered > 0, "seed {}: nobody was asked", outcome.seed);
        outcome.counted.iter().for_each(|(name, count)| *counted.entry(name).or_default() += count);
    }
    if seeds >= 500 {
        let never = |name: &&&str| counted.get(**name).copied().unwrap_or(0) == 0;
        let missing: Vec<_> = MUST_HAVE_HAPPENED.iter().filter(never).collect();
        assert!(missing.is_empty(), "no seed came to {missing:?}");
        let crashed: u64 = outcomes.iter().flatten().map(|outcome| outcome.sums.crashed).sum();
        assert!(crashed > 0, "no gateway held anything when it crashed");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 11, 12] {
        let (first, again) = (sim::run_seed(seed, false).unwrap(), sim::run_seed(seed, false).unwrap());
        assert_eq!((first.hash, first.events, first.time), (again.hash, again.events, again.time));
        assert_eq!((first.sums, &first.counted), (again.sums, &again.counted));
    }
    assert_ne!(sim::run_seed(3, false).unwrap().hash, sim::run_seed(11, false).unwrap().hash);
}

#[test]
fn thousands_of_slaves_and_16_lcores() {
    let outcome = sim::run_large(1, false).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.answered, 6000);
    assert!(outcome.sums.records > 10_000, "{outcome}");
}

#[test]
fn a_failure_says_how_to_replay_it() {
    let failure = sim::Failure { seed: 7, large: false, at: 1_500_000_000, what: "something is wrong".to_owned() };
    let text = failure.to_string();
    assert!(text.contains("seed 7 at 1.500000000 s: something is wrong"), "{text}");
    assert!(text.ends_with("cargo run -p gvm-sim -- --seed 7 --trace"), "{text}");
}
