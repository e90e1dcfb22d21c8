//! The program's verdicts on whole packets, by BPF_PROG_TEST_RUN.

use crate::support::*;
use ebpf::{Config, Fate, Hook, Steer, SteerError, Verdict};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use wire::{Scale, Shard, ShardSet};

const ECHO_OF_FIRST: [u8; 4] = 0u32.to_le_bytes();

fn id(slave_id: u32) -> [u8; 4] {
    slave_id.to_le_bytes()
}

#[test]
fn the_literal_packet_is_what_its_name_says() {
    assert!(is_sound(PACKET));
    let record = wire::Record::first(&PACKET[RECORD..]).unwrap();
    assert_eq!((record.header().msg_type(), record.header().slave_id()), (wire::MsgType::ECHO, 17));
    assert_eq!(record.bytes().len(), PACKET.len() - RECORD);
}

#[test]
fn each_packet_has_its_verdict_and_is_counted_once() {
    use Verdict::*;
    let shards = shards();
    let Some(mut steer) = load(&Config { vlans: VLANS, ..Config::new(&shards) }) else { return };
    let _socket = serve(&mut steer, 0);
    let options = with(PACKET, &[(IP, &[0x46])]);
    let options = [&options[..UDP], &[1, 1, 1, 1], &options[UDP..]].concat();
    let cut =
        |len: usize, ip_len: u8, udp_len: u8| sealed(&PACKET[..len], &[(IP + 3, &[ip_len]), (UDP + 5, &[udp_len])]);
    let padded = [PACKET, &[0; 20]].concat();
    let from = |address: [u8; 4]| sealed(PACKET, &[(IP + 12, &address)]);
    let cases = [
        // Cargo of the two shards that are ours, for the first and the last slave of each.
        (PACKET.to_vec(), RedirectCargo),
        (with(PACKET, &[(SLAVE_ID, &ECHO_OF_FIRST)]), RedirectCargo),
        (with(PACKET, &[(SLAVE_ID, &id(8_191))]), RedirectCargo),
        (with(PACKET, &[(SLAVE_ID, &id(15 * 8_192))]), RedirectCargo),
        (with(PACKET, &[(SLAVE_ID, &id(131_071))]), RedirectCargo),
        (tagged(PACKET, 7), RedirectCargo),
        (tagged(PACKET, 0), RedirectCargo),
        (padded, RedirectCargo),
        (with(PACKET, &[(MSG_TYPE, &[0, 0])]), RedirectCargo),
        (with(PACKET, &[(MSG_TYPE, &[4, 0])]), RedirectCargo),
        (with(PACKET, &[(MSG_TYPE, &[1, 0x80])]), RedirectCargo),
        (with(PACKET, &[(PAYLOAD_LEN, &[0])]), RedirectCargo),
        // DF and the bit above it are no fragment.
        (sealed(PACKET, &[(IP + 6, &[0xc0, 0])]), RedirectCargo),
        (sealed(PACKET, &[(IP + 6, &[0, 0])]), RedirectCargo),
        // Cargo of a shard that is not ours, and of none.
        (with(PACKET, &[(SLAVE_ID, &id(8_192))]), DropForeignShard),
        (with(PACKET, &[(SLAVE_ID, &id(15 * 8_192 - 1))]), DropForeignShard),
        (with(PACKET, &[(SLAVE_ID, &id(131_072))]), DropSlaveId),
        (with(PACKET, &[(SLAVE_ID, &id(u32::MAX))]), DropSlaveId),
        // Link control with any id.
        (with(PACKET, &[(MSG_TYPE, &[1, 0])]), RedirectControl),
        (with(PACKET, &[(MSG_TYPE, &[2, 0]), (SLAVE_ID, &id(8_192))]), RedirectControl),
        (with(PACKET, &[(MSG_TYPE, &[3, 0]), (SLAVE_ID, &id(u32::MAX))]), RedirectControl),
        (tagged(&with(PACKET, &[(MSG_TYPE, &[1, 0])]), 0xe005), RedirectControl),
        // Packets that are not for us.
        (with(PACKET, &[(12, &[0x08, 0x06])]), PassEthertype),
        (with(PACKET, &[(12, &[0x86, 0xdd])]), PassEthertype),
        (with(PACKET, &[(12, &[0x88, 0xa8])]), PassEthertype),
        (tagged(&tagged(PACKET, 7), 8), PassEthertype),
        (tagged(&with(PACKET, &[(12, &[0x08, 0x06])]), 8), PassEthertype),
        (with(PACKET, &[(5, &[2])]), PassMac),
        (with(PACKET, &[(0, &[3])]), PassMac),
        (with(PACKET, &[(0, &[0xff; 6])]), PassMac),
        (sealed(PACKET, &[(IP + 9, &[6])]), PassProtocol),
        (sealed(PACKET, &[(IP + 9, &[1])]), PassProtocol),
        (with(PACKET, &[(IP, &[0x44])]), PassProtocol),
        (with(PACKET, &[(IP, &[0x55])]), PassProtocol),
        (with(PACKET, &[(IP, &[0x35])]), PassProtocol),
        (sealed(PACKET, &[(IP + 19, &[2])]), PassAddress),
        (sealed(PACKET, &[(IP + 16, &[10, 0, 0, 255])]), PassAddress),
        (sealed(PACKET, &[(IP + 16, &[0, 0, 0, 0])]), PassAddress),
        (sealed(PACKET, &[(IP + 16, &[255, 255, 255, 255])]), PassAddress),
        (sealed(PACKET, &[(IP + 6, &[0x20, 1])]), PassFragment),
        (sealed(PACKET, &[(IP + 6, &[0x1f, 0xff])]), PassFragment),
        (sealed(PACKET, &[(IP + 6, &[0, 1])]), PassFragment),
        (with(PACKET, &[(UDP + 2, &[0, 53])]), PassPort),
        (with(PACKET, &[(UDP + 2, &4791u16.to_be_bytes())]), PassPort),
        (with(PACKET, &[(UDP + 2, &[0x27, 0x0e])]), PassPort),
        (tagged(&with(PACKET, &[(UDP + 2, &[0x27, 0x0e])]), 1), PassPort),
        (sealed(PACKET, &[(IP + 6, &[0x20, 0]), (UDP + 2, &[0, 53])]), PassPort),
        (with(&options, &[(UDP + 4 + 2, &[0, 53])]), PassPort),
        (PACKET[..14].to_vec(), PassTruncated),
        (PACKET[..UDP + 7].to_vec(), PassTruncated),
        (tagged(&PACKET[..UDP + 7], 7), PassTruncated),
        (with(&PACKET[..UDP + 8], &[(IP, &[0x4f])]), PassTruncated),
        // Packets for us that are wrong.
        (options.clone(), DropIpOptions),
        (tagged(&options, 7), DropIpOptions),
        // Packets in a VLAN that is not ours; 4095 is not a VLAN.
        (tagged(PACKET, 6), DropVlan),
        (tagged(PACKET, 0xe008), DropVlan),
        (tagged(PACKET, 0xf000 | 4094), RedirectCargo),
        (tagged(PACKET, 4095), DropVlan),
        (tagged(&with(PACKET, &[(MSG_TYPE, &[1, 0])]), 39), DropVlan),
        // From a card that cannot send: a group address, no address, our own.
        (with(PACKET, &[(6, &[0xff; 6])]), DropSource),
        (with(PACKET, &[(6, &[1, 0, 0x5e, 0, 0, 1])]), DropSource),
        (with(PACKET, &[(6, &[0; 6])]), DropSource),
        (with(PACKET, &[(6, &MAC)]), DropSource),
        (tagged(&with(PACKET, &[(6, &MAC)]), 7), DropSource),
        (with(PACKET, &[(6, &[0, 0, 0, 0, 0, 1])]), RedirectCargo),
        // From an address that is no host's or that is ours, or without a UDP port.
        (from([0, 0, 0, 0]), DropSource),
        (from([0, 1, 2, 3]), DropSource),
        (from([127, 0, 0, 1]), DropSource),
        (from([127, 255, 255, 254]), DropSource),
        (from([224, 0, 0, 1]), DropSource),
        (from([239, 255, 255, 255]), DropSource),
        (from([240, 0, 0, 1]), DropSource),
        (from([255; 4]), DropSource),
        (from(ADDRESS.octets()), DropSource),
        (from([1, 0, 0, 1]), RedirectCargo),
        (from([126, 255, 255, 255]), RedirectCargo),
        (from([128, 0, 0, 0]), RedirectCargo),
        (from([223, 255, 255, 255]), RedirectCargo),
        (from([10, 0, 0, 0]), RedirectCargo),
        (with(PACKET, &[(UDP, &[0, 0])]), DropSource),
        (with(PACKET, &[(UDP, &[0, 1])]), RedirectCargo),
        (sealed(PACKET, &[(IP + 6, &[0x20, 0])]), DropFragment),
        (with(PACKET, &[(IP + 10, &[0x26, 0xa7])]), DropIpChecksum),
        (with(PACKET, &[(TTL, &[63])]), DropIpChecksum),
        (tagged(&with(PACKET, &[(TTL, &[63])]), 7), DropIpChecksum),
        // The IP length is past the end of the packet, the UDP length past the end of IP, or there is no room for a
        // record header.
        (sealed(PACKET, &[(IP + 3, &[0x37])]), DropCutOff),
        (sealed(PACKET, &[(IP + 2, &[0xff, 0xff])]), DropCutOff),
        (with(PACKET, &[(UDP + 5, &[0x23])]), DropTruncated),
        (with(PACKET, &[(UDP + 4, &[0xff, 0xff])]), DropTruncated),
        (cut(RECORD, 28, 8), DropTruncated),
        (cut(RECORD + 22, 50, 30), DropTruncated),
        (with(PACKET, &[(UDP + 5, &[30])]), DropTruncated),
        (with(PACKET, &[(RECORD, &[0x59])]), DropMagic),
        (with(PACKET, &[(RECORD + 3, &[0])]), DropMagic),
        (with(PACKET, &[(PAYLOAD_LEN, &[4])]), DropLength),
        (with(PACKET, &[(PAYLOAD_LEN, &[0xff; 4])]), DropLength),
        (with(PACKET, &[(MSG_TYPE, &[1, 0]), (PAYLOAD_LEN, &[4])]), DropLength),
        // The payload may not lie in the padding.
        (with(&[PACKET, &[0; 20]].concat(), &[(PAYLOAD_LEN, &[4])]), DropLength),
    ];
    let mut seen = HashSet::new();
    for (i, (packet, verdict)) in cases.iter().enumerate() {
        let action = match verdict.fate() {
            Fate::Socket | Fate::Neighbor => REDIRECT,
            Fate::Kernel => PASS,
            Fate::Dropped => DROP,
        };
        let (got, counted, after) = run(&mut steer, packet);
        assert_eq!((got, counted), (action, *verdict), "case {i}");
        assert_eq!(after, *packet, "case {i}");
        seen.insert(counted);
    }
    // Other tests have the verdicts for queues without a socket, neighbours and RoCEv2.
    let elsewhere = [DropNoSocket, RedirectRoce, RedirectNeighbor, DropHairpin, DropTtl, DropNoPort];
    for verdict in Verdict::ALL {
        assert_eq!(seen.contains(&verdict), !elsewhere.contains(&verdict), "{}", verdict.name());
    }
}

