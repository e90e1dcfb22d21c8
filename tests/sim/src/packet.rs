//! Whole Ethernet frames as the wire sees them: built, read, marked, and broken.

use crate::place::Place;
use crate::rng::Rng;
use wire::Record;
use wire::net::{UdpSpec, emit_udp4, headers_len, ipv4, parse_udp4, udp_checksum, verify_udp4};

pub use wire::net::UdpFrame;

/// A frame with a datagram from one place to another, with right checksums.
pub fn build(from: Place, to: Place, vlan: Option<u16>, source_port: u16, payload: &[u8]) -> Vec<u8> {
    let spec = UdpSpec {
        vlan,
        src_mac: from.mac(),
        dst_mac: to.mac(),
        src_ip: from.ip(),
        dst_ip: to.ip(),
        src_port: source_port,
        dst_port: wire::GATEWAY_PORT,
        ecn: 0,
        checksum: 0,
    };
    emit(spec, payload)
}

fn emit(spec: UdpSpec, payload: &[u8]) -> Vec<u8> {
    let checksum = udp_checksum(spec.src_ip, spec.dst_ip, spec.src_port, spec.dst_port, payload);
    let spec = UdpSpec { checksum, ..spec };
    let headers = headers_len(spec.vlan.is_some());
    let mut frame = vec![0; headers + payload.len()];
    frame[headers..].copy_from_slice(payload);
    emit_udp4(&spec, payload.len(), &mut frame[..headers]).expect("a datagram that was received can be sent");
    frame
}

/// Reads a frame whose headers and checksums are right.
pub fn read(frame: &[u8]) -> Option<UdpFrame> {
    let read = parse_udp4(frame).ok()?;
    let header = frame.get(read.payload.start - 28..read.payload.start - 8)?;
    let ip_is_right = wire::net::checksum::fold(wire::net::checksum::sum(header)) == 0;
    (ip_is_right && verify_udp4(frame, &read)).then_some(read)
}

/// The UDP payload of a frame that was read.
pub fn payload<'a>(frame: &'a [u8], read: &UdpFrame) -> &'a [u8] {
    frame.get(read.payload.clone()).unwrap_or(&[])
}

/// Whether a datagram is cargo: it begins with a record that is not link control.
pub fn is_cargo(payload: &[u8]) -> bool {
    Record::first(payload).is_ok_and(|record| !record.header().msg_type().is_link_control())
}

/// How many records of cargo a frame has; none if it is broken.
pub fn records(frame: &[u8]) -> u64 {
    let Some(read) = read(frame) else { return 0 };
    let mut rest = payload(frame, &read);
    if !is_cargo(rest) {
        return 0;
    }
    let mut records = 0;
    while let Ok(record) = Record::first(rest) {
        records += 1;
        rest = rest.get(record.bytes().len()..).unwrap_or(&[]);
    }
    records
}

fn respec(read: &UdpFrame) -> UdpSpec {
    UdpSpec {
        vlan: read.vlan,
        src_mac: read.src_mac,
        dst_mac: read.dst_mac,
        src_ip: read.src_ip,
        dst_ip: read.dst_ip,
        src_port: read.src_port,
        dst_port: read.dst_port,
        ecn: read.ecn,
        checksum: 0,
    }
}

/// Changes a frame as a NIC does that sends cargo from the lane of its first record.
pub fn from_lane(frame: &[u8], read: &UdpFrame) -> Vec<u8> {
    let payload = payload(frame, read);
    let lane = Record::first(payload).map_or(0, |record| record.header().slave_id() % u32::from(wire::LANES)) as u16;
    emit(UdpSpec { src_port: wire::lane_port(lane), ..respec(read) }, payload)
}

/// The frame with another datagram.
pub fn with_payload(read: &UdpFrame, payload: &[u8]) -> Vec<u8> {
    emit(respec(read), payload)
}

/// Marks a frame as a congested switch does.
pub fn mark_ce(frame: &[u8], read: &UdpFrame) -> Vec<u8> {
    emit(UdpSpec { ecn: ipv4::ECN_CE, ..respec(read) }, payload(frame, read))
}

/// Flips one bit of the IP packet: a checksum always finds it.
pub fn flip_a_bit(frame: &mut [u8], read: &UdpFrame, rng: &mut Rng) {
    let udp_checksum = read.payload.start - 2..read.payload.start;
    // Another header length would move what the checksums cover.
    let first = read.payload.start - 27;
    let mut at = first + rng.below((frame.len() - first) as u64) as usize;
    // A checksum of zero means none, and one bit can make it so.
    if udp_checksum.contains(&at) {
        at = first + 7;
    }
    frame[at] ^= 1 << rng.below(8);
}

/// The frame ends early.
pub fn cut_short(frame: &mut Vec<u8>, rng: &mut Rng) {
    frame.truncate(rng.below(frame.len() as u64) as usize);
}

/// Damages a datagram with correct checksums, as a faulty sender does: some bytes are different, or its end is missing.
pub fn damage(frame: &[u8], read: &UdpFrame, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = payload(frame, read).to_vec();
    if rng.one_in(2) {
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
    } else {
        for _ in 0..rng.between(1, 3) {
            if !bytes.is_empty() {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= rng.between(1, 255) as u8;
            }
        }
    }
    emit(respec(read), &bytes)
}

/// The queue that takes the frame, on a NIC with `queues` queues: a hash of addresses and UDP ports.
pub fn rss(frame: &[u8], queues: usize) -> usize {
    let Ok(read) = parse_udp4(frame) else { return 0 };
    let flow = u64::from(u32::from_le_bytes(read.src_ip)) << 32 | u64::from(read.src_port) << 16;
    let hash = (flow | u64::from(read.dst_port)) ^ u64::from(u32::from_le_bytes(read.dst_ip)).rotate_left(17);
    ((u128::from(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * queues as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Who;

    #[test]
    fn every_single_bit_is_found_and_repaired_damage_is_not() {
        let (from, to) = (Place::first(Who::Farm(3)), Place::first(Who::Gateway(0)));
        for vlan in [None, Some(5)] {
            let frame = build(from, to, vlan, 9999, b"some datagram");
            let seen = read(&frame).expect("it is right");
            assert_eq!((Place::of(seen.src_ip), payload(&frame, &seen)), (Some(from), &b"some datagram"[..]));
            let mut rng = Rng::new(1);
            for _ in 0..500 {
                let mut broken = frame.clone();
                flip_a_bit(&mut broken, &seen, &mut rng);
                assert!(read(&broken).is_none(), "{broken:02x?}");
                assert!(read(&damage(&frame, &seen, &mut rng)).is_some());
                let mut short = frame.clone();
                cut_short(&mut short, &mut rng);
                assert!(read(&short).is_none());
            }
            assert_eq!(read(&mark_ce(&frame, &seen)).map(|seen| seen.ecn), Some(ipv4::ECN_CE));
        }
    }
}
