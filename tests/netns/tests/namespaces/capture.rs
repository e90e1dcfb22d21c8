//! `gvm-dp capture` of a gateway on NIC queues, where no packet socket gets the packets.

use netns::world::{number, two_armed};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use wire::net::{UdpFrame, parse_udp4, verify_udp4};
use wire::{MsgType, RecordHeader, Scale, Walk};

/// A packet of a capture file: its interface, whether it was received, its bytes.
struct Packet {
    interface: usize,
    received: bool,
    frame: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// The packets of a file, and the names of its interfaces.
fn read(path: &Path) -> (Vec<Packet>, Vec<String>) {
    let file = std::fs::read(path).unwrap();
    let (mut packets, mut names) = (Vec::new(), Vec::new());
    let mut rest = &file[..];
    while !rest.is_empty() {
        let (block, after) = rest.split_at(u32_at(rest, 4));
        match u32_at(block, 0) {
            // The name is the first option.
            1 => names.push(String::from_utf8(block[20..20 + usize::from(block[18])].to_vec()).unwrap()),
            6 => {
                let captured = u32_at(block, 20);
                let flags = 28 + captured.next_multiple_of(4) + 4;
                let frame = block[28..28 + captured].to_vec();
                packets.push(Packet { interface: u32_at(block, 8), received: u32_at(block, flags) == 1, frame });
            }
            _ => {}
        }
        rest = after;
    }
    (packets, names)
}

impl Packet {
    fn headers(&self) -> UdpFrame {
        let headers = parse_udp4(&self.frame).unwrap();
        assert!(verify_udp4(&self.frame, &headers));
        headers
    }

    fn records(&self) -> Vec<RecordHeader> {
        let payload = self.headers().payload;
        Walk::new(&self.frame[payload], Scale::default()).map(|record| *record.unwrap().1.header()).collect()
    }
}

#[test]
fn both_sides_of_a_gateway_on_queues_are_seen() {
    let Some(world) = two_armed() else { return };
    let gateway = world.gateway("--lcores 0-1 --port xdp:left --port xdp:right");
    let _farm = world.farm("farm", "10.92.2.1", 0, 32, "udp:10.92.2.2:0");
    world.place.until_registered("gateway", 32);
    let path = world.place.path("both.pcapng");
    let client = world
        .place
        .start(&world.gateway, &format!("gvm-dp capture --name gateway -w {} --filter cargo", path.display()));
    gateway.says(&["capture begins: cargo"]);
    let sent = world.every_record_comes_back("10.92.1.1", 0..32);
    client.signal(Signal::INT);
    let (code, _, said) = client.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" 0 dropped for want of room"), "{said}");

    let mac = |name: &str| {
        let text = world.gateway.exec(&format!("cat /sys/class/net/{name}/address"));
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>()
    };
    let (left, right) = (mac("left"), mac("right"));
    let (packets, names) = read(&path);
    assert_eq!(names, ["port0-lcore0", "port1-lcore0", "port0-lcore1", "port1-lcore1"]);
    let mut records: BTreeMap<(usize, bool, u16), u64> = BTreeMap::new();
    for packet in &packets {
        let headers = packet.headers();
        let port = packet.interface % 2;
        let (own_mac, own_ip, peer_ip) = match packet.received {
            true => (headers.dst_mac, headers.dst_ip, headers.src_ip),
            false => (headers.src_mac, headers.src_ip, headers.dst_ip),
        };
        let (expected, own, peer) =
            if port == 0 { (&left, [10, 92, 1, 1], [10, 92, 1, 2]) } else { (&right, [10, 92, 2, 1], [10, 92, 2, 2]) };
        assert_eq!((&own_mac[..], own_ip, peer_ip), (&expected[..], own, peer));
        for record in packet.records() {
            *records.entry((port, packet.received, record.msg_type().0)).or_default() += 1;
            if port == 1 && !packet.received {
                assert_eq!(headers.src_port, 49_152 + (record.slave_id() & 1023) as u16, "the lane of its slave");
            }
        }
    }
    let (echo, reply) = (MsgType::ECHO.0, MsgType::ECHO_REPLY.0);
    let expected = [(0, false, reply), (0, true, echo), (1, false, echo), (1, true, reply)].map(|way| (way, sent));
    assert_eq!(records, BTreeMap::from(expected));

    // Nobody captures any more, and no tap is left.
    let stats = world.assert_books_balance();
    assert_eq!(number(&stats["directions"]["down"]["records_out"]), sent);
    world.drain(gateway);
}
