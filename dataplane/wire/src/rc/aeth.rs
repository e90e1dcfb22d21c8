//! The ACK Extended Transport Header: a syndrome and the message sequence number.

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Why a request was refused for good, or must be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NakCode {
    /// A packet before it is missing.
    SequenceError = 0,
    /// The request is not possible: opcode, length, too many outstanding.
    InvalidRequest = 1,
    /// Wrong rkey, outside the region, or not permitted.
    RemoteAccess = 2,
    /// The responder could not do it.
    RemoteOperation = 3,
    /// For reliable datagrams only.
    InvalidRdRequest = 4,
}

/// How long a requester waits after an RNR NAK: a code of 5 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RnrTimer(u8);

/// Units of 10 microseconds by code; code 0 is the longest.
const RNR_UNITS: [u32; 32] = [
    65_536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096,
    6144, 8192, 12_288, 16_384, 24_576, 32_768, 49_152,
];

impl RnrTimer {
    /// The timer with this code (its low 5 bits).
    #[inline]
    pub const fn new(code: u8) -> Self {
        Self(code & 0x1f)
    }

    /// The shortest timer that is at least this long, in nanoseconds; the longest timer if none is.
    pub fn at_least(nanoseconds: u64) -> Self {
        let fits = |&code: &u8| Self(code).nanoseconds() >= nanoseconds;
        // In the order of their lengths: 1 to 31, then 0.
        Self((1..32).find(fits).unwrap_or(0))
    }

    /// The code, 0 to 31.
    #[inline]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// How long, in nanoseconds: 10 us to 655.36 ms.
    #[inline]
    pub const fn nanoseconds(self) -> u64 {
        RNR_UNITS[(self.0 & 0x1f) as usize] as u64 * 10_000
    }
}

/// Credit counts by code 0 to 30.
const CREDITS: [u16; 31] = [
    0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144,
    8192, 12_288, 16_384, 24_576, 32_768,
];

/// The content of an AETH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Syndrome {
    /// Everything up to this PSN is done. The credit code is 31 when credits are not used.
    Ack {
        /// The code of the credit count, 0 to 31; see [`Syndrome::credits`].
        credit_code: u8,
    },
    /// Not ready: the request needs a posted receive, and there is none.
    RnrNak(RnrTimer),
    /// Refused, or to be sent again.
    Nak(NakCode),
}

impl Syndrome {
    /// An ACK without a credit count.
    pub const ACK: Self = Self::Ack { credit_code: 31 };

    /// The syndrome with this number; `None` for the reserved ones.
    #[inline]
    pub const fn new(number: u8) -> Option<Self> {
        // Bit 7 is reserved.
        match number >> 5 {
            0 => Some(Self::Ack { credit_code: number & 0x1f }),
            1 => Some(Self::RnrNak(RnrTimer::new(number))),
            3 => match number & 0x1f {
                0 => Some(Self::Nak(NakCode::SequenceError)),
                1 => Some(Self::Nak(NakCode::InvalidRequest)),
                2 => Some(Self::Nak(NakCode::RemoteAccess)),
                3 => Some(Self::Nak(NakCode::RemoteOperation)),
                4 => Some(Self::Nak(NakCode::InvalidRdRequest)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The number on the wire.
    #[inline]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ack { credit_code } => credit_code & 0x1f,
            Self::RnrNak(timer) => 0x20 | timer.code(),
            Self::Nak(code) => 0x60 | code as u8,
        }
    }

    /// Receives that the responder has posted, if the ACK says so.
    pub const fn credits(self) -> Option<u16> {
        match self {
            Self::Ack { credit_code } if credit_code < 31 => Some(CREDITS[credit_code as usize]),
            _ => None,
        }
    }

    /// The ACK whose credit count is at most the number of receives.
    pub fn ack_with_credits(receives: usize) -> Self {
        let above = CREDITS.iter().position(|&credits| usize::from(credits) > receives).unwrap_or(CREDITS.len());
        Self::Ack { credit_code: above.saturating_sub(1) as u8 }
    }
}

/// The ACK Extended Transport Header as it lies in a packet: syndrome (1 byte), message sequence number (3 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Aeth(U32);

const _: () = assert!(size_of::<Aeth>() == 4);

impl Aeth {
    /// A header with this syndrome and the low 24 bits of a message sequence number.
    #[inline]
    pub const fn new(syndrome: Syndrome, msn: u32) -> Self {
        Self(U32::new((syndrome.number() as u32) << 24 | (msn & 0x00ff_ffff)))
    }

    /// Its content; `None` if the syndrome is reserved.
    #[inline]
    pub const fn syndrome(&self) -> Option<Syndrome> {
        Syndrome::new((self.0.get() >> 24) as u8)
    }

    /// Messages that the responder has completed, modulo 2^24.
    #[inline]
    pub const fn msn(&self) -> u32 {
        self.0.get() & 0x00ff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syndromes_lead_back_to_their_numbers() {
        let known: Vec<u8> = (0..=255).filter(|&number| Syndrome::new(number).is_some()).collect();
        let expected: Vec<u8> = (0x00..=0x3f).chain(0x60..=0x64).collect();
        assert_eq!(known, expected);
        for number in known {
            assert_eq!(Syndrome::new(number).unwrap().number(), number);
        }
    }

    #[test]
    fn a_literal_header_is_made_and_read() {
        let aeth = Aeth::new(Syndrome::Nak(NakCode::RemoteAccess), 0xff00_0102);
        assert_eq!(aeth.as_bytes(), [0x62, 0, 1, 2]);
        assert_eq!((aeth.syndrome(), aeth.msn()), (Some(Syndrome::Nak(NakCode::RemoteAccess)), 0x102));
        assert_eq!(Aeth::new(Syndrome::ACK, 1).as_bytes(), [0x1f, 0, 0, 1]);
    }

    #[test]
    fn rnr_timers_are_those_of_the_table() {
        let us: Vec<u64> = (0..32).map(|code| RnrTimer::new(code).nanoseconds() / 10_000).collect();
        assert_eq!((us[0], us[1], us[2], us[5], us[14], us[31]), (65_536, 1, 2, 6, 128, 49_152));
        for code in 0..32 {
            assert_eq!(RnrTimer::at_least(RnrTimer::new(code).nanoseconds()).code(), code);
        }
        assert_eq!((RnrTimer::at_least(0).code(), RnrTimer::at_least(10_001).code()), (1, 2));
        assert_eq!((RnrTimer::at_least(491_520_001).code(), RnrTimer::at_least(u64::MAX).code()), (0, 0));
    }

    #[test]
    fn credits_never_promise_too_much() {
        assert_eq!(Syndrome::ACK.credits(), None);
        assert_eq!(Syndrome::Ack { credit_code: 7 }.credits(), Some(12));
        for receives in 0..40_000 {
            let credits = usize::from(Syndrome::ack_with_credits(receives).credits().unwrap());
            assert!(credits <= receives);
        }
        assert_eq!(Syndrome::ack_with_credits(13).credits(), Some(12));
        assert_eq!(Syndrome::ack_with_credits(usize::MAX).credits(), Some(32_768));
    }
}
