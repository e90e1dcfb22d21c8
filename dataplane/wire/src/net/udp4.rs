//! All headers of a UDP datagram over IPv4 over Ethernet at once. This code runs for every datagram.

use super::ethernet::{self, Ethernet};
use super::ipv4::{self, Ipv4};
use super::udp::{self, Udp};
use super::{Ip4, Mac, NetError, checksum};
use core::num::NonZeroU16;
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
    /// The sender sent none.
    Zero,
    /// To be verified, by the NIC or with [`verify_udp4`].
    Value(u16),
}

/// The contents of the headers of a frame with a UDP datagram.
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
/// Checks everything except addresses, ports and the UDP checksum. Fragments are refused.
///
/// # Errors
/// It fails as [`Ethernet::parse`], [`Ipv4::parse`] and [`Udp::parse`] do. The error is [`NetError::EtherType`] when
/// the frame has no IPv4. It is [`NetError::Fragment`] when the packet is a fragment. It is [`NetError::Protocol`] when
/// the packet is not UDP.
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

/// Whether the UDP checksum of `frame` is zero or correct; `parsed` is the result of [`parse_udp4`] for it.
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

/// Whether the UDP checksum of `frame` is unfinished: the sender's kernel left it to a NIC (checksum offload), and no
/// NIC completed it. Then the checksum field has the sum of the pseudo header alone. `parsed` is the result of
/// [`parse_udp4`] for the frame.
pub fn has_partial_checksum(parsed: &UdpFrame) -> bool {
    let UdpChecksum::Value(value) = parsed.checksum else { return false };
    let Ok(segment) = u16::try_from(parsed.payload.len() + udp::HEADER_LEN) else { return false };
    value == !checksum::fold(checksum::pseudo_header(parsed.src_ip, parsed.dst_ip, ipv4::UDP, segment))
}

/// The contents of the headers of a datagram that is to be sent.
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
    /// The UDP checksum: from [`udp_checksum`], or the value that the NIC needs there.
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
    complete(headers_sum(src_ip, dst_ip, src_port, dst_port, payload.len()) + checksum::sum(payload))
}

/// [`udp_checksum`] of a payload of `len` bytes of which only the folded sum is known.
#[inline]
pub fn udp_checksum_from(
    src_ip: Ip4,
    dst_ip: Ip4,
    src_port: u16,
    dst_port: u16,
    len: usize,
    payload: NonZeroU16,
) -> u16 {
    complete(headers_sum(src_ip, dst_ip, src_port, dst_port, len) + u64::from(payload.get()))
}

/// The partial sum of the pseudo header and the UDP header without its checksum, before `len` bytes of payload.
#[inline]
fn headers_sum(src_ip: Ip4, dst_ip: Ip4, src_port: u16, dst_port: u16, len: usize) -> u64 {
    let len = (len + udp::HEADER_LEN) as u16;
    let header = checksum::word(src_port) + checksum::word(dst_port) + checksum::word(len);
    checksum::pseudo_header(src_ip, dst_ip, ipv4::UDP, len) + header
}

