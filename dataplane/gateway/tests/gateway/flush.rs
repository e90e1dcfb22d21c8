//! Why and when a buffer leaves, and exactly what leaves.

use crate::support;

use frame::time::FOREVER;
use frame::{Class, Role};
use gateway::{GatewayCommand, GatewayConfig};
use proptest::prelude::*;
use support::*;
use wire::HEADER_LEN;

/// A payload such that exactly 16 records fill [`LIMIT`].
const SIXTEENTH: usize = LIMIT / 16 - HEADER_LEN;

fn waiting_for_ever() -> GatewayConfig {
    GatewayConfig { hold: FOREVER, ..config() }
}

#[test]
fn full_the_last_record_that_fits_sends_the_buffer() {
    let mut rig = Rig::with_nodes(config());
    let before = rig.counts();
    for number in 0..15 {
        rig.receive_one(master(1), &cargo(17, 1, number, SIXTEENTH));
    }
    assert_eq!((rig.sent(), rig.held()), (vec![], (15, 0)));
    rig.receive_one(master(1), &cargo(17, 1, 15, SIXTEENTH));
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].to, sent[0].class, sent[0].records, sent[0].ce), (slave(17), Class::Down, 16, false));
    assert_eq!(sent[0].bytes, cargoes(17, 1, 0..16, SIXTEENTH));
    assert_eq!(sent[0].bytes.len(), LIMIT);
    rig.assert_changed(
        &before,
        &[
            ("down.datagrams_in", 16),
            ("down.records_in", 16),
            ("down.bytes_in", LIMIT as i64),
            ("flush.flush_full", 1),
            ("tx.down_datagrams_out", 1),
            ("tx.down_records_out", 16),
            ("tx.down_bytes_out", LIMIT as i64),
        ],
    );
    assert_eq!(rig.gateway.deadline(), None);
}

#[test]
fn full_a_record_that_does_not_fit_opens_the_next_buffer() {
    let mut rig = Rig::with_nodes(config());
    let records: Vec<_> = (0..4).map(|number| cargo(17, 1, number, 477)).collect();
    for record in &records {
        rig.receive_one(master(1), record);
        rig.now += 10;
    }
    // Three payloads of 500 bytes are more than 1472.
    assert_eq!(rig.sent_bytes(), [(slave(17), records[..2].concat())]);
    assert_eq!(rig.counts()["flush.flush_full"], 1);
    assert_eq!(rig.gateway.deadline(), Some(START + 20 + HOLD), "the hold begins when the second buffer opens");
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), records[2..].concat())]);
}

#[test]
fn full_is_less_for_a_node_with_an_ipv6_address() {
    for (address, limit) in [("192.0.2.9:9999", LIMIT), ("[2001:db8::9]:9999", LIMIT - 20)] {
        let mut rig = Rig::with_nodes(config());
        let node = frame::Peer::socket(frame::PortId(0), address.parse().unwrap());
        rig.set_slave(17, Some(route(node, 1500)));
        rig.receive_one(master(1), &cargo(17, 1, 0, 700 - HEADER_LEN));
        // First exactly as much as there is room for, then one byte more.
        rig.receive_one(master(1), &cargo(17, 1, 1, limit - 700 - HEADER_LEN));
        let lens = rig.sent_bytes().into_iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>();
        assert_eq!(lens, [limit], "{address}");
        rig.receive_one(master(1), &cargo(17, 1, 2, 700 - HEADER_LEN));
        rig.receive_one(master(1), &cargo(17, 1, 3, limit - 700 - HEADER_LEN + 1));
        let lens = rig.sent_bytes().into_iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>();
        assert_eq!(lens, [700], "{address}");
    }
}

#[test]
fn full_leaves_as_soon_as_no_header_would_fit() {
    for (free, leaves) in [(HEADER_LEN, false), (HEADER_LEN - 1, true)] {
        let mut rig = Rig::with_nodes(waiting_for_ever());
        rig.receive_one(master(1), &cargo(17, 1, 0, 100));
        let second = LIMIT - 123 - free - HEADER_LEN;
        rig.receive_one(master(1), &cargo(17, 1, 1, second));
        assert_eq!(rig.sent().len(), usize::from(leaves), "{free} bytes free");
        assert_eq!(rig.counts()["flush.flush_full"], u64::from(leaves));
    }
}

