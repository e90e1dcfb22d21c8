//! The XDP program and the parser of raw ports judge the same packets. The parser accepts the packets that the program
//! redirects to us. Both refuse a packet for the same reason. Needs root, and no interface.

#[path = "../../../../ebpf/tests/ebpf/support/packet.rs"]
mod packet;

use ebpf::{Config, Steer, Verdict};
use frame::{Burst, Hugepages, Peer, Pool, PoolConfig, PortId, Vlan};
use packet::*;
use port::addresses::Addresses;
use port::claims::Claims;
use port::headers::{Refused, Verify};
use port::vlans::Vlans;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use rustix::net::{AddressFamily, SocketType, socket, sockopt};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use wire::net::{NetError, UdpSpec, checksum, udp_checksum};

/// Another address of ours.
const SECOND: [u8; 4] = [10, 0, 0, 200];
/// No tag, 1, 5, 7 and 4094: [`VLANS`].
const LIST: &str = "0+1+5+7+4094";

/// Both judges of one port, which claims RoCEv2.
struct Judges {
    steer: Steer,
    _socket: OwnedFd,
    pool: Pool,
    addresses: Addresses,
    vlans: Arc<Vlans>,
}

/// The two verdicts on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judged {
    program: Verdict,
    parser: Result<(), Refused>,
}

impl Judges {
    fn new() -> Option<Self> {
        let vlans: Vlans = LIST.parse().unwrap();
        assert_eq!(vlans.words(), &VLANS);
        let shards = shards();
        let mut steer = load(&Config { claim_roce: true, vlans: *vlans.words(), ..Config::new(&shards) })?;
        steer.set_addresses(&[ADDRESS, SECOND.into()]).unwrap();
        // A map entry needs a socket with a receive ring. No packet is sent to it.
        let socket = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        sockopt::set_xdp_rx_ring_size(&socket, 64).unwrap();
        steer.set_socket(0, socket.as_fd()).unwrap();
        let frames = PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let addresses = Addresses::fixed(MAC, &[ADDRESS.octets(), SECOND], wire::GATEWAY_PORT);
        Some(Self { steer, _socket: socket, pool: Pool::new(frames).unwrap(), addresses, vlans: Arc::new(vlans) })
    }

    /// The verdicts of a port's queue on packets, one after the other.
    fn parse(&self, packets: &[&[u8]]) -> Vec<Result<Peer, Refused>> {
        let mut readers = self.addresses.readers(PortId(0), Verify::Software, &self.vlans, &Claims::ROCE);
        let mut burst = Burst::new();
        let mut judge = |packet: &&[u8]| {
            let mut frame = self.pool.alloc().unwrap();
            assert!(frame.append(packet));
            // As the ports do.
            let result = readers.usual_into(frame, &mut burst);
            result.or_else(|frame| readers.receive_into(frame, &self.addresses, &mut burst))?;
            Ok(burst.drain().next().unwrap().peer)
        };
        packets.iter().map(&mut judge).collect()
    }

    fn judge(&mut self, packet: &[u8]) -> Judged {
        let program = run(&mut self.steer, packet).1;
        // The packet is parsed alone, after a usual packet, and after itself. The remembered sender must not change the
        // verdict.
        let alone = self.parse(&[packet])[0];
        assert_eq!(self.parse(&[PACKET, packet])[1], alone);
        assert_eq!(self.parse(&[packet, packet])[1], alone);
        Judged { program, parser: alone.map(drop) }
    }
}

fn malformed(error: NetError) -> Result<(), Refused> {
    Err(Refused::Malformed(error))
}

