//! Three namespaces in a row: the sender, the gateway's two ports, the counter.

use crate::unavailable::needs_two_cores_and_namespaces;
use anyhow::Context as _;
use netns::{End, Namespace, join, real_checksums};
use port::headers::Local;
use port::xdp::Interface;

/// The interface that packets are sent from, in [`World::up`].
pub const MASTER_SIDE: &str = "m0";
/// The gateway's port to the master.
pub const UP_PORT: &str = "g0";
/// The gateway's port to the slaves.
pub const DOWN_PORT: &str = "g1";
/// The interface that all slaves are behind, in [`World::down`].
pub const SLAVE_SIDE: &str = "s0";

/// The namespaces, removed with all that is in them when this is dropped.
pub struct World {
    /// Where the master is.
    pub up: Namespace,
    /// Where the gateway is.
    pub gateway: Namespace,
    /// Where the slaves are.
    pub down: Namespace,
}

impl World {
    /// Makes the namespaces and joins them, with one queue at each end.
    ///
    /// # Errors
    /// This machine or this user cannot; see [`netns::missing`].
    pub fn new() -> anyhow::Result<Self> {
        needs_two_cores_and_namespaces()?;
        let world = Self { up: Namespace::new(), gateway: Namespace::new(), down: Namespace::new() };
        let master = End { namespace: &world.up, name: MASTER_SIDE, address: "10.91.1.2/24" };
        let up_port = End { namespace: &world.gateway, name: UP_PORT, address: "10.91.1.1/24" };
        let down_port = End { namespace: &world.gateway, name: DOWN_PORT, address: "10.91.2.1/24" };
        let slaves = End { namespace: &world.down, name: SLAVE_SIDE, address: "10.91.2.2/24" };
        join(&master, &up_port, 1);
        join(&slaves, &down_port, 1);
        real_checksums(&master);
        Ok(world)
    }
}

/// Process ids of the kernel threads and programs whose name begins so.
pub fn threads_named(name: &str) -> Vec<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name)))
        .collect()
}

/// An interface's index and addresses.
///
/// # Errors
/// It is not there, or has no IPv4 address.
pub fn address_of(namespace: &Namespace, ifname: &str) -> anyhow::Result<(u32, Local)> {
    let interface = namespace.enter(|| Interface::find(ifname))?;
    let ip = interface.ipv4.context("an address was given to it")?;
    Ok((interface.index, Local { mac: interface.mac, ip, udp_port: wire::GATEWAY_PORT }))
}