#[test]
fn hold_is_kept_to_the_nanosecond_and_counted_from_the_first_record() {
    let mut rig = Rig::with_nodes(config());
    assert_eq!(rig.gateway.deadline(), None);
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.now += 30;
    rig.receive_one(master(1), &cargo(18, 1, 1, 10));
    rig.now += 30;
    rig.receive_one(master(1), &cargo(17, 1, 2, 10));
    assert_eq!(rig.gateway.deadline(), Some(START + HOLD));
    rig.advance(HOLD - 61);
    assert_eq!((rig.sent(), rig.held()), (vec![], (3, 0)));
    rig.advance(1);
    assert_eq!(rig.sent_bytes(), [(slave(17), [cargo(17, 1, 0, 10), cargo(17, 1, 2, 10)].concat())]);
    assert_eq!(rig.gateway.deadline(), Some(START + 30 + HOLD));
    rig.advance(29);
    assert_eq!(rig.sent(), []);
    rig.advance(1);
    assert_eq!(rig.sent_bytes(), [(slave(18), cargo(18, 1, 1, 10))]);
    assert_eq!((rig.gateway.deadline(), rig.counts()["flush.flush_hold"]), (None, 2));
    let (holds, sizes) = (&rig.gateway.counters().left.hold_ns, &rig.gateway.counters().left.records_per_datagram);
    assert_eq!((holds.snapshot().sum, sizes.snapshot().sum), (2 * HOLD, 3));
    let counts = sizes.snapshot().buckets.into_iter().map(|bucket| bucket.count);
    assert_eq!(counts.take(3).collect::<Vec<_>>(), [1, 1, 0], "one datagram of one record, one of two");
}

#[test]
fn hold_is_shorter_while_the_lcore_stays_away() {
    let mut rig = Rig::with_nodes(config());
    rig.gateway.stays_away(HOLD / 8);
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    // The record is up to an eighth old, and the next look after the deadline may be an eighth later.
    assert_eq!(rig.gateway.deadline(), Some(START + HOLD * 3 / 4));
    rig.advance(HOLD * 3 / 4 - 1);
    assert_eq!(rig.sent(), []);
    rig.advance(1);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 0, 10))]);
    // An absence of half the hold and more leaves nothing: one poll aggregates what it received.
    rig.gateway.stays_away(HOLD);
    let (a, b) = (cargo(17, 1, 1, 10), cargo(17, 2, 2, 10));
    rig.receive(&[(master(1), &a), (master(2), &b)]);
    rig.advance(0);
    assert_eq!(rig.sent_bytes(), [(slave(17), [a, b].concat())]);
    assert_eq!(rig.counts()["flush.flush_hold"], 2);
    rig.gateway.stays_away(0);
    rig.receive_one(master(1), &cargo(17, 1, 3, 10));
    assert_eq!(rig.gateway.deadline(), Some(rig.now + HOLD));
}

#[test]
fn the_lcore_may_stay_away_for_a_hold_but_not_for_long_and_not_in_a_drain() {
    for (hold, longest) in [(0, 0), (HOLD, HOLD), (FOREVER, 100_000)] {
        let mut rig = Rig::with_nodes(GatewayConfig { hold, ..config() });
        assert_eq!(rig.gateway.may_stay_away(), longest);
        rig.command(GatewayCommand::Drain);
        assert_eq!(rig.gateway.may_stay_away(), 0);
    }
}

