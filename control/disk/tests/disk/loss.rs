//! Extents that are lost or recalled: errors, and never wrong bytes.

use crate::client::*;
use crate::life::bytes;
use crate::support::{Running, Wants, until};
use pages::{Extent, Status};
use std::sync::atomic::Ordering;
use std::time::Duration;

const EXTENT: u64 = 2 << 20;

/// A disk with bytes in its first four extents, whose numbers are 1 to 4 in any order.
fn disk() -> (Running, NbdClient) {
    let disk = Running::new(Wants::default());
    let mut client = NbdClient::new(disk.stream(), true);
    for at in 0..4 {
        assert_eq!(client.write(at * EXTENT, &bytes(at, 1 << 20)), 0);
    }
    (disk, client)
}

#[test]
fn what_is_lost_fails_until_it_is_written_or_trimmed() {
    let (disk, mut client) = disk();
    for number in [1, 2] {
        disk.pages().lose(Extent::from_number(number), Status::SLAVE_RESTARTED);
    }
    until("the losses are known", || disk.counters().extents_lost.get() == 2);
    let lost: Vec<u64> = (0..4).filter(|at| client.read(at * EXTENT, 4096) == Err(5)).collect();
    assert_eq!(lost.len(), 2);
    for at in 0..4u64 {
        if lost.contains(&at) {
            // A part of a block cannot be written: the other part is lost.
            assert_eq!(client.write(at * EXTENT + 512, &bytes(9, 512)), 5);
            // What was never written is zeros still.
            assert_eq!(client.read(at * EXTENT + (1 << 20), 1 << 20).unwrap(), vec![0; 1 << 20]);
            assert_eq!(client.write(at * EXTENT, &bytes(9, 8192)), 0);
            assert_eq!(client.read(at * EXTENT, 8192).unwrap(), bytes(9, 8192));
            assert_eq!(client.read(at * EXTENT + 8192, 512), Err(5));
            assert_eq!(client.plain(TRIM, 0, at * EXTENT + 8192, (1 << 20) - 8192), 0);
            assert_eq!(client.read(at * EXTENT + 8192, 4096).unwrap(), vec![0; 4096]);
        } else {
            assert_eq!(client.read(at * EXTENT, 1 << 20).unwrap(), bytes(at, 1 << 20));
        }
    }
    assert_eq!(disk.counters().blocks_lost.get(), 0);
    assert!(disk.counters().requests_failed_io.get() >= 6);
}

#[test]
fn a_write_whose_extent_is_lost_meanwhile_is_written_elsewhere() {
    let (disk, mut client) = disk();
    disk.pages().hold(true);
    let numbers: Vec<u64> = (0..4).map(|at| client.send(WRITE, 0, at * EXTENT, 4096, &bytes(at + 20, 4096))).collect();
    until("they are under way", || disk.counters().requests_pending.get() == 4);
    (1..5).for_each(|number| disk.pages().lose(Extent::from_number(number), Status::SLAVE_GONE));
    disk.pages().hold(false);
    for number in numbers {
        assert_eq!(client.wait(number).error, 0);
    }
    for at in 0..4 {
        assert_eq!(client.read(at * EXTENT, 4096).unwrap(), bytes(at + 20, 4096));
        assert_eq!(client.read(at * EXTENT + 4096, 4096), Err(5));
    }
}

#[test]
fn recalled_extents_move_while_clients_read_and_write() {
    let (disk, mut client) = disk();
    (1..5).for_each(|number| disk.pages().recall(Extent::from_number(number), Duration::from_secs(60)));
    let mut round = 0;
    until("all have moved", || {
        round += 1;
        for at in 0..4 {
            let data = bytes(round * 4 + at, 1 << 20);
            assert_eq!(client.write(at * EXTENT, &data), 0);
            assert_eq!(client.read(at * EXTENT, 1 << 20).unwrap(), data);
        }
        disk.counters().extents_moved.get() == 4
    });
    assert_eq!((disk.counters().extents_lost.get(), disk.counters().extents_held.get()), (0, 4));
}

#[test]
fn a_request_that_fails_for_a_while_is_repeated_and_one_that_fails_for_good_is_an_error() {
    let (disk, mut client) = disk();
    for status in [Status::NO_ANSWER, Status::REFUSED] {
        disk.pages().fail_with(Some(status));
        assert_eq!(client.read(0, 4096), Err(5));
        assert_eq!(client.write(0, &bytes(5, 4096)), 5);
        disk.pages().fail_with(None);
    }
    assert_eq!(client.write(0, &bytes(6, 4096)), 0);
    assert_eq!(client.read(0, 4096).unwrap(), bytes(6, 4096));
    assert_eq!(client.read(4096, 4096).unwrap(), bytes(0, 8192)[4096..]);
}

#[test]
fn without_a_master_nothing_is_wrong_and_with_another_one_the_disk_works_on() {
    let (mut disk, mut client) = disk();
    disk.pages = None;
    until("the loss is known", || disk.wants_master.load(Ordering::Acquire));
    assert_eq!(client.read(0, 4096), Err(5));
    assert_eq!(client.write(0, &bytes(7, 4096)), 5);
    assert_eq!(client.plain(WRITE_ZEROES, 0, 512, 512), 5);
    assert_eq!(client.read(8 << 20, 4096).unwrap(), vec![0; 4096], "what was never written");
    disk.connect_again();
    until("a master is there", || disk.counters().master_connected.get() == 1);
    assert_eq!(client.read(0, 4096), Err(5));
    assert_eq!(client.write(0, &bytes(8, 4096)), 0);
    assert_eq!(client.read(0, 4096).unwrap(), bytes(8, 4096));
    assert_eq!(client.plain(TRIM, 0, 0, 8 << 20), 0);
    assert_eq!(client.read(0, 1 << 20).unwrap(), vec![0; 1 << 20]);
}

#[test]
fn a_master_that_dies_in_the_middle_ends_every_request() {
    let (disk, mut client) = disk();
    disk.pages().die_after(20);
    let mut numbers = Vec::new();
    for at in 0..40u64 {
        numbers.push(client.send(WRITE, 0, at << 16, 1 << 16, &bytes(at, 1 << 16)));
        numbers.push(client.send(READ, 0, at << 15, 1 << 15, &[]));
    }
    for number in numbers {
        assert!(matches!(client.wait(number).error, 0 | 5));
    }
    until("the loss is known", || disk.counters().master_connected.get() == 0);
}