/// Whether the two verdicts agree. A packet may have several faults, and each side names the first one that it finds. A
/// packet that the program redirects to us may be refused only for a checksum that the program does not check.
fn agree(judged: Judged) -> bool {
    use Refused::{Checksum, Malformed, NotOurs, Options, PartialChecksum, Source, Vlan};
    let Judged { program, parser } = judged;
    let is_taken = matches!(parser, Ok(()) | Err(Checksum | PartialChecksum));
    match program {
        Verdict::RedirectCargo | Verdict::RedirectControl => is_taken,
        // A transport judges the rest of the packet, with the length of its datagram.
        Verdict::RedirectRoce => is_taken || parser == malformed(NetError::UdpLen),
        // The parser knows no record.
        Verdict::DropMagic
        | Verdict::DropLength
        | Verdict::DropSlaveId
        | Verdict::DropForeignShard
        | Verdict::DropNoSocket => is_taken,
        // The parser does not check the destination MAC: the program and the NIC do.
        Verdict::PassMac => true,
        Verdict::DropTruncated | Verdict::DropCutOff => {
            let lengths = [NetError::IpTotalLen, NetError::UdpLen, NetError::Truncated];
            is_taken || lengths.into_iter().any(|error| parser == malformed(error))
        }
        Verdict::DropVlan => matches!(parser, Err(Malformed(_) | Vlan)),
        Verdict::DropSource => matches!(parser, Err(Malformed(_) | Source)),
        Verdict::DropIpOptions => matches!(parser, Err(Malformed(_) | Options)),
        Verdict::DropFragment => parser == malformed(NetError::Fragment) || matches!(parser, Err(Malformed(_))),
        Verdict::DropIpChecksum => matches!(parser, Err(Malformed(NetError::IpChecksum | NetError::IpTotalLen))),
        Verdict::PassTruncated | Verdict::PassEthertype | Verdict::PassProtocol | Verdict::PassFragment => {
            matches!(parser, Err(Malformed(_)))
        }
        Verdict::PassAddress => matches!(parser, Err(Malformed(_) | NotOurs)),
        // Nobody takes RoCEv2 behind IP options.
        Verdict::PassPort => matches!(parser, Err(Malformed(_) | NotOurs | Options)),
        // This port has no neighbours.
        Verdict::DropHairpin | Verdict::DropTtl | Verdict::DropNoPort | Verdict::RedirectNeighbor => false,
    }
}