proptest! {
    /// However the lcore stays away, no record leaves later than its hold after it came, be it still in the socket at
    /// first. Only if the absences are longer than the hold, the next look is the earliest time.
    #[test]
    fn no_record_is_older_than_its_hold_although_the_lcore_stays_away(
        away in 0..=HOLD,
        arrivals in prop::collection::vec((0..HOLD, 16u32..48), 1..200),
        jitter in prop::collection::vec(0..HOLD, 1..50),
    ) {
        let mut rig = Rig::with_nodes(config());
        rig.gateway.stays_away(away);
        let mut came = std::collections::HashMap::new();
        let (mut at, mut last) = (START, START);
        let times = arrivals.iter().map(|(after, slave)| { at += after / 16; (at, *slave) }).collect::<Vec<_>>();
        let mut waiting = times.iter().enumerate().peekable();
        let mut jitter = jitter.iter().cycle();
        while waiting.peek().is_some() || rig.held() != (0, 0) {
            // An absence is never longer than the lcore said.
            let absence = away.min(away / 2 + jitter.next().unwrap() % (away / 2 + 1)).max(1);
            rig.now = last + absence;
            last = rig.now;
            let mut burst = Vec::new();
            while burst.len() < frame::BURST
                && let Some((number, (at, slave))) = waiting.next_if(|(_, (at, _))| *at <= rig.now)
            {
                came.insert(number as u64, *at);
                burst.push((master(1), cargo(*slave, 1, number as u64, 30)));
            }
            if !burst.is_empty() {
                let burst = burst.iter().map(|(from, bytes)| (*from, bytes.as_slice())).collect::<Vec<_>>();
                rig.receive(&burst);
            }
            rig.advance(0);
            for sent in rig.sent() {
                for record in wire::Walk::new(&sent.bytes, scale()) {
                    let (_, record) = record.unwrap();
                    let number = record.header().req_id() & 0xffff_ffff;
                    let age = rig.now - came.remove(&number).expect("a record that came");
                    prop_assert!(age <= HOLD, "a record left {age} ns after it came, away for {away}");
                }
            }
        }
        prop_assert!(came.is_empty());
    }
}

#[test]
fn hold_sends_all_that_are_due_in_opening_order() {
    let mut rig = Rig::with_nodes(config());
    for id in [40, 16, 31, 17] {
        rig.receive_one(master(1), &cargo(id, 1, u64::from(id), 10));
        rig.now += 1;
    }
    rig.advance(2 * HOLD);
    let to: Vec<_> = rig.sent_bytes().into_iter().map(|(to, _)| to).collect();
    assert_eq!(to, [40, 16, 31, 17].map(slave));
}

#[test]
fn a_buffer_that_opens_again_has_its_whole_hold() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.advance(HOLD);
    assert_eq!(rig.sent().len(), 1);
    rig.now += 5;
    rig.receive_one(master(1), &cargo(17, 1, 1, 10));
    assert_eq!(rig.gateway.deadline(), Some(START + 2 * HOLD + 5));
}

#[test]
fn hold_zero_aggregates_what_one_poll_received() {
    let mut rig = Rig::with_nodes(GatewayConfig { hold: 0, early: true, ..config() });
    let (a, b, c) = (cargo(17, 1, 0, 10), cargo(18, 1, 1, 10), cargo(17, 2, 2, 10));
    rig.receive(&[(master(1), &a), (master(1), &b), (master(2), &c)]);
    assert_eq!((rig.sent(), rig.gateway.deadline()), (vec![], Some(START)));
    rig.advance(0);
    assert_eq!(rig.sent_bytes(), [(slave(17), [a, c].concat()), (slave(18), b)]);
    assert_eq!(rig.counts()["flush.flush_hold"], 2);
}

#[test]
fn hold_for_ever_waits_for_a_full_buffer() {
    let mut rig = Rig::with_nodes(waiting_for_ever());
    for number in 0..15 {
        rig.receive_one(master(1), &cargo(17, 1, number, SIXTEENTH));
    }
    rig.advance(FOREVER / 2);
    assert_eq!((rig.sent(), rig.held()), (vec![], (15, 0)));
    assert!(rig.gateway.deadline().is_none_or(|deadline| deadline == FOREVER));
    rig.receive_one(master(1), &cargo(17, 1, 15, SIXTEENTH));
    assert_eq!(rig.sent_bytes(), [(slave(17), cargoes(17, 1, 0..16, SIXTEENTH))]);
}

#[test]
fn hold_can_be_changed_while_records_wait() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.command(GatewayCommand::SetHold(100));
    assert_eq!(rig.gateway.deadline(), Some(START + 100));
    rig.command(GatewayCommand::SetHold(3 * HOLD));
    rig.advance(3 * HOLD - 1);
    assert_eq!(rig.sent(), []);
    rig.advance(1);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 0, 10))]);
}