#[test]
fn every_counter_is_visited_once_under_its_own_name() {
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    run(&mut steer, PACKET);
    run(&mut steer, &PACKET[..20]);
    let mut seen = Vec::new();
    steer.visit(&mut |name, help, value| seen.push((name, help, value))).unwrap();
    assert_eq!(seen.len(), Verdict::ALL.len());
    for (verdict, &(name, help, value)) in Verdict::ALL.iter().zip(&seen) {
        assert_eq!((name, help), (verdict.name(), verdict.help()));
        assert!(help.starts_with("Packets ") && help.ends_with('.'), "{help}");
        let expected = [Verdict::DropNoSocket, Verdict::PassTruncated].contains(verdict);
        assert_eq!(value, u64::from(expected), "{name}");
    }
    assert_eq!(seen.iter().map(|seen| seen.0).collect::<HashSet<_>>().len(), seen.len());
}

#[test]
fn a_queue_without_a_socket_drops_what_is_for_it_and_only_that() {
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let control = with(PACKET, &[(MSG_TYPE, &[1, 0])]);
    assert_eq!(run(&mut steer, PACKET).1, Verdict::DropNoSocket);
    assert_eq!(run(&mut steer, &control).1, Verdict::DropNoSocket);
    let socket = serve(&mut steer, 0);
    assert_eq!(run(&mut steer, PACKET).1, Verdict::RedirectCargo);
    steer.clear_socket(0).unwrap();
    assert_eq!(run(&mut steer, PACKET).1, Verdict::DropNoSocket);
    drop(serve(&mut steer, 1));
    assert_eq!(run(&mut steer, &control).1, Verdict::DropNoSocket);
    // The kernel takes a closed socket out of the map.
    drop(socket);
    drop(serve(&mut steer, 0));
    assert_eq!(run(&mut steer, PACKET).1, Verdict::DropNoSocket);
}