/// Whole packets, each with one change, and the names of that fault on both sides.
#[test]
fn each_fault_has_its_name_in_the_program_and_in_the_parser() {
    use Verdict::*;
    let Some(mut judges) = Judges::new() else { return };
    let (taken, vlan, source) = (Ok(()), Err(Refused::Vlan), Err(Refused::Source));
    // As PACKET, but without a UDP checksum, so that addresses can be changed.
    let unchecked = with(PACKET, &[(UDP_CHECKSUM, &[0, 0])]);
    let from = |ip: [u8; 4]| sealed(&unchecked, &[(IP + 12, &ip)]);
    let card = |mac: [u8; 6]| with(PACKET, &[(6, &mac)]);
    let options = |words: u8| {
        let packet = [&unchecked[..UDP], &vec![1; usize::from(words) * 4], &unchecked[UDP..]].concat();
        let header = UDP + usize::from(words) * 4;
        let packet = with(&packet, &[(IP, &[0x45 + words]), (IP + 3, &[54 + words * 4]), (IP + 10, &[0, 0])]);
        let sum = checksum::fold(checksum::sum(&packet[IP..header]));
        with(&packet, &[(IP + 10, &sum.to_be_bytes())])
    };
    let roce = with(&unchecked, &[(UDP + 2, &wire::ROCE_PORT.to_be_bytes())]);
    let cases = [
        // Tags.
        (PACKET.to_vec(), RedirectCargo, taken),
        (tagged(PACKET, 0), RedirectCargo, taken),
        (tagged(PACKET, 0xe000), RedirectCargo, taken),
        (tagged(PACKET, 1), RedirectCargo, taken),
        (tagged(PACKET, 5), RedirectCargo, taken),
        (tagged(PACKET, 0x6005), RedirectCargo, taken),
        (tagged(PACKET, 4094), RedirectCargo, taken),
        (tagged(PACKET, 2), DropVlan, vlan),
        (tagged(PACKET, 8), DropVlan, vlan),
        (tagged(PACKET, 4095), DropVlan, vlan),
        (tagged(PACKET, 0xffff), DropVlan, vlan),
        (tagged(&tagged(PACKET, 5), 5), PassEthertype, malformed(NetError::SecondTag)),
        (with(PACKET, &[(12, &[0x88, 0xa8])]), PassEthertype, malformed(NetError::SecondTag)),
        (with(PACKET, &[(12, &[0x86, 0xdd])]), PassEthertype, malformed(NetError::EtherType)),
        // Cards.
        (card([0xff; 6]), DropSource, source),
        (card([3, 0, 0, 0, 0, 2]), DropSource, source),
        (card([0; 6]), DropSource, source),
        (card(MAC), DropSource, source),
        (tagged(&card(MAC), 5), DropSource, source),
        (card([0, 0, 0, 0, 0, 1]), RedirectCargo, taken),
        // Addresses and ports.
        (from([0, 0, 0, 0]), DropSource, source),
        (from([0, 255, 255, 255]), DropSource, source),
        (from([127, 0, 0, 1]), DropSource, source),
        (from([224, 0, 0, 1]), DropSource, source),
        (from([240, 0, 0, 1]), DropSource, source),
        (from([255; 4]), DropSource, source),
        (from(ADDRESS.octets()), DropSource, source),
        (from(SECOND), DropSource, source),
        (tagged(&from(SECOND), 5), DropSource, source),
        (from([1, 0, 0, 0]), RedirectCargo, taken),
        (from([126, 255, 255, 255]), RedirectCargo, taken),
        (from([128, 0, 0, 0]), RedirectCargo, taken),
        (from([223, 255, 255, 255]), RedirectCargo, taken),
        (with(&unchecked, &[(UDP, &[0, 0])]), DropSource, source),
        (tagged(&with(&unchecked, &[(UDP, &[0, 0])]), 5), DropSource, source),
        (with(&unchecked, &[(UDP, &[0, 1])]), RedirectCargo, taken),
        // Not for us.
        (sealed(&unchecked, &[(IP + 16, &[10, 0, 0, 2])]), PassAddress, Err(Refused::NotOurs)),
        (sealed(&unchecked, &[(IP + 16, &SECOND)]), RedirectCargo, taken),
        (with(&unchecked, &[(UDP + 2, &[0x27, 0x0e])]), PassPort, Err(Refused::NotOurs)),
        (sealed(PACKET, &[(IP + 9, &[6])]), PassProtocol, malformed(NetError::Protocol)),
        (with(PACKET, &[(IP, &[0x65])]), PassProtocol, malformed(NetError::IpVersion)),
        (with(PACKET, &[(IP, &[0x44])]), PassProtocol, malformed(NetError::IpHeaderLen)),
        // Options, whole fragments and parts of them.
        (options(1), DropIpOptions, Err(Refused::Options)),
        (options(10), DropIpOptions, Err(Refused::Options)),
        (tagged(&options(3), 5), DropIpOptions, Err(Refused::Options)),
        (sealed(PACKET, &[(IP + 6, &[0xc0, 0])]), RedirectCargo, taken),
        (sealed(PACKET, &[(IP + 6, &[0x20, 0])]), DropFragment, malformed(NetError::Fragment)),
        (sealed(PACKET, &[(IP + 6, &[0, 1])]), PassFragment, malformed(NetError::Fragment)),
        (sealed(PACKET, &[(IP + 6, &[0x3f, 0xff])]), PassFragment, malformed(NetError::Fragment)),
        // Lengths.
        ([PACKET, &[0; 20]].concat(), RedirectCargo, taken),
        (sealed(PACKET, &[(IP + 3, &[0x37])]), DropCutOff, malformed(NetError::IpTotalLen)),
        (sealed(PACKET, &[(IP + 3, &[19])]), DropTruncated, malformed(NetError::IpTotalLen)),
        (with(PACKET, &[(UDP + 5, &[0x23])]), DropTruncated, malformed(NetError::UdpLen)),
        (with(&unchecked, &[(UDP + 5, &[7])]), DropTruncated, malformed(NetError::UdpLen)),
        (with(&unchecked, &[(UDP + 5, &[30])]), DropTruncated, taken),
        (PACKET[..UDP + 7].to_vec(), PassTruncated, malformed(NetError::IpTotalLen)),
        (PACKET[..20].to_vec(), PassTruncated, malformed(NetError::Truncated)),
        // Checksums.
        (with(PACKET, &[(IP + 10, &[0, 1])]), DropIpChecksum, malformed(NetError::IpChecksum)),
        (with(PACKET, &[(UDP_CHECKSUM, &[1, 2])]), RedirectCargo, Err(Refused::Checksum)),
        (unchecked.clone(), RedirectCargo, taken),
        // RoCEv2 has the same rules, except that UDP port 0 is allowed as a source.
        (roce.clone(), RedirectRoce, taken),
        (with(&roce, &[(UDP, &[0, 0])]), RedirectRoce, taken),
        (tagged(&roce, 5), RedirectRoce, taken),
        (tagged(&roce, 6), DropVlan, vlan),
        (sealed(&roce, &[(IP + 12, &[127, 0, 0, 1])]), DropSource, source),
        (with(&roce, &[(6, &MAC)]), DropSource, source),
        (sealed(&roce, &[(IP + 6, &[0x20, 0])]), DropFragment, malformed(NetError::Fragment)),
        (sealed(&roce, &[(IP + 3, &[19])]), DropTruncated, malformed(NetError::IpTotalLen)),
        (sealed(&roce, &[(IP + 3, &[0x37])]), DropCutOff, malformed(NetError::IpTotalLen)),
        (with(&roce, &[(IP + 10, &[0, 1])]), DropIpChecksum, malformed(NetError::IpChecksum)),
        (with(&options(1), &[(UDP + 4 + 2, &wire::ROCE_PORT.to_be_bytes())]), PassPort, Err(Refused::Options)),
        // Faults that the parser does not check.
        (with(PACKET, &[(5, &[9])]), PassMac, taken),
        (with(&unchecked, &[(RECORD, &[0x59])]), DropMagic, taken),
        (with(&unchecked, &[(MSG_TYPE, &[1, 0])]), RedirectControl, taken),
        (with(&unchecked, &[(SLAVE_ID, &8192u32.to_le_bytes())]), DropForeignShard, taken),
        (with(&unchecked, &[(SLAVE_ID, &u32::MAX.to_le_bytes())]), DropSlaveId, taken),
        (with(&unchecked, &[(PAYLOAD_LEN, &[9])]), DropLength, taken),
    ];
    let mut seen = std::collections::HashSet::new();
    for (case, (packet, program, parser)) in cases.iter().enumerate() {
        let judged = judges.judge(packet);
        assert_eq!(judged, Judged { program: *program, parser: *parser }, "case {case}: {packet:02x?}");
        assert!(agree(judged), "case {case}: {judged:?}");
        seen.insert(judged.program);
    }
    // All verdicts that occur at this port.
    let others = [DropNoSocket, DropHairpin, DropTtl, DropNoPort, RedirectNeighbor];
    for verdict in Verdict::ALL {
        assert_eq!(seen.contains(&verdict), !others.contains(&verdict), "{}", verdict.name());
    }
    let peer = judges.parse(&[&tagged(PACKET, 0x6005)])[0].unwrap();
    assert_eq!((peer.vlan, peer.mac), (Vlan::tagged(5), [2, 0, 0, 0, 0, 0x11]));
}