#[test]
fn early_sends_everything_after_a_quarter_of_the_hold_without_traffic() {
    let mut rig = Rig::with_nodes(GatewayConfig { early: true, ..config() });
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    assert_eq!(rig.gateway.deadline(), Some(START + HOLD / 4));
    rig.advance(HOLD / 4 - 1);
    // All traffic counts, even refused traffic.
    rig.receive_one(slave(20), &cargo(20, 2, 1, 10));
    let due = START + HOLD / 4 - 1 + HOLD / 4;
    assert_eq!(rig.gateway.deadline(), Some(due));
    rig.advance(HOLD / 4 - 1);
    assert_eq!(rig.sent(), []);
    rig.advance(1);
    assert_eq!(rig.now, due);
    assert_eq!(rig.sent_bytes(), [(master(2), cargo(20, 2, 1, 10)), (slave(17), cargo(17, 1, 0, 10))]);
    let counts = rig.counts();
    assert_eq!((counts["flush.flush_early"], counts["flush.flush_hold"]), (2, 0));
    assert_eq!(rig.gateway.deadline(), None);
}

#[test]
fn under_steady_traffic_the_hold_is_the_deadline_not_early() {
    let mut rig = Rig::with_nodes(GatewayConfig { early: true, ..config() });
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    for number in 1..8 {
        rig.advance(HOLD / 8);
        rig.receive_one(master(1), &cargo(18, 1, number, 10));
    }
    assert_eq!(rig.gateway.deadline(), Some(START + HOLD));
    rig.advance(HOLD / 8);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 0, 10))]);
    let counts = rig.counts();
    assert_eq!((counts["flush.flush_hold"], counts["flush.flush_early"]), (1, 0));
}

#[test]
fn early_can_be_turned_off_and_on() {
    let mut rig = Rig::with_nodes(GatewayConfig { early: true, ..config() });
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.command(GatewayCommand::SetEarly(false));
    assert_eq!(rig.gateway.deadline(), Some(START + HOLD));
    rig.advance(HOLD - 1);
    assert_eq!(rig.sent(), []);
    rig.command(GatewayCommand::SetEarly(true));
    assert_eq!(rig.gateway.deadline(), Some(START + HOLD / 4));
    rig.advance(0);
    assert_eq!(rig.sent().len(), 1);
    assert_eq!(rig.counts()["flush.flush_early"], 1);
}

#[test]
fn room_when_the_pool_runs_low_the_oldest_leave_first() {
    // Low water is at most a quarter of the pool: 64 frames.
    let mut rig = Rig::with_nodes(GatewayConfig { low_water: 1000, ..waiting_for_ever() });
    for id in 16..48 {
        rig.receive_one(master(1), &cargo(id, 1, 0, 10));
    }
    assert_eq!((rig.sent(), rig.held()), (vec![], (32, 0)));
    // The received datagram takes one of these 65 frames. So low water is reached, but not passed.
    rig.lend_all_but(65);
    rig.receive_one(slave(20), &cargo(20, 1, 1, 10));
    assert_eq!((rig.pool.free(), rig.sent(), rig.held()), (64, vec![], (32, 1)));
    rig.receive_one(slave(20), &cargo(20, 2, 2, 10));
    let to: Vec<_> = rig.sent_bytes().into_iter().map(|(to, _)| to).collect();
    assert_eq!(to, (16..48).map(slave).collect::<Vec<_>>());
    assert_eq!(rig.counts()["flush.flush_room"], 32);
    assert_eq!(rig.held(), (0, 2), "no more than 32 leave at once");
}

#[test]
fn room_begins_above_the_reserve_or_cargo_would_find_no_frame_first() {
    let config = GatewayConfig { low_water: 1000, ..waiting_for_ever() };
    let mut rig = Rig::new(config, frame::PoolConfig { reserve: 64, ..pool(256) });
    rig.set_master(1, Some(route(master(1), MTU)));
    (16..48).for_each(|id| rig.set_slave(id, Some(route(slave(id), MTU))));
    for id in 16..48 {
        rig.receive_one(master(1), &cargo(id, 1, 0, 10));
    }
    assert_eq!((rig.sent(), rig.held()), (vec![], (32, 0)));
    // Cargo may take only frames above the reserve of 64.
    rig.lend_all_but(64 + 64);
    rig.receive_one(slave(20), &cargo(20, 1, 1, 10));
    assert_eq!((rig.sent().len(), rig.counts()["flush.flush_room"]), (32, 32));
}

