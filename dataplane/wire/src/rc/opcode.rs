//! The opcodes of reliable connections, and the headers of each.

/// The purpose of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes for the next posted receive.
    Send,
    /// Bytes for an address of the responder.
    Write,
    /// Asks for bytes of the responder.
    ReadRequest,
    /// Bytes that were asked for.
    ReadResponse,
    /// An ACK or a NAK.
    Acknowledge,
    /// The answer to COMPARE&SWAP and FETCH&ADD.
    AtomicAcknowledge,
    /// COMPARE&SWAP.
    CompareSwap,
    /// FETCH&ADD.
    FetchAdd,
    /// A congestion notification; belongs to no message.
    CongestionNotification,
}

/// The position of a packet in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Place {
    /// The first of several.
    First,
    /// Neither the first nor the last.
    Middle,
    /// The last of several.
    Last,
    /// The whole message.
    Only,
}

impl Place {
    /// The position of packet `index` of `count`.
    #[inline]
    pub const fn of(index: u32, count: u32) -> Self {
        match (index == 0, index + 1 >= count) {
            (true, true) => Self::Only,
            (true, false) => Self::First,
            (false, true) => Self::Last,
            (false, false) => Self::Middle,
        }
    }

    /// Whether a message begins here.
    #[inline]
    pub const fn begins(self) -> bool {
        matches!(self, Self::First | Self::Only)
    }

    /// Whether a message ends here.
    #[inline]
    pub const fn ends(self) -> bool {
        matches!(self, Self::Last | Self::Only)
    }
}

/// An opcode of RC, or that of a congestion notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opcode(u8);

const RETH: u8 = 1;
const AETH: u8 = 2;
const ATOMIC: u8 = 4;
const ATOMIC_ACK: u8 = 8;
const IMM: u8 = 16;
const IETH: u8 = 32;
const KNOWN: u8 = 64;

/// Headers of opcode 0x00 to 0x17.
const HEADERS: [u8; 24] = [
    KNOWN,
    KNOWN,
    KNOWN,
    KNOWN | IMM,
    KNOWN,
    KNOWN | IMM,
    KNOWN | RETH,
    KNOWN,
    KNOWN,
    KNOWN | IMM,
    KNOWN | RETH,
    KNOWN | RETH | IMM,
    KNOWN | RETH,
    KNOWN | AETH,
    KNOWN,
    KNOWN | AETH,
    KNOWN | AETH,
    KNOWN | AETH,
    KNOWN | AETH | ATOMIC_ACK,
    KNOWN | ATOMIC,
    KNOWN | ATOMIC,
    0,
    KNOWN | IETH,
    KNOWN | IETH,
];

impl Opcode {
    /// SEND, first packet.
    pub const SEND_FIRST: Self = Self(0x00);
    /// SEND, neither first nor last.
    pub const SEND_MIDDLE: Self = Self(0x01);
    /// SEND, last packet.
    pub const SEND_LAST: Self = Self(0x02);
    /// SEND, last packet, with immediate data.
    pub const SEND_LAST_IMM: Self = Self(0x03);
    /// SEND in one packet.
    pub const SEND_ONLY: Self = Self(0x04);
    /// SEND in one packet, with immediate data.
    pub const SEND_ONLY_IMM: Self = Self(0x05);
    /// RDMA WRITE, first packet.
    pub const WRITE_FIRST: Self = Self(0x06);
    /// RDMA WRITE, neither first nor last.
    pub const WRITE_MIDDLE: Self = Self(0x07);
    /// RDMA WRITE, last packet.
    pub const WRITE_LAST: Self = Self(0x08);
    /// RDMA WRITE, last packet, with immediate data.
    pub const WRITE_LAST_IMM: Self = Self(0x09);
    /// RDMA WRITE in one packet.
    pub const WRITE_ONLY: Self = Self(0x0a);
    /// RDMA WRITE in one packet, with immediate data.
    pub const WRITE_ONLY_IMM: Self = Self(0x0b);
    /// RDMA READ request.
    pub const READ_REQUEST: Self = Self(0x0c);
    /// RDMA READ response, first packet.
    pub const READ_RESPONSE_FIRST: Self = Self(0x0d);
    /// RDMA READ response, neither first nor last.
    pub const READ_RESPONSE_MIDDLE: Self = Self(0x0e);
    /// RDMA READ response, last packet.
    pub const READ_RESPONSE_LAST: Self = Self(0x0f);
    /// RDMA READ response in one packet.
    pub const READ_RESPONSE_ONLY: Self = Self(0x10);
    /// ACK or NAK.
    pub const ACKNOWLEDGE: Self = Self(0x11);
    /// Answer to an atomic operation.
    pub const ATOMIC_ACKNOWLEDGE: Self = Self(0x12);
    /// COMPARE&SWAP.
    pub const COMPARE_SWAP: Self = Self(0x13);
    /// FETCH&ADD.
    pub const FETCH_ADD: Self = Self(0x14);
    /// SEND, last packet, that invalidates an rkey.
    pub const SEND_LAST_INVALIDATE: Self = Self(0x16);
    /// SEND in one packet that invalidates an rkey.
    pub const SEND_ONLY_INVALIDATE: Self = Self(0x17);
    /// Congestion notification (RoCEv2).
    pub const CNP: Self = Self(0x81);

