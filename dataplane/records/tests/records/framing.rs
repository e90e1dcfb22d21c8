//! The framing by itself: dense paths of several slaves and masters, and who may send what.

use frame::{Class, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId};
use proptest::prelude::*;
use records::{Framing, PathEnds, Side};
use transport::{Access, Config, Endpoint, Local, Op, PathId, ReadyToReceive, ReadyToSend, Region, Remote, Work};
use wire::rc::{PathMtu, Psn, RnrTimer};
use wire::record::req_id;
use wire::{HEADER_LEN, MsgType, Record, RecordHeader, Scale, Walk};

fn peer(last: u8) -> Peer {
    Peer::socket(PortId(0), ([10, 0, 0, last], 9999).into())
}

fn outbox() -> Outbox {
    let pool = PoolConfig { frames: 64, hugepages: Hugepages::Never, reserve: 0, ..PoolConfig::default() };
    Outbox::new(Pool::new(pool).unwrap(), 1)
}

fn rc(slave: u32, master: u16) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN + 20];
    wire::record::emit(&RecordHeader::new(MsgType::RC, slave, req_id(master, 0), 20), &[0; 20], &mut out).unwrap();
    out
}

/// An endpoint with one READ posted on each of so many paths.
fn asking(paths: u32) -> Endpoint<Vec<u8>> {
    let config = Config { paths, ..Config::default() };
    let mut endpoint = Endpoint::new(config, 0).unwrap();
    let region = Region { base: 0, len: 4096, access: Access::ALL, domain: 0, memory: vec![0; 4096] };
    let key = endpoint.register(0, region).unwrap();
    for path in 0..paths {
        let qpn = endpoint.create(0x5500 + (path << 10), 0).unwrap();
        endpoint.init(qpn).unwrap();
        let (path, psn, mtu, rnr_timer) = (PathId(path), Psn::new(7), PathMtu::B1024, RnrTimer::new(1));
        let receive = ReadyToReceive { path, peer: transport::Qpn(0x99), psn, mtu, read_depth: 1, rnr_timer };
        endpoint.ready_to_receive(qpn, &receive).unwrap();
        endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, 1)).unwrap();
        let (local, op) = (Local { key, address: 0, len: 8 }, Op::Read(Remote { address: 0, key: 1 }));
        endpoint.post(qpn, Work { id: path.0.into(), op, local }).unwrap();
    }
    endpoint
}

/// Class and destination of a datagram, and slave and master of each of its records.
type Sent = (Class, Peer, Vec<(u32, u16)>);

/// What is sent now.
fn sent(framing: &mut Framing, endpoint: &mut Endpoint<Vec<u8>>) -> Vec<Sent> {
    let mut out = outbox();
    framing.transmit(1000, endpoint, &mut out);
    let queue = out.queue(PortId(0)).unwrap();
    std::iter::from_fn(|| queue.take())
        .map(|datagram| {
            let ends = Walk::new(datagram.frame.data(), Scale::default())
                .map(|item| PathEnds::of(item.unwrap().1.header()))
                .map(|PathEnds { slave, master }| (slave, master))
                .collect();
            (datagram.class, datagram.peer, ends)
        })
        .collect()
}

#[test]
fn paths_are_numbers_and_records_name_the_ends() {
    let mut framing = Framing::new(Side::Slave, Scale::default(), 4).unwrap();
    // Two slave ids with two leases each: masters 60,000 and 7.
    for (path, slave, master, to) in [(0, 131_071, 60_000, 1), (1, 131_071, 7, 1), (2, 5, 60_000, 1), (3, 5, 7, 2)] {
        framing.set_route(PathId(path), PathEnds { slave, master }, peer(to), 1500);
    }
    assert_eq!(framing.ends(PathId(2)), Some(PathEnds { slave: 5, master: 60_000 }));
    assert_eq!(framing.ends(PathId(4)), None);
    let sent = sent(&mut framing, &mut asking(4));
    // Upward all records to one gateway share a datagram.
    let first = vec![(131_071, 60_000), (131_071, 7), (5, 60_000)];
    assert_eq!(sent, [(Class::Up, peer(1), first), (Class::Up, peer(2), vec![(5, 7)])]);
    assert_eq!((framing.counters().rc_records_out.get(), framing.counters().datagrams_out.get()), (4, 2));
}

