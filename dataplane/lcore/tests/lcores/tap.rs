//! What a tap shows of an lcore, and what a tap must not change.

use crate::toy::Bench;
use frame::{Class, PortId};
use lcore::tap::{TapConfig, Wants, Watch, Way, tap};
use proptest::prelude::*;

const ALL: TapConfig = TapConfig { slots: 64, snaplen: 16, rx: true, tx: true, port: None };

fn attach(bench: &Bench, config: TapConfig, wants: Wants) -> Watch {
    let (tap, watch) = tap(config, bench.wires.len(), wants);
    bench.lcore.tap_slot().put(tap);
    watch
}

/// The copies so far: way, port, bytes, length.
fn copies(watch: &mut Watch) -> Vec<(Way, u8, Vec<u8>, usize)> {
    let mut copies = Vec::new();
    while let Some(slot) = watch.take() {
        copies.push((slot.way, slot.peer.port.0, slot.data().to_vec(), slot.len));
        watch.give_back(slot);
    }
    copies
}

fn tally(watch: &Watch, port: usize) -> (u64, u64, u64) {
    let port = &watch.ports()[port];
    (port.seen.get(), port.wanted.get(), port.dropped.get())
}

#[test]
fn both_ways_of_a_datagram_are_copied_up_to_the_snaplen() {
    let mut bench = Bench::new(64, 2, 100);
    bench.room(8);
    let mut watch = attach(&bench, ALL, Box::new(|_, _| true));
    bench.put(1, b"longer than sixteen bytes");
    bench.lcore.poll_once(10);
    let slot = watch.take().unwrap();
    assert_eq!((slot.time, slot.way, slot.peer.port, slot.class, slot.len), (10, Way::Rx, PortId(1), None, 25));
    assert_eq!(slot.data(), b"longer than sixt");
    watch.give_back(slot);
    assert!(watch.take().is_none());
    bench.lcore.poll_once(110);
    let slot = watch.take().unwrap();
    assert_eq!((slot.time, slot.way, slot.class), (110, Way::Tx, Some(Class::Up)));
    watch.give_back(slot);
    assert_eq!((tally(&watch, 0), tally(&watch, 1)), ((0, 0, 0), (2, 2, 0)));
    assert!(bench.lcore.conservation().holds());
}

#[test]
fn ways_ports_and_wishes_choose() {
    let mut bench = Bench::new(64, 2, 0);
    bench.room(64);
    let put =
        |bench: &Bench| [(0, b"a0"), (1, b"a1"), (1, b"b1")].iter().for_each(|(port, bytes)| bench.put(*port, *bytes));
    let only = TapConfig { tx: false, port: Some(PortId(1)), ..ALL };
    let mut watch = attach(&bench, only, Box::new(|datagram, _| datagram.frame.data()[0] == b'b'));
    put(&bench);
    bench.lcore.poll_once(1);
    assert_eq!(copies(&mut watch), [(Way::Rx, 1, b"b1".to_vec(), 2)]);
    assert_eq!((tally(&watch, 0), tally(&watch, 1)), ((0, 0, 0), (2, 1, 0)));
    let only = TapConfig { rx: false, ..ALL };
    let mut sent = attach(&bench, only, Box::new(|_, way| way == Way::Tx));
    put(&bench);
    bench.lcore.poll_once(2);
    assert_eq!(copies(&mut sent).len(), 3);
    assert!(watch.is_ended() && !sent.is_ended(), "a new tap replaces the old one");
}

#[test]
fn what_finds_no_slot_is_counted_and_goes_its_way() {
    let mut bench = Bench::new(64, 1, 0);
    bench.room(64);
    let mut watch = attach(&bench, TapConfig { slots: 3, ..ALL }, Box::new(|_, _| true));
    for _ in 0..10 {
        bench.put(0, b"x");
    }
    assert_eq!(bench.lcore.poll_once(1).sent, 10);
    assert_eq!((copies(&mut watch).len(), tally(&watch, 0)), (3, (20, 20, 17)));
    bench.put(0, b"y");
    bench.lcore.poll_once(2);
    assert_eq!(copies(&mut watch).len(), 2, "slots that were given back are filled again");
}

#[test]
fn a_tap_that_nobody_watches_is_taken_off() {
    let mut bench = Bench::new(64, 1, 0);
    let watch = attach(&bench, ALL, Box::new(|_, _| true));
    bench.lcore.poll_once(1);
    assert!(!watch.is_ended());
    drop(watch);
    bench.lcore.poll_once(2);
    let never_taken = attach(&bench, ALL, Box::new(|_, _| true));
    drop(bench);
    assert!(never_taken.is_ended(), "an lcore that is gone takes nothing");
}

proptest! {
    /// The copies of sent datagrams are the datagrams that were sent: once each, in order, and in the same order as
    /// without a tap. This holds for any room in the ring at each poll.
    #[test]
    fn copies_of_what_is_sent_are_what_was_sent(steps in proptest::collection::vec((0usize..90, 0usize..90), 1..20)) {
        let mut bench = Bench::new(4096, 1, 0);
        let mut watch = attach(&bench, TapConfig { slots: 4096, rx: false, ..ALL }, Box::new(|_, _| true));
        let (mut number, mut sent) = (0u32, 0);
        for (now, (puts, room)) in steps.iter().enumerate() {
            for _ in 0..*puts {
                bench.put(0, &number.to_be_bytes());
                number += 1;
            }
            bench.room(*room);
            sent += bench.lcore.poll_once(now as u64 + 1).sent;
            prop_assert!(bench.lcore.conservation().holds());
        }
        let wire = bench.wires[0].lock().unwrap().from_port.clone();
        let copied: Vec<_> = copies(&mut watch).into_iter().map(|(_, _, bytes, _)| bytes).collect();
        let expected: Vec<_> = (0..sent as u32).map(|number| number.to_be_bytes().to_vec()).collect();
        prop_assert_eq!(&wire, &expected);
        prop_assert_eq!(&copied, &wire);
        prop_assert_eq!(tally(&watch, 0), (sent as u64, sent as u64, 0));
    }
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn all_memory_of_a_tap_is_there_before_it_is_worn() {
    let config = TapConfig { slots: 1024, snaplen: 16_384, ..ALL };
    let before = resident();
    let (tap, watch) = tap(config, 1, Box::new(|_, _| true));
    let (grown, all) = (resident().saturating_sub(before), config.slots * config.snaplen);
    // The kernel updates its count of pages in batches.
    assert!(grown >= all / 16 * 15, "{grown} bytes of {all} are there");
    drop((tap, watch));
}
