//! Delivery to the gateways of other shards: rewritten packets byte for byte, by BPF_PROG_TEST_RUN.

use crate::support::*;
use ebpf::{Config, MAX_NEIGHBORS, Neighbor, Steer, SteerError, Verdict};
use std::net::Ipv4Addr;
use wire::net::{parse_udp4, udp_checksum};
use wire::{Scale, Shard, ShardSet};

/// The loopback interface. Packets without a context come from it, too.
const LOOPBACK: u32 = 1;

const SHARD: Shard = Shard(3);
const SLAVE: [u8; 4] = (3u32 * 8_192 + 5).to_le_bytes();

const NEIGHBOR_MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];
const OUR_OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NEIGHBOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 200, 3);

/// To slave 24,581, which is in shard 3, with a right UDP checksum.
fn to_neighbor() -> Vec<u8> {
    checked(&with(PACKET, &[(SLAVE_ID, &SLAVE)]))
}

/// The same with a right UDP checksum.
fn checked(packet: &[u8]) -> Vec<u8> {
    let parsed = parse_udp4(packet).unwrap();
    let sum =
        udp_checksum(parsed.src_ip, parsed.dst_ip, parsed.src_port, parsed.dst_port, &packet[parsed.payload.clone()]);
    with(packet, &[(parsed.payload.start - 2, &sum.to_be_bytes())])
}

fn neighbor(ifindex: u32) -> Neighbor {
    Neighbor { shard: SHARD, ifindex, src_mac: OUR_OTHER_MAC, dst_mac: NEIGHBOR_MAC, dst_ip: NEIGHBOR_ADDRESS }
}

/// A network namespace of this thread's own with a pair of interfaces. Both end with the thread.
fn two_interfaces() -> Option<(u32, u32)> {
    enter_own_namespace()?;
    ip("link add left numrxqueues 2 numtxqueues 2 type veth peer name right");
    Some((index("left"), index("right")))
}

#[test]
fn what_a_router_would_change_is_changed_and_nothing_else() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let Some((left, _)) = two_interfaces() else { return };
    let neighbors = vec![neighbor(left)];
    let mut steer = load(&Config { neighbors, vlans: VLANS, ..Config::new(&shards) }).unwrap();
    // MACs, TTL, IP checksum and destination.
    let literal: &[u8] = &[
        0x02, 0x00, 0x00, 0x00, 0x03, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x45, 0x00, 0x00, 0x36,
        0x00, 0x00, 0x40, 0x00, 0x3f, 0x11, 0xbd, 0x92, 0x0a, 0x00, 0x00, 0x11, 0xac, 0x10, 0xc8, 0x03, 0xc0, 0x11,
        0x27, 0x0f, 0x00, 0x22, 0x00, 0x00, 0x58, 0x4d, 0x56, 0x47, 0x10, 0x00, 0x05, 0x60, 0x00, 0x00, 0x2a, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x78, 0x79, 0x7a,
    ];
    // A packet without a UDP checksum leaves without one.
    let unchecked = with(&to_neighbor(), &[(UDP_CHECKSUM, &[0, 0])]);
    assert_eq!(run(&mut steer, &unchecked), (REDIRECT, Verdict::RedirectNeighbor, literal.to_vec()));
    assert!(is_sound(literal));
    let expected = checked(literal);
    assert_eq!(run(&mut steer, &to_neighbor()), (REDIRECT, Verdict::RedirectNeighbor, expected.clone()));
    // A packet with a tag.
    let (action, verdict, after) = run(&mut steer, &tagged(&to_neighbor(), 0x6005));
    assert_eq!((action, verdict, after), (REDIRECT, Verdict::RedirectNeighbor, tagged(&expected, 0x6005)));
    // Link control to us stays here.
    let control = with(&to_neighbor(), &[(MSG_TYPE, &[1, 0])]);
    assert_eq!(run(&mut steer, &control), (DROP, Verdict::DropNoSocket, control));
}

