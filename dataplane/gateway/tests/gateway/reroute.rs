//! What becomes of records that wait when their route moves, or takes less or more.

use crate::support;

use frame::time::FOREVER;
use gateway::{GatewayCommand, GatewayConfig};
use support::*;

fn waiting_for_ever() -> GatewayConfig {
    GatewayConfig { hold: FOREVER, ..config() }
}

#[test]
fn what_waits_goes_to_the_new_place_of_a_route_that_moved() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.set_slave(17, Some(route(master(9), MTU)));
    assert_eq!((rig.sent(), rig.held()), (vec![], (1, 0)));
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(master(9), cargo(17, 1, 0, 10))]);
}

#[test]
fn a_smaller_mtu_sends_what_no_longer_fits_and_keeps_what_does() {
    let mut rig = Rig::with_nodes(waiting_for_ever());
    rig.receive_one(master(1), &cargoes(17, 1, 0..4, 77));
    rig.set_slave(17, Some(route(slave(17), 28 + 400)));
    assert_eq!((rig.sent(), rig.held()), (vec![], (4, 0)), "400 bytes fit");
    let before = rig.counts();
    rig.set_slave(17, Some(route(slave(17), 28 + 399)));
    assert!(rig.counts()["flush.flush_order"] > before["flush.flush_order"]);
    let mut sent = rig.sent();
    let left: u64 = sent.iter().map(|sent| u64::from(sent.records)).sum();
    assert!(left > 0 && rig.held() == (4 - left, 0), "{left} left, {:?} wait", rig.held());
    // The waiting records leave in the end. No record was lost, changed or overtaken.
    rig.command(GatewayCommand::Drain);
    sent.extend(rig.sent());
    assert!(sent.iter().all(|sent| sent.bytes.len() <= 399 && sent.to == slave(17)), "{sent:?}");
    assert_eq!(sent.into_iter().flat_map(|sent| sent.bytes).collect::<Vec<_>>(), cargoes(17, 1, 0..4, 77));
    assert_eq!((rig.held(), rig.counts()["tx.down_records_out"]), ((0, 0), 4));
}

#[test]
fn a_smaller_mtu_cuts_what_waits_between_records() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargoes(17, 1, 0..13, 77));
    rig.set_slave(17, Some(route(slave(17), 576)));
    rig.advance(HOLD);
    let expected = [0..5, 5..10, 10..13].map(|numbers| (slave(17), cargoes(17, 1, numbers, 77)));
    assert_eq!(rig.sent_bytes(), expected);
    assert_eq!(rig.counts()["down.dropped_too_large"], 0);
}

#[test]
fn a_smaller_mtu_drops_what_cannot_be_cut_and_keeps_marks_and_order() {
    let mut rig = Rig::with_nodes(config());
    let records = [cargo(17, 1, 0, 50), cargo(17, 1, 1, 600), cargo(17, 1, 2, 400), cargo(17, 1, 3, 60)];
    let datagram = rig.datagram(master(1), &records.concat(), Arrival { ce: true, ..Arrival::default() }).unwrap();
    rig.receive_burst(vec![datagram]);
    rig.set_slave(17, Some(route(slave(17), 576)));
    rig.advance(HOLD);
    let sent = rig.sent();
    assert!(sent.iter().all(|sent| sent.ce && sent.to == slave(17) && sent.bytes.len() <= 548));
    let bytes: Vec<_> = sent.into_iter().flat_map(|sent| sent.bytes).collect();
    assert_eq!(bytes, [&records[0][..], &records[2], &records[3]].concat());
    assert_eq!(rig.counts()["down.dropped_too_large"], 1);
}

#[test]
fn a_larger_mtu_is_used_at_once_by_the_open_buffer() {
    // The frame begins so late in its chunk that it has room for the first MTU, but not for the second.
    for headroom in [302, 700] {
        let mut rig = Rig::with_nodes(config());
        rig.set_slave(17, Some(route(slave(17), 1280)));
        let arrival = Arrival { headroom, ..Arrival::default() };
        let datagram = rig.datagram(master(1), &cargoes(17, 1, 0..12, 77), arrival).unwrap();
        rig.receive_burst(vec![datagram]);
        rig.set_slave(17, Some(route(slave(17), MTU)));
        rig.receive_one(master(1), &cargoes(17, 1, 12..14, 77));
        rig.advance(HOLD);
        let bytes: Vec<_> = rig.sent().into_iter().flat_map(|sent| sent.bytes).collect();
        assert_eq!(bytes.len(), 1400, "headroom {headroom}: nothing is dropped");
        assert_eq!(bytes, cargoes(17, 1, 0..14, 77));
    }
}

#[test]
fn a_route_that_appears_again_starts_afresh() {
    let mut rig = Rig::with_nodes(config());
    rig.receive_one(master(1), &cargo(17, 1, 0, 10));
    rig.set_slave(17, None);
    rig.set_slave(17, Some(route(slave(17), MTU)));
    rig.receive_one(master(1), &cargo(17, 1, 1, 10));
    rig.advance(HOLD);
    assert_eq!(rig.sent_bytes(), [(slave(17), cargo(17, 1, 1, 10))]);
    assert_eq!(rig.counts()["down.dropped_route_removed"], 1);
}