/// The parts of a packet. Most packets are usual except for a few parts.
#[derive(Clone, Debug)]
struct Made {
    tags: Vec<u16>,
    cards: ([u8; 6], [u8; 6]),
    ips: ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    options: u8,
    /// Bytes that are written over the packet, and whether before the header checksum is computed.
    scribbles: Vec<(usize, u8, bool)>,
    udp_checksum: bool,
    cut: usize,
    padding: usize,
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        let record = &PACKET[RECORD..];
        let ((src_mac, dst_mac), (src_ip, dst_ip), (src_port, dst_port)) = (self.cards, self.ips, self.ports);
        let checksum = if self.udp_checksum { udp_checksum(src_ip, dst_ip, src_port, dst_port, record) } else { 0 };
        let spec = UdpSpec { vlan: None, src_mac, dst_mac, src_ip, dst_ip, src_port, dst_port, ecn: 0, checksum };
        let mut packet = vec![0; RECORD];
        wire::net::emit_udp4(&spec, record.len(), &mut packet).unwrap();
        packet.extend_from_slice(record);
        let words = usize::from(self.options);
        if words > 0 {
            packet.splice(UDP..UDP, vec![1; words * 4]);
            packet[IP] += self.options;
            packet[IP + 3] += self.options * 4;
        }
        for &(at, byte, _) in self.scribbles.iter().filter(|(_, _, before)| *before) {
            packet[at] = byte;
        }
        packet[IP + 10..IP + 12].fill(0);
        let sum = checksum::fold(checksum::sum(&packet[IP..UDP + words * 4]));
        packet[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
        for &(at, byte, _) in self.scribbles.iter().filter(|(_, _, before)| !*before) {
            packet[at] = byte;
        }
        for tag in &self.tags {
            packet = tagged(&packet, *tag);
        }
        packet.truncate(packet.len() - self.cut.min(packet.len() - 14));
        packet.resize(packet.len() + self.padding, 0);
        packet
    }
}