#[test]
fn without_a_list_only_packets_without_a_tag_are_taken() {
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let _socket = serve(&mut steer, 0);
    for (packet, verdict) in [
        (PACKET.to_vec(), Verdict::RedirectCargo),
        // A tag with a priority and no VLAN.
        (tagged(PACKET, 0xe000), Verdict::RedirectCargo),
        (tagged(PACKET, 1), Verdict::DropVlan),
        (tagged(PACKET, 32), Verdict::DropVlan),
        (tagged(PACKET, 4095), Verdict::DropVlan),
    ] {
        assert_eq!(run(&mut steer, &packet).1, verdict);
    }
    // With a list without 0, packets without a tag are not taken.
    let mut vlans = [0; ebpf::VLAN_WORDS];
    vlans[1] = 1;
    let mut steer = load(&Config { vlans, ..Config::new(&shards) }).unwrap();
    let _socket = serve(&mut steer, 0);
    for (packet, verdict) in [
        (PACKET.to_vec(), Verdict::DropVlan),
        (tagged(PACKET, 0), Verdict::DropVlan),
        (tagged(PACKET, 32), Verdict::RedirectCargo),
        (tagged(PACKET, 33), Verdict::DropVlan),
        (tagged(PACKET, 0), Verdict::DropVlan),
    ] {
        assert_eq!(run(&mut steer, &packet).1, verdict);
    }
}