#[test]
fn room_a_single_datagram_is_forwarded_when_the_pool_is_nearly_empty() {
    let mut rig = Rig::with_nodes(GatewayConfig { low_water: 1000, ..waiting_for_ever() });
    rig.lend_all_but(32);
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 0, 10))]);
    assert_eq!((rig.gateway.frames_held(), rig.held()), (0, (0, 0)));
}

#[test]
fn order_a_record_that_fills_a_datagram_leaves_in_its_own_frame_behind_what_waited() {
    let mut rig = Rig::with_nodes(config());
    let before = rig.counts();
    let small = rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    let large = rig.receive_one(master(1), &cargo(17, 1, 1, LIMIT - HEADER_LEN));
    let sent = rig.sent();
    let seen: Vec<_> = sent.iter().map(|sent| (sent.to, sent.frame, sent.records, sent.bytes.clone())).collect();
    let expected =
        [(slave(17), small, 1, cargo(17, 1, 0, 10)), (slave(17), large, 1, cargo(17, 1, 1, LIMIT - HEADER_LEN))];
    assert_eq!(seen, expected);
    rig.assert_changed(
        &before,
        &[
            ("down.datagrams_in", 2),
            ("down.records_in", 2),
            ("down.bytes_in", 33 + LIMIT as i64),
            ("flush.flush_order", 1),
            ("flush.forwarded_whole", 1),
            ("tx.down_datagrams_out", 2),
            ("tx.down_records_out", 2),
            ("tx.down_bytes_out", 33 + LIMIT as i64),
        ],
    );
}

#[test]
fn a_full_datagram_of_many_records_is_forwarded_whole_to_slaves_and_to_masters() {
    let mut rig = Rig::with_nodes(config());
    let down = cargoes(17, 1, 0..16, SIXTEENTH);
    let up: Vec<_> = (0..16).flat_map(|number| cargo(20, 2, number, SIXTEENTH)).collect();
    let frames = [rig.receive_one(master(1), &down), rig.receive_one(slave(20), &up)];
    let sent = rig.sent();
    let seen: Vec<_> = sent.iter().map(|sent| (sent.to, sent.class, sent.frame, sent.records, &sent.bytes)).collect();
    assert_eq!(seen, [(master(2), Class::Up, frames[1], 16, &up), (slave(17), Class::Down, frames[0], 16, &down)]);
    assert_eq!(rig.counts()["flush.forwarded_whole"], 2);
    assert_eq!(rig.gateway.deadline(), None);
}

#[test]
fn a_large_record_behind_another_in_one_datagram_is_sent_alone_and_in_order() {
    // The route's MTU is smaller than the datagram that came.
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(17, Some(route(slave(17), 528)));
    let records = [cargo(17, 1, 0, 10), cargo(17, 1, 1, 500 - HEADER_LEN), cargo(17, 1, 2, 10)];
    rig.receive_one(master(1), &records.concat());
    assert_eq!(rig.sent_bytes(), [(slave(17), records[0].clone()), (slave(17), records[1].clone())]);
    let counts = rig.counts();
    assert_eq!((counts["flush.flush_order"], counts["flush.flush_full"]), (1, 1));
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), records[2].clone())]);
}