    /// The opcode with this number, if it is one of RC or a congestion notification.
    #[inline]
    pub const fn new(number: u8) -> Option<Self> {
        if number == Self::CNP.0 || ((number as usize) < HEADERS.len() && HEADERS[number as usize] != 0) {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number on the wire.
    #[inline]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// SEND at this position; only the end of a message has immediate data.
    #[inline]
    pub const fn send(place: Place, imm: bool) -> Self {
        match (place, imm) {
            (Place::First, _) => Self::SEND_FIRST,
            (Place::Middle, _) => Self::SEND_MIDDLE,
            (Place::Last, false) => Self::SEND_LAST,
            (Place::Last, true) => Self::SEND_LAST_IMM,
            (Place::Only, false) => Self::SEND_ONLY,
            (Place::Only, true) => Self::SEND_ONLY_IMM,
        }
    }

    /// RDMA WRITE at this position; only the end of a message has immediate data.
    #[inline]
    pub const fn write(place: Place, imm: bool) -> Self {
        match (place, imm) {
            (Place::First, _) => Self::WRITE_FIRST,
            (Place::Middle, _) => Self::WRITE_MIDDLE,
            (Place::Last, false) => Self::WRITE_LAST,
            (Place::Last, true) => Self::WRITE_LAST_IMM,
            (Place::Only, false) => Self::WRITE_ONLY,
            (Place::Only, true) => Self::WRITE_ONLY_IMM,
        }
    }

    /// RDMA READ response at this position.
    #[inline]
    pub const fn read_response(place: Place) -> Self {
        match place {
            Place::First => Self::READ_RESPONSE_FIRST,
            Place::Middle => Self::READ_RESPONSE_MIDDLE,
            Place::Last => Self::READ_RESPONSE_LAST,
            Place::Only => Self::READ_RESPONSE_ONLY,
        }
    }

    /// The purpose of the packet.
    #[inline]
    pub const fn kind(self) -> Kind {
        match self.0 {
            0x00..=0x05 | 0x16 | 0x17 => Kind::Send,
            0x06..=0x0b => Kind::Write,
            0x0c => Kind::ReadRequest,
            0x0d..=0x10 => Kind::ReadResponse,
            0x11 => Kind::Acknowledge,
            0x12 => Kind::AtomicAcknowledge,
            0x13 => Kind::CompareSwap,
            0x14 => Kind::FetchAdd,
            _ => Kind::CongestionNotification,
        }
    }

    /// The position of the packet in its message.
    #[inline]
    pub const fn place(self) -> Place {
        match self.0 {
            0x00 | 0x06 | 0x0d => Place::First,
            0x01 | 0x07 | 0x0e => Place::Middle,
            0x02 | 0x03 | 0x08 | 0x09 | 0x0f | 0x16 => Place::Last,
            _ => Place::Only,
        }
    }

    #[inline]
    const fn headers(self) -> u8 {
        if (self.0 as usize) < HEADERS.len() { HEADERS[self.0 as usize] } else { KNOWN }
    }

    /// Whether a requester sends it.
    #[inline]
    pub const fn is_request(self) -> bool {
        matches!(self.0, 0x00..=0x0c | 0x13..=0x17)
    }

    /// Whether it has an RETH.
    #[inline]
    pub const fn has_reth(self) -> bool {
        self.headers() & RETH != 0
    }

    /// Whether it has an AETH.
    #[inline]
    pub const fn has_aeth(self) -> bool {
        self.headers() & AETH != 0
    }

    /// Whether it has an AtomicETH.
    #[inline]
    pub const fn has_atomic(self) -> bool {
        self.headers() & ATOMIC != 0
    }

    /// Whether it has an AtomicAckETH.
    #[inline]
    pub const fn has_atomic_ack(self) -> bool {
        self.headers() & ATOMIC_ACK != 0
    }

    /// Whether it has immediate data.
    #[inline]
    pub const fn has_imm(self) -> bool {
        self.headers() & IMM != 0
    }

    /// Whether it has an IETH.
    #[inline]
    pub const fn has_ieth(self) -> bool {
        self.headers() & IETH != 0
    }

    /// Whether it may carry payload.
    #[inline]
    pub const fn has_payload(self) -> bool {
        matches!(self.0, 0x00..=0x0b | 0x0d..=0x10 | 0x16 | 0x17)
    }

    /// Bytes of the headers after the BTH. The 16 reserved bytes of a congestion notification count as a header.
    #[inline]
    pub const fn extension_len(self) -> usize {
        if (self.0 as usize) < LENGTHS.len() { LENGTHS[self.0 as usize] as usize } else { CNP_RESERVED }
    }
}

/// Reserved bytes of a congestion notification.
const CNP_RESERVED: usize = 16;

/// Bytes of the headers of opcode 0x00 to 0x17.
const LENGTHS: [u8; 24] = {
    let mut lengths = [0; 24];
    let mut number = 0;
    while number < lengths.len() {
        let has = HEADERS[number];
        let [reth, aeth] = [16 * (has & RETH != 0) as u8, 4 * (has & AETH != 0) as u8];
        let [atomic, atomic_ack] = [28 * (has & ATOMIC != 0) as u8, 8 * (has & ATOMIC_ACK != 0) as u8];
        lengths[number] = reth + aeth + atomic + atomic_ack + 4 * (has & (IMM | IETH) != 0) as u8;
        number += 1;
    }
    lengths
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_at_its_first_packet_and_ends_at_its_last() {
        for count in 1..5 {
            for index in 0..count {
                let place = Place::of(index, count);
                assert_eq!((place.begins(), place.ends()), (index == 0, index == count - 1), "{index} of {count}");
            }
        }
    }

    #[test]
    fn the_table_is_that_of_the_specification() {
        // opcode, bytes of extension headers
        let expected = [
            (0x00, 0),
            (0x01, 0),
            (0x02, 0),
            (0x03, 4),
            (0x04, 0),
            (0x05, 4),
            (0x06, 16),
            (0x07, 0),
            (0x08, 0),
            (0x09, 4),
            (0x0a, 16),
            (0x0b, 20),
            (0x0c, 16),
            (0x0d, 4),
            (0x0e, 0),
            (0x0f, 4),
            (0x10, 4),
            (0x11, 4),
            (0x12, 12),
            (0x13, 28),
            (0x14, 28),
            (0x16, 4),
            (0x17, 4),
            (0x81, 16),
        ];
        let known: Vec<(u8, usize)> =
            (0..=255).filter_map(Opcode::new).map(|opcode| (opcode.number(), opcode.extension_len())).collect();
        assert_eq!(known, expected);
    }

    #[test]
    fn every_opcode_has_the_kind_of_its_name() {
        let of = |kind: Kind| -> Vec<u8> {
            (0..=255).filter_map(Opcode::new).filter(|opcode| opcode.kind() == kind).map(Opcode::number).collect()
        };
        assert_eq!(of(Kind::Send), [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x16, 0x17]);
        assert_eq!(of(Kind::Write), [0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b]);
        assert_eq!((of(Kind::ReadRequest), of(Kind::ReadResponse)), (vec![0x0c], vec![0x0d, 0x0e, 0x0f, 0x10]));
        assert_eq!((of(Kind::Acknowledge), of(Kind::AtomicAcknowledge)), (vec![0x11], vec![0x12]));
        assert_eq!((of(Kind::CompareSwap), of(Kind::FetchAdd)), (vec![0x13], vec![0x14]));
        assert_eq!(of(Kind::CongestionNotification), [0x81]);
    }

    #[test]
    fn kinds_and_places_lead_back_to_the_opcode() {
        for opcode in (0..0x12).filter_map(Opcode::new) {
            let back = match opcode.kind() {
                Kind::Send => Opcode::send(opcode.place(), opcode.has_imm()),
                Kind::Write => Opcode::write(opcode.place(), opcode.has_imm()),
                Kind::ReadResponse => Opcode::read_response(opcode.place()),
                _ => opcode,
            };
            assert_eq!(back, opcode);
        }
        assert_eq!((Place::of(0, 1), Place::of(0, 2)), (Place::Only, Place::First));
        assert_eq!((Place::of(1, 2), Place::of(1, 3)), (Place::Last, Place::Middle));
        assert_eq!(Place::of(0, 0), Place::Only);
    }

    #[test]
    fn requests_and_responses_are_told_apart() {
        let requests: Vec<u8> =
            (0..=255).filter_map(Opcode::new).filter(|o| o.is_request()).map(Opcode::number).collect();
        let expected: Vec<u8> = (0x00..=0x0c).chain([0x13, 0x14, 0x16, 0x17]).collect();
        assert_eq!(requests, expected);
    }
}
