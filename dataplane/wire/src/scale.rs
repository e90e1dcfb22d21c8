//! The size of the system, in one place: [`Scale`], and the ids that only a scale can make.

use core::fmt;

/// How many bits a slave id has, and how many of them are inside one gateway.
///
/// The defaults are the only definition of the numbers 131,072 and 8,192 in the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    slave_bits: u8,
    gw_bits: u8,
}

/// Why a pair of bit counts is not a [`Scale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleError {
    /// `gw_bits` is larger than `slave_bits`: a gateway would serve more slaves than there are.
    GatewayLarger {
        /// The bits of a slave id that were asked for.
        slave_bits: u8,
        /// The bits of the id inside one gateway that were asked for.
        gw_bits: u8,
    },
    /// `slave_bits` is larger than [`Scale::MAX_SLAVE_BITS`].
    TooLarge {
        /// The bits of a slave id that were asked for.
        slave_bits: u8,
    },
}

impl fmt::Display for ScaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GatewayLarger { slave_bits, gw_bits } => write!(
                f,
                "gw-bits {gw_bits} is larger than slave-bits {slave_bits}: a gateway cannot serve more slaves than \
                 there are; choose gw-bits <= slave-bits (the defaults are 13 and 17)"
            ),
            Self::TooLarge { slave_bits } => write!(
                f,
                "slave-bits {slave_bits} is larger than {}: choose at most {}",
                Scale::MAX_SLAVE_BITS,
                Scale::MAX_SLAVE_BITS
            ),
        }
    }
}

impl core::error::Error for ScaleError {}

/// The id of a slave; always valid for the [`Scale`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlaveId(u32);

/// Which gateway serves a slave: `slave_id >> GW_BITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u32);

impl Default for Scale {
    fn default() -> Self {
        Self { slave_bits: 17, gw_bits: 13 }
    }
}

impl Scale {
    /// The largest number of bits that a slave id may have.
    pub const MAX_SLAVE_BITS: u8 = 24;

    /// Checks `gw_bits <= slave_bits <= 24`.
    ///
    /// # Errors
    /// The error is [`ScaleError::TooLarge`] when `slave_bits` is above 24. It is [`ScaleError::GatewayLarger`] when
    /// `gw_bits` is above `slave_bits`.
    pub const fn new(slave_bits: u8, gw_bits: u8) -> Result<Self, ScaleError> {
        if slave_bits > Self::MAX_SLAVE_BITS {
            return Err(ScaleError::TooLarge { slave_bits });
        }
        if gw_bits > slave_bits {
            return Err(ScaleError::GatewayLarger { slave_bits, gw_bits });
        }
        Ok(Self { slave_bits, gw_bits })
    }

    /// Bits of a slave id.
    pub const fn slave_bits(self) -> u8 {
        self.slave_bits
    }

    /// Bits of a slave id inside one gateway.
    pub const fn gw_bits(self) -> u8 {
        self.gw_bits
    }

    /// How many slave ids there are.
    pub const fn slaves(self) -> u32 {
        1 << self.slave_bits
    }

    /// How many slave ids one gateway serves.
    pub const fn slaves_per_gateway(self) -> u32 {
        1 << self.gw_bits
    }

    /// How many shards, and so gateways, there are.
    pub const fn shards(self) -> u32 {
        1 << (self.slave_bits - self.gw_bits)
    }

    /// The slave id with this number, if it is in range.
    #[inline]
    pub const fn slave_id(self, id: u32) -> Option<SlaveId> {
        if id < self.slaves() { Some(SlaveId(id)) } else { None }
    }

    /// The shard of a slave.
    #[inline]
    pub const fn shard(self, id: SlaveId) -> Shard {
        Shard(id.0 >> self.gw_bits)
    }

    /// The slave's place inside its shard, `0 .. slaves_per_gateway()`.
    #[inline]
    pub const fn index_in_shard(self, id: SlaveId) -> u32 {
        id.0 & (self.slaves_per_gateway() - 1)
    }
}

impl SlaveId {
    /// The id as it stands in a record header.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// `slave_id & 1023`: a hint for RSS, so that all records of one slave reach the same lcore.
    #[inline]
    pub const fn lane(self) -> u16 {
        (self.0 % crate::LANES as u32) as u16
    }
}

impl fmt::Display for SlaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_scale() {
        let scale = Scale::default();
        assert_eq!((scale.slaves(), scale.slaves_per_gateway(), scale.shards()), (131_072, 8_192, 16));
        assert_eq!((scale.slave_bits(), scale.gw_bits()), (17, 13));
    }

    #[test]
    fn ids_exist_only_in_range() {
        let scale = Scale::default();
        assert!(scale.slave_id(131_072).is_none());
        let last = scale.slave_id(131_071).unwrap();
        assert_eq!((scale.shard(last), scale.index_in_shard(last), last.lane()), (Shard(15), 8_191, 1023));
    }

    #[test]
    fn lanes_have_ports_of_their_own() {
        assert_eq!([0, 17, 1023, 1024].map(crate::lane_port), [49_152, 49_169, 50_175, 49_152]);
        let known = [9999, 49_151, 49_152, 50_175, 50_176, u16::MAX].map(crate::is_lane_port);
        assert_eq!(known, [false, false, true, true, false, false]);
    }

    #[test]
    fn a_scale_that_cannot_be_is_refused_with_the_remedy() {
        let error = Scale::new(12, 13).unwrap_err();
        assert!(alloc::format!("{error}").contains("gw-bits 13 is larger than slave-bits 12"));
        assert_eq!(Scale::new(25, 1), Err(ScaleError::TooLarge { slave_bits: 25 }));
        assert_eq!(Scale::new(0, 0).map(|s| (s.slaves(), s.shards())), Ok((1, 1)));
    }
}
