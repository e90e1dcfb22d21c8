//! RoCEv2 packets on the wire, read and made with code of this crate.
//!
//! The product's own code is not used to check the product. The ICRC is computed bit by bit, as the InfiniBand
//! specification's annex on RoCEv2 defines it.

use crate::{GUEST, GUEST_MAC, HOST, HOST_MAC};
use wire::net::{UdpSpec, emit_udp4, parse_udp4};

/// The UDP port of RoCEv2.
pub const PORT: u16 = 4791;

/// The opcode of answers to COMPARE&SWAP and FETCH&ADD.
const ATOMIC_ACKNOWLEDGE: u8 = 0x12;

/// Bytes of Ethernet and IPv4 headers without options.
const ETHERNET: usize = 14;
const BEFORE_BTH: usize = ETHERNET + 20 + 8;

/// A packet that was read: its base transport header and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The operation.
    pub opcode: u8,
    /// The queue pair that it is for.
    pub qpn: u32,
    /// Packet sequence number.
    pub psn: u32,
    /// Whether an answer is asked for.
    pub ack: bool,
    /// Bytes of padding at its end.
    pub pad: u8,
    /// The bytes behind that header, up to the ICRC.
    pub rest: &'a [u8],
}

impl Packet<'_> {
    /// The word before the operation, in an answer to COMPARE&SWAP or FETCH&ADD.
    pub fn atomic_answer(&self) -> Option<u64> {
        let value = self.rest.get(4..12).filter(|_| self.opcode == ATOMIC_ACKNOWLEDGE)?;
        value.try_into().ok().map(u64::from_be_bytes)
    }
}

/// CRC-32 of the polynomial of Ethernet, over parts in turn.
fn crc32(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut value, mut bit) = (at as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xEDB8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc: u32, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// The ICRC of a packet from its IPv4 header on, without the ICRC itself, as it stands on the wire.
///
/// # Panics
/// When there are not even headers.
pub fn icrc(packet: &[u8]) -> [u8; 4] {
    let mut head: [u8; 40] = *packet.first_chunk().expect("IPv4, UDP and BTH");
    // Fields that routers may change: type of service, time to live, header checksum, UDP checksum, FECN, BECN and
    // reserved bits.
    for at in [1, 8, 10, 11, 26, 27, 32] {
        head[at] = 0xff;
    }
    crc32(&[&[0xff; 8], &head, &packet[40..]]).to_le_bytes()
}

/// Whether a frame is RoCEv2.
pub fn is_roce(frame: &[u8]) -> bool {
    parse_udp4(frame).is_ok_and(|headers| headers.dst_port == PORT)
}

/// Reads a frame of RoCEv2 and checks the rules for every packet.
///
/// # Errors
/// When it is too short, its IPv4 header has options, or its ICRC is wrong.
pub fn read(frame: &[u8]) -> Result<Packet<'_>, String> {
    let headers = parse_udp4(frame).map_err(|error| format!("{error:?}"))?;
    if headers.payload.start != BEFORE_BTH || headers.payload.len() < 16 {
        return Err(format!("{} bytes from {}", headers.payload.len(), headers.payload.start));
    }
    let (packet, sum) = frame[ETHERNET..headers.payload.end].split_at(headers.payload.end - ETHERNET - 4);
    if icrc(packet) != *sum {
        return Err(format!("ICRC {sum:02x?} instead of {:02x?}", icrc(packet)));
    }
    let bth = &packet[28..40];
    let u24 = |at: usize| u32::from_be_bytes([0, bth[at], bth[at + 1], bth[at + 2]]);
    if bth[1] & 0x0f != 0 || bth[2..4] != [0xff, 0xff] {
        return Err(format!("version or partition key: {bth:02x?}"));
    }
    let pad = bth[1] >> 4 & 3;
    Ok(Packet { opcode: bth[0], qpn: u24(5), psn: u24(9), ack: bth[8] & 0x80 != 0, pad, rest: &packet[40..] })
}

/// Makes a frame from the host to the guest by hand.
///
/// # Panics
/// When it would be longer than a packet can be.
pub fn make(opcode: u8, qpn: u32, psn: u32, ack: bool, rest: &[u8]) -> Vec<u8> {
    let pad = rest.len().wrapping_neg() & 3;
    let mut payload = vec![opcode, (pad as u8) << 4, 0xff, 0xff];
    payload.extend_from_slice(&qpn.to_be_bytes());
    payload.extend_from_slice(&(psn & 0xff_ffff | u32::from(ack) << 31).to_be_bytes());
    payload.extend_from_slice(rest);
    payload.resize(payload.len() + pad, 0);
    let spec = UdpSpec {
        vlan: None,
        src_mac: HOST_MAC,
        dst_mac: GUEST_MAC,
        src_ip: HOST,
        dst_ip: GUEST,
        src_port: 49_152,
        dst_port: PORT,
        ecn: 0,
        checksum: 0,
    };
    let mut frame = vec![0; BEFORE_BTH];
    let len = emit_udp4(&spec, payload.len() + 4, &mut frame).expect("a packet of ordinary length");
    assert_eq!(len, BEFORE_BTH);
    frame.extend_from_slice(&payload);
    let sum = icrc(&frame[ETHERNET..]);
    frame.extend_from_slice(&sum);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_icrc_is_that_of_real_cards() {
        // A congestion notification of a ConnectX-4 Lx, and a SEND of an unreliable connection.
        for (packet, sum) in [
            (
                "45c2003c718c4000401191610a0011010a001201000012b7002800008100ffff4000011800000000000000000000000000000\
                000\
                 00000000",
                "82fd002a",
            ),
            (
                "45010040047840004011b4d5c0a80007c0a80007c00012b7002caca22460ffff000000d300cf17104630818be28935d90e9a9\
                550\
                 5401be885e500000",
                "78f353f3",
            ),
        ] {
            assert_eq!(icrc(&bytes(packet)).to_vec(), bytes(sum));
        }
    }

    #[test]
    fn what_is_made_is_read_and_a_changed_bit_is_seen() {
        let mut frame = make(0x0a, 0x1234, 0x1ff_fffe, true, b"hello");
        assert!(is_roce(&frame));
        let packet = read(&frame).unwrap();
        assert_eq!((packet.opcode, packet.qpn, packet.psn, packet.ack, packet.pad), (0x0a, 0x1234, 0xff_fffe, true, 3));
        assert_eq!(packet.rest, b"hello\0\0\0");
        frame[60] ^= 1;
        assert!(read(&frame).unwrap_err().contains("ICRC"));
    }
}
