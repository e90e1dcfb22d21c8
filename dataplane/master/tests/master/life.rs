//! The life of extents: allocated, written, read, freed.

use crate::world::{BASE, BUFFER, CLUSTER_KEY, World};
use frame::Role;
use frame::time::{MILLISECOND, SECOND};
use lease::{ConnectKey, ConnectKeys};
use master::{
    AllocationRefusal, BufferKey, ClientId, ExtentId, MasterCommand, MasterEvent, PageOp, PageRequest, PageStatus,
    Urgency,
};
use std::collections::BTreeSet;

pub(crate) fn request(client: ClientId, buffer: BufferKey, extent: ExtentId, op: PageOp) -> PageRequest {
    PageRequest { client, tag: 7, op, urgency: Urgency::Demand, extent, offset: 0, len: 4096, buffer, address: BASE }
}

pub(crate) fn fill(world: &mut World, buffer: BufferKey, at: usize, len: usize, seed: u8) -> Vec<u8> {
    let bytes: Vec<u8> = (0..len).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect();
    world.master.buffer_mut(buffer).unwrap()[at..at + len].copy_from_slice(&bytes);
    bytes
}

/// Does one request, and gives its status.
pub(crate) fn run(world: &mut World, request: PageRequest) -> PageStatus {
    assert_eq!(world.master.submit(world.now, &[request]), 1);
    let done = world.completions(1);
    assert_eq!((done[0].client, done[0].tag), (request.client, request.tag));
    let expected = if done[0].status == PageStatus::Done { request.len } else { 0 };
    assert_eq!(done[0].len, expected);
    done[0].status
}

#[test]
fn what_is_written_is_read_and_memory_comes_and_goes_with_its_use() {
    let mut world = World::new(1, &[4], 1);
    world.start();
    world.run(SECOND);
    assert_eq!(world.lent(0), 0, "a slave is connected on first use");
    let (client, buffer) = world.client(64);
    let extents = world.allocate(client, 33, false).unwrap();
    assert_eq!((world.lent(0), extents.iter().collect::<BTreeSet<_>>().len()), (2, 33));
    let books = world.books();
    assert_eq!((books.units, books.live, books.free), (2, 33, 31));
    for (extent, urgency, offset, len) in [
        (extents[0], Urgency::Demand, 0, 4096),
        (extents[32], Urgency::Bulk, 1 << 20, 1 << 20),
        (extents[5], Urgency::Bulk, (2 << 20) - 3, 3),
    ] {
        let at = |op| PageRequest { offset, len, urgency, ..request(client, buffer, extent, op) };
        let written = fill(&mut world, buffer, 0, len as usize, offset as u8);
        assert_eq!(run(&mut world, at(PageOp::Write)), PageStatus::Done);
        fill(&mut world, buffer, 0, len as usize, 0xee);
        assert_eq!(run(&mut world, at(PageOp::Read)), PageStatus::Done);
        assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..len as usize], &written[..]);
    }
    assert_eq!(run(&mut world, request(client, buffer, extents[1], PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &[0; 4096], "nobody wrote there");
    assert!(extents.iter().all(|extent| world.master.free(client, *extent)));
    assert!(!world.master.free(client, extents[0]), "it is freed once");
    world.run_until(SECOND, "all but one unit went back", |world| world.lent(0) == 1);
    world.master.remove_client(client);
    world.run_until(SECOND, "the lease ended", |world| world.slaves[0].lender.books().leases == 0);
    world.run_until(SECOND, "it was scrubbed", |world| world.slaves[0].written().is_empty());
    assert!(world.told.contains(&MasterEvent::ClientRemoved(client)));
    let stats = world.master.stats();
    assert_eq!(stats.counters.requests_done.get(), 7);
    let histograms = [stats.histograms.demand_ns.snapshot().count(), stats.histograms.bulk_ns.snapshot().count()];
    assert_eq!(histograms, [3, 4]);
    assert_eq!((stats.counters.units_held.get(), stats.counters.slaves_connected.get()), (0, 0));
}

#[test]
fn many_requests_of_both_urgencies_end_once_each_also_when_half_of_the_packets_are_late() {
    let mut world = World::new(2, &[2, 2], 1);
    world.start();
    let (client, buffer) = world.client(64);
    let extents = world.allocate(client, 8, false).unwrap();
    world.faults.late = 500_000;
    world.faults.lost = 20_000;
    for round in 0..4u64 {
        let requests: Vec<PageRequest> = (0..32)
            .map(|tag| PageRequest {
                tag: 100 * round + tag,
                urgency: if tag % 2 == 0 { Urgency::Demand } else { Urgency::Bulk },
                offset: 8192 * tag as u32,
                address: BASE + 4096 * tag,
                ..request(
                    client,
                    buffer,
                    extents[tag as usize % 8],
                    if round % 2 == 0 { PageOp::Write } else { PageOp::Read },
                )
            })
            .collect();
        let written = if round % 2 == 0 {
            fill(&mut world, buffer, 0, 32 * 4096, round as u8)
        } else {
            world.master.buffer_mut(buffer).unwrap().clone()
        };
        if round % 2 == 1 {
            fill(&mut world, buffer, 0, 32 * 4096, 0xee);
        }
        assert_eq!(world.master.submit(world.now, &requests), 32);
        let done = world.completions(32);
        assert!(done.iter().all(|one| one.status == PageStatus::Done));
        let tags: BTreeSet<u64> = done.iter().map(|one| one.tag).collect();
        assert_eq!(tags, (100 * round..100 * round + 32).collect());
        assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..32 * 4096], &written[..32 * 4096]);
    }
}

