//! The XDP program of an interface, kept in step with what the machine's interfaces have.

use crate::neighbor::NeighborSpec;
use ebpf::{Neighbor, Steer, SteerError};
use port::addresses::{AddressTable, MAX_ADDRESSES};
use std::net::Ipv4Addr;

const _: () = assert!(MAX_ADDRESSES <= ebpf::MAX_ADDRESSES, "the program has room for all addresses of a port");

/// A program, and what it was told.
pub struct Steering {
    ifname: String,
    steer: Steer,
    mac: Option<[u8; 6]>,
    /// What the program takes packets to; empty while all stay with the kernel.
    addresses: Vec<Ipv4Addr>,
    /// Whether it takes packets at all.
    takes: bool,
    /// The gateways of other shards, with what the interfaces to them had when the program was told.
    neighbors: Vec<(NeighborSpec, Option<Neighbor>)>,
}

impl Steering {
    /// A program that takes no packet yet, and knows how to reach these neighbours.
    pub fn new(ifname: &str, steer: Steer, neighbors: &[NeighborSpec]) -> Self {
        let neighbors = neighbors.iter().map(|spec| (spec.clone(), spec.resolve().ok())).collect();
        let addresses = Vec::with_capacity(MAX_ADDRESSES);
        Self { ifname: ifname.to_owned(), steer, mac: None, addresses, takes: false, neighbors }
    }

    /// The program.
    pub fn steer(&mut self) -> &mut Steer {
        &mut self.steer
    }

    /// From now on packets to these addresses come to the sockets, or to those of which [`Steering::follow`] hears.
    pub fn take(&mut self, table: &AddressTable) -> Result<(), SteerError> {
        self.takes = true;
        self.tell(table)
    }

    /// From now on all packets stay with the kernel.
    pub fn leave(&mut self) -> Result<(), SteerError> {
        (self.takes, self.addresses) = (false, Vec::new());
        self.steer.set_addresses(&[])
    }

    /// Something changed in the namespace: tells the program what concerns it.
    pub fn follow(&mut self, table: &AddressTable) {
        if let Err(error) = self.tell(table) {
            tracing::error!("{}: its XDP program still has other addresses: {error}", self.ifname);
        }
        for (spec, known) in &mut self.neighbors {
            // Without the interface the program drops by name, until there is one again.
            let now = spec.resolve().ok();
            if now.is_none() || now == *known {
                continue;
            }
            match now.as_ref().map_or(Ok(()), |now| self.steer.set_neighbor(now)) {
                Ok(()) => {
                    tracing::info!(
                        "{}: cargo of shard {} goes by {} as it is now",
                        self.ifname,
                        spec.shard,
                        spec.ifname
                    );
                    *known = now;
                }
                Err(error) => tracing::error!("{}: --neighbor {spec}: {error}", self.ifname),
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
