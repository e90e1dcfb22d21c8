//! The capacity that a slave claims to lend. An impossible claim is ignored, and the slave stays a member.

use crate::common;

use common::*;
use frame::time::SECOND;
use link::{MOST_PAGES, Notice};
use proptest::prelude::*;
use wire::link::{Heartbeat, MemberState};

/// Sends slave 17's next heartbeat with a claim. Returns the capacity that masters get.
fn claim(gateway: &mut Gateway, client: &Client, heartbeat: Heartbeat) -> (u64, u64) {
    assert!(ack_in(&gateway.receive(START, &client.peer, &signed(&heartbeat))).registered, "it stays a member");
    let view = gateway.registrar.members().next().expect("it is there");
    assert_eq!(view.member.state, MemberState::Here);
    (view.member.pages_total, view.member.pages_free)
}

#[test]
fn a_claim_that_cannot_be_true_leaves_the_last_one() {
    let (mut gateway, client, last) = registered(17, START);
    let next = |n: u64, pages_total, pages_free| Heartbeat { seq: last.seq + n, pages_total, pages_free, ..last };
    assert_eq!(claim(&mut gateway, &client, next(1, MOST_PAGES, MOST_PAGES)), (MOST_PAGES, MOST_PAGES));
    assert_eq!(gateway.counter("capacity_refused"), 0);
    for (n, (total, free)) in (2..).zip([(MOST_PAGES + 1, 5), (u64::MAX, u64::MAX), (100, 101), (0, 1)]) {
        let generation = gateway.registrar.summary().generation;
        assert_eq!(claim(&mut gateway, &client, next(n, total, free)), (MOST_PAGES, MOST_PAGES), "{total} {free}");
        assert_eq!((gateway.counter("capacity_refused"), gateway.refused()), (n - 1, 0));
        assert_eq!(gateway.registrar.summary().generation, generation, "masters are told nothing");
    }
    // The operator gets a notice once, and then rarely.
    let notices = gateway.notices();
    assert!(matches!(notices[..], [Notice::Capacity { total, .. }] if total == MOST_PAGES + 1), "{notices:?}");
    assert!(notices[0].to_string().contains("--memory"), "{}", notices[0]);
    assert_eq!(claim(&mut gateway, &client, next(9, 100, 100)), (100, 100));
}

#[test]
fn another_start_begins_with_nothing() {
    let (mut gateway, client, last) = registered(17, START);
    assert_eq!(claim(&mut gateway, &client, Heartbeat { seq: last.seq + 1, ..last }), (1000, 1000));
    let mut again = Client::new(slave(17), client.peer, START + SECOND);
    again.config.boot_epoch += 1;
    (again.config.pages_total, again.config.pages_free) = (10, 11);
    again.exchange(&mut gateway, START + SECOND);
    assert!(again.node.is_registered());
    let view = gateway.registrar.members().next().unwrap();
    assert_eq!((view.member.pages_total, view.member.pages_free, view.member.epoch), (0, 0, again.config.boot_epoch));
    assert_eq!(gateway.notices().len(), 1);
}

proptest! {
    /// Masters never get an impossible capacity, whatever a slave claims.
    #[test]
    fn masters_hear_of_what_can_be(claims in proptest::collection::vec((any::<u64>(), any::<u64>(), 0u32..64), 1..20)) {
        let (mut gateway, client, last) = registered(17, START);
        let mut believed = (1000, 1000);
        for (n, (total, free, shift)) in (1..).zip(claims) {
            let (pages_total, pages_free) = (total >> shift, free >> shift);
            let heartbeat = Heartbeat { seq: last.seq + n, pages_total, pages_free, ..last };
            let told = claim(&mut gateway, &client, heartbeat);
            prop_assert!(told.1 <= told.0 && told.0 <= MOST_PAGES);
            if pages_free <= pages_total && pages_total <= MOST_PAGES {
                prop_assert!(told.0 == pages_total && told.1.abs_diff(pages_free) <= pages_total / 64);
                believed = told;
            }
            prop_assert_eq!(told, believed);
        }
    }
}
