//! Headers around a datagram. Its port removed the real ones, or never saw them, if it is a socket.
//!
//! They are made from what the port knows about the peer and about itself, in the form that `docs/wire-format.md`
//! describes for transmit: DF, id 0, TTL 64, CE if the datagram had it, the peer's tag. Unknown fields are zero:
//! Ethernet addresses of sockets, and the own address of a socket that is bound to any address. The UDP checksum is
//! real if the whole datagram is there, else zero.

use frame::Peer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::net::{UdpSpec, checksum, emit_udp4, ipv4, udp_checksum};

/// The most header bytes: Ethernet with a tag, IPv6, UDP.
pub const MAX_HEADERS: usize = 18 + 40 + 8;

/// Ethernet type of IPv6.
const IPV6: u16 = 0x86dd;
/// Ethernet type of an 802.1Q tag.
const DOT1Q: u16 = 0x8100;
/// Bytes of a UDP header.
const UDP: usize = 8;

/// A datagram, as its port gave or took it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Whether it was received.
    pub received: bool,
    /// The port's own end, if it has one.
    pub own: Option<Peer>,
    /// Where it came from or went to.
    pub peer: Peer,
    /// Whether it had ECN's Congestion Experienced mark.
    pub ce: bool,
    /// The first bytes of the datagram, or all.
    pub bytes: &'a [u8],
    /// Length of the datagram.
    pub len: usize,
}

/// One end; unknown fields are zero.
#[derive(Clone, Copy)]
struct End {
    mac: [u8; 6],
    port: u16,
}

/// Headers of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    bytes: [u8; MAX_HEADERS],
    at: usize,
}

