//! Clients that are parked: their extents stay, and nothing of their connection does.

use crate::life::{fill, request, run};
use crate::world::{BASE, World};
use frame::Role;
use frame::time::{MILLISECOND, SECOND};
use master::{
    Allocate, AllocationRefusal, BufferKey, ClientId, ClientQuota, ExtentId, Loss, MasterCommand, MasterEvent, PageOp,
    PageStatus,
};

/// Parks a client, and returns its new number.
fn park(world: &mut World, client: ClientId) -> ClientId {
    world.master.park_client(client);
    let mut found = None;
    world.run_until(100 * SECOND, "it is parked", |world| {
        found = found.or(parked(world, client));
        found.is_some()
    });
    found.unwrap()
}

fn parked(world: &World, of: ClientId) -> Option<ClientId> {
    world.told.iter().find_map(|event| match event {
        MasterEvent::ClientParked { client, parked } if *client == of => Some(*parked),
        _ => None,
    })
}

fn resume(world: &mut World, client: ClientId, extents: u32) -> BufferKey {
    assert!(world.master.resume_client(client, ClientQuota { extents, requests: 64, buffers: 1 }));
    world.master.add_buffer(client, BASE, vec![0; 1 << 20]).unwrap()
}

/// The first 4 KiB of an extent.
fn read(world: &mut World, client: ClientId, buffer: BufferKey, extent: ExtentId) -> Vec<u8> {
    fill(world, buffer, 0, 4096, 0xee);
    assert_eq!(run(world, request(client, buffer, extent, PageOp::Read)), PageStatus::Done);
    world.master.buffer_mut(buffer).unwrap()[..4096].to_vec()
}

fn numbers(world: &World, client: ClientId) -> Vec<(ExtentId, Option<Loss>)> {
    world.master.extents_of(client).collect()
}

#[test]
fn a_parked_client_finds_its_extents_again_and_its_old_number_does_nothing() {
    let mut world = World::new(51, &[4], 1);
    world.start();
    let (client, buffer) = world.client(64);
    let extents = world.allocate(client, 3, false).unwrap();
    let bytes = fill(&mut world, buffer, 0, 4096, 9);
    assert_eq!(run(&mut world, request(client, buffer, extents[1], PageOp::Write)), PageStatus::Done);
    let parked = park(&mut world, client);
    assert!(parked != client);
    let stats = world.master.stats();
    assert_eq!((stats.counters.clients.get(), stats.counters.clients_parked.get()), (1, 1));
    // The old number and the one of the parked client are of no use.
    for number in [client, parked] {
        assert_eq!(run(&mut world, request(number, buffer, extents[1], PageOp::Read)), PageStatus::NoSuchClient);
        assert!(!world.master.free(number, extents[0]));
        assert_eq!(world.allocate(number, 1, false), Err(AllocationRefusal::NoSuchClient));
        assert_eq!(world.master.add_buffer(number, BASE, vec![0; 8]), None);
    }
    assert!(!world.master.resume_client(client, ClientQuota { extents: 9, requests: 9, buffers: 1 }));
    let listed: Vec<_> = extents.iter().map(|extent| (*extent, None)).collect();
    assert_eq!((numbers(&world, parked), numbers(&world, client)), (listed, Vec::new()));
    world.run(SECOND);
    // Fewer than it has: it keeps all, and gets no more until it has freed some.
    let buffer = resume(&mut world, parked, 2);
    assert_eq!(read(&mut world, parked, buffer, extents[1]), bytes);
    assert_eq!(world.allocate(parked, 1, false), Err(AllocationRefusal::Quota));
    assert!(world.master.free(parked, extents[0]) && world.master.free(parked, extents[2]));
    world.allocate(parked, 1, false).unwrap();
    world.books();
}

#[test]
fn requests_under_way_end_for_the_old_number_before_the_client_is_parked() {
    let mut world = World::new(52, &[2], 1);
    world.start();
    let (client, buffer) = world.client(64);
    let extent = world.allocate(client, 1, false).unwrap()[0];
    world.cut = vec![17];
    let requests = [request(client, buffer, extent, PageOp::Write); 8];
    assert_eq!(world.master.submit(world.now, &requests), 8);
    world.master.park_client(client);
    world.run(50 * MILLISECOND);
    assert_eq!(parked(&world, client), None, "its requests are under way");
    assert!(!world.master.resume_client(client, ClientQuota { extents: 9, requests: 9, buffers: 1 }));
    world.cut.clear();
    // They are not polled before the client is back: nothing of them is counted for its new number.
    world.run_until(100 * SECOND, "it is parked", |world| parked(world, client).is_some());
    let again = parked(&world, client).unwrap();
    let buffer = resume(&mut world, again, 9);
    world.books();
    let done = world.completions(8);
    assert!(done.iter().all(|one| one.client == client), "{done:?}");
    world.books();
    assert_eq!(world.master.submit(world.now, &[request(again, buffer, extent, PageOp::Read); 64]), 64);
    let done = world.completions(64);
    assert!(done.iter().all(|one| one.client == again && one.status == PageStatus::Done), "{done:?}");
}

