//! Every emitted value is parsed as it was, and checksums equal a simple computation.

mod leases;

use proptest::prelude::*;
use wire::link::{
    Cookie, CookieFault, Heartbeat, HeartbeatAck, MAX_RANGES, Member, MemberState, Members, MembersBuilder,
    MembersHead, NodeId, Role, ShardRange, SpeedClass,
};
use wire::net::arp::{Arp, Operation};
use wire::net::checksum;
use wire::net::ethernet::{DOT1AD, DOT1Q, Ethernet};
use wire::net::ipv4::Ipv4;
use wire::net::udp::Udp;
use wire::net::{self, UdpChecksum, UdpSpec};
use wire::{HEADER_LEN, Key, MsgType, Record, RecordHeader, echo, tag};

fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof![
        any::<u32>().prop_map(|id| NodeId { role: Role::Slave, id }),
        any::<u16>().prop_map(NodeId::master),
        Just(NodeId { role: Role::Slave, id: 0 }),
    ]
}

prop_compose! {
    fn heartbeat()(
        node in node(),
        (fixed_port, padded, left) in any::<(bool, bool, bool)>(),
        (boot_epoch, seq, challenge, members_generation, members_epoch) in any::<(u64, u64, u64, u64, u64)>(),
        (pages_total, pages_free, vcpus, max_ip_packet) in any::<(u64, u64, u16, u16)>(),
        (cookie, domain, speed_class) in any::<([u8; 16], u32, u8)>(),
    ) -> Heartbeat {
        let (cookie, speed_class) = (Cookie(cookie), SpeedClass(speed_class));
        Heartbeat {
            node, fixed_port, padded, left, boot_epoch, seq, challenge, cookie, members_generation, members_epoch,
            pages_total, pages_free, domain, vcpus, max_ip_packet, speed_class,
        }
    }
}

prop_compose! {
    fn ack()(
        node in node(),
        (draining, duplicate_id, registered, newer_key, lanes) in any::<(bool, bool, bool, bool, bool)>(),
        (slave_bits, gw_bits, mtu, hold_ns) in any::<(u8, u8, u16, u32)>(),
        (seq, challenge, cookie, gateway_epoch) in any::<(u64, u64, [u8; 16], u64)>(),
        cookie_fault in prop_oneof![
            Just(None),
            Just(Some(CookieFault::Unknown)),
            Just(Some(CookieFault::Expired)),
            Just(Some(CookieFault::OtherBoot)),
        ],
        ranges in proptest::collection::vec(any::<(u32, u32)>(), 0..=MAX_RANGES),
    ) -> HeartbeatAck {
        let ranges = ranges.into_iter().map(|(a, b)| ShardRange { first: a.min(b), last: a.max(b) }).collect();
        HeartbeatAck {
            node, draining, duplicate_id, registered, newer_key, lanes, slave_bits, gw_bits, mtu, seq, challenge,
            cookie: Cookie(cookie), gateway_epoch, hold_ns, cookie_fault, ranges,
        }
    }
}

prop_compose! {
    fn member()(
        id in any::<u32>(),
        state in prop_oneof![Just(MemberState::Here), Just(MemberState::Suspect), Just(MemberState::Gone)],
        (mtu, vcpus, epoch, pages_total, pages_free) in any::<(u16, u16, u64, u64, u64)>(),
        (domain, speed_class) in any::<(u32, u8)>(),
    ) -> Member {
        let speed_class = SpeedClass(speed_class);
        Member { id, state, mtu, vcpus, speed_class, domain, epoch, pages_total, pages_free }
    }
}

/// The record at the start of `bytes`, whose tag is that of `key`, or none.
fn tagged<'a>(bytes: &'a [u8], key: Option<&Key>) -> Record<'a> {
    let record = Record::first(bytes).unwrap();
    match key {
        Some(key) => assert!(tag::verify(key, record.bytes())),
        None => assert!(tag::is_unsigned(record.bytes())),
    }
    record
}

fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

