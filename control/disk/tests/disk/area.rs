//! A disk in an area outlives its process.

use crate::client::*;
use crate::life::bytes;
use crate::support::{Running, Wants, until};
use disk::DiskAreaError;
use pages::local::LocalServer;
use pages::{AreaOptions, Client, ClientOptions, Extent, Status};
use std::collections::HashMap;
use std::time::Duration;

const B: u64 = 4096;
const EXTENT: u64 = 2 << 20;

fn wants() -> Wants {
    Wants { area: Some("d".to_owned()), ..Wants::default() }
}

/// Another process goes on with the disk.
fn again(disk: Running) -> Running {
    let (folder, pages, wants) = disk.kill();
    Running::start(folder, pages, wants).unwrap()
}

/// Waits until no process has an area, so that what is lost then is lost for the next one.
fn parked(pages: Option<&LocalServer>) -> &LocalServer {
    let pages = pages.unwrap();
    until("nobody has the areas", || pages.clients() == 0);
    pages
}

/// Why another process cannot.
fn refused(disk: Running, change: impl FnOnce(&mut Wants)) -> DiskAreaError {
    let (folder, pages, mut wants) = disk.kill();
    change(&mut wants);
    Running::start(folder, pages, wants).map(|_| ()).unwrap_err()
}

#[test]
fn what_was_acknowledged_is_there_for_the_next_process() {
    let disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    // Over the border of two slots.
    for (at, part) in (B..).step_by(1 << 20).zip(bytes(1, 3 << 20).chunks(1 << 20)) {
        assert_eq!(client.write(at, part), 0);
    }
    assert_eq!(client.write(40 << 20, &bytes(2, 512)), 0);
    assert_eq!(client.plain(TRIM, 0, 2 * B, 2 * B as u32), 0);
    assert_eq!(client.plain(WRITE_ZEROES, NO_HOLE, 8 << 20, EXTENT as u32), 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    let mut expected = bytes(1, 3 << 20);
    expected[B as usize..3 * B as usize].fill(0);
    for (at, part) in (B..).step_by(1 << 20).zip(expected.chunks(1 << 20)) {
        assert!(client.read(at, 1 << 20).unwrap() == part);
    }
    let mut block = bytes(2, 512);
    block.resize(B as usize, 0);
    assert_eq!(client.read(40 << 20, B as u32).unwrap(), block);
    assert_eq!(client.read(60 << 20, 1 << 20).unwrap(), vec![0; 1 << 20]);
    // Two extents of the first write, one of the second, one that is reserved.
    assert_eq!((disk.counters().extents_held.get(), disk.counters().blocks_lost.get()), (4, 0));
    let states = client.full(BLOCK_STATUS, 0, 8 << 20, EXTENT as u32).states;
    assert_eq!(states, [(EXTENT as u32, 2)], "zeros with memory");
    assert_eq!(client.plain(TRIM, 0, 0, 64 << 20), 0);
    until("its extents are freed", || disk.counters().extents_held.get() == 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.read(0, 2 << 20).unwrap(), vec![0; 2 << 20]);
    assert_eq!(disk.counters().blocks_present.get(), 0);
}

/// One of the requests of a round, and what its blocks have before and after it.
struct Sent {
    cookie: u64,
    block: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

#[test]
fn a_process_that_is_killed_in_the_middle_loses_nothing_that_it_acknowledged() {
    let mut disk = Running::new(wants());
    let mut content: HashMap<u64, Vec<u8>> = HashMap::new();
    for round in 0..12u64 {
        let mut client = NbdClient::new(disk.stream(), round % 2 == 0);
        let mut sent = Vec::new();
        for turn in 0..120u64 {
            // Each block once in a round, in all extents, in an order that is no order.
            let block = (turn * 137 + round * 61) % 8192;
            let old = content.get(&block).cloned().unwrap_or_else(|| vec![0; B as usize]);
            let mut new = bytes(round * 1000 + turn, B as usize);
            let (at, len) = (block * B, B as u32);
            let cookie = match turn % 5 {
                0 => {
                    new.fill(0);
                    client.send(TRIM, 0, at, len, &[])
                }
                1 => {
                    new.fill(0);
                    client.send(WRITE_ZEROES, 0, at, len, &[])
                }
                2 => {
                    // A part of a block.
                    new[..1024].copy_from_slice(&old[..1024]);
                    new[2048..].copy_from_slice(&old[2048..]);
                    let part = new[1024..2048].to_vec();
                    client.send(WRITE, 0, at + 1024, 1024, &part)
                }
                _ => client.send(WRITE, 0, at, len, &new),
            };
            sent.push(Sent { cookie, block, old, new });
        }
        // From none to nearly all of them are acknowledged.
        let first = sent[(round * 10) as usize].cookie;
        if round > 0 {
            assert_eq!(client.wait(first).error, 0);
        }
        disk = again(disk);
        let mut after = NbdClient::new(disk.stream(), true);
        for Sent { cookie, block, old, new } in sent {
            let acknowledged = cookie == first && round > 0
                || client.try_wait(cookie).is_some_and(|answer| {
                    assert_eq!(answer.error, 0);
                    true
                });
            let now = after.read(block * B, B as u32).unwrap();
            assert!(now == new || (!acknowledged && now == old), "round {round}, block {block}, {acknowledged}");
            content.insert(block, now);
        }
        for (block, expected) in &content {
            assert!(after.read(block * B, B as u32).unwrap() == *expected, "round {round}, block {block}");
        }
    }
    assert_eq!(disk.counters().blocks_lost.get(), 0);
}

#[test]
fn what_was_lost_before_is_lost_for_the_next_process_too() {
    let disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    for at in 0..3 {
        assert_eq!(client.write(at * EXTENT, &bytes(at, 1 << 20)), 0);
    }
    // Extent 1 has the map, and extents 2 to 4 have the disk.
    disk.pages().lose(Extent::from_number(2), Status::SLAVE_GONE);
    until("the loss is known", || disk.counters().extents_lost.get() == 1);
    let (folder, pages, wants) = disk.kill();
    // This one is lost while no process has the disk.
    parked(pages.as_ref()).lose(Extent::from_number(3), Status::SLAVE_GONE);
    let disk = Running::start(folder, pages, wants).unwrap();
    let mut client = NbdClient::new(disk.stream(), true);
    let lost: Vec<u64> = (0..3).filter(|at| client.read(at * EXTENT, 4096) == Err(5)).collect();
    assert_eq!((lost.len(), disk.counters().blocks_lost.get()), (2, 512));
    // What is written anew, or trimmed, is good again, also for the next process.
    assert_eq!(client.write(lost[0] * EXTENT, &bytes(9, 8192)), 0);
    assert_eq!(client.plain(TRIM, 0, lost[0] * EXTENT + 8192, 4096), 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.read(lost[0] * EXTENT, 8192).unwrap(), bytes(9, 8192));
    assert_eq!(client.read(lost[0] * EXTENT + 8192, 4096).unwrap(), [0; 4096]);
    assert_eq!(client.read(lost[0] * EXTENT + 12288, 4096), Err(5));
    assert_eq!(client.read(lost[1] * EXTENT, 4096), Err(5));
}

#[test]
fn a_map_whose_extent_is_lost_or_recalled_is_written_to_another_one() {
    let disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.write(0, &bytes(1, 1 << 20)), 0);
    disk.pages().lose(Extent::from_number(1), Status::SLAVE_GONE);
    assert_eq!(client.write(8 << 20, &bytes(2, 1 << 20)), 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.read(0, 1 << 20).unwrap(), bytes(1, 1 << 20));
    assert_eq!(client.read(8 << 20, 1 << 20).unwrap(), bytes(2, 1 << 20));
    // All extents but the new one of the map are those of the disk, and move.
    (2..12).for_each(|number| disk.pages().recall(Extent::from_number(number), Duration::from_secs(60)));
    until("the disk has moved", || disk.counters().extents_moved.get() == 2);
    assert_eq!(client.write(16 << 20, &bytes(3, 1 << 20)), 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    for (at, seed) in [(0, 1), (8 << 20, 2), (16 << 20, 3)] {
        assert_eq!(client.read(at, 1 << 20).unwrap(), bytes(seed, 1 << 20));
    }
}

#[test]
fn a_map_that_cannot_be_written_is_an_error_and_no_lie() {
    let disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.write(0, &bytes(1, 8192)), 0);
    disk.pages().fail_with(Some(Status::REFUSED));
    assert_eq!(client.plain(TRIM, 0, 0, 4096), 5);
    disk.pages().fail_with(None);
    until("the map is written again", || client.plain(TRIM, 0, 0, 4096) == 0);
    assert_eq!(client.write(4 << 20, &bytes(2, 4096)), 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.read(0, 4096).unwrap(), [0; 4096]);
    assert_eq!(client.read(4096, 4096).unwrap(), bytes(1, 8192)[4096..]);
    assert_eq!(client.read(4 << 20, 4096).unwrap(), bytes(2, 4096));
}

#[test]
fn with_another_master_the_disk_is_kept_anew_with_its_losses() {
    let mut disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.write(0, &bytes(1, 8192)), 0);
    disk.pages = None;
    until("the loss is known", || disk.counters().master_connected.get() == 0);
    disk.connect_again();
    until("a master is there", || disk.counters().master_connected.get() == 1);
    assert_eq!(client.write(4096, &bytes(2, 4096)), 0);
    let disk = again(disk);
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.read(0, 4096), Err(5));
    assert_eq!(client.read(4096, 4096).unwrap(), bytes(2, 4096));
}

