//! The checks of each fuzz target on arbitrary bytes. The crate's own tests run the same functions with proptest.

use wire::lease::{Connect, ConnectReply, Disconnect};
use wire::link::{Heartbeat, HeartbeatAck, Members, MembersBuilder, SpeedClass, v1};
use wire::net::{self, arp::Arp, icmp};
use wire::part::{Direction, Limits, Reassembler};
use wire::rc::bth::{BTH_LEN, VARIANT_BYTE};
use wire::rc::{IcrcSeed, Packet, packet};
use wire::{HEADER_LEN, MsgType, Record, RecordHeader, Scale, Walk, echo, tag};

/// The records and the remainder of a datagram are all of its bytes, in order. Each record has the length that its
/// header says.
pub fn walk(datagram: &[u8]) {
    let mut covered = 0;
    let mut bad = false;
    for item in Walk::new(datagram, Scale::default()) {
        assert!(!bad, "a walk ends after the first bad record");
        match item {
            Ok((id, record)) => {
                assert_eq!(record.bytes(), &datagram[covered..covered + record.bytes().len()]);
                assert_eq!(record.payload().len(), record.header().payload_len() as usize);
                assert!(id.get() < Scale::default().slaves());
                if let Some(fields) = echo::check(&record) {
                    let mut again = vec![0; record.bytes().len()];
                    assert_eq!(echo::emit(record.header(), fields, &mut again), Some(again.len()));
                    assert_eq!(record.bytes(), again);
                }
                covered += record.bytes().len();
            }
            Err(found) => {
                assert_eq!((found.offset, found.offset + found.remainder), (covered, datagram.len()));
                covered = datagram.len();
                bad = true;
            }
        }
    }
    assert_eq!(covered, datagram.len());
}

/// Link control that parses is the same after it was emitted, signed, and parsed again.
///
/// The bytes are tried as a record, and as the payload of each type behind a header that fits.
pub fn link(bytes: &[u8]) {
    if let Ok(record) = Record::first(bytes) {
        link_record(&record);
    }
    for msg_type in [MsgType::HEARTBEAT, MsgType::HEARTBEAT_ACK, MsgType::MEMBERS] {
        for (slave_id, req_id) in [(0, 1 << 48), (17, 0)] {
            let header = RecordHeader::new(msg_type, slave_id, req_id, bytes.len() as u32);
            let mut out = vec![0; HEADER_LEN + bytes.len()];
            wire::record::emit(&header, bytes, &mut out).expect("the room was made for it");
            link_record(&Record::first(&out).expect("it was just emitted"));
        }
    }
}

/// A packet of a reliable connection that parses is the same when it is built again, and its ICRC covers all of it.
///
/// The bytes are tried as a packet, and as a record with one.
pub fn rc(bytes: &[u8]) {
    rc_packet(bytes);
    if let Ok(record) = Record::first(bytes) {
        rc_packet(record.payload());
    }
}

fn rc_packet(bytes: &[u8]) {
    let seed = IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, 1 << 48, bytes.len() as u32));
    let _ = seed.verify(bytes);
    let Ok(found) = Packet::parse(bytes) else { return };
    let opcode = found.opcode();
    assert_eq!(found.reth().is_some(), opcode.has_reth());
    assert_eq!(found.aeth().is_some(), opcode.has_aeth());
    assert_eq!(found.atomic().is_some(), opcode.has_atomic());
    assert_eq!(found.atomic_ack().is_some(), opcode.has_atomic_ack());
    assert_eq!(found.imm().is_some(), opcode.has_imm());
    assert_eq!(found.ieth().is_some(), opcode.has_ieth());
    let (payload, headers) = (found.payload(), BTH_LEN + opcode.extension_len());
    let mut again = vec![0; bytes.len()];
    let opened = packet::open(*found.bth(), [&bytes[BTH_LEN..headers], &[]], payload.len(), &mut again);
    opened.expect("it came from as much room").payload.copy_from_slice(payload);
    let end = headers + payload.len();
    assert_eq!(again[..end], bytes[..end]);
    assert!(seed.seal(&mut again) && seed.verify(&again));
    for at in [0, VARIANT_BYTE, BTH_LEN - 1, end - 1, again.len() - 1] {
        again[at] ^= 0x20;
        assert_eq!(seed.verify(&again), at == VARIANT_BYTE, "byte {at}");
        again[at] ^= 0x20;
    }
}

fn link_record(record: &Record<'_>) {
    let key = [7; 32];
    let mut out = vec![0; record.bytes().len()];
    assert_eq!(tag::is_unsigned(record.bytes()), record.payload().get(..16).is_none_or(|tag| tag == [0; 16]));
    if let Ok(heartbeat) = Heartbeat::parse(record) {
        let len = heartbeat.emit_padded(Some(&key), record.bytes().len(), &mut out).expect("it came from as much room");
        let again = signed(&key, &out[..len]);
        assert_eq!(Heartbeat::parse(&again), Ok(heartbeat));
    }
    if let Ok(old) = v1::parse_heartbeat(record) {
        let zero = (old.challenge, old.domain, old.speed_class, &old.cookie.0[8..]);
        assert_eq!(zero, (0, 0, SpeedClass::UNKNOWN, &[0; 8][..]));
        assert!(Heartbeat::parse(record).is_err(), "a record has one version");
    }
    if let Ok(ack) = HeartbeatAck::parse(record) {
        let len = v1::emit_ack(&ack, Some(&key), &mut out).expect("version 1 is shorter");
        assert_eq!(len, v1::ack_len(&ack));
        assert!(HeartbeatAck::parse(&signed(&key, &out[..len])).is_err());
        let len = ack.emit(Some(&key), &mut out).expect("it came from as much room");
        assert_eq!(HeartbeatAck::parse(&signed(&key, &out[..len])), Ok(ack));
    }
    if let Ok(members) = Members::parse(record) {
        let mut builder = MembersBuilder::new(members.head, &mut out).expect("it came from as much room");
        for member in members.entries() {
            assert!(builder.push(&member));
        }
        let len = builder.finish(Some(&key));
        let record = signed(&key, &out[..len]);
        let again = Members::parse(&record).expect("it was just emitted");
        assert_eq!((again.head, again.len()), (members.head, members.len()));
        assert!(again.entries().eq(members.entries()));
        assert_eq!(again.entries().count(), again.len());
    }
}

