//! The size and the identity of a master.

use frame::time::{MICROSECOND, SECOND};
use frame::{Peer, TableError, Time};
use lease::{ConnectKeys, LeaseSecrets};
use link::{Credential, NodeConfig};

/// The most gateways of a master.
pub const MASTER_GATEWAYS: usize = 16;

/// The most slaves of a master: two queue pairs for each.
pub const MASTER_SLAVES: u32 = 1 << 19;

/// The bytes in flight are those that the own link carries in this time.
const WINDOW_TIME: Time = 1000 * MICROSECOND;

/// The usual time that packets may wait in queues that all slaves share. A page fault waits there, too.
const QUEUE_TARGET: Time = 15 * MICROSECOND;

/// The same for a master whose lcores sleep when nothing comes: a wake-up takes some 50 us, and is no queue. With 15 us
/// such a master has so little in flight that its lcores sleep more, which looks like more queue.
pub const ADAPTIVE_QUEUE_TARGET: Time = 50 * MICROSECOND;

/// The least and the most bytes in flight. A link of unknown speed gets [`UNKNOWN_WINDOW`].
const LEAST_TOTAL_WINDOW: u64 = 256 << 10;
const MOST_TOTAL_WINDOW: u64 = 64 << 20;
const UNKNOWN_WINDOW: u64 = 16 << 20;

/// Waits make the bytes in flight no fewer than this on a link of unknown speed, such as the loopback, on which most
/// waits are those for a processor.
const UNKNOWN_LEAST: u64 = 1 << 20;

/// The configuration of a master. All tables are allocated at the start.
pub struct MasterConfig {
    /// The master's id.
    pub master: u16,
    /// The gateways, 1 to [`MASTER_GATEWAYS`]. Cargo to a slave goes through the first live one that names the slave.
    pub gateways: Vec<Peer>,
    /// What the master announces, and the scale. Its boot epoch is also that of the leases.
    pub node: NodeConfig,
    /// The key or keys with which link control is signed.
    pub credential: Credential,
    /// The key or keys that sign the messages of leases; without one nothing is signed or verified.
    pub connect_keys: ConnectKeys,
    /// Random, and of this start alone. All numbers that nobody may guess come from it, except secrets of leases.
    pub seed: [u8; 32],
    /// The secrets of its leases, and of those of earlier starts.
    pub lease_secrets: LeaseSecrets,
    /// Slaves with which there can be a session at the same time, at most [`MASTER_SLAVES`].
    pub slaves: u32,
    /// Clients.
    pub clients: u16,
    /// Extents of all clients.
    pub extents: u32,
    /// Requests of all clients that are under way, or complete and not polled.
    pub requests: u32,
    /// Local memories of all clients.
    pub buffers: u32,
    /// The speed of the own link in Mbit/s; 0 if it is not known. It bounds the bytes in flight.
    pub speed_mbit: u32,
    /// How long packets may wait in queues that all slaves share, in nanoseconds: see
    /// [`transport::Config::queue_target`].
    pub queue_target: Time,
    /// How long an allocation may wait for slaves, in nanoseconds.
    pub allocate_within: Time,
}

impl MasterConfig {
    /// A master of a usual size behind these gateways, without keys. The seeds are constants, and no start was earlier.
    pub fn new(master: u16, gateways: Vec<Peer>) -> Self {
        Self {
            master,
            gateways,
            node: NodeConfig::default(),
            credential: Credential::None,
            connect_keys: ConnectKeys::none(),
            seed: [0; 32],
            lease_secrets: LeaseSecrets::new(&[0; 32], 0),
            slaves: 1024,
            clients: 64,
            extents: 1 << 16,
            requests: 4096,
            buffers: 64,
            speed_mbit: 0,
            queue_target: QUEUE_TARGET,
            allocate_within: 10 * SECOND,
        }
    }

