//! IPv4 headers. Options are skipped on receive and never sent.

use super::{Ip4, NetError, checksum};
use core::ops::Range;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// ECN bits: not ECN-capable.
pub const ECN_NOT_ECT: u8 = 0;
/// ECN bits: ECN-capable.
pub const ECN_ECT0: u8 = 2;
/// ECN bits: congestion was experienced.
pub const ECN_CE: u8 = 3;

/// TTL of sent packets.
pub const DEFAULT_TTL: u8 = 64;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 header without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// The sender.
    pub src: Ip4,
    /// The receiver.
    pub dst: Ip4,
    /// What the packet carries.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services code point, 6 bits.
    pub dscp: u8,
    /// Explicit congestion notification, 2 bits.
    pub ecn: u8,
    /// Identification of the packet that fragments belong to.
    pub id: u16,
    /// Routers must not cut the packet.
    pub dont_fragment: bool,
    /// More fragments of the packet follow.
    pub more_fragments: bool,
    /// Where in the packet this fragment begins, in units of 8 bytes.
    pub fragment_offset: u16,
}

impl Ipv4 {
    /// A header as this system sends it: DF, id 0, TTL 64, DSCP 0.
    #[inline]
    pub const fn new(src: Ip4, dst: Ip4, protocol: u8, ecn: u8) -> Self {
        Self {
            src,
            dst,
            protocol,
            ttl: DEFAULT_TTL,
            dscp: 0,
            ecn: ecn & 3,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        }
    }

