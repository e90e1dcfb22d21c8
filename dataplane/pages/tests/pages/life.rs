//! What applications do all day.

use crate::support::{Folder, LONG, ended, filled, options, pair};
use pages::local::{LocalOptions, LocalServer};
use pages::{Client, ClientOptions, EXTENT, Extent, Lane, PagesError, RefusedFor, Status, Work};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn what_is_written_is_read_back_in_batches_of_any_size() {
    for requests in [2, 8, 128] {
        let (_folder, _server, mut client) = pair(&ClientOptions { requests, buffers: 1 << 21, ..options() });
        let extents = client.allocate(4, false).unwrap();
        let bytes = |at: u64| -> Vec<u8> { (0..4096).map(|byte| (at as usize * 31 + byte * 7) as u8).collect() };
        let place = |at: u64| (extents[at as usize % 4], at as u32 / 4 * 4096);
        for write in [true, false] {
            let (mut next, mut out, mut seen) = (0, Vec::new(), BTreeSet::new());
            while seen.len() < 400 {
                let mut batch = Vec::new();
                while next < 400 && batch.len() < 64 {
                    let Ok(mut buffer) = client.buffer(4096) else { break };
                    buffer.write(0, &if write { bytes(next) } else { vec![0xee; 4096] }).unwrap();
                    let (extent, offset) = place(next);
                    let lane = if next % 3 == 0 { Lane::Bulk } else { Lane::Demand };
                    let make = if write { Work::write } else { Work::read };
                    batch.push(make(extent, offset, buffer).tagged(next).in_lane(lane));
                    next += 1;
                }
                while !batch.is_empty() {
                    client.post(&mut batch).unwrap();
                    client.wait(&mut out, LONG).unwrap();
                }
                client.wait(&mut out, LONG).unwrap();
                for end in out.drain(..) {
                    assert_eq!((end.status, end.len), (Status::DONE, 4096));
                    assert_eq!(end.extent, place(end.tag).0);
                    assert!(write || end.buffer.to_vec() == bytes(end.tag), "page {}", end.tag);
                    assert!(seen.insert(end.tag), "request {} ended twice", end.tag);
                }
            }
            assert_eq!(client.under_way(), 0);
        }
        let state = client.state().unwrap();
        assert_eq!((state.extents, state.requests, state.failures), (4, 800, 0));
        assert_eq!((state.bytes_read, state.bytes_written), (400 * 4096, 400 * 4096));
    }
}

#[test]
fn fresh_extents_are_zero_and_a_part_of_a_buffer_can_be_moved() {
    let (_folder, _server, mut client) = pair(&options());
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    let mut batch = vec![Work::read(extent, EXTENT - 64, filled(&client, &[7; 64])).with_len(24)];
    client.post(&mut batch).unwrap();
    let end = ended(&mut client, 1).remove(0);
    assert_eq!((end.status, end.len), (Status::DONE, 24));
    assert_eq!(end.buffer.to_vec(), [[0; 24].as_slice(), &[7; 40]].concat());
}

#[test]
fn the_quota_holds_and_what_is_freed_can_be_allocated_again() {
    let folder = Folder::new();
    let _server = LocalServer::start(folder.socket(), LocalOptions { extents: 3, ..Default::default() }).unwrap();
    let mut client = Client::connect(folder.socket(), &options()).unwrap();
    assert_eq!((client.quota(), client.capacity(), client.buffers()), (3, 128, 1 << 20));
    let refused = |result| match result {
        Err(PagesError::Refused { reason, limit }) => (reason, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(client.allocate(4, false)), (RefusedFor::QUOTA, 3));
    let mine = client.allocate(3, true).unwrap();
    assert_eq!(refused(client.allocate(1, false)), (RefusedFor::QUOTA, 3));
    assert_eq!(refused(client.allocate(0, false)), (RefusedFor::COUNT, 1024));
    assert_eq!(refused(client.allocate(5000, false)), (RefusedFor::COUNT, 1024));
    client.free(&[mine[1], Extent::from_number(999)]).unwrap();
    let [other] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    assert!(!mine.contains(&other), "a number is never given out again");
    let mut batch = vec![Work::read(mine[1], 0, client.buffer(8).unwrap())];
    client.post(&mut batch).unwrap();
    assert_eq!(ended(&mut client, 1)[0].status, Status::NO_SUCH_EXTENT);
}

#[test]
fn a_client_gets_what_the_server_allows() {
    let folder = Folder::new();
    let limits = LocalOptions { extents: 9, requests: 16, buffers: 8192, clients: 1 };
    let _server = LocalServer::start(folder.socket(), limits).unwrap();
    let client = Client::connect(folder.socket(), &ClientOptions { extents: 20, ..options() }).unwrap();
    assert_eq!((client.quota(), client.capacity(), client.buffers()), (9, 16, 8192));
    let second = Client::connect(folder.socket(), &options());
    assert!(matches!(second, Err(PagesError::Refused { reason: RefusedFor::CLIENTS, limit: 1 })), "{second:?}");
}

#[test]
fn a_bad_request_has_its_status_and_no_other_one_suffers() {
    let (_folder, _server, mut client) = pair(&options());
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    let buffer = || client.buffer(64).unwrap();
    let mut batch = vec![
        Work::write(extent, 0, buffer()),
        Work::write(extent, EXTENT - 56, buffer()).tagged(1),
        Work::write(extent, 4, buffer()).tagged(2),
        Work::write(extent, 0, buffer()).with_len(0).tagged(3),
        Work::write(Extent::from_number(u64::MAX), 0, buffer()).tagged(4),
        Work::write(extent, 64, buffer()).tagged(5),
    ];
    assert_eq!((client.post(&mut batch).unwrap(), batch.len()), (6, 0));
    let mut ends: Vec<_> = ended(&mut client, 6).iter().map(|end| (end.tag, end.status)).collect();
    ends.sort_by_key(|end| end.0);
    let statuses: Vec<_> = ends.iter().map(|end| end.1).collect();
    let (range, form, none) = (Status::OUT_OF_RANGE, Status::MALFORMED, Status::NO_SUCH_EXTENT);
    assert_eq!(statuses, [Status::DONE, range, form, range, none, Status::DONE]);
}

#[test]
fn a_client_that_sleeps_is_woken_and_so_is_its_server() {
    let (_folder, server, mut client) = pair(&ClientOptions { spins: 0, ..options() });
    server.delay(Duration::from_millis(2));
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    for _ in 0..30 {
        let mut batch = vec![Work::write(extent, 0, client.buffer(8).unwrap())];
        client.post(&mut batch).unwrap();
        assert_eq!(ended(&mut client, 1)[0].status, Status::DONE);
    }
    // Nothing is under way: there is nothing to wait for.
    assert_eq!(client.wait(&mut Vec::new(), None).unwrap(), 0);
}

#[test]
fn a_client_can_sleep_in_an_event_loop_of_the_application() {
    let (_folder, server, mut client) = pair(&options());
    server.delay(Duration::from_millis(1));
    let [extent] = client.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    let (mut done, mut slept) = (0, 0);
    for round in 0..20 {
        let mut batch = vec![Work::write(extent, 8 * round, client.buffer(8).unwrap())];
        client.post(&mut batch).unwrap();
        let mut out = Vec::new();
        while out.is_empty() {
            if client.arm().unwrap() {
                slept += 1;
                poll(&mut [PollFd::new(&client, PollFlags::IN)], None).unwrap();
            }
            client.poll(&mut out).unwrap();
        }
        done += out.len();
    }
    assert!(done == 20 && slept > 0, "{done} ended, slept {slept} times");
    // An old ring does not keep the loop awake.
    while !client.arm().unwrap() {
        client.poll(&mut Vec::new()).unwrap();
    }
    client.poll(&mut Vec::new()).unwrap();
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&client, PollFlags::IN)], Some(&zero)), Ok(0));
}