#[test]
fn drain_hands_over_everything_and_holds_nothing_any_more() {
    let mut rig = Rig::with_nodes(waiting_for_ever());
    rig.receive(&[
        (master(1), &cargo(17, 1, 0, 10)),
        (master(1), &cargo(18, 1, 1, 10)),
        (slave(20), &cargo(20, 2, 2, 10)),
    ]);
    assert!(!rig.gateway.is_drained());
    rig.command(GatewayCommand::Drain);
    assert!(!rig.gateway.is_drained());
    rig.advance(0);
    assert!(rig.gateway.is_drained());
    let expected =
        [(master(2), cargo(20, 2, 2, 10)), (slave(17), cargo(17, 1, 0, 10)), (slave(18), cargo(18, 1, 1, 10))];
    assert_eq!(rig.sent_bytes(), expected);
    assert_eq!(rig.counts()["flush.flush_drain"], 3);

    rig.receive_one(master(1), &cargo(17, 1, 3, 10));
    rig.advance(0);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 3, 10))], "a drain sends what still comes in");
    assert!(rig.gateway.is_drained());
}

#[test]
fn the_first_datagram_becomes_the_buffer_and_later_ones_are_appended_to_it() {
    let mut rig = Rig::with_nodes(config());
    let first = rig.receive_one(master(1), &cargoes(17, 1, 0..3, 20));
    let in_use = rig.pool.in_use();
    rig.receive_one(master(2), &cargo(17, 2, 3, 40));
    rig.receive_one(master(1), &cargoes(17, 1, 4..6, 0));
    assert_eq!((in_use, rig.pool.in_use(), rig.gateway.frames_held()), (1, 1, 1));
    rig.advance(HOLD);
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].frame, sent[0].records), (1, first, 6));
    let expected = [cargoes(17, 1, 0..3, 20), cargo(17, 2, 3, 40), cargoes(17, 1, 4..6, 0)].concat();
    assert_eq!(sent[0].bytes, expected);
}

#[test]
fn a_frame_without_room_for_headers_or_for_the_mtu_is_not_adopted_but_nothing_changes() {
    // 2048 - 1000 bytes are fewer than the MTU leaves.
    for headroom in [0, 63, 1000] {
        let mut rig = Rig::with_nodes(config());
        let arrival = Arrival { headroom, ..Arrival::default() };
        let datagram = rig.datagram(master(1), &cargo(17, 1, 0, 20), arrival).unwrap();
        let came_in = datagram.frame.index();
        rig.receive_burst(vec![datagram]);
        rig.receive_one(master(1), &cargoes(17, 1, 1..16, 60));
        rig.advance(HOLD);
        let sent = rig.sent();
        assert_eq!((sent.len(), sent[0].records), (1, 16), "headroom {headroom}");
        assert_ne!(sent[0].frame, came_in, "headroom {headroom}");
        assert_eq!(sent[0].bytes, [cargo(17, 1, 0, 20), cargoes(17, 1, 1..16, 60)].concat());
    }
}

#[test]
fn a_run_of_records_for_one_slave_fills_what_is_open_and_opens_the_rest() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargoes(17, 1, 0..10, SIXTEENTH));
    rig.receive_one(master(1), &cargoes(17, 1, 10..23, SIXTEENTH));
    assert_eq!(rig.sent_bytes(), [(slave(17), cargoes(17, 1, 0..16, SIXTEENTH))]);
    assert_eq!(rig.held(), (7, 0));
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargoes(17, 1, 16..23, SIXTEENTH))]);
}

#[test]
fn a_datagram_larger_than_the_route_takes_is_cut_between_records() {
    let mut rig = Rig::with_nodes(config());
    rig.set_slave(17, Some(route(slave(17), 28 + 450)));
    rig.receive_one(master(1), &cargoes(17, 1, 0..10, 77));
    let expected = [(slave(17), cargoes(17, 1, 0..4, 77)), (slave(17), cargoes(17, 1, 4..8, 77))];
    assert_eq!(rig.sent_bytes(), expected);
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargoes(17, 1, 8..10, 77))]);
}

#[test]
fn records_of_one_datagram_for_several_slaves_go_to_each_in_order() {
    let mut rig = Rig::with_nodes(config());
    let ids = [17, 18, 17, 17, 19, 18];
    let records: Vec<_> = ids.iter().enumerate().map(|(number, &id)| cargo(id, 1, number as u64, 9)).collect();
    rig.receive_one(master(1), &records.concat());
    rig.advance(HOLD);
    let of = |numbers: &[usize]| numbers.iter().flat_map(|&number| records[number].clone()).collect::<Vec<_>>();
    assert_eq!(rig.sent_bytes(), [(slave(17), of(&[0, 2, 3])), (slave(18), of(&[1, 5])), (slave(19), of(&[4]))]);
}

