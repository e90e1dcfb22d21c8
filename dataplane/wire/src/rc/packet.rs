//! A whole packet: parsed in place, and built so that its payload can be written in place.

use super::bth::BTH_LEN;
use super::icrc::extend;
use super::{Aeth, AtomicAckEth, AtomicEth, Bth, ICRC_LEN, Ieth, ImmDt, Opcode, Reth};
use core::fmt;
use zerocopy::{FromBytes, IntoBytes};

/// The largest payload of one packet, as two peers have agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum PathMtu {
    /// 256 bytes.
    B256 = 256,
    /// 512 bytes.
    B512 = 512,
    /// 1024 bytes.
    B1024 = 1024,
    /// 2048 bytes.
    B2048 = 2048,
    /// 4096 bytes.
    B4096 = 4096,
}

/// The largest overhead of a packet with payload: BTH, RETH, ImmDt, ICRC.
pub const OVERHEAD: usize = BTH_LEN + 20 + ICRC_LEN;

impl PathMtu {
    /// All of them, the smallest first.
    pub const ALL: [Self; 5] = [Self::B256, Self::B512, Self::B1024, Self::B2048, Self::B4096];

    /// Bytes of payload.
    #[inline]
    pub const fn bytes(self) -> u32 {
        self as u32
    }

    /// The path MTU of exactly this many bytes.
    pub fn exactly(bytes: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|mtu| mtu.bytes() == bytes)
    }

    /// The largest path MTU whose packets fit in this many bytes, headers and ICRC included.
    pub fn fitting(packet: usize) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|mtu| mtu.bytes() as usize + OVERHEAD <= packet)
    }

    /// Packets of a message with this many bytes: at least one.
    #[inline]
    pub const fn packets(self, len: u32) -> u32 {
        let shift = self.bytes().trailing_zeros();
        let whole = (len >> shift) + (len & (self.bytes() - 1) != 0) as u32;
        if whole == 0 { 1 } else { whole }
    }
}

/// What is wrong with bytes that should be a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadPacket {
    /// Shorter than its headers and the ICRC.
    Short,
    /// An opcode that is neither one of RC nor a congestion notification.
    Opcode,
    /// Another version of the transport header than 0.
    Version,
    /// Pad that is longer than the payload allows, payload and pad that are no multiple of four, or payload where none
    /// is allowed.
    Pad,
}

impl fmt::Display for BadPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "shorter than its headers",
            Self::Opcode => "an opcode that is not of a reliable connection",
            Self::Version => "another version of the transport header",
            Self::Pad => "wrong pad, or payload where none may be",
        })
    }
}

impl core::error::Error for BadPacket {}