#[test]
fn several_clients_do_not_see_each_other() {
    let (folder, server, mut one) = pair(&options());
    let mut two = Client::connect(folder.socket(), &options()).unwrap();
    assert_eq!(server.clients(), 2);
    let [mine] = one.allocate(1, false).unwrap()[..] else { panic!("one extent") };
    one.post(&mut vec![Work::write(mine, 0, filled(&one, b"private!"))]).unwrap();
    assert_eq!(ended(&mut one, 1)[0].status, Status::DONE);
    two.post(&mut vec![Work::read(mine, 0, filled(&two, b"nothing!"))]).unwrap();
    let end = ended(&mut two, 1).remove(0);
    assert_eq!((end.status, end.buffer.to_vec().as_slice()), (Status::NO_SUCH_EXTENT, b"nothing!".as_slice()));
    two.free(&[mine]).unwrap();
    one.post(&mut vec![Work::read(mine, 0, one.buffer(8).unwrap())]).unwrap();
    assert_eq!(ended(&mut one, 1)[0].buffer.to_vec(), b"private!");
    // A buffer belongs to its client.
    let mut batch = vec![Work::read(mine, 0, two.buffer(8).unwrap())];
    assert!(matches!(one.post(&mut batch), Err(PagesError::ForeignBuffer)) && batch.len() == 1);
}

#[test]
fn an_event_loop_asks_without_waiting() {
    let (_folder, server, mut client) = pair(&options());
    let first = client.ask_allocate(2, false).unwrap();
    let refused = client.ask_allocate(1_000_000, false).unwrap();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        assert!(client.arm().unwrap());
        poll(&mut [PollFd::new(&client, PollFlags::IN)], None).unwrap();
        client.poll(&mut Vec::new()).unwrap();
        answers.extend(client.answers());
    }
    assert_eq!(answers[0].question, first);
    let extents = answers[0].extents.as_ref().unwrap().clone();
    assert_eq!(extents.len(), 2);
    assert_eq!(answers[1].question, refused);
    assert!(matches!(answers[1].extents, Err(PagesError::Refused { reason: RefusedFor::COUNT, .. })));
    client.ask_free(&extents[..1]).unwrap();
    // The server reads in order, so it has freed them before it answers this.
    assert_eq!(client.state().unwrap().extents, 1);
    // A part of a buffer.
    let mut buffer = filled(&client, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9]);
    let mut batch = vec![Work::write(extents[1], 8, buffer).with_part(8, 99)];
    assert_eq!((batch[0].tag(), batch[0].extent()), (0, extents[1]));
    client.post(&mut batch).unwrap();
    buffer = ended(&mut client, 1).remove(0).buffer;
    client.post(&mut vec![Work::read(extents[1], 0, buffer)]).unwrap();
    assert_eq!(ended(&mut client, 1)[0].buffer.to_vec(), [[0; 8], [9; 8]].concat());
    // Open questions end with the server.
    server.delay(Duration::from_millis(1));
    drop(server);
    let _ = client.ask_allocate(1, false);
    let answers = loop {
        let answers = client.answers();
        if !answers.is_empty() || client.ask_free(&[]).is_err() || client.ask_allocate(1, false).is_err() {
            break answers;
        }
    };
    assert!(answers.iter().all(|answer| matches!(answer.extents, Err(PagesError::ServerGone))));
}