#[test]
fn a_master_counts_slaves_in_any_order_and_shards_stay_apart() {
    let scale = Scale::default();
    let mut framing = Framing::new(Side::Master, scale, 3).unwrap();
    let shard = 1 << scale.gw_bits();
    for (path, slave) in [(0, 3 * shard + 1), (1, 9), (2, 10)] {
        framing.set_route(PathId(path), PathEnds { slave, master: 2 }, peer(1), 1500);
    }
    let sent = sent(&mut framing, &mut asking(3));
    let expected = [vec![(3 * shard + 1, 2)], vec![(9, 2), (10, 2)]];
    assert_eq!(sent, expected.map(|ends| (Class::Down, peer(1), ends)));
}

#[test]
fn a_record_with_a_packet_of_an_urgent_queue_pair_has_push() {
    let config = Config { paths: 2, ..Config::default() };
    let mut endpoint = Endpoint::new(config, 0).unwrap();
    let region = Region { base: 0, len: 4096, access: Access::ALL, domain: 0, memory: vec![0; 4096] };
    let key = endpoint.register(0, region).unwrap();
    for is_urgent in [true, false] {
        let qpn = endpoint.create(0x5500, 0).unwrap();
        if is_urgent {
            endpoint.make_urgent(qpn).unwrap();
        }
        endpoint.init(qpn).unwrap();
        let (path, psn, mtu, rnr_timer) = (PathId(is_urgent.into()), Psn::new(7), PathMtu::B1024, RnrTimer::new(1));
        let receive = ReadyToReceive { path, peer: transport::Qpn(0x99), psn, mtu, read_depth: 1, rnr_timer };
        endpoint.ready_to_receive(qpn, &receive).unwrap();
        endpoint.ready_to_send(qpn, &ReadyToSend::usual(psn, 1)).unwrap();
        let (local, op) = (Local { key, address: 0, len: 8 }, Op::Read(Remote { address: 0, key: 1 }));
        endpoint.post(qpn, Work { id: 1, op, local }).unwrap();
    }
    let mut framing = Framing::new(Side::Master, Scale::default(), 2).unwrap();
    for path in 0..2 {
        framing.set_route(PathId(path), PathEnds { slave: path, master: 2 }, peer(1), 1500);
    }
    let mut out = outbox();
    framing.transmit(1000, &mut endpoint, &mut out);
    let datagram = out.queue(PortId(0)).unwrap().take().unwrap();
    let records: Vec<_> = Walk::new(datagram.frame.data(), Scale::default()).map(|item| item.unwrap().1).collect();
    let seen: Vec<_> = records.iter().map(|record| (record.header().slave_id(), record.header().is_frag())).collect();
    assert_eq!(seen, [(1, 4), (0, 0)]);
    // The ICRC covers the bit.
    for record in records {
        assert!(wire::rc::IcrcSeed::record(record.header()).verify(record.payload()));
    }
}

#[test]
fn a_record_is_taken_for_its_own_path_and_from_its_peer_alone() {
    let mut framing = Framing::new(Side::Slave, Scale::default(), 2).unwrap();
    framing.set_route(PathId(0), PathEnds { slave: 5, master: 7 }, peer(1), 1500);
    let bytes = rc(5, 7);
    let record = Record::first(&bytes).unwrap();
    let judge = |framing: &Framing, path, from: Peer, gateways: &[Peer]| {
        framing.accept(path, true, &record, |path| framing.is_from(path, &from, gateways)).map(|arrival| arrival.path)
    };
    assert_eq!(judge(&framing, Some(PathId(0)), peer(1), &[]), Some(PathId(0)));
    assert_eq!(judge(&framing, Some(PathId(0)), peer(2), &[peer(3), peer(2)]), Some(PathId(0)));
    assert_eq!(judge(&framing, Some(PathId(0)), peer(2), &[peer(3)]), None);
    assert_eq!(framing.counters().refused_source.get(), 1);
    // No path, a path without a route, and one that does not exist.
    for path in [None, Some(PathId(1)), Some(PathId(2))] {
        assert_eq!(judge(&framing, path, peer(1), &[]), None);
    }
    framing.set_route(PathId(0), PathEnds { slave: 5, master: 8 }, peer(1), 1500);
    assert_eq!(judge(&framing, Some(PathId(0)), peer(1), &[]), None);
    framing.clear_route(PathId(0));
    assert_eq!(judge(&framing, Some(PathId(0)), peer(1), &[]), None);
    let counters = framing.counters();
    assert_eq!((counters.dropped_not_ours.get(), counters.rc_records_in.get(), counters.records_in.get()), (5, 2, 8));
}

