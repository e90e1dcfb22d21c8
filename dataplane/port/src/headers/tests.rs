//! Headers: writing, reading and refusing them.

use super::*;
use frame::{Hugepages, Pool, PoolConfig};
use proptest::prelude::*;

/// Packets of any VLAN.
fn any(local: &Local) -> Filter {
    Filter::new(&Arc::new(Vlans::ANY), &[local.ip])
}

#[test]
fn what_is_written_is_read() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
    for vlan in [Vlan::UNTAGGED, Vlan::tagged(0), Vlan::tagged(7)] {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"some payload"));
        let peer = Peer::ipv4(PortId(3), there.ip, there.udp_port, vlan, there.mac);
        let mut datagram = Datagram { ce: true, ..Datagram::new(frame, peer, Class::Down, 1) };
        write(&mut datagram, &here).unwrap();
        let received = receive(datagram.frame, PortId(0), &there, Verify::Software).unwrap();
        assert_eq!(received.peer, Peer::ipv4(PortId(0), here.ip, here.udp_port, vlan, here.mac));
        assert_eq!((received.frame.data(), received.ce), (&b"some payload"[..], true));
    }
}

#[test]
fn the_sum_of_a_payload_is_known_and_saves_reading_it() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
    let peer = Peer::ipv4(PortId(3), there.ip, there.udp_port, Vlan::UNTAGGED, there.mac);
    let bytes: Vec<u8> = (0..1401_u32).map(|at| (at * 7) as u8).collect();
    let sent = |payload: &[u8], sum| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(payload));
        let mut datagram = Datagram { sum, ..Datagram::new(frame, peer, Class::Down, 1) };
        write(&mut datagram, &here).unwrap();
        datagram.frame
    };
    for verify in [Verify::Software, Verify::Nic] {
        let mut reader = Reader::new(PortId(0), &there, verify);
        let mut burst = Burst::new();
        for payload in [&bytes[..], &bytes[..1400], &bytes[..100]] {
            reader.receive_into(sent(payload, None), &mut burst).unwrap();
        }
        let sums: Vec<_> = burst.iter().map(|(_, datagram)| datagram.sum).collect();
        let known = |payload: &[u8]| Some(checksum::folded(checksum::sum(payload)));
        assert_eq!(sums, [known(&bytes), known(&bytes[..1400]), known(&bytes[..100])]);
        // The sum that is sent is the one that would have been computed.
        assert_eq!(sent(&bytes, sums[0]).data(), sent(&bytes, None).data());
    }
    // Without a checksum the sum is not known.
    let mut frame = sent(&bytes, None);
    frame.data_mut()[40..42].fill(0);
    let mut burst = Burst::new();
    Reader::new(PortId(0), &there, Verify::Nic).receive_into(frame, &mut burst).unwrap();
    assert_eq!(burst.drain().next().unwrap().sum, None);
}

#[test]
fn a_datagram_leaves_from_its_lane_or_from_where_we_listen() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let mut peer = Peer::ipv4(PortId(3), [192, 0, 2, 2], 7777, Vlan::UNTAGGED, [2, 0, 0, 0, 0, 2]);
    // 9999 and lane 17, to 7777.
    for (source_port, ports, checksum) in [(0, "270f1e61", "719b"), (49_169, "c0111e61", "d898")] {
        peer.source_port = source_port;
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"abcd"));
        let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
        write(&mut datagram, &here).unwrap();
        let hex: String = datagram.frame.data().iter().map(|byte| format!("{byte:02x}")).collect();
        let ip = "45000020000040004011b6c9c0000201c0000202";
        let expected = format!("0200000000020200000000010800{ip}{ports}000c{checksum}61626364");
        assert_eq!(hex, expected);
    }
}

