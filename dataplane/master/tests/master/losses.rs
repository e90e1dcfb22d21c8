//! Slaves start again, vanish, want their memory back; queue pairs fail.

use crate::life::{fill, request, run};
use crate::world::World;
use frame::Role;
use frame::time::{MILLISECOND, SECOND};
use master::{BufferKey, ClientId, ExtentId, Loss, MasterEvent, PageOp, PageStatus};

/// A world with one slave and a written extent.
fn written(seed: u64, units: u32) -> (World, ClientId, BufferKey, ExtentId, Vec<u8>) {
    let mut world = World::new(seed, &[units], 1);
    world.start();
    let (client, buffer) = world.client(256);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let bytes = fill(&mut world, buffer, 0, 4096, 9);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Write)), PageStatus::Done);
    fill(&mut world, buffer, 0, 4096, 0xee);
    (world, client, buffer, extent, bytes)
}

/// Under way while it happens, and after it: both end with this status, and no byte of the buffer changes.
fn loses(world: &mut World, client: ClientId, buffer: BufferKey, extent: ExtentId, status: PageStatus) {
    let before = world.master.buffer_mut(buffer).unwrap().clone();
    world.master.submit(world.now, &[request(client, buffer, extent, PageOp::Read)]);
    let done = world.completions(1);
    assert_eq!(done[0].status, status);
    assert_eq!(run(world, request(client, buffer, extent, PageOp::Read)), status);
    assert_eq!(*world.master.buffer_mut(buffer).unwrap(), before, "lost bytes were read");
    assert!(world.master.free(client, extent));
    assert_eq!(world.books().lost, 0);
}

