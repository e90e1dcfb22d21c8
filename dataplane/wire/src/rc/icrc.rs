//! The invariant CRC: the last four bytes of every packet.
//!
//! CRC-32 (the polynomial of zlib and Ethernet) over eight 0xFF bytes, the bytes that the framing puts before the BTH,
//! the BTH with byte 4 as 0xFF, and everything up to the ICRC; complemented, little-endian. In a GVM record the 23
//! bytes of the record header come before the BTH, so that a packet at a wrong slave is noticed. In RoCEv2 these are
//! the IPv4 and UDP headers, and fields that routers change count as ones: TOS, TTL, both checksums.

use super::bth::{BTH_LEN, VARIANT_BYTE};
use crate::HEADER_LEN;
use crate::net::Ip4;
use crate::record::RecordHeader;
use crc32fast::Hasher;
use zerocopy::IntoBytes;

/// Bytes of an ICRC.
pub const ICRC_LEN: usize = 4;

/// Eight bytes stand for InfiniBand's local route header, which neither framing has.
const ONES: usize = 8;
/// Bytes of an IPv4 header without options, and a UDP header.
pub const IPV4_UDP: usize = 28;
const MOST: usize = ONES + IPV4_UDP;
/// Bytes at the start that are covered in one piece: with the largest headers that a payload follows.
const HEAD: usize = MOST + BTH_LEN + 20;
/// The most bytes that the vector code of CRC-32 takes in one step.
const WIDE: usize = 256;

/// What the ICRC covers before the BTH.
#[derive(Clone, Copy, Debug)]
pub struct IcrcSeed {
    bytes: [u8; MOST],
    len: u8,
}

/// The fields of the headers of a RoCEv2 packet that routers do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Udp {
    /// The IPv4 identification; 0 when we send.
    pub id: u16,
    /// Flags and fragment offset; 0x4000 (DF) when we send.
    pub fragment: u16,
    /// Where it comes from.
    pub source: Ip4,
    /// Where it goes to.
    pub destination: Ip4,
    /// The UDP port it comes from.
    pub source_port: u16,
    /// The UDP port it goes to: 4791.
    pub destination_port: u16,
}

impl IcrcSeed {
    /// For a packet that is the payload of a GVM record with this header.
    #[inline]
    pub fn record(header: &RecordHeader) -> Self {
        let mut bytes = [0xff; MOST];
        if let Some(place) = bytes.get_mut(ONES..ONES + HEADER_LEN) {
            place.copy_from_slice(header.as_bytes());
        }
        Self { bytes, len: (ONES + HEADER_LEN) as u8 }
    }

    /// For a RoCEv2 packet that arrived behind these 28 bytes: an IPv4 header without options, and a UDP header.
    #[inline]
    pub fn roce(headers: &[u8; IPV4_UDP]) -> Self {
        let mut bytes = [0xff; MOST];
        if let Some(place) = bytes.get_mut(ONES..) {
            place.copy_from_slice(headers);
        }
        // TOS, TTL, the checksum of IPv4, the checksum of UDP
        for at in [1, 8, 10, 11, 26, 27] {
            if let Some(byte) = bytes.get_mut(ONES + at) {
                *byte = 0xff;
            }
        }
        Self { bytes, len: MOST as u8 }
    }

    /// For a RoCEv2 packet of `packet` bytes, ICRC included, that leaves with these headers. `None` if it is too long
    /// for IPv4.
    #[inline]
    pub fn roce_fields(fields: &Ipv4Udp, packet: usize) -> Option<Self> {
        let total = u16::try_from(packet.checked_add(IPV4_UDP)?).ok()?;
        let mut headers = [0xff; IPV4_UDP];

        let words: [(usize, [u8; 2]); 6] = [
            (2, total.to_be_bytes()),
            (4, fields.id.to_be_bytes()),
            (6, fields.fragment.to_be_bytes()),
            (20, fields.source_port.to_be_bytes()),
            (22, fields.destination_port.to_be_bytes()),
            (24, (total - 20).to_be_bytes()),
        ];
        for (at, word) in words {
            headers.get_mut(at..at + 2)?.copy_from_slice(&word);
        }
        headers[0] = 0x45;
        headers[9] = 17;
        headers.get_mut(12..16)?.copy_from_slice(&fields.source);
        headers.get_mut(16..20)?.copy_from_slice(&fields.destination);
        Some(Self::roce(&headers))
    }