    /// Bytes in flight to and from all slaves together: what the own link carries in a millisecond, which is several
    /// round trips through gateways.
    pub fn total_window(&self) -> u64 {
        match self.speed_mbit {
            0 => UNKNOWN_WINDOW,
            // Mbit/s times microseconds are bits.
            mbit => {
                let bits = u64::from(mbit) * (WINDOW_TIME / MICROSECOND);
                (bits / 8).clamp(LEAST_TOTAL_WINDOW, MOST_TOTAL_WINDOW)
            }
        }
    }

    /// Waits in queues make the bytes in flight no fewer than this: what the own link carries in 120 us. More often
    /// than a link that is slower than claimed, a processor is late, and then less in flight only means less.
    pub fn queue_least(&self) -> u64 {
        match self.speed_mbit {
            0 => UNKNOWN_LEAST,
            mbit => (u64::from(mbit) * 120 / 8).clamp(64 << 10, 128 << 10),
        }
    }

    /// # Errors
    /// See [`MasterError`].
    pub(crate) fn check(&self) -> Result<(), MasterError> {
        let gateways = &self.gateways;
        if gateways.is_empty() || gateways.len() > MASTER_GATEWAYS {
            return Err(MasterError::Gateways(gateways.len()));
        }
        let twice = gateways.iter().enumerate().find(|(at, gateway)| gateways[..*at].contains(gateway));
        if let Some((_, gateway)) = twice {
            return Err(MasterError::SameGateway(gateway.address().to_string()));
        }
        if self.slaves == 0 || self.slaves > MASTER_SLAVES {
            return Err(MasterError::Slaves(self.slaves));
        }
        Ok(())
    }
}

/// Why there is no master.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterError {
    /// It has no gateway, or too many.
    #[error("a master has 1 to {MASTER_GATEWAYS} gateways, not {0}")]
    Gateways(usize),
    /// A gateway stands twice in its list.
    #[error("gateway {0} of the master is given twice: name each gateway once, the preferred one first")]
    SameGateway(String),
    /// It would connect to no slave, or to too many.
    #[error("a master connects to 1 to {MASTER_SLAVES} slaves, not {0}: run several masters for more")]
    Slaves(u32),
    /// There is no memory for its tables.
    #[error(transparent)]
    NoMemory(#[from] TableError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::PortId;

    fn gateway(number: u8) -> Peer {
        Peer::socket(PortId(0), format!("192.0.2.{number}:9999").parse().unwrap())
    }

    #[test]
    fn the_window_is_what_the_link_carries_in_a_millisecond() {
        let window = |speed_mbit| MasterConfig { speed_mbit, ..MasterConfig::new(1, Vec::new()) }.total_window();
        assert_eq!(window(10_000), 1_250_000);
        assert_eq!(window(40_000), 5_000_000);
        assert_eq!((window(0), window(100), window(u32::MAX)), (16 << 20, 256 << 10, 64 << 20));
        let least = |speed_mbit| MasterConfig { speed_mbit, ..MasterConfig::new(1, Vec::new()) }.queue_least();
        assert_eq!([0, 1_000, 6_400, 100_000].map(least), [1 << 20, 64 << 10, 96_000, 128 << 10]);
    }

    #[test]
    fn a_configuration_that_cannot_be_is_refused() {
        let with = |gateways| MasterConfig::new(1, gateways).check();
        assert_eq!(with(vec![gateway(1), gateway(2)]), Ok(()));
        assert_eq!(with(Vec::new()), Err(MasterError::Gateways(0)));
        assert_eq!(with((0..17).map(gateway).collect()), Err(MasterError::Gateways(17)));
        assert_eq!(
            with(vec![gateway(1), gateway(2), gateway(1)]),
            Err(MasterError::SameGateway("192.0.2.1:9999".to_owned()))
        );
        for slaves in [0, MASTER_SLAVES + 1] {
            let config = MasterConfig { slaves, ..MasterConfig::new(1, vec![gateway(1)]) };
            assert_eq!(config.check(), Err(MasterError::Slaves(slaves)));
        }
    }
}
