//! The program's verdicts on whole packets, by BPF_PROG_TEST_RUN. Needs CAP_BPF and CAP_NET_ADMIN.

use std::io::Write as _;

use aya::programs::{TestRun, TestRunOptions};
use ebpf::{Steer, SteerError, Verdict};
use wire::net::{UdpSpec, emit_udp4, udp_checksum};

const PASS: u32 = 2;
const DROP: u32 = 1;

/// A loaded program, or `None` without the capabilities; with GVM_TESTS=require that is a failure.
fn steer() -> Option<Steer> {
    match Steer::load(9999) {
        Ok(steer) => Some(steer),
        Err(error @ SteerError::Permission(_)) if std::env::var("GVM_TESTS").as_deref() != Ok("require") => {
            // Past the capture of a passing test's output.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn packet(vlan: Option<u16>, dst_port: u16) -> Vec<u8> {
    let (src_ip, dst_ip, payload) = ([10, 0, 0, 2], [10, 0, 0, 1], b"payload");
    let checksum = udp_checksum(src_ip, dst_ip, 49152, dst_port, payload);
    let (src_mac, dst_mac) = ([2; 6], [4; 6]);
    let spec = UdpSpec { vlan, src_mac, dst_mac, src_ip, dst_ip, src_port: 49152, dst_port, ecn: 0, checksum };
    let mut headers = [0; 64];
    let len = emit_udp4(&spec, payload.len(), &mut headers).unwrap();
    [&headers[64 - len..], payload].concat()
}

/// Changes bytes of a packet, to make another kind of it.
fn with(mut packet: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, byte) in changes {
        packet[at] = byte;
    }
    packet
}

#[test]
fn each_packet_has_its_verdict_and_is_counted_once() {
    let Some(mut steer) = steer() else { return };
    let options = with(packet(None, 9999), &[(14, 0x46)]);
    let options = [&options[..34], &[1, 1, 1, 1], &options[34..]].concat();
    let cases = [
        // No queue has a socket here: a packet for us is dropped and says so.
        (packet(None, 9999), DROP, Verdict::DropNoSocket),
        (packet(Some(7), 9999), DROP, Verdict::DropNoSocket),
        (options, DROP, Verdict::DropNoSocket),
        (packet(None, 53), PASS, Verdict::PassPort),
        (packet(Some(7), 9998), PASS, Verdict::PassPort),
        (with(packet(None, 9999), &[(12, 0x08), (13, 0x06)]), PASS, Verdict::PassEthertype),
        (with(packet(Some(7), 9999), &[(16, 0x81), (17, 0x00)]), PASS, Verdict::PassEthertype),
        (with(packet(None, 9999), &[(23, 6)]), PASS, Verdict::PassProtocol),
        (with(packet(None, 9999), &[(14, 0x44)]), PASS, Verdict::PassProtocol),
        (with(packet(None, 9999), &[(14, 0x65)]), PASS, Verdict::PassProtocol),
        (with(packet(None, 9999), &[(20, 0x20)]), PASS, Verdict::PassFragment),
        (with(packet(None, 9999), &[(20, 0), (21, 1)]), PASS, Verdict::PassFragment),
        (packet(None, 9999)[..41].to_vec(), PASS, Verdict::PassTruncated),
        (packet(None, 9999)[..33].to_vec(), PASS, Verdict::PassTruncated),
        (packet(Some(7), 9999)[..17].to_vec(), PASS, Verdict::PassTruncated),
    ];
    for (i, (packet, action, verdict)) in cases.iter().enumerate() {
        let before = Verdict::ALL.map(|verdict| steer.packets(verdict).unwrap());
        let options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
        let result = steer.program().unwrap().test_run(options).unwrap();
        assert_eq!(result.return_value, *action, "case {i}");
        let after = Verdict::ALL.map(|verdict| steer.packets(verdict).unwrap());
        for other in Verdict::ALL {
            let change = after[other as usize] - before[other as usize];
            assert_eq!(change, u64::from(other == *verdict), "case {i}: {}", other.name());
        }
    }
}

#[test]
fn the_port_is_the_loaders() {
    if steer().is_none() {
        return;
    }
    let mut steer = Steer::load(4000).unwrap();
    for (port, action) in [(4000, DROP), (9999, PASS)] {
        let packet = packet(None, port);
        let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
        assert_eq!(steer.program().unwrap().test_run(options).unwrap().return_value, action);
    }
}

#[test]
fn errors_say_what_to_do() {
    let Some(mut steer) = steer() else { return };
    let error = steer.attach("no-such-if", ebpf::Hook::Driver).unwrap_err().to_string();
    assert!(error.contains("`no-such-if`") && error.contains("`ip -brief link` lists them"), "{error}");
    let error = steer.clear_socket(ebpf::MAX_QUEUES).unwrap_err().to_string();
    assert!(error.contains("receive queue 256 is out of range"), "{error}");
}
