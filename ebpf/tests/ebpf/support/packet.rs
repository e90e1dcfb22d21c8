//! Packets, the program that takes them, and their verdicts, by BPF_PROG_TEST_RUN. All of it is without `unsafe`, so
//! that tests of other crates can use it as well.
#![allow(dead_code, reason = "each test crate uses its own part")]

use aya::programs::{TestRun as _, TestRunOptions};
use ebpf::{Config, Steer, SteerError, UNTAGGED, VLAN_WORDS, Verdict};
use std::io::{self, Write as _};
use wire::net::{checksum, parse_udp4, verify_udp4};
use wire::{Scale, Shard, ShardSet};

pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;
pub(crate) const REDIRECT: u32 = 4;

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);

/// 10.0.0.17:49169 to 10.0.0.1:9999 at [`MAC`], TTL 64: an ECHO of slave 17 with 3 bytes.
pub(crate) const PACKET: &[u8] = &[
    0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 0x08, 0x00, 0x45, 0x00, 0x00, 0x36, 0x00,
    0x00, 0x40, 0x00, 0x40, 0x11, 0x26, 0xa6, 0x0a, 0x00, 0x00, 0x11, 0x0a, 0x00, 0x00, 0x01, 0xc0, 0x11, 0x27, 0x0f,
    0x00, 0x22, 0x8c, 0xf0, 0x58, 0x4d, 0x56, 0x47, 0x10, 0x00, 0x11, 0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x78, 0x79, 0x7a,
];

/// A set of VLANs: no tag, 1, 5, 7 and 4094.
pub(crate) const VLANS: [u32; VLAN_WORDS] = {
    let mut words = UNTAGGED;
    words[0] |= 1 << 1 | 1 << 5 | 1 << 7;
    words[127] = 1 << 30;
    words
};

/// The offsets of headers and fields in [`PACKET`].
pub(crate) const IP: usize = 14;
pub(crate) const TTL: usize = IP + 8;
pub(crate) const UDP: usize = IP + 20;
pub(crate) const UDP_CHECKSUM: usize = UDP + 6;
pub(crate) const RECORD: usize = UDP + 8;
pub(crate) const MSG_TYPE: usize = RECORD + wire::record::offset::MSG_TYPE;
pub(crate) const SLAVE_ID: usize = RECORD + wire::record::offset::SLAVE_ID;
pub(crate) const PAYLOAD_LEN: usize = RECORD + wire::record::offset::PAYLOAD_LEN;

/// Says why tests are left out, also when the output of passing tests is captured. With GVM_TESTS=require it is a
/// failure.
pub(crate) fn skip(reason: impl std::fmt::Display) {
    assert!(std::env::var("GVM_TESTS").as_deref() != Ok("require"), "GVM_TESTS=require, but {reason}");
    let _ = writeln!(io::stderr(), "SKIPPED: {reason}");
}

/// A program that takes packets to [`MAC`] and [`ADDRESS`], or `None` without the capabilities.
pub(crate) fn load(config: &Config<'_>) -> Option<Steer> {
    let mut steer = match Steer::load(config) {
        Ok(steer) => steer,
        Err(error @ SteerError::Permission(_)) => {
            skip(error);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    steer.set_mac(MAC).unwrap();
    steer.set_addresses(&[ADDRESS]).unwrap();
    Some(steer)
}

/// The shards of a default scale that the tests' gateway serves.
pub(crate) fn shards() -> ShardSet {
    ShardSet::new(Scale::default(), &[Shard(0), Shard(15)]).unwrap()
}

/// A copy of a packet with some bytes changed.
pub(crate) fn with(packet: &[u8], changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    for &(at, bytes) in changes {
        packet[at..at + bytes.len()].copy_from_slice(bytes);
    }
    packet
}

/// The same, with a right IP header checksum.
pub(crate) fn sealed(packet: &[u8], changes: &[(usize, &[u8])]) -> Vec<u8> {
    let packet = with(packet, changes);
    let header = with(&packet[IP..UDP], &[(10, &[0, 0])]);
    with(&packet, &[(IP + 10, &checksum::fold(checksum::sum(&header)).to_be_bytes())])
}

/// With an 802.1Q tag.
pub(crate) fn tagged(packet: &[u8], tci: u16) -> Vec<u8> {
    [&packet[..12], &[0x81, 0], &tci.to_be_bytes(), &packet[12..]].concat()
}

/// Whether the headers of a packet are right, checksums and all.
pub(crate) fn is_sound(packet: &[u8]) -> bool {
    parse_udp4(packet).is_ok_and(|parsed| verify_udp4(packet, &parsed))
}

/// What the program returned, its verdict, and the packet afterwards; `context` is an `xdp_md`.
pub(crate) fn run_in(steer: &mut Steer, packet: &[u8], context: Option<&[u8]>) -> (u32, Verdict, Vec<u8>) {
    let count = |steer: &Steer| Verdict::ALL.map(|verdict| steer.packets(verdict).unwrap());
    let before = count(steer);
    let mut after = vec![0; packet.len()];
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut after),
        ctx_in: context,
        ..TestRunOptions::default()
    };
    let result = steer.program().unwrap().test_run(options).unwrap();
    assert_eq!(result.data_size_out as usize, packet.len());
    let now = count(steer);
    let changed: Vec<_> = Verdict::ALL.into_iter().filter(|&v| now[v as usize] != before[v as usize]).collect();
    let [verdict] = changed[..] else { panic!("one verdict for one packet, not {changed:?}") };
    assert_eq!(now[verdict as usize], before[verdict as usize] + 1);
    (result.return_value, verdict, after)
}

/// The same for a packet that came in on queue 0 of the loopback interface.
pub(crate) fn run(steer: &mut Steer, packet: &[u8]) -> (u32, Verdict, Vec<u8>) {
    run_in(steer, packet, None)
}

/// An `xdp_md` for a packet of this length that came in on this interface and queue.
pub(crate) fn context(len: usize, ifindex: u32, queue: u32) -> Vec<u8> {
    [0, len as u32, 0, ifindex, queue, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
}
