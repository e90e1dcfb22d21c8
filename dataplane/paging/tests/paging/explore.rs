//! Every order of events of two threads, two pages and two slaves, with memory for one page and one on its way.
//!
//! The test visits all states within a budget of what may go wrong. In every state the books are right, and each page
//! has what was written last, wherever it is. And from every state, if nothing more goes wrong, all threads come to
//! their end, and nothing is left under way.

use crate::world::{Fate, Op, Pending, Thread, World};
use paging::{PagingConfig, PagingEvent};
use std::collections::HashSet;

#[derive(Clone, Copy, Debug)]
struct Budget {
    fails: u8,
    recalls: u8,
    losses: u8,
    ticks: u8,
}

const NONE: Budget = Budget { fails: 0, recalls: 0, losses: 0, ticks: 0 };

/// A world, and what may still go wrong in it.
#[derive(Clone)]
struct State {
    world: World,
    budget: Budget,
}

impl State {
    fn fingerprint(&self) -> (u64, u8, u8, u8, u8) {
        let Budget { fails, recalls, losses, ticks } = self.budget;
        (self.world.fingerprint(), fails, recalls, losses, ticks)
    }

    /// All states that can come next.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(state);
        };
        for thread in 0..self.world.threads.len() {
            if self.world.can_step(thread) {
                add(&|state| state.world.step(thread));
            }
        }
        for (index, pending) in self.world.pending.iter().enumerate() {
            add(&|state| state.world.finish(index, Fate::Good));
            if self.budget.fails > 0 {
                let fates: &[Fate] = match pending {
                    Pending::Write { .. } => &[Fate::Fails, Fate::FailsDone],
                    Pending::TellLoss { .. } => &[],
                    _ => &[Fate::Fails],
                };
                for fate in fates {
                    add(&|state| {
                        state.budget.fails -= 1;
                        state.world.finish(index, *fate);
                    });
                }
            }
        }
        for extent in self.world.extents.keys() {
            if self.budget.recalls > 0 {
                add(&|state| {
                    state.budget.recalls -= 1;
                    state.world.recall(*extent);
                });
            }
            if self.budget.losses > 0 {
                add(&|state| {
                    state.budget.losses -= 1;
                    state.world.lose(*extent);
                });
            }
        }
        if self.budget.ticks > 0 {
            add(&|state| {
                state.budget.ticks -= 1;
                state.world.tell(PagingEvent::Tick);
            });
        }
        next
    }
}

/// From here on nothing goes wrong. A state that leads to one in `good` is good, too.
fn finish(world: &World, good: &mut HashSet<u64>) {
    let mut world = world.clone();
    let mut way = Vec::new();
    for _ in 0..200 {
        let here = world.fingerprint();
        if good.contains(&here) || world.is_at_rest() {
            world.check();
            good.extend(way);
            good.insert(here);
            return;
        }
        way.push(here);
        world.step_calmly();
    }
    panic!("it does not come to rest: {:?}, {:?}", world.threads, world.pending);
}

/// Visits all states, and returns how many there are.
fn explore(replicas: usize, slaves: usize, programs: &[&[Op]], budget: Budget) -> usize {
    let config =
        PagingConfig { local: 2, landings: 8, staging_runs: 2, replicas, window: 0, hash_key: crate::world::KEY };
    let threads = programs.iter().map(|ops| Thread::new(ops.to_vec())).collect();
    let mut world = World::new(config, slaves, threads);
    world.map(100, 2);
    let start = State { world, budget };
    let mut seen = HashSet::from([start.fingerprint()]);
    let (mut open, mut good) = (vec![start], HashSet::new());
    while let Some(state) = open.pop() {
        state.world.check();
        finish(&state.world, &mut good);
        for next in state.next() {
            assert!(seen.len() < 400_000, "too many: {budget:?}");
            if seen.insert(next.fingerprint()) {
                open.push(next);
            }
        }
    }
    println!("{} states: {replicas} replicas, {budget:?}", seen.len());
    seen.len()
}

const A: u64 = 100;
const B: u64 = 101;

/// Both threads use both pages; one of them is written again after it has been away.
const WRITERS: [&[Op]; 2] = [&[Op::Write(A, 1), Op::Read(B), Op::Write(A, 2)], &[Op::Write(B, 3), Op::Read(A)]];

/// Pages go and come back, dirty and clean.
const AWAY: [&[Op]; 2] = [&[Op::Write(A, 1), Op::Write(B, 2), Op::Read(A), Op::Read(B)], &[Op::Read(A)]];

/// The same, shorter: where something goes wrong, there are many more orders.
const SHORT: [&[Op]; 2] = [&[Op::Write(A, 1), Op::Write(B, 2)], &[Op::Read(A)]];

fn enough(visited: usize) {
    assert!(visited > 100, "only {visited} states");
}

#[test]
fn pages_leave_and_come_back_in_every_order() {
    enough(explore(1, 2, &WRITERS, NONE));
    enough(explore(1, 2, &AWAY, NONE));
}

#[test]
fn requests_fail_and_answers_are_late() {
    enough(explore(1, 2, &AWAY[..1], Budget { fails: 2, ticks: 1, ..NONE }));
    enough(explore(1, 2, &SHORT, Budget { fails: 1, ..NONE }));
}

#[test]
fn an_extent_is_recalled_while_pages_move() {
    enough(explore(1, 2, &SHORT, Budget { recalls: 1, ..NONE }));
    enough(explore(1, 2, &AWAY[..1], Budget { recalls: 1, fails: 1, ticks: 1, ..NONE }));
}

#[test]
fn an_extent_is_lost_and_nobody_reads_zeros() {
    enough(explore(1, 2, &AWAY[..1], Budget { losses: 1, ticks: 1, ..NONE }));
    enough(explore(1, 2, &AWAY[..1], Budget { losses: 1, recalls: 1, ..NONE }));
}

#[test]
fn with_two_replicas_one_may_be_lost() {
    enough(explore(2, 3, &AWAY[..1], Budget { losses: 1, ..NONE }));
}

#[test]
fn a_fork_waits_until_all_pages_are_there() {
    let programs: [&[Op]; 2] = [&[Op::Write(A, 1), Op::Write(B, 2), Op::Fork], &[Op::Read(A)]];
    enough(explore(1, 2, &programs, NONE));
    enough(explore(1, 2, &programs[..1], Budget { fails: 1, ticks: 1, ..NONE }));
    let longer: [&[Op]; 1] = [&[Op::Write(A, 1), Op::Write(B, 2), Op::Fork, Op::Read(A)]];
    enough(explore(1, 2, &longer, Budget { losses: 1, ..NONE }));
}

#[test]
fn pages_are_dropped_while_they_move() {
    let programs: [&[Op]; 2] = [&[Op::Write(A, 1), Op::Write(B, 2), Op::Remove(A, 1), Op::Read(A)], &[Op::Read(B)]];
    enough(explore(1, 2, &programs, NONE));
    enough(explore(1, 2, &programs[..1], Budget { fails: 1, ticks: 1, ..NONE }));
    enough(explore(1, 2, &programs[..1], Budget { recalls: 1, ..NONE }));
}
