//! Large records: a known checksum stays known on the way through, and records are copied as seldom as possible.

use crate::support;

use frame::PoolConfig;
use frame::time::FOREVER;
use gateway::{GatewayCommand, GatewayConfig};
use support::*;
use wire::HEADER_LEN;

/// A master and three slaves whose datagrams may have 15,000 bytes, and buffers that leave only on command.
fn rig() -> Rig {
    let config = GatewayConfig { hold: FOREVER, ..config() };
    let mut rig = Rig::new(config, PoolConfig { chunk: 16_384, ..pool(256) });
    rig.set_master(1, Some(route(master(1), 15_000)));
    for id in [17, 18, 19] {
        rig.set_slave(id, Some(route(slave(id), 15_000)));
    }
    rig
}

/// A datagram that leaves has a sum if all of it came in whole datagrams that had sums. The rig checks that the sum is
/// right.
#[test]
fn the_sum_of_what_leaves_is_known_when_it_was_of_all_that_came() {
    let mut rig = rig();
    // The rig's port does not know the sum of a datagram whose length is a multiple of 3. In this list that is the
    // record with 1,030 bytes of payload.
    for (lengths, summed) in [
        (&[1028][..], true),
        (&[1028, 1029, 1028, 1031], true),
        (&[1028, 1030], false),
        (&[1028, 1030, 1028], false),
        (&[1030, 1028], false),
        (&[1028, 9], true),
        (&[1028, 10], false),
        (&[9, 1028, 8], true),
        (&[1031, 1028, 1028], true),
    ] {
        for &len in lengths {
            rig.receive_one(master(1), &cargo(17, 1, 0, len));
            // A record that is not the only one of its datagram goes to another buffer. It brings no sum.
            rig.receive_one(master(1), &[cargo(18, 1, 0, len), cargo(19, 1, 0, 1029)].concat());
        }
        rig.command(GatewayCommand::SetHold(0));
        rig.advance(1);
        rig.command(GatewayCommand::SetHold(FOREVER));
        let sent: Vec<_> = rig.sent().iter().map(|sent| (sent.to, sent.summed)).collect();
        assert_eq!(sent, [(slave(17), summed), (slave(18), false), (slave(19), false)], "{lengths:?}");
    }
    // A whole datagram with several records of one slave.
    rig.receive_one(master(1), &[cargo(17, 1, 0, 1028), cargo(17, 1, 1, 1028)].concat());
    rig.receive_one(master(1), &cargo(17, 1, 0, 1029));
    rig.command(GatewayCommand::Drain);
    rig.advance(1);
    assert!(rig.sent()[0].summed);
}

/// Both buffers begin with a record of the same length. Only the record of the first buffer came with its sum.
#[test]
fn a_buffer_does_not_take_the_sum_of_the_one_before_it() {
    let mut rig = rig();
    let flush = |rig: &mut Rig| {
        rig.command(GatewayCommand::SetHold(0));
        rig.advance(1);
        rig.command(GatewayCommand::SetHold(FOREVER));
        rig.sent().iter().filter(|sent| sent.to == slave(17)).map(|sent| sent.summed).collect::<Vec<_>>()
    };
    rig.receive_one(master(1), &cargo(17, 1, 0, 1028));
    assert_eq!(flush(&mut rig), [true]);
    rig.receive_one(master(1), &[cargo(18, 1, 1, 9), cargo(17, 1, 2, 1028)].concat());
    rig.receive_one(master(1), &cargo(17, 1, 3, 1028));
    assert_eq!(flush(&mut rig), [false]);
}

#[test]
fn a_page_that_no_longer_fits_becomes_the_next_buffer_itself() {
    let mut rig = rig();
    let limit = 15_000 - usize::from(wire::IPV4_UDP_LEN);
    let page = |number| cargo(17, 1, number, 4096);
    let frames: Vec<u32> = (0..7).map(|number| rig.receive_one(master(1), &page(number))).collect();
    rig.command(GatewayCommand::Drain);
    rig.advance(1);
    // Three pages fit. Each buffer is the frame of its first page, and only the other two were copied.
    assert_eq!(limit / (HEADER_LEN + 4096), 3);
    let sent: Vec<_> = rig.sent().into_iter().map(|sent| (sent.frame, sent.records, sent.bytes)).collect();
    let expected = |numbers: std::ops::Range<u64>| cargoes(17, 1, numbers, 4096);
    assert_eq!(sent, [(frames[0], 3, expected(0..3)), (frames[3], 3, expected(3..6)), (frames[6], 1, expected(6..7))]);
}

/// A small record is copied into a frame that was just used. Its own frame is free for the next packet.
#[test]
fn a_small_record_that_no_longer_fits_is_copied() {
    let mut rig = rig();
    let first = rig.receive_one(master(1), &cargoes(17, 1, 0..3, 4900));
    let second = rig.receive_one(master(1), &cargo(17, 1, 3, 900));
    rig.command(GatewayCommand::Drain);
    rig.advance(1);
    let sent: Vec<_> = rig.sent().into_iter().map(|sent| (sent.frame, sent.records)).collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], (first, 3));
    assert!(sent[1].0 != second && sent[1].1 == 1, "{sent:?}");
}
