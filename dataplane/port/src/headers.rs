//! Ethernet to UDP headers of a raw port: read on receive, written in place on transmit.

use frame::{Class, Datagram, Frame, Peer, PortId, Vlan};
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
#[inline]
pub fn receive(mut frame: Frame, port: PortId, local: &Local, verify: Verify) -> Result<Datagram, Refused> {
    if let Some(head) = frame.data().first_chunk::<PLAIN>()
        && is_plain(head, local)
        && (verify == Verify::Nic || is_right(frame.data(), local))
    {
        let ip = [head[26], head[27], head[28], head[29]];
        let mac = [head[6], head[7], head[8], head[9], head[10], head[11]];
        let peer = Peer::ipv4(port, ip, u16::from_be_bytes([head[34], head[35]]), Vlan::UNTAGGED, mac);
        let ce = head[15] & 3 == ECN_CE;
        let segment = usize::from(u16::from_be_bytes([head[38], head[39]]));
        if frame.narrow(PLAIN, segment.wrapping_sub(udp::HEADER_LEN)) {
            return Ok(Datagram { frame, peer, records: 0, class: Class::Link, ce });
        }
    }
    receive_any(frame, port, local, verify)
}

/// Whether this is the usual packet: no tag, no IP options, not a fragment, lengths that agree, for us.
/// Branchless: on the usual packet all of it is looked at anyway.
#[inline]
fn is_plain(head: &[u8; PLAIN], local: &Local) -> bool {
    let eight = |at: usize| u64::from_be_bytes(*head[at..].first_chunk().expect("eight bytes of the headers"));
    // Type and version with header length; the fragment bits but DF, and the protocol; address and UDP port.
    let kind = eight(12) & 0xffff_ff00_0000_0000 == (ethernet::IPV4 as u64) << 48 | 0x45 << 40;
    let whole = eight(20) & 0x3fff_00ff_0000_0000 == (ipv4::UDP as u64) << 32;
    let [a, b, c, d] = local.ip;
    let [e, f] = local.udp_port.to_be_bytes();
    let ours = eight(30) & 0xffff_ffff_0000_ffff == u64::from_be_bytes([a, b, c, d, 0, 0, e, f]);
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let segment = usize::from(u16::from_be_bytes([head[38], head[39]]));
    // That the segment has a header and is inside the frame is seen when the frame is narrowed to it.
    kind & whole & ours & (total == segment + ipv4::HEADER_LEN)
}

/// Whether the checksums of the usual packet are right.
#[inline]
fn is_right(bytes: &[u8], local: &Local) -> bool {
    let (Some(ip), Some(head)) = (bytes.get(14..34), bytes.first_chunk::<PLAIN>()) else { return false };
    let segment = usize::from(u16::from_be_bytes([head[38], head[39]]));
    let Some(segment) = bytes.get(34..34 + segment) else { return false };
    let source = [head[26], head[27], head[28], head[29]];
    checksum::fold(checksum::sum(ip)) == 0 && (head[40..42] == [0, 0] || udp::verify(source, local.ip, segment))
}

/// Every packet that is not usual: tagged, with options, or to be refused by name.
#[cold]
#[inline(never)]
fn receive_any(mut frame: Frame, port: PortId, local: &Local, verify: Verify) -> Result<Datagram, Refused> {
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
    Ok(Datagram { frame, peer, records: 0, class: Class::Link, ce: read.ecn == ECN_CE })
}

/// Why a datagram cannot be given headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The peer's address is not IPv4.
    Address,
    /// The headroom is too small, or the packet would be larger than the MTU or than an IP packet can be.
    Size,
}

/// Whether [`write()`] can give a datagram headers, and the packet is no larger than `mtu`.
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
    use frame::{Hugepages, Pool, PoolConfig};

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
            let received = receive(datagram.frame, PortId(0), &there, Verify::Software).unwrap();
            assert_eq!(received.peer, Peer::ipv4(PortId(0), here.ip, here.udp_port, vlan, here.mac));
            assert_eq!((received.frame.data(), received.ce), (&b"some payload"[..], true));
        }
    }

    #[test]
    fn what_is_not_for_us_or_broken_is_refused() {
        let pool = Pool::new(PoolConfig { frames: 8, hugepages: Hugepages::Never, ..PoolConfig::default() }).unwrap();
        let here = Local { mac: [2, 0, 0, 0, 0, 1], ip: [192, 0, 2, 1], udp_port: 9999 };
        let sent = |change: &dyn Fn(&mut Frame)| {
            let mut frame = pool.alloc().unwrap();
            assert!(frame.append(b"some payload"));
            let peer = Peer::ipv4(PortId(0), here.ip, 9999, Vlan::UNTAGGED, here.mac);
            let mut datagram = Datagram::new(frame, peer, Class::Down, 1);
            write(&mut datagram, &here, 9999).unwrap();
            change(&mut datagram.frame);
            datagram.frame
        };
        let refused =
            |frame: Frame, local: &Local, verify: Verify| receive(frame, PortId(0), local, verify).unwrap_err();
        let other = Local { ip: [192, 0, 2, 9], ..here };
        assert_eq!(refused(sent(&|_| ()), &other, Verify::Software), Refused::NotOurs);
        let break_payload = |frame: &mut Frame| frame.data_mut()[45] ^= 1;
        assert_eq!(refused(sent(&break_payload), &here, Verify::Software), Refused::Checksum);
        assert!(receive(sent(&break_payload), PortId(0), &here, Verify::Nic).is_ok());
        let break_ip = |frame: &mut Frame| frame.data_mut()[22] ^= 1;
        assert_eq!(
            refused(sent(&break_ip), &here, Verify::Software),
            Refused::Malformed(wire::net::NetError::IpChecksum)
        );
        let longer_than_the_packet = |frame: &mut Frame| frame.data_mut()[17] += 1;
        assert!(matches!(refused(sent(&longer_than_the_packet), &here, Verify::Nic), Refused::Malformed(_)));
        assert!(matches!(refused(sent(&|frame| frame.truncate(41)), &here, Verify::Nic), Refused::Malformed(_)));
        assert_eq!(pool.in_use(), 0);
    }
}