#[test]
fn checksums_stay_right_whatever_is_in_the_packet() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let Some((left, _)) = two_interfaces() else { return };
    let mut steer = load(&Config::new(&shards)).unwrap();
    let mut random = 0x1234_5678_9abc_def1u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (mut zeros, mut wraps) = (0, 0);
    for i in 0..4_000u32 {
        let [mut source, target] = [next() as u32, next() as u32 | 1].map(u32::to_be_bytes);
        // The source is the address of a host: of class A to C, and not on the loopback.
        source[0] = source[0] % 96 + 128;
        // Every TTL is used. Every second payload makes the sum of the rewritten packet zero.
        let ttl = (i % 254 + 2) as u8;
        steer.set_neighbor(&Neighbor { dst_ip: target.into(), ..neighbor(left) }).unwrap();
        let mut packet = sealed(
            &to_neighbor(),
            &[(IP + 12, &source), (TTL, &[ttl]), (IP + 1, &[next() as u8]), (RECORD + 10, &next().to_le_bytes())],
        );
        let rewritten = |packet: &[u8]| {
            checked(&sealed(packet, &[(0, &NEIGHBOR_MAC), (6, &OUR_OTHER_MAC), (TTL, &[ttl - 1]), (IP + 16, &target)]))
        };
        if i % 2 == 0 {
            // req_id ends at an even offset, so its last two bytes can complete the sum.
            let plain = with(&packet, &[(RECORD + 16, &[0, 0])]);
            let sum = &rewritten(&plain)[UDP_CHECKSUM..UDP_CHECKSUM + 2];
            packet = with(&plain, &[(RECORD + 16, sum)]);
        }
        packet = checked(&packet);
        let expected = rewritten(&packet);
        zeros += u32::from(expected[UDP_CHECKSUM..UDP_CHECKSUM + 2] == [0xff, 0xff]);
        wraps += u32::from(expected[IP + 10] < packet[IP + 10]);
        let (_, verdict, after) = run(&mut steer, &packet);
        assert_eq!((verdict, &after), (Verdict::RedirectNeighbor, &expected), "packet {i}");
        assert!(is_sound(&after), "packet {i}");
    }
    // The rare cases occurred.
    assert!(zeros >= 1_900 && wraps >= 1_000, "{zeros} sums of zero, {wraps} wraps");
}

#[test]
fn a_packet_at_the_end_of_its_life_is_dropped() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let Some((left, _)) = two_interfaces() else { return };
    let mut steer = load(&Config { neighbors: vec![neighbor(left)], ..Config::new(&shards) }).unwrap();
    for (ttl, verdict) in
        [(0, Verdict::DropTtl), (1, Verdict::DropTtl), (2, Verdict::RedirectNeighbor), (255, Verdict::RedirectNeighbor)]
    {
        let packet = sealed(&to_neighbor(), &[(TTL, &[ttl])]);
        let (_, counted, after) = run(&mut steer, &packet);
        assert_eq!(counted, verdict, "TTL {ttl}");
        assert_eq!(after == packet, verdict == Verdict::DropTtl);
    }
    // A packet for this gateway is at its destination.
    let _socket = serve(&mut steer, 0);
    assert_eq!(run(&mut steer, &sealed(PACKET, &[(TTL, &[1])])).1, Verdict::RedirectCargo);
}

#[test]
fn nothing_leaves_through_the_port_it_came_in_on() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let Some((left, right)) = two_interfaces() else { return };
    let mut steer = load(&Config { neighbors: vec![neighbor(left)], ..Config::new(&shards) }).unwrap();
    let packet = to_neighbor();
    let mut from = |ifindex| run_in(&mut steer, &packet, Some(&context(packet.len(), ifindex, 0)));
    assert_eq!(from(left), (DROP, Verdict::DropHairpin, packet.clone()));
    assert_eq!(from(right).1, Verdict::RedirectNeighbor);
    assert_eq!(from(LOOPBACK).1, Verdict::RedirectNeighbor);
    // The same in the other direction, whatever the packet says.
    steer.set_neighbor(&neighbor(right)).unwrap();
    let mut from = |ifindex| run_in(&mut steer, &packet, Some(&context(packet.len(), ifindex, 0))).1;
    assert_eq!(from(right), Verdict::DropHairpin);
    assert_eq!(from(left), Verdict::RedirectNeighbor);
}

#[test]
fn each_queue_has_its_own_socket() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let Some((left, _)) = two_interfaces() else { return };
    let mut steer = load(&Config::new(&shards)).unwrap();
    let _socket = serve(&mut steer, 1);
    for (queue, verdict) in [(0, Verdict::DropNoSocket), (1, Verdict::RedirectCargo)] {
        let context = context(PACKET.len(), left, queue);
        assert_eq!(run_in(&mut steer, PACKET, Some(&context)).1, verdict, "queue {queue}");
    }
}

