//! A device of DPDK whose queues are ports: its set-up, and the IPv4 host of its addresses. All lcores share it.

use super::neighbours;
use crate::ending;
use api::stats::DeviceStats;
use common::exit::Failure;
use frame::arena::HUGEPAGE;
use frame::{Pool, PoolConfig, PortId, Time};
use host::hugepages::Hugepages;
use host::pci;
use host::privilege::{Confinement, Thread};
use lcore::CoreList;
use port::dpdk::{Cause, Device, DeviceConfig, DpdkError, DpdkPort, Environment, EnvironmentConfig, LoadedPlugin};
use port::host::Host;
use port::spec::DpdkSpec;
use port::watch::{Subject, Watcher};
use port::xdp::Interface;
use rustix::thread::CapabilitySet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::net::ethernet::MacText;

/// What DPDK needs for itself, in MiB.
const BASE: u64 = 48;
/// What a queue needs in addition if its driver has its own memory, in MiB.
const COPIES: u64 = 24;
/// Bytes that DPDK needs for each frame of each queue: its mbuf, and a reference to it.
const OF_A_FRAME: u64 = 256;

/// The time in which a device is closed. Drivers of large cards take a second or two.
const CLOSES_WITHIN: Duration = Duration::from_secs(8);

/// Memory that DPDK needs in addition to the arenas, in MiB.
pub fn memory(queues: usize, pool: &PoolConfig) -> u64 {
    let frames = (u64::from(pool.frames) * OF_A_FRAME).div_ceil(1 << 20);
    BASE + queues as u64 * (frames + COPIES)
}

/// Starts DPDK for these devices and no others.
///
/// # Errors
/// The error is [`Failure::Machine`] when an interface below a device has no Ethernet headers. It is [`Failure::Dpdk`]
/// when the plugin is not there or DPDK does not start.
pub fn start(specs: &[&DpdkSpec], lcores: &[Option<usize>], pool: &PoolConfig) -> Result<Environment, Failure> {
    specs.iter().try_for_each(|spec| check_interfaces(spec))?;
    let plugin = LoadedPlugin::find().map_err(Failure::Dpdk)?;
    let needed = memory(specs.len() * lcores.len(), pool);
    let pci: Vec<String> = specs.iter().filter(|spec| spec.pci().is_some()).map(|spec| spec.devargs()).collect();
    let free = (Hugepages::of(None).free().unwrap_or(0) * HUGEPAGE as u64) >> 20;
    let hugepages = free >= needed;
    if !hugepages {
        tracing::warn!(
            "DPDK works on ordinary pages, slower: it needs {needed} MiB of hugepages beside the arenas', and {free} \
             are free; {}",
            frame::arena::remedy()
        );
    }
    let config = EnvironmentConfig { pci, hugepages, memory: needed as u32, cores: others(lcores) };
    Environment::start(plugin, config).map_err(Failure::Dpdk)
}

/// Checks the interfaces under a device. Drivers on kernel interfaces accept any, but would receive nothing without
/// Ethernet headers.
fn check_interfaces(spec: &DpdkSpec) -> Result<(), Failure> {
    for name in spec.interfaces() {
        // If the interface does not exist, the driver's own message is better.
        let Ok(interface) = Interface::find(name) else { continue };
        interface.check_ethernet().map_err(|error| {
            Failure::Machine(format!(
                "--port {spec}: {error}; use a udp: port with an address of {name}, or a device with Ethernet headers, \
                 as a \
                 tap is and a tun is not"
            ))
        })?;
    }
    Ok(())
}

/// The cores of this process without an lcore; all cores, if each has one.
fn others(lcores: &[Option<usize>]) -> Vec<usize> {
    let all: Vec<usize> = CoreList::of_this_process().map(|cores| cores.iter().collect()).unwrap_or_default();
    let others: Vec<usize> = all.iter().copied().filter(|core| !lcores.contains(&Some(*core))).collect();
    if others.is_empty() { all } else { others }
}