#[test]
fn several_masters_share_a_slaves_datagram() {
    let mut rig = Rig::with_nodes(config());
    let (a, b, c) = (cargo(17, 1, 0, 10), cargo(17, 2, 0, 20), cargo(17, 1, 1, 30));
    rig.receive(&[(master(1), &a), (master(2), &b), (master(1), &c)]);
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), [a, b, c].concat())]);
}

#[test]
fn upward_records_of_many_slaves_share_a_masters_datagram() {
    let mut rig = Rig::with_nodes(config());
    let records: Vec<_> = (16..48).map(|id| cargo(id, 1 + (id % 2) as u16, u64::from(id), 10)).collect();
    let datagrams: Vec<_> = (16..48).map(slave).zip(records.iter().map(Vec::as_slice)).collect();
    rig.receive(&datagrams);
    assert_eq!((rig.gateway.frames_held(), rig.held()), (2, (0, 32)));
    rig.advance(HOLD);
    let of = |parity: usize| records.iter().skip(parity).step_by(2).flatten().copied().collect::<Vec<_>>();
    let sent = rig.sent();
    let seen: Vec<_> = sent.iter().map(|sent| (sent.to, sent.class, sent.records, sent.bytes.clone())).collect();
    assert_eq!(seen, [(master(1), Class::Up, 16, of(0)), (master(2), Class::Up, 16, of(1))]);
}

#[test]
fn one_slaves_datagram_for_two_masters_is_parted() {
    let mut rig = Rig::with_nodes(config());
    let (a, b, c) = (cargo(20, 1, 0, 10), cargo(20, 2, 0, 20), cargo(20, 1, 1, 30));
    rig.receive_one(slave(20), &[a.clone(), b.clone(), c.clone()].concat());
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(master(1), [a, c].concat()), (master(2), b)]);
}

#[test]
fn a_farm_behind_one_address_sends_records_of_many_slaves_in_one_datagram() {
    let mut rig = Rig::with_nodes(config());
    for id in 16..20 {
        rig.set_slave(id, Some(route(slave(16), MTU)));
    }
    let datagram: Vec<_> = (16..20).flat_map(|id| cargo(id, 1, u64::from(id), 10)).collect();
    let frame = rig.receive_one(slave(16), &datagram);
    rig.advance(HOLD);
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[0].to, sent[0].frame, sent[0].records), (1, master(1), frame, 4));
    assert_eq!(sent[0].bytes, datagram);
}

#[test]
fn both_directions_of_one_slave_are_apart() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.receive_one(slave(17), &cargo(17, 1, 1, 10));
    assert_eq!((rig.held(), rig.gateway.frames_held()), ((1, 1), 2));
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(master(1), cargo(17, 1, 1, 10)), (slave(17), cargo(17, 1, 0, 10))]);
}

#[test]
fn a_burst_of_the_largest_datagrams_of_the_smallest_records() {
    // 64 datagrams of 390 records each are more items than any burst of ordinary frames has.
    let jumbo = 9000 - 28;
    let records = jumbo / HEADER_LEN;
    let mut rig = Rig::new(waiting_for_ever(), frame::PoolConfig { chunk: 16_384, ..pool(256) });
    rig.set_master(1, Some(route(master(1), 9000)));
    for id in 16..32 {
        rig.set_slave(id, Some(route(slave(id), 9000)));
    }
    // No two records in a row go to the same slave.
    let of =
        |datagram: usize, at: usize| cargo(16 + ((datagram + at) % 16) as u32, 1, (datagram * records + at) as u64, 0);
    let datagrams: Vec<Vec<u8>> =
        (0..64).map(|datagram| (0..records).flat_map(|at| of(datagram, at)).collect()).collect();
    let burst: Vec<_> = datagrams.iter().map(|bytes| (master(1), bytes.as_slice())).collect();
    rig.receive(&burst);
    rig.command(GatewayCommand::Drain);
    rig.advance(0);
    let mut got = vec![Vec::new(); 16];
    for sent in rig.sent() {
        assert!(sent.bytes.len() <= jumbo);
        let to = (16..32).position(|id| slave(id) == sent.to).unwrap();
        got[to].extend(sent.bytes);
    }
    let mut expected = vec![Vec::new(); 16];
    for (datagram, at) in (0..64).flat_map(|datagram| (0..records).map(move |at| (datagram, at))) {
        expected[(datagram + at) % 16].extend(of(datagram, at));
    }
    assert!(got == expected, "every slave got its records in order");
}