proptest! {
    #[test]
    fn heartbeats(heartbeat in heartbeat(), key in any::<Option<Key>>(), pad_to in 0usize..1500) {
        let mut out = vec![0xee; 1500];
        let len = heartbeat.emit_padded(key.as_ref(), pad_to, &mut out).unwrap();
        prop_assert_eq!(len, pad_to.max(Heartbeat::RECORD_LEN));
        prop_assert!(out[len..].iter().all(|byte| *byte == 0xee));
        let record = tagged(&out, key.as_ref());
        prop_assert_eq!(record.bytes().len(), len);
        prop_assert_eq!(Heartbeat::parse(&record), Ok(heartbeat));
        prop_assert_eq!(heartbeat.emit_padded(None, pad_to, &mut out[..len - 1]), None);
    }

    #[test]
    fn acks(ack in ack(), key in any::<Option<Key>>()) {
        let mut out = vec![0xee; 300];
        let len = ack.emit(key.as_ref(), &mut out).unwrap();
        prop_assert_eq!(len, ack.record_len());
        let record = tagged(&out, key.as_ref());
        prop_assert_eq!(HeartbeatAck::parse(&record), Ok(ack.clone()));
        prop_assert_eq!(ack.emit(None, &mut out[..len - 1]), None);
        if ack.ranges.len() <= 5 {
            prop_assert!(len <= Heartbeat::RECORD_LEN);
        }
    }

    #[test]
    fn members(
        (master, snapshot, challenge) in any::<(u16, bool, u64)>(),
        (gateway_epoch, from_generation, to_generation) in any::<(u64, u64, u64)>(),
        list in proptest::collection::vec(member(), 0..40),
        room in 87usize..1472,
        key in any::<Option<Key>>(),
    ) {
        let head = MembersHead { master, snapshot, challenge, gateway_epoch, from_generation, to_generation };
        let mut out = vec![0xee; room];
        let mut builder = MembersBuilder::new(head, &mut out).unwrap();
        let taken = list.iter().take_while(|member| builder.push(member)).count();
        prop_assert_eq!(taken, list.len().min((room - 87) / 40));
        let len = builder.finish(key.as_ref());
        let record = tagged(&out, key.as_ref());
        prop_assert_eq!(record.bytes().len(), len);
        let members = Members::parse(&record).unwrap();
        prop_assert_eq!((members.head, members.len()), (head, taken));
        prop_assert!(members.entries().eq(list.into_iter().take(taken)));
    }

    #[test]
    fn trailing_bytes_of_a_later_minor_version_are_ignored(
        heartbeat in heartbeat(), ack in ack(), tail in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let mut out = vec![0; 400];
        for msg_type in [MsgType::HEARTBEAT, MsgType::HEARTBEAT_ACK] {
            let len = if msg_type == MsgType::HEARTBEAT { heartbeat.emit(None, &mut out) } else { ack.emit(None,
                &mut out) };
            let payload = [&out[HEADER_LEN..len.unwrap()], &tail[..]].concat();
            let old = *Record::first(&out).unwrap().header();
            let header = RecordHeader::new(msg_type, old.slave_id(), old.req_id(), payload.len() as u32);
            let mut longer = vec![0; HEADER_LEN + payload.len()];
            wire::record::emit(&header, &payload, &mut longer).unwrap();
            longer[HEADER_LEN + 17] = 1;
            let record = Record::first(&longer).unwrap();
            if msg_type == MsgType::HEARTBEAT {
                prop_assert_eq!(Heartbeat::parse(&record), Ok(heartbeat));
            } else {
                prop_assert_eq!(HeartbeatAck::parse(&record), Ok(ack.clone()));
            }
        }
    }

    #[test]
    fn echoes(slave in 0u32..1 << 24, req in any::<u64>(), stamp in any::<u64>(), sequence in any::<u64>(),
        len in 16u32..300, at in any::<prop::sample::Index>()) {
        let header = RecordHeader::new(MsgType::PATTERN, slave, req, len);
        let mut out = vec![0xee; 400];
        let end = echo::emit(&header, &echo::EchoHeader::new(stamp, sequence), &mut out).unwrap();
        prop_assert_eq!(end, HEADER_LEN + len as usize);
        let record = Record::first(&out).unwrap();
        let fields = echo::check(&record).unwrap();
        prop_assert_eq!((fields.stamp(), fields.sequence()), (stamp, sequence));
        // A flipped bit of the pattern is always seen.
        if len > 16 {
            let at = HEADER_LEN + 16 + at.index(len as usize - 16);
            out[at] ^= 0x10;
            prop_assert_eq!(echo::check(&Record::first(&out).unwrap()), None);
        }
    }

    #[test]
    fn ethernet_headers(dst in any::<net::Mac>(), src in any::<net::Mac>(), vlan in any::<Option<u16>>(),
        ethertype in any::<u16>()) {
        prop_assume!(ethertype != DOT1Q && ethertype != DOT1AD);
        let repr = Ethernet { dst, src, vlan, ethertype };
        let mut out = [0; 20];
        let len = repr.emit(&mut out).unwrap();
        prop_assert_eq!(len, repr.header_len());
        prop_assert_eq!(Ethernet::parse(&out), Ok((repr, &out[len..])));
    }

    #[test]
    fn ipv4_headers(
        (src, dst, protocol, ttl, id) in any::<(net::Ip4, net::Ip4, u8, u8, u16)>(),
        (dscp, ecn, fragment_offset) in (0u8..64, 0u8..4, 0u16..1 << 13),
        (dont_fragment, more_fragments) in any::<(bool, bool)>(),
        len in 0usize..100,
    ) {
        let repr = Ipv4 { src, dst, protocol, ttl, dscp, ecn, id, dont_fragment, more_fragments, fragment_offset };
        let mut out = [0xee; 130];
        prop_assert_eq!(repr.emit(len, &mut out), Some(20));
        prop_assert_eq!(Ipv4::parse(&out), Ok((repr, 20..20 + len)));
        prop_assert_eq!(naive_checksum(&out[..20]), 0);
    }

    #[test]
    fn udp_and_arp(
        (src_port, dst_port, checksum, mac, ip, target) in any::<(u16, u16, u16, net::Mac, net::Ip4, net::Ip4)>(),
        len in 0usize..100,
    ) {
        let repr = Udp { src_port, dst_port, checksum };
        let mut out = [0xee; 110];
        prop_assert_eq!(repr.emit(len, &mut out), Some(8));
        prop_assert_eq!(Udp::parse(&out), Ok((repr, 8..8 + len)));
        let request = Arp::request(mac, ip, target);
        prop_assert_eq!(request.emit(&mut out), Some(28));
        prop_assert_eq!(Arp::parse(&out), Ok(request));
        let reply = request.reply([2; 6]).unwrap();
        prop_assert_eq!(reply.emit(&mut out), Some(28));
        prop_assert_eq!(Arp::parse(&out).map(|arp| (arp, arp.operation)), Ok((reply, Operation::Reply)));
    }

    #[test]
    fn whole_frames(
        vlan in any::<Option<u16>>(),
        (src_mac, dst_mac, src_ip, dst_ip) in any::<(net::Mac, net::Mac, net::Ip4, net::Ip4)>(),
        (src_port, dst_port, ecn) in (any::<u16>(), any::<u16>(), 0u8..4),
        payload in proptest::collection::vec(any::<u8>(), 0..1600),
        spare in 0usize..20,
        flip in any::<prop::sample::Index>(),
    ) {
        let checksum = net::udp_checksum(src_ip, dst_ip, src_port, dst_port, &payload);
        prop_assert_ne!(checksum, 0);
        let spec = UdpSpec { vlan, src_mac, dst_mac, src_ip, dst_ip, src_port, dst_port, ecn, checksum };
        let headers = net::headers_len(vlan.is_some());
        let mut headroom = vec![0xee; headers + spare];
        prop_assert_eq!(net::emit_udp4(&spec, payload.len(), &mut headroom), Some(headers));
        prop_assert!(headroom[..spare].iter().all(|byte| *byte == 0xee));
        let mut frame = [&headroom[spare..], &payload[..]].concat();
        let read = net::parse_udp4(&frame).unwrap();
        prop_assert_eq!((read.vlan, read.src_mac, read.dst_mac, read.ecn), (vlan, src_mac, dst_mac, ecn));
        prop_assert_eq!((read.src_ip, read.dst_ip, read.src_port, read.dst_port), (src_ip, dst_ip, src_port, dst_port));
        prop_assert_eq!((&read.payload, read.checksum), (&(headers..frame.len()), UdpChecksum::Value(checksum)));
        prop_assert!(net::verify_udp4(&frame, &read));
        if !payload.is_empty() {
            frame[headers + flip.index(payload.len())] ^= 1;
            prop_assert!(!net::verify_udp4(&frame, &read));
        }
    }

    #[test]
    fn checksums(bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in any::<prop::sample::Index>()) {
        prop_assert_eq!(checksum::fold(checksum::sum(&bytes)), naive_checksum(&bytes));
        let cut = cut.index(bytes.len() / 2 + 1) * 2;
        let (head, tail) = bytes.split_at(cut);
        prop_assert_eq!(checksum::fold(checksum::sum(head) + checksum::sum(tail)), naive_checksum(&bytes));
    }

    #[test]
    fn sums_of_parts_are_the_sum_of_the_whole(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 0..300),
        cut in any::<prop::sample::Index>(),
        addresses in any::<[u8; 8]>(),
        ports in any::<[u16; 2]>(),
    ) {
        let whole = checksum::folded(checksum::sum(&bytes));
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        let [first, then] = [head, tail].map(|part| checksum::folded(checksum::sum(part)).get());
        let is_odd = head.len() % 2 == 1;
        prop_assert_eq!(checksum::join(first, is_odd, then.into()), whole.get());
        prop_assert_eq!(checksum::join(first, is_odd, u32::from(then) + 15 * 0xffff), whole.get());
        prop_assert_eq!(checksum::join(0, false, then.into()), then);

        let [source, destination] = [0, 4].map(|at| *addresses[at..].first_chunk::<4>().unwrap());
        let [from, to] = ports;
        let check = net::udp_checksum(source, destination, from, to, &bytes);
        prop_assert_eq!(net::udp_checksum_from(source, destination, from, to, bytes.len(), whole), check);
    }

    #[test]
    fn any_bytes_verify_under_no_key(bytes in proptest::collection::vec(any::<u8>(), 0..200), key in any::<Key>()) {
        prop_assert!(!tag::verify(&key, &bytes));
    }
}