/// The final checksum. 0 is replaced, because it would mean that there is none.
#[inline]
fn complete(sum: u64) -> u16 {
    match checksum::fold(sum) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // VLAN 5 with priority 3, CE, 192.168.0.17:49169 to 192.168.0.1:9999, an ECHO_REPLY of 47 bytes
    const LITERAL: &[u8] = &[
        0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 0x81, 0x00, 0x60, 0x05, 0x08, 0x00,
        0x45, 0x03, 0x00, 0x4b, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb9, 0x3c, 0xc0, 0xa8, 0x00, 0x11, 0xc0, 0xa8,
        0x00, 0x01, 0xc0, 0x11, 0x27, 0x0f, 0x00, 0x37, 0xeb, 0x71, 0x58, 0x4d, 0x56, 0x47, 0x11, 0x00, 0x11, 0x00,
        0x00, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x18, 0x00, 0x00, 0x00, 0x00, 0x07, 0xca, 0x9a,
        0x3b, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x6c, 0x59, 0x07, 0x4e, 0xd2,
        0x0f, 0x08, 0xdb,
    ];
    const HEADERS: usize = 46;

    fn spec() -> UdpSpec {
        UdpSpec {
            vlan: Some(0x6005),
            src_mac: [2, 0, 0, 0, 0, 17],
            dst_mac: [2, 0, 0, 0, 0, 1],
            src_ip: [192, 168, 0, 17],
            dst_ip: [192, 168, 0, 1],
            src_port: 49_169,
            dst_port: 9999,
            ecn: ipv4::ECN_CE,
            checksum: 0xeb71,
        }
    }

    #[test]
    fn a_literal_frame_is_read_and_verified() {
        let read = parse_udp4(LITERAL).unwrap();
        let spec = spec();
        let expected = UdpFrame {
            vlan: spec.vlan,
            src_mac: spec.src_mac,
            dst_mac: spec.dst_mac,
            src_ip: spec.src_ip,
            dst_ip: spec.dst_ip,
            src_port: spec.src_port,
            dst_port: spec.dst_port,
            ecn: spec.ecn,
            payload: HEADERS..LITERAL.len(),
            checksum: UdpChecksum::Value(spec.checksum),
        };
        assert_eq!(read, expected);
        assert!(verify_udp4(LITERAL, &read));
        let mut broken = LITERAL.to_vec();
        broken[60] ^= 1;
        assert!(!verify_udp4(&broken, &read));
        assert!(!verify_udp4(&LITERAL[..60], &read));
        assert!(verify_udp4(&broken, &UdpFrame { checksum: UdpChecksum::Zero, ..read }));
    }

    #[test]
    fn the_literal_headers_are_written_at_the_end_of_the_headroom() {
        let spec = spec();
        let payload = &LITERAL[HEADERS..];
        assert_eq!(udp_checksum(spec.src_ip, spec.dst_ip, spec.src_port, spec.dst_port, payload), spec.checksum);
        let mut headroom = [0xee; 64];
        assert_eq!(emit_udp4(&spec, payload.len(), &mut headroom), Some(HEADERS));
        assert_eq!(&headroom[18..], &LITERAL[..HEADERS]);
        assert_eq!(headroom[17], 0xee);
        assert_eq!(emit_udp4(&spec, payload.len(), &mut headroom[..HEADERS]), Some(MAX_HEADERS));
        assert_eq!(emit_udp4(&spec, payload.len(), &mut headroom[..HEADERS - 1]), None);
        assert_eq!(emit_udp4(&UdpSpec { vlan: None, ..spec }, 65_507, &mut headroom), Some(42));
        assert_eq!(emit_udp4(&spec, 65_508, &mut headroom), None);
        assert_eq!(emit_udp4(&spec, usize::MAX, &mut headroom), None);
    }

    #[test]
    fn an_unfinished_checksum_is_that_of_the_pseudo_header() {
        let read = parse_udp4(LITERAL).unwrap();
        // 0xc0a8 + 0x0011 + 0xc0a8 + 0x0001 + 17 + 55
        let with = |checksum| has_partial_checksum(&UdpFrame { checksum, ..read.clone() });
        assert!(with(UdpChecksum::Value(0x81ab)));
        for other in [UdpChecksum::Value(0xeb71), UdpChecksum::Value(!0x81ab), UdpChecksum::Zero] {
            assert!(!with(other), "{other:?}");
        }
    }

    #[test]
    fn a_checksum_is_never_zero() {
        // The last two bytes are chosen so that the sum would be 0.
        let open = udp_checksum([0; 4], [0; 4], 0, 0, &[0, 0]);
        assert_eq!(udp_checksum([0; 4], [0; 4], 0, 0, &open.to_be_bytes()), 0xffff);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |at: usize, value: &[u8]| {
            let mut frame = LITERAL.to_vec();
            frame[at..at + value.len()].copy_from_slice(value);
            frame[28..30].fill(0);
            let sum = checksum::fold(checksum::sum(&frame[18..38]));
            frame[28..30].copy_from_slice(&sum.to_be_bytes());
            parse_udp4(&frame).map(|read| read.payload).unwrap_err()
        };
        assert_eq!(refused(16, &[8, 6]), NetError::EtherType);
        assert_eq!(refused(24, &[0x20, 0]), NetError::Fragment);
        assert_eq!(refused(24, &[0, 1]), NetError::Fragment);
        assert_eq!(refused(27, &[1]), NetError::Protocol);
        assert_eq!(refused(20, &[0, 27]), NetError::Truncated);
        assert_eq!(refused(42, &[0, 56]), NetError::UdpLen);
        assert_eq!(refused(42, &[0, 7]), NetError::UdpLen);
        let mut bad_sum = LITERAL.to_vec();
        bad_sum[28] ^= 1;
        assert_eq!(parse_udp4(&bad_sum), Err(NetError::IpChecksum));
    }

    #[test]
    fn padding_after_the_datagram_is_not_payload() {
        let mut padded = LITERAL.to_vec();
        padded.extend_from_slice(&[0; 9]);
        assert_eq!(parse_udp4(&padded), parse_udp4(LITERAL));
    }
}
