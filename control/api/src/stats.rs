//! What `GET /v1/stats` answers. The client reads the same types.

use crate::applications::ServingStats;
use crate::changes::Change;
use crate::disk::ServedDisk;
use crate::lending::LendingStats;
use crate::neighbours::NeighbourStats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The setting that identifies keys.
pub const KEY_FINGERPRINT: &str = "key_fingerprint";

/// The setting that has the fingerprint of the connect key, or of both.
pub const CONNECT_KEY_FINGERPRINT: &str = "connect_key_fingerprint";

/// The name of the fact that there are static routes, to nodes that do not register.
pub const STATIC_ROUTES: &str = "static_routes";

/// For each set, its counters by name.
pub type Sets = BTreeMap<String, BTreeMap<String, u64>>;

/// Histograms by name.
pub type Histograms = BTreeMap<String, HistogramStats>;

/// A whole process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Its name.
    pub name: String,
    /// gateway or slave.
    pub role: String,
    /// Version of gvm-dp.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// running or draining.
    pub state: String,
    /// Changes of the machine that the process does not follow.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
    /// Who is registered: at a gateway, or the ids of a farm.
    pub membership: Option<Membership>,
    /// What a slave lends; null if that is nothing.
    #[serde(default)]
    pub lending: Option<LendingStats>,
    /// Whom a master serves; null in other roles.
    #[serde(default)]
    pub serving: Option<ServingStats>,
    /// What a disk is and has; null in other roles.
    #[serde(default)]
    pub disk: Option<ServedDisk>,
    /// CPU seconds of all lcores.
    pub cpu_seconds: f64,
    /// Cargo by direction, `down` and `up`. Only a gateway has it.
    pub directions: BTreeMap<String, Direction>,
    /// All sets, summed over the lcores; `link` comes from the registrar.
    pub total: Sets,
    /// Histograms, summed over the lcores. Only a gateway has them.
    #[serde(default)]
    pub histograms: Histograms,
    /// Interfaces whose queues are ports.
    #[serde(default)]
    pub interfaces: Vec<InterfaceStats>,
    /// Devices of DPDK whose queues are ports.
    #[serde(default)]
    pub devices: Vec<DeviceStats>,
    /// Each lcore.
    pub lcores: Vec<LcoreStats>,
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramStats {
    /// Buckets, by their bounds.
    pub buckets: Vec<Bucket>,
    /// Sum of all values.
    pub sum: u64,
}

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The largest value that this bucket counts; null for the last bucket.
    pub bound: Option<u64>,
    /// Values in this bucket alone.
    pub count: u64,
}

impl HistogramStats {
    /// Adds the values of another lcore's histogram.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.extend(other.buckets.iter().map(|bucket| Bucket { count: 0, ..*bucket }));
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            mine.count += theirs.count;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// An interface whose queues are ports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// Which port.
    pub port: u8,
    /// Its name now.
    pub name: String,
    /// Its number in the network namespace. It stays the same as long as the interface exists.
    #[serde(default)]
    pub index: u32,
    /// Whether packets can pass: up, down, no carrier, or gone.
    #[serde(default)]
    pub link: String,
    /// Its IPv4 address and UDP port.
    pub address: String,
    /// Its MTU now, in bytes.
    pub mtu: u32,
    /// The receive queues that it has now.
    pub queues: u32,
    /// How many of them lcores serve: as many as the interface had at the start.
    #[serde(default)]
    pub queues_served: u32,
    /// Entries of each ring of each queue.
    pub ring: u32,
    /// The mode that was asked for.
    pub asked: String,
    /// The mode that the kernel gave.
    pub mode: String,
    /// The VLANs that it takes packets from; 0 means untagged packets.
    #[serde(default)]
    pub vlans: String,
    /// Why it is not zero-copy; null if it is.
    #[serde(default)]
    pub why_copy: Option<String>,
    /// Its driver in the kernel; empty if it has none, like a veth.
    #[serde(default)]
    pub driver: String,
    /// Receive offloads that are off while the process runs, named as in `ethtool -K`.
    pub turned_off: Vec<String>,
    /// Packets by what the XDP program decided.
    pub verdicts: BTreeMap<String, u64>,
}

/// The name of the verdict on packets that are shorter than their IP header says.
pub const CUT_OFF: &str = "drop_cut_off";

/// The prefix of modes in which drivers hand over their own buffers.
pub const ZERO_COPY: &str = "zero-copy";