#[test]
fn each_of_our_addresses_is_no_source() {
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let _socket = serve(&mut steer, 0);
    let from = |address: [u8; 4]| sealed(PACKET, &[(IP + 12, &address)]);
    let other = Ipv4Addr::new(10, 7, 0, 1);
    assert_eq!(run(&mut steer, &from(other.octets())).1, Verdict::RedirectCargo);
    steer.set_addresses(&[ADDRESS, other]).unwrap();
    assert_eq!(run(&mut steer, &from(other.octets())).1, Verdict::DropSource);
    steer.set_addresses(&[ADDRESS]).unwrap();
    assert_eq!(run(&mut steer, &from(other.octets())).1, Verdict::RedirectCargo);
}

#[test]
fn the_port_is_the_configurations() {
    let shards = shards();
    let Some(mut steer) = load(&Config { udp_port: 4000, ..Config::new(&shards) }) else { return };
    let _socket = serve(&mut steer, 0);
    let to_4000 = with(PACKET, &[(UDP + 2, &4000u16.to_be_bytes())]);
    assert_eq!(run(&mut steer, &to_4000).1, Verdict::RedirectCargo);
    assert_eq!(run(&mut steer, PACKET).1, Verdict::PassPort);
}

#[test]
fn the_ports_of_several_lcores_are_ours() {
    let shards = shards();
    let Some(mut steer) = load(&Config { udp_port: 4000, udp_ports: 3, ..Config::new(&shards) }) else { return };
    let _socket = serve(&mut steer, 0);
    let to = |port: u16| with(PACKET, &[(UDP + 2, &port.to_be_bytes())]);
    for port in 4000..4003 {
        assert_eq!(run(&mut steer, &to(port)).1, Verdict::RedirectCargo);
        assert_eq!(run(&mut steer, &with(&to(port), &[(UDP, &[0, 0])])).1, Verdict::DropSource);
    }
    for port in [0, 3999, 4003, u16::MAX] {
        assert_eq!(run(&mut steer, &to(port)).1, Verdict::PassPort);
    }
}