#[test]
fn extents_of_a_slave_that_started_again_are_lost() {
    let (mut world, client, buffer, extent, _) = written(21, 2);
    world.restart_slave(0);
    loses(&mut world, client, buffer, extent, PageStatus::SlaveRestarted);
    world.run(MILLISECOND);
    let lost = MasterEvent::ExtentLost { client, extent, loss: Loss::SlaveRestarted };
    assert!(world.told.contains(&lost));
    let again = world.allocate(client, 1, false).unwrap()[0];
    assert_eq!(run(&mut world, request(client, buffer, again, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &[0; 4096]);
}

#[test]
fn extents_of_a_slave_that_is_gone_are_lost_and_when_it_is_back_its_memory_is_zero() {
    let (mut world, client, buffer, extent, _) = written(22, 1);
    world.cut = vec![17];
    loses(&mut world, client, buffer, extent, PageStatus::SlaveGone);
    assert_eq!(world.lent(0), 1, "the slave has not heard of it");
    world.cut = Vec::new();
    world.start();
    // The lease is resumed with nothing kept, so that its unit is scrubbed and can be had again at once.
    let again = world.allocate(client, 1, false).unwrap()[0];
    assert_eq!(run(&mut world, request(client, buffer, again, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &[0; 4096]);
    assert_eq!(world.slaves[0].lender.counters().leases_resumed.get(), 1);
}

#[test]
fn a_failed_queue_pair_is_replaced_and_nothing_is_lost() {
    let (mut world, client, buffer, extent, bytes) = written(23, 1);
    for _ in 0..5 {
        fill(&mut world, buffer, 0, 4096, 0xee);
        let now = world.now;
        world.slaves[0].break_pairs(now);
        world.master.submit(world.now, &[request(client, buffer, extent, PageOp::Read); 10]);
        let done = world.completions(10);
        assert!(done.iter().all(|one| one.status == PageStatus::Done), "{done:?}");
        assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
    }
    assert_eq!(world.master.stats().counters.sessions_renewed.get(), 5);
    assert_eq!(world.slaves[0].lender.counters().leases_resumed.get(), 5);
}

#[test]
fn a_slave_without_queue_pairs_is_asked_again() {
    let (mut world, client, buffer, extent, bytes) = written(24, 1);
    world.slaves[0].set_room(false);
    let now = world.now;
    world.slaves[0].break_pairs(now);
    world.master.submit(world.now, &[request(client, buffer, extent, PageOp::Read)]);
    world.run(12 * SECOND);
    assert_eq!((world.master.poll(), world.books().requests), (None, 1), "it waits");
    world.slaves[0].set_room(true);
    assert_eq!(world.completions(1)[0].status, PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
}

#[test]
fn a_recall_takes_empty_units_and_tells_the_clients_of_the_others() {
    let (mut world, client, buffer, extent, bytes) = written(25, 3);
    let more = world.allocate(client, 64, false).unwrap();
    assert_eq!(world.lent(0), 3);
    // One unit has nothing but the last extent.
    let now = world.now;
    world.slaves[0].lender.set_limit(now, 2, 20 * SECOND);
    let recalled = |world: &World| -> Vec<ExtentId> {
        let of = |event: &MasterEvent| match event {
            MasterEvent::ExtentRecalled { extent, .. } => Some(*extent),
            _ => None,
        };
        world.told.iter().filter_map(of).collect()
    };
    world.run_until(5 * SECOND, "a recall", |world| !recalled(world).is_empty());
    world.run(SECOND);
    let told = recalled(&world);
    assert_eq!((told.len(), told[0]), (1, *more.last().unwrap()), "the highest index, and each extent once");
    assert_eq!(world.lent(0), 3, "it is still there");
    assert_eq!(run(&mut world, request(client, buffer, told[0], PageOp::Read)), PageStatus::Done);
    // The client has moved the bytes, and frees the extent.
    assert!(world.master.free(client, told[0]));
    world.run_until(SECOND, "it went back", |world| world.lent(0) == 2);
    assert_eq!(world.slaves[0].lender.counters().units_taken.get(), 0);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
    assert_eq!(world.master.stats().counters.extents_lost.get(), 0);
}

#[test]
fn what_went_back_is_not_recalled_twice() {
    let (mut world, client, _, extent, _) = written(30, 4);
    let more = world.allocate(client, 95, false).unwrap();
    assert_eq!(world.lent(0), 3);
    // One of the three units is empty then, and kept for the client.
    more[31..63].iter().for_each(|extent| assert!(world.master.free(client, *extent)));
    world.run(SECOND);
    assert_eq!(world.lent(0), 3);
    let now = world.now;
    world.slaves[0].lender.set_limit(now, 1, 20 * SECOND);
    let recalled = |world: &World| -> Vec<ExtentId> {
        let of = |event: &MasterEvent| match event {
            MasterEvent::ExtentRecalled { extent, .. } => Some(*extent),
            _ => None,
        };
        world.told.iter().filter_map(of).collect()
    };
    world.run_until(5 * SECOND, "a recall", |world| !recalled(world).is_empty());
    // The slave does not answer, while something else happens to its units.
    world.faults.lost = 1_000_000;
    assert!(world.master.free(client, more[0]));
    world.run(100 * MILLISECOND);
    assert_eq!(recalled(&world).len(), 32);
    world.faults.lost = 0;
    world.run(5 * SECOND);
    let recalled = recalled(&world);
    assert_eq!((world.lent(0), recalled.len()), (2, 32));
    assert!(!recalled.contains(&extent), "the lowest unit stays");
}

#[test]
fn what_does_not_go_back_in_time_is_taken_and_its_extents_are_lost() {
    let (mut world, client, buffer, extent, bytes) = written(26, 2);
    let more = world.allocate(client, 32, false).unwrap();
    let last = *more.last().unwrap();
    let now = world.now;
    world.slaves[0].lender.set_limit(now, 1, 2 * SECOND);
    world.run(3 * SECOND);
    assert_eq!(world.slaves[0].lender.counters().units_taken.get(), 1);
    loses(&mut world, client, buffer, last, PageStatus::Recalled);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
}

#[test]
fn a_request_on_a_unit_that_was_just_taken_ends_with_that_name() {
    let (mut world, client, buffer, extent, bytes) = written(27, 2);
    let more = world.allocate(client, 32, false).unwrap();
    let last = *more.last().unwrap();
    world.run(SECOND);
    // The master cannot hear of it before its request is refused.
    let now = world.now;
    world.slaves[0].lender.set_limit(now, 1, 0);
    world.faults.lost = 300_000;
    let reads = [request(client, buffer, last, PageOp::Read), request(client, buffer, extent, PageOp::Read)];
    world.master.submit(world.now, &reads);
    let mut done = world.completions(1);
    // The other one goes to the new session. With the losses it could take so long that the slave counts as gone.
    world.faults.lost = 0;
    done.extend(world.completions(1));
    done.sort_by_key(|one| one.status == PageStatus::Done);
    assert_eq!((done[0].status, done[1].status), (PageStatus::Recalled, PageStatus::Done));
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
}

/// Otherwise the request, sent again, could write into a unit that came to the same index.
#[test]
fn queue_pairs_end_before_the_index_of_a_lost_unit_can_have_another_unit() {
    let (mut world, client, buffer, extent, bytes) = written(31, 2);
    let more = world.allocate(client, 32, false).unwrap();
    let last = *more.last().unwrap();
    world.run(SECOND);
    let renewed = |world: &World| world.master.stats().counters.sessions_renewed.get();
    let before = renewed(&world);
    // The request is lost on its way; what the slave says of the unit is not.
    world.master.submit(world.now, &[request(client, buffer, last, PageOp::Write)]);
    world.advance();
    world.lose_flights();
    let now = world.now;
    world.slaves[0].lender.set_limit(now, 1, 0);
    let lost = MasterEvent::ExtentLost { client, extent: last, loss: Loss::Recalled };
    world.run_until(SECOND, "the loss", |world| world.told.contains(&lost));
    assert_eq!(renewed(&world), before + 1);
    assert_eq!(world.completions(1)[0].status, PageStatus::Recalled);
    fill(&mut world, buffer, 0, 4096, 0xee);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
}

#[test]
fn a_slave_that_leaves_gets_its_memory_back_and_no_new_extents() {
    let (mut world, client, buffer, extent, _) = written(28, 1);
    let now = world.now;
    world.slaves[0].lender.leave(now, 2 * SECOND);
    world.run(2 * SECOND + 500 * MILLISECOND);
    // Everything was taken, and the lease has ended with that.
    loses(&mut world, client, buffer, extent, PageStatus::LeaseEnded);
    world.run(5 * SECOND);
    assert!(world.slaves[0].lender.is_drained());
    assert_eq!(world.allocate(client, 1, false), Err(master::AllocationRefusal::NoMemory));
}

#[test]
fn a_byte_that_changes_behind_our_back_is_seen_by_this_test() {
    let (mut world, client, buffer, extent, bytes) = written(29, 1);
    assert!(world.slaves[0].flip_a_byte());
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    let read = &world.master.buffer_mut(buffer).unwrap()[..4096];
    assert_eq!(read.iter().zip(&bytes).filter(|(a, b)| a != b).count(), 1);
}

#[test]
fn a_smaller_mtu_makes_a_new_session_whose_packets_fit() {
    let (mut world, client, buffer, extent, bytes) = written(31, 1);
    let mut out = crate::world::outbox();
    world.master.command(world.now, master::MasterCommand::SetMtu(600), &mut out);
    world.run_until(SECOND, "a new session", |world| world.slaves[0].lender.counters().leases_resumed.get() == 1);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
    let stats = world.master.stats();
    assert_eq!((stats.counters.sessions_renewed.get(), stats.records.rc_dropped_too_large.get()), (1, 0));
}

#[test]
fn a_larger_mtu_makes_a_new_session_with_larger_packets() {
    let (mut world, client, buffer, extent, bytes) = written(37, 1);
    let mut out = crate::world::outbox();
    world.master.command(world.now, master::MasterCommand::SetMtu(600), &mut out);
    world.run_until(SECOND, "smaller packets", |world| world.slaves[0].lender.counters().leases_resumed.get() == 1);
    let packets = |world: &World| world.master.stats().transport.packets_in.get();
    let read = |world: &mut World| {
        let before = packets(world);
        assert_eq!(run(world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
        assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &bytes[..]);
        packets(world) - before
    };
    // Packets overtake each other in this network, so that some are sent again.
    let small = read(&mut world);
    assert!(small >= 16, "a path MTU of 256: {small} packets");
    world.master.command(world.now, master::MasterCommand::SetMtu(1500), &mut out);
    world.run_until(10 * SECOND, "larger packets", |world| world.slaves[0].lender.counters().leases_resumed.get() == 2);
    let large = read(&mut world);
    assert!(large < 16, "a path MTU of 1024: {large} packets");
    // It stays as it is.
    world.run(10 * SECOND);
    assert_eq!(world.master.stats().counters.sessions_renewed.get(), 2);
}
