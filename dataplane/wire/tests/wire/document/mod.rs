//! docs/wire-format.md is exact: each hex block is read, every field compared, and the packet written again.

mod leases;

use wire::link::{
    Cookie, Heartbeat, HeartbeatAck, LinkError, Member, MemberState, Members, MembersBuilder, MembersHead, NodeId,
    Role, ShardRange, SpeedClass, v1,
};
use wire::net::arp::{Arp, Operation};
use wire::net::ethernet::{self, Ethernet};
use wire::net::{self, UdpChecksum, UdpFrame, UdpSpec, icmp};
use wire::part::{self, Direction, Limits, Part, Reassembler};
use wire::rc::packet::{self, header};
use wire::rc::{Aeth, Bth, IcrcSeed, Opcode, Packet, Psn, Reth, Syndrome};
use wire::record::{FRAG_LAST, FRAG_PART, FRAG_PUSH};
use wire::{Record, Scale, Shard, Walk, echo, tag};

const LABELS: [&str; 22] = [
    "parts",
    "heartbeat-slave-17",
    "heartbeat-master-1",
    "heartbeat-ack-slave-17",
    "members-master-1",
    "heartbeat-v1-slave-17",
    "heartbeat-ack-v1-slave-17",
    "members-v1-master-1",
    "connect-open",
    "connect-reply-cookie",
    "connect-reply-granted",
    "connect-resume",
    "disconnect",
    "disconnect-answer",
    "echo-two-records",
    "rc-read-request",
    "rc-read-request-push",
    "rc-read-response",
    "echo-reply-frame-vlan-5",
    "arp-request",
    "ping",
    "pong",
];

const GATEWAY_EPOCH: u64 = 0xe90c_0000_0000_0001;
const SLAVES_CHALLENGE: u64 = 0xc4a1_1e46_e000_0011;
const MASTERS_CHALLENGE: u64 = 0xc4a1_1e46_e000_0001;
const COOKIE: Cookie = Cookie(0x7766_5544_3322_1100_feed_face_cafe_beef_u128.to_le_bytes());
const SLAVE_MAC: net::Mac = [2, 0, 0, 0, 0, 0x11];
const GATEWAY_MAC: net::Mac = [2, 0, 0, 0, 0, 1];
const SLAVE_IP: net::Ip4 = [192, 168, 0, 17];
const GATEWAY_IP: net::Ip4 = [192, 168, 0, 1];

/// The key `00 01 02 .. 1f` of the document.
fn key() -> tag::Key {
    core::array::from_fn(|i| i as u8)
}

fn block(label: &str) -> Vec<u8> {
    let found = crate::blocks::read().into_iter().find(|(name, _)| name == label);
    found.unwrap_or_else(|| panic!("docs/wire-format.md has no block {label}")).1
}

/// The only record of a datagram.
fn only(datagram: &[u8]) -> Record<'_> {
    let mut walk = Walk::new(datagram, Scale::default());
    let (_, record) = walk.next().unwrap().unwrap();
    assert!(walk.next().is_none());
    record
}

fn header_of(record: &Record<'_>) -> (u16, u32, u64, u32, u8) {
    let header = record.header();
    (header.msg_type().0, header.slave_id(), header.req_id(), header.payload_len(), header.is_frag())
}

#[test]
fn every_block_has_a_test() {
    let labels: Vec<String> = crate::blocks::read().into_iter().map(|(label, _)| label).collect();
    assert_eq!(labels, LABELS);
}

/// The heartbeat of slave 17.
fn slaves_heartbeat() -> Heartbeat {
    Heartbeat {
        node: NodeId { role: Role::Slave, id: 17 },
        fixed_port: true,
        padded: false,
        left: false,
        boot_epoch: 0x1122_3344_5566_7788,
        seq: 1,
        challenge: SLAVES_CHALLENGE,
        cookie: Cookie::NONE,
        members_generation: 0,
        members_epoch: 0,
        pages_total: 3_145_728,
        pages_free: 3_145_728,
        domain: 0xd0a1,
        vcpus: 4,
        max_ip_packet: 9000,
        speed_class: SpeedClass(6),
    }
}