impl InterfaceStats {
    /// What to say about packets that came cut off; `None` if the driver is not the cause. With zero-copy a driver
    /// hands over its own buffers, and some drivers tell the NIC a length that is rounded down.
    pub fn cut_off_text(&self) -> Option<String> {
        let Self { name, mtu, driver, .. } = self;
        self.mode.starts_with(ZERO_COPY).then(|| {
            format!(
                "were cut off by the driver of {name} ({driver}), whose buffers in zero-copy are too small for them: \
                 give all hosts \
                 of that network an MTU of at most {mtu}, which {name} has; where they have it, take mode=copy, and \
                     report the \
                 driver"
            )
        })
    }
}

/// A device of DPDK whose queues are ports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeviceStats {
    /// Which port.
    pub port: u8,
    /// Its PCI address, or its name.
    pub name: String,
    /// Its driver in DPDK.
    pub driver: String,
    /// Its IPv4 addresses and UDP port.
    pub address: String,
    /// Its Ethernet address.
    pub mac: String,
    /// Its MTU, in bytes.
    pub mtu: u16,
    /// The VLANs that it takes packets from; 0 means untagged packets.
    #[serde(default)]
    pub vlans: String,
    /// Its queue pairs.
    pub queues: u16,
    /// Descriptors of each receive queue.
    pub rx_ring: u16,
    /// Descriptors of each transmit queue.
    pub tx_ring: u16,
    /// How packets are assigned to queues.
    pub spread: String,
    /// Whether its packets are copied, because its driver has its own memory.
    pub copies: bool,
    /// Whether it verifies the checksums of received packets.
    #[serde(default)]
    pub rx_checksums: bool,
    /// Whether it fills in the UDP checksums of sent packets.
    #[serde(default)]
    pub tx_checksums: bool,
    /// Whether the link is up.
    pub link_up: bool,
    /// The link's speed in Mbit/s; 0 when it is unknown.
    pub link_mbits: u64,
    /// The counters of its driver, under the driver's names.
    pub counters: BTreeMap<String, u64>,
    /// Its neighbours, by address. After them come hosts that use one of its own addresses.
    #[serde(default)]
    pub neighbours: Vec<NeighbourStats>,
}

/// How many are registered.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Membership {
    /// Slave ids that a gateway serves, or the ids of a farm.
    pub ids: u64,
    /// How many of them are registered.
    pub registered: u64,
    /// How many of them are suspect: silent together with many others.
    pub suspect: u64,
    /// Masters that are registered.
    pub masters: u64,
    /// The membership generation.
    pub generation: u64,
    /// Differs in each start of the gateway.
    pub epoch: u64,
}

/// Cargo of one direction. Always: `records_in = records_out + held + consumed + sum(dropped)`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Direction {
    /// Records that came in.
    pub records_in: u64,
    /// Records that a TX ring took.
    pub records_out: u64,
    /// Records that wait in aggregation buffers or for a TX ring.
    pub held: u64,
    /// Records that ended here. A gateway consumes no cargo.
    pub consumed: u64,
    /// Records dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The remainder of the equation: zero when no record moves.
    pub unaccounted: i64,
    /// Datagrams that came in.
    pub datagrams_in: u64,
    /// Datagrams that a TX ring took.
    pub datagrams_out: u64,
    /// Bytes of UDP payload that came in.
    pub bytes_in: u64,
    /// Bytes of UDP payload that a TX ring took.
    pub bytes_out: u64,
    /// Packets saved: 100 * (1 - datagrams_out / records_out); null before the first record left.
    pub saved_percent: Option<f64>,
}

/// One lcore.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LcoreStats {
    /// Its number among the lcores, from 0.
    pub index: u16,
    /// The core it is pinned to now, if any.
    pub core: Option<usize>,
    /// The core that it was given, if any. A cpuset may have moved it since.
    #[serde(default)]
    pub asked_core: Option<usize>,
    /// The cores on which it may run now, as a list; empty if the kernel does not say.
    #[serde(default)]
    pub cores: String,
    /// The stage of its poll at the moment of the question.
    pub stage: String,
    /// Whether the watchdog sees that it does not move.
    #[serde(default)]
    pub standing: bool,
    /// CPU seconds of its thread.
    pub cpu_seconds: f64,
    /// The memory of its frames.
    pub memory: String,
    /// Its counters.
    pub sets: Sets,
    /// Its histograms.
    #[serde(default)]
    pub histograms: Histograms,
    /// Its queues of the ports.
    pub ports: Vec<PortStats>,
}

/// One lcore's queue of a port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortStats {
    /// Which port.
    pub id: u8,
    /// A description of the port and its mode.
    pub description: String,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Its counters.
    pub counters: BTreeMap<String, u64>,
}