/// A packet in place: headers and payload are inside the bytes. Its ICRC is not checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    bth: &'a Bth,
    opcode: Opcode,
    extension: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet that is all of `bytes`, ICRC included.
    ///
    /// # Errors
    /// The error is [`BadPacket::Short`] when the bytes end before the headers and the ICRC do. It is
    /// [`BadPacket::Opcode`] for an unknown opcode. It is [`BadPacket::Version`] for another version than 0. It is
    /// [`BadPacket::Pad`] when pad or payload have a length that they cannot have.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadPacket> {
        let Some((bth, rest)) = bytes.split_first_chunk::<BTH_LEN>() else { return Err(BadPacket::Short) };
        let bth: &Bth = zerocopy::transmute_ref!(bth);
        let Some(opcode) = Opcode::new(bth.opcode_number()) else { return Err(BadPacket::Opcode) };
        if bth.version() != 0 {
            return Err(BadPacket::Version);
        }
        let Some((extension, rest)) = rest.split_at_checked(opcode.extension_len()) else {
            return Err(BadPacket::Short);
        };
        let Some(padded) = rest.len().checked_sub(ICRC_LEN) else { return Err(BadPacket::Short) };
        let Some(len) = padded.checked_sub(bth.pad()) else { return Err(BadPacket::Pad) };
        if padded % 4 != 0 || (padded != 0 && !opcode.has_payload()) {
            return Err(BadPacket::Pad);
        }
        match rest.get(..len) {
            Some(payload) => Ok(Self { bth, opcode, extension, payload }),
            None => Err(BadPacket::Short),
        }
    }

    /// The Base Transport Header.
    #[inline]
    pub fn bth(&self) -> &'a Bth {
        self.bth
    }

    /// The opcode.
    #[inline]
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// The payload, without pad.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The RETH, if the opcode brings one.
    #[inline]
    pub fn reth(&self) -> Option<&'a Reth> {
        if self.opcode.has_reth() { Some(Reth::ref_from_prefix(self.extension).ok()?.0) } else { None }
    }

    /// The AETH, if the opcode brings one.
    #[inline]
    pub fn aeth(&self) -> Option<&'a Aeth> {
        if self.opcode.has_aeth() { Some(Aeth::ref_from_prefix(self.extension).ok()?.0) } else { None }
    }

    /// The AtomicETH, if the opcode brings one.
    #[inline]
    pub fn atomic(&self) -> Option<&'a AtomicEth> {
        if self.opcode.has_atomic() { Some(AtomicEth::ref_from_prefix(self.extension).ok()?.0) } else { None }
    }

    /// The AtomicAckETH, if the opcode brings one.
    #[inline]
    pub fn atomic_ack(&self) -> Option<&'a AtomicAckEth> {
        if self.opcode.has_atomic_ack() { Some(AtomicAckEth::ref_from_suffix(self.extension).ok()?.1) } else { None }
    }

    /// The immediate data, if the opcode brings some.
    #[inline]
    pub fn imm(&self) -> Option<&'a ImmDt> {
        if self.opcode.has_imm() { Some(ImmDt::ref_from_suffix(self.extension).ok()?.1) } else { None }
    }

    /// The IETH, if the opcode brings one.
    #[inline]
    pub fn ieth(&self) -> Option<&'a Ieth> {
        if self.opcode.has_ieth() { Some(Ieth::ref_from_suffix(self.extension).ok()?.1) } else { None }
    }
}

/// Bytes of pad after this many bytes of payload.
#[inline]
pub const fn pad_of(payload: usize) -> usize {
    payload.wrapping_neg() & 3
}

/// Bytes of a packet with this many bytes of payload, headers, pad and ICRC included.
#[inline]
pub const fn wire_len(opcode: Opcode, payload: usize) -> usize {
    BTH_LEN + opcode.extension_len() + payload + pad_of(payload) + ICRC_LEN
}

/// A packet with headers and pad, but without payload and ICRC.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The BTH and the extension headers.
    pub head: &'a [u8],
    /// The place of the payload.
    pub payload: &'a mut [u8],
    pad: &'a [u8],
    icrc: &'a mut [u8; ICRC_LEN],
}

impl Opened<'_> {
    /// Writes the ICRC. `crc` is [`IcrcSeed::crc`](super::IcrcSeed::crc) of the head, and of the payload after it.
    #[inline]
    pub fn seal(self, crc: u32) {
        let crc = if self.pad.is_empty() { crc } else { extend(crc, self.pad) };
        *self.icrc = crc.to_le_bytes();
    }
}

/// Writes a packet's headers and pad into `out`. What is left is the payload and the ICRC, for which there are
/// [`Opened::seal`] and [`IcrcSeed::seal`](super::IcrcSeed::seal).
///
/// `headers` are the extension headers in their order; the second one is often empty. This sets the pad count of `bth`.
/// `None` if the headers do not belong to the opcode, or if `out` is not exactly [`wire_len`] bytes.
#[inline]
pub fn open<'a>(bth: Bth, headers: [&[u8]; 2], payload: usize, out: &'a mut [u8]) -> Option<Opened<'a>> {
    let opcode = Opcode::new(bth.opcode_number())?;
    let [first, second] = headers;
    if out.len() != wire_len(opcode, payload) || first.len() + second.len() != opcode.extension_len() {
        return None;
    }
    let pad = pad_of(payload);
    let (head, rest) = out.split_at_mut_checked(BTH_LEN + opcode.extension_len())?;
    let (place, extension) = head.split_first_chunk_mut::<BTH_LEN>()?;
    *place = zerocopy::transmute!(bth.with_pad(pad));
    let (place, extension) = extension.split_at_mut_checked(first.len())?;
    place.copy_from_slice(first);
    extension.copy_from_slice(second);
    let (payload, rest) = rest.split_at_mut_checked(payload)?;
    let (pad, icrc) = rest.split_last_chunk_mut::<ICRC_LEN>()?;
    if !pad.is_empty() {
        pad.fill(0);
    }
    Some(Opened { head, payload, pad, icrc })
}