#[test]
fn roce_is_taken_once_it_is_claimed_and_its_headers_stay_readable() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
    let sent = |vlan: Vlan, udp_port: u16, ce: bool| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"BTH and more"));
        let mut peer = Peer::ipv4(PortId(0), here.ip, udp_port, vlan, here.mac);
        (peer.local, peer.source_port) = (Peer::ROCE, 0xc123);
        let mut datagram = Datagram { ce, ..Datagram::new(frame, peer, Class::Down, 1) };
        write(&mut datagram, &there).unwrap();
        datagram.frame
    };
    // DF, id 0, ECT(0), from 49443 to 4791 without a checksum.
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let headers = "45020028000040004011b6bfc0000202c0000201c12312b700140000";
    assert_eq!(hex(&sent(Vlan::UNTAGGED, 4791, false).data()[14..42]), headers);
    let mut burst = Burst::new();
    let mut without = Reader::new(PortId(4), &here, Verify::Software).of_address(3).filtering(&any(&here));
    let mut claiming = without.clone().claiming_roce();
    for vlan in [Vlan::UNTAGGED, Vlan::tagged(9), Vlan::UNTAGGED] {
        assert_eq!(without.receive_into(sent(vlan, 4791, false), &mut burst), Err(Refused::NotOurs));
        for ce in [false, true] {
            assert_eq!(claiming.receive_into(sent(vlan, 4791, ce), &mut burst), Ok(12));
            let datagram = burst.drain().next().unwrap();
            assert_eq!((datagram.peer.is_roce(), datagram.peer.local & !Peer::ROCE, datagram.ce), (true, 3, ce));
            assert_eq!((datagram.peer.udp_port, datagram.peer.vlan), (0xc123, vlan));
            assert_eq!(datagram.frame.data(), b"BTH and more");
            let before = hex(datagram.frame.before(28).unwrap());
            assert_eq!((&before[..2], &before[4..20], &before[24..]), ("45", &headers[4..20], &headers[24..]));
        }
        // Packets to the other port are handled as before.
        assert_eq!(claiming.receive_into(sent(vlan, 9999, false), &mut burst), Ok(12));
        assert_eq!(burst.drain().next().unwrap().peer.local, 3);
        assert_eq!(claiming.receive_into(sent(vlan, 4792, false), &mut burst), Err(Refused::NotOurs));
    }
    // Options between the headers, with a correct checksum.
    let mut frame = sent(Vlan::UNTAGGED, 4791, false);
    let mut bytes = frame.data().to_vec();
    bytes.splice(34..34, [1, 1, 1, 0]);
    (bytes[14], bytes[17]) = (0x46, bytes[17] + 4);
    bytes[24..26].fill(0);
    let sum = checksum::fold(checksum::sum(&bytes[14..38]));
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.truncate(0);
    assert!(frame.append(&bytes));
    assert_eq!(claiming.receive_into(frame, &mut burst), Err(Refused::Options));
    assert_eq!((burst.len(), pool.in_use()), (0, 0));
}

