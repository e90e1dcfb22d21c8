//! Datagrams from a file of `gvm-dp capture`, with as much of pcapng as that needs.

use std::net::{Ipv4Addr, SocketAddrV4};
use wire::net::parse_udp4;

/// The type of a block with a packet.
const ENHANCED_PACKET: u32 = 6;
/// Bytes before the packet in such a block, and before its length.
const PACKET_AT: usize = 28;
const LENGTH_AT: usize = 20;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub payload: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// All datagrams over IPv4 in a file, in their order.
pub(crate) fn datagrams(file: &[u8]) -> Vec<Datagram> {
    let (mut found, mut rest) = (Vec::new(), file);
    while let (Some(kind), Some(len)) = (word(rest, 0), word(rest, 4)) {
        let Some((block, after)) = rest.split_at_checked((len as usize).max(12)) else { break };
        rest = after;
        if kind != ENHANCED_PACKET {
            continue;
        }
        let packet = word(block, LENGTH_AT).and_then(|len| block.get(PACKET_AT..PACKET_AT + len as usize));
        let Some(packet) = packet else { continue };
        let Ok(read) = parse_udp4(packet) else { continue };
        let payload = packet.get(read.payload.clone()).unwrap_or_default().to_vec();
        let end = |ip: [u8; 4], port| SocketAddrV4::new(Ipv4Addr::from(ip), port);
        found.push(Datagram { from: end(read.src_ip, read.src_port), to: end(read.dst_ip, read.dst_port), payload });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::net::{UdpSpec, emit_udp4, headers_len};

    #[test]
    fn datagrams_are_found_among_other_blocks() {
        let (src_ip, dst_ip) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let spec = UdpSpec {
            vlan: None,
            src_mac: [0; 6],
            dst_mac: [0; 6],
            src_ip,
            dst_ip,
            src_port: 9999,
            dst_port: 7,
            ecn: 0,
            checksum: 0,
        };
        let mut packet = vec![0; headers_len(false)];
        emit_udp4(&spec, 3, &mut packet).unwrap();
        packet.extend(b"abc");
        let block = |kind: u32, body: &[u8]| {
            let len = (body.len().next_multiple_of(4) + 12) as u32;
            let mut block = [&kind.to_le_bytes()[..], &len.to_le_bytes(), body].concat();
            block.resize(len as usize - 4, 0);
            [block, len.to_le_bytes().to_vec()].concat()
        };
        let len = (packet.len() as u32).to_le_bytes();
        let body = [&[0; 12][..], &len, &len, &packet].concat();
        let file = [block(0x0a0d_0d0a, &[1; 16]), block(6, &body), block(5, &[0; 8]), block(6, &body)].concat();
        let from = SocketAddrV4::new(src_ip.into(), 9999);
        let expected = Datagram { from, to: SocketAddrV4::new(dst_ip.into(), 7), payload: b"abc".to_vec() };
        assert_eq!(datagrams(&file), [expected.clone(), expected]);
        // A file that was cut ends where it is whole.
        assert_eq!(datagrams(&file[..file.len() - 1]).len(), 1);
        assert_eq!(datagrams(&[0; 40]).len(), 0);
    }
}