#[test]
fn heartbeat_slave_17() {
    let bytes = block("heartbeat-slave-17");
    let record = only(&bytes);
    assert_eq!(header_of(&record), (0x0001, 17, 0, 128, 0));
    assert_eq!((record.payload()[16], record.payload()[17]), (2, 0));
    assert!(tag::is_unsigned(&bytes));
    let expected = slaves_heartbeat();
    assert_eq!(Heartbeat::parse(&record), Ok(expected));
    let mut out = vec![0xee; bytes.len()];
    assert_eq!(expected.emit(None, &mut out), Some(bytes.len()));
    assert_eq!(out, bytes);
}

#[test]
fn heartbeat_master_1() {
    let bytes = block("heartbeat-master-1");
    let record = only(&bytes);
    assert_eq!(header_of(&record), (0x0001, 0, 0x0001_0000_0000_0000, 133, 0));
    assert!(tag::verify(&key(), &bytes));
    let expected = Heartbeat {
        node: NodeId { role: Role::Master, id: 1 },
        fixed_port: false,
        padded: false,
        left: false,
        boot_epoch: 0x0102_0304_0506_0708,
        seq: 42,
        challenge: MASTERS_CHALLENGE,
        cookie: COOKIE,
        members_generation: 7,
        members_epoch: GATEWAY_EPOCH,
        pages_total: 0,
        pages_free: 0,
        domain: 0,
        vcpus: 0,
        max_ip_packet: 1500,
        speed_class: SpeedClass::UNKNOWN,
    };
    assert_eq!(Heartbeat::parse(&record), Ok(expected));
    let mut out = vec![0xee; bytes.len()];
    assert_eq!(expected.emit_padded(Some(&key()), 156, &mut out), Some(156));
    assert_eq!(out, bytes);
}

/// The answer of the gateway to slave 17.
fn slaves_ack() -> HeartbeatAck {
    HeartbeatAck {
        node: NodeId { role: Role::Slave, id: 17 },
        draining: false,
        duplicate_id: false,
        registered: true,
        newer_key: false,
        lanes: false,
        slave_bits: 17,
        gw_bits: 13,
        mtu: 1280,
        seq: 1,
        challenge: SLAVES_CHALLENGE,
        cookie: COOKIE,
        gateway_epoch: GATEWAY_EPOCH,
        hold_ns: 50_000,
        cookie_fault: None,
        ranges: [ShardRange { first: 0, last: 0 }].into_iter().collect(),
    }
}

#[test]
fn heartbeat_ack_slave_17() {
    let bytes = block("heartbeat-ack-slave-17");
    let record = only(&bytes);
    assert_eq!(header_of(&record), (0x0002, 17, 0, 96, 0));
    assert!(tag::verify(&key(), &bytes));
    let expected = slaves_ack();
    assert_eq!(HeartbeatAck::parse(&record), Ok(expected.clone()));
    assert!(expected.serves(Shard(0)) && !expected.serves(Shard(1)));
    let mut out = vec![0xee; bytes.len()];
    assert_eq!(expected.emit(Some(&key()), &mut out), Some(bytes.len()));
    assert_eq!(out, bytes);
}

/// The head of the MEMBERS record for master 1.
const HEAD: MembersHead = MembersHead {
    master: 1,
    snapshot: true,
    challenge: MASTERS_CHALLENGE,
    gateway_epoch: GATEWAY_EPOCH,
    from_generation: 0,
    to_generation: 7,
};