#[test]
fn packets_of_other_lcores_are_marked_and_checked_as_all_are() {
    let pool = Pool::new(PoolConfig { frames: 16, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 10_000 };
    let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 5 };
    let ports = LcorePorts { first: 9999, lcores: 3, own: 1 };
    let mut reader = Reader::new(PortId(4), &here, Verify::Software).of_address(3).filtering(&any(&here));
    reader = reader.claiming(&Claims { roce: false, lcores: Some(ports) });
    let sent = |vlan: Vlan, udp_port: u16| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"some payload"));
        let peer = Peer::ipv4(PortId(0), here.ip, udp_port, vlan, here.mac);
        let mut datagram = Datagram { ce: true, ..Datagram::new(frame, peer, Class::Down, 1) };
        write(&mut datagram, &there).unwrap();
        datagram.frame
    };
    let mut burst = Burst::new();
    for vlan in [Vlan::UNTAGGED, Vlan::tagged(9)] {
        // In any order, so that each follows each.
        let to = [9999, 10_000, 10_001, 10_000, 9999, 10_001, 10_001, 9999];
        for udp_port in to {
            assert_eq!(reader.receive_into(sent(vlan, udp_port), &mut burst), Ok(12));
            assert_eq!(reader.receive_into(sent(vlan, 9998), &mut burst), Err(Refused::NotOurs));
            assert_eq!(reader.receive_into(sent(vlan, 10_002), &mut burst), Err(Refused::NotOurs));
        }
        let lcores: Vec<u8> = (0..burst.len()).map(|number| burst.source(number).lcore).collect();
        assert_eq!(lcores, [1, 0, 3, 0, 1, 3, 3, 1]);
        for datagram in burst.drain() {
            let mut unmarked = datagram.peer;
            unmarked.lcore = 0;
            let mut expected = Peer::ipv4(PortId(4), there.ip, there.udp_port, vlan, there.mac);
            expected.local = 3;
            assert_eq!((unmarked, datagram.ce, datagram.frame.data()), (expected, true, &b"some payload"[..]));
        }
        let mut wrong = sent(vlan, 9999);
        *wrong.data_mut().last_mut().unwrap() ^= 1;
        assert_eq!(reader.receive_into(wrong, &mut burst), Err(Refused::Checksum));
    }
    // One lcore claims nothing.
    let mut alone = Reader::new(PortId(4), &here, Verify::Software).filtering(&any(&here));
    alone = alone.claiming(&Claims { roce: false, lcores: Some(LcorePorts { first: 10_000, lcores: 1, own: 0 }) });
    assert_eq!(alone.receive_into(sent(Vlan::UNTAGGED, 9999), &mut burst), Err(Refused::NotOurs));
    assert_eq!((burst.len(), pool.in_use()), (0, 0));
}

#[test]
fn usual_and_unusual_packets_stand_in_a_burst_as_they_are_received_alone() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 5 };
    let mut reader = Reader::new(PortId(4), &here, Verify::Software).filtering(&any(&here));
    let sent = |vlan: Vlan, to: [u8; 4]| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"some payload"));
        let peer = Peer::ipv4(PortId(0), to, here.udp_port, vlan, here.mac);
        let mut datagram = Datagram { ce: vlan == Vlan::UNTAGGED, ..Datagram::new(frame, peer, Class::Down, 1) };
        write(&mut datagram, &there).unwrap();
        datagram.frame
    };
    let mut burst = Burst::new();
    for vlan in [Vlan::UNTAGGED, Vlan::tagged(9)] {
        let alone = receive(sent(vlan, here.ip), PortId(4), &here, Verify::Software).unwrap();
        let usual = reader.usual_into(sent(vlan, here.ip), &mut burst);
        assert_eq!(usual.is_ok(), vlan == Vlan::UNTAGGED);
        if let Err(frame) = usual {
            reader.receive_into(frame, &mut burst).unwrap();
        }
        let datagram = burst.drain().next().unwrap();
        assert_eq!((datagram.peer, datagram.ce, datagram.class), (alone.peer, alone.ce, alone.class));
        assert_eq!((datagram.frame.data(), datagram.peer.udp_port), (&b"some payload"[..], 5));
    }
    assert_eq!(reader.receive_into(sent(Vlan::UNTAGGED, [192, 0, 2, 7]), &mut burst), Err(Refused::NotOurs));
    assert_eq!((burst.len(), pool.in_use()), (0, 0));
}

