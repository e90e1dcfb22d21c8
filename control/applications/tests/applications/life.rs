//! Applications come, ask, and go.

use crate::world::{LIMITS, World, until};
use pages::{Client, ClientOptions, Extent, PagesError, RefusedFor, Status, Work};

fn read(client: &mut Client, tag: u64) -> Status {
    let buffer = client.buffer(4096).unwrap();
    let mut batch = vec![Work::read(Extent::from_number(5), 0, buffer).tagged(tag)];
    assert_eq!(client.post(&mut batch).unwrap(), 1);
    let mut ended = Vec::new();
    client.wait(&mut ended, None).unwrap();
    assert_eq!((ended.len(), ended[0].tag), (1, tag));
    ended[0].status
}

fn refusal(error: PagesError) -> (RefusedFor, u64) {
    match error {
        PagesError::Refused { reason, limit } => (reason, limit),
        other => panic!("{other}"),
    }
}

#[test]
fn an_application_gets_a_channel_within_the_limits_and_is_seen() {
    let world = World::start("life");
    let wanted = ClientOptions { requests: 1024, buffers: 1 << 30, extents: 100, ..World::options("first") };
    let mut client = Client::connect(&world.path, &wanted).unwrap();
    assert_eq!((client.quota(), client.buffers()), (LIMITS.extents, LIMITS.buffers));
    assert_eq!(read(&mut client, 7), Status::NO_SUCH_EXTENT);
    let entries = world.register.list();
    assert_eq!((entries.len(), entries[0].name.as_str(), entries[0].pid), (1, "first", std::process::id()));
    assert_eq!((entries[0].quota, entries[0].extents()), (8, 0));
    until("the count", || entries[0].totals.requests.get() == 1);
    let state = client.state().unwrap();
    assert_eq!((state.quota, state.extents, state.requests, state.failures), (8, 0, 1, 1));
    drop(client);
    until("its end", || world.names().is_empty());
}

#[test]
fn an_allocation_without_slaves_fails_with_its_reason() {
    let world = World::start("allocate");
    let mut client = world.connect("a").unwrap();
    assert_eq!(refusal(client.allocate(1, false).unwrap_err()), (RefusedFor::NO_MEMORY, 0));
    assert_eq!(refusal(client.allocate(0, false).unwrap_err()), (RefusedFor::COUNT, 1024));
    assert_eq!(refusal(client.allocate(1025, false).unwrap_err()), (RefusedFor::COUNT, 1024));
    assert_eq!(refusal(client.allocate(17, true).unwrap_err()), (RefusedFor::COUNT, 16));
    assert_eq!(refusal(client.allocate(9, false).unwrap_err()).0, RefusedFor::QUOTA);
    // What it does not have is ignored.
    client.free(&[Extent::from_number(1), Extent::from_number(u64::MAX)]).unwrap();
    assert_eq!(client.state().unwrap().extents, 0);
}

#[test]
fn there_are_as_many_as_may_be_and_a_place_is_free_again() {
    let world = World::start("many");
    let mut clients: Vec<Client> = (0..3).map(|number| world.connect(&format!("c{number}")).unwrap()).collect();
    assert_eq!(world.names(), ["c0", "c1", "c2"]);
    assert_eq!(refusal(world.connect("late").unwrap_err()), (RefusedFor::CLIENTS, 3));
    for (tag, client) in clients.iter_mut().enumerate() {
        assert_eq!(read(client, tag as u64), Status::NO_SUCH_EXTENT);
    }
    clients.remove(1);
    until("a free place", || world.names() == ["c0", "c2"]);
    let _next = world.connect("next").unwrap();
    assert_eq!(world.names(), ["c0", "c2", "next"]);
}

#[test]
fn a_master_that_is_about_to_stop_says_so_and_its_end_is_seen() {
    let world = World::start("leave");
    let mut client = world.connect("a").unwrap();
    world.stopper.leave();
    assert_eq!(refusal(world.connect("late").unwrap_err()).0, RefusedFor::LEAVING);
    assert_eq!(read(&mut client, 1), Status::NO_SUCH_EXTENT, "who has a channel keeps it");
    world.stopper.stop();
    let mut ended = Vec::new();
    let buffer = client.buffer(8).unwrap();
    let mut batch = vec![Work::read(Extent::from_number(1), 0, buffer)];
    until("the server's end", || {
        ended.clear();
        if batch.is_empty() {
            let buffer = client.buffer(8).unwrap();
            batch.push(Work::read(Extent::from_number(1), 0, buffer));
        }
        client.post(&mut batch).is_err() || client.wait(&mut ended, None).is_err()
    });
    assert!(matches!(client.allocate(1, false), Err(PagesError::ServerGone)));
}

#[test]
fn each_application_belongs_to_the_lcore_with_the_fewest() {
    let world = World::with_lcores("lcores", 2);
    let mut clients: Vec<Client> = (0..3).map(|number| world.connect(&format!("c{number}")).unwrap()).collect();
    let lcores = || world.register.list().iter().map(|entry| entry.lcore).collect::<Vec<_>>();
    assert_eq!(lcores(), [0, 1, 0]);
    // The limit is that of the process, and each lcore serves its own.
    assert_eq!(refusal(world.connect("late").unwrap_err()), (RefusedFor::CLIENTS, 3));
    for (tag, client) in clients.iter_mut().enumerate() {
        assert_eq!(read(client, tag as u64), Status::NO_SUCH_EXTENT);
        assert_eq!(refusal(client.allocate(1, false).unwrap_err()), (RefusedFor::NO_MEMORY, 0));
    }
    // Two go from lcore 0, so that the next ones come there.
    clients.remove(2);
    clients.remove(0);
    until("free places", || world.names() == ["c1"]);
    for name in ["next", "after"] {
        clients.push(world.connect(name).unwrap());
    }
    assert_eq!(lcores(), [1, 0, 0]);
    // The client of lcore 1 has the number of one of lcore 0: one that goes does not take the other with it.
    drop(clients.remove(0));
    until("its end", || world.names() == ["next", "after"]);
    assert_eq!(read(&mut clients[0], 9), Status::NO_SUCH_EXTENT);
}