#[test]
fn roce_belongs_to_who_claims_it() {
    let shards = shards();
    let Some(mut steer) = load(&Config { claim_roce: true, vlans: VLANS, ..Config::new(&shards) }) else { return };
    let roce = with(PACKET, &[(UDP + 2, &4791u16.to_be_bytes()), (RECORD, b"not a GVM record")]);
    assert_eq!(run(&mut steer, &roce).1, Verdict::DropNoSocket);
    let _socket = serve(&mut steer, 0);
    assert_eq!(run(&mut steer, &roce), (REDIRECT, Verdict::RedirectRoce, roce.clone()));
    let tagged = tagged(&roce, 7);
    assert_eq!(run(&mut steer, &tagged), (REDIRECT, Verdict::RedirectRoce, tagged.clone()));
    // Answers go to port 4791 whatever the source; all other rules hold.
    assert_eq!(run(&mut steer, &with(&roce, &[(UDP, &[0, 0])])).1, Verdict::RedirectRoce);
    assert_eq!(run(&mut steer, &sealed(&roce, &[(IP + 12, &[127, 0, 0, 1])])).1, Verdict::DropSource);
    assert_eq!(run(&mut steer, &with(&roce, &[(6, &[0xff; 6])])).1, Verdict::DropSource);
    assert_eq!(run(&mut steer, &crate::support::tagged(&roce, 8)).1, Verdict::DropVlan);
    // Options between the headers stay with the kernel, as does every packet that nobody claims.
    assert_eq!(run(&mut steer, &with(&roce, &[(IP, &[0x46])])).1, Verdict::PassPort);
    let mut other = load(&Config::new(&shards)).unwrap();
    let _other = serve(&mut other, 0);
    assert_eq!(run(&mut other, &roce).1, Verdict::PassPort);
    assert_eq!(run(&mut steer, PACKET).1, Verdict::RedirectCargo);
    assert_eq!(run(&mut steer, &sealed(&roce, &[(IP + 19, &[2])])).1, Verdict::PassAddress);
}

#[test]
fn addresses_change_while_the_program_runs() {
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let _socket = serve(&mut steer, 0);
    let ours: Vec<Ipv4Addr> = (1..=8).map(|i| Ipv4Addr::new(192, 168, i, 1)).collect();
    let to = |address: &Ipv4Addr| sealed(PACKET, &[(IP + 16, &address.octets())]);
    steer.set_addresses(&ours).unwrap();
    for address in &ours {
        assert_eq!(run(&mut steer, &to(address)).1, Verdict::RedirectCargo, "{address}");
    }
    assert_eq!(run(&mut steer, PACKET).1, Verdict::PassAddress);
    assert!(matches!(steer.set_addresses(&[ADDRESS; 9]), Err(SteerError::Addresses(9))));
    assert_eq!(run(&mut steer, &to(&ours[7])).1, Verdict::RedirectCargo);
    steer.set_addresses(&[]).unwrap();
    for address in ours.iter().chain(&[Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, ADDRESS]) {
        assert_eq!(run(&mut steer, &to(address)).1, Verdict::PassAddress, "{address}");
    }
}

#[test]
fn before_it_knows_an_address_it_takes_nothing() {
    let shards = shards();
    if load(&Config::new(&shards)).is_none() {
        return;
    }
    let mut steer = Steer::load(&Config::new(&shards)).unwrap();
    for address in [[10, 0, 0, 1], [0; 4], [255; 4]] {
        let packet = sealed(PACKET, &[(0, &[0; 6]), (IP + 16, &address)]);
        assert_eq!(run(&mut steer, &packet).1, Verdict::PassAddress);
    }
}

