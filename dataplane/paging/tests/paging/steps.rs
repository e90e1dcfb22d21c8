//! One thing at a time.

use crate::world::{Fate, KEY, Op, Pending, Thread, World, hash_of};
use paging::{
    FillEnd, MoveEnd, PageState, Pager, PagingAction, PagingConfig, PagingConfigError, PagingEvent, ReadEnd, Ticket,
};

fn config(local: u64, replicas: usize) -> PagingConfig {
    PagingConfig { replicas, window: 0, ..PagingConfig::new(local, KEY) }
}

/// A world with one thread that has done all of this.
fn after(config: PagingConfig, ops: Vec<Op>) -> World {
    let slaves = config.replicas + 1;
    let mut world = World::new(config, slaves, vec![Thread::new(ops)]);
    world.map(100, 50);
    settle(&mut world);
    world
}

fn settle(world: &mut World) {
    for _ in 0..200 {
        if world.is_at_rest() {
            return world.check();
        }
        world.step_calmly();
    }
    panic!("{:?} {:?}", world.threads, world.pending);
}

/// Page 100 has 7, and is away.
fn away(replicas: usize) -> World {
    let world = after(config(2, replicas), vec![Op::Write(100, 7), Op::Write(101, 8), Op::Write(102, 9)]);
    assert_eq!(world.pager.state_at(100), Some(PageState::Remote));
    world
}

fn fault_on_100(world: &mut World) -> Vec<(usize, Pending)> {
    world.threads[0].ops = vec![Op::Read(100)];
    world.step(0);
    world.step(0);
    let reads = world.pending.iter().cloned().enumerate();
    reads.filter(|(_, pending)| matches!(pending, Pending::Read { .. })).collect()
}

/// Ends a READ with other bytes than were written.
fn corrupt(world: &mut World) {
    let (index, Pending::Read { ticket, .. }) =
        world.pending.iter().cloned().enumerate().find(|(_, pending)| matches!(pending, Pending::Read { .. })).unwrap()
    else {
        unreachable!()
    };
    world.pending.remove(index);
    world.tell(PagingEvent::Read { ticket: Ticket::of_tag(ticket), end: ReadEnd::Done(hash_of(7) ^ 1) });
}

#[test]
fn other_bytes_than_were_written_never_reach_the_program() {
    let mut world = away(1);
    world.may_lose = true;
    assert_eq!(fault_on_100(&mut world).len(), 1);
    corrupt(&mut world);
    assert_eq!((world.pager.state_at(100), world.pager.stats().corrupt), (Some(PageState::Lost), 1));
    assert!(!world.memory.contains_key(&100));
    // Who comes later is paused, too; once the program drops the page it is zeros.
    world.tell(PagingEvent::Fault { address: 100, thread: 9 });
    world.tell(PagingEvent::Unmapped { start: 100, pages: 1 });
    assert_eq!(world.pager.state_at(100), None);
}

#[test]
fn the_other_replica_is_read_when_one_has_other_bytes() {
    let mut world = away(2);
    fault_on_100(&mut world);
    corrupt(&mut world);
    settle(&mut world);
    assert!(world.threads[0].ops.is_empty());
    assert_eq!((world.pager.stats().corrupt, world.pager.stats().pages_lost), (1, 0));
}

#[test]
fn a_page_that_did_not_change_is_not_written_again() {
    let mut world = away(1);
    let before = world.pager.stats();
    fault_on_100(&mut world);
    settle(&mut world);
    world.threads[0].ops = vec![Op::Read(101), Op::Read(102)];
    settle(&mut world);
    let after = world.pager.stats();
    assert!(after.evicted_clean > before.evicted_clean, "{after:?}");
}

#[test]
fn pages_of_zeros_are_not_written() {
    let ops = (100..110).map(|page| Op::Write(page, 0)).collect();
    let world = after(config(2, 1), ops);
    let stats = world.pager.stats();
    assert!(stats.evicted_zero >= 8 && stats.evicted_dirty == 0 && world.extents.is_empty(), "{stats:?}");
}

#[test]
fn evictions_begin_at_half_of_the_reserve_and_make_it_whole() {
    let mut pager = Pager::new(config(400, 1)).unwrap();
    pager.handle(PagingEvent::Map { start: 0, pages: 1000 });
    let mut moved = 0;
    for address in 0..400 {
        pager.handle(PagingEvent::Fault { address, thread: 1 });
        while let Some(action) = pager.action() {
            match action {
                PagingAction::Zero { page, .. } => pager.handle(PagingEvent::Filled { page, end: FillEnd::Done }),
                PagingAction::MoveOut { pages, .. } => moved += pages.len() as u64,
                other => panic!("{other:?}"),
            }
        }
        if moved > 0 {
            assert_eq!((address, moved), (350, 51), "the reserve has 100 pages");
            assert_eq!(pager.books().in_state(PageState::Moving), 51);
            return;
        }
    }
    panic!("nothing moved");
}

