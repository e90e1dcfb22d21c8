//! The settings that a registrar gets once, at the start.

use crate::{ClusterKey, KeyRing, ShardRanges};
use frame::PortId;
use frame::time::{MICROSECOND, SECOND};
use std::fmt;
use thiserror::Error;
use wire::{MIN_MTU, Scale, Shard, UNPROVEN_MTU};

/// The settings that a registrar gets once, at the start.
#[derive(Clone)]
pub struct RegistrarConfig {
    /// The scale of the system.
    pub scale: Scale,
    /// The shards that this gateway serves.
    pub shards: ShardRanges,
    /// The cluster key, or both while it changes; without one nothing is signed or verified.
    pub keys: KeyRing<ClusterKey>,
    /// Start secret of the cookies: random in each start.
    pub secret: [u8; 32],
    /// Differs in each start, and is not zero.
    pub epoch: u64,
    /// Heartbeat interval of the nodes, in nanoseconds.
    pub interval: u64,
    /// The longest time that a record may wait in this gateway, in nanoseconds.
    pub hold_ns: u32,
    /// Largest IP packet that this gateway can take, in bytes.
    pub mtu: u16,
    /// The same for each port, where they differ, beginning with the first port. A port that is not listed has `mtu`.
    pub port_mtus: Vec<u16>,
    /// There are two ports: masters register on port 0 only.
    pub two_port: bool,
    /// The most masters at a time.
    pub max_masters: usize,
    /// Whether nodes of version 1 of link control are accepted, too.
    pub accept_v1: bool,
}

impl Default for RegistrarConfig {
    /// All shards of the default scale, no key, one port, MTU 1500, hold 50 us; the secret and the epoch are constants.
    fn default() -> Self {
        Self {
            scale: Scale::default(),
            shards: ShardRanges::all(Scale::default()),
            keys: KeyRing::none(),
            secret: [0; 32],
            epoch: 1,
            interval: SECOND,
            hold_ns: 50 * MICROSECOND as u32,
            mtu: 1500,
            port_mtus: Vec::new(),
            two_port: false,
            max_masters: 64,
            accept_v1: false,
        }
    }
}

impl fmt::Debug for RegistrarConfig {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scale,
            shards,
            keys,
            secret: _,
            epoch,
            interval,
            hold_ns,
            mtu,
            port_mtus,
            two_port,
            max_masters,
            accept_v1,
        } = self;
        f.debug_struct("RegistrarConfig")
            .field("scale", scale)
            .field("shards", shards)
            .field("keys", keys)
            .field("epoch", epoch)
            .field("interval", interval)
            .field("hold_ns", hold_ns)
            .field("mtu", mtu)
            .field("port_mtus", port_mtus)
            .field("two_port", two_port)
            .field("max_masters", max_masters)
            .field("accept_v1", accept_v1)
            .finish_non_exhaustive()
    }
}

/// Why a registrar cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistrarError {
    /// No shard to serve.
    #[error("a gateway must serve at least one shard: give --shards, for example 0-3")]
    NoShards,
    /// A shard that the scale does not have.
    #[error("shard {shard} does not exist, there are {shards} (0-{}): correct --shards, slave-bits or \
        gw-bits", shards - 1)]
    ShardOutOfRange {
        /// The highest shard that was asked for.
        shard: Shard,
        /// How many there are.
        shards: u32,
    },
    /// An interval of zero.
    #[error("a heartbeat interval must be longer than zero: the default is 1s")]
    Interval,
    /// An MTU below 576.
    #[error("an MTU of {0} is too small: 576 is the least, {UNPROVEN_MTU} or more is of use")]
    Mtu(u16),
    /// An epoch of zero, which means that there is none.
    #[error("the epoch of a gateway must not be zero: draw it at random")]
    Epoch,
    /// There is no memory for its members.
    #[error(transparent)]
    NoMemory(#[from] frame::TableError),
}

impl RegistrarConfig {
    fn mtus(&self) -> impl Iterator<Item = u16> {
        std::iter::once(self.mtu).chain(self.port_mtus.iter().copied())
    }

    /// The largest IP packet of any port, in bytes.
    pub(super) fn largest_mtu(&self) -> u16 {
        self.mtus().max().unwrap_or(self.mtu)
    }

    /// The largest IP packet that this gateway can take on a port, in bytes.
    pub(super) fn mtu_of(&self, port: PortId) -> u16 {
        self.port_mtus.get(usize::from(port.0)).copied().unwrap_or(self.mtu)
    }

    pub(super) fn check(&self) -> Result<(), RegistrarError> {
        let last = self.shards.last().ok_or(RegistrarError::NoShards)?;
        let shards = self.scale.shards();
        if last.0 >= shards {
            return Err(RegistrarError::ShardOutOfRange { shard: last, shards });
        }
        if self.interval == 0 {
            return Err(RegistrarError::Interval);
        }
        if let Some(mtu) = self.mtus().find(|mtu| *mtu < MIN_MTU) {
            return Err(RegistrarError::Mtu(mtu));
        }
        if self.epoch == 0 {
            return Err(RegistrarError::Epoch);
        }
        Ok(())
    }
}