#[test]
fn congestion_marks_every_datagram_that_carries_a_marked_record_and_no_other() {
    let ce = Arrival { ce: true, ..Arrival::default() };
    let mut rig = Rig::with_nodes(config());
    let burst = vec![
        // Marked when the buffer opens.
        rig.datagram(master(1), &cargo(17, 1, 0, 10), ce).unwrap(),
        rig.datagram(master(1), &cargo(17, 1, 1, 10), Arrival::default()).unwrap(),
        // Marked by a later record.
        rig.datagram(master(1), &cargo(18, 1, 2, 10), Arrival::default()).unwrap(),
        rig.datagram(master(1), &cargo(18, 1, 3, 10), ce).unwrap(),
        // Not marked.
        rig.datagram(master(1), &cargo(19, 1, 4, 10), Arrival::default()).unwrap(),
        // Forwarded whole.
        rig.datagram(master(1), &cargo(20, 1, 5, LIMIT - HEADER_LEN), ce).unwrap(),
        // Copied out of a datagram for two slaves.
        rig.datagram(master(1), &[cargo(21, 1, 6, 10), cargo(22, 1, 7, 10)].concat(), ce).unwrap(),
    ];
    rig.receive_burst(burst);
    rig.advance(HOLD);
    let mut marked: Vec<_> = rig.sent().into_iter().map(|sent| (sent.to.ip(), sent.ce)).collect();
    marked.sort();
    let expected = [(17, true), (18, true), (19, false), (20, true), (21, true), (22, true)];
    assert_eq!(marked, expected.map(|(id, ce)| (slave(id).ip(), ce)));

    rig.receive_one(master(1), &cargo(17, 1, 8, 10));
    rig.advance(HOLD);
    assert!(!rig.sent()[0].ce, "the mark leaves with its buffer");
}

#[test]
fn open_buffers_and_their_peak_are_counted() {
    let mut rig = Rig::with_nodes(config());
    for id in 16..21 {
        rig.receive_one(master(1), &cargo(id, 1, 0, 10));
    }
    rig.advance(1);
    assert_eq!((rig.counts()["flush.buffers_open"], rig.counts()["flush.buffers_open_max"]), (5, 5));
    rig.advance(HOLD);
    assert_eq!((rig.counts()["flush.buffers_open"], rig.counts()["flush.buffers_open_max"]), (0, 5));
}

#[test]
fn the_peak_of_open_buffers_includes_those_that_left_in_the_same_poll() {
    let mut rig = Rig::with_nodes(GatewayConfig { hold: 0, ..config() });
    let records: Vec<_> = (16..21).map(|id| cargo(id, 1, 0, 10)).collect();
    let datagrams: Vec<_> = records.iter().map(|record| (master(1), record.as_slice())).collect();
    rig.receive(&datagrams);
    rig.advance(0);
    assert_eq!((rig.counts()["flush.buffers_open"], rig.counts()["flush.buffers_open_max"]), (0, 5));
}

#[test]
fn a_full_tx_ring_keeps_the_datagrams_and_nothing_is_lost() {
    let mut rig = Rig::with_nodes(GatewayConfig { hold: 0, ..config() });
    for number in 0..100 {
        rig.receive_one(master(1), &cargo(17, 1, number, 10));
        rig.advance(1);
    }
    let counts = rig.counts();
    assert_eq!((counts["tx.down_records_queued"], counts["tx.down_records_out"]), (100, 0));
    let bytes: Vec<_> = rig.sent().into_iter().flat_map(|sent| sent.bytes).collect();
    assert_eq!(bytes, cargoes(17, 1, 0..100, 10));
    assert_eq!(rig.counts()["tx.down_records_queued"], 0);
}