#[test]
fn a_reader_says_the_same_as_a_look_at_each_packet_alone() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let senders = [([192, 0, 2, 7], 9999), ([192, 0, 2, 7], 5), ([192, 0, 2, 8], 5)];
    let packet = |sender: usize, change: &dyn Fn(&mut [u8])| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"some payload"));
        let peer = Peer::ipv4(PortId(0), here.ip, here.udp_port, Vlan::UNTAGGED, here.mac);
        let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
        let (ip, udp_port) = senders[sender];
        write(&mut datagram, &Local { mac: [2, 0, 0, 0, 1, sender as u8], ip, udp_port }).unwrap();
        change(datagram.frame.data_mut());
        datagram.frame
    };
    let mut reader = Reader::new(PortId(4), &here, Verify::Software);
    let mut burst = Burst::new();
    let mut check = |sender: usize, change: &dyn Fn(&mut [u8])| {
        let alone = receive(packet(sender, change), PortId(4), &here, Verify::Software);
        let added = reader.receive_into(packet(sender, change), &mut burst);
        assert_eq!(added.err(), alone.as_ref().err().copied());
        if let Ok(alone) = alone {
            let datagram = burst.drain().next().unwrap();
            assert_eq!(datagram.peer.as_bytes(), alone.peer.as_bytes());
            assert_eq!((datagram.ce, datagram.frame.data()), (alone.ce, alone.frame.data()));
        }
    };
    for bit in 0..PLAIN * 8 {
        let flip = |bytes: &mut [u8]| bytes[bit / 8] ^= 1 << (bit % 8);
        // After another sender, after itself, after the sender whose address it uses.
        for sender in [0, 1, 1, 2, 0, 0] {
            check(sender, &flip);
            check(sender, &|_| ());
        }
        // Checksums that match the change: another address, another port.
        check(0, &|bytes| {
            flip(bytes);
            bytes[40..42].fill(0);
            bytes[24..26].fill(0);
            let sum = checksum::fold(checksum::sum(&bytes[14..34]));
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        });
    }
    assert_eq!(pool.in_use(), 0);
}

proptest! {
    /// A reader that stays with a burst brings into it what a reader brings that looks at each packet anew, whatever
    /// comes in whatever order.
    #[test]
    fn reading_a_burst_brings_what_reading_each_packet_brings(
        packets in proptest::collection::vec((0..4usize, proptest::option::weighted(0.3, 0..PLAIN * 8)), 0..64),
        bursts in 1..4usize,
    ) {
        let pool = Pool::new(PoolConfig { frames: 512, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let packet = |sender: usize, flipped: Option<usize>| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(&[sender as u8; 12]));
            let vlan = if sender == 3 { Vlan::tagged(9) } else { Vlan::UNTAGGED };
            let peer = Peer::ipv4(PortId(0), here.ip, here.udp_port, vlan, here.mac);
            let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
            let local = Local { mac: [2, 0, 0, 0, 1, sender as u8], ip: [192, 0, 2, 7 + sender as u8], udp_port: 5 };
            write(&mut datagram, &local).unwrap();
            if let Some(bit) = flipped {
                datagram.frame.data_mut()[bit / 8] ^= 1 << (bit % 8);
            }
            datagram.frame
        };
        for verify in [Verify::Nic, Verify::Software] {
            let mut readers = [0, 1].map(|_| Reader::new(PortId(4), &here, verify).filtering(&any(&here)));
            let mut into = [Burst::new(), Burst::new()];
            for _ in 0..bursts {
                let ([each, whole], [first, second]) = (&mut readers, &mut into);
                for (sender, flipped) in &packets {
                    let _ = each.receive_into(packet(*sender, *flipped), first);
                }
                let mut rest = packets.iter();
                loop {
                    let mut reading = whole.reading(second);
                    let unusual = rest.find_map(|(sender, flipped)| reading.usual(packet(*sender, *flipped)).err());
                    let Some(frame) = unusual else { break };
                    let _ = whole.receive_into(frame, second);
                }
                prop_assert_eq!(first.len(), second.len());
                for number in 0..first.len() {
                    prop_assert_eq!(first.bytes(number), second.bytes(number));
                    prop_assert_eq!(first.note(number), second.note(number));
                    prop_assert_eq!(first.peer(number).as_bytes(), second.peer(number).as_bytes());
                }
                first.clear();
                second.clear();
            }
        }
    }
}

