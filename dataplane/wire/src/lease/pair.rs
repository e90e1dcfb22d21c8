//! What each end of a queue pair tells the other.

use super::LeaseError;
use crate::rc::{Psn, QPN_MASK, RnrTimer};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct PairLayout {
    qpn: U32,
    psn: U32,
    read_depth: u8,
    rnr_timer: u8,
    reserved: [u8; 2],
}

impl PairLayout {
    pub(super) const ZERO: Self =
        Self { qpn: U32::ZERO, psn: U32::ZERO, read_depth: 0, rnr_timer: 0, reserved: [0; 2] };
}

/// One end of a queue pair.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | number, 2 to 2^24 - 1 |
/// | 4 | 4 | first PSN, below 2^24 |
/// | 8 | 1 | READ depth |
/// | 9 | 1 | RNR timer, a code of 5 bits |
/// | 10 | 2 | reserved, 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PairEnd {
    /// Its number.
    pub qpn: u32,
    /// The PSN of its first request.
    pub psn: Psn,
    /// The READs and atomic operations of the other end that it keeps for repetition.
    pub read_depth: u8,
    /// How long the other end waits when no receive is posted here.
    pub rnr_timer: RnrTimer,
}

impl PairEnd {
    /// Bytes of one.
    pub const LEN: usize = size_of::<PairLayout>();

    pub(super) fn read(layout: &PairLayout) -> Result<Self, LeaseError> {
        let (qpn, psn) = (layout.qpn.get(), layout.psn.get());
        if !(2..=QPN_MASK).contains(&qpn) || psn >= Psn::COUNT || layout.rnr_timer > 31 {
            return Err(LeaseError::Layout);
        }
        Ok(Self { qpn, psn: Psn::new(psn), read_depth: layout.read_depth, rnr_timer: RnrTimer::new(layout.rnr_timer) })
    }

    pub(super) fn read_both([demand, bulk]: &[PairLayout; 2]) -> Result<[Self; 2], LeaseError> {
        Ok([Self::read(demand)?, Self::read(bulk)?])
    }

    pub(super) fn layout(self) -> PairLayout {
        PairLayout {
            qpn: U32::new(self.qpn),
            psn: U32::new(self.psn.get()),
            read_depth: self.read_depth,
            rnr_timer: self.rnr_timer.code(),
            reserved: [0; 2],
        }
    }
}

const _: () = assert!(PairEnd::LEN == 12);
