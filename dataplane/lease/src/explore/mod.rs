//! Every way in which the leases of two masters at one slave can go, while the network may lose, repeat and reorder
//! each message, masters and the slave restart, time passes, and the slave recalls.
//!
//! The test visits all states within a budget of such events. In every state: a unit that a master can reach has the
//! bytes that this master wrote; each unit is in one place, and the books say which; a unit that is lent is zero. And
//! from every state, if nothing more goes wrong, both masters get what there is, and both ends agree about it.

mod parties;
mod world;

use std::collections::HashSet;
use world::{Budget, World};

/// From here on nothing goes wrong: both masters get what there is. A state that leads to one in `good` is good, too.
fn finish(world: &World, good: &mut HashSet<u64>) {
    let mut world = world.clone();
    world.budget = Budget::default();
    let mut way = Vec::new();
    for _ in 0..600 {
        let here = world.fingerprint();
        if good.contains(&here) || world.is_at_rest() {
            good.extend(way);
            good.insert(here);
            return;
        }
        way.push(here);
        world.step_calmly();
        world.check();
    }
    let held = world.masters.each_ref().map(|master| master.loan.held().len());
    panic!("it does not come to rest at {}: held {held:?}, {:?}", world.now, world.lender.books());
}

/// Visits all states, and returns how many there are.
fn explore(budget: Budget, instant: bool) -> usize {
    let start = World::new(budget, instant);
    let mut seen = HashSet::from([start.fingerprint()]);
    let (mut open, mut good) = (vec![start], HashSet::new());
    while let Some(mut world) = open.pop() {
        world.check();
        finish(&world, &mut good);
        for act in world.acts() {
            let next = world.act(act);
            assert!(seen.len() < 400_000, "too many: {budget:?}");
            if seen.insert(next.fingerprint()) {
                open.push(next);
            }
        }
    }
    seen.len()
}

fn explore_all(budgets: &[Budget]) {
    let visited: usize = budgets.iter().map(|budget| explore(*budget, true)).sum();
    assert!(visited > 1000, "only {visited} states");
}

const NONE: Budget = Budget {
    losses: 0,
    repeats: 0,
    overtakes: 0,
    timeouts: 0,
    resumes: 0,
    forgetful: 0,
    seeded: 0,
    slave_restarts: 0,
    expiries: 0,
    recalls: 0,
    raises: 0,
    gifts: 0,
    closes: 0,
};

#[test]
fn messages_are_lost_repeated_and_overtake() {
    explore_all(&[
        Budget { repeats: 1, overtakes: 1, timeouts: 1, ..NONE },
        Budget { losses: 1, timeouts: 1, gifts: 1, ..NONE },
        Budget { repeats: 1, overtakes: 1, gifts: 2, ..NONE },
    ]);
}

#[test]
fn both_masters_meet_over_a_bad_wire() {
    let visited = explore(Budget { repeats: 1, overtakes: 1, gifts: 1, ..NONE }, false);
    assert!(visited > 1000, "only {visited} states");
}

#[test]
fn a_master_restarts_with_its_secrets() {
    explore_all(&[
        Budget { resumes: 2, repeats: 1, ..NONE },
        Budget { resumes: 1, repeats: 1, overtakes: 1, gifts: 1, ..NONE },
        Budget { resumes: 1, losses: 1, timeouts: 1, ..NONE },
    ]);
}

#[test]
fn a_master_ends_its_lease_and_opens_another() {
    explore_all(&[
        Budget { closes: 1, repeats: 1, overtakes: 1, ..NONE },
        Budget { closes: 1, losses: 1, timeouts: 1, ..NONE },
        Budget { closes: 1, resumes: 1, ..NONE },
    ]);
}

#[test]
fn a_master_restarts_without_its_secrets() {
    explore_all(&[Budget { forgetful: 1, repeats: 1, overtakes: 1, ..NONE }]);
}

#[test]
fn a_master_restarts_and_finds_its_secrets_by_their_locks() {
    explore_all(&[
        Budget { seeded: 2, repeats: 1, ..NONE },
        Budget { seeded: 1, repeats: 1, overtakes: 1, ..NONE },
        Budget { seeded: 1, losses: 1, timeouts: 1, ..NONE },
        Budget { seeded: 1, expiries: 1, ..NONE },
        Budget { seeded: 1, slave_restarts: 1, ..NONE },
        Budget { seeded: 1, recalls: 1, ..NONE },
    ]);
}

#[test]
fn the_slave_restarts() {
    explore_all(&[
        Budget { slave_restarts: 1, repeats: 1, overtakes: 1, ..NONE },
        Budget { slave_restarts: 1, resumes: 1, repeats: 1, ..NONE },
    ]);
}

#[test]
fn leases_expire() {
    explore_all(&[
        Budget { expiries: 1, repeats: 1, ..NONE },
        Budget { expiries: 1, resumes: 1, ..NONE },
        Budget { expiries: 1, forgetful: 1, ..NONE },
    ]);
}

#[test]
fn units_are_recalled_and_taken() {
    explore_all(&[
        Budget { recalls: 1, raises: 1, timeouts: 1, losses: 1, ..NONE },
        Budget { recalls: 1, raises: 1, repeats: 1, overtakes: 1, ..NONE },
        Budget { recalls: 2, gifts: 1, losses: 1, ..NONE },
        Budget { recalls: 1, resumes: 1, raises: 1, ..NONE },
    ]);
}