#[test]
fn an_area_with_something_else_is_refused() {
    let disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.write(0, &bytes(1, 8192)), 0);
    let other = refused(disk, |wants| wants.size = 128 << 20);
    assert!(matches!(&other, DiskAreaError::Size { .. }));
    let text = other.to_string();
    assert!(text.contains("area d has a disk of 64M, not of 128M") && text.contains("page free d.map"), "{text}");

    let disk = Running::new(wants());
    let mut client = NbdClient::new(disk.stream(), true);
    assert_eq!(client.write(0, &bytes(1, 8192)), 0);
    let (folder, pages, wants_of) = disk.kill();
    parked(pages.as_ref()).lose(Extent::from_number(1), Status::SLAVE_GONE);
    let lost = Running::start(folder, pages, wants_of).map(|_| ()).unwrap_err();
    assert!(matches!(lost, DiskAreaError::Lost { .. }), "{lost}");

    // Another program made the area.
    let disk = Running::new(Wants::default());
    let options = ClientOptions { area: Some(AreaOptions::new("d")), ..ClientOptions::default() };
    let mut foreign = Client::connect(disk.folder.0.join("pages"), &options).unwrap();
    foreign.allocate(1, false).unwrap();
    drop(foreign);
    let foreign = refused(disk, |wants| wants.area = Some("d".to_owned()));
    assert!(matches!(foreign, DiskAreaError::NoDisk { .. }), "{foreign}");
}
