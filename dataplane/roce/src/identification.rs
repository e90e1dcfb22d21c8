//! Finds the IPv4 identification of a packet whose IP header was not seen, from its ICRC.
//!
//! A socket hands over the payload of a packet and not its IP header. Of the header fields that the ICRC covers, only
//! the 16 bits of the identification are the sender's choice. A CRC is linear: if the identification differs, the ICRC
//! differs by the CRC of the difference. So the received ICRC and the ICRC for identification zero give the one
//! identification that explains both, if there is one, without a search.
//!
//! The check that remains has the other 16 bits: one damaged packet of 65,536 passes, instead of one of 4 billion. So
//! the result is compared with what the sender's last packets let us expect: see `sender`.

/// The polynomial of CRC-32, bit 31 for x^0.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// x^0.
const ONE: u32 = 1 << 31;

/// Bytes that the ICRC covers between the identification and the BTH: the rest of the IPv4 header, and the UDP header.
const HEADERS_BEHIND: usize = 14 + 8;

/// For each length of a packet, the factor that cancels the effect of the bytes after the identification.
#[derive(Clone, Debug)]
pub struct Identification {
    /// x^-(8 (n + 2)) for n bytes after the identification.
    undo: Vec<u32>,
}

impl Identification {
    /// For packets of at most this many bytes, from the BTH to the ICRC.
    pub fn new(packet: usize) -> Self {
        let mut power = ONE;
        let mut undo = Vec::with_capacity(packet + HEADERS_BEHIND + 1);
        for _ in 0..2 {
            power = back_one_byte(power);
        }
        for _ in 0..=packet + HEADERS_BEHIND {
            undo.push(power);
            power = back_one_byte(power);
        }
        Self { undo }
    }

    /// The identification of a packet of `packet` bytes, ICRC included, that came with the ICRC `received` and would
    /// have the ICRC `zero` with identification 0. `None` if no identification explains it: the packet was damaged.
    #[inline]
    pub fn find(&self, packet: usize, received: [u8; 4], zero: [u8; 4]) -> Option<u16> {
        let difference = u32::from_le_bytes(received) ^ u32::from_le_bytes(zero);
        if difference == 0 {
            return Some(0);
        }
        let behind = packet.checked_sub(4)? + HEADERS_BEHIND;
        let identification = multiply(difference, *self.undo.get(behind)?);
        // The first byte on the wire is the first byte here.
        u16::try_from(identification).ok().map(u16::swap_bytes)
    }
}

/// Divides by x^8.
fn back_one_byte(mut power: u32) -> u32 {
    for _ in 0..8 {
        power = if power & ONE != 0 { ((power ^ POLYNOMIAL) << 1) | 1 } else { power << 1 };
    }
    power
}

/// The product of two polynomials modulo that of CRC-32.
#[inline]
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        // Bit 31 of `a` is x^0; each step multiplies `b` by x.
        product ^= b & ((a >> bit) & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::rc::{IcrcSeed, Ipv4Udp};

    fn fields(id: u16) -> Ipv4Udp {
        Ipv4Udp {
            id,
            fragment: 0x4000,
            source: [192, 0, 2, 1],
            destination: [192, 0, 2, 2],
            source_port: 0xc123,
            destination_port: 4791,
        }
    }

    fn icrc(id: u16, covered: &[u8]) -> [u8; 4] {
        IcrcSeed::roce_fields(&fields(id), covered.len() + 4).unwrap().icrc(covered)
    }

    #[test]
    fn division_undoes_multiplication() {
        let x8 = ONE >> 8;
        let mut power = ONE;
        for _ in 0..5000 {
            let next = back_one_byte(power);
            assert_eq!(multiply(next, x8), power);
            power = next;
        }
    }

    #[test]
    fn every_identification_is_found() {
        let known = Identification::new(64);
        let covered = [0x5a; 48];
        let zero = icrc(0, &covered);
        for id in 0..=u16::MAX {
            assert_eq!(known.find(52, icrc(id, &covered), zero), Some(id));
        }
    }

    #[test]
    fn lengths_that_were_not_foreseen_are_refused() {
        let known = Identification::new(16);
        assert_eq!(known.find(17, [1, 2, 3, 4], [0; 4]), None);
        assert_eq!(known.find(3, [1, 2, 3, 4], [0; 4]), None);
    }

    proptest! {
        #[test]
        fn it_is_found_behind_any_payload(id: u16, covered in proptest::collection::vec(any::<u8>(), 12..600)) {
            let known = Identification::new(604);
            prop_assert_eq!(known.find(covered.len() + 4, icrc(id, &covered), icrc(0, &covered)), Some(id));
        }

        #[test]
        fn what_is_found_explains_the_icrc(
            id: u16,
            covered in proptest::collection::vec(any::<u8>(), 13..200),
            at: proptest::sample::Index,
            flip in 1u8..
        ) {
            let known = Identification::new(204);
            let mut broken = covered.clone();
            let at = at.index(covered.len() - 12) + 12;
            broken[at] ^= flip;
            let received = icrc(id, &covered);
            if let Some(found) = known.find(covered.len() + 4, received, icrc(0, &broken)) {
                prop_assert_eq!(icrc(found, &broken), received);
            }
        }
    }
}