#[test]
fn an_allocation_under_way_is_cancelled_when_its_client_is_parked() {
    let mut world = World::new(53, &[1], 1);
    world.start();
    let (client, _) = world.client(64);
    let kept = world.allocate(client, 2, false).unwrap();
    // There is no memory for so many: it waits.
    world.master.allocate(world.now, Allocate { client, tag: 5, count: 60, apart: false });
    world.run(50 * MILLISECOND);
    assert_eq!(world.books().live + world.books().promised, 62);
    let parked = park(&mut world, client);
    let refused = MasterEvent::NotAllocated { client, tag: 5, why: AllocationRefusal::NoSuchClient };
    assert!(world.told.contains(&refused));
    let books = world.books();
    assert_eq!((books.live, books.promised), (2, 0));
    assert_eq!(numbers(&world, parked), [(kept[0], None), (kept[1], None)]);
}

#[test]
fn what_is_lost_while_nobody_is_there_is_known_and_gives_no_byte() {
    // Slaves 17 and 18 are in one failure domain, and 19 in another.
    let mut world = World::new(54, &[1, 1, 1], 1);
    world.start();
    let (client, _) = world.client(64);
    let extents = world.allocate(client, 2, true).unwrap();
    let parked = park(&mut world, client);
    world.told.clear();
    world.restart_slave(2);
    world.run_until(10 * SECOND, "one is lost", |world| {
        world.told.iter().any(|event| matches!(event, MasterEvent::ExtentLost { .. }))
    });
    let lost = world.told.iter().find_map(|event| match event {
        MasterEvent::ExtentLost { client, extent, loss } => Some((*client, *extent, *loss)),
        _ => None,
    });
    let (told, lost, loss) = lost.unwrap();
    assert_eq!((told, loss), (parked, Loss::SlaveRestarted));
    let buffer = resume(&mut world, parked, 64);
    let other = extents.iter().copied().find(|extent| *extent != lost).unwrap();
    assert_eq!(run(&mut world, request(parked, buffer, lost, PageOp::Read)), PageStatus::SlaveRestarted);
    assert_eq!(run(&mut world, request(parked, buffer, other, PageOp::Read)), PageStatus::Done);
    assert_eq!(numbers(&world, parked).len(), 2);
    assert!(world.master.free(parked, lost));
    assert_eq!(world.books().lost, 0);
}

#[test]
fn a_parked_client_that_is_removed_or_drained_leaves_nothing() {
    let mut world = World::new(55, &[4], 1);
    world.start();
    let (one, buffer) = world.client(64);
    let (two, _) = world.client(64);
    let extent = world.allocate(one, 1, false).unwrap()[0];
    world.allocate(two, 1, false).unwrap();
    fill(&mut world, buffer, 0, 4096, 9);
    assert_eq!(run(&mut world, request(one, buffer, extent, PageOp::Write)), PageStatus::Done);
    let (one, two) = (park(&mut world, one), park(&mut world, two));
    world.master.remove_client(one);
    world.run_until(SECOND, "it is removed", |world| world.told.contains(&MasterEvent::ClientRemoved(one)));
    world.run_until(SECOND, "its memory is scrubbed", |world| {
        world.lent(0) == 1 && world.slaves[0].written().is_empty()
    });
    world.master.command(world.now, MasterCommand::Drain, &mut crate::world::outbox());
    assert!(!world.master.resume_client(two, ClientQuota { extents: 9, requests: 9, buffers: 1 }));
    world.run_until(SECOND, "the master is drained", |world| world.master.is_drained());
    assert!(world.told.contains(&MasterEvent::ClientRemoved(two)));
    assert_eq!(world.slaves[0].lender.books().leases, 0);
}

#[test]
fn the_next_client_of_a_place_reads_nothing_of_the_last_one_whatever_the_slave_does_meanwhile() {
    let mut world = World::with(56, &[2], 1, |config| config.clients = 2);
    world.start();
    let (first, buffer) = world.client(64);
    let (other, other_buffer) = world.client(64);
    let extent = world.allocate(first, 1, false).unwrap()[0];
    let beside = world.allocate(other, 1, false).unwrap()[0];
    fill(&mut world, buffer, 0, 4096, 9);
    assert_eq!(run(&mut world, request(first, buffer, extent, PageOp::Write)), PageStatus::Done);
    // Its unit is kept for it.
    assert!(world.master.free(first, extent));
    world.run(SECOND);
    assert_eq!(world.lent(0), 2);
    // The session breaks, and for a while there is no new one: nothing can be given back.
    world.slaves[0].set_room(false);
    let now = world.now;
    world.slaves[0].break_pairs(now);
    world.master.submit(world.now, &[request(other, other_buffer, beside, PageOp::Read)]);
    world.run_until(10 * SECOND, "there is no session", |world| {
        world.master.stats().counters.slaves_connected.get() == 0
    });
    world.master.remove_client(first);
    world.run_until(SECOND, "it is removed", |world| world.told.contains(&MasterEvent::ClientRemoved(first)));
    let (next, buffer) = world.client(64);
    world.slaves[0].set_room(true);
    assert_eq!(world.completions(1)[0].status, PageStatus::Done);
    let extent = world.allocate(next, 1, false).unwrap()[0];
    assert_eq!(read(&mut world, next, buffer, extent), [0; 4096], "it reads what another client wrote");
}