    /// The ICRC over a packet that begins with its BTH and does not yet have its ICRC.
    ///
    /// For a packet that is shorter than a BTH, this is the ICRC of its bytes; there are no such packets.
    #[inline]
    pub fn icrc(&self, packet: &[u8]) -> [u8; ICRC_LEN] {
        self.crc(packet).to_le_bytes()
    }

    /// The CRC over the start of a packet, its BTH and perhaps more. [`extend`] takes the bytes that follow; the CRC of
    /// all is the ICRC.
    #[inline]
    pub fn crc(&self, packet: &[u8]) -> u32 {
        // One piece for the vector code, instead of several short ones: the bytes before the BTH, the BTH, and as many
        // of the following bytes as fit. For small packets that is everything.
        let mut head = [0; HEAD];
        if let Some(place) = head.first_chunk_mut::<MOST>() {
            *place = self.bytes;
        }
        let before = usize::from(self.len).min(MOST);
        // The rest of a packet with a full payload is a multiple of what the vector code takes at once.
        let odd = packet.len() % WIDE;
        let near = if (BTH_LEN..=HEAD - before).contains(&odd) { odd } else { packet.len().min(HEAD - before) };
        let (near, far) = packet.split_at(near);
        if let Some(place) = head.get_mut(before..before + near.len()) {
            place.copy_from_slice(near);
        }
        if let Some(byte) = head.get_mut(before + VARIANT_BYTE)
            && near.len() >= BTH_LEN
        {
            *byte = 0xff;
        }
        let mut hasher = Hasher::new();
        hasher.update(head.get(..before + near.len()).unwrap_or(&[]));
        if !far.is_empty() {
            hasher.update(far);
        }
        hasher.finalize()
    }

    /// Writes the ICRC into the last four bytes of a packet. `false` when it is shorter than a BTH and an ICRC.
    #[inline]
    pub fn seal(&self, packet: &mut [u8]) -> bool {
        match packet.split_last_chunk_mut::<ICRC_LEN>() {
            Some((covered, icrc)) if covered.len() >= BTH_LEN => {
                *icrc = self.icrc(covered);
                true
            }
            _ => false,
        }
    }

    /// Whether the last four bytes of a packet are its ICRC.
    #[inline]
    pub fn verify(&self, packet: &[u8]) -> bool {
        match packet.split_last_chunk::<ICRC_LEN>() {
            Some((covered, icrc)) => covered.len() >= BTH_LEN && *icrc == self.icrc(covered),
            None => false,
        }
    }
}