fn members() -> [Member; 3] {
    let member = |id, state, (mtu, speed_class), (vcpus, domain), epoch, pages_total, pages_free| Member {
        id,
        state,
        mtu,
        vcpus,
        speed_class: SpeedClass(speed_class),
        domain,
        epoch,
        pages_total,
        pages_free,
    };
    [
        member(17, MemberState::Here, (1500, 6), (4, 0xd0a1), 0x1122_3344_5566_7788, 3_145_728, 3_145_000),
        member(18, MemberState::Suspect, (1280, 3), (2, 0), 2, 1024, 1024),
        member(8191, MemberState::Gone, (0, 0), (0, 0), 3, 0, 0),
    ]
}

#[test]
fn members_master_1() {
    let bytes = block("members-master-1");
    let record = only(&bytes);
    assert_eq!(header_of(&record), (0x0003, 0, 0x0001_0000_0000_0000, 184, 0));
    assert!(tag::verify(&key(), &bytes));
    let found = Members::parse(&record).unwrap();
    assert_eq!(found.head, HEAD);
    assert!(found.entries().eq(members()));
    let mut out = vec![0xee; bytes.len()];
    let mut builder = MembersBuilder::new(HEAD, &mut out).unwrap();
    assert!(members().iter().all(|member| builder.push(member)));
    assert_eq!(builder.finish(Some(&key())), bytes.len());
    assert_eq!(out, bytes);
}

#[test]
fn version_1() {
    let bytes = block("heartbeat-v1-slave-17");
    let record = only(&bytes);
    assert_eq!(header_of(&record), (0x0001, 17, 0, 84, 0));
    let expected = Heartbeat { challenge: 0, domain: 0, speed_class: SpeedClass::UNKNOWN, ..slaves_heartbeat() };
    assert_eq!(v1::parse_heartbeat(&record), Ok(expected));
    assert_eq!(Heartbeat::parse(&record), Err(LinkError::Version(1)));
    assert_eq!(v1::parse_heartbeat(&only(&block("heartbeat-slave-17"))), Err(LinkError::Version(2)));

    let bytes = block("heartbeat-ack-v1-slave-17");
    let record = only(&bytes);
    assert_eq!(HeartbeatAck::parse(&record), Err(LinkError::Version(1)));
    let ack = HeartbeatAck { cookie: v1::cookie(0xfeed_face_cafe_beef_u64.to_le_bytes()), ..slaves_ack() };
    let mut out = vec![0xee; bytes.len()];
    assert_eq!((v1::emit_ack(&ack, Some(&key()), &mut out), v1::ack_len(&ack)), (Some(bytes.len()), bytes.len()));
    assert_eq!(out, bytes);
    assert_eq!(v1::emit_ack(&ack, None, &mut out[1..]), None);

    let bytes = block("members-v1-master-1");
    assert_eq!(Members::parse(&only(&bytes)).err(), Some(LinkError::Version(1)));
    let mut out = vec![0xee; bytes.len()];
    let mut builder = MembersBuilder::version_1(HEAD, &mut out).unwrap();
    assert!(members().iter().all(|member| builder.push(member)));
    assert_eq!(builder.finish(Some(&key())), bytes.len());
    assert_eq!(out, bytes);
}

#[test]
fn signed_blocks_refuse_another_key_and_another_byte() {
    for label in [
        "heartbeat-master-1",
        "heartbeat-ack-slave-17",
        "members-master-1",
        "heartbeat-ack-v1-slave-17",
        "members-v1-master-1",
        "connect-open",
        "connect-reply-cookie",
        "connect-reply-granted",
        "connect-resume",
        "disconnect",
        "disconnect-answer",
    ] {
        let mut bytes = block(label);
        assert!(!tag::verify(&[0; 32], &bytes), "{label}");
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(!tag::verify(&key(), &bytes), "{label}, byte {at}");
            bytes[at] ^= 1;
        }
    }
}