/// A device in use.
pub struct DpdkNic {
    id: PortId,
    spec: DpdkSpec,
    device: Device,
    host: Host,
    queues: u16,
    /// Whether nothing is left to close, or nothing may be closed.
    is_closed: AtomicBool,
    /// They follow the kernel's interfaces under the device.
    _under: Vec<Watcher>,
}

impl DpdkNic {
    /// Sets a device up for this many lcores, which may have a UDP port each, with rings of about `ring` entries.
    ///
    /// # Errors
    /// The error is [`Failure::DeviceHeld`] when another process has the device. It is [`Failure::Dpdk`] when DPDK
    /// cannot use the device. It is [`Failure::Usage`] when the addresses of the port make no host. It is
    /// [`Failure::Neighbours`] when the kernel does not say what becomes of an interface below the device.
    pub fn open(
        id: PortId,
        spec: &DpdkSpec,
        environment: &Environment,
        (lcores, own_ports): (usize, bool),
        pool: &PoolConfig,
        ring: u32,
        confinement: &Confinement,
    ) -> Result<Self, Failure> {
        let queues = u16::try_from(lcores).unwrap_or(u16::MAX);
        let config = DeviceConfig {
            name: spec.device.to_string(),
            devargs: spec.devargs(),
            lcores: queues,
            own_ports,
            mtu: spec.host.mtu,
            chunk: pool.chunk,
            ring,
        };
        let device = Device::open(environment, config).map_err(|error| held(spec, error))?;
        let host = spec.host.config(&format!("--port {spec}"), device.mac());
        let host = host.and_then(Host::new).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut under = Vec::new();
        // The device was opened with these interfaces, so they exist.
        for interface in spec.interfaces().into_iter().filter_map(|name| Interface::find(name).ok()) {
            let confined = confinement.clone();
            let prepare = move || confined.try_enter(Thread::Addresses, CapabilitySet::empty());
            let watcher = Watcher::start(Subject::Under(interface.index), prepare, |_, _| ());
            under.push(watcher.map_err(Failure::Neighbours)?);
        }
        device.stand_on(under.iter().map(|watcher| Arc::clone(watcher.seen())).collect());
        Ok(Self { id, spec: spec.clone(), device, host, queues, is_closed: AtomicBool::new(false), _under: under })
    }

    /// The number of its port.
    pub fn id(&self) -> PortId {
        self.id
    }

    /// Its driver in DPDK.
    pub fn driver(&self) -> &str {
        self.device.driver()
    }

    /// Opens the queue of one lcore, on the lcore's own thread. With `roce` it receives RoCEv2, too.
    ///
    /// # Errors
    /// The error is [`Failure::Dpdk`]: DPDK does not take this thread, or cannot set the queue up on the memory of the
    /// pool.
    pub fn open_queue(&self, lcore: u16, pool: &Pool, roce: bool) -> Result<DpdkPort, Failure> {
        let mut port = DpdkPort::open(self.id, lcore, &self.device, pool, &self.host).map_err(Failure::Dpdk)?;
        if roce {
            port.claim_roce();
        }
        Ok(port)
    }

    /// Starts the device, so that packets come and go. All queues are open.
    ///
    /// # Errors
    /// The error is [`Failure::Dpdk`]: the driver does not start the device.
    pub fn start(&self) -> Result<(), Failure> {
        let started = self.device.start().and_then(|()| self.device.take_vlans(&self.spec.host.vlans));
        started.map_err(Failure::Dpdk)
    }

    /// Closes the device, after all lcores stopped polling it. The process ends if its driver takes too long.
    pub fn close(&self) {
        if self.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let name = self.device.name();
        ending::step(
            CLOSES_WITHIN,
            &Failure::Unfinished(format!(
                "dpdk:{name} is not closed: its driver ({}), or the kernel under it, does not come back from that. \
                 `dmesg` may say \
                 why; a device that is still in use at the next start needs its driver bound again (dpdk-devbind.py), \
                     or the \
                 machine restarted",
                self.device.driver()
            )),
        );
        if let Err(error) = self.device.close() {
            tracing::warn!("{error}");
        }
    }