#[test]
fn extents_that_shall_be_apart_are_in_different_failure_domains() {
    // Slaves 17 and 18 are in one domain, 19 and 20 in the next, 21 and 22 in the last.
    let mut world = World::new(3, &[1; 6], 1);
    world.start();
    let (client, _) = world.client(64);
    for _ in 0..4 {
        let extents = world.allocate(client, 3, true).unwrap();
        let slaves = extents.iter().map(|extent| world.master.slave_of(client, *extent).unwrap());
        let domains: BTreeSet<u32> = slaves.map(|slave| (slave - 17) / 2).collect();
        assert_eq!(domains.len(), 3);
    }
    assert_eq!(world.allocate(client, 4, true), Err(AllocationRefusal::NoMemory));
    assert_eq!(world.allocate(client, 17, true), Err(AllocationRefusal::Count));
    assert_eq!(world.allocate(client, 0, false), Err(AllocationRefusal::Count));
    assert_eq!(world.books().live, 12, "nothing is left of what failed");
}

#[test]
fn memory_is_spread_by_room() {
    let mut world = World::new(4, &[1, 8], 1);
    world.start();
    let (client, _) = world.client(200);
    for _ in 0..6 {
        world.allocate(client, 24, false).unwrap();
        world.run(SECOND);
    }
    assert!(world.lent(1) >= 4, "the larger slave has more: {} and {}", world.lent(0), world.lent(1));
}

#[test]
fn what_a_client_may_have_is_bounded() {
    let mut world = World::new(5, &[4], 1);
    world.start();
    let (client, buffer) = world.client(4);
    assert_eq!(world.allocate(client, 5, false), Err(AllocationRefusal::Quota));
    let extents = world.allocate(client, 4, false).unwrap();
    assert_eq!(world.allocate(client, 1, false), Err(AllocationRefusal::Quota));
    let reads = vec![request(client, buffer, extents[0], PageOp::Read); 40];
    assert_eq!(world.master.submit(world.now, &reads), 40);
    let done = world.completions(40);
    let beyond = done.iter().filter(|one| one.status == PageStatus::Quota).count();
    assert_eq!((beyond, done.iter().filter(|one| one.status == PageStatus::Done).count()), (8, 32));
    assert!(world.master.add_buffer(client, BASE, vec![0; 8]).is_some());
    assert_eq!(world.master.add_buffer(client, BASE, vec![0; 8]), None);
}

#[test]
fn a_full_table_takes_no_more_until_completions_are_polled() {
    let mut world = World::new(6, &[1], 1);
    world.start();
    let (one, buffer) = world.client(1);
    let extent = world.allocate(one, 1, false).unwrap()[0];
    let (two, _) = world.client(1);
    let bad = vec![request(two, buffer, extent, PageOp::Read); 31];
    assert_eq!(world.master.submit(world.now, &bad), 31);
    let reads = vec![request(one, buffer, extent, PageOp::Read); 40];
    assert_eq!(world.master.submit(world.now, &reads), 64 - 31, "64 fit");
    assert_eq!(world.master.room(), 0);
    assert_eq!(world.completions(64).len(), 64);
    assert_eq!((world.master.submit(world.now, &reads[..2]), world.completions(2).len()), (2, 2));
}