    /// Reads the header and gives the range of its payload in `packet`, which may be padded at its end.
    ///
    /// Version, header length, total length and header checksum are checked. A fragment is not an error here.
    ///
    /// # Errors
    /// The error is [`NetError::Truncated`] when the packet is shorter than a header without options.
    /// [`NetError::IpVersion`], [`NetError::IpHeaderLen`], [`NetError::IpTotalLen`] and [`NetError::IpChecksum`] name
    /// the field that is wrong.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<(Self, Range<usize>), NetError> {
        let header: &[u8; HEADER_LEN] = packet.first_chunk().ok_or(NetError::Truncated)?;
        if header[0] >> 4 != 4 {
            return Err(NetError::IpVersion);
        }
        let header_len = usize::from(header[0] & 0xf) * 4;
        // Nearly all headers have no options. Then the compiler knows the length of the sum.
        let sum = match header_len {
            HEADER_LEN => checksum::sum(header),
            ..HEADER_LEN => return Err(NetError::IpHeaderLen),
            _ => checksum::sum(packet.get(..header_len).ok_or(NetError::IpHeaderLen)?),
        };
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let total_len = usize::from(u16_at(2));
        if total_len < header_len || total_len > packet.len() {
            return Err(NetError::IpTotalLen);
        }
        if checksum::fold(sum) != 0 {
            return Err(NetError::IpChecksum);
        }
        let fragment = u16_at(6);
        let repr = Self {
            src: [header[12], header[13], header[14], header[15]],
            dst: [header[16], header[17], header[18], header[19]],
            protocol: header[9],
            ttl: header[8],
            dscp: header[1] >> 2,
            ecn: header[1] & 3,
            id: u16_at(4),
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            fragment_offset: fragment & OFFSET_MASK,
        };
        Ok((repr, header_len..total_len))
    }

    /// Whether the packet is a part of a larger one.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// The header before `payload_len` bytes, with its checksum; `None` when the sum does not fit in 16 bits.
    #[inline]
    pub fn to_bytes(&self, payload_len: usize) -> Option<[u8; HEADER_LEN]> {
        let total_len = u16::try_from(payload_len.checked_add(HEADER_LEN)?).ok()?.to_be_bytes();
        let fragment = (self.fragment_offset & OFFSET_MASK)
            | if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        let (id, fragment) = (self.id.to_be_bytes(), fragment.to_be_bytes());
        let mut header = [0; HEADER_LEN];
        header[0] = 0x45;
        header[1] = self.dscp << 2 | self.ecn & 3;
        header[2..4].copy_from_slice(&total_len);
        header[4..6].copy_from_slice(&id);
        header[6..8].copy_from_slice(&fragment);
        header[8] = self.ttl;
        header[9] = self.protocol;
        header[12..16].copy_from_slice(&self.src);
        header[16..20].copy_from_slice(&self.dst);
        let sum = checksum::fold(checksum::sum(&header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Some(header)
    }

    /// Writes the header before `payload_len` bytes at the start of `out` and returns its length.
    ///
    /// `None` when it does not fit.
    #[inline]
    pub fn emit(&self, payload_len: usize, out: &mut [u8]) -> Option<usize> {
        let header = self.to_bytes(payload_len)?;
        *out.first_chunk_mut()? = header;
        Some(HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // UDP from 192.168.0.17 to 192.168.0.1, DF, CE, 3 bytes
    const LITERAL: &[u8] = &[
        0x45, 0x03, 0x00, 0x17, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb9, 0x70, 0xc0, 0xa8, 0x00, 0x11, 0xc0, 0xa8,
        0x00, 0x01, 0x78, 0x79, 0x7a,
    ];
    // ICMP, options, a middle fragment at 24, DSCP 46, 2 bytes and 2 of padding
    const OPTIONS: &[u8] = &[
        0x46, 0xb8, 0x00, 0x1a, 0x12, 0x34, 0x20, 0x03, 0x09, 0x01, 0xfa, 0x90, 0xc0, 0xa8, 0x00, 0x11, 0xc0, 0xa8,
        0x00, 0x01, 0x01, 0x01, 0x01, 0x00, 0x68, 0x69, 0x00, 0x00,
    ];

    fn with(at: usize, value: u8) -> Result<(Ipv4, Range<usize>), NetError> {
        let mut bytes = LITERAL.to_vec();
        bytes[at] = value;
        Ipv4::parse(&bytes)
    }

    #[test]
    fn a_literal_header_is_read_and_written() {
        let repr = Ipv4::new([192, 168, 0, 17], [192, 168, 0, 1], UDP, ECN_CE);
        assert_eq!(Ipv4::parse(LITERAL), Ok((repr, 20..23)));
        let mut out = [0; 24];
        assert_eq!(repr.emit(3, &mut out), Some(20));
        assert_eq!(&out[..20], &LITERAL[..20]);
        assert_eq!(repr.emit(3, &mut out[..19]), None);
        assert_eq!(repr.emit(65_516, &mut out), None);
        assert_eq!(repr.emit(65_515, &mut out), Some(20));
    }

    #[test]
    fn options_fragments_and_padding_are_read() {
        let (repr, payload) = Ipv4::parse(OPTIONS).unwrap();
        assert_eq!(payload, 24..26);
        assert_eq!((repr.protocol, repr.ttl, repr.dscp, repr.ecn, repr.id), (ICMP, 9, 46, 0, 0x1234));
        assert_eq!((repr.dont_fragment, repr.more_fragments, repr.fragment_offset), (false, true, 3));
        assert!(repr.is_fragment());
        assert!(Ipv4 { more_fragments: false, ..repr }.is_fragment());
        assert!(!Ipv4 { more_fragments: false, fragment_offset: 0, ..repr }.is_fragment());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Ipv4::parse(&LITERAL[..19]), Err(NetError::Truncated));
        assert_eq!(Ipv4::parse(&LITERAL[..22]), Err(NetError::IpTotalLen));
        assert_eq!(Ipv4::parse(&OPTIONS[..23]), Err(NetError::IpHeaderLen));
        assert_eq!(Ipv4::parse(&OPTIONS[..25]), Err(NetError::IpTotalLen));
        assert_eq!(with(0, 0x65), Err(NetError::IpVersion));
        assert_eq!(with(0, 0x44), Err(NetError::IpHeaderLen));
        assert_eq!(with(0, 0x4f), Err(NetError::IpHeaderLen));
        assert_eq!(with(3, 19), Err(NetError::IpTotalLen));
        for at in [1, 3, 4, 6, 8, 9, 10, 12, 19] {
            assert_eq!(with(at, LITERAL[at] ^ 1), Err(NetError::IpChecksum), "byte {at}");
        }
    }
}
