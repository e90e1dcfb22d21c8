//! Checks the datagrams at the other ends of the cards: a gateway must have sent each record once, between the right
//! Ethernet addresses, with the right checksum. Also checks that a master got all its answers.

use netns::sniff::{Heard, Request};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use wire::MsgType;
use wire::net::ethernet::MacText;

/// One card of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The gateway's IPv4 address there.
    pub address: [u8; 4],
    /// The card's Ethernet address.
    pub mac: [u8; 6],
    /// The Ethernet address at the other end.
    pub other: [u8; 6],
}

/// The faults of the datagrams that were heard while this many ECHOs went through a gateway with these cards and their
/// answers came back. Empty if there is no fault.
pub fn faults(heard: &[Heard], wires: &[Wire], records: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let mut requests: Vec<&Request> = Vec::new();
    for wire in wires {
        let sent: Vec<&Heard> = heard.iter().filter(|datagram| datagram.from.0 == wire.address).collect();
        let mut count = |what: String, is_wrong: &dyn Fn(&Heard) -> bool| {
            let wrong = sent.iter().filter(|datagram| is_wrong(datagram)).count();
            if wrong > 0 {
                let (all, address) = (sent.len(), Ipv4Addr::from(wire.address));
                faults.push(format!("{wrong} of {all} datagrams of {address} {what}"));
            }
        };
        count(format!("do not come from {}", MacText(wire.mac)), &|datagram| datagram.mac != wire.mac);
        count(format!("do not go to {}", MacText(wire.other)), &|datagram| datagram.to_mac != wire.other);
        count("have a wrong UDP checksum".to_owned(), &|datagram| !datagram.checksum);
        requests.extend(sent.iter().flat_map(|datagram| &datagram.requests));
    }
    for (name, wanted) in [("ECHO", MsgType::ECHO), ("ECHO_REPLY", MsgType::ECHO_REPLY)] {
        let ids: Vec<_> = requests.iter().filter(|request| request.msg_type == wanted).collect();
        let different = ids.iter().collect::<BTreeSet<_>>().len();
        let changed = ids.iter().filter(|request| request.sequence.is_none()).count();
        if changed > 0 {
            faults.push(format!("{changed} records of type {name} are not as they were sent"));
        }
        if different as u64 != records {
            faults.push(format!("{different} of {records} records of type {name} were heard"));
        }
        if ids.len() != different {
            faults.push(format!("{} records of type {name} were heard again", ids.len() - different));
        }
    }
    faults
}