/// A message of a lease that parses is the same after it was emitted, signed, and parsed again.
///
/// The bytes are tried as a record, and as the payload of each type.
pub fn lease(bytes: &[u8]) {
    if let Ok(record) = Record::first(bytes) {
        lease_record(&record);
    }
    for msg_type in [MsgType::CONNECT, MsgType::CONNECT_REPLY, MsgType::DISCONNECT] {
        let header = RecordHeader::new(msg_type, 17, 1 << 48, bytes.len() as u32);
        let mut out = vec![0; HEADER_LEN + bytes.len()];
        wire::record::emit(&header, bytes, &mut out).expect("the room was made for it");
        lease_record(&Record::first(&out).expect("it was just emitted"));
    }
}

fn lease_record(record: &Record<'_>) {
    let key = [7; 32];
    let mut out = vec![0; record.bytes().len()];
    if let Ok(connect) = Connect::parse(record) {
        let len = connect.emit(Some(&key), &mut out).expect("it came from as much room");
        assert_eq!(Connect::parse(&signed(&key, &out[..len])), Ok(connect));
    }
    if let Ok(reply) = ConnectReply::parse(record) {
        let len = reply.emit(Some(&key), &mut out).expect("it came from as much room");
        assert_eq!(ConnectReply::parse(&signed(&key, &out[..len])), Ok(reply));
    }
    if let Ok(disconnect) = Disconnect::parse(record) {
        let len = disconnect.emit(Some(&key), &mut out).expect("it came from as much room");
        assert_eq!(Disconnect::parse(&signed(&key, &out[..len])), Ok(disconnect));
    }
}

fn signed<'a>(key: &tag::Key, bytes: &'a [u8]) -> Record<'a> {
    assert!(tag::verify(key, bytes));
    Record::first(bytes).expect("it was just emitted")
}

/// The parts of a datagram leave the reassembler's equation and its limits intact.
pub fn part(datagram: &[u8]) {
    let limits = Limits { peer_bytes: 4_096, total_bytes: 6_000, timeout: 3 };
    let mut parts = Reassembler::new(limits);
    for (now, (_, record)) in Walk::new(datagram, Scale::default()).flatten().enumerate() {
        let _ = parts.push(now as u64, Direction::Down, &record);
        let counters = parts.counters();
        let known = counters.parts_completed + counters.duplicate + parts.held_parts() + counters.dropped();
        assert_eq!(counters.parts_in, known);
        assert!(parts.held_bytes() <= limits.total_bytes);
    }
}

/// All that is read from a frame lies inside it, and its headers are written again as they were.
pub fn net(frame: &[u8]) {
    if let Ok(read) = net::parse_udp4(frame) {
        let payload = &frame[read.payload.clone()];
        let value = net::udp_checksum(read.src_ip, read.dst_ip, read.src_port, read.dst_port, payload);
        if let net::UdpChecksum::Value(found) = read.checksum {
            assert_eq!(net::verify_udp4(frame, &read), found == value);
        }
        let spec = net::UdpSpec {
            vlan: read.vlan,
            src_mac: read.src_mac,
            dst_mac: read.dst_mac,
            src_ip: read.src_ip,
            dst_ip: read.dst_ip,
            src_port: read.src_port,
            dst_port: read.dst_port,
            ecn: read.ecn,
            checksum: value,
        };
        let mut headers = [0; net::MAX_HEADERS];
        let len = net::emit_udp4(&spec, payload.len(), &mut headers).expect("there is room for all headers");
        let again = [&headers[net::MAX_HEADERS - len..], payload].concat();
        let read_again = net::parse_udp4(&again).expect("it was just emitted");
        let payload = len..again.len();
        let expected = net::UdpFrame { payload, checksum: net::UdpChecksum::Value(value), ..read };
        assert_eq!(read_again, expected);
        assert!(net::verify_udp4(&again, &read_again));
    }
    let mut out = vec![0; frame.len()];
    if let Ok(Some(len)) = icmp::reply_frame(frame, [2; 6], &mut out) {
        assert!(len <= frame.len());
        assert_eq!(icmp::reply_frame(&out[..len], [2; 6], &mut vec![0; len]), Err(net::NetError::Icmp));
    }
    if let Ok(arp) = Arp::parse(frame) {
        let mut out = [0; net::arp::LEN];
        assert_eq!(arp.emit(&mut out), Some(net::arp::LEN));
        assert_eq!(out, frame[..net::arp::LEN]);
    }
}
