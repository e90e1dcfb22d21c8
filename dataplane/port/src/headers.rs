//! Ethernet to UDP headers of a raw port: read on receive, written in place on transmit.

use frame::{Datagram, Frame, Peer, PortId, Vlan};
use wire::net::ipv4::{self, ECN_CE};
use wire::net::{NetError, UdpSpec, checksum, emit_udp4, ethernet, parse_udp4, udp, udp_checksum, verify_udp4};

/// Bytes of Ethernet, IPv4 and UDP headers without a tag and without options.
const PLAIN: usize = wire::net::headers_len(false);

/// What a raw port answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ip: [u8; 4],
    /// The UDP port it listens on and sends from.
    pub udp_port: u16,
}

/// Who verifies UDP checksums on receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The NIC did already.
    Nic,
    /// This code does.
    Software,
}

/// Why a received frame is not a datagram for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The headers are malformed, or not UDP over IPv4.
    Malformed(NetError),
    /// Another address or UDP port.
    NotOurs,
    /// The UDP checksum is wrong.
    Checksum,
}

/// Reads the headers of a received frame and takes them off: what is left is exactly the UDP payload.
/// Returns the source, and whether the packet arrived with Congestion Experienced.
#[inline]
pub fn receive(frame: &mut Frame, port: PortId, local: &Local, verify: Verify) -> Result<(Peer, bool), Refused> {
    match receive_plain(frame, port, local, verify) {
        Some(received) => Ok(received),
        None => receive_any(frame, port, local, verify),
    }
}

/// The usual packet: no tag, no IP options, not a fragment, for us, checksums right. `None` says nothing but that
/// [`receive_any`] has to look.
#[inline]
fn receive_plain(frame: &mut Frame, port: PortId, local: &Local, verify: Verify) -> Option<(Peer, bool)> {
    let bytes = frame.data();
    let head: &[u8; PLAIN] = bytes.first_chunk()?;
    let mac = [head[6], head[7], head[8], head[9], head[10], head[11]];
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let quad = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let (total, udp_len) = (usize::from(word(16)), usize::from(word(38)));
    let is_plain = word(12) == ethernet::IPV4
        && head[14] == 0x45
        && word(20) & 0x3fff == 0
        && head[23] == ipv4::UDP
        && total == udp_len + 20
        && udp_len >= 8
        && total + 14 <= bytes.len();
    if !is_plain || quad(30) != local.ip || word(36) != local.udp_port {
        return None;
    }
    if verify == Verify::Software {
        let ip_is_right = checksum::fold(checksum::sum(&head[14..34])) == 0;
        let segment = bytes.get(34..34 + udp_len)?;
        if !ip_is_right || (word(40) != 0 && !udp::verify(quad(26), local.ip, segment)) {
            return None;
        }
    }
    let peer = Peer::ipv4(port, quad(26), word(34), Vlan::UNTAGGED, mac);
    let ce = head[15] & 3 == ECN_CE;
    frame.trim_front(PLAIN);
    frame.truncate(udp_len - 8);
    Some((peer, ce))
}

fn receive_any(frame: &mut Frame, port: PortId, local: &Local, verify: Verify) -> Result<(Peer, bool), Refused> {
    let bytes = frame.data();
    let read = parse_udp4(bytes).map_err(Refused::Malformed)?;
    if read.dst_ip != local.ip || read.dst_port != local.udp_port {
        return Err(Refused::NotOurs);
    }
    if verify == Verify::Software && !verify_udp4(bytes, &read) {
        return Err(Refused::Checksum);
    }
    let vlan = read.vlan.map_or(Vlan::UNTAGGED, Vlan::tagged);
    let peer = Peer::ipv4(port, read.src_ip, read.src_port, vlan, read.src_mac);
    frame.trim_front(read.payload.start);
    frame.truncate(read.payload.len());
    Ok((peer, read.ecn == ECN_CE))
}

/// Why a datagram cannot be given headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The peer's address is not IPv4.
    Address,
    /// The headroom is too small, or the packet would be larger than the MTU or than an IP packet can be.
    Size,
}

/// Whether [`write`] can give a datagram headers, and the packet is no larger than `mtu`.
#[inline]
pub fn check_sendable(datagram: &Datagram, mtu: u16) -> Result<(), Unsendable> {
    if datagram.peer.ipv4_octets().is_none() {
        return Err(Unsendable::Address);
    }
    let packet = datagram.frame.len() + usize::from(wire::IPV4_UDP_LEN);
    if packet > usize::from(mtu) || datagram.frame.headroom() < wire::net::MAX_HEADERS {
        return Err(Unsendable::Size);
    }
    Ok(())
}

/// Writes the headers before a datagram's payload, in place, with a real UDP checksum.
/// `source_port` is [`Local::udp_port`] or a lane's port.
#[inline]
pub fn write(datagram: &mut Datagram, local: &Local, source_port: u16) -> Result<(), Unsendable> {
    let Datagram { frame, peer, ce, .. } = datagram;
    let Some(dst_ip) = peer.ipv4_octets() else { return Err(Unsendable::Address) };
    let spec = UdpSpec {
        vlan: peer.vlan.vid(),
        src_mac: local.mac,
        dst_mac: peer.mac,
        src_ip: local.ip,
        dst_ip,
        src_port: source_port,
        dst_port: peer.udp_port,
        ecn: if *ce { ECN_CE } else { 0 },
        checksum: udp_checksum(local.ip, dst_ip, source_port, peer.udp_port, frame.data()),
    };
    let payload = frame.len();
    let len = wire::net::headers_len(spec.vlan.is_some());
    let head = frame.prepend(len).ok_or(Unsendable::Size)?;
    match emit_udp4(&spec, payload, head) {
        Some(_) => Ok(()),
        None => {
            frame.trim_front(len);
            Err(Unsendable::Size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::{Class, Hugepages, Pool, PoolConfig};

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
            write(&mut datagram, &here, here.udp_port).unwrap();
            let mut frame = datagram.frame;
            let (source, ce) = receive(&mut frame, PortId(0), &there, Verify::Software).unwrap();
            assert_eq!(source, Peer::ipv4(PortId(0), here.ip, here.udp_port, vlan, here.mac));
            assert_eq!((frame.data(), ce), (&b"some payload"[..], true));
        }
    }

    #[test]
    fn what_is_not_for_us_or_broken_is_refused() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let mut frame = pool.alloc().unwrap();
        assert!(frame.append(b"some payload"));
        let peer = Peer::ipv4(PortId(0), here.ip, 9999, Vlan::UNTAGGED, here.mac);
        let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
        write(&mut datagram, &here, 9999).unwrap();
        let mut frame = datagram.frame;
        let other = Local { ip: [192, 0, 2, 9], ..here };
        assert_eq!(receive(&mut frame, PortId(0), &other, Verify::Software), Err(Refused::NotOurs));
        frame.data_mut()[45] ^= 1;
        assert_eq!(receive(&mut frame, PortId(0), &here, Verify::Software), Err(Refused::Checksum));
        assert!(receive(&mut frame, PortId(0), &here, Verify::Nic).is_ok());
        assert!(matches!(receive(&mut frame, PortId(0), &here, Verify::Nic), Err(Refused::Malformed(_))));
    }
}
