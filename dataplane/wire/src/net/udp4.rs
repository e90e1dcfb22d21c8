//! All headers of a UDP datagram over IPv4 over Ethernet at once: what runs for every datagram.

use super::ethernet::{self, Ethernet};
use super::ipv4::{self, Ipv4};
use super::udp::{self, Udp};
use super::{Ip4, Mac, NetError, checksum};
use core::ops::Range;

/// The most header bytes that [`emit_udp4`] writes: Ethernet with a tag, IPv4, UDP.
pub const MAX_HEADERS: usize = headers_len(true);

/// Header bytes that [`emit_udp4`] writes before a datagram.
#[inline]
pub const fn headers_len(tagged: bool) -> usize {
    let tag = if tagged { ethernet::TAG_LEN } else { 0 };
    ethernet::HEADER_LEN + tag + ipv4::HEADER_LEN + udp::HEADER_LEN
}

/// The checksum of a received datagram, not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// The sender gave none.
    Zero,
    /// To be verified, by the NIC or with [`verify_udp4`].
    Value(u16),
}

/// What the headers of a frame with a UDP datagram say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFrame {
    /// The tag control information of the 802.1Q tag, if there is one.
    pub vlan: Option<u16>,
    /// The sender's Ethernet address.
    pub src_mac: Mac,
    /// The receiver's Ethernet address.
    pub dst_mac: Mac,
    /// The sender's IP address.
    pub src_ip: Ip4,
    /// The receiver's IP address.
    pub dst_ip: Ip4,
    /// The sender's UDP port.
    pub src_port: u16,
    /// The receiver's UDP port.
    pub dst_port: u16,
    /// The ECN bits of the IP header.
    pub ecn: u8,
    /// Where the datagram stands in the frame.
    pub payload: Range<usize>,
    /// The UDP checksum.
    pub checksum: UdpChecksum,
}

/// Reads the headers of a frame with a whole UDP datagram.
///
/// Everything is checked but addresses, ports and the UDP checksum. Fragments are refused.
#[inline]
pub fn parse_udp4(frame: &[u8]) -> Result<UdpFrame, NetError> {
    let (ethernet, packet) = Ethernet::parse(frame)?;
    if ethernet.ethertype != ethernet::IPV4 {
        return Err(NetError::EtherType);
    }
    let (ip, segment_at) = Ipv4::parse(packet)?;
    if ip.is_fragment() {
        return Err(NetError::Fragment);
    }
    if ip.protocol != ipv4::UDP {
        return Err(NetError::Protocol);
    }
    let at = ethernet.header_len() + segment_at.start;
    let segment = packet.get(segment_at).ok_or(NetError::IpTotalLen)?;
    let (udp, payload) = Udp::parse(segment)?;
    Ok(UdpFrame {
        vlan: ethernet.vlan,
        src_mac: ethernet.src,
        dst_mac: ethernet.dst,
        src_ip: ip.src,
        dst_ip: ip.dst,
        src_port: udp.src_port,
        dst_port: udp.dst_port,
        ecn: ip.ecn,
        payload: at + payload.start..at + payload.end,
        checksum: if udp.checksum == 0 { UdpChecksum::Zero } else { UdpChecksum::Value(udp.checksum) },
    })
}

/// Whether the UDP checksum of `frame` is zero or right; `parsed` is what [`parse_udp4`] read from it.
#[inline]
pub fn verify_udp4(frame: &[u8], parsed: &UdpFrame) -> bool {
    match parsed.checksum {
        UdpChecksum::Zero => true,
        UdpChecksum::Value(_) => {
            let segment = parsed.payload.start.checked_sub(udp::HEADER_LEN).map(|at| at..parsed.payload.end);
            segment.and_then(|at| frame.get(at)).is_some_and(|s| udp::verify(parsed.src_ip, parsed.dst_ip, s))
        }
    }
}

/// What the headers of a datagram to be sent shall say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSpec {
    /// The tag control information of an 802.1Q tag, or no tag.
    pub vlan: Option<u16>,
    /// The sender's Ethernet address.
    pub src_mac: Mac,
    /// The next hop's Ethernet address.
    pub dst_mac: Mac,
    /// The sender's IP address.
    pub src_ip: Ip4,
    /// The receiver's IP address.
    pub dst_ip: Ip4,
    /// The sender's UDP port.
    pub src_port: u16,
    /// The receiver's UDP port.
    pub dst_port: u16,
    /// The ECN bits of the IP header.
    pub ecn: u8,
    /// The UDP checksum: of [`udp_checksum`], or what the NIC wants to find there.
    pub checksum: u16,
}

/// Writes the headers of a datagram of `payload_len` bytes at the *end* of `headroom`, and returns their length.
///
/// IPv4 with DF, id 0, TTL 64. `None` when the headroom is shorter than [`headers_len`], or the datagram longer
/// than an IP packet can be.
#[inline]
pub fn emit_udp4(spec: &UdpSpec, payload_len: usize, headroom: &mut [u8]) -> Option<usize> {
    let udp = Udp { src_port: spec.src_port, dst_port: spec.dst_port, checksum: spec.checksum };
    let ip = Ipv4::new(spec.src_ip, spec.dst_ip, ipv4::UDP, spec.ecn);
    let ethernet = Ethernet { dst: spec.dst_mac, src: spec.src_mac, vlan: spec.vlan, ethertype: ethernet::IPV4 };
    let ip = ip.to_bytes(payload_len.checked_add(udp::HEADER_LEN)?)?;
    let udp = udp.to_bytes(payload_len)?;
    let len = headers_len(spec.vlan.is_some());
    let at = headroom.len().checked_sub(len)?;
    let rest = headroom.get_mut(at..)?;
    let (head, rest) = rest.split_at_mut_checked(ethernet.header_len())?;
    ethernet.emit(head)?;
    let (head, rest) = rest.split_first_chunk_mut()?;
    *head = ip;
    *rest.first_chunk_mut()? = udp;
    Some(len)
}

/// The UDP checksum of a datagram; never 0, which would mean that there is none.
///
/// `payload` is at most 65,507 bytes, as IPv4 demands: [`emit_udp4`] refuses a longer one.
#[inline]
pub fn udp_checksum(src_ip: Ip4, dst_ip: Ip4, src_port: u16, dst_port: u16, payload: &[u8]) -> u16 {
    let len = (payload.len() + udp::HEADER_LEN) as u16;
    let header = checksum::word(src_port) + checksum::word(dst_port) + checksum::word(len);
    match checksum::fold(checksum::pseudo_header(src_ip, dst_ip, ipv4::UDP, len) + header + checksum::sum(payload)) {
        0 => 0xffff,
        sum => sum,
    }
}
