//! The master's process starts again, and finds the leases of the process before by their locks.

use crate::life::{fill, request, run};
use crate::world::World;
use frame::time::SECOND;
use lease::LeaseSecrets;
use master::{AllocationRefusal, MasterConfig, MasterEvent, PageOp, PageRequest, PageStatus};
use wire::lease::Refusal;

/// A start of a master with this seed.
fn start(seed: u8, number: u64) -> impl FnOnce(&mut MasterConfig) {
    move |config| config.lease_secrets = LeaseSecrets::new(&[seed; 32], number)
}

/// Leases that slaves resumed, and leases that expired.
fn ends(world: &World) -> (u64, u64) {
    let sum = |of: fn(&lease::LenderCounters) -> u64| {
        world.slaves.iter().map(|slave| of(slave.lender.counters())).sum::<u64>()
    };
    (sum(|counters| counters.leases_resumed.get()), sum(|counters| counters.leases_expired.get()))
}

/// All memory of all slaves is leased, and has bytes. A request for the last extent.
fn full(world: &mut World, extents: u32) -> PageRequest {
    let (client, buffer) = world.client(extents);
    let theirs = world.allocate(client, extents, false).unwrap();
    for extent in &theirs {
        fill(world, buffer, 0, 4096, 9);
        assert_eq!(run(world, request(client, buffer, *extent, PageOp::Write)), PageStatus::Done);
    }
    assert!(world.slaves.iter().all(|slave| slave.lender.books().free == 0));
    request(client, buffer, theirs[0], PageOp::Read)
}

/// All memory can be had again, and is zero.
fn has_it_again(world: &mut World, extents: u32) {
    let (client, buffer) = world.client(extents);
    for extent in world.allocate(client, extents, false).unwrap() {
        fill(world, buffer, 0, 4096, 0xee);
        assert_eq!(run(world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
        assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &[0; 4096]);
    }
}

#[test]
fn a_master_with_its_seed_has_all_memory_again_within_seconds() {
    for seed in 60..80 {
        let mut world = World::with(seed, &[2, 1], 2, start(7, 4));
        world.start();
        full(&mut world, 96);
        world.restart_master(start(7, 5));
        world.start();
        let began = world.now;
        has_it_again(&mut world, 96);
        assert!(world.now - began < 10 * SECOND, "{}", world.now - began);
        assert_eq!(ends(&world), (2, 0));
        assert_eq!(world.master.stats().counters.leases_found.get(), 2);
    }
}

#[test]
fn a_lease_is_found_after_many_sessions_and_by_a_later_start() {
    let mut world = World::with(81, &[2], 1, start(7, 0));
    world.start();
    let read = full(&mut world, 64);
    for _ in 0..5 {
        let now = world.now;
        world.slaves[0].break_pairs(now);
        assert_eq!(run(&mut world, read), PageStatus::Done);
    }
    let resumed = ends(&world).0;
    assert_eq!(resumed, 5);
    // The process in the middle had no time to do anything.
    world.restart_master(start(7, 1));
    world.restart_master(start(7, 2));
    world.start();
    has_it_again(&mut world, 64);
    assert_eq!(ends(&world), (resumed + 1, 0));
}

#[test]
fn without_its_seed_a_master_waits_until_the_lease_has_expired() {
    let mut world = World::with(82, &[2], 1, start(7, 0));
    world.start();
    full(&mut world, 64);
    // A second master of the same id, or one that has lost its file.
    world.restart_master(start(8, 1));
    world.start();
    let (client, _) = world.client(64);
    assert_eq!(world.allocate(client, 1, false), Err(AllocationRefusal::NoMemory));
    let refused = MasterEvent::SlaveRefused { slave: 17, refusal: Refusal::Held };
    assert!(world.told.contains(&refused), "{:?}", world.told);
    assert_eq!((ends(&world), world.lent(0)), ((0, 0), 2));
    world.run(60 * SECOND);
    assert_eq!((ends(&world), world.lent(0)), ((0, 1), 0));
    has_it_again(&mut world, 64);
}