#[test]
fn faults_that_wait_are_served_in_their_order_when_memory_is_free() {
    let mut world = after(config(2, 1), vec![Op::Write(100, 1), Op::Write(101, 2)]);
    // Nothing can leave: the pages are pinned.
    world.pinned.extend(100..104);
    world.threads = (102..104).map(|page| Thread::new(vec![Op::Read(page)])).collect();
    for _ in 0..20 {
        world.step_calmly();
    }
    let waiting = world.pager.books().in_state(PageState::Queued);
    assert!(waiting >= 1 && world.pager.stats().pinned > 0, "{waiting} wait");
    world.pinned.clear();
    settle(&mut world);
    assert!(world.threads.iter().all(|thread| thread.ops.is_empty()));
}

#[test]
fn a_fault_that_is_older_than_the_page_is_woken() {
    let mut world = after(config(8, 1), vec![Op::Write(100, 7)]);
    world.tell(PagingEvent::Fault { address: 100, thread: 5 });
    assert_eq!(world.pager.state_at(100), Some(PageState::Checking));
    settle(&mut world);
    assert_eq!((world.pager.state_at(100), world.memory[&100]), (Some(PageState::Resident), 7));
    // A page that the program dropped without an event is zeros.
    world.memory.remove(&100);
    world.truth.insert(100, 0);
    world.threads[0].ops = vec![Op::Read(100)];
    settle(&mut world);
    assert_eq!(world.pager.stats().stale, 2);
}

#[test]
fn a_write_that_fails_is_repeated_into_the_same_slot() {
    let mut world = World::new(config(2, 1), 2, vec![Thread::new(vec![Op::Write(100, 7), Op::Write(101, 8)])]);
    world.map(100, 50);
    let mut slots = Vec::new();
    for _ in 0..100 {
        let write = world.pending.iter().position(|pending| matches!(pending, Pending::Write { .. }));
        if let Some(index) = write {
            let Pending::Write { slot, .. } = world.pending[index] else { unreachable!() };
            slots.push(slot);
            let fate = if slots.len() < 3 { Fate::FailsDone } else { Fate::Good };
            world.finish(index, fate);
            world.check();
            world.tell(PagingEvent::Tick);
            continue;
        }
        world.step_calmly_but_writes();
    }
    assert_eq!(slots, [slots[0]; 3]);
    assert_eq!(world.pager.stats().failed, 2);
    settle(&mut world);
}

#[test]
fn what_cannot_be_allocated_is_asked_for_again() {
    let mut world = World::new(config(2, 3), 2, vec![Thread::new(vec![Op::Write(100, 7), Op::Write(101, 8)])]);
    world.map(100, 50);
    for _ in 0..30 {
        world.step_calmly();
    }
    assert!(world.extents.is_empty() && world.pager.books().in_state(PageState::Staged) == 1);
    world.check();
}

#[test]
fn a_fork_is_refused_when_the_pages_do_not_fit() {
    let mut world = after(config(8, 1), (100..120).map(|page| Op::Write(page, page)).collect());
    world.threads[0].ops = vec![Op::Fork];
    settle(&mut world);
    assert_eq!(world.forks, 0);
    // When the program has dropped most of them, the others come, and it forks.
    world.threads[0].ops = vec![Op::Fork, Op::Remove(100, 15)];
    settle(&mut world);
    assert_eq!(world.forks, 1);
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = Pager::new(PagingConfig { replicas: 0, ..PagingConfig::new(100, 1) });
    assert_eq!(refused.err(), Some(PagingConfigError::Replicas(0)));
}

#[test]
fn a_scan_is_read_in_advance_in_the_bulk_lane() {
    let mut world = World::new(
        PagingConfig { window: 32, ..PagingConfig::new(400, KEY) },
        2,
        vec![Thread::new((100..1100).map(|page| Op::Write(page, page)).collect())],
    );
    world.map(100, 1000);
    let calm = |world: &mut World| {
        for _ in 0..20_000 {
            if world.is_at_rest() {
                return world.check();
            }
            world.step_calmly();
        }
        panic!("{:?}", world.pager.books());
    };
    calm(&mut world);
    world.threads[0].ops = (100..1100).rev().map(Op::Read).collect();
    calm(&mut world);
    let stats = world.pager.stats();
    assert!(stats.prefetched > 8 * stats.fetched, "{stats:?}");
    assert!(stats.windows_right > 10, "{stats:?}");
}

#[test]
fn a_pinned_page_stays_and_its_neighbours_leave() {
    let mut pager = Pager::new(config(8, 1)).unwrap();
    pager.handle(PagingEvent::Map { start: 0, pages: 100 });
    let mut moving = Vec::new();
    for address in 0..8 {
        pager.handle(PagingEvent::Fault { address, thread: 1 });
        while let Some(action) = pager.action() {
            match action {
                PagingAction::Zero { page, .. } => pager.handle(PagingEvent::Filled { page, end: FillEnd::Done }),
                PagingAction::MoveOut { pages, .. } => moving.extend(pages),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(moving.len(), 2, "half of the reserve of two pages was left");
    pager.handle(PagingEvent::MovedOut { page: moving[0], end: MoveEnd::Pinned });
    pager.handle(PagingEvent::MovedOut { page: moving[1], end: MoveEnd::Moved(hash_of(3)) });
    assert_eq!(pager.state_at(0), Some(PageState::Resident));
    assert_eq!(pager.stats().pinned, 1);
    pager.check();
}