impl Headers {
    /// Makes the headers.
    pub fn of(packet: &Packet<'_>) -> Self {
        let own =
            packet.own.map_or(End { mac: [0; 6], port: 0 }, |own| End { mac: own.mac, port: own_port(packet, &own) });
        let peer = End { mac: packet.peer.mac, port: packet.peer.udp_port };
        let (from, to) = if packet.received { (peer, own) } else { (own, peer) };
        let mut headers = Self { bytes: [0; MAX_HEADERS], at: MAX_HEADERS };
        let done = match packet.peer.ip() {
            IpAddr::V4(peer) => headers.ipv4(packet, from, to, peer),
            IpAddr::V6(peer) => headers.ipv6(packet, from, to, peer),
        };
        // A datagram that is too long for an IP packet gets no headers. No port has such datagrams.
        if done.is_none() {
            headers.at = MAX_HEADERS;
        }
        headers
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    fn ipv4(&mut self, packet: &Packet<'_>, from: End, to: End, peer: Ipv4Addr) -> Option<()> {
        let own = match packet.own.map(|own| own.ip()) {
            Some(IpAddr::V4(own)) => own,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let (src, dst) = if packet.received { (peer, own) } else { (own, peer) };
        let (src_ip, dst_ip) = (src.octets(), dst.octets());
        let whole = packet.bytes.len() == packet.len;
        let spec = UdpSpec {
            vlan: packet.peer.vlan.vid(),
            src_mac: from.mac,
            dst_mac: to.mac,
            src_ip,
            dst_ip,
            src_port: from.port,
            dst_port: to.port,
            ecn: if packet.ce { ipv4::ECN_CE } else { 0 },
            checksum: if whole { udp_checksum(src_ip, dst_ip, from.port, to.port, packet.bytes) } else { 0 },
        };
        let len = emit_udp4(&spec, packet.len, &mut self.bytes)?;
        self.at = MAX_HEADERS - len;
        Some(())
    }

    /// Puts bytes before those that are there.
    fn prepend(&mut self, bytes: &[u8]) -> Option<()> {
        let at = self.at.checked_sub(bytes.len())?;
        self.bytes.get_mut(at..self.at)?.copy_from_slice(bytes);
        self.at = at;
        Some(())
    }

    fn ipv6(&mut self, packet: &Packet<'_>, from: End, to: End, peer: Ipv6Addr) -> Option<()> {
        let own = match packet.own.map(|own| own.ip()) {
            Some(IpAddr::V6(own)) => own,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let (src, dst) = if packet.received { (peer, own) } else { (own, peer) };
        let len = u16::try_from(packet.len.checked_add(UDP)?).ok()?;
        let sum = match packet.bytes.len() == packet.len {
            true => udp6_checksum(src, dst, from.port, to.port, len, packet.bytes),
            false => 0,
        };
        for word in [sum, len, to.port, from.port] {
            self.prepend(&word.to_be_bytes())?;
        }
        self.prepend(&dst.octets())?;
        self.prepend(&src.octets())?;
        self.prepend(&[ipv4::UDP, ipv4::DEFAULT_TTL])?;
        self.prepend(&len.to_be_bytes())?;
        // Version 6; the ECN bits are the lowest of the traffic class.
        let class = if packet.ce { u32::from(ipv4::ECN_CE) } else { 0 };
        self.prepend(&(6 << 28 | class << 20).to_be_bytes())?;
        self.prepend(&IPV6.to_be_bytes())?;
        if let Some(vid) = packet.peer.vlan.vid() {
            self.prepend(&vid.to_be_bytes())?;
            self.prepend(&DOT1Q.to_be_bytes())?;
        }
        self.prepend(&from.mac)?;
        self.prepend(&to.mac)
    }
}

/// The UDP port of the own end: raw ports send cargo from the port of its lane.
fn own_port(packet: &Packet<'_>, own: &Peer) -> u16 {
    let lane = packet.peer.source_port;
    if packet.received || lane == 0 || own.mac == [0; 6] { own.udp_port } else { lane }
}

fn udp6_checksum(src: Ipv6Addr, dst: Ipv6Addr, src_port: u16, dst_port: u16, len: u16, bytes: &[u8]) -> u16 {
    let pseudo = checksum::sum(&src.octets()) + checksum::sum(&dst.octets());
    let pseudo = pseudo + checksum::word(len) + checksum::word(u16::from(ipv4::UDP));
    let header = checksum::word(src_port) + checksum::word(dst_port) + checksum::word(len);
    match checksum::fold(pseudo + header + checksum::sum(bytes)) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{PortId, Vlan};
    use wire::net::{parse_udp4, verify_udp4};

    const BYTES: &[u8] = b"a datagram of some bytes";

    fn whole(received: bool, own: Option<Peer>, peer: Peer) -> Vec<u8> {
        let packet = Packet { received, own, peer, ce: true, bytes: BYTES, len: BYTES.len() };
        [Headers::of(&packet).bytes(), BYTES].concat()
    }

    #[test]
    fn a_raw_port_shows_both_ends_as_on_the_wire() {
        let own = Peer::ipv4(PortId(0), [192, 0, 2, 1], 9999, Vlan::UNTAGGED, [2, 0, 0, 0, 0, 1]);
        let peer = Peer::ipv4(PortId(0), [192, 0, 2, 7], 49_169, Vlan::tagged(5), [2, 0, 0, 0, 0, 7]);
        let frame = whole(true, Some(own), peer);
        let read = parse_udp4(&frame).unwrap();
        assert_eq!((read.src_mac, read.dst_mac, read.vlan, read.ecn), (peer.mac, own.mac, Some(5), 3));
        assert_eq!((read.src_ip, read.src_port), ([192, 0, 2, 7], 49_169));
        assert_eq!((read.dst_ip, read.dst_port, read.payload.len()), ([192, 0, 2, 1], 9999, BYTES.len()));
        assert!(verify_udp4(&frame, &read));
        let frame = whole(false, Some(own), peer);
        let read = parse_udp4(&frame).unwrap();
        assert_eq!((read.src_mac, read.dst_mac, read.src_port, read.dst_port), (own.mac, peer.mac, 9999, 49_169));
        assert!(verify_udp4(&frame, &read));
        // Cargo leaves from the port of its lane, but not through a socket.
        let mut laned = peer;
        laned.source_port = 49_152;
        assert_eq!(parse_udp4(&whole(false, Some(own), laned)).unwrap().src_port, 49_152);
        assert_eq!(parse_udp4(&whole(true, Some(own), laned)).unwrap().dst_port, 9999);
        let socket = Peer::socket(PortId(0), own.address());
        assert_eq!(parse_udp4(&whole(false, Some(socket), laned)).unwrap().src_port, 9999);
    }

    #[test]
    fn what_is_not_known_is_zero() {
        let peer = Peer::socket(PortId(0), "192.0.2.7:7".parse().unwrap());
        let read = parse_udp4(&whole(false, None, peer)).unwrap();
        assert_eq!((read.src_ip, read.src_port, read.src_mac, read.dst_mac), ([0; 4], 0, [0; 6], [0; 6]));
        let cut = Packet { received: true, own: None, peer, ce: false, bytes: &BYTES[..4], len: BYTES.len() };
        let headers = Headers::of(&cut);
        assert_eq!(headers.bytes()[38..42], [0, 32, 0, 0], "the length is the datagram's, the checksum is left out");
        let absurd = Packet { len: 70_000, ..cut };
        assert!(Headers::of(&absurd).bytes().is_empty());
    }

    #[test]
    fn ipv6_sums_up() {
        let own = Peer::socket(PortId(0), "[2001:db8::1]:9999".parse().unwrap());
        let peer = Peer::socket(PortId(0), "[2001:db8::2]:5".parse().unwrap());
        let frame = whole(true, Some(own), peer);
        assert_eq!(frame.len(), 14 + 40 + 8 + BYTES.len());
        assert_eq!(frame[12..18], [0x86, 0xdd, 0x60, 0x30, 0, 0]);
        assert_eq!(frame[18..22], [0, 32, 17, 64]);
        assert_eq!((&frame[22..38], &frame[38..54]), (&peer.ip_octets()[..], &own.ip_octets()[..]));
        assert_eq!(frame[54..60], [0, 5, 0x27, 0x0f, 0, 32]);
        // Pseudo-header and segment, including the checksum, sum to zero.
        let pseudo = [&frame[22..54], &[0, 32, 0, 17]].concat();
        assert_eq!(checksum::fold(checksum::sum(&pseudo) + checksum::sum(&frame[54..])), 0);
        let mut peer = peer;
        peer.vlan = Vlan::tagged(0);
        let tagged = whole(true, Some(own), peer);
        assert_eq!(tagged[12..18], [0x81, 0, 0, 0, 0x86, 0xdd]);
    }
}