/// The CRC of some bytes and of those before them, of which `crc` is the CRC.
#[inline]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rc::{Bth, Opcode, Psn};
    use crate::record::{MsgType, req_id};
    use alloc::vec::Vec;

    /// RoCEv2 packets from the IPv4 header on, and the ICRC as it stood on the wire.
    const CAPTURED: [(&str, &str, &str); 2] = [
        (
            "CNP captured on a ConnectX-4 Lx",
            "45c2003c718c4000401191610a0011010a001201000012b7002800008100ffff40000118000000000000000000000000000000000\
            0000000",
            "82fd002a",
        ),
        (
            "UC SEND ONLY",
            "45010040047840004011b4d5c0a80007c0a80007c00012b7002caca22460ffff000000d300cf17104630818be28935d90e9a95505\
            401be885e500000",
            "78f353f3",
        ),
    ];

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn captured_packets_have_the_icrc_that_was_captured() {
        for (name, packet, icrc) in CAPTURED {
            let packet = hex(packet);
            let (headers, rest) = packet.split_first_chunk::<IPV4_UDP>().unwrap();
            let seed = IcrcSeed::roce(headers);
            assert_eq!(seed.icrc(rest).to_vec(), hex(icrc), "{name}");
            let mut whole = [rest, &[0; 4]].concat();
            assert!(!seed.verify(&whole) && seed.seal(&mut whole) && seed.verify(&whole), "{name}");
            assert_eq!(whole[rest.len()..], hex(icrc), "{name}");
        }
    }

    #[test]
    fn fields_make_the_same_seed_as_the_headers() {
        let packet = hex(CAPTURED[0].1);
        let headers = packet.first_chunk::<IPV4_UDP>().unwrap();
        let fields = Ipv4Udp {
            id: 0x718c,
            fragment: 0x4000,
            source: [10, 0, 17, 1],
            destination: [10, 0, 18, 1],
            source_port: 0,
            destination_port: 4791,
        };
        let seed = IcrcSeed::roce_fields(&fields, packet.len() - IPV4_UDP + ICRC_LEN).unwrap();
        assert_eq!(seed.bytes, IcrcSeed::roce(headers).bytes);
        assert!(IcrcSeed::roce_fields(&fields, 65_508).is_none());
    }

    #[test]
    fn routers_may_change_what_they_must() {
        let mut packet = hex(CAPTURED[0].1);
        // TOS, TTL, checksums, and the fifth byte of the BTH
        for at in [1, 8, 10, 11, 26, 27, 32] {
            packet[at] ^= 0x5a;
        }
        let (headers, rest) = packet.split_first_chunk::<IPV4_UDP>().unwrap();
        assert_eq!(IcrcSeed::roce(headers).icrc(rest).to_vec(), hex(CAPTURED[0].2));
    }

    #[test]
    fn every_other_byte_counts_in_both_framings() {
        let packet = hex(CAPTURED[1].1);
        for at in (0..packet.len()).filter(|at| ![1, 8, 10, 11, 26, 27, 32].contains(at)) {
            let mut packet = packet.clone();
            packet[at] ^= 1;
            let (headers, rest) = packet.split_first_chunk::<IPV4_UDP>().unwrap();
            assert_ne!(IcrcSeed::roce(headers).icrc(rest).to_vec(), hex(CAPTURED[1].2), "byte {at}");
        }
        let header = RecordHeader::new(MsgType::RC, 17, req_id(1, 0), 16);
        let mut packet = [0; 16];
        packet[..12].copy_from_slice(Bth::new(Opcode::WRITE_LAST, 0x55, Psn::new(7)).as_bytes());
        assert!(IcrcSeed::record(&header).seal(&mut packet));
        for at in 0..HEADER_LEN {
            let mut bytes = *header.as_bytes().first_chunk::<HEADER_LEN>().unwrap();
            bytes[at] ^= 1;
            let other: RecordHeader = zerocopy::transmute!(bytes);
            assert!(!IcrcSeed::record(&other).verify(&packet), "byte {at}");
        }
    }

    #[test]
    fn a_packet_of_any_length_has_the_icrc_of_all_its_bytes() {
        let packet: Vec<u8> = (0..4_500_u32).map(|at| ((at * at) >> 3) as u8).collect();
        let record = IcrcSeed::record(&RecordHeader::new(MsgType::RC, 17, req_id(1, 0), 32));
        for seed in [record, IcrcSeed::roce(&[0x45; IPV4_UDP])] {
            for len in (0..700).chain(1_000..1_100).chain(4_090..4_500) {
                let mut plain = [&seed.bytes[..seed.len.into()], &packet[..len]].concat();
                if len >= BTH_LEN {
                    plain[usize::from(seed.len) + VARIANT_BYTE] = 0xff;
                }
                assert_eq!(seed.icrc(&packet[..len]), crc32fast::hash(&plain).to_le_bytes(), "{len} bytes");
                let (head, rest) = packet[..len].split_at((BTH_LEN + len % 21).min(len));
                assert_eq!(extend(seed.crc(head), rest).to_le_bytes(), seed.icrc(&packet[..len]), "{len} bytes");
            }
        }
    }

    #[test]
    fn a_record_has_the_icrc_that_another_program_computed() {
        let header = RecordHeader::new(MsgType::RC, 17, req_id(1, 0), 32);
        let mut packet = [0; 32];
        packet[..12].copy_from_slice(Bth::new(Opcode::READ_REQUEST, 0x55, Psn::new(7)).as_bytes());
        assert!(IcrcSeed::record(&header).seal(&mut packet));
        assert_eq!(packet[28..], RECORD_ICRC);
        assert!(!IcrcSeed::record(&header).seal(&mut [0; 15]) && !IcrcSeed::record(&header).verify(&[0; 15]));
        assert!(!IcrcSeed::record(&header).verify(&[]));
    }

    /// As zlib computes it.
    const RECORD_ICRC: [u8; 4] = [0xbf, 0xc2, 0x0e, 0x03];
}