fn made() -> impl Strategy<Value = Made> {
    let usual = |usual: [u8; 4], others: Vec<[u8; 4]>| {
        prop_oneof![6 => Just(usual),
        2 => prop::sample::select(others), 1 => any::<[u8; 4]>()]
    };
    let card = |usual: [u8; 6]| {
        let others = vec![MAC, [0; 6], [0xff; 6], [1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]];
        prop_oneof![8 => Just(usual), 1 => prop::sample::select(others), 1 => any::<[u8; 6]>()]
    };
    let ours = ADDRESS.octets();
    let strange = vec![[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4], ours, SECOND, [10, 0, 0, 255]];
    let port = |usual: u16| {
        let others = vec![0, 1, 9999, wire::ROCE_PORT, 49_152];
        prop_oneof![8 => Just(usual), 2 => prop::sample::select(others), 1 => any::<u16>()]
    };
    let tag = prop_oneof![4 => prop::sample::select(vec![0u16, 1, 5, 7, 4094, 0xe005]), 1 => any::<u16>()];
    let tags = prop_oneof![6 => Just(0usize), 4 => Just(1), 1 => Just(2)]
        .prop_flat_map(move |count| prop::collection::vec(tag.clone(), count));
    let few = prop_oneof![4 => Just(0usize), 2 => Just(1), 1 => Just(2)];
    let scribbles =
        few.prop_flat_map(|count| prop::collection::vec((12usize..RECORD + 23, any::<u8>(), any::<bool>()), count));
    (
        tags,
        (card([2, 0, 0, 0, 0, 2]), card(MAC)),
        (usual([10, 0, 0, 17], strange.clone()), usual(ours, strange)),
        (port(49_169), port(9999)),
        prop_oneof![8 => Just(0u8), 1 => 1u8..=10],
        scribbles,
        any::<bool>(),
        prop_oneof![6 => Just(0usize), 1 => 0usize..70],
        prop_oneof![6 => Just(0usize), 1 => 0usize..20],
    )
        .prop_map(|(tags, cards, ips, ports, options, scribbles, udp_checksum, cut, padding)| Made {
            tags,
            cards,
            ips,
            ports,
            options,
            scribbles,
            udp_checksum,
            cut,
            padding,
        })
}

#[test]
fn the_program_and_the_parser_agree_on_any_packet() {
    let Some(judges) = Judges::new() else { return };
    let judges = std::cell::RefCell::new(judges);
    let taken = std::cell::Cell::new(0);
    let runs = Runs { cases: 6000, failure_persistence: None, ..Runs::default() };
    TestRunner::new(runs)
        .run(&made(), |made| {
            let packet = made.bytes();
            let judged = judges.borrow_mut().judge(&packet);
            prop_assert!(agree(judged), "{judged:?} {packet:02x?}");
            taken.set(taken.get() + u32::from(judged.parser.is_ok()));
            Ok(())
        })
        .unwrap();
    // Some packets are taken and some are not.
    assert!((600..5400).contains(&taken.get()), "{} of 6000 were taken", taken.get());
}