#[test]
fn what_is_not_for_us_or_broken_is_refused() {
    let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
    let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
    let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
    let sent = |change: &dyn Fn(&mut Frame)| {
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"some payload"));
        let peer = Peer::ipv4(PortId(0), here.ip, 9999, Vlan::UNTAGGED, here.mac);
        let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
        write(&mut datagram, &there).unwrap();
        change(&mut datagram.frame);
        datagram.frame
    };
    let refused = |frame: Frame, local: &Local, verify: Verify| receive(frame, PortId(0), local, verify).unwrap_err();
    let other = Local { ip: [192, 0, 2, 9], ..here };
    assert_eq!(refused(sent(&|_| ()), &other, Verify::Software), Refused::NotOurs);
    let break_payload = |frame: &mut Frame| frame.data_mut()[45] ^= 1;
    assert_eq!(refused(sent(&break_payload), &here, Verify::Software), Refused::Checksum);
    assert!(receive(sent(&break_payload), PortId(0), &here, Verify::Nic).is_ok());
    // A partial checksum, as a kernel leaves it to a NIC, and the one that the NIC has completed.
    let leave_to_nic = |frame: &mut Frame| {
        let sum = checksum::pseudo_header(there.ip, here.ip, ipv4::UDP, frame.len() as u16 - 34);
        frame.data_mut()[40..42].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    };
    assert_eq!(refused(sent(&leave_to_nic), &here, Verify::Software), Refused::PartialChecksum);
    assert_eq!(refused(sent(&leave_to_nic), &other, Verify::Software), Refused::NotOurs);
    assert!(receive(sent(&leave_to_nic), PortId(0), &here, Verify::Nic).is_ok());
    let break_ip = |frame: &mut Frame| frame.data_mut()[22] ^= 1;
    assert_eq!(refused(sent(&break_ip), &here, Verify::Software), Refused::Malformed(wire::net::NetError::IpChecksum));
    let longer_than_the_packet = |frame: &mut Frame| frame.data_mut()[17] += 1;
    assert!(matches!(refused(sent(&longer_than_the_packet), &here, Verify::Nic), Refused::Malformed(_)));
    assert!(matches!(refused(sent(&|frame| frame.truncate(41)), &here, Verify::Nic), Refused::Malformed(_)));
    assert_eq!(pool.in_use(), 0);
}

/// A port with the addresses 192.0.2.1 and 192.0.2.9.
struct Filtered {
    pool: Pool,
    here: Local,
    there: Local,
    reader: Reader,
    burst: Burst,
}

impl Filtered {
    fn new(vlans: &str) -> Self {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let there = Local { mac: [2, 0, 0, 0, 0, 2], ip: [192, 0, 2, 2], udp_port: 9999 };
        let filter = Filter::new(&Arc::new(vlans.parse().unwrap()), &[here.ip, [192, 0, 2, 9]]);
        let reader = Reader::new(PortId(4), &here, Verify::Software).filtering(&filter);
        Self { pool, here, there, reader, burst: Burst::new() }
    }

    /// Receives a usual packet, and then one of this VLAN and source.
    fn receive(&mut self, vlan: Option<u16>, source: &Local) -> Result<usize, Refused> {
        let (pool, here) = (&self.pool, self.here);
        let packet = |vlan: Option<u16>, source: &Local| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"some payload"));
            let spec = UdpSpec {
                vlan,
                src_mac: source.mac,
                dst_mac: here.mac,
                src_ip: source.ip,
                dst_ip: here.ip,
                src_port: source.udp_port,
                dst_port: here.udp_port,
                ecn: 0,
                checksum: udp_checksum(source.ip, here.ip, source.udp_port, here.udp_port, b"some payload"),
            };
            let len = wire::net::headers_len(vlan.is_some());
            emit_udp4(&spec, 12, frame.prepend(len).unwrap()).unwrap();
            frame
        };
        let _ = self.reader.receive_into(packet(None, &self.there), &mut self.burst);
        let result = self.reader.receive_into(packet(vlan, source), &mut self.burst);
        drop(self.burst.drain());
        result
    }
}