#[test]
fn echo_two_records() {
    let bytes = block("echo-two-records");
    let expected =
        [(17, 0x0001_0000_0000_002a, 24, 1_000_000_007, 5), (18, 0x0001_0000_0000_002b, 29, 1_000_000_008, 6)];
    let records: Vec<Record> = Walk::new(&bytes, Scale::default()).map(|item| item.unwrap().1).collect();
    assert_eq!(records.len(), expected.len());
    let mut out = vec![0xee; bytes.len()];
    let mut at = 0;
    for (record, (slave, req, len, stamp, sequence)) in records.iter().zip(expected) {
        assert_eq!(header_of(record), (0x0010, slave, req, len, 0));
        let fields = echo::check(record).expect("the pattern is that of the slave and the sequence");
        assert_eq!((fields.stamp(), fields.sequence()), (stamp, sequence));
        at += echo::emit(record.header(), &echo::EchoHeader::new(stamp, sequence), &mut out[at..]).unwrap();
    }
    assert_eq!(out, bytes);
}

/// A record of master 1 and slave 17 with this packet.
fn rc_record(bth: Bth, extension: &[u8], payload: &[u8], is_frag: u8) -> Vec<u8> {
    let opcode = Opcode::new(bth.opcode_number()).unwrap();
    let mut packet = vec![0xee; packet::wire_len(opcode, payload.len())];
    packet::open(bth, [extension, &[]], payload.len(), &mut packet).unwrap().payload.copy_from_slice(payload);
    let head = wire::RecordHeader::new(wire::MsgType::RC, 17, wire::record::req_id(1, 0), packet.len() as u32);
    let head = head.with_frag(is_frag);
    assert!(IcrcSeed::record(&head).seal(&mut packet));
    let mut out = vec![0xee; wire::HEADER_LEN + packet.len()];
    assert_eq!(wire::record::emit(&head, &packet, &mut out), Some(out.len()));
    out
}

#[test]
fn rc_read_request() {
    for (label, is_frag) in [("rc-read-request", 0), ("rc-read-request-push", FRAG_PUSH)] {
        let bytes = block(label);
        let record = only(&bytes);
        assert_eq!(header_of(&record), (0x0100, 17, 0x0001_0000_0000_0000, 32, is_frag));
        assert!(IcrcSeed::record(record.header()).verify(record.payload()));
        let packet = Packet::parse(record.payload()).unwrap();
        let bth = Bth::new(Opcode::READ_REQUEST, 0x55, Psn::new(7)).with_ack_request(true);
        let reth = Reth::new(0x2000, 0x1bad_cafe, 6);
        assert_eq!((packet.bth(), packet.reth(), packet.payload()), (&bth, Some(&reth), &[][..]));
        assert_eq!(rc_record(bth, header(&reth), &[], is_frag), bytes);
    }
}

#[test]
fn rc_read_response() {
    let bytes = block("rc-read-response");
    let record = only(&bytes);
    assert_eq!(header_of(&record), (0x0100, 17, 0x0001_0000_0000_0000, 28, 0));
    assert!(IcrcSeed::record(record.header()).verify(record.payload()));
    let packet = Packet::parse(record.payload()).unwrap();
    let bth = Bth::new(Opcode::READ_RESPONSE_ONLY, 0x77, Psn::new(7)).with_pad(2);
    let aeth = Aeth::new(Syndrome::ACK, 1);
    assert_eq!((packet.bth(), packet.aeth(), packet.payload()), (&bth, Some(&aeth), &b"abcdef"[..]));
    assert_eq!(rc_record(bth, header(&aeth), b"abcdef", 0), bytes);
}