#[test]
fn a_route_is_known_by_peer_and_mtu() {
    let mut framing = Framing::new(Side::Slave, Scale::default(), 1).unwrap();
    assert!(!framing.has_route(PathId(0), &peer(1), 1500));
    framing.set_route(PathId(0), PathEnds { slave: 5, master: 7 }, peer(1), 1500);
    assert!(framing.has_route(PathId(0), &peer(1), 1500));
    assert!(!framing.has_route(PathId(0), &peer(1), 1400) && !framing.has_route(PathId(0), &peer(2), 1500));
    assert!(!framing.has_route(PathId(1), &peer(1), 1500));
}

#[test]
fn the_path_mtu_leaves_room_for_all_headers() {
    // 28 or 48 bytes of IP and UDP, 23 of the record, 36 of BTH, RETH, immediate data and ICRC.
    let v6 = Peer::socket(PortId(0), "[2001:db8::1]:9999".parse().unwrap());
    let cases = [
        (peer(1), 1500, Some(PathMtu::B1024)),
        (peer(1), 9000, Some(PathMtu::B4096)),
        (peer(1), 4096 + 87, Some(PathMtu::B4096)),
        (peer(1), 4096 + 86, Some(PathMtu::B2048)),
        (v6, 4096 + 107, Some(PathMtu::B4096)),
        (v6, 4096 + 106, Some(PathMtu::B2048)),
        (peer(1), 342, None),
        (peer(1), 0, None),
    ];
    for (peer, mtu, expected) in cases {
        assert_eq!(Framing::path_mtu(&peer, mtu), expected, "{peer:?} {mtu}");
    }
}

proptest! {
    #[test]
    fn every_record_is_in_one_counter(
        routes in proptest::collection::vec((0u32..4, 0u32..4, 0u16..4, 1u8..4), 0..6),
        records in proptest::collection::vec((0u32..5, 0u16..5, 0u32..6, 0u8..5, 0u8..8, any::<bool>()), 0..40),
    ) {
        let mut framing = Framing::new(Side::Slave, Scale::default(), 4).unwrap();
        let mut table = [None; 4];
        for (path, slave, master, to) in routes {
            framing.set_route(PathId(path), PathEnds { slave, master }, peer(to), 1500);
            table[path as usize] = Some((slave, master, to));
        }
        for (slave, master, path, from, frag, is_rc) in records {
            let msg_type = if is_rc { MsgType::RC } else { MsgType::ECHO };
            let header = RecordHeader::new(msg_type, slave, req_id(master, 0), 0).with_frag(frag);
            let mut bytes = [0; HEADER_LEN];
            wire::record::emit(&header, &[], &mut bytes).unwrap();
            let record = Record::first(&bytes).unwrap();
            let arrival =
                framing.accept(Some(PathId(path)), false, &record, |path| framing.is_from(path, &peer(from), &[]));
            let route = table.get(path as usize).copied().flatten();
            let right = is_rc && frag & 3 == 0 && route == Some((slave, master, from));
            prop_assert_eq!(arrival.is_some(), right);
        }
        let counters = framing.counters();
        let dropped = counters.refused_source.get() + counters.dropped_not_ours.get()
            + counters.dropped_unknown_type.get();
        prop_assert_eq!(counters.records_in.get(), counters.rc_records_in.get() + dropped);
    }
}
