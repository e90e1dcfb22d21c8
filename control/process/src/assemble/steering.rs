//! The XDP program of an interface, updated when the machine's interfaces change.

use ebpf::{Neighbor, Steer, SteerError};
use port::addresses::{AddressTable, MAX_ADDRESSES};
use settings::neighbor::NeighborSpec;
use std::net::Ipv4Addr;

const _: () = assert!(MAX_ADDRESSES <= ebpf::MAX_ADDRESSES, "the program has room for all addresses of a port");

/// The gateway of another shard, and the interface that leads to it.
struct Beyond {
    spec: NeighborSpec,
    /// The data about it that the program has.
    known: Option<Neighbor>,
}

/// A program, and its last input.
pub struct Steering {
    steer: Steer,
    mac: Option<[u8; 6]>,
    /// The addresses whose packets the program takes; empty while all packets stay with the kernel.
    addresses: Vec<Ipv4Addr>,
    /// Whether it takes packets at all.
    takes: bool,
    neighbors: Vec<Beyond>,
}

impl Steering {
    /// A program that takes no packets yet, and knows how to reach these neighbours.
    pub fn new(steer: Steer, neighbors: &[NeighborSpec]) -> Self {
        let neighbors =
            neighbors.iter().map(|spec| Beyond { spec: spec.clone(), known: spec.resolve().ok() }).collect();
        let addresses = Vec::with_capacity(MAX_ADDRESSES);
        Self { steer, mac: None, addresses, takes: false, neighbors }
    }

    /// The program.
    pub fn steer(&mut self) -> &mut Steer {
        &mut self.steer
    }

    /// From now on packets to these addresses come to the sockets. Later addresses come by [`Steering::follow`].
    ///
    /// # Errors
    /// The error is [`SteerError::Addresses`] when there are too many addresses. It is [`SteerError::Os`] when the
    /// kernel refuses to write the memory of the program.
    pub fn take(&mut self, table: &AddressTable) -> Result<(), SteerError> {
        self.takes = true;
        self.tell(table)
    }

    /// From now on all packets stay with the kernel.
    ///
    /// # Errors
    /// The error is [`SteerError::Os`]: the kernel refuses to write the memory of the program.
    pub fn leave(&mut self) -> Result<(), SteerError> {
        (self.takes, self.addresses) = (false, Vec::new());
        self.steer.set_addresses(&[])
    }

    /// Something changed in the namespace: passes what concerns this interface to the program.
    pub fn follow(&mut self, ifname: &str, table: &AddressTable) {
        if let Err(error) = self.tell(table) {
            tracing::error!("{ifname}: its XDP program still has other addresses: {error}");
        }
        for Beyond { spec, known } in &mut self.neighbors {
            // Without the interface the program drops these packets and counts them under a name of their own, until
            // the interface is back.
            let Some((name, now)) = spec.follow(known.as_ref()) else { continue };
            if Some(&now) == known.as_ref() {
                continue;
            }
            match self.steer.set_neighbor(&now) {
                Ok(()) => {
                    tracing::info!("{ifname}: cargo of shard {} goes by {name} as it is now", spec.shard);
                    *known = Some(now);
                }
                Err(error) => tracing::error!("{ifname}: --neighbor {spec}: {error}"),
            }
        }
    }

    fn tell(&mut self, table: &AddressTable) -> Result<(), SteerError> {
        if self.mac != Some(table.mac()) {
            self.steer.set_mac(table.mac())?;
            self.mac = Some(table.mac());
        }
        let addresses: Vec<Ipv4Addr> = table.ipv4().map(Ipv4Addr::from).collect();
        if self.takes && addresses != self.addresses {
            self.steer.set_addresses(&addresses)?;
            self.addresses = addresses;
        }
        Ok(())
    }
}
