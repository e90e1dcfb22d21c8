//! Ethernet II headers with at most one 802.1Q tag.

use super::{Mac, NetError};
use core::fmt;

/// Bytes of a header without a tag.
pub const HEADER_LEN: usize = 14;
/// Bytes that a tag adds.
pub const TAG_LEN: usize = 4;

/// Ethernet type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ARP: u16 = 0x0806;
/// Ethernet type of an 802.1Q tag.
pub const DOT1Q: u16 = 0x8100;
/// Ethernet type of an 802.1ad provider tag.
pub const DOT1AD: u16 = 0x88a8;

mod field {
    use core::ops::Range;
    pub(super) const DST: Range<usize> = 0..6;
    pub(super) const SRC: Range<usize> = 6..12;
    pub(super) const TYPE: Range<usize> = 12..14;
    pub(super) const TCI: Range<usize> = 14..16;
    pub(super) const TAGGED_TYPE: Range<usize> = 16..18;
}

/// An Ethernet address as people write it: `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacText(pub Mac);

impl fmt::Display for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Where the frame goes.
    pub dst: Mac,
    /// Where it comes from.
    pub src: Mac,
    /// The tag control information of its 802.1Q tag: 3 bits priority, 1 bit DEI, 12 bits VLAN id (0 too).
    pub vlan: Option<u16>,
    /// What it carries.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header; returns the bytes after it, which may end with padding.
    ///
    /// A second tag is [`NetError::SecondTag`]; so is a provider tag, which means that one follows.
    ///
    /// # Errors
    /// The error is [`NetError::Truncated`] when the frame ends before its header or its tag does. It is
    /// [`NetError::SecondTag`] when it has more than one tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), NetError> {
        let (header, rest) = frame.split_first_chunk::<HEADER_LEN>().ok_or(NetError::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let (dst, src) = ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]);
        match u16::from_be_bytes([t0, t1]) {
            DOT1Q => {
                let ([c0, c1, t0, t1], rest) = rest.split_first_chunk::<TAG_LEN>().ok_or(NetError::Truncated)?;
                let ethertype = u16::from_be_bytes([*t0, *t1]);
                if matches!(ethertype, DOT1Q | DOT1AD) {
                    return Err(NetError::SecondTag);
                }
                Ok((Self { dst, src, vlan: Some(u16::from_be_bytes([*c0, *c1])), ethertype }, rest))
            }
            DOT1AD => Err(NetError::SecondTag),
            ethertype => Ok((Self { dst, src, vlan: None, ethertype }, rest)),
        }
    }

    /// Bytes of the header.
    #[inline]
    pub const fn header_len(&self) -> usize {
        if self.vlan.is_some() { HEADER_LEN + TAG_LEN } else { HEADER_LEN }
    }

    /// Writes the header at the start of `out` and returns its length, or `None` when it does not fit.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.header_len())?;
        out[field::DST].copy_from_slice(&self.dst);
        out[field::SRC].copy_from_slice(&self.src);
        match self.vlan {
            None => out[field::TYPE].copy_from_slice(&self.ethertype.to_be_bytes()),
            Some(tci) => {
                out[field::TYPE].copy_from_slice(&DOT1Q.to_be_bytes());
                out[field::TCI].copy_from_slice(&tci.to_be_bytes());
                out[field::TAGGED_TYPE].copy_from_slice(&self.ethertype.to_be_bytes());
            }
        }
        Some(self.header_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 17, 8, 0, 0xab];
    // priority 3, VLAN 5
    const TAGGED: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 17, 0x81, 0, 0x60, 5, 8, 6, 0xab, 0xcd];

    fn repr(vlan: Option<u16>, ethertype: u16) -> Ethernet {
        Ethernet { dst: [2, 0, 0, 0, 0, 1], src: [2, 0, 0, 0, 0, 17], vlan, ethertype }
    }

    #[test]
    fn literal_headers_are_read_and_written() {
        for (bytes, repr, rest) in
            [(PLAIN, repr(None, IPV4), &[0xab][..]), (TAGGED, repr(Some(0x6005), ARP), &[0xab, 0xcd])]
        {
            assert_eq!(Ethernet::parse(bytes), Ok((repr, rest)));
            let mut out = [0; 32];
            let len = repr.emit(&mut out).unwrap();
            assert_eq!(&out[..len], &bytes[..bytes.len() - rest.len()]);
            assert_eq!(repr.emit(&mut out[..len - 1]), None);
            assert_eq!(Ethernet::parse(&bytes[..len - 1]), Err(NetError::Truncated));
        }
    }

    #[test]
    fn vlan_0_is_a_tag() {
        let mut bytes = TAGGED.to_vec();
        bytes[14..16].fill(0);
        assert_eq!(Ethernet::parse(&bytes).unwrap().0.vlan, Some(0));
    }

    #[test]
    fn a_second_tag_is_refused() {
        for (at, value) in [(16, [0x81, 0]), (16, [0x88, 0xa8]), (12, [0x88, 0xa8])] {
            let mut bytes = TAGGED.to_vec();
            bytes[at..at + 2].copy_from_slice(&value);
            assert_eq!(Ethernet::parse(&bytes), Err(NetError::SecondTag));
        }
    }
}