#[test]
fn a_port_takes_packets_of_its_vlans_alone() {
    let (taken, refused) = (Ok(12), Err(Refused::Vlan));
    for (vlans, none, zero, five, six) in [
        ("0", taken, taken, refused, refused),
        ("5", refused, refused, taken, refused),
        ("0+5", taken, taken, taken, refused),
        ("any", taken, taken, taken, taken),
    ] {
        let mut port = Filtered::new(vlans);
        let there = port.there;
        for (vlan, expected) in [
            (None, none),
            // A tag with only a priority is not a VLAN.
            (Some(0xe000), zero),
            (Some(5), five),
            (Some(0xf005), five),
            (Some(6), six),
            (Some(4095), refused),
        ] {
            assert_eq!(port.receive(vlan, &there), expected, "vlans={vlans}, {vlan:?}");
        }
    }
}

#[test]
fn a_source_that_nobody_can_have_is_refused_with_and_without_a_tag() {
    let mut port = Filtered::new("0+5");
    let there = port.there;
    let ip = |ip: [u8; 4]| Local { ip, ..there };
    let mac = |mac: [u8; 6]| Local { mac, ..there };
    for vlan in [None, Some(5)] {
        for source in [
            ip([0, 0, 0, 0]),
            ip([0, 1, 2, 3]),
            ip([127, 0, 0, 1]),
            ip([224, 0, 0, 1]),
            ip([239, 255, 255, 255]),
            ip([240, 0, 0, 1]),
            ip([255, 255, 255, 255]),
            ip([192, 0, 2, 1]),
            // The other address of ours.
            ip([192, 0, 2, 9]),
            mac([0xff; 6]),
            mac([1, 0, 0x5e, 0, 0, 1]),
            mac([0; 6]),
            mac([2, 0, 0, 0, 0, 1]),
            Local { udp_port: 0, ..there },
        ] {
            assert_eq!(port.receive(vlan, &source), Err(Refused::Source), "{vlan:?} {source:?}");
        }
        for source in [ip([1, 0, 0, 0]), ip([223, 255, 255, 255]), ip([10, 0, 0, 255]), mac([0, 0, 0, 0, 0, 1])] {
            assert_eq!(port.receive(vlan, &source), Ok(12), "{vlan:?} {source:?}");
        }
    }
}

/// A reader without a last sender accepts no packet as known: also not one of type 0, protocol 0, to and from 0.0.0.0.
#[test]
fn who_has_met_nobody_knows_no_packet() {
    let mut port = Filtered::new("any");
    let mut bytes = [0; PLAIN + 4];
    bytes[14] = 0x45;
    (bytes[17], bytes[39]) = (32, 12);
    let here = port.here;
    for verify in [Verify::Nic, Verify::Software] {
        let mut frame = port.pool.alloc().unwrap();
        assert!(frame.append(&bytes));
        let result = Reader::new(PortId(4), &here, verify).receive_into(frame, &mut port.burst);
        assert_eq!(result, Err(Refused::Malformed(NetError::EtherType)), "{verify:?}");
    }
}

proptest! {
    /// The fast path of the usual packet has the same rules as the slow path.
    #[test]
    fn the_rules_for_usual_packets_are_those_for_all(
        first in prop::sample::select(vec![0u8, 1, 10, 126, 127, 128, 192, 223, 224, 239, 240, 255]),
        rest in prop::sample::select(vec![[0u8, 0, 0], [0, 2, 1], [0, 2, 9], [255, 255, 255], [0, 0, 1]]),
        mac in prop::sample::select(vec![[0u8; 6], [0xff; 6], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [3, 0, 0, 0, 0,
            2]]),
        udp_port in prop::sample::select(vec![0u16, 1, 9999, 65_535]),
    ) {
        let mut port = Filtered::new("0+5");
        let [b, c, d] = rest;
        let source = Local { mac, ip: [first, b, c, d], udp_port };
        // With a tag every packet takes the slow path.
        prop_assert_eq!(port.receive(None, &source), port.receive(Some(5), &source));
    }
}