/// The faults in the report of a master that sent this many ECHOs.
pub fn report_faults(report: &Value, records: u64) -> Vec<String> {
    let wanted = [
        ("/down/records", records),
        ("/echo/ok", records),
        ("/echo/lost", 0),
        ("/echo/duplicate", 0),
        ("/echo/corrupted", 0),
        ("/received/bad", 0),
        ("/received/unexpected", 0),
    ];
    let fault = |(place, wanted): (&str, u64)| {
        let found = report.pointer(place).and_then(Value::as_u64);
        (found != Some(wanted)).then(|| format!("{place} is {found:?}, not {wanted}"))
    };
    wanted.into_iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::net::{MAX_HEADERS, UdpSpec, emit_udp4, udp_checksum};
    use wire::record::req_id;
    use wire::{RecordHeader, echo};

    const DOWN: Wire = Wire { address: [10, 0, 2, 2], mac: [2, 0, 0, 0, 0, 2], other: [2, 0, 0, 0, 1, 2] };
    const UP: Wire = Wire { address: [10, 0, 1, 2], mac: [2, 0, 0, 0, 0, 1], other: [2, 0, 0, 0, 1, 1] };
    const RECORDS: u64 = 12;

    /// A packet with a datagram that the gateway sends by a wire.
    fn packet(wire: Wire, msg_type: MsgType, ids: impl Iterator<Item = u64>) -> Vec<u8> {
        let mut payload = Vec::new();
        for id in ids {
            let mut record = [0; 128];
            let header = RecordHeader::new(msg_type, id as u32 % 4, req_id(1, 0), 64);
            let len = echo::emit(&header, &echo::EchoHeader::new(0, id), &mut record).unwrap();
            payload.extend_from_slice(&record[..len]);
        }
        let [a, b, c, _] = wire.address;
        let to = [a, b, c, 1];
        let spec = UdpSpec {
            vlan: None,
            src_mac: wire.mac,
            dst_mac: wire.other,
            src_ip: wire.address,
            dst_ip: to,
            src_port: 9999,
            dst_port: 7000,
            ecn: 0,
            checksum: udp_checksum(wire.address, to, 9999, 7000, &payload),
        };
        let mut headers = [0; MAX_HEADERS];
        let len = emit_udp4(&spec, payload.len(), &mut headers).unwrap();
        [&headers[MAX_HEADERS - len..], &payload].concat()
    }

    /// Three datagrams each way with all records.
    fn packets() -> Vec<Vec<u8>> {
        let way = |wire, msg_type| (0..3).map(move |part| packet(wire, msg_type, part * 4..part * 4 + 4));
        way(DOWN, MsgType::ECHO).chain(way(UP, MsgType::ECHO_REPLY)).collect()
    }

    fn found(packets: &[Vec<u8>]) -> Vec<String> {
        let heard: Vec<Heard> = packets.iter().filter_map(|packet| Heard::read(packet)).collect();
        faults(&heard, &[DOWN, UP], RECORDS)
    }

    #[test]
    fn a_gateway_without_faults_has_none() {
        assert_eq!(found(&packets()), [""; 0]);
    }

    /// One single fault of each kind, in either direction. The test of the cards must not pass with any of them.
    #[test]
    fn one_fault_of_any_kind_is_found_and_named() {
        for at in 0..6 {
            let damaged = |damage: &dyn Fn(&mut Vec<u8>)| {
                let mut packets = packets();
                damage(&mut packets[at]);
                found(&packets).join("; ")
            };
            let source = damaged(&|packet| packet[11] ^= 1);
            assert!(source.contains("1 of 3 datagrams of 10.0.") && source.contains("do not come from"), "{source}");
            let destination = damaged(&|packet| packet[5] ^= 1);
            assert!(destination.contains("1 of 3 datagrams") && destination.contains("do not go to"), "{destination}");
            for wrong in [1_u16, u16::MAX] {
                let checksum = damaged(&|packet| {
                    let sum = u16::from_be_bytes([packet[40], packet[41]]);
                    packet[40..42].copy_from_slice(&sum.wrapping_add(wrong).to_be_bytes());
                });
                assert_eq!(checksum.matches("wrong UDP checksum").count(), 1, "{checksum}");
            }
            let none = damaged(&|packet| packet[40..42].fill(0));
            assert!(none.contains("1 of 3 datagrams") && none.contains("wrong UDP checksum"), "{none}");
            // A receiver drops packets with a wrong IP header.
            let ip = damaged(&|packet| packet[24] ^= 1);
            assert!(ip.contains("8 of 12 records"), "{ip}");
            let content = damaged(&|packet| *packet.last_mut().unwrap() ^= 1);
            assert!(content.contains("wrong UDP checksum"), "{content}");
            assert!(content.contains("1 records of type ECHO") && content.contains("as they were sent"), "{content}");
        }
    }

    #[test]
    fn one_record_too_few_or_too_many_is_found() {
        for (at, name) in [(1, "ECHO"), (4, "ECHO_REPLY")] {
            let (wire, msg_type) = if at < 3 { (DOWN, MsgType::ECHO) } else { (UP, MsgType::ECHO_REPLY) };
            let with = |ids: &[u64]| {
                let mut packets = packets();
                packets[at] = packet(wire, msg_type, ids.iter().copied());
                found(&packets)
            };
            assert_eq!(with(&[4, 5, 6, 7]), [""; 0]);
            assert_eq!(with(&[4, 5, 7]), [format!("11 of 12 records of type {name} were heard")]);
            assert_eq!(with(&[4, 5, 6, 7, 7]), [format!("1 records of type {name} were heard again")]);
            assert_eq!(with(&[4, 5, 7, 7]).len(), 2, "one is missing, and another came twice");
        }
        assert!(found(&[]).len() == 2 && found(&packets()[1..]).len() == 1);
    }

    #[test]
    fn a_report_with_any_fault_is_refused() {
        let good = json!({
            "down": { "records": 12 }, "echo": { "ok": 12, "lost": 0, "duplicate": 0, "corrupted": 0, "reordered": 3 },
            "received": { "bad": 0, "unexpected": 0 }
        });
        assert_eq!(report_faults(&good, 12), [""; 0]);
        for (place, wrong) in [
            ("/down/records", 11),
            ("/echo/ok", 11),
            ("/echo/lost", 1),
            ("/echo/duplicate", 1),
            ("/echo/corrupted", 1),
            ("/received/bad", 1),
            ("/received/unexpected", 1),
        ] {
            let mut report = good.clone();
            *report.pointer_mut(place).unwrap() = wrong.into();
            assert_eq!(report_faults(&report, 12).len(), 1, "{place}");
        }
        assert_eq!(report_faults(&json!({}), 12).len(), 7);
    }
}
