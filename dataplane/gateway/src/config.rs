//! The settings that a gateway gets at start.

use frame::Time;
use frame::time::{MICROSECOND, SECOND};
use wire::ShardSet;

/// The default of [`GatewayConfig::push_rate`]: a slave that answers one demand READ after another, each after 10 us,
/// stays within it. With a rate that is too small, READs of a fast link wait for the hold as soon as it is used up.
pub const PUSH_RATE: u32 = 100_000;

/// Settings of one lcore's gateway. All lcores of a process have the same settings except for the lane.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The shards that are served, and with them the scale.
    pub shards: ShardSet,
    /// The longest time that a record may wait in an aggregation buffer, in nanoseconds. With [`frame::time::FOREVER`]
    /// it waits until the buffer is full.
    pub hold: Time,
    /// Whether buffers leave early once nothing was received on any queue for a quarter of the hold.
    pub early: bool,
    /// The largest number of masters.
    pub masters: u16,
    /// Frames free for cargo (above the pool's reserve) below which the oldest buffers leave, whatever their hold.
    pub low_water: u32,
    /// The lane of cargo to masters; each lcore has its own. A buffer to a master has records of many slaves. With one
    /// lane for each lcore, the records of one slave arrive on one receive queue there, as the records from that slave
    /// do here.
    pub lane: u16,
    /// How many records with PUSH of each slave have an effect in a second, at most [`crate::push::MOST`]; of a master
    /// [`crate::push::MASTER_TIMES`] times as many. With 0, PUSH has no effect. See [`crate::push`].
    pub push_rate: u32,
    /// The heartbeat interval of the nodes, in nanoseconds: their link control has a budget for each interval.
    pub interval: Time,
}

impl GatewayConfig {
    /// The documented defaults: hold 50 us, early flush on, 64 masters, [`PUSH_RATE`], an interval of 1 s.
    pub fn new(shards: ShardSet) -> Self {
        Self {
            shards,
            hold: 50 * MICROSECOND,
            early: true,
            masters: 64,
            low_water: 512,
            lane: 0,
            push_rate: PUSH_RATE,
            interval: SECOND,
        }
    }
}
