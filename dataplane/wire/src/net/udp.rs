//! UDP headers.

use super::{Ip4, NetError, checksum, ipv4};
use core::ops::Range;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// The checksum of the header; zero means that there is none.
    pub checksum: u16,
}

impl Udp {
    /// Reads the header of an IP packet's payload and gives the range of its own payload in it.
    ///
    /// The length is checked, the checksum is not: see [`verify`].
    ///
    /// # Errors
    /// The error is [`NetError::Truncated`] when the segment is shorter than the header. It is [`NetError::UdpLen`]
    /// when the length in the header is below the header's own, or past the end of the segment.
    #[inline]
    pub fn parse(segment: &[u8]) -> Result<(Self, Range<usize>), NetError> {
        let [s0, s1, d0, d1, l0, l1, c0, c1] = *segment.first_chunk::<HEADER_LEN>().ok_or(NetError::Truncated)?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len < HEADER_LEN || len > segment.len() {
            return Err(NetError::UdpLen);
        }
        let repr = Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            checksum: u16::from_be_bytes([c0, c1]),
        };
        Ok((repr, HEADER_LEN..len))
    }

    /// The header before `payload_len` bytes; `None` when the sum does not fit in 16 bits.
    #[inline]
    pub fn to_bytes(&self, payload_len: usize) -> Option<[u8; HEADER_LEN]> {
        let [l0, l1] = u16::try_from(payload_len.checked_add(HEADER_LEN)?).ok()?.to_be_bytes();
        let ([s0, s1], [d0, d1]) = (self.src_port.to_be_bytes(), self.dst_port.to_be_bytes());
        let [c0, c1] = self.checksum.to_be_bytes();
        Some([s0, s1, d0, d1, l0, l1, c0, c1])
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

/// Whether the checksum of `segment`, one whole UDP header and payload, is zero or correct.
#[inline]
pub fn verify(src: Ip4, dst: Ip4, segment: &[u8]) -> bool {
    let (Some(&[.., c0, c1]), Ok(len)) = (segment.first_chunk::<HEADER_LEN>(), u16::try_from(segment.len())) else {
        return false;
    };
    [c0, c1] == [0, 0]
        || checksum::fold(checksum::pseudo_header(src, dst, ipv4::UDP, len) + checksum::sum(segment)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: Ip4 = [192, 168, 0, 17];
    const DST: Ip4 = [192, 168, 0, 1];
    // 192.168.0.17:49169 to 192.168.0.1:9999, "xyz"
    const LITERAL: &[u8] = &[0xc0, 0x11, 0x27, 0x0f, 0x00, 0x0b, 0xa4, 0xda, 0x78, 0x79, 0x7a];

    #[test]
    fn a_literal_segment_is_read_verified_and_written() {
        let (repr, payload) = Udp::parse(LITERAL).unwrap();
        assert_eq!((repr.src_port, repr.dst_port, payload), (49_169, 9999, 8..11));
        assert!(verify(SRC, DST, LITERAL));
        let mut out = [0; 9];
        assert_eq!(repr.emit(3, &mut out), Some(8));
        assert_eq!(&out[..8], &LITERAL[..8]);
        assert_eq!(repr.emit(3, &mut out[..7]), None);
        assert_eq!(repr.emit(65_528, &mut out), None);
    }

    #[test]
    fn zero_is_accepted_and_anything_else_verified() {
        let mut bytes = LITERAL.to_vec();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(!verify(SRC, DST, &bytes), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(!verify(SRC, SRC, LITERAL));
        bytes[6..8].fill(0);
        assert!(verify(SRC, DST, &bytes));
        assert!(!verify(SRC, DST, &LITERAL[..7]));
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut bytes = LITERAL.to_vec();
        for (len, expected) in [(7, Err(NetError::UdpLen)), (8, Ok(8..8)), (11, Ok(8..11)), (12, Err(NetError::UdpLen))]
        {
            bytes[5] = len;
            assert_eq!(Udp::parse(&bytes).map(|(_, payload)| payload), expected);
        }
        assert_eq!(Udp::parse(&LITERAL[..7]), Err(NetError::Truncated));
    }
}
