//! A host and others on a wire in memory.

use super::*;
use crate::neighbour::{NextHop, NextHops, resolve};
use frame::time::{MILLISECOND, SECOND};
use frame::{Frame, Hugepages, Peer, Pool, PoolConfig, PortId, Vlan};
use proptest::prelude::*;
use wire::net::arp::{Arp, Operation};
use wire::net::ethernet::{self, Ethernet};
use wire::net::ipv4::{self, Ipv4};
use wire::net::{BROADCAST, checksum};

const OURS: Mac = [2, 0, 0, 0, 0, 1];
const THEIRS: Mac = [2, 0, 0, 0, 0, 9];
const US: Ip4 = [10, 0, 0, 2];
const THEM: Ip4 = [10, 0, 0, 9];

fn config() -> HostConfig {
    HostConfig {
        name: "port 0".to_owned(),
        mac: OURS,
        addresses: vec!["10.0.0.2/24".parse().unwrap(), "10.0.1.2/24".parse().unwrap()],
        gateway: Some([10, 0, 1, 1]),
        vlans: Vlans::ANY,
    }
}

/// A host that has already claimed its addresses.
fn settled() -> (Host, HostQueue) {
    let host = Host::new(config()).unwrap();
    let mut queue = host.queue();
    for second in 0..5 {
        while queue.next_request(second * SECOND).is_some() {}
    }
    (host, queue)
}

fn pool() -> Pool {
    Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() }).unwrap()
}

fn frame(pool: &Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    assert!(frame.append(bytes));
    frame
}

fn arp(arp: Arp, vlan: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let len = arp.emit_frame(vlan, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn ping(from: Ip4, to: Ip4, dst: Mac, data: &[u8]) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 1, 2, 3, 4], data].concat();
    let sum = checksum::fold(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0; 34];
    Ethernet { dst, src: THEIRS, vlan: None, ethertype: ethernet::IPV4 }.emit(&mut bytes).unwrap();
    Ipv4::new(from, to, ipv4::ICMP, 0).emit(message.len(), &mut bytes[14..]).unwrap();
    bytes.extend(message);
    bytes
}

const NOW: Time = 10 * SECOND;

#[test]
fn a_question_for_us_is_answered_and_its_asker_known() {
    let (host, mut queue) = settled();
    let pool = pool();
    for vlan in [None, Some(0), Some(7)] {
        let mut frame = frame(&pool, &arp(Arp::request(THEIRS, THEM, US), vlan));
        assert_eq!(queue.receive(NOW, &mut frame), Received::Reply);
        let (head, packet) = Ethernet::parse(frame.data()).unwrap();
        assert_eq!((head.dst, head.src, head.vlan, frame.len()), (THEIRS, OURS, vlan, 60));
        let reply = Arp::parse(packet).unwrap();
        assert_eq!((reply.operation, reply.sender_mac, reply.sender_ip), (Operation::Reply, OURS, US));
        assert_eq!((reply.target_mac, reply.target_ip), (THEIRS, THEM));
    }
    // A question without a sender address, as from a host that looks for a free address.
    let mut probe = frame(&pool, &arp(Arp::request(THEIRS, [0; 4], US), None));
    assert_eq!(queue.receive(NOW, &mut probe), Received::Reply);
    assert_eq!(host.neighbours().len(), 1);
    let hop = queue.lookup(NOW, THEM).unwrap();
    assert_eq!(hop, NextHop { mac: THEIRS, source: Some(US) });
    let mut other = frame(&pool, &arp(Arp::request(THEIRS, THEM, [10, 0, 0, 3]), None));
    assert_eq!(queue.receive(NOW, &mut other), Received::Consumed);
    assert_eq!((queue.counters().arp_rx.get(), queue.counters().arp_replies_tx.get()), (5, 4));
}

#[test]
fn a_peer_is_asked_for_once_and_found_on_every_queue() {
    let (host, mut asker) = settled();
    let mut other = host.queue();
    let pool = pool();
    for _ in 0..100 {
        assert_eq!(asker.lookup(NOW, THEM), None);
    }
    let request = asker.next_request(NOW).unwrap();
    assert_eq!((&request[..42], asker.next_request(NOW)), (&*arp(Arp::request(OURS, US, THEM), None), None));
    let reply = Arp::request(OURS, US, THEM).reply(THEIRS).unwrap();
    let mut reply = frame(&pool, &arp(reply, None));
    // The answer comes in on another queue than the one on which the question left.
    assert_eq!(other.receive(NOW, &mut reply), Received::Consumed);
    let mut peer = Peer::ipv4(PortId(0), THEM, 9999, Vlan::UNTAGGED, [0; 6]);
    assert!(resolve(&mut asker, &host.addresses(9999), NOW, &mut peer));
    assert_eq!((peer.mac, peer.local), (THEIRS, 1));
    assert_eq!(other.lookup(NOW, THEM), asker.lookup(NOW, THEM));
    assert_eq!(host.neighbours()[0].state, State::Reachable);
    assert_eq!(other.counters().neighbours_learned.get(), 1);
    // Half a minute later the neighbour itself is asked, and its address is still used.
    let later = NOW + 31 * SECOND;
    assert_eq!(asker.next_request(later), None);
    assert!(asker.lookup(later, THEM).is_some());
    let again = asker.next_request(later).unwrap();
    assert_eq!((&again[..6], &again[6..42]), (&THEIRS[..], &request[6..42]));
    assert!(asker.lookup(later, THEM).is_some());
    assert_eq!(asker.next_request(later), None);
}