#[test]
fn parts() {
    let bytes = block("parts");
    let records: Vec<Record> = Walk::new(&bytes, Scale::default()).map(|item| item.unwrap().1).collect();
    let (first, last) = (records[0], records[1]);
    assert_eq!(header_of(&first), (0x8001, 17, 0x0001_0000_0000_002a, 12, FRAG_PART));
    assert_eq!(header_of(&last), (0x8001, 17, 0x0001_0000_0000_002a, 11, FRAG_PART | FRAG_LAST));
    assert_eq!(Part::parse(&first), Ok(Part { offset: 0, total: 7, data: b"abcd" }));
    assert_eq!(Part::parse(&last), Ok(Part { offset: 4, total: 7, data: b"efg" }));
    let mut parts = Reassembler::new(Limits { peer_bytes: 1000, total_bytes: 1000, timeout: 1 });
    assert_eq!(parts.push(0, Direction::Up, &last), Ok(None));
    assert_eq!(parts.push(0, Direction::Up, &first), Ok(Some(b"abcdefg".to_vec())));
    let mut out = vec![0xee; bytes.len()];
    let mut at = 0;
    for (offset, len, is_frag) in [(0, 4, FRAG_PART), (4, 3, FRAG_PART | FRAG_LAST)] {
        at += part::emit(first.header(), b"abcdefg", part::Piece { offset, len, is_frag }, &mut out[at..]).unwrap();
    }
    assert_eq!(out, bytes);
}

#[test]
fn echo_reply_frame_vlan_5() {
    let bytes = block("echo-reply-frame-vlan-5");
    let frame = net::parse_udp4(&bytes).unwrap();
    let expected = UdpFrame {
        vlan: Some(0x6005),
        src_mac: SLAVE_MAC,
        dst_mac: GATEWAY_MAC,
        src_ip: SLAVE_IP,
        dst_ip: GATEWAY_IP,
        src_port: 49_169,
        dst_port: 9999,
        ecn: 3,
        payload: 46..93,
        checksum: UdpChecksum::Value(0xeb71),
    };
    assert_eq!(frame, expected);
    assert!(net::verify_udp4(&bytes, &frame));
    let datagram = &bytes[frame.payload];
    let record = only(datagram);
    assert_eq!(header_of(&record), (0x0011, 17, 0x0001_0000_0000_002a, 24, 0));
    let request = block("echo-two-records");
    assert_eq!(record.payload(), Record::first(&request).unwrap().payload());

    let spec = UdpSpec {
        vlan: Some(0x6005),
        src_mac: SLAVE_MAC,
        dst_mac: GATEWAY_MAC,
        src_ip: SLAVE_IP,
        dst_ip: GATEWAY_IP,
        src_port: 49_169,
        dst_port: 9999,
        ecn: 3,
        checksum: net::udp_checksum(SLAVE_IP, GATEWAY_IP, 49_169, 9999, datagram),
    };
    let mut headers = [0xee; 46];
    assert_eq!(net::emit_udp4(&spec, datagram.len(), &mut headers), Some(46));
    assert_eq!([&headers[..], datagram].concat(), bytes);
}

#[test]
fn arp_request() {
    let bytes = block("arp-request");
    let (ethernet, packet) = Ethernet::parse(&bytes).unwrap();
    let expected = Ethernet { dst: net::BROADCAST, src: SLAVE_MAC, vlan: None, ethertype: ethernet::ARP };
    assert_eq!(ethernet, expected);
    let expected = Arp {
        operation: Operation::Request,
        sender_mac: SLAVE_MAC,
        sender_ip: SLAVE_IP,
        target_mac: [0; 6],
        target_ip: GATEWAY_IP,
    };
    assert_eq!(Arp::parse(packet), Ok(expected));
    let mut out = vec![0xee; bytes.len()];
    assert_eq!(expected.emit_frame(None, &mut out), Some(bytes.len()));
    assert_eq!(out, bytes);
}

#[test]
fn ping_and_pong() {
    let (ping, pong) = (block("ping"), block("pong"));
    let mut out = vec![0xee; pong.len()];
    assert_eq!(icmp::reply_frame(&ping, GATEWAY_MAC, &mut out), Ok(Some(pong.len())));
    assert_eq!(out, pong);
}