#[test]
fn neighbours_come_change_and_go_while_the_program_runs() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let Some((left, right)) = two_interfaces() else { return };
    let mut steer = load(&Config::new(&shards)).unwrap();
    let packet = to_neighbor();
    assert_eq!(run(&mut steer, &packet), (DROP, Verdict::DropForeignShard, packet.clone()));
    for (i, ifindex) in [left, right, left].into_iter().enumerate() {
        let dst_mac = [2, 9, 9, 9, 9, i as u8];
        steer.set_neighbor(&Neighbor { dst_mac, ..neighbor(ifindex) }).unwrap();
        let (_, verdict, after) = run(&mut steer, &packet);
        assert_eq!((verdict, &after[..6]), (Verdict::RedirectNeighbor, &dst_mac[..]));
    }
    // The change does not concern other shards.
    let other = with(&packet, &[(SLAVE_ID, &(4u32 * 8_192).to_le_bytes())]);
    assert_eq!(run(&mut steer, &other).1, Verdict::DropForeignShard);
    // The entry of an interface vanishes with it. For a new interface the entry is set again.
    ip("link delete left");
    assert_eq!(run(&mut steer, &packet), (DROP, Verdict::DropNoPort, packet.clone()));
    ip("link add left type veth peer name right");
    steer.set_neighbor(&neighbor(index("left"))).unwrap();
    assert_eq!(run(&mut steer, &packet).1, Verdict::RedirectNeighbor);
    assert!(steer.remove_neighbor(SHARD).unwrap());
    assert_eq!(run(&mut steer, &packet).1, Verdict::DropForeignShard);
    assert!(!steer.remove_neighbor(SHARD).unwrap() && !steer.remove_neighbor(Shard(99)).unwrap());
    // A shard that is served here has no neighbour.
    assert!(!steer.remove_neighbor(Shard(0)).unwrap());
    assert_eq!(run(&mut steer, PACKET).1, Verdict::DropNoSocket);
}

#[test]
fn neighbours_that_cannot_be_are_refused_and_change_nothing() {
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let refused = |steer: &mut Steer, neighbor: Neighbor| steer.set_neighbor(&neighbor).unwrap_err();
    let error = refused(&mut steer, Neighbor { shard: Shard(16), ..neighbor(LOOPBACK) });
    assert!(
        matches!(error, SteerError::NoShard { .. }) && error.to_string().ends_with("shards are 0 to 15"),
        "{error}"
    );
    let error = refused(&mut steer, Neighbor { shard: Shard(15), ..neighbor(LOOPBACK) });
    assert!(matches!(error, SteerError::OwnShard(Shard(15))), "{error}");
    assert!(error.to_string().starts_with("shard 15 is served by this gateway"), "{error}");
    let error = refused(&mut steer, neighbor(0x7fff_fff0));
    assert!(matches!(error, SteerError::NoNeighborInterface { .. }), "{error}");
    assert!(error.to_string().contains("`ip -brief link` lists them"), "{error}");
    assert_eq!(run(&mut steer, &to_neighbor()).1, Verdict::DropForeignShard);
    // The same holds at the start.
    let error = Steer::load(&Config { neighbors: vec![neighbor(0x7fff_fff0)], ..Config::new(&shards) }).err();
    assert!(matches!(error, Some(SteerError::NoNeighborInterface { .. })));
}

#[test]
fn as_many_neighbours_as_there_is_room_for() {
    let shards = ShardSet::new(Scale::new(17, 4).unwrap(), &[Shard(0)]).unwrap();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let at = |shard| Neighbor { shard: Shard(shard), dst_ip: Ipv4Addr::from_bits(shard), ..neighbor(LOOPBACK) };
    for shard in 1..=MAX_NEIGHBORS {
        steer.set_neighbor(&at(shard)).unwrap();
    }
    assert!(matches!(steer.set_neighbor(&at(MAX_NEIGHBORS + 1)), Err(SteerError::Neighbors(_))));
    // All entries can still change. The packet comes in on the same interface, and its verdict shows that the entry was
    // found.
    for shard in (1..=MAX_NEIGHBORS).chain([1, 1, MAX_NEIGHBORS]) {
        steer.set_neighbor(&at(shard)).unwrap();
        let packet = with(PACKET, &[(SLAVE_ID, &(shard * 16).to_le_bytes())]);
        assert_eq!(run_in(&mut steer, &packet, Some(&context(packet.len(), LOOPBACK, 0))).1, Verdict::DropHairpin);
    }
    assert!(steer.remove_neighbor(Shard(7)).unwrap());
    steer.set_neighbor(&at(MAX_NEIGHBORS + 1)).unwrap();
}
