//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet::{self, Ethernet};
use super::{BROADCAST, Ip4, Mac, NetError};

/// Bytes of an ARP packet.
pub const LEN: usize = 28;

/// Hardware Ethernet, protocol IPv4, addresses of 6 and 4 bytes.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

mod field {
    use core::ops::Range;
    pub(super) const KIND: Range<usize> = 0..6;
    pub(super) const OPERATION: Range<usize> = 6..8;
    pub(super) const SENDER_MAC: Range<usize> = 8..14;
    pub(super) const SENDER_IP: Range<usize> = 14..18;
    pub(super) const TARGET_MAC: Range<usize> = 18..24;
    pub(super) const TARGET_IP: Range<usize> = 24..28;
}

/// The operation of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target's IP address?
    Request = 1,
    /// The sender has its IP address.
    Reply = 2,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Ethernet address of the sender.
    pub sender_mac: Mac,
    /// IP address of the sender.
    pub sender_ip: Ip4,
    /// Ethernet address of the target; zero in a request.
    pub target_mac: Mac,
    /// IP address of the target.
    pub target_ip: Ip4,
}

impl Arp {
    /// The request of `sender` for the owner of `target_ip`.
    pub const fn request(sender_mac: Mac, sender_ip: Ip4, target_ip: Ip4) -> Self {
        Self { operation: Operation::Request, sender_mac, sender_ip, target_mac: [0; 6], target_ip }
    }

    /// The answer that `mac` has the target's IP address; `None` if this is not a request.
    pub fn reply(&self, mac: Mac) -> Option<Self> {
        (self.operation == Operation::Request).then_some(Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        })
    }

    /// Reads the bytes after an Ethernet header of type ARP.
    ///
    /// # Errors
    /// The error is [`NetError::Truncated`] when the packet is shorter than ARP for IPv4. It is [`NetError::Arp`] when
    /// it is not ARP for IPv4 over Ethernet, or is neither a request nor a reply.
    pub fn parse(packet: &[u8]) -> Result<Self, NetError> {
        let packet: &[u8; LEN] = packet.first_chunk().ok_or(NetError::Truncated)?;
        if packet[field::KIND] != KIND {
            return Err(NetError::Arp);
        }
        let operation = match packet[field::OPERATION] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(NetError::Arp),
        };
        let mac = |at: core::ops::Range<usize>| -> Mac { core::array::from_fn(|i| packet[at.start + i]) };
        let ip = |at: core::ops::Range<usize>| -> Ip4 { core::array::from_fn(|i| packet[at.start + i]) };
        Ok(Self {
            operation,
            sender_mac: mac(field::SENDER_MAC),
            sender_ip: ip(field::SENDER_IP),
            target_mac: mac(field::TARGET_MAC),
            target_ip: ip(field::TARGET_IP),
        })
    }

    /// Writes the packet at the start of `out` and returns its length, or `None` when it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let out: &mut [u8; LEN] = out.first_chunk_mut()?;
        out[field::KIND].copy_from_slice(&KIND);
        out[field::OPERATION].copy_from_slice(&(self.operation as u16).to_be_bytes());
        out[field::SENDER_MAC].copy_from_slice(&self.sender_mac);
        out[field::SENDER_IP].copy_from_slice(&self.sender_ip);
        out[field::TARGET_MAC].copy_from_slice(&self.target_mac);
        out[field::TARGET_IP].copy_from_slice(&self.target_ip);
        Some(LEN)
    }

    /// Writes a whole frame: a request as broadcast, a reply to its target. Returns its length.
    pub fn emit_frame(&self, vlan: Option<u16>, out: &mut [u8]) -> Option<usize> {
        let dst = match self.operation {
            Operation::Request => BROADCAST,
            Operation::Reply => self.target_mac,
        };
        let ethernet = Ethernet { dst, src: self.sender_mac, vlan, ethertype: ethernet::ARP };
        let at = ethernet.emit(out)?;
        Some(at + self.emit(out.get_mut(at..)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // who has 192.168.0.1? tell 192.168.0.17 at 02:00:00:00:00:11
    const LITERAL: &[u8] = &[
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 0x08, 0x06, 0x00, 0x01, 0x08, 0x00,
        0x06, 0x04, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x11, 0xc0, 0xa8, 0x00, 0x11, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01,
    ];

    const OURS: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn a_literal_request_is_read_and_written() {
        let (ethernet, packet) = Ethernet::parse(LITERAL).unwrap();
        assert_eq!((ethernet.dst, ethernet.ethertype), (BROADCAST, ethernet::ARP));
        let request = Arp::request([2, 0, 0, 0, 0, 17], [192, 168, 0, 17], [192, 168, 0, 1]);
        assert_eq!(Arp::parse(packet), Ok(request));
        let mut out = [0; 60];
        assert_eq!(request.emit_frame(None, &mut out), Some(42));
        assert_eq!(&out[..42], LITERAL);
        assert_eq!(request.emit_frame(None, &mut out[..41]), None);
    }

    #[test]
    fn a_request_is_answered_in_kind() {
        let reply = Arp::parse(&LITERAL[14..]).unwrap().reply(OURS).unwrap();
        assert_eq!((reply.sender_mac, reply.sender_ip), (OURS, [192, 168, 0, 1]));
        assert_eq!((reply.target_mac, reply.target_ip), ([2, 0, 0, 0, 0, 17], [192, 168, 0, 17]));
        assert_eq!(reply.reply(OURS), None);
        let mut out = [0; 60];
        let len = reply.emit_frame(Some(0), &mut out).unwrap();
        let (ethernet, packet) = Ethernet::parse(&out[..len]).unwrap();
        assert_eq!((ethernet.dst, ethernet.src, ethernet.vlan), ([2, 0, 0, 0, 0, 17], OURS, Some(0)));
        assert_eq!(packet[7], 2);
        assert_eq!(Arp::parse(packet), Ok(reply));
    }

    #[test]
    fn other_kinds_are_refused() {
        for at in 14..22 {
            let mut bytes = LITERAL.to_vec();
            bytes[at] ^= 4;
            assert_eq!(Arp::parse(&bytes[14..]), Err(NetError::Arp), "byte {at}");
        }
        assert_eq!(Arp::parse(&LITERAL[14..41]), Err(NetError::Truncated));
    }
}