#[test]
fn a_request_that_cannot_be_is_refused_by_name() {
    let mut world = World::new(7, &[4], 1);
    world.start();
    let (client, buffer) = world.client(4);
    let (other, other_buffer) = world.client(4);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let theirs = world.allocate(other, 1, false).unwrap()[0];
    let good = request(client, buffer, extent, PageOp::Read);
    let unknown = ExtentId::from_number(extent.get() + (1 << 32));
    for (bad, status) in [
        (PageRequest { extent: theirs, ..good }, PageStatus::NoSuchExtent),
        (PageRequest { extent: unknown, ..good }, PageStatus::NoSuchExtent),
        (PageRequest { extent: ExtentId::from_number(u64::MAX), ..good }, PageStatus::NoSuchExtent),
        (PageRequest { len: 0, ..good }, PageStatus::OutOfRange),
        (PageRequest { offset: (2 << 20) - 4095, ..good }, PageStatus::OutOfRange),
        (PageRequest { offset: u32::MAX, len: u32::MAX, ..good }, PageStatus::OutOfRange),
        (PageRequest { buffer: other_buffer, ..good }, PageStatus::BadBuffer),
        (PageRequest { address: BASE - 1, ..good }, PageStatus::BadBuffer),
        (PageRequest { address: BASE + BUFFER as u64 - 4095, ..good }, PageStatus::BadBuffer),
        (PageRequest { address: u64::MAX, ..good }, PageStatus::BadBuffer),
    ] {
        assert_eq!(run(&mut world, bad), status, "{bad:?}");
    }
    assert_eq!(run(&mut world, good), PageStatus::Done);
    world.master.remove_client(client);
    assert_eq!(run(&mut world, good), PageStatus::NoSuchClient);
    assert_eq!(run(&mut world, request(other, other_buffer, theirs, PageOp::Read)), PageStatus::Done);
}

#[test]
fn no_client_reads_what_another_one_wrote() {
    let mut world = World::new(8, &[1], 1);
    world.start();
    let (one, buffer) = world.client(4);
    let extent = world.allocate(one, 1, false).unwrap()[0];
    fill(&mut world, buffer, 0, 4096, 1);
    assert_eq!(run(&mut world, request(one, buffer, extent, PageOp::Write)), PageStatus::Done);
    assert!(world.master.free(one, extent));
    // The unit was kept for client one; it goes back, is scrubbed, and comes again.
    let (two, theirs) = world.client(4);
    let again = world.allocate(two, 1, false).unwrap()[0];
    fill(&mut world, theirs, 0, 4096, 0xee);
    assert_eq!(run(&mut world, request(two, theirs, again, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(theirs).unwrap()[..4096], &[0; 4096]);
}

#[test]
fn a_freed_extent_keeps_its_place_until_its_requests_have_ended() {
    let mut world = World::new(9, &[1], 1);
    world.start();
    let (client, buffer) = world.client(2);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let write = request(client, buffer, extent, PageOp::Write);
    world.master.submit(world.now, &[write; 3]);
    assert!(world.master.free(client, extent));
    let books = world.books();
    assert_eq!((books.live, books.leaving, books.used), (0, 1, 1));
    assert_eq!(world.master.submit(world.now, &[write]), 1);
    let done = world.completions(4);
    let statuses: Vec<PageStatus> = done.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [PageStatus::NoSuchExtent, PageStatus::Done, PageStatus::Done, PageStatus::Done]);
    assert_eq!(world.books().used, 0);
}

#[test]
fn a_drain_gives_everything_back() {
    let mut world = World::new(10, &[2, 2], 2);
    world.start();
    let (client, buffer) = world.client(64);
    let extents = world.allocate(client, 64, false).unwrap();
    world.master.submit(world.now, &[request(client, buffer, extents[0], PageOp::Read); 8]);
    let mut out = crate::world::outbox();
    world.master.command(world.now, MasterCommand::Drain, &mut out);
    assert!(!world.master.is_drained());
    world.run_until(10 * SECOND, "drained", |world| world.master.is_drained());
    assert_eq!(world.completions(8).len(), 8);
    assert!(world.slaves.iter().all(|slave| slave.lender.books().leases == 0));
    assert_eq!(world.master.add_client(master::ClientQuota { extents: 1, requests: 1, buffers: 1 }), None);
}

#[test]
fn cargo_takes_another_gateway_when_one_is_down() {
    let mut world = World::new(11, &[2], 2);
    world.start();
    world.run(5 * SECOND);
    let (client, buffer) = world.client(4);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    assert_eq!(world.master.gateway_of(17), Some(0));
    let written = fill(&mut world, buffer, 0, 4096, 3);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Write)), PageStatus::Done);
    world.set_down(0, true);
    fill(&mut world, buffer, 0, 4096, 0xee);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &written[..]);
    assert_eq!((world.master.gateway_of(17), world.lent(0)), (Some(1), 1));
    world.set_down(0, false);
    world.run_until(20 * SECOND, "back at the first", |world| world.master.gateway_of(17) == Some(0));
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert!(world.master.stats().counters.master_gateway_moves.get() >= 2);
    world.run(100 * MILLISECOND);
}

