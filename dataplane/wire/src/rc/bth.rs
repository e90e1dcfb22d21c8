//! The Base Transport Header: 12 bytes, big-endian, at the start of every packet.

use super::{DEFAULT_PKEY, Opcode, Psn, QPN_MASK};
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a BTH.
pub const BTH_LEN: usize = 12;

/// The byte of the BTH that counts as 0xFF in the ICRC, because switches and gateways may change it: FECN, BECN,
/// reserved.
pub const VARIANT_BYTE: usize = 4;

const SOLICITED: u8 = 0x80;
const MIGRATION: u8 = 0x40;
const BECN: u8 = 0x40;
const ACK_REQUEST: u32 = 0x8000_0000;

/// The Base Transport Header as it lies in a packet.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 1 | opcode |
/// | 1 | 1 | bit 7 solicited event, bit 6 MigReq, bits 5 and 4 pad count, bits 3 to 0 version (0) |
/// | 2 | 2 | P_Key |
/// | 4 | 1 | bit 7 FECN, bit 6 BECN, others reserved |
/// | 5 | 3 | destination QPN |
/// | 8 | 1 | bit 7 AckReq, others reserved |
/// | 9 | 3 | PSN |
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bth {
    opcode: u8,
    flags: u8,
    pkey: U16,
    destination: U32,
    psn: U32,
}

const _: () = assert!(size_of::<Bth>() == BTH_LEN);

impl Bth {
    /// A header with the default P_Key, MigReq set (as every peer without automatic path migration has it), no pad.
    #[inline]
    pub const fn new(opcode: Opcode, qpn: u32, psn: Psn) -> Self {
        Self {
            opcode: opcode.number(),
            flags: MIGRATION,
            pkey: U16::new(DEFAULT_PKEY),
            destination: U32::new(qpn & QPN_MASK),
            psn: U32::new(psn.get()),
        }
    }

    /// The same header with AckReq set or not.
    #[inline]
    #[must_use]
    pub const fn with_ack_request(mut self, set: bool) -> Self {
        let rest = self.psn.get() & !ACK_REQUEST;
        self.psn = U32::new(if set { rest | ACK_REQUEST } else { rest });
        self
    }

    /// The same header with the solicited event bit set or not.
    #[inline]
    #[must_use]
    pub const fn with_solicited(mut self, set: bool) -> Self {
        self.flags = if set { self.flags | SOLICITED } else { self.flags & !SOLICITED };
        self
    }

    /// The same header with this many bytes of pad (0 to 3).
    #[inline]
    #[must_use]
    pub const fn with_pad(mut self, pad: usize) -> Self {
        self.flags = (self.flags & 0xcf) | (((pad & 3) as u8) << 4);
        self
    }

    /// The same header with BECN set or not.
    #[inline]
    #[must_use]
    pub const fn with_becn(mut self, set: bool) -> Self {
        let bit = (BECN as u32) << 24;
        let rest = self.destination.get() & !bit;
        self.destination = U32::new(if set { rest | bit } else { rest });
        self
    }

    /// The number of the opcode, whether known or not.
    #[inline]
    pub const fn opcode_number(&self) -> u8 {
        self.opcode
    }

    /// Whether the opcode, known or not, is one of reliable connections: bits 7 to 5 are the transport service, which
    /// is 0 for them.
    #[inline]
    pub const fn is_reliable_connection(&self) -> bool {
        self.opcode >> 5 == 0
    }

    /// Bytes of pad after the payload: 0 to 3.
    #[inline]
    pub const fn pad(&self) -> usize {
        (self.flags >> 4 & 3) as usize
    }

    /// The version of the transport header; only 0 is known.
    #[inline]
    pub const fn version(&self) -> u8 {
        self.flags & 0x0f
    }

    /// Whether the sender asks for a solicited event.
    #[inline]
    pub const fn is_solicited(&self) -> bool {
        self.flags & SOLICITED != 0
    }

    /// The partition key.
    #[inline]
    pub const fn pkey(&self) -> u16 {
        self.pkey.get()
    }

    /// The queue pair that the packet is for.
    #[inline]
    pub const fn destination(&self) -> u32 {
        self.destination.get() & QPN_MASK
    }

    /// Whether BECN is set: the packet that this one answers met congestion.
    #[inline]
    pub const fn is_becn(&self) -> bool {
        self.destination.get() >> 24 & BECN as u32 != 0
    }

    /// Whether the sender asks for an ACK.
    #[inline]
    pub const fn is_ack_request(&self) -> bool {
        self.psn.get() & ACK_REQUEST != 0
    }

    /// The packet sequence number.
    #[inline]
    pub const fn psn(&self) -> Psn {
        Psn::new(self.psn.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_header_is_made_and_read() {
        let bth = Bth::new(Opcode::WRITE_ONLY, 0x0012_3456, Psn::new(0x00ab_cdef)).with_ack_request(true).with_pad(3);
        assert_eq!(bth.as_bytes(), [0x0a, 0x70, 0xff, 0xff, 0, 0x12, 0x34, 0x56, 0x80, 0xab, 0xcd, 0xef]);
        assert_eq!((bth.opcode_number(), bth.pad(), bth.version(), bth.pkey()), (0x0a, 3, 0, 0xffff));
        assert_eq!((bth.destination(), bth.psn().get(), bth.is_ack_request()), (0x12_3456, 0xab_cdef, true));
        assert!(!bth.is_solicited() && !bth.is_becn());
        let other = bth.with_ack_request(false).with_solicited(true).with_becn(true).with_pad(0);
        assert_eq!(other.as_bytes(), [0x0a, 0xc0, 0xff, 0xff, 0x40, 0x12, 0x34, 0x56, 0, 0xab, 0xcd, 0xef]);
        assert!(other.is_solicited() && other.is_becn() && !other.is_ack_request());
        assert_eq!(other.with_solicited(false).with_becn(false).with_ack_request(true).with_pad(3), bth);
    }

    #[test]
    fn numbers_are_cut_to_24_bits() {
        let bth = Bth::new(Opcode::ACKNOWLEDGE, 0xff12_3456, Psn::new(0));
        assert_eq!((bth.destination(), bth.is_becn()), (0x12_3456, false));
    }
}