/// The bytes of a header, for [`open`].
#[inline]
pub fn header<T: IntoBytes + zerocopy::Immutable>(header: &T) -> &[u8] {
    header.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rc::{IcrcSeed, NakCode, Psn, Syndrome};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn build(opcode: Opcode, headers: [&[u8]; 2], payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee; wire_len(opcode, payload.len())];
        let bth = Bth::new(opcode, 0x55, Psn::new(7)).with_pad(3);
        open(bth, headers, payload.len(), &mut out).unwrap().payload.copy_from_slice(payload);
        out
    }

    #[test]
    fn every_kind_of_packet_comes_back() {
        let reth = Reth::new(1 << 40, 2, 3);
        let (aeth, imm) = (Aeth::new(Syndrome::Nak(NakCode::SequenceError), 4), ImmDt::new(5));
        let (atomic, original, ieth) = (AtomicEth::new(6, 7, 8, 9), AtomicAckEth::new(10), Ieth::new(11));
        let mut seen = 0;
        for opcode in (0..=255).filter_map(Opcode::new) {
            let mut pieces = [&[][..]; 2];
            let mut at = 0;
            let mut put = |there: bool, bytes| {
                if there {
                    pieces[at] = bytes;
                    at += 1;
                }
            };
            put(opcode.has_reth(), header(&reth));
            put(opcode.has_aeth(), header(&aeth));
            put(opcode.has_atomic(), header(&atomic));
            put(opcode.has_atomic_ack(), header(&original));
            put(opcode.has_imm(), header(&imm));
            put(opcode.has_ieth(), header(&ieth));
            put(opcode == Opcode::CNP, &[0; 16]);
            let payload = if opcode.has_payload() { &b"abcde"[..] } else { &[] };
            let bytes = build(opcode, pieces, payload);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!((packet.opcode(), packet.payload()), (opcode, payload));
            assert_eq!(packet.reth(), opcode.has_reth().then_some(&reth));
            assert_eq!(packet.aeth(), opcode.has_aeth().then_some(&aeth));
            assert_eq!(packet.atomic(), opcode.has_atomic().then_some(&atomic));
            assert_eq!(packet.atomic_ack(), opcode.has_atomic_ack().then_some(&original));
            assert_eq!(packet.imm(), opcode.has_imm().then_some(&imm));
            assert_eq!(packet.ieth(), opcode.has_ieth().then_some(&ieth));
            assert_eq!(packet.bth().pad(), if opcode.has_payload() { 3 } else { 0 });
            for len in 0..bytes.len() {
                assert!(Packet::parse(&bytes[..len]).is_err() || opcode.has_payload(), "{opcode:?} cut at {len}");
            }
            seen += 1;
        }
        assert_eq!(seen, 24);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = build(Opcode::WRITE_LAST, [&[], &[]], b"abcde");
        let wrong = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Packet::parse(&bytes).unwrap_err()
        };
        assert_eq!(wrong(0, 0x15), BadPacket::Opcode);
        assert_eq!(wrong(0, 0x80), BadPacket::Opcode);
        assert_eq!(wrong(1, 0x71), BadPacket::Version);
        assert_eq!(wrong(0, Opcode::ACKNOWLEDGE.number()), BadPacket::Pad);
        assert_eq!(wrong(0, Opcode::COMPARE_SWAP.number()), BadPacket::Short);
        assert_eq!(Packet::parse(&good[..good.len() - 1]), Err(BadPacket::Pad));
        assert_eq!(Packet::parse(&good[..15]), Err(BadPacket::Short));
        assert_eq!(Packet::parse(&good[..11]), Err(BadPacket::Short));
        let mut empty = build(Opcode::WRITE_LAST, [&[], &[]], b"");
        empty[1] |= 0x10;
        assert_eq!(Packet::parse(&empty), Err(BadPacket::Pad));
    }

    #[test]
    fn a_packet_is_not_opened_in_a_wrong_place() {
        let bth = Bth::new(Opcode::WRITE_ONLY, 1, Psn::new(0));
        let reth = Reth::new(0, 0, 0);
        assert!(open(bth, [header(&reth), &[]], 4, &mut [0; 36]).is_some());
        assert!(open(bth, [header(&reth), &[]], 4, &mut [0; 37]).is_none());
        assert!(open(bth, [header(&reth), &[]], 5, &mut [0; 36]).is_none());
        assert!(open(bth, [&[], &[]], 20, &mut [0; 36]).is_none());
    }

    #[test]
    fn messages_have_as_many_packets_as_they_need() {
        assert_eq!(PathMtu::ALL.map(PathMtu::bytes), [256, 512, 1024, 2048, 4096]);
        assert_eq!((PathMtu::B256.packets(0), PathMtu::B256.packets(256), PathMtu::B256.packets(257)), (1, 1, 2));
        assert_eq!(PathMtu::B4096.packets(u32::MAX), 1 << 20);
        assert_eq!((PathMtu::exactly(1024), PathMtu::exactly(1000)), (Some(PathMtu::B1024), None));
        // The room that MTU 1500 and 9000 leave in a GVM record, and MTU 1500 in RoCEv2.
        assert_eq!(PathMtu::fitting(1500 - 28 - 23), Some(PathMtu::B1024));
        assert_eq!(PathMtu::fitting(9000 - 28 - 23), Some(PathMtu::B4096));
        assert_eq!((PathMtu::fitting(1500 - 28), PathMtu::fitting(100)), (Some(PathMtu::B1024), None));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_packet_or_not_but_never_more(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let pad = packet.bth().pad();
                prop_assert_eq!(wire_len(packet.opcode(), packet.payload().len() + pad), bytes.len());
            }
        }

        #[test]
        fn what_is_built_is_parsed_and_verified(
            number in 0usize..24,
            header_bytes in any::<[u8; 28]>(),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            (qpn, psn, ack, solicited, becn) in (0u32..1 << 24, 0u32..1 << 24, any::<bool>(), any::<bool>(),
                any::<bool>()),
            flip in any::<prop::sample::Index>(),
        ) {
            let opcode = (0..=255).filter_map(Opcode::new).nth(number).unwrap();
            let payload = if opcode.has_payload() { &payload[..] } else { &[] };
            let bth = Bth::new(opcode, qpn,
                Psn::new(psn)).with_ack_request(ack).with_solicited(solicited).with_becn(becn);
            let extension = &header_bytes[..opcode.extension_len()];
            let mut bytes = vec![0xee; wire_len(opcode, payload.len())];
            let seed = IcrcSeed::record(&crate::RecordHeader::new(crate::MsgType::RC, 3, 4, bytes.len() as u32));
            let opened = open(bth, [extension, &[]], payload.len(), &mut bytes).unwrap();
            opened.payload.copy_from_slice(payload);
            let crc = extend(seed.crc(opened.head), payload);
            opened.seal(crc);
            let sealed = bytes.clone();
            prop_assert!(seed.verify(&bytes) && seed.seal(&mut bytes) && bytes == sealed);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!((packet.opcode(), packet.extension, packet.payload()), (opcode, extension, payload));
            prop_assert_eq!((packet.bth().destination(), packet.bth().psn().get()), (qpn, psn));
            let bits = (packet.bth().is_ack_request(), packet.bth().is_solicited(), packet.bth().is_becn());
            prop_assert_eq!(bits, (ack, solicited, becn));
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x04;
            prop_assert_eq!(seed.verify(&bytes), at == crate::rc::bth::VARIANT_BYTE);
        }
    }
}
