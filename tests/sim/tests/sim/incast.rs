//! Many slaves answer few masters. Time is virtual, so that figures are the same on every machine.
//!
//! `GVM_SIM_INCAST_SEEDS=2000 cargo test -p gvm-sim --test sim incast` runs more random worlds; `GVM_SIM_INCAST_SEED=7`
//! runs one.

use frame::time::MILLISECOND;
use sim::incast::run::{IncastOutcome, Phases, run};
use sim::incast::scenarios::{named, random};
use std::ops::Range;

fn figures(name: &str) -> IncastOutcome {
    let outcome = run(&named(name).unwrap(), &Phases::USUAL, 1).unwrap();
    println!("{name}: {outcome:?}");
    outcome
}

/// Nothing is lost, the link is used, and page faults wait for at most as long again as without load.
fn assert_reached(name: &str) -> IncastOutcome {
    let outcome = figures(name);
    assert_eq!((outcome.lost, outcome.dropped, outcome.no_frame), (0, 0, 0), "{name}");
    for figures in &outcome.masters {
        assert!(figures.goodput >= 800, "{name}: goodput {}", figures.goodput);
        assert!(figures.demands > 100 && figures.loaded[1] <= 2 * figures.unloaded[1], "{name}: {figures:?}");
    }
    outcome
}

#[test]
fn answers_of_sixty_four_slaves_do_not_overrun_a_master_with_a_tenth_of_their_sum() {
    assert_reached("usual");
}

#[test]
fn a_master_that_claims_fifteen_times_its_speed_follows_what_it_measures() {
    let outcome = figures("claims 100 Gbit/s");
    let [master] = &outcome.masters[..] else { panic!("one master") };
    assert_eq!((outcome.lost, outcome.dropped, outcome.no_frame), (0, 0, 0));
    assert!(master.goodput >= 800 && master.loaded[1] <= 3 * master.unloaded[1], "{master:?}");
}

#[test]
fn processors_that_are_late_are_not_taken_for_a_queue() {
    let follows = figures("late processors");
    let [follows, fixed] = [follows, figures("late processors, and a window that follows nothing")].map(|outcome| {
        assert_eq!(outcome.lost, 0);
        outcome.masters[0].goodput
    });
    assert!(follows * 4 >= fixed, "{follows} and {fixed}");
}

#[test]
fn a_window_that_follows_nothing_loses_packets_and_page_faults_wait() {
    let outcome = figures("window that follows nothing");
    let [master] = &outcome.masters[..] else { panic!("one master") };
    assert!(outcome.lost > 1000 && master.goodput < 800 && master.loaded[1] > 10 * master.unloaded[1]);
}

#[test]
fn writes_to_sixty_four_slaves_use_the_link_and_lose_nothing() {
    assert_reached("all requests are WRITEs");
}

#[test]
fn marks_of_a_switch_are_followed_before_it_drops() {
    assert!(assert_reached("switch marks from 32 KiB on").shrunk[1] > 0);
}

#[test]
fn masters_behind_one_gateway_share_its_link() {
    let outcome = figures("four masters behind one gateway");
    assert_eq!((outcome.lost, outcome.dropped), (0, 0));
    let all: u64 = outcome.masters.iter().map(|master| master.goodput).sum();
    assert!(all >= 700, "goodput of all {all}");
    for master in &outcome.masters {
        assert!(master.goodput >= all / 8, "{all}: {master:?}");
    }
}

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number("GVM_SIM_INCAST_SEED").map(|seed| seed..seed + 1);
    one.unwrap_or_else(|| 0..number("GVM_SIM_INCAST_SEEDS").unwrap_or(100))
}

#[test]
fn in_every_world_all_requests_end_with_the_right_bytes_and_all_books_balance() {
    let phases = Phases { unloaded: 10 * MILLISECOND, start: 10 * MILLISECOND, measured: 20 * MILLISECOND };
    let (mut lost, mut shrunk, mut demands, mut failures) = (0, [0; 3], 0, Vec::new());
    for seed in seeds() {
        match run(&random(seed), &phases, seed) {
            Ok(outcome) => {
                lost += outcome.lost;
                demands += outcome.masters.iter().map(|master| master.demands).sum::<u64>();
                shrunk.iter_mut().zip(outcome.shrunk).for_each(|(sum, count)| *sum += count);
            }
            Err(what) => failures.push(what),
        }
    }
    println!("lost {lost}, shrunk {shrunk:?}, demand READs {demands}");
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    if seeds().count() >= 100 {
        assert!(lost > 0 && demands > 0 && shrunk.iter().all(|count| *count > 0), "{lost} {shrunk:?} {demands}");
    }
}