#[test]
fn a_lease_goes_on_for_as_long_as_it_is_used() {
    let mut world = World::new(12, &[1], 1);
    world.start();
    let (client, buffer) = world.client(4);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let written = fill(&mut world, buffer, 0, 4096, 3);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Write)), PageStatus::Done);
    world.run(200 * SECOND);
    fill(&mut world, buffer, 0, 4096, 0xee);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &written[..]);
}

#[test]
fn the_connect_key_changes_while_a_lease_goes_on() {
    let mut world = World::new(15, &[2, 2], 1);
    world.start();
    let (client, buffer) = world.client(64);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let written = fill(&mut world, buffer, 0, 4096, 3);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Write)), PageStatus::Done);
    let (old, new) = (ConnectKey::of_cluster(&CLUSTER_KEY), ConnectKey::of_cluster(&[0x77; 32]));
    let both = ConnectKeys::changing(old, new.clone());
    let mut out = crate::world::outbox();
    for keys in [both.clone(), new.clone().into()] {
        for slave in &mut world.slaves {
            slave.lender.set_keys(keys.clone());
        }
        world.run(30 * SECOND);
        world.master.command(world.now, MasterCommand::SetConnectKeys(keys), &mut out);
        world.run(30 * SECOND);
    }
    fill(&mut world, buffer, 0, 4096, 0xee);
    assert_eq!(run(&mut world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    assert_eq!(&world.master.buffer_mut(buffer).unwrap()[..4096], &written[..]);
    // A slave that it connects to now has the new key alone.
    assert_eq!(world.allocate(client, 63, false).map(|extents| extents.len()), Ok(63));
    let opened: u64 = world.slaves.iter().map(|slave| slave.lender.counters().leases_opened.get()).sum();
    assert_eq!((opened, world.master.stats().counters.extents_lost.get()), (2, 0));
}

#[test]
fn commands_of_another_thread_are_answered_by_events() {
    let mut world = World::new(13, &[1], 1);
    world.start();
    let mut out = crate::world::outbox();
    let quota = master::ClientQuota { extents: 1, requests: 1, buffers: 1 };
    world.master.command(world.now, MasterCommand::AddClient { tag: 5, quota }, &mut out);
    world.run(MILLISECOND);
    let Some(MasterEvent::ClientAdded(5, Some(client))) = world.told.pop() else { panic!("no client") };
    let memory = vec![0; 4096];
    world.master.command(world.now, MasterCommand::AddBuffer { client, tag: 6, base: BASE, memory }, &mut out);
    world.run(MILLISECOND);
    let Some(MasterEvent::BufferAdded(_, 6, Some(buffer))) = world.told.pop() else { panic!("no buffer") };
    let wanted = master::Allocate { client, tag: 7, count: 1, apart: false };
    world.master.command(world.now, MasterCommand::Allocate(wanted), &mut out);
    world.run(SECOND);
    let Some(MasterEvent::Allocated { tag: 7, extents, .. }) = world.told.pop() else { panic!("no extents") };
    assert_eq!(run(&mut world, request(client, buffer, extents[0], PageOp::Read)), PageStatus::Done);
    world.master.command(world.now, MasterCommand::Free(client, extents), &mut out);
    world.master.command(world.now, MasterCommand::RemoveClient(client), &mut out);
    world.run_until(SECOND, "removed", |world| world.told.contains(&MasterEvent::ClientRemoved(client)));
}

#[test]
fn gateways_are_asked_to_hurry_for_demand_requests_alone() {
    let mut world = World::new(14, &[1], 1);
    world.start();
    let (client, buffer) = world.client(4);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    let read = request(client, buffer, extent, PageOp::Read);
    assert_eq!(run(&mut world, PageRequest { urgency: Urgency::Bulk, ..read }), PageStatus::Done);
    assert_eq!(world.packets[1], 0);
    let before = world.packets[0];
    assert_eq!(run(&mut world, read), PageStatus::Done);
    // Answers overtake each other, so that it may be asked again.
    assert!(world.packets[0] == before && world.packets[1] > 0, "{:?}", world.packets);
}