#[test]
fn another_scale_has_other_shards_and_other_ids() {
    let scale = Scale::new(10, 4).unwrap();
    let shards = ShardSet::new(scale, &[Shard(1), Shard(63)]).unwrap();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    let _socket = serve(&mut steer, 0);
    for (slave, verdict) in [
        (15, Verdict::DropForeignShard),
        (16, Verdict::RedirectCargo),
        (31, Verdict::RedirectCargo),
        (32, Verdict::DropForeignShard),
        (1_023, Verdict::RedirectCargo),
        // In range of the default scale, but not of this one.
        (1_024, Verdict::DropSlaveId),
        (131_071, Verdict::DropSlaveId),
    ] {
        assert_eq!(run(&mut steer, &with(PACKET, &[(SLAVE_ID, &id(slave))])).1, verdict, "slave {slave}");
    }
    // One shard, and as many shards as ids.
    for (slave_bits, gw_bits, last) in [(0, 0, 0), (24, 24, (1 << 24) - 1), (16, 0, 65_535)] {
        let shards = ShardSet::all(Scale::new(slave_bits, gw_bits).unwrap());
        let mut steer = load(&Config::new(&shards)).unwrap();
        let _socket = serve(&mut steer, 0);
        for (slave, verdict) in [(last, Verdict::RedirectCargo), (last + 1, Verdict::DropSlaveId)] {
            assert_eq!(run(&mut steer, &with(PACKET, &[(SLAVE_ID, &id(slave))])).1, verdict, "{slave_bits}, {slave}");
        }
    }
}

#[test]
fn a_jumbo_packet_in_pieces_is_judged_like_one_in_one_piece() {
    let shards = shards();
    let Some(mut steer) = load(&Config { frags: true, vlans: VLANS, ..Config::new(&shards) }) else { return };
    let _socket = serve(&mut steer, 0);
    let payload = 8_900usize;
    let lengths = |payload: usize| (payload as u32).to_le_bytes();
    let udp_len = (8 + wire::HEADER_LEN + payload) as u16;
    let jumbo = [&PACKET[..PACKET.len() - 3], &vec![0x5a; payload][..]].concat();
    let jumbo = sealed(
        &jumbo,
        &[
            (IP + 2, &(20 + udp_len).to_be_bytes()),
            (UDP + 4, &udp_len.to_be_bytes()),
            (PAYLOAD_LEN, &lengths(payload)),
            (UDP_CHECKSUM, &[0, 0]),
        ],
    );
    assert!(is_sound(&jumbo));
    for (packet, verdict) in [
        (PACKET.to_vec(), Verdict::RedirectCargo),
        (jumbo.clone(), Verdict::RedirectCargo),
        (tagged(&jumbo, 7), Verdict::RedirectCargo),
        (sealed(&jumbo, &[(IP + 2, &(21 + udp_len).to_be_bytes())]), Verdict::DropCutOff),
        (tagged(&sealed(&jumbo, &[(IP + 2, &(21 + udp_len).to_be_bytes())]), 7), Verdict::DropCutOff),
        (sealed(&jumbo, &[(UDP + 4, &(udp_len + 1).to_be_bytes())]), Verdict::DropTruncated),
        (with(&jumbo, &[(PAYLOAD_LEN, &lengths(payload + 1))]), Verdict::DropLength),
    ] {
        assert_eq!(run(&mut steer, &packet).1, verdict);
    }
    // A program for packets in one piece does not see the end of this packet.
    let mut plain = load(&Config::new(&shards)).unwrap();
    assert_eq!(run(&mut plain, &jumbo).1, Verdict::DropCutOff);
}

#[test]
fn the_verifier_looks_at_no_more_than_500_instructions() {
    let shards = shards();
    for (frags, claim_roce) in [(false, false), (true, false), (false, true), (true, true)] {
        let Some(mut steer) = load(&Config { frags, claim_roce, ..Config::new(&shards) }) else { return };
        let verified = steer.program().unwrap().info().unwrap().verified_instruction_count().unwrap();
        assert!((1..=500).contains(&verified), "{verified} with frags {frags}, RoCEv2 {claim_roce}");
    }
}

#[test]
fn errors_say_what_to_do() {
    fn is_for_threads<T: Send + Sync>(_: &T) {}
    let shards = shards();
    let Some(mut steer) = load(&Config::new(&shards)) else { return };
    is_for_threads(&steer);
    for name in ["no-such-if", "", "a-name-that-is-far-too-long"] {
        let error = steer.attach(name, Hook::Driver).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")) && error.contains("`ip -brief link` lists them"), "{error}");
    }
    let error = steer.clear_socket(ebpf::MAX_QUEUES).unwrap_err().to_string();
    assert!(error.contains("receive queue 256 is out of range"), "{error}");
}