    /// Never closes the device: an lcore that does not come back may still use it.
    pub fn leave_open(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether its driver has a program on a kernel interface. The driver looks it up and removes it when the device is
    /// closed.
    pub fn has_program(&self) -> bool {
        self.driver() == "net_af_xdp"
    }

    /// Its first IPv4 address.
    pub fn first_address(&self) -> Option<Ipv4Addr> {
        self.host.config().addresses.first().map(|net| Ipv4Addr::from(net.address()))
    }

    fn addresses(&self) -> String {
        let address = |net: &port::host::Ipv4Net| format!("{}:{}", Ipv4Addr::from(net.address()), wire::GATEWAY_PORT);
        self.host.config().addresses.iter().map(address).collect::<Vec<_>>().join(", ")
    }

    /// One line for start-up.
    pub fn describe(&self) -> String {
        let (rx, tx) = self.device.rings();
        let way = if self.device.copies() { "by copies, as its driver has memory of its own" } else { "in place" };
        let lcores = if self.queues == 1 { "1 lcore".to_owned() } else { format!("{} lcores", self.queues) };
        format!(
            "dpdk:{}: {lcores}, {} {way}, {}, MTU {}, {}, VLANs {}, rings of {rx} and {tx}",
            self.spec.device,
            self.device.driver(),
            self.device.spread(),
            self.device.mtu(),
            self.addresses(),
            self.spec.host.vlans
        )
    }
}

/// An error of a device. If another process uses the device, the error has that process's name.
fn held(spec: &DpdkSpec, error: DpdkError) -> Failure {
    let holder = match (&error, spec.pci()) {
        (DpdkError::NoDevice { cause: Cause::Held, .. }, Some(device)) => pci::holder(device),
        _ => None,
    };
    match holder {
        Some((pid, name)) => Failure::DeviceHeld { port: spec.to_string(), pid, name },
        None => Failure::Dpdk(error),
    }
}

impl serve::board::DeviceView for DpdkNic {
    fn stats(&self, now: Time) -> DeviceStats {
        let (rx_ring, tx_ring) = self.device.rings();
        DeviceStats {
            port: self.id.0,
            name: self.spec.device.to_string(),
            driver: self.device.driver().to_owned(),
            address: self.addresses(),
            mac: MacText(self.device.mac()).to_string(),
            mtu: self.device.mtu(),
            vlans: self.spec.host.vlans.to_string(),
            queues: self.queues,
            rx_ring,
            tx_ring,
            spread: self.device.spread().to_string(),
            copies: self.device.copies(),
            rx_checksums: self.device.verifies_checksums(),
            tx_checksums: self.device.fills_checksums(),
            link_up: self.device.is_up(),
            link_mbits: self.device.mbits(),
            counters: self.device.driver_counters().into_iter().collect(),
            neighbours: neighbours::of(&self.host, now),
        }
    }
}

impl Drop for DpdkNic {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lcores_keep_their_cores_to_themselves() {
        let all: Vec<usize> = CoreList::of_this_process().unwrap().iter().collect();
        assert_eq!(others(&[None]), all);
        let first = all[0];
        let left = others(&[Some(first)]);
        assert!(if all.len() == 1 { left == all } else { !left.contains(&first) && left.len() == all.len() - 1 });
        assert_eq!(others(&all.iter().map(|core| Some(*core)).collect::<Vec<_>>()), all);
    }

    #[test]
    fn every_queue_has_a_description_of_every_frame() {
        let pool = PoolConfig { frames: 16_384, ..PoolConfig::default() };
        assert_eq!(memory(2, &pool), 48 + 2 * (4 + 24));
    }
}