#[test]
fn what_is_beyond_the_subnets_goes_to_the_gateway() {
    let (host, mut queue) = settled();
    assert_eq!(queue.lookup(NOW, [192, 0, 2, 1]), None);
    let request = queue.next_request(NOW).unwrap();
    assert_eq!(&request[..42], &*arp(Arp::request(OURS, [10, 0, 1, 2], [10, 0, 1, 1]), None));
    let reply = Arp::request(OURS, [10, 0, 1, 2], [10, 0, 1, 1]).reply(THEIRS).unwrap();
    let pool = pool();
    queue.receive(NOW, &mut frame(&pool, &arp(reply, None)));
    for far in [[192, 0, 2, 1], [8, 8, 8, 8]] {
        assert_eq!(queue.lookup(NOW, far), Some(NextHop { mac: THEIRS, source: Some([10, 0, 1, 2]) }));
    }
    for nobody in [[10, 0, 0, 2], [224, 0, 0, 1], [0; 4], [255; 4]] {
        assert_eq!(queue.lookup(NOW, nobody), None, "{nobody:?}");
    }
    assert_eq!((queue.counters().neighbours_no_route.get(), host.neighbours().len()), (4, 1));
    let host = Host::new(HostConfig { gateway: None, ..config() }).unwrap();
    assert_eq!(host.queue().lookup(NOW, [192, 0, 2, 1]), None);
    assert_eq!(host.neighbours(), []);
}

#[test]
fn a_ping_is_answered_and_what_is_none_is_not() {
    let (_, mut queue) = settled();
    let pool = pool();
    let data: Vec<u8> = (0..100).collect();
    let mut frame_ = frame(&pool, &ping(THEM, US, OURS, &data));
    assert_eq!(queue.receive(NOW, &mut frame_), Received::Reply);
    let (head, packet) = Ethernet::parse(frame_.data()).unwrap();
    let (ip, at) = Ipv4::parse(packet).unwrap();
    assert_eq!((head.dst, head.src, ip.src, ip.dst), (THEIRS, OURS, US, THEM));
    assert_eq!((packet[at.start], &packet[at.start + 8..at.end], at.end), (0, &data[..], packet.len()));
    assert_eq!(checksum::fold(checksum::sum(&packet[at])), 0);
    // A short answer is padded.
    let mut short = frame(&pool, &ping(THEM, US, OURS, b""));
    assert_eq!((queue.receive(NOW, &mut short), short.len()), (Received::Reply, 60));
    for ignored in [
        ping(THEM, [10, 0, 0, 3], OURS, b""),
        ping(THEM, US, BROADCAST, b""),
        ping([255; 4], US, OURS, b""),
        ping(US, US, OURS, b""),
    ] {
        assert_eq!(queue.receive(NOW, &mut frame(&pool, &ignored)), Received::Consumed);
    }
    let mut broken = ping(THEM, US, OURS, b"");
    broken[24] ^= 1;
    assert_eq!(queue.receive(NOW, &mut frame(&pool, &broken)), Received::Consumed);
    let counters = queue.counters();
    assert_eq!(
        (counters.icmp_replies_tx.get(), counters.icmp_ignored.get(), counters.icmp_dropped_malformed.get()),
        (2, 4, 1)
    );
}

#[test]
fn floods_are_answered_at_a_pace() {
    let (_, mut queue) = settled();
    let pool = pool();
    let mut answered = 0;
    for i in 0..5000u64 {
        let mut frame = frame(&pool, &ping(THEM, US, OURS, b"x"));
        answered += u64::from(queue.receive(NOW + i * MILLISECOND / 10, &mut frame) == Received::Reply);
    }
    assert_eq!(answered, 64 + 499);
    assert_eq!(queue.counters().host_dropped_rate.get(), 5000 - answered);
    // The same holds for questions: a thousand peers at once.
    for peer in 0..200u8 {
        queue.lookup(NOW + SECOND + Time::from(peer) * MILLISECOND, [10, 0, 0, peer + 3]);
    }
    let at_once = std::iter::from_fn(|| queue.next_request(NOW + 2 * SECOND)).count();
    assert_eq!(at_once, 64);
}

#[test]
fn addresses_are_claimed_at_start_and_a_duplicate_is_noticed() {
    let host = Host::new(config()).unwrap();
    let mut queue = host.queue();
    let mut said = Vec::new();
    for tenth in 0..100 {
        while let Some(request) = queue.next_request(NOW + tenth * 100 * MILLISECOND) {
            assert_eq!(request[..6], BROADCAST);
            let request = Arp::parse(&request[14..]).unwrap();
            said.push((tenth, request.sender_ip == [0; 4], request.target_ip));
        }
    }
    let (one, two) = (US, [10, 0, 1, 2]);
    let expected =
        [(0, true, one), (0, true, two), (10, false, one), (10, false, two), (30, false, one), (30, false, two)];
    assert_eq!(said, expected);
    let pool = pool();
    let answer =
        Arp { operation: Operation::Reply, sender_mac: THEIRS, sender_ip: US, target_mac: OURS, target_ip: [0; 4] };
    let at = NOW + 20 * SECOND;
    for _ in 0..3 {
        assert_eq!(queue.receive(at, &mut frame(&pool, &arp(answer, None))), Received::Consumed);
    }
    assert_eq!(host.duplicates(), [Duplicate { ip: US, mac: THEIRS, heard: at }]);
    assert_eq!((queue.counters().duplicate_addresses.get(), host.neighbours().len()), (3, 0));
    let defence = queue.next_request(at).unwrap();
    assert_eq!((&defence[..42], queue.next_request(at)), (&*arp(Arp::request(OURS, US, US), None), None));
}

#[test]
fn a_host_that_cannot_be_says_what_to_change() {
    let with = |addresses: &[&str], gateway: Option<Ip4>| {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        HostConfig { addresses, gateway, ..config() }.check().map_err(|error| error.to_string())
    };
    assert_eq!(with(&["10.0.0.2/24"], None), Ok(()));
    let nine: Vec<String> = (1..10).map(|i| format!("10.0.0.{i}/24")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    for (addresses, gateway, part) in [
        (&[][..], None, "add ,ip=10.0.0.2/24 to it"),
        (&nine, None, "at most 8"),
        (&["10.0.0.2/24", "10.0.0.2/16"], None, "ip=10.0.0.2 is named twice"),
        (&["10.0.0.2/24"], Some([10, 0, 1, 1]), "gw=10.0.1.1 is not a neighbour"),
        (&["10.0.0.2/24"], Some(US), "in a subnet of the port's own (10.0.0.2/24)"),
    ] {
        let error = with(addresses, gateway).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

proptest! {
    /// Random bytes, and valid packets that are cut or changed: nothing panics, and everything that is sent is from us,
    /// to one host.
    #[test]
    fn whatever_arrives_is_survived(
        noise in proptest::collection::vec(any::<u8>(), 0..90),
        kind in 0u8..4,
        cut in 0usize..90,
        change in proptest::option::of((0usize..60, any::<u8>())),
    ) {
        let (_, mut queue) = settled();
        let mut bytes = match kind {
            0 => noise,
            1 => arp(Arp::request(THEIRS, THEM, US), Some(5)),
            2 => arp(Arp::request(OURS, US, THEM).reply(THEIRS).unwrap(), None),
            _ => ping(THEM, US, OURS, &noise),
        };
        bytes.truncate(cut.max(1));
        if let Some((at, value)) = change && let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let pool = pool();
        let mut frame = frame(&pool, &bytes);
        match queue.receive(NOW, &mut frame) {
            Received::Datagram => prop_assert_eq!(frame.data(), &bytes[..]),
            Received::Reply => {
                let (head, _) = Ethernet::parse(frame.data()).unwrap();
                prop_assert!(head.src == OURS && head.dst[0] & 1 == 0 && frame.len() >= 60);
            }
            Received::Consumed => {}
        }
    }
}

#[test]
fn in_a_vlan_that_is_not_ours_nobody_is_answered() {
    let host = Host::new(HostConfig { vlans: "0+7".parse().unwrap(), ..config() }).unwrap();
    let mut queue = host.queue();
    while queue.next_request(0).is_some() {}
    let pool = pool();
    let mut ask = |vlan, ip| queue.receive(NOW, &mut frame(&pool, &arp(Arp::request(THEIRS, ip, US), vlan)));
    for (vlan, expected) in [
        (None, Received::Reply),
        (Some(0xe000), Received::Reply),
        (Some(7), Received::Reply),
        (Some(8), Received::Consumed),
        (Some(4095), Received::Consumed),
    ] {
        assert_eq!(ask(vlan, THEM), expected, "{vlan:?}");
    }
    // A host that has our address in another VLAN does not matter here.
    assert_eq!(ask(Some(8), US), Received::Consumed);
    assert_eq!(host.duplicates().len(), 0);
    let counters = queue.counters();
    assert_eq!((counters.host_dropped_vlan.get(), counters.duplicate_addresses.get()), (3, 0));
    // The reader refuses datagrams, not the host.
    let mut datagram = arp(Arp::request(THEIRS, THEM, US), Some(8));
    datagram[16..18].copy_from_slice(&ethernet::IPV4.to_be_bytes());
    datagram[18 + 9] = ipv4::UDP;
    assert_eq!(queue.receive(NOW, &mut frame(&pool, &datagram)), Received::Datagram);
}
